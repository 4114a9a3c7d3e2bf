{{ config(enabled=is_staged("hubspot", "interactions")) }}

with

source as (

    select * from {{ source("raw_hubspot", "interactions") }}

),

renamed as (

    select {{ as_staged("interactions") }}
    from source

)

select * from renamed
