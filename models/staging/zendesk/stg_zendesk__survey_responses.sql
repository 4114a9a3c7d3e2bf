{{ config(enabled=is_staged("zendesk", "survey_responses")) }}

with

source as (

    select * from {{ source("raw_zendesk", "survey_responses") }}

),

renamed as (

    select {{ as_staged("survey_responses") }}
    from source

)

select * from renamed
