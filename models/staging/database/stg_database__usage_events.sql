{{ config(enabled=is_staged("database", "usage_events")) }}

with

source as (

    select * from {{ source("raw_database", "usage_events") }}

),

renamed as (

    select
        _source as source,
        _stream as stream,
        _account_source as account_source,
        event_id,
        account_id as source_account_id,
        user_id,
        event_name,
        occurred_at,
        quantity,
        product,
        _loaded_at as loaded_at
    from source

)

select * from renamed
