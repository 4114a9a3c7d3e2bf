{{ config(materialized="view") }}

with

subscriptions as (

    select * from {{ ref("int_subscriptions_united") }}

),

final as (

    select
        source,
        stream,
        subscription_id,
        account_id,
        product,
        plan,
        seats,
        mrr,
        {{ money("mrr * 12") }} as arr,
        original_mrr,
        currency,
        exchange_rate,
        started_at,
        ended_at,
        end_reason,
        ended_at is null as is_running,
        is_trial,
        renews_at,
        billing_interval
    from subscriptions

)

select * from final
