with

source as (

    select * from {{ source("ml", "churn_scores") }}

),

renamed as (

    select
        account_id,
        as_of_date,
        probability as churn_probability,
        base_probability as base_churn_probability,
        percentile as churn_percentile,
        tier as churn_tier,
        is_fallback,
        model_version,
        cast(mrr as decimal(18, 2)) as mrr,
        coverage_pct as score_coverage_pct,
        scored_at
    from source

)

select * from renamed
