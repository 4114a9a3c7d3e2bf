-- Usage of the last four weeks beside the four weeks before. People are counted once however many days they came, which the
-- counts by day cannot tell; so the raw events of these eight weeks are read, and only those.
{% set window_days = 28 %}

with

accounts as (

    select
        source,
        source_account_id,
        account_id
    from {{ ref("int_accounts_matched") }}

),

events as (

    select
        accounts.account_id,
        staged.user_id,
        staged.event_name,
        cast(staged.occurred_at as date) as activity_date,
        staged.occurred_at >= {{ days_after(as_of_date(), -window_days) }} as is_current
    from {{ union_staged("usage_events") }} as staged
    inner join accounts
        on
            staged.account_source = accounts.source
            and staged.source_account_id = accounts.source_account_id
    where
        staged.occurred_at >= {{ days_after(as_of_date(), -2 * window_days) }}
        and staged.occurred_at < {{ as_of() }}

),

windowed as (

    select
        account_id,
        {{ count_where("is_current") }} as events_28d,
        {{ count_where("not is_current") }} as events_prev_28d,
        cast(count(distinct case when is_current then user_id end) as bigint) as active_users_28d,
        cast(count(distinct case when not is_current then user_id end) as bigint) as active_users_prev_28d,
        cast(count(distinct case when is_current then activity_date end) as bigint) as active_days_28d,
        cast(count(distinct case when is_current then event_name end) as bigint) as features_used_28d
    from events
    group by account_id

),

ever_seen as (

    select
        account_id,
        max(last_event_at) as last_seen_at
    from {{ ref("int_usage_by_account_months") }}
    group by account_id

),

ever_used as (

    select
        accounts.account_id,
        cast(count(distinct features.event_name) as bigint) as features_used_ever
    from {{ ref("int_usage_by_account_features") }} as features
    inner join accounts
        on
            features.account_source = accounts.source
            and features.source_account_id = accounts.source_account_id
    where features.first_used_at < {{ as_of() }}
    group by accounts.account_id

),

combined as (

    select
        ever_seen.account_id,
        coalesce(windowed.events_28d, 0) as events_28d,
        coalesce(windowed.events_prev_28d, 0) as events_prev_28d,
        coalesce(windowed.active_users_28d, 0) as active_users_28d,
        coalesce(windowed.active_users_prev_28d, 0) as active_users_prev_28d,
        coalesce(windowed.active_days_28d, 0) as active_days_28d,
        coalesce(windowed.features_used_28d, 0) as features_used_28d,
        coalesce(ever_used.features_used_ever, 0) as features_used_ever,
        ever_seen.last_seen_at
    from ever_seen
    left join windowed on ever_seen.account_id = windowed.account_id
    left join ever_used on ever_seen.account_id = ever_used.account_id

)

select * from combined
