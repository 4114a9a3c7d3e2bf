{{ config(enabled=is_staged("files", "invoices")) }}

with

source as (

    select * from {{ source("raw_files", "invoices") }}

),

renamed as (

    select {{ as_staged("invoices") }}
    from source

)

select * from renamed
