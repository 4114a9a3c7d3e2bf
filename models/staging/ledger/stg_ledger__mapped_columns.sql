with

source as (

    select * from {{ source("ledger", "mapped_columns") }}

),

renamed as (

    select
        source,
        stream,
        entity,
        column_name
    from source

)

select * from renamed
