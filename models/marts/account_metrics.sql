{{ config(enabled=var("custom_metrics", []) | length > 0, contract={"enforced": false}) }}

-- A company's own metrics (metrics.yml) of each account, as of the run.

with

metrics as (

    select * from {{ ref("met_custom") }}

)

select * from metrics
