{{ config(enabled=is_staged("salesforce", "accounts")) }}

with

source as (

    select * from {{ source("raw_salesforce", "accounts") }}

),

renamed as (

    select
        _source as source,
        _stream as stream,
        _account_source as account_source,
        account_id as source_account_id,
        name,
        domain,
        industry,
        segment,
        country,
        employees,
        parent_account_id,
        owner_email,
        created_at,
        crm_account_id,
        merged_into_account_id,
        updated_at,
        _loaded_at as loaded_at
    from source

)

select * from renamed
