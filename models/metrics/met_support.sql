-- What an account asks of support, as of each date. A ticket is open until the moment it was solved. The verdict on it, and
-- whether it was opened again, have no moment of their own: they count from three days after the solution.
{% set known_after_days = 3 %}

with

accounts as (

    select
        account_id,
        as_of_date,
        has_tickets,
        has_tickets_solved_at,
        has_tickets_status,
        has_tickets_priority,
        has_tickets_reopens
    from {{ ref("met_account_dates") }}

),

tickets as (

    select
        tickets.account_id,
        dates.as_of_date,
        tickets.opened_at,
        {{ days_between("tickets.opened_at", "dates.as_of_date") }} as opened_days_ago,
        tickets.csat,
        tickets.reopens,
        coalesce(tickets.priority in ('high', 'urgent'), false) as is_urgent,
        case when tickets.first_response_at < dates.as_of_date then tickets.first_response_at end as first_response_at,
        case when tickets.solved_at < dates.as_of_date then tickets.solved_at end as solved_at,
        -- Without the moment of its solution, nobody can say since when a closed ticket has been closed.
        coalesce(tickets.outcome_known_from < dates.as_of_date, false)
        and not coalesce(tickets.solved_at < dates.as_of_date, false)
        and not coalesce(tickets.solved_at is null and tickets.status in ('solved', 'closed'), false) as is_open,
        coalesce(tickets.solved_at < {{ days_after("dates.as_of_date", -known_after_days) }}, false) as is_rated
    from {{ ref("int_tickets_united") }} as tickets
    inner join {{ ref("met_dates") }} as dates
        on
            tickets.opened_at < dates.as_of_date
            -- Of older tickets than a year, only those that are still open matter.
            and (
                tickets.opened_at >= {{ days_after("dates.as_of_date", -365) }}
                or tickets.solved_at is null
                or tickets.solved_at >= dates.as_of_date
            )

),

measures as (

    select
        account_id,
        as_of_date,
        {{ count_where("is_open") }} as tickets_open,
        {{ count_where("is_open and opened_days_ago > 3 and opened_days_ago <= 120") }} as tickets_unsolved_120d,
        max(case when is_open then opened_days_ago else 0 end) as oldest_open_ticket_days,
        {{ count_where("opened_days_ago <= 30") }} as tickets_opened_30d,
        {{ count_where("opened_days_ago <= 90") }} as tickets_opened_90d,
        {{ count_where("is_urgent and opened_days_ago <= 90") }} as urgent_tickets_90d,
        sum(case when is_rated and opened_days_ago <= 180 then coalesce(reopens, 0) else 0 end)
            as reopens_180d,
        avg(case when is_rated and opened_days_ago <= 180 then csat end) as csat_avg_180d,
        {{ last_by("case when is_rated then csat end", "opened_at") }} as csat_last,
        avg(case when opened_days_ago <= 90 then {{ hours_between("opened_at", "first_response_at") }} end)
            as first_response_avg_90d_hours,
        avg(case when opened_days_ago <= 90 then {{ hours_between("opened_at", "solved_at") }} / 24 end)
            as solution_avg_90d_days
    from tickets
    group by account_id, as_of_date

),

final as (

    select
        accounts.account_id,
        accounts.as_of_date,
        {% for count, needs in {
            "tickets_open": "accounts.has_tickets_solved_at or accounts.has_tickets_status",
            "tickets_unsolved_120d": "accounts.has_tickets_solved_at or accounts.has_tickets_status",
            "oldest_open_ticket_days": "accounts.has_tickets_solved_at or accounts.has_tickets_status",
            "tickets_opened_30d": none,
            "tickets_opened_90d": none,
            "urgent_tickets_90d": "accounts.has_tickets_priority",
            "reopens_180d": "accounts.has_tickets_reopens and accounts.has_tickets_solved_at",
        }.items() -%}
            cast({{ measured("measures." ~ count, "accounts.has_tickets", needs) }} as bigint) as {{ count }},
        {% endfor -%}
        measures.csat_avg_180d,
        measures.csat_last,
        measures.first_response_avg_90d_hours,
        measures.solution_avg_90d_days
    from accounts
    left join measures
        on
            accounts.account_id = measures.account_id
            and accounts.as_of_date = measures.as_of_date

)

select * from final
