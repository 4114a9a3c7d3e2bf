with

history as (

    select * from {{ ref("customer_scores_history") }}

),

final as (

    select
        account_id,
        crm_account_id,
        churn_probability,
        churn_tier,
        churn_percentile,
        churn_probability_change_7d,
        is_fallback,
        reason_1_code,
        reason_1_text,
        reason_2_code,
        reason_2_text,
        reason_3_code,
        reason_3_text,
        change_reason_code,
        change_reason_text,
        mrr_usd,
        mrr_at_risk_usd,
        renewal_date,
        coverage_pct,
        data_fresh_at,
        as_of_date,
        model_version,
        scored_at,
        row_hash,
        changed_at
    from history
    where as_of_date = (select max(newest.as_of_date) from history as newest)

)

select * from final
