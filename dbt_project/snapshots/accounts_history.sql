{% snapshot accounts_history %}

{{
    config(
        unique_key="account_id",
        strategy="check",
        updated_at="as_of_at",
        check_cols=[
            "account_name", "domain", "industry", "segment", "employees", "owner_email", "parent_account_id", "plan", "seats", "mrr",
            "has_signed_renewal", "next_started_at", "signed_renews_at"
        ],
        hard_deletes="ignore",
    )
}}

-- What the customer 360 said about each account's changing attributes, run by run. Valid times are as-of dates, not the hour
-- of the run, so that a replayed date would find what was known then; a replay itself writes nothing.
select
    account_id,
    account_name,
    domain,
    industry,
    segment,
    employees,
    owner_email,
    parent_account_id,
    plan,
    seats,
    mrr,
    has_signed_renewal,
    next_started_at,
    case when has_signed_renewal then renews_at end as signed_renews_at,
    cast(as_of_date as timestamp) as as_of_at
from {{ ref("accounts") }}
{% if is_replay() %}
    where 1 = 0
{% endif %}

{% endsnapshot %}
