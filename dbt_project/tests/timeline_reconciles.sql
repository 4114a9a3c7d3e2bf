-- The timeline tells each event once: as many rows of a kind as there are rows behind it.

with

kinds as (

    select
        kind,
        count(*) as events
    from {{ ref("account_timeline") }}
    group by kind

),

compared as (

    select
        'signup' as kind,
        (select count(*) from {{ ref("accounts") }}) as expected,
        coalesce(sum(case when kind = 'signup' then events end), 0) as events
    from kinds

    union all

    select
        'subscription start' as kind,
        (select count(*) from {{ ref("subscriptions") }}) as expected,
        coalesce(sum(case
            when kind in (
                'trial_started', 'trial_converted', 'subscription_started', 'subscription_renewed',
                'plan_changed', 'seats_changed'
            ) then events
        end), 0) as events
    from kinds

    union all

    select
        'mrr_movement' as kind,
        (select count(*) from {{ ref("mrr_movements") }}) as expected,
        coalesce(sum(case when kind = 'mrr_movement' then events end), 0) as events
    from kinds

    union all

    select
        'invoice' as kind,
        (select count(*) from {{ ref("invoices") }}) as expected,
        coalesce(sum(case when kind in ('invoice_issued', 'credit_note_issued') then events end), 0) as events
    from kinds

    union all

    select
        'ticket_opened' as kind,
        (select count(*) from {{ ref("tickets") }}) as expected,
        coalesce(sum(case when kind = 'ticket_opened' then events end), 0) as events
    from kinds

)

select * from compared
where events <> expected
