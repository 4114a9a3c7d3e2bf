{{ config(enabled=is_staged("files", "tickets")) }}

with

source as (

    select * from {{ source("raw_files", "tickets") }}

),

renamed as (

    select {{ as_staged("tickets") }}
    from source

)

select * from renamed
