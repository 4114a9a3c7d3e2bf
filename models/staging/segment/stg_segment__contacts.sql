{{ config(enabled=is_staged("segment", "contacts")) }}

with

source as (

    select * from {{ source("raw_segment", "contacts") }}

),

renamed as (

    select {{ as_staged("contacts") }}
    from source

)

select * from renamed
