with

history as (

    select * from {{ ref("customer_scores_history") }}

),

newest_scoring as (

    select as_of_date
    from {{ ref("stg_ml__scorings") }}
    where is_current

),

final as (

    select
        history.account_id,
        history.crm_account_id,
        history.churn_probability,
        history.churn_tier,
        history.churn_percentile,
        history.churn_probability_change_7d,
        history.is_fallback,
        history.reason_1_code,
        history.reason_1_text,
        history.reason_2_code,
        history.reason_2_text,
        history.reason_3_code,
        history.reason_3_text,
        history.change_reason_code,
        history.change_reason_text,
        history.mrr,
        history.mrr_at_risk,
        history.renewal_date,
        history.score_coverage_pct,
        history.data_fresh_at,
        history.as_of_date,
        history.model_version,
        history.scored_at,
        history.row_hash,
        history.changed_at
    from history
    inner join newest_scoring on history.as_of_date = newest_scoring.as_of_date
    where not history.is_withdrawn

)

select * from final
