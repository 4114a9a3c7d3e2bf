{{ config(enabled=is_staged("database", "invoices")) }}

with

source as (

    select * from {{ source("raw_database", "invoices") }}

),

renamed as (

    select {{ as_staged("invoices") }}
    from source

)

select * from renamed
