{{ config(enabled=is_staged("stripe", "subscriptions")) }}

with

source as (

    select * from {{ source("raw_stripe", "subscriptions") }}

),

renamed as (

    select {{ as_staged("subscriptions") }}
    from source

)

select * from renamed
