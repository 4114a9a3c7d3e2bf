{{ config(enabled=is_staged("files", "subscriptions")) }}

with

source as (

    select * from {{ source("raw_files", "subscriptions") }}

),

renamed as (

    select {{ as_staged("subscriptions") }}
    from source

)

select * from renamed
