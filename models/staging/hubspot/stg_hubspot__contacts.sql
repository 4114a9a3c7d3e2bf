{{ config(enabled=is_staged("hubspot", "contacts")) }}

with

source as (

    select * from {{ source("raw_hubspot", "contacts") }}

),

renamed as (

    select {{ as_staged("contacts") }}
    from source

)

select * from renamed
