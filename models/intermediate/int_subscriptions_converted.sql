{{ config(materialized="view") }}

-- Subscription periods of all sources with their account, in the reporting currency.
-- All of an account's subscriptions in one currency have the rate of the first of them: were each converted by the rate of its
-- own month, a renewal at the same price would be an expansion or a contraction whenever the rate moved.

with

subscriptions as (

    select * from {{ union_staged("subscriptions") }} as staged

),

accounts as (

    select * from {{ ref("int_accounts_matched") }}

),

matched as (

    select
        subscriptions.*,
        accounts.account_id,
        first_value(subscriptions.exchange_rate) over (
            partition by accounts.account_id, subscriptions.currency
            order by subscriptions.started_at, subscriptions.source, subscriptions.stream, subscriptions.subscription_id
            rows between unbounded preceding and unbounded following
        ) as rate_of_account
    from subscriptions
    inner join accounts
        on
            subscriptions.account_source = accounts.source
            and subscriptions.source_account_id = accounts.source_account_id

),

converted as (

    select
        source,
        stream,
        subscription_id,
        account_id,
        product,
        plan,
        seats,
        {{ converted("mrr", "rate_of_account") }} as mrr,
        mrr as original_mrr,
        currency,
        rate_of_account as exchange_rate,
        started_at,
        ended_at,
        end_reason,
        renews_at,
        term_ends_at,
        discount_ends_at,
        billing_interval,
        coalesce(is_trial, false) as is_trial
    from matched

)

select * from converted
