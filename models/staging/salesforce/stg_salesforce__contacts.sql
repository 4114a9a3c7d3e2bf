{{ config(enabled=is_staged("salesforce", "contacts")) }}

with

source as (

    select * from {{ source("raw_salesforce", "contacts") }}

),

renamed as (

    select {{ as_staged("contacts") }}
    from source

)

select * from renamed
