-- Subscription periods with how each began and whether another carries it on: sources end a period and start another whenever
-- plan, seats or term change. What matters is the change, not the bookkeeping: a period that starts on the day on which another
-- of the same product ended carries it on.

with

subscriptions as (

    select * from {{ ref("int_subscriptions_united") }}

),

handovers as (

    select
        account_id,
        coalesce(product, '') as product_key,
        cast(ended_at as date) as handover_date,
        max(case when is_trial then 1 else 0 end) as had_trial,
        min(plan) as plan,
        sum(seats) as seats
    from subscriptions
    where ended_at is not null
    group by account_id, coalesce(product, ''), cast(ended_at as date)

),

starts as (

    select distinct
        account_id,
        coalesce(product, '') as product_key,
        cast(started_at as date) as handover_date
    from subscriptions

),

periods as (

    select
        subscriptions.*,
        starts.account_id is not null as is_continued,
        case
            when subscriptions.is_trial then 'trial_started'
            when handovers.account_id is null then 'subscription_started'
            when handovers.had_trial = 1 then 'trial_converted'
            when coalesce(handovers.plan, '') <> coalesce(subscriptions.plan, '') then 'plan_changed'
            when coalesce(handovers.seats, 0) <> coalesce(subscriptions.seats, 0) then 'seats_changed'
            else 'subscription_renewed'
        end as started_kind
    from subscriptions
    left join handovers
        on
            subscriptions.account_id = handovers.account_id
            and coalesce(subscriptions.product, '') = handovers.product_key
            and cast(subscriptions.started_at as date) = handovers.handover_date
    left join starts
        on
            subscriptions.account_id = starts.account_id
            and coalesce(subscriptions.product, '') = starts.product_key
            and cast(subscriptions.ended_at as date) = starts.handover_date
            and cast(subscriptions.started_at as date) < starts.handover_date

)

select * from periods
