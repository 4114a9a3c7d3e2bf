{{ config(enabled=is_staged("stripe", "invoices")) }}

with

source as (

    select * from {{ source("raw_stripe", "invoices") }}

),

renamed as (

    select {{ as_staged("invoices") }}
    from source

)

select * from renamed
