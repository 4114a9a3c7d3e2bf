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
        -- Of a source that says nothing of solutions, nobody knows.
        case
            when outcome_known_from < {{ as_of() }}
                then solved_at is null and coalesce(status, 'open') not in ('solved', 'closed')
        end as is_open,
        {{ hours_between("opened_at", "first_response_at") }} as first_response_hours,
        {{ hours_between("opened_at", "solved_at") }} as solution_hours,
        subject
    from tickets

)

select * from final
