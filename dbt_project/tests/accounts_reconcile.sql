-- Every record of an account that a source knows belongs to exactly one account of the 360.
{{
    config(
        meta={
            "dagster": {"ref": {"name": "accounts"}},
            "description": "Every record of an account that a source knows belongs to exactly one account."
        }
    )
}}

with

counts as (

    select
        (select count(*) from {{ ref("int_accounts_unioned") }}) as records,
        (select count(*) from {{ ref("account_sources") }}) as matched_records,
        (select coalesce(sum(accounts.account_sources), 0) from {{ ref("accounts") }} as accounts) as records_of_accounts

)

select
    account_sources.account_id,
    'is in no row of accounts' as problem
from {{ ref("account_sources") }} as account_sources
left join {{ ref("accounts") }} as accounts on account_sources.account_id = accounts.account_id
where accounts.account_id is null

union all

select
    cast(null as string) as account_id,
    'records were lost or counted twice' as problem
from counts
where records <> matched_records or records <> records_of_accounts
