with

source as (

    select * from {{ source("ledger", "identity_lists") }}

),

renamed as (

    select
        kind,
        value as listed_value
    from source

)

select * from renamed
