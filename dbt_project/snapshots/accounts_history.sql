{% snapshot accounts_history %}

{{
    config(
        unique_key="account_id",
        strategy="check",
        updated_at="as_of_at",
        check_cols=[
            "account_name", "domain", "industry", "segment", "employees", "owner_email", "parent_account_id",
            "has_signed_renewal", "next_started_at", "signed_renews_at"
        ],
        hard_deletes="ignore",
    )
}}

-- What the sources said about each account's changing attributes, run by run. Valid times are as-of dates, not the hour of the
-- run, so that a replayed date would find what was known then; a replay itself writes nothing. Plan, seats and MRR have dates of
-- their own (subscriptions), and are no part of it.
select
    accounts.account_id,
    accounts.account_name,
    accounts.domain,
    accounts.industry,
    accounts.segment,
    accounts.employees,
    accounts.owner_email,
    accounts.parent_account_id,
    signed.has_signed_renewal,
    signed.next_started_at,
    case when signed.has_signed_renewal then signed.next_renews_at end as signed_renews_at,
    cast({{ as_of_date() }} as timestamp) as as_of_at
from {{ ref("int_accounts_united") }} as accounts
left join {{ ref("int_renewals_signed") }} as signed on accounts.account_id = signed.account_id
{% if is_replay() %}
    where 1 = 0
{% endif %}

{% endsnapshot %}
