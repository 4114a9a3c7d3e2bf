{{ config(enabled=is_staged("stripe", "invoices")) }}

with

source as (

    select * from {{ source("raw_stripe", "invoices") }}

),

renamed as (

    select
        _source as source,
        _stream as stream,
        _account_source as account_source,
        invoice_id,
        account_id as source_account_id,
        issued_at,
        due_at,
        paid_at,
        amount_usd,
        status,
        failed_payments,
        updated_at,
        _loaded_at as loaded_at
    from source

)

select * from renamed
