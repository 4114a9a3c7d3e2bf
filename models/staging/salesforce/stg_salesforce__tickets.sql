{{ config(enabled=is_staged("salesforce", "tickets")) }}

with

source as (

    select * from {{ source("raw_salesforce", "tickets") }}

),

renamed as (

    select {{ as_staged("tickets") }}
    from source

)

select * from renamed
