{% set churn = var("churn") %}

-- Every metric of every account as of each date that this run computes: the customer 360 shows the newest date, and the churn
-- model learns from the others.

with

accounts as (

    select * from {{ ref("met_account_dates") }}

),

-- Since when it has been a customer, and what its last loss was.
lives as (

    select
        accounts.account_id,
        accounts.as_of_date,
        contracts.has_trial,
        {% if churn["definition"] == "inactivity" -%}
            coalesce(
                billing.first_purchase_date, case when accounts.last_active_date is not null then accounts.known_from_date end
            ) as customer_since_date,
            {{ days_after("accounts.last_active_date", churn["active_within_days"]) }} as last_loss_date,
            false as has_left_as_agreed
        {%- else -%}
            contracts.first_movement_date as customer_since_date,
            contracts.last_loss_date,
            coalesce(contracts.last_movement = 'completion', false) as has_left_as_agreed
        {%- endif %}
    from accounts
    {% for theme in ["contracts", "billing"] -%}
        inner join {{ ref("met_" ~ theme) }} as {{ theme }}
            on
                accounts.account_id = {{ theme }}.account_id
                and accounts.as_of_date = {{ theme }}.as_of_date
    {% endfor %}
),

final as (

    select
        accounts.account_id,
        accounts.as_of_date,
        accounts.is_sampled,
        accounts.is_scoring_date,
        accounts.coverage_pct,
        accounts.known_from_date,
        {% for entity in measured_entities() -%}
            accounts.has_{{ entity }},
        {% endfor -%}
        accounts.is_customer,
        case
            when accounts.is_customer then 'customer'
            when lives.customer_since_date is not null and lives.has_left_as_agreed then 'completed'
            when lives.customer_since_date is not null then 'churned'
            when lives.has_trial then 'trial'
            else 'prospect'
        end as lifecycle_status,
        lives.customer_since_date,
        case
            when lives.customer_since_date is not null and not accounts.is_customer and not lives.has_left_as_agreed
                then lives.last_loss_date
        end as churned_date,
        cast({{ days_between("lives.customer_since_date", "accounts.as_of_date") }} as bigint) as tenure_days,
        cast({{ days_between("accounts.known_from_date", "accounts.as_of_date") }} as bigint) as account_age_days,
        accounts.mrr,
        {{ money("accounts.mrr * 12") }} as arr,
        contracts.plan,
        contracts.product,
        contracts.billing_interval,
        contracts.seats,
        contracts.running_subscriptions,
        contracts.running_products,
        contracts.mrr_change_180d_pct,
        contracts.seats_change_180d_pct,
        contracts.price_change_180d_pct,
        contracts.expansions_365d,
        contracts.contractions_365d,
        contracts.plan_changes_365d,
        contracts.losses_ever,
        contracts.days_to_renewal,
        contracts.has_signed_renewal,
        contracts.days_to_discount_end,
        contracts.days_since_discount_end,
        contracts.days_since_contract_change,
        billing.failed_payments_45d,
        billing.failed_payments_90d,
        billing.invoiced_amount,
        billing.unpaid_amount,
        billing.overdue_amount,
        billing.overdue_days,
        billing.unpaid_days,
        billing.late_days_avg_365d,
        billing.last_invoice_at,
        billing.purchases_30d,
        billing.purchases_90d,
        billing.purchases_180d,
        billing.purchases_ever,
        billing.purchased_amount_90d,
        billing.purchased_trend_90d_pct,
        billing.purchase_avg_amount,
        billing.refunded_365d_pct,
        billing.days_since_last_purchase,
        billing.purchase_gap_avg_days,
        billing.purchase_silence_ratio,
        usage.events_7d,
        usage.events_28d,
        usage.events_prev_28d,
        usage.events_trend_7d_pct,
        usage.events_trend_28d_pct,
        usage.events_trend_112d_pct,
        usage.active_days_7d,
        usage.active_days_28d,
        usage.active_days_trend_112d_pct,
        usage.active_users_28d,
        usage.active_users_prev_28d,
        usage.user_days_trend_112d_pct,
        usage.events_per_user_28d,
        usage.seat_use_28d_pct,
        usage.top_user_share_28d_pct,
        usage.features_used_28d,
        usage.features_new_28d,
        usage.features_used_ever,
        usage.last_seen_at,
        usage.days_since_last_seen,
        usage.silence_ratio,
        support.tickets_open,
        support.tickets_unsolved_120d,
        support.oldest_open_ticket_days,
        support.tickets_opened_30d,
        support.tickets_opened_90d,
        support.urgent_tickets_90d,
        support.reopens_180d,
        support.csat_avg_180d,
        support.csat_last,
        support.first_response_avg_90d_hours,
        support.solution_avg_90d_days,
        relationships.nps_last_score,
        relationships.nps_last_at,
        relationships.nps_change,
        relationships.nps_age_days,
        relationships.contacts,
        relationships.champions,
        relationships.has_champion,
        relationships.champions_left_180d,
        relationships.contacts_left_90d,
        relationships.unsubscribed_pct,
        relationships.last_touch_at,
        relationships.days_since_last_touch,
        relationships.touches_90d,
        relationships.inbound_90d,
        relationships.meetings_90d
    from accounts
    inner join lives
        on
            accounts.account_id = lives.account_id
            and accounts.as_of_date = lives.as_of_date
    {% for theme in ["contracts", "billing", "usage", "support", "relationships"] -%}
        inner join {{ ref("met_" ~ theme) }} as {{ theme }}
            on
                accounts.account_id = {{ theme }}.account_id
                and accounts.as_of_date = {{ theme }}.as_of_date
    {% endfor %}
)

select * from final
