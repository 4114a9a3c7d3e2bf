{{ config(enabled=is_staged("posthog", "accounts")) }}

with

source as (

    select * from {{ source("raw_posthog", "accounts") }}

),

renamed as (

    select {{ as_staged("accounts") }}
    from source

)

select * from renamed
