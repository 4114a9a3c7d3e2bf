{{
    config(
        materialized="incremental",
        incremental_strategy="delete+insert",
        unique_key=["account_id", "as_of_date"],
        on_schema_change="append_new_columns",
        full_refresh=false,
        post_hook=["{{ forget_metrics() }}"],
    )
}}

-- The metrics of each account over time: each of the last days, and before them one date a week (met_dates says which). A run
-- computes the dates that are new, and those of an account of which facts came in later. A replay leaves no trace here.

with

metrics as (

    select * from {{ ref("met_accounts") }}

),

dates as (

    select as_of_date
    from {{ ref("met_dates") }}
    where is_kept_date

),

loaded as (

    {{ newest_load() }}

),

final as (

    select
        metrics.*,
        '{{ feature_set() }}' as metric_set,
        loaded.facts_loaded_at
    from metrics
    inner join dates on metrics.as_of_date = dates.as_of_date
    cross join loaded

)

select {{ rounded_columns("final") }}
from final
{% if is_replay() %}
    where 1 = 0
{% endif %}
