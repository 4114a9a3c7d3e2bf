{% set churn = var("churn") %}

with

identities as (

    select * from {{ ref("int_accounts_united") }}

),

coverage as (

    select * from {{ ref("int_accounts_covered") }}

),

usage_windows as (

    select * from {{ ref("int_usage_events_windowed") }}

),

running_subscriptions as (

    select
        *,
        row_number() over (
            partition by account_id
            order by mrr desc, started_at desc, subscription_id asc
        ) as importance
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

contracts as (

    select
        account_id,
        max(case when importance = 1 then plan end) as plan,
        sum(mrr) as mrr,
        sum(seats) as seats,
        {{ count_where("not is_trial") }} as running_subscriptions,
        max(case when is_trial then 1 else 0 end) as has_trial,
        min(case when renews_at >= {{ as_of() }} then renews_at end) as renews_at
    from running_subscriptions
    group by account_id

),

revenue_history as (

    select
        account_id,
        min(movement_date) as customer_since_date,
        max(case when mrr_after = 0 then movement_date end) as last_loss_date,
        {{ last_by("movement", "movement_date") }} as last_movement
    from {{ ref("mrr_movements") }}
    group by account_id

),

bills as (

    select
        account_id,
        sum(amount) as invoiced_amount,
        sum(case when is_unpaid then amount else 0 end) as unpaid_amount,
        sum(case when is_overdue then amount else 0 end) as overdue_amount,
        cast(sum(
            case when issued_at >= {{ days_after(as_of_date(), -90) }} then coalesce(failed_payments, 0) else 0 end
        ) as bigint) as failed_payments_90d,
        avg(case when issued_at >= {{ days_after(as_of_date(), -365) }} then cast(late_days as double) end)
            as late_days_avg_365d,
        min(case when amount > 0 then issued_at end) as first_invoice_at,
        max(case when amount > 0 then issued_at end) as last_invoice_at
    from {{ ref("invoices") }}
    where coalesce(status, 'open') <> 'void'
    group by account_id

),

support as (

    select
        account_id,
        {{ count_where("is_open") }} as tickets_open,
        {{ count_where("opened_at >= " ~ days_after(as_of_date(), -90)) }} as tickets_opened_90d,
        min(case when is_open then opened_at end) as oldest_open_ticket_at,
        avg(case when opened_at >= {{ days_after(as_of_date(), -180) }} then csat end) as csat_avg_180d
    from {{ ref("tickets") }}
    group by account_id

),

surveys as (

    select
        account_id,
        {{ last_by("score", "responded_at") }} as nps_last_score,
        max(responded_at) as nps_last_at
    from {{ ref("int_survey_responses_united") }}
    where kind = 'nps'
    group by account_id

),

touches as (

    select
        account_id,
        max(occurred_at) as last_touch_at
    from {{ ref("int_interactions_united") }}
    group by account_id

),

people as (

    select
        account_id,
        {{ count_where("is_active") }} as contacts,
        {{ count_where("is_active and is_champion") }} as champions
    from {{ ref("contacts") }}
    group by account_id

),

-- For churn by inactivity: the last use or, where that is what is seen of a customer, the last purchase.
activity as (

    select
        identities.account_id,
        bills.first_invoice_at,
        case
            when bills.last_invoice_at > usage_windows.last_seen_at then bills.last_invoice_at
            else coalesce(usage_windows.last_seen_at, bills.last_invoice_at)
        end as last_active_at
    from identities
    left join bills on identities.account_id = bills.account_id
    left join usage_windows on identities.account_id = usage_windows.account_id

),

-- NULL means that nobody measures it, 0 that it was measured and is none: every count below asks first whether a source covers
-- the account, and fills the columns that the count needs.
joined as (

    select
        identities.*,
        coalesce(coverage.has_contacts, false) as has_contact_data,
        coalesce(coverage.has_subscriptions, false) as has_subscription_data,
        coalesce(coverage.has_invoices, false) as has_invoice_data,
        coalesce(coverage.has_usage_events, false) as has_usage_data,
        coalesce(coverage.has_tickets, false) as has_ticket_data,
        coalesce(coverage.has_survey_responses, false) as has_survey_data,
        coalesce(coverage.has_interactions, false) as has_interaction_data,
        {% for name in measured_column_names() -%}
            coverage.{{ name }}_from is not null as has_{{ name }},
        {% endfor -%}
        coalesce(coverage.coverage_pct, 0) as coverage_pct,
        coverage.subscriptions_fresh_at,
        coverage.invoices_fresh_at,
        coverage.usage_events_fresh_at,
        coverage.tickets_fresh_at,
        coverage.survey_responses_fresh_at,
        coverage.interactions_fresh_at,
        contracts.plan,
        products.products,
        case when coverage.has_subscriptions then coalesce(contracts.mrr, 0) end as mrr,
        case when coverage.has_subscriptions then coalesce(contracts.running_subscriptions, 0) end as running_subscriptions,
        coalesce(contracts.has_trial, 0) = 1 as has_trial,
        contracts.seats,
        -- What is signed already is no question any more: then the next renewal is that of the next contract.
        case when signed.has_signed_renewal then signed.next_renews_at else contracts.renews_at end as renews_at,
        signed.has_signed_renewal,
        signed.next_started_at,
        signed.next_mrr,
        activity.last_active_at,
        {% if churn["definition"] == "inactivity" -%}
            coalesce(activity.last_active_at >= {{ days_after(as_of_date(), -churn["active_within_days"]) }}, false) as is_customer,
            activity.last_active_at is not null as was_customer,
            cast(case
                when activity.first_invoice_at is not null then activity.first_invoice_at
                when activity.last_active_at is not null then identities.created_at
            end as date) as customer_since_date,
            {{ days_after("activity.last_active_at", churn["active_within_days"]) }} as last_loss_date,
            false as has_left_as_agreed,
        {%- else -%}
            coalesce(contracts.mrr, 0) > 0 as is_customer,
            revenue_history.account_id is not null as was_customer,
            revenue_history.customer_since_date,
            revenue_history.last_loss_date,
            coalesce(revenue_history.last_movement = 'completion', false) as has_left_as_agreed,
        {%- endif %}
        usage_windows.events_28d,
        usage_windows.events_prev_28d,
        usage_windows.active_users_28d,
        usage_windows.active_users_prev_28d,
        usage_windows.active_days_28d,
        usage_windows.features_used_28d,
        usage_windows.features_used_ever,
        usage_windows.last_seen_at,
        support.tickets_open,
        support.tickets_opened_90d,
        support.oldest_open_ticket_at,
        support.csat_avg_180d,
        surveys.nps_last_score,
        surveys.nps_last_at,
        bills.invoiced_amount,
        bills.unpaid_amount,
        bills.overdue_amount,
        bills.failed_payments_90d,
        bills.late_days_avg_365d,
        bills.last_invoice_at,
        touches.last_touch_at,
        people.contacts,
        people.champions
    from identities
    left join coverage on identities.account_id = coverage.account_id
    left join contracts on identities.account_id = contracts.account_id
    left join {{ ref("int_renewals_signed") }} as signed on identities.account_id = signed.account_id
    left join products on identities.account_id = products.account_id
    left join revenue_history on identities.account_id = revenue_history.account_id
    left join usage_windows on identities.account_id = usage_windows.account_id
    left join support on identities.account_id = support.account_id
    left join surveys on identities.account_id = surveys.account_id
    left join bills on identities.account_id = bills.account_id
    left join touches on identities.account_id = touches.account_id
    left join people on identities.account_id = people.account_id
    left join activity on identities.account_id = activity.account_id

),

final as (

    select
        account_id,
        {{ as_of_date() }} as as_of_date,

        -- Who it is
        account_name,
        domain,
        industry,
        segment,
        country,
        employees,
        owner_id,
        owner_name,
        owner_email,
        parent_account_id,
        crm_account_id,
        leading_source,
        account_sources,
        sources,
        match_rule,
        is_derived,
        created_at,

        -- What it pays
        case
            when is_customer then 'customer'
            when was_customer and has_left_as_agreed then 'completed'
            when was_customer then 'churned'
            when has_trial then 'trial'
            else 'prospect'
        end as lifecycle_status,
        is_customer,
        customer_since_date,
        case when was_customer and not is_customer and not has_left_as_agreed then last_loss_date end as churned_date,
        cast({{ days_between("customer_since_date", as_of()) }} as bigint) as tenure_days,
        plan,
        products,
        {{ money("mrr") }} as mrr,
        {{ money("mrr * 12") }} as arr,
        running_subscriptions,
        renews_at,
        cast({{ days_between(as_of(), "renews_at") }} as bigint) as days_to_renewal,
        has_signed_renewal,
        next_started_at,
        next_mrr,
        cast(seats as bigint) as seats,
        {{ pct(measured("active_users_28d", "has_usage_data", needs="has_usage_events_user_id"), "seats") }} as seat_use_pct,

        -- How it uses the product
        {% for measure in ["events_28d", "events_prev_28d"] -%}
            {{ whole_uses(measured(measure, "has_usage_data")) }} as {{ measure }},
        {% endfor -%}
        {% for measure in ["active_users_28d", "active_users_prev_28d"] -%}
            {{ measured(measure, "has_usage_data", needs="has_usage_events_user_id") }} as {{ measure }},
        {% endfor -%}
        {% for measure in ["active_days_28d", "features_used_28d", "features_used_ever"] -%}
            {{ measured(measure, "has_usage_data") }} as {{ measure }},
        {% endfor -%}
        {{ pct("events_28d - events_prev_28d", "events_prev_28d") }} as events_trend_pct,
        last_seen_at,
        cast({{ days_between("last_seen_at", as_of()) }} as bigint) as days_since_last_seen,

        -- How it fares with support
        {{ measured("tickets_open", "has_ticket_data", needs="has_tickets_solved_at or has_tickets_status") }} as tickets_open,
        {{ measured("tickets_opened_90d", "has_ticket_data") }} as tickets_opened_90d,
        cast({{ days_between("oldest_open_ticket_at", as_of()) }} as bigint) as oldest_open_ticket_days,
        csat_avg_180d,
        nps_last_score,
        nps_last_at,

        -- How it pays
        {% set knows_payments = "(has_invoices_paid_at or has_invoices_status)" -%}
        {{ money(measured("invoiced_amount", "has_invoice_data")) }} as invoiced_amount,
        {{ money(measured("unpaid_amount", "has_invoice_data", needs=knows_payments)) }} as unpaid_amount,
        {{ money(measured("overdue_amount", "has_invoice_data", needs=knows_payments ~ " and has_invoices_due_at")) }}
            as overdue_amount,
        {{ measured("failed_payments_90d", "has_invoice_data", needs="has_invoices_failed_payments") }} as failed_payments_90d,
        case when has_invoices_paid_at and has_invoices_due_at then late_days_avg_365d end as late_days_avg_365d,
        last_invoice_at,

        -- Who knows whom
        last_touch_at,
        cast({{ days_between("last_touch_at", as_of()) }} as bigint) as days_since_last_touch,
        {{ measured("contacts", "has_contact_data") }} as contacts,
        {{ measured("champions", "has_contact_data", needs="has_contacts_role") }} as champions,
        {{ measured("champions", "has_contact_data", needs="has_contacts_role") }} > 0 as has_champion,

        -- What is measured, and how far the measurements reach
        has_contact_data,
        has_subscription_data,
        has_invoice_data,
        has_usage_data,
        has_ticket_data,
        has_survey_data,
        has_interaction_data,
        coverage_pct,
        subscriptions_fresh_at,
        invoices_fresh_at,
        usage_events_fresh_at as usage_fresh_at,
        tickets_fresh_at,
        survey_responses_fresh_at as surveys_fresh_at,
        interactions_fresh_at
    from joined

)

select * from final
