-- What an account does with the product: level, trend against its own level, regularity, people, breadth, and silence.

with

accounts as (

    select
        accounts.account_id,
        accounts.as_of_date,
        accounts.has_usage_events,
        accounts.has_usage_events_user_id,
        contracts.seats
    from {{ ref("met_account_dates") }} as accounts
    left join {{ ref("met_contracts") }} as contracts
        on
            accounts.account_id = contracts.account_id
            and accounts.as_of_date = contracts.as_of_date

),

levels as (

    select * from {{ ref("met_usage_levels") }}

),

people as (

    select * from {{ ref("met_usage_people") }}

),

first_uses as (

    select
        matched.account_id,
        features.event_name,
        min(features.first_used_at) as first_used_at
    from {{ ref("int_usage_by_account_features") }} as features
    inner join {{ ref("int_accounts_matched") }} as matched
        on
            features.account_source = matched.source
            and features.source_account_id = matched.source_account_id
    group by matched.account_id, features.event_name

),

tried as (

    select
        first_uses.account_id,
        dates.as_of_date,
        count(*) as features_used_ever,
        {{ count_where(in_last("first_uses.first_used_at", 28)) }} as features_new_28d,
        min(first_uses.first_used_at) as first_used_at
    from first_uses
    inner join {{ ref("met_dates") }} as dates on first_uses.first_used_at < dates.as_of_date
    group by first_uses.account_id, dates.as_of_date

),

-- Only accounts without any use in 112 days ask for what was before; for them, months are enough.
months as (

    select
        matched.account_id,
        months.month_start_date,
        max(months.last_event_at) as last_event_at
    from {{ ref("int_usage_by_account_months") }} as months
    inner join {{ ref("int_accounts_matched") }} as matched
        on
            months.account_source = matched.source
            and months.source_account_id = matched.source_account_id
    where months.events > 0
    group by matched.account_id, months.month_start_date

),

silent as (

    select
        tried.account_id,
        tried.as_of_date
    from tried
    left join levels
        on
            tried.account_id = levels.account_id
            and tried.as_of_date = levels.as_of_date
    where levels.account_id is null

),

long_ago as (

    select
        silent.account_id,
        silent.as_of_date,
        max(months.last_event_at) as last_event_at
    from silent
    inner join months
        on
            silent.account_id = months.account_id
            -- The month of the date itself may hold later use; its days before the date are among the 112.
            and {{ month_of("silent.as_of_date") }} > months.month_start_date
    group by silent.account_id, silent.as_of_date

),

joined as (

    select
        accounts.account_id,
        accounts.as_of_date,
        accounts.has_usage_events,
        accounts.has_usage_events_user_id,
        accounts.seats,
        levels.uses_7d as events_7d,
        levels.uses_28d as events_28d,
        levels.uses_56d as events_56d,
        levels.uses_112d as events_112d,
        levels.used_days_7d as active_days_7d,
        levels.used_days_28d as active_days_28d,
        levels.used_days_112d as active_days_112d,
        levels.user_days_28d,
        levels.user_days_112d,
        people.users_28d as active_users_28d,
        people.users_prev_28d as active_users_prev_28d,
        people.user_uses_28d,
        people.top_user_uses_28d,
        people.features_28d as features_used_28d,
        tried.features_used_ever,
        tried.features_new_28d,
        coalesce(levels.last_event_at, long_ago.last_event_at) as last_seen_at,
        cast({{ days_between("tried.first_used_at", "accounts.as_of_date") }} as bigint) as used_for_days
    from accounts
    left join levels
        on
            accounts.account_id = levels.account_id
            and accounts.as_of_date = levels.as_of_date
    left join people
        on
            accounts.account_id = people.account_id
            and accounts.as_of_date = people.as_of_date
    left join tried
        on
            accounts.account_id = tried.account_id
            and accounts.as_of_date = tried.as_of_date
    left join long_ago
        on
            accounts.account_id = long_ago.account_id
            and accounts.as_of_date = long_ago.as_of_date

),

-- An account's own level is that of the 84 days before the last 28, or of as many of them as it has been there, but of four weeks
-- at least.
with_baseline as (

    select
        *,
        case when used_for_days >= 112 then 84 when used_for_days >= 56 then used_for_days - 28 end as baseline_days
    from joined

),

final as (

    select
        account_id,
        as_of_date,
        {% for count in ["events_7d", "events_28d"] -%}
            {{ whole_uses(measured(count, "has_usage_events")) }} as {{ count }},
        {% endfor -%}
        {{ whole_uses(measured("events_56d - events_28d", "has_usage_events")) }} as events_prev_28d,
        case when used_for_days >= 28 then {{ change_pct("events_7d", "(events_28d - events_7d) / 3.0") }} end
            as events_trend_7d_pct,
        case when used_for_days >= 56 then {{ change_pct("events_28d", "events_56d - events_28d") }} end
            as events_trend_28d_pct,
        {% for what in ["events", "user_days", "active_days"] -%}
            {{ change_pct(what ~ "_28d", "(" ~ what ~ "_112d - " ~ what ~ "_28d) * 28.0 / baseline_days") }}
                as {{ what }}_trend_112d_pct,
        {% endfor -%}
        {% for count in [
            "active_days_7d", "active_days_28d", "features_used_28d", "features_new_28d", "features_used_ever"
        ] -%}
            cast({{ measured(count, "has_usage_events") }} as bigint) as {{ count }},
        {% endfor -%}
        {% set active_users = measured("active_users_28d", "has_usage_events", needs="has_usage_events_user_id") -%}
        cast({{ active_users }} as bigint) as active_users_28d,
        cast({{ measured("active_users_prev_28d", "has_usage_events", needs="has_usage_events_user_id") }} as bigint)
            as active_users_prev_28d,
        user_uses_28d / nullif(active_users_28d, 0) as events_per_user_28d,
        {{ pct(active_users, "seats") }} as seat_use_28d_pct,
        {{ pct("top_user_uses_28d", "user_uses_28d") }} as top_user_share_28d_pct,
        last_seen_at,
        cast({{ days_between("last_seen_at", "as_of_date") }} as bigint) as days_since_last_seen,
        cast({{ days_between("last_seen_at", "as_of_date") }} as double) * active_days_112d
        / case when used_for_days < 112 then used_for_days else 112 end as silence_ratio
    from with_baseline

)

select * from final
