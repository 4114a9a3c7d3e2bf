-- Days are many. Questions about all of history (who was active in which month, who was last seen when) read months instead.

with

days as (

    select * from {{ ref("account_days") }}

),

counted as (

    select
        account_id,
        {{ month_of("activity_date") }} as month_start_date,
        cast(sum(events) as bigint) as events,
        cast(count(*) as bigint) as active_days,
        max(last_event_at) as last_event_at
    from days
    group by account_id, {{ month_of("activity_date") }}

)

select * from counted
