with

source as (

    select * from {{ source("ml", "scorings") }}

),

renamed as (

    select
        as_of_date,
        model_version,
        scored_at,
        accounts,
        row_number() over (partition by as_of_date order by scored_at desc) = 1 as is_newest_of_date,
        row_number() over (order by scored_at desc) = 1 as is_current
    from source

)

select * from renamed
