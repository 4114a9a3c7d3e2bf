{{ config(enabled=is_staged("database", "usage_events")) }}

with

source as (

    select * from {{ source("raw_database", "usage_events") }}

),

renamed as (

    select {{ as_staged("usage_events") }}
    from source

)

select * from renamed
