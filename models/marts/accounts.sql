-- The customer 360: who each account is, its metrics as of the run, what it has subscribed to now, and how fresh that is.

with

identities as (

    select * from {{ ref("int_accounts_united") }}

),

metrics as (

    select * from {{ ref("met_accounts") }}
    where as_of_date = {{ as_of_date() }}

),

coverage as (

    select * from {{ ref("int_accounts_covered") }}

),

running_subscriptions as (

    select
        account_id,
        product,
        renews_at
    from {{ ref("subscriptions") }}
    where is_running

),

running_products as (

    select distinct
        account_id,
        product
    from running_subscriptions
    where product is not null

),

products as (

    select
        account_id,
        {{ listed("product") }} as products
    from running_products
    group by account_id

),

renewals as (

    select
        account_id,
        min(case when renews_at >= {{ as_of() }} then renews_at end) as renews_at
    from running_subscriptions
    group by account_id

),

signed as (

    select * from {{ ref("int_renewals_signed") }}

),

final as (

    select
        identities.account_id,
        {{ as_of_date() }} as as_of_date,

        -- Who it is
        identities.account_name,
        identities.domain,
        identities.industry,
        identities.segment,
        identities.country,
        identities.employees,
        identities.owner_id,
        identities.owner_name,
        identities.owner_email,
        identities.parent_account_id,
        identities.crm_account_id,
        identities.leading_source,
        identities.account_sources,
        identities.sources,
        identities.match_rule,
        identities.is_derived,
        identities.created_at,

        -- What it pays
        metrics.lifecycle_status,
        metrics.is_customer,
        metrics.customer_since_date,
        metrics.churned_date,
        metrics.tenure_days,
        metrics.plan,
        products.products,
        metrics.mrr,
        metrics.arr,
        metrics.running_subscriptions,
        -- What is signed already is no question any more: then the next renewal is that of the next contract.
        case when signed.has_signed_renewal then signed.next_renews_at else renewals.renews_at end as renews_at,
        metrics.days_to_renewal,
        metrics.has_signed_renewal,
        signed.next_started_at,
        signed.next_mrr,
        metrics.seats,
        metrics.seat_use_28d_pct,

        -- How it uses the product
        metrics.events_28d,
        metrics.events_prev_28d,
        metrics.active_users_28d,
        metrics.active_users_prev_28d,
        metrics.active_days_28d,
        metrics.features_used_28d,
        metrics.features_used_ever,
        metrics.events_trend_28d_pct,
        metrics.last_seen_at,
        metrics.days_since_last_seen,

        -- How it fares with support
        metrics.tickets_open,
        metrics.tickets_opened_90d,
        metrics.oldest_open_ticket_days,
        metrics.csat_avg_180d,
        metrics.nps_last_score,
        metrics.nps_last_at,

        -- How it pays
        metrics.invoiced_amount,
        metrics.unpaid_amount,
        metrics.overdue_amount,
        metrics.failed_payments_90d,
        metrics.late_days_avg_365d,
        metrics.last_invoice_at,

        -- Who knows whom
        metrics.last_touch_at,
        metrics.days_since_last_touch,
        metrics.contacts,
        metrics.champions,
        metrics.has_champion,

        -- What is measured, and how far the measurements reach
        metrics.has_contacts as has_contact_data,
        metrics.has_subscriptions as has_subscription_data,
        metrics.has_invoices as has_invoice_data,
        metrics.has_usage_events as has_usage_data,
        metrics.has_tickets as has_ticket_data,
        metrics.has_survey_responses as has_survey_data,
        metrics.has_interactions as has_interaction_data,
        metrics.coverage_pct,
        coverage.subscriptions_fresh_at,
        coverage.invoices_fresh_at,
        coverage.usage_events_fresh_at as usage_fresh_at,
        coverage.tickets_fresh_at,
        coverage.survey_responses_fresh_at as surveys_fresh_at,
        coverage.interactions_fresh_at
    from identities
    inner join metrics on identities.account_id = metrics.account_id
    left join coverage on identities.account_id = coverage.account_id
    left join products on identities.account_id = products.account_id
    left join renewals on identities.account_id = renewals.account_id
    left join signed on identities.account_id = signed.account_id

)

select * from final
