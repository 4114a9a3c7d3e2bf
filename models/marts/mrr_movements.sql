with

movements as (

    select * from {{ ref("int_mrr_movements_classified") }}

),

final as (

    select
        account_id,
        movement_date,
        movement,
        mrr_delta_usd,
        mrr_before_usd,
        mrr_after_usd
    from movements

)

select * from final
