{{
    config(
        materialized="incremental",
        incremental_strategy="delete+insert",
        unique_key=["as_of_date"],
        on_schema_change="append_new_columns",
    )
}}

{% set reasons = 3 %}
{% set received = [
    "crm_account_id", "churn_probability", "churn_percentile", "churn_tier", "churn_probability_change_7d", "is_fallback",
    "reason_1_code", "reason_1_text", "reason_2_code", "reason_2_text", "reason_3_code", "reason_3_text",
    "change_reason_code", "change_reason_text", "mrr", "mrr_at_risk", "renewal_date", "score_coverage_pct", "model_version",
] %}

-- What a destination would have received, run by run. Only the date of the current scoring is written: others stay as they are.

with

scorings as (

    select * from {{ ref("stg_ml__scorings") }}

),

newest_scoring as (

    select as_of_date
    from scorings
    where is_current

),

-- Each account's last score of a date. One that the date's newest scoring left out was withdrawn: it stopped being a customer
-- between two runs.
every_score as (

    select
        scores.*,
        newest_of_date.as_of_date is null as is_withdrawn,
        row_number() over (partition by scores.account_id, scores.as_of_date order by scores.scored_at desc) as recency
    from {{ ref("stg_ml__churn_scores") }} as scores
    left join scorings as newest_of_date
        on
            scores.as_of_date = newest_of_date.as_of_date
            and scores.scored_at = newest_of_date.scored_at
            and newest_of_date.is_newest_of_date

),

scores as (

    select every_score.*
    from every_score
    inner join newest_scoring on every_score.as_of_date = newest_scoring.as_of_date
    where every_score.recency = 1

),

-- The newest score that is at least a week old, unless it is more than three weeks old.
a_week_before as (

    select
        every_score.account_id,
        {{ last_by("every_score.churn_probability", "every_score.as_of_date") }} as churn_probability
    from every_score
    cross join newest_scoring
    where
        every_score.recency = 1
        and not every_score.is_withdrawn
        and not every_score.is_fallback
        and every_score.as_of_date <= {{ days_after("newest_scoring.as_of_date", -7) }}
        and every_score.as_of_date > {{ days_after("newest_scoring.as_of_date", -21) }}
    group by every_score.account_id

),

reasons as (

    select
        reasons.account_id,
        {% for n in range(1, reasons + 1) -%}
            max(case when reasons.kind = 'up' and reasons.reason_rank = {{ n }} then reasons.reason_code end)
                as reason_{{ n }}_code,
            max(case when reasons.kind = 'up' and reasons.reason_rank = {{ n }} then reasons.reason_text end)
                as reason_{{ n }}_text,
        {% endfor -%}
        max(case when reasons.kind = 'change' and reasons.reason_rank = 1 then reasons.reason_code end) as change_reason_code,
        max(case when reasons.kind = 'change' and reasons.reason_rank = 1 then reasons.reason_text end) as change_reason_text
    from {{ ref("stg_ml__churn_reasons") }} as reasons
    inner join scores
        on
            reasons.account_id = scores.account_id
            and reasons.as_of_date = scores.as_of_date
            and reasons.model_version = scores.model_version
    group by reasons.account_id

),

told as (

    select
        scores.account_id,
        accounts.crm_account_id,
        scores.as_of_date,
        round(scores.churn_probability, 4) as churn_probability,
        round(scores.churn_percentile, 1) as churn_percentile,
        scores.churn_tier,
        case when not scores.is_fallback then round(scores.churn_probability - a_week_before.churn_probability, 4) end
            as churn_probability_change_7d,
        scores.is_fallback,
        {% for n in range(1, reasons + 1) -%}
            reasons.reason_{{ n }}_code,
            reasons.reason_{{ n }}_text,
        {% endfor -%}
        reasons.change_reason_code,
        reasons.change_reason_text,
        scores.mrr,
        {{ money("scores.mrr * round(scores.churn_probability, 4)") }} as mrr_at_risk,
        cast(accounts.renews_at as date) as renewal_date,
        round(scores.score_coverage_pct, 1) as score_coverage_pct,
        coalesce(least(accounts.usage_fresh_at, accounts.invoices_fresh_at), accounts.subscriptions_fresh_at) as data_fresh_at,
        scores.model_version,
        scores.scored_at,
        scores.is_withdrawn
    from scores
    left join {{ ref("accounts") }} as accounts on scores.account_id = accounts.account_id
    left join a_week_before on scores.account_id = a_week_before.account_id
    left join reasons on scores.account_id = reasons.account_id

),

hashed as (

    select
        *,
        {{ row_hash(received) }} as row_hash
    from told

),

{% if is_incremental() %}

    told_before as (

        select
            known.account_id,
            {{ last_by("known.row_hash", "known.as_of_date") }} as row_hash,
            {{ last_by("known.changed_at", "known.as_of_date") }} as changed_at
        from {{ this }} as known
        cross join newest_scoring
        where known.as_of_date < newest_scoring.as_of_date
        group by known.account_id

    ),

{% else %}

    told_before as (

        select
            account_id,
            row_hash,
            scored_at as changed_at
        from hashed
        where 1 = 0

    ),

{% endif %}

final as (

    select
        hashed.account_id,
        hashed.crm_account_id,
        hashed.as_of_date,
        hashed.churn_probability,
        hashed.churn_percentile,
        hashed.churn_tier,
        hashed.churn_probability_change_7d,
        hashed.is_fallback,
        {% for n in range(1, reasons + 1) -%}
            hashed.reason_{{ n }}_code,
            hashed.reason_{{ n }}_text,
        {% endfor -%}
        hashed.change_reason_code,
        hashed.change_reason_text,
        hashed.mrr,
        hashed.mrr_at_risk,
        hashed.renewal_date,
        hashed.score_coverage_pct,
        hashed.data_fresh_at,
        hashed.model_version,
        hashed.scored_at,
        hashed.row_hash,
        case when told_before.row_hash = hashed.row_hash then told_before.changed_at else hashed.scored_at end as changed_at,
        hashed.is_withdrawn
    from hashed
    left join told_before on hashed.account_id = told_before.account_id

)

select * from final
