-- Every record of an account that a source knows belongs to exactly one account of the 360, and no mart speaks of another.
{% set marts = [
    "account_sources", "contacts", "subscriptions", "invoices", "tickets", "mrr_movements", "account_months", "account_timeline"
] %}

with

counts as (

    select
        (select count(*) from {{ ref("int_accounts_unioned") }}) as records,
        (select sum(account_sources) from {{ ref("accounts") }}) as records_of_accounts

),

mentioned as (

    {% for mart in marts %}
        select distinct
            '{{ mart }}' as mart,
            account_id
        from {{ ref(mart) }}
        {{ "union all" if not loop.last }}
    {% endfor %}

)

select
    mentioned.mart,
    mentioned.account_id
from mentioned
left join {{ ref("accounts") }} as accounts on mentioned.account_id = accounts.account_id
where accounts.account_id is null

union all

select
    'accounts' as mart,
    'the records of all accounts' as account_id
from counts
where records <> coalesce(records_of_accounts, 0)
