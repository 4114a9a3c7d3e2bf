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
        lag(end_mrr) over (order by month_start_date) as previous_end_mrr,
        lag(customers_at_end) over (order by month_start_date) as previous_customers
    from {{ ref("months") }}

)

select
    month_start_date,
    start_mrr,
    end_mrr,
    previous_end_mrr,
    customers_at_start,
    customers_at_end,
    previous_customers,
    nrr_pct,
    grr_pct
from months
where
    start_mrr <> coalesce(previous_end_mrr, 0)
    or customers_at_start <> coalesce(previous_customers, 0)
    or start_mrr + new_mrr + reactivation_mrr + expansion_mrr
    + contraction_mrr + churn_mrr + completion_mrr <> end_mrr
    or customers_at_start + customers_new + customers_reactivated - customers_churned - customers_completed <> customers_at_end
    or grr_pct < 0
    or grr_pct > 100
    or grr_pct > nrr_pct + 0.000001
