{{ config(materialized="view") }}

with

counted as (

    select * from {{ ref("int_usage_by_account_days") }}
    where activity_date < {{ as_of_date() }} and events > 0

),

accounts as (

    select
        source,
        source_account_id,
        account_id
    from {{ ref("int_accounts_matched") }}

),

-- Records that turned out to be one company are counted together.
final as (

    select
        accounts.account_id,
        counted.activity_date,
        cast(sum(counted.events) as bigint) as events,
        cast(sum(counted.active_users) as bigint) as active_users,
        cast(max(counted.features_used) as bigint) as features_used,
        sum(counted.quantity) as quantity,
        min(counted.first_event_at) as first_event_at,
        max(counted.last_event_at) as last_event_at
    from counted
    inner join accounts
        on
            counted.account_source = accounts.source
            and counted.source_account_id = accounts.source_account_id
    group by accounts.account_id, counted.activity_date

)

select * from final
