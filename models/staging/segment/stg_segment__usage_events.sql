{{ config(enabled=is_staged("segment", "usage_events")) }}

with

source as (

    select * from {{ source("raw_segment", "usage_events") }}

),

renamed as (

    select {{ as_staged("usage_events") }}
    from source

)

select * from renamed
