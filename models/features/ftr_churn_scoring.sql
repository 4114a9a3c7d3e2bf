{{ config(materialized="view") }}

-- depends_on: {{ ref("ftr_account_measures") }}
-- Who is scored: the accounts of the run's own date that the model may judge. A replay has kept no rows and looks at its own.

with

snapshots as (

    select * from {{ ref("ftr_account_measures" if is_replay() else "ftr_account_snapshots") }}

)

select {{ documented_columns("snapshots") }}
from snapshots
where is_eligible and as_of_date = {{ as_of_date() }}
