with

source as (

    select * from {{ source("ledger", "owner_keys") }}

),

renamed as (

    select hash_key
    from source

)

select * from renamed
