{{ config(enabled=is_staged("database", "survey_responses")) }}

with

source as (

    select * from {{ source("raw_database", "survey_responses") }}

),

renamed as (

    select {{ as_staged("survey_responses") }}
    from source

)

select * from renamed
