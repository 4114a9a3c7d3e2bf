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
        sum(mrr_delta) as mrr
    from {{ ref("mrr_movements") }}
    group by account_id

),

last_months as (

    select
        account_id,
        {{ last_by("end_mrr", "month_start_date") }} as mrr
    from {{ ref("account_months") }}
    group by account_id

)

select
    accounts.account_id,
    accounts.mrr,
    movements.mrr as movements_mrr,
    last_months.mrr as last_month_mrr
from {{ ref("accounts") }} as accounts
left join movements on accounts.account_id = movements.account_id
left join last_months on accounts.account_id = last_months.account_id
where
    coalesce(accounts.mrr, 0) <> coalesce(movements.mrr, 0)
    or coalesce(accounts.mrr, 0) <> coalesce(last_months.mrr, 0)
