{{
    config(
        materialized="incremental",
        incremental_strategy="delete+insert",
        unique_key="as_of_date",
        on_schema_change="append_new_columns",
        full_refresh=false,
    )
}}

-- The features as they were when an account was scored or learnt from. A replay looks at the past and leaves no trace here.
-- Sums of floating point numbers depend on their order in the last digits: rounded, the same facts give the same row.

with

measures as (

    select * from {{ ref("ftr_account_measures") }}

)

select {{ rounded_columns("measures") }}
from measures
{% if is_replay() %}
    where 1 = 0
{% endif %}
