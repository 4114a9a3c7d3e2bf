{{ config(enabled=is_staged("files", "interactions")) }}

with

source as (

    select * from {{ source("raw_files", "interactions") }}

),

renamed as (

    select {{ as_staged("interactions") }}
    from source

)

select * from renamed
