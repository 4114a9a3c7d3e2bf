{{ config(enabled=is_staged("files", "usage_events")) }}

with

source as (

    select * from {{ source("raw_files", "usage_events") }}

),

renamed as (

    select {{ as_staged("usage_events") }}
    from source

)

select * from renamed
