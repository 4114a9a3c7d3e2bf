{{ config(enabled=is_staged("database", "accounts")) }}

with

source as (

    select * from {{ source("raw_database", "accounts") }}

),

renamed as (

    select {{ as_staged("accounts") }}
    from source

)

select * from renamed
