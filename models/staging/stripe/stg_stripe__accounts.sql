{{ config(enabled=is_staged("stripe", "accounts")) }}

with

source as (

    select * from {{ source("raw_stripe", "accounts") }}

),

renamed as (

    select {{ as_staged("accounts") }}
    from source

)

select * from renamed
