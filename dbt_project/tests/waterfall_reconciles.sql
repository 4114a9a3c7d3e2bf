-- The waterfall of each account and month adds up, opens with what the month before closed with, and never goes below nothing.
{{
    config(
        meta={
            "dagster": {"ref": {"name": "account_months"}},
            "description": "The waterfall of each account and month adds up and goes on from the month before."
        }
    )
}}

with

months as (

    select
        *,
        lag(end_mrr) over (partition by account_id order by month_start_date) as previous_end_mrr
    from {{ ref("account_months") }}

)

select
    account_id,
    month_start_date,
    start_mrr,
    end_mrr,
    previous_end_mrr
from months
where
    start_mrr + new_mrr + reactivation_mrr + expansion_mrr
    + contraction_mrr + churn_mrr + completion_mrr <> end_mrr
    or start_mrr <> coalesce(previous_end_mrr, 0)
    or start_mrr < 0
    or end_mrr < 0
