{{ config(enabled=is_staged("database", "contacts")) }}

with

source as (

    select * from {{ source("raw_database", "contacts") }}

),

renamed as (

    select {{ as_staged("contacts") }}
    from source

)

select * from renamed
