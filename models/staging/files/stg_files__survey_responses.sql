{{ config(enabled=is_staged("files", "survey_responses")) }}

with

source as (

    select * from {{ source("raw_files", "survey_responses") }}

),

renamed as (

    select
        _source as source,
        _stream as stream,
        _account_source as account_source,
        response_id,
        account_id as source_account_id,
        contact_id,
        kind,
        score,
        responded_at,
        comment,
        _loaded_at as loaded_at
    from source

)

select * from renamed
