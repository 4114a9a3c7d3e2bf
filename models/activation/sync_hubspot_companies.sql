{{ config(enabled="sync_hubspot_companies" in var("sync_models", [])) }}

-- Companies that the CRM knows, with HubSpot's internal names.

with

scores as (

    select * from {{ ref("customer_scores") }}

),

final as (

    select
        crm_account_id,
        churn_probability as tenure_churn_probability,
        churn_tier as tenure_churn_tier,
        churn_percentile as tenure_churn_percentile,
        churn_probability_change_7d as tenure_churn_probability_change_7d,
        is_fallback as tenure_churn_is_fallback,
        reason_1_text as tenure_churn_reason_1,
        reason_2_text as tenure_churn_reason_2,
        reason_3_text as tenure_churn_reason_3,
        reason_1_code as tenure_churn_reason_1_code,
        reason_2_code as tenure_churn_reason_2_code,
        reason_3_code as tenure_churn_reason_3_code,
        change_reason_text as tenure_churn_change_reason,
        mrr as tenure_mrr,
        mrr_at_risk as tenure_mrr_at_risk,
        renewal_date as tenure_renewal_date,
        score_coverage_pct as tenure_score_coverage_pct,
        as_of_date as tenure_score_as_of_date,
        model_version as tenure_score_model_version,
        scored_at as tenure_scored_at
    from scores
    where crm_account_id is not null

)

select * from final
