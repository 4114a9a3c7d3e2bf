{{ config(materialized="view") }}

-- Subscription periods of all sources as they stood at the as-of date: an end that lay ahead was not known, and the period
-- still ran.
-- A trial earns nothing, whatever price the source carries.

with

subscriptions as (

    select * from {{ union_staged("subscriptions") }} as staged

),

accounts as (

    select * from {{ ref("int_accounts_matched") }}

),

united as (

    select
        subscriptions.source,
        subscriptions.stream,
        subscriptions.subscription_id,
        accounts.account_id,
        subscriptions.product,
        subscriptions.plan,
        subscriptions.seats,
        case when coalesce(subscriptions.is_trial, false) then {{ money("0") }} else subscriptions.mrr end as mrr,
        subscriptions.started_at,
        case when subscriptions.ended_at < {{ as_of() }} then subscriptions.ended_at end as ended_at,
        case when subscriptions.ended_at < {{ as_of() }} then subscriptions.end_reason end as end_reason,
        coalesce(
            subscriptions.renews_at,
            case when subscriptions.ended_at < {{ as_of() }} then null else subscriptions.term_ends_at end
        ) as renews_at,
        subscriptions.term_ends_at,
        subscriptions.discount_ends_at,
        subscriptions.billing_interval,
        coalesce(subscriptions.is_trial, false) as is_trial
    from subscriptions
    inner join accounts
        on
            subscriptions.account_source = accounts.source
            and subscriptions.source_account_id = accounts.source_account_id
    where subscriptions.started_at < {{ as_of() }}

)

select * from united
