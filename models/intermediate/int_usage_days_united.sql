{{ config(materialized="view") }}

-- Usage of all sources by canonical account and day, before the as-of date.

with

suppliers as (

    select
        account_source,
        count(*) as usage_sources
    from {{ ref("int_sources_measured") }}
    where entity = 'usage_events'
    group by account_source

),

records as (

    select
        matched.source,
        matched.source_account_id,
        matched.account_id,
        sum(suppliers.usage_sources) over (partition by matched.account_id) = 1 as is_only_one
    from {{ ref("int_accounts_matched") }} as matched
    inner join suppliers on matched.source = suppliers.account_source

),

-- Nearly every account has its usage from one record of one source, whose days are already counted.
days_of_single_records as (

    select
        records.account_id,
        counted.activity_date,
        counted.events,
        counted.active_users,
        counted.quantity,
        counted.last_event_at
    from {{ ref("int_usage_by_account_days") }} as counted
    inner join records
        on
            counted.account_source = records.source
            and counted.source_account_id = records.source_account_id
    where
        records.is_only_one
        and counted.activity_date < {{ as_of_date() }}
        and counted.events > 0

),

days_of_several_records as (

    select
        records.account_id,
        counted.activity_date,
        sum(counted.events) as events,
        sum(counted.active_users) as active_users,
        sum(counted.quantity) as quantity,
        max(counted.last_event_at) as last_event_at
    from {{ ref("int_usage_by_account_days") }} as counted
    inner join records
        on
            counted.account_source = records.source
            and counted.source_account_id = records.source_account_id
    where
        not records.is_only_one
        and counted.activity_date < {{ as_of_date() }}
        and counted.events > 0
    group by records.account_id, counted.activity_date

),

days as (

    select * from days_of_single_records
    union all
    select * from days_of_several_records

),

coverage as (

    select * from {{ ref("int_accounts_covered") }}

),

final as (

    select
        days.account_id,
        days.activity_date,
        -- Sums of floating point numbers depend on their order in the last digits.
        round(days.events, 6) as events,
        case
            when coverage.usage_events_user_id_from < {{ days_after("days.activity_date", 1) }}
                then coalesce(cast(days.active_users as bigint), 0)
        end as active_users,
        round(days.quantity, 6) as quantity,
        days.last_event_at
    from days
    left join coverage on days.account_id = coverage.account_id

)

select * from final
