{{ config(enabled=is_staged("zendesk", "accounts")) }}

with

source as (

    select * from {{ source("raw_zendesk", "accounts") }}

),

renamed as (

    select {{ as_staged("accounts") }}
    from source

)

select * from renamed
