{% set grace_days = var("churn")["grace_days"] %}

-- What accounts have signed that has not begun: a contract that starts when the running one ends is its renewal. Sources say when
-- a contract starts, not when it was signed: what a run sees now is known now, and of a past date nobody knows what was signed by
-- then. So a replay has no row here, and features read what each run wrote into history.accounts_history.

with

covered as (

    select account_id
    from {{ ref("int_accounts_covered") }}
    where has_subscriptions

),

-- An end that lies ahead is part of what is signed, unlike in int_subscriptions_united.
periods as (

    select
        account_id,
        started_at,
        mrr,
        started_at >= {{ as_of() }} as is_ahead,
        coalesce(ended_at, term_ends_at, renews_at) as ends_at,
        coalesce(term_ends_at, renews_at) as renews_at
    from {{ ref("int_subscriptions_converted") }}
    where
        mrr > 0
        and not is_trial
        and (ended_at is null or ended_at >= {{ as_of() }})

),

-- A contract without an end, and one that ran on beyond the end that was agreed, may be followed by another at any time.
running as (

    select
        account_id,
        max(case when ends_at >= {{ as_of() }} then ends_at else timestamp '9999-01-01 00:00:00' end) as ends_at
    from periods
    where not is_ahead
    group by account_id

),

firsts as (

    select
        account_id,
        min(started_at) as next_started_at
    from periods
    where is_ahead
    group by account_id

),

nexts as (

    select
        firsts.account_id,
        firsts.next_started_at,
        sum(periods.mrr) as next_mrr,
        min(periods.renews_at) as next_renews_at
    from firsts
    inner join periods
        on
            firsts.account_id = periods.account_id
            and cast(firsts.next_started_at as date) = cast(periods.started_at as date)
    where periods.is_ahead
    group by firsts.account_id, firsts.next_started_at

),

signed as (

    select
        covered.account_id,
        coalesce(nexts.next_started_at <= {{ days_after("running.ends_at", grace_days) }}, false) as has_signed_renewal,
        nexts.next_started_at,
        {{ money("nexts.next_mrr") }} as next_mrr,
        nexts.next_renews_at
    from covered
    left join running on covered.account_id = running.account_id
    left join nexts on covered.account_id = nexts.account_id
    {% if is_replay() -%}
        where 1 = 0
    {%- endif %}

)

select * from signed
