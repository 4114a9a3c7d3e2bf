{{ config(materialized="view") }}

with

tickets as (

    select * from {{ ref("int_tickets_united") }}

),

final as (

    select
        source,
        stream,
        ticket_id,
        account_id,
        opened_at,
        first_response_at,
        solved_at,
        priority,
        status,
        csat,
        reopens,
        solved_at is null and coalesce(status, 'open') not in ('solved', 'closed') as is_open,
        cast({{ dbt.datediff("opened_at", "first_response_at", "minute") }} as double) / 60 as first_response_hours,
        cast({{ dbt.datediff("opened_at", "solved_at", "minute") }} as double) / 60 as solution_hours,
        subject
    from tickets

)

select * from final
