{{ config(materialized="view") }}

with

days as (

    select * from {{ ref("int_usage_days_united") }}

),

final as (

    select
        account_id,
        activity_date,
        events,
        active_users,
        quantity,
        last_event_at
    from days

)

select * from final
