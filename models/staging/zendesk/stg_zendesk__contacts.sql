{{ config(enabled=is_staged("zendesk", "contacts")) }}

with

source as (

    select * from {{ source("raw_zendesk", "contacts") }}

),

renamed as (

    select {{ as_staged("contacts") }}
    from source

)

select * from renamed
