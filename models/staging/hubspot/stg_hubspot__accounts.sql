{{ config(enabled=is_staged("hubspot", "accounts")) }}

with

source as (

    select * from {{ source("raw_hubspot", "accounts") }}

),

renamed as (

    select {{ as_staged("accounts") }}
    from source

)

select * from renamed
