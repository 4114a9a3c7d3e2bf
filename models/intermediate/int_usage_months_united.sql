{{ config(materialized="view") }}

-- Months of usage as known at the as-of date: whole months before it, and of its own month the days before it.

with

whole_months as (

    select
        source,
        account_source,
        source_account_id,
        month_start_date,
        events,
        last_event_at,
        loaded_at
    from {{ ref("int_usage_by_account_months") }}
    where month_start_date < {{ month_of(as_of_date()) }} and events > 0

),

running_month as (

    select
        source,
        account_source,
        source_account_id,
        {{ month_of(as_of_date()) }} as month_start_date,
        cast(sum(events) as bigint) as events,
        max(last_event_at) as last_event_at,
        max(loaded_at) as loaded_at
    from {{ ref("int_usage_by_account_days") }}
    where
        activity_date >= {{ month_of(as_of_date()) }}
        and activity_date < {{ as_of_date() }}
        and events > 0
    group by source, account_source, source_account_id

),

united as (

    select * from whole_months
    union all
    select * from running_month

)

select * from united
