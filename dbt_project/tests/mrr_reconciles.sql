-- Three ways to the same MRR of an account: its running subscriptions (accounts), the sum of its movements, its last month.
{{
    config(
        meta={
            "dagster": {"ref": {"name": "accounts"}},
            "description": "Running subscriptions, the sum of movements and the last month give the same MRR."
        }
    )
}}

with

movements as (

    select
        account_id,
        sum(mrr_delta_usd) as mrr_usd
    from {{ ref("mrr_movements") }}
    group by account_id

),

last_months as (

    select
        account_id,
        {{ last_by("end_mrr_usd", "month_start_date") }} as mrr_usd
    from {{ ref("account_months") }}
    group by account_id

)

select
    accounts.account_id,
    accounts.mrr_usd,
    movements.mrr_usd as movements_mrr_usd,
    last_months.mrr_usd as last_month_mrr_usd
from {{ ref("accounts") }} as accounts
left join movements on accounts.account_id = movements.account_id
left join last_months on accounts.account_id = last_months.account_id
where
    coalesce(accounts.mrr_usd, 0) <> coalesce(movements.mrr_usd, 0)
    or coalesce(accounts.mrr_usd, 0) <> coalesce(last_months.mrr_usd, 0)
