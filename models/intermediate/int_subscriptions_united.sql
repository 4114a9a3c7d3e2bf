{{ config(materialized="view") }}

-- Subscription periods of all sources as they stood at the as-of date: an end that lay ahead was not known, and the period
-- still ran.
-- A trial earns nothing, whatever price the source carries.

with

subscriptions as (

    select * from {{ ref("int_subscriptions_converted") }}

),

united as (

    select
        source,
        stream,
        subscription_id,
        account_id,
        product,
        plan,
        seats,
        case when is_trial then {{ money("0") }} else mrr end as mrr,
        original_mrr,
        currency,
        exchange_rate,
        started_at,
        case when ended_at < {{ as_of() }} then ended_at end as ended_at,
        case when ended_at < {{ as_of() }} then end_reason end as end_reason,
        coalesce(renews_at, case when ended_at < {{ as_of() }} then null else term_ends_at end) as renews_at,
        term_ends_at,
        discount_ends_at,
        billing_interval,
        is_trial
    from subscriptions
    where started_at < {{ as_of() }}

)

select * from united
