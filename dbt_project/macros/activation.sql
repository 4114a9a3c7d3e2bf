{# What destinations share that take any field under any name: the whole score, and nothing that only one of them wants. #}

{% macro every_score() -%}
with

scores as (

    select * from {{ ref("customer_scores") }}

),

final as (

    select
        account_id,
        churn_probability,
        churn_tier,
        churn_percentile,
        churn_probability_change_7d,
        is_fallback as churn_is_fallback,
        reason_1_text as churn_reason_1,
        reason_2_text as churn_reason_2,
        reason_3_text as churn_reason_3,
        reason_1_code as churn_reason_1_code,
        reason_2_code as churn_reason_2_code,
        reason_3_code as churn_reason_3_code,
        change_reason_text as churn_change_reason,
        mrr,
        mrr_at_risk,
        renewal_date,
        score_coverage_pct,
        as_of_date as score_as_of_date,
        model_version as score_model_version,
        scored_at
    from scores

)

select * from final
{%- endmacro %}
