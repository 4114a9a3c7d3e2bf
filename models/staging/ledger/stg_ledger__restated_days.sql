with

source as (

    select * from {{ source("ledger", "restated_days") }}

),

renamed as (

    select
        source,
        account_source,
        account_id as source_account_id,
        activity_date,
        loaded_at
    from source

)

select * from renamed
