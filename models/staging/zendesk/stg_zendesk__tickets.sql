{{ config(enabled=is_staged("zendesk", "tickets")) }}

with

source as (

    select * from {{ source("raw_zendesk", "tickets") }}

),

renamed as (

    select {{ as_staged("tickets") }}
    from source

)

select * from renamed
