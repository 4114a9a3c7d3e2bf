-- The company's months are the sum of its accounts' months; customers gained and lost explain the difference; gross retention
-- lies between nothing and everything and never above net retention.
{{
    config(
        meta={
            "dagster": {"ref": {"name": "months"}},
            "description": "The waterfall of each month adds up, and retention lies within its limits."
        }
    )
}}

with

months as (

    select
        *,
        lag(end_mrr_usd) over (order by month_start_date) as previous_end_mrr_usd,
        lag(customers_at_end) over (order by month_start_date) as previous_customers
    from {{ ref("months") }}

)

select
    month_start_date,
    start_mrr_usd,
    end_mrr_usd,
    previous_end_mrr_usd,
    customers_at_start,
    customers_at_end,
    previous_customers,
    nrr_pct,
    grr_pct
from months
where
    start_mrr_usd <> coalesce(previous_end_mrr_usd, 0)
    or customers_at_start <> coalesce(previous_customers, 0)
    or start_mrr_usd + new_mrr_usd + reactivation_mrr_usd + expansion_mrr_usd
    + contraction_mrr_usd + churn_mrr_usd + completion_mrr_usd <> end_mrr_usd
    or customers_at_start + customers_new + customers_reactivated - customers_churned - customers_completed <> customers_at_end
    or grr_pct < 0
    or grr_pct > 100
    or grr_pct > nrr_pct + 0.000001
