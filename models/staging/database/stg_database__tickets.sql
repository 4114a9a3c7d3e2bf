{{ config(enabled=is_staged("database", "tickets")) }}

with

source as (

    select * from {{ source("raw_database", "tickets") }}

),

renamed as (

    select {{ as_staged("tickets") }}
    from source

)

select * from renamed
