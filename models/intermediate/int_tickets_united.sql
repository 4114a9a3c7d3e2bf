{{ config(materialized="view") }}

-- Tickets of all sources as they stood at the as-of date: neither the solution nor the verdict on it was known before it came.

with

tickets as (

    select * from {{ union_staged("tickets") }} as staged

),

accounts as (

    select * from {{ ref("int_accounts_matched") }}

),

united as (

    select
        tickets.source,
        tickets.stream,
        tickets.ticket_id,
        accounts.account_id,
        tickets.opened_at,
        case when tickets.first_response_at < {{ as_of() }} then tickets.first_response_at end as first_response_at,
        case when tickets.solved_at < {{ as_of() }} then tickets.solved_at end as solved_at,
        tickets.priority,
        case when tickets.solved_at >= {{ as_of() }} then 'open' else tickets.status end as status,
        case when tickets.solved_at >= {{ as_of() }} then null else tickets.csat end as csat,
        tickets.reopens,
        -- Since when its source says what became of tickets.
        least(known.solved_at_from, known.status_from) as outcome_known_from,
        tickets.subject,
        tickets.body
    from tickets
    inner join accounts
        on
            tickets.account_source = accounts.source
            and tickets.source_account_id = accounts.source_account_id
    {{ known_columns("tickets", "tickets") }}
    where tickets.opened_at < {{ as_of() }}

)

select * from united
