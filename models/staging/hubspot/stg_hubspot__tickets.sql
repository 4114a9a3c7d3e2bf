{{ config(enabled=is_staged("hubspot", "tickets")) }}

with

source as (

    select * from {{ source("raw_hubspot", "tickets") }}

),

renamed as (

    select
        _source as source,
        _stream as stream,
        _account_source as account_source,
        ticket_id,
        account_id as source_account_id,
        opened_at,
        first_response_at,
        solved_at,
        priority,
        status,
        csat,
        reopens,
        subject,
        body,
        updated_at,
        _loaded_at as loaded_at
    from source

)

select * from renamed
