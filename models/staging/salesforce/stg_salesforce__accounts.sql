{{ config(enabled=is_staged("salesforce", "accounts")) }}

with

source as (

    select * from {{ source("raw_salesforce", "accounts") }}

),

renamed as (

    select {{ as_staged("accounts") }}
    from source

)

select * from renamed
