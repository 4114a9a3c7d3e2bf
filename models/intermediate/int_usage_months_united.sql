{{ config(materialized="view") }}

-- Months in which usage was delivered (events is 0 where all of it was no use) as known at the as-of date: whole months before
-- it, and of its own month the days before it.

with

whole_months as (

    select
        source,
        account_source,
        source_account_id,
        month_start_date,
        facts,
        events,
        last_event_at,
        last_fact_date,
        loaded_at
    from {{ ref("int_usage_by_account_months") }}
    where month_start_date < {{ month_of(as_of_date()) }} and facts > 0

),

running_month as (

    select
        source,
        account_source,
        source_account_id,
        {{ month_of(as_of_date()) }} as month_start_date,
        cast(sum(facts) as bigint) as facts,
        sum(events) as events,
        max(last_event_at) as last_event_at,
        max(activity_date) as last_fact_date,
        max(loaded_at) as loaded_at
    from {{ ref("int_usage_by_account_days") }}
    where
        activity_date >= {{ month_of(as_of_date()) }}
        and activity_date < {{ as_of_date() }}
        and facts > 0
    group by source, account_source, source_account_id

),

united as (

    select * from whole_months
    union all
    select * from running_month

)

select * from united
