{{ config(materialized="view") }}

-- All features of the dates that this run writes, side by side. ftr_account_snapshots keeps them; a replay only looks at them.

with

accounts as (

    select * from {{ ref("ftr_snapshot_accounts") }}

),

identities as (

    select
        account_id,
        country,
        created_at
    from {{ ref("int_accounts_united") }}

),

-- What may change counts as it was last seen before the date; before the first look at an account it is unknown.
attributes as (

    select
        account_id,
        industry,
        segment,
        employees,
        dbt_valid_from as valid_from,
        coalesce(dbt_valid_to, timestamp '9999-12-31 00:00:00') as valid_to
    from {{ ref("accounts_history") }}

),

final as (

    select
        accounts.account_id,
        accounts.as_of_date,
        accounts.is_eligible,
        accounts.is_sampled,
        accounts.coverage_pct,
        '{{ feature_set() }}' as feature_set,

        -- Account
        cast({{ days_between(
            "coalesce(contracts.first_movement_date, billing.first_purchase_date, accounts.known_from_date)", "accounts.as_of_date"
        ) }} as bigint) as tenure_days,
        cast({{ days_between("accounts.known_from_date", "accounts.as_of_date") }} as bigint) as account_age_days,
        identities.country,
        attributes.industry,
        attributes.segment,
        attributes.employees,

        -- Contract
        accounts.mrr,
        contracts.plan,
        contracts.product,
        contracts.billing_interval,
        contracts.seats,
        contracts.subscriptions,
        contracts.products,
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

        -- Billing
        billing.failed_payments_45d,
        billing.failed_payments_90d,
        billing.overdue_amount,
        billing.overdue_days,
        billing.unpaid_days,
        billing.late_days_avg_365d,
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

        -- Usage
        usage.events_7d,
        usage.events_28d,
        usage.events_trend_7d_pct,
        usage.events_trend_28d_pct,
        usage.events_trend_112d_pct,
        usage.active_days_7d,
        usage.active_days_28d,
        usage.active_days_trend_112d_pct,
        usage.active_users_28d,
        usage.user_days_trend_112d_pct,
        usage.events_per_user_28d,
        usage.seat_use_28d_pct,
        usage.top_user_share_28d_pct,
        usage.features_used_28d,
        usage.features_new_28d,
        usage.features_used_ever,
        usage.days_since_last_seen,
        usage.silence_ratio,

        -- Support
        support.tickets_open,
        support.tickets_unsolved_120d,
        support.oldest_open_ticket_days,
        support.tickets_30d,
        support.tickets_90d,
        support.urgent_tickets_90d,
        support.reopens_180d,
        support.csat_avg_180d,
        support.csat_last,
        support.first_response_avg_90d_hours,
        support.solution_avg_90d_days,

        -- Surveys
        relationship.nps_last,
        relationship.nps_change,
        relationship.nps_age_days,

        -- Relationship
        relationship.contacts,
        relationship.has_champion,
        relationship.champions_left_180d,
        relationship.contacts_left_90d,
        relationship.unsubscribed_pct,
        relationship.days_since_last_touch,
        relationship.touches_90d,
        relationship.inbound_90d,
        relationship.meetings_90d
    from accounts
    inner join identities on accounts.account_id = identities.account_id
    {% for family in ["contract", "billing", "usage", "support", "relationship"] -%}
        {% set name = "contracts" if family == "contract" else family -%}
        inner join {{ ref("ftr_" ~ family ~ "_measures") }} as {{ name }}
            on
                accounts.account_id = {{ name }}.account_id
                and accounts.as_of_date = {{ name }}.as_of_date
    {% endfor -%}
    left join attributes
        on
            accounts.account_id = attributes.account_id
            and accounts.as_of_date >= attributes.valid_from
            and accounts.as_of_date < attributes.valid_to

)

select * from final
