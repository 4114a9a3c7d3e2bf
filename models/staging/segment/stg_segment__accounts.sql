{{ config(enabled=is_staged("segment", "accounts")) }}

with

source as (

    select * from {{ source("raw_segment", "accounts") }}

),

renamed as (

    select {{ as_staged("accounts") }}
    from source

)

select * from renamed
