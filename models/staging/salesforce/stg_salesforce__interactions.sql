{{ config(enabled=is_staged("salesforce", "interactions")) }}

with

source as (

    select * from {{ source("raw_salesforce", "interactions") }}

),

renamed as (

    select {{ as_staged("interactions") }}
    from source

)

select * from renamed
