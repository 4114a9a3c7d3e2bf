{{ config(materialized="view") }}

with

contacts as (

    select * from {{ ref("int_contacts_united") }}

),

final as (

    select
        source,
        stream,
        contact_id,
        account_id,
        email,
        role,
        is_champion,
        created_at,
        is_unsubscribed,
        left_at,
        left_at is null as is_active
    from contacts

)

select * from final
