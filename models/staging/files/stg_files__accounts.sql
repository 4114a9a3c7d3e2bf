{{ config(enabled=is_staged("files", "accounts")) }}

with

source as (

    select * from {{ source("raw_files", "accounts") }}

),

renamed as (

    select {{ as_staged("accounts") }}
    from source

)

select * from renamed
