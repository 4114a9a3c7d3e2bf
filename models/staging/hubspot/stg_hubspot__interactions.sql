{{ config(enabled=is_staged("hubspot", "interactions")) }}

with

source as (

    select * from {{ source("raw_hubspot", "interactions") }}

),

renamed as (

    select
        _source as source,
        _stream as stream,
        _account_source as account_source,
        interaction_id,
        account_id as source_account_id,
        contact_id,
        channel,
        direction,
        occurred_at,
        subject,
        body,
        _loaded_at as loaded_at
    from source

)

select * from renamed
