{{ config(materialized="view") }}

-- What the model may know of each account on the dates that this run computes: its metrics, and its attributes as they were last
-- seen before the date. ftr_account_snapshots keeps them; a replay only looks at them.

with

metrics as (

    select * from {{ ref("met_accounts") }}

),

identities as (

    select
        account_id,
        country
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
        metrics.*,
        metrics.is_customer as is_eligible,
        '{{ feature_set() }}' as feature_set,
        identities.country,
        attributes.industry,
        attributes.segment,
        attributes.employees
    from metrics
    inner join identities on metrics.account_id = identities.account_id
    left join attributes
        on
            metrics.account_id = attributes.account_id
            and metrics.as_of_date >= attributes.valid_from
            and metrics.as_of_date < attributes.valid_to
    -- The other dates are those of the history of metrics.
    where metrics.is_sampled or metrics.is_scoring_date

)

select {{ documented_columns("final") }}
from final
