-- Who used the product in the 28 days before each date and in the 28 before them, and what: people are counted once however often
-- they came, which counts by day cannot tell, so raw events are read; once by person, once by feature.

with

periods as (

    select * from {{ ref("met_usage_periods") }}
    where family = 'people'

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

records as (

    select
        source,
        source_account_id,
        account_id
    from {{ ref("int_accounts_matched") }}

),

{% for what, column in [("people", "user_id"), ("features", "event_name")] %}

    {{ what }}_by_period as (

        select
            events.account_source,
            events.source_account_id,
            events.{{ column }},
            calendar.period_date,
            sum({{ uses() }}) as events
        from {{ union_staged("usage_events") }} as events
        inner join calendar on cast(events.occurred_at as date) = calendar.activity_date
        where
            events.occurred_at >= (select min(pieces.period_date) from pieces)
            and events.{{ column }} is not null
            and {{ uses() }} > 0
        group by events.account_source, events.source_account_id, events.{{ column }}, calendar.period_date

    ),

    -- A left join keeps its place in the plan: each count is matched once, not once for every date it belongs to.
    {{ what }}_of_accounts as (

        select
            records.account_id,
            counted.{{ column }},
            counted.period_date,
            counted.events
        from {{ what }}_by_period as counted
        left join records
            on
                counted.account_source = records.source
                and counted.source_account_id = records.source_account_id

    ),

    {{ what }}_by_date as (

        select
            counted.account_id,
            periods.as_of_date,
            counted.{{ column }},
            sum(case when periods.begins_days_before <= 28 then counted.events end) as events_28d,
            sum(case when periods.begins_days_before > 28 then counted.events end) as events_prev_28d
        from {{ what }}_of_accounts as counted
        inner join periods on counted.period_date = periods.period_date
        group by counted.account_id, periods.as_of_date, counted.{{ column }}

    ),

    {{ what }} as (

        select
            account_id,
            as_of_date,
            count(events_28d) as {{ what }}_28d,
            count(events_prev_28d) as {{ what }}_prev_28d,
            sum(events_28d) as events_28d,
            max(events_28d) as most_events_28d
        from {{ what }}_by_date
        group by account_id, as_of_date

    ),

{% endfor %}

final as (

    select
        features.account_id,
        features.as_of_date,
        people.people_28d as users_28d,
        people.people_prev_28d as users_prev_28d,
        people.events_28d as user_uses_28d,
        people.most_events_28d as top_user_uses_28d,
        features.features_28d
    from features
    left join people
        on
            features.account_id = people.account_id
            and features.as_of_date = people.as_of_date
    where features.account_id is not null

)

select * from final
