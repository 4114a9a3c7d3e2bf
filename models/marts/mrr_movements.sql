{% set censoring = var("churn")["not_churn"] %}

with

-- A trial carries no MRR, and a free plan moves none.
paying_periods as (

    select
        account_id,
        mrr_usd,
        cast(started_at as date) as started_date,
        cast(ended_at as date) as ended_date,
        end_reason
    from {{ ref("subscriptions") }}
    where mrr_usd > 0

),

-- A period adds its MRR on the day it starts and takes it away on the day it ends.
steps as (

    select
        account_id,
        started_date as movement_date,
        mrr_usd as delta_usd,
        0 as churning_ends
    from paying_periods

    union all

    select
        account_id,
        ended_date as movement_date,
        -mrr_usd as delta_usd,
        case when end_reason in ({% for reason in censoring %}'{{ reason }}'{{ ", " if not loop.last }}{% endfor %}) then 0 else 1 end as churning_ends
    from paying_periods
    where ended_date is not null

),

-- Only the day's net counts: a change of plan ends one period and starts the next, and is one movement.
daily as (

    select
        account_id,
        movement_date,
        sum(delta_usd) as delta_usd,
        sum(churning_ends) as churning_ends
    from steps
    group by account_id, movement_date
    having sum(delta_usd) <> 0

),

running as (

    select
        account_id,
        movement_date,
        delta_usd,
        churning_ends,
        sum(delta_usd) over (
            partition by account_id order by movement_date
            rows between unbounded preceding and current row
        ) as after_usd,
        row_number() over (partition by account_id order by movement_date) as movement_number
    from daily

),

final as (

    select
        account_id,
        movement_date,
        case
            when movement_number = 1 then 'new'
            when after_usd = delta_usd then 'reactivation'
            when after_usd = 0 then 'churn'
            when delta_usd > 0 then 'expansion'
            else 'contraction'
        end as movement,
        {{ money("delta_usd") }} as mrr_delta_usd,
        {{ money("after_usd - delta_usd") }} as mrr_before_usd,
        {{ money("after_usd") }} as mrr_after_usd,
        -- All that ended that day ended as agreed: the MRR is gone, but nobody left.
        after_usd = 0 and churning_ends = 0 as is_completed
    from running

)

select * from final
