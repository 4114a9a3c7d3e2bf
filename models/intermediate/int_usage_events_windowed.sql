{% set window_days = 28 %}
{% set window_start = days_after(as_of_date(), -window_days) %}

-- Usage of the last four weeks beside the four weeks before. People are counted once however many days they came, which counts by
-- day cannot tell; so the raw events of these eight weeks are read, and only those: once by user, once by feature.

with

records as (

    select
        source,
        source_account_id,
        account_id
    from {{ ref("int_accounts_matched") }}

),

-- Counted by the source's own ids first: an account is looked up once for each person, not for each event.
by_source_user as (

    select
        account_source,
        source_account_id,
        user_id,
        sum(case when occurred_at >= {{ window_start }} then {{ uses() }} else 0 end) as events_28d,
        sum(case when occurred_at < {{ window_start }} then {{ uses() }} else 0 end) as events_prev_28d
    from {{ union_staged("usage_events") }} as events
    where
        occurred_at >= {{ days_after(as_of_date(), -2 * window_days) }}
        and occurred_at < {{ as_of() }}
    group by account_source, source_account_id, user_id

),

by_user as (

    select
        records.account_id,
        counted.user_id,
        sum(counted.events_28d) as events_28d,
        sum(counted.events_prev_28d) as events_prev_28d
    from by_source_user as counted
    inner join records
        on
            counted.account_source = records.source
            and counted.source_account_id = records.source_account_id
    group by records.account_id, counted.user_id

),

users as (

    select
        account_id,
        sum(events_28d) as events_28d,
        sum(events_prev_28d) as events_prev_28d,
        count(case when events_28d > 0 then user_id end) as active_users_28d,
        count(case when events_prev_28d > 0 then user_id end) as active_users_prev_28d
    from by_user
    group by account_id

),

used_features as (

    select distinct
        records.account_id,
        events.event_name
    from {{ union_staged("usage_events") }} as events
    inner join records
        on
            events.account_source = records.source
            and events.source_account_id = records.source_account_id
    where
        events.occurred_at >= {{ window_start }}
        and events.occurred_at < {{ as_of() }}
        and {{ uses() }} > 0

),

features as (

    select
        account_id,
        count(*) as features_used_28d
    from used_features
    group by account_id

),

used_days as (

    select distinct
        records.account_id,
        days.activity_date
    from {{ ref("int_usage_by_account_days") }} as days
    inner join records
        on
            days.account_source = records.source
            and days.source_account_id = records.source_account_id
    where
        days.activity_date >= {{ window_start }}
        and days.activity_date < {{ as_of_date() }}
        and days.events > 0

),

active_days as (

    select
        account_id,
        count(*) as active_days_28d
    from used_days
    group by account_id

),

ever_seen as (

    select
        records.account_id,
        max(months.last_event_at) as last_seen_at
    from {{ ref("int_usage_months_united") }} as months
    inner join records
        on
            months.account_source = records.source
            and months.source_account_id = records.source_account_id
    group by records.account_id

),

first_uses as (

    select distinct
        records.account_id,
        first_uses.event_name
    from {{ ref("int_usage_by_account_features") }} as first_uses
    inner join records
        on
            first_uses.account_source = records.source
            and first_uses.source_account_id = records.source_account_id
    where first_uses.first_used_at < {{ as_of() }}

),

ever_used as (

    select
        account_id,
        count(*) as features_used_ever
    from first_uses
    group by account_id

),

combined as (

    select
        ever_seen.account_id,
        round(cast(coalesce(users.events_28d, 0) as double), 6) as events_28d,
        round(cast(coalesce(users.events_prev_28d, 0) as double), 6) as events_prev_28d,
        cast(coalesce(users.active_users_28d, 0) as bigint) as active_users_28d,
        cast(coalesce(users.active_users_prev_28d, 0) as bigint) as active_users_prev_28d,
        cast(coalesce(active_days.active_days_28d, 0) as bigint) as active_days_28d,
        cast(coalesce(features.features_used_28d, 0) as bigint) as features_used_28d,
        cast(coalesce(ever_used.features_used_ever, 0) as bigint) as features_used_ever,
        ever_seen.last_seen_at
    from ever_seen
    left join users on ever_seen.account_id = users.account_id
    left join features on ever_seen.account_id = features.account_id
    left join active_days on ever_seen.account_id = active_days.account_id
    left join ever_used on ever_seen.account_id = ever_used.account_id

)

select * from combined
