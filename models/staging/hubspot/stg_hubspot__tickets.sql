{{ config(enabled=is_staged("hubspot", "tickets")) }}

with

source as (

    select * from {{ source("raw_hubspot", "tickets") }}

),

renamed as (

    select {{ as_staged("tickets") }}
    from source

)

select * from renamed
