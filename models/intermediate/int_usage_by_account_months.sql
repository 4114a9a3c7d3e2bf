-- Days are many. Questions about all of history (who was active in which month, who was last seen when) read months instead.

with

days as (

    select * from {{ ref("int_usage_by_account_days") }}
    where activity_date < {{ as_of_date() }} and events > 0

),

counted as (

    select
        source,
        account_source,
        source_account_id,
        {{ month_of("activity_date") }} as month_start_date,
        cast(sum(events) as bigint) as events,
        max(last_event_at) as last_event_at,
        max(loaded_at) as loaded_at
    from days
    group by source, account_source, source_account_id, {{ month_of("activity_date") }}

)

select * from counted
