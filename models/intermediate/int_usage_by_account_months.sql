{{
    config(
        materialized="incremental",
        incremental_strategy="delete+insert",
        unique_key=["source", "account_source", "source_account_id", "month_start_date"],
        on_schema_change="fail",
    )
}}

-- Days are many: questions about all of history (who was active in which month, who was last seen when) read months. A run
-- recounts the months of those accounts whose days were counted anew.

with

{% if is_incremental() %}

    affected_months as (

        select distinct
            source,
            account_source,
            source_account_id,
            {{ month_of("activity_date") }} as month_start_date
        from {{ ref("int_usage_by_account_days") }}
        where
            loaded_at > (
                select coalesce(max(known.loaded_at), timestamp '1970-01-01 00:00:00')
                from {{ this }} as known
            )

    ),

    affected_range as (

        select
            min(month_start_date) as first_month_date,
            {{ next_month("max(month_start_date)") }} as end_date
        from affected_months

    ),

    affected_days as (

        select days.*
        from {{ ref("int_usage_by_account_days") }} as days
        inner join affected_months
            on
                days.source = affected_months.source
                and days.account_source = affected_months.account_source
                and days.source_account_id = affected_months.source_account_id
                and {{ month_of("days.activity_date") }} = affected_months.month_start_date
        where
            days.activity_date >= (select affected.first_month_date from affected_range as affected)
            and days.activity_date < (select affected.end_date from affected_range as affected)

    ),

{% else %}

    affected_days as (

        select * from {{ ref("int_usage_by_account_days") }}

    ),

{% endif %}

counted as (

    select
        source,
        account_source,
        source_account_id,
        {{ month_of("activity_date") }} as month_start_date,
        cast(sum(facts) as bigint) as facts,
        sum(events) as events,
        max(last_event_at) as last_event_at,
        max(case when facts > 0 then activity_date end) as last_fact_date,
        max(loaded_at) as loaded_at
    from affected_days
    group by source, account_source, source_account_id, {{ month_of("activity_date") }}

)

select * from counted
