{{ config(enabled=is_staged("database", "interactions")) }}

with

source as (

    select * from {{ source("raw_database", "interactions") }}

),

renamed as (

    select {{ as_staged("interactions") }}
    from source

)

select * from renamed
