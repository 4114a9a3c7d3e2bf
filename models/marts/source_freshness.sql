{{ config(materialized="view") }}

with

measured as (

    select * from {{ ref("int_sources_measured") }}

),

final as (

    select
        source,
        account_source,
        entity,
        facts,
        newest_fact_at,
        newest_load_at,
        cast({{ days_between("newest_fact_at", as_of()) }} as bigint) as newest_fact_days
    from measured

)

select * from final
