{{ config(enabled=is_staged("files", "survey_responses")) }}

with

source as (

    select * from {{ source("raw_files", "survey_responses") }}

),

renamed as (

    select {{ as_staged("survey_responses") }}
    from source

)

select * from renamed
