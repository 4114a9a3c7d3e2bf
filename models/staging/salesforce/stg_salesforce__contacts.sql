{{ config(enabled=is_staged("salesforce", "contacts")) }}

with

source as (

    select * from {{ source("raw_salesforce", "contacts") }}

),

renamed as (

    select
        _source as source,
        _stream as stream,
        _account_source as account_source,
        contact_id,
        account_id as source_account_id,
        email,
        role,
        created_at,
        is_unsubscribed,
        left_at,
        updated_at,
        _loaded_at as loaded_at
    from source

)

select * from renamed
