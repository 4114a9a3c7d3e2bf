with

source as (

    select * from {{ source("ml", "churn_reasons") }}

),

renamed as (

    select
        account_id,
        as_of_date,
        model_version,
        kind,
        rank as reason_rank,
        code as reason_code,
        text as reason_text,
        contribution
    from source

)

select * from renamed
