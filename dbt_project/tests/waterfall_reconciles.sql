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
        lag(end_mrr_usd) over (partition by account_id order by month_start_date) as previous_end_mrr_usd
    from {{ ref("account_months") }}

)

select
    account_id,
    month_start_date,
    start_mrr_usd,
    end_mrr_usd,
    previous_end_mrr_usd
from months
where
    start_mrr_usd + new_mrr_usd + reactivation_mrr_usd + expansion_mrr_usd
    + contraction_mrr_usd + churn_mrr_usd + completion_mrr_usd <> end_mrr_usd
    or start_mrr_usd <> coalesce(previous_end_mrr_usd, 0)
    or start_mrr_usd < 0
    or end_mrr_usd < 0
