{{ config(enabled=is_staged("files", "contacts")) }}

with

source as (

    select * from {{ source("raw_files", "contacts") }}

),

renamed as (

    select {{ as_staged("contacts") }}
    from source

)

select * from renamed
