{{ config(enabled=is_staged("posthog", "usage_events")) }}

with

source as (

    select * from {{ source("raw_posthog", "usage_events") }}

),

renamed as (

    select {{ as_staged("usage_events") }}
    from source

)

select * from renamed
