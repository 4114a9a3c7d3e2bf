-- How much an account used the product, and how regularly, from its counted days.

with

periods as (

    select * from {{ ref("met_usage_periods") }}
    where family = 'level'

),

pieces as (

    select distinct
        period_date,
        next_period_date
    from periods

),

all_days as (

    {{ day_spine("(select min(period_date) from pieces)", "(select max(next_period_date) from pieces)") }}

),

calendar as (

    select
        all_days.calendar_date as activity_date,
        pieces.period_date
    from all_days
    inner join pieces
        on
            all_days.calendar_date >= pieces.period_date
            and all_days.calendar_date < pieces.next_period_date

),

counted as (

    select
        days.account_id,
        calendar.period_date,
        -- Sums of floating point numbers are several times faster than of integers, and exact for counts.
        cast(sum(days.events) as double) as events,
        cast(sum(days.active_users) as double) as user_days,
        cast(count(*) as double) as active_days,
        max(days.last_event_at) as last_event_at
    from {{ ref("int_usage_days_united") }} as days
    inner join calendar on days.activity_date = calendar.activity_date
    where days.activity_date >= (select min(pieces.period_date) from pieces)
    group by days.account_id, calendar.period_date

),

windowed as (

    select
        counted.account_id,
        periods.as_of_date,
        {% for days in [7, 28, 56] -%}
            {% set is_inside = "periods.begins_days_before <= " ~ days -%}
            sum(case when {{ is_inside }} then counted.events else 0 end) as uses_{{ days }}d,
            cast(sum(case when {{ is_inside }} then counted.active_days else 0 end) as bigint) as used_days_{{ days }}d,
            cast(sum(case when {{ is_inside }} then counted.user_days else 0 end) as bigint) as user_days_{{ days }}d,
        {% endfor -%}
        sum(counted.events) as uses_112d,
        cast(sum(counted.active_days) as bigint) as used_days_112d,
        cast(sum(counted.user_days) as bigint) as user_days_112d,
        max(counted.last_event_at) as last_event_at
    from counted
    inner join periods on counted.period_date = periods.period_date
    group by counted.account_id, periods.as_of_date

)

select * from windowed
