{{ config(enabled=is_staged("database", "subscriptions")) }}

with

source as (

    select * from {{ source("raw_database", "subscriptions") }}

),

renamed as (

    select {{ as_staged("subscriptions") }}
    from source

)

select * from renamed
