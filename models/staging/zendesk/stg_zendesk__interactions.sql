{{ config(enabled=is_staged("zendesk", "interactions")) }}

with

source as (

    select * from {{ source("raw_zendesk", "interactions") }}

),

renamed as (

    select {{ as_staged("interactions") }}
    from source

)

select * from renamed
