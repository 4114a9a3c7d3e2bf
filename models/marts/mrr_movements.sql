with

movements as (

    select * from {{ ref("int_mrr_movements_classified") }}

),

final as (

    select
        account_id,
        movement_date,
        movement,
        mrr_delta,
        mrr_before,
        mrr_after
    from movements

)

select * from final
