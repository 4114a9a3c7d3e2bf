{{ config(materialized="view") }}

with

accounts as (

    select * from {{ ref("int_accounts_united") }}

),

periods as (

    select * from {{ ref("int_subscriptions_linked") }}

),

movements as (

    select * from {{ ref("mrr_movements") }}

),

invoices as (

    select * from {{ ref("invoices") }}

),

tickets as (

    select * from {{ ref("tickets") }}

),

contacts as (

    select * from {{ ref("contacts") }}

),

features as (

    select
        matched.account_id,
        features.event_name,
        min(features.first_used_at) as first_used_at
    from {{ ref("int_usage_by_account_features") }} as features
    inner join {{ ref("int_accounts_matched") }} as matched
        on
            features.account_source = matched.source
            and features.source_account_id = matched.source_account_id
    where features.first_used_at < {{ as_of() }}
    group by matched.account_id, features.event_name

),

-- Titles are made of codes and numbers only: no names, addresses or text that somebody wrote.
{% set nothing = "cast(null as decimal(18, 2))" %}

events as (

    select
        account_id,
        created_at as event_at,
        'signup' as kind,
        leading_source as source,
        account_id as reference_id,
        cast(null as string) as title,
        {{ nothing }} as amount
    from accounts

    union all

    select
        account_id,
        started_at as event_at,
        started_kind as kind,
        source,
        subscription_id as reference_id,
        coalesce(plan, product) as title,
        mrr as amount
    from periods

    union all

    select
        account_id,
        ended_at as event_at,
        case when is_trial then 'trial_ended' else 'subscription_ended' end as kind,
        source,
        subscription_id as reference_id,
        coalesce(end_reason, plan, product) as title,
        mrr as amount
    from periods
    where ended_at is not null and not is_continued

    union all

    select
        account_id,
        cast(movement_date as timestamp) as event_at,
        'mrr_movement' as kind,
        cast(null as string) as source,
        movement as reference_id,
        movement as title,
        mrr_delta as amount
    from movements

    union all

    select
        account_id,
        issued_at as event_at,
        case when amount < 0 then 'credit_note_issued' else 'invoice_issued' end as kind,
        source,
        invoice_id as reference_id,
        status as title,
        amount
    from invoices

    union all

    select
        account_id,
        paid_at as event_at,
        'invoice_paid_late' as kind,
        source,
        invoice_id as reference_id,
        case when failed_payments > 0 then 'after failed payments' end as title,
        amount
    from invoices
    where paid_at is not null and late_days > 0

    union all

    -- An invoice turns into an event of its own on the day after it was due and still open.
    select
        account_id,
        {{ a_day_after("due_at") }} as event_at,
        'invoice_overdue' as kind,
        source,
        invoice_id as reference_id,
        case when failed_payments > 0 then 'after failed payments' end as title,
        amount
    from invoices
    where late_days > 0 and {{ a_day_after("due_at") }} < {{ as_of() }}

    union all

    -- Sources count failed payments without dating them; the first attempt falls on the day of issue.
    select
        account_id,
        issued_at as event_at,
        'payment_failed' as kind,
        source,
        invoice_id as reference_id,
        cast(failed_payments as string) as title,
        amount
    from invoices
    where failed_payments > 0

    union all

    select
        account_id,
        opened_at as event_at,
        'ticket_opened' as kind,
        source,
        ticket_id as reference_id,
        priority as title,
        {{ nothing }} as amount
    from tickets

    union all

    select
        account_id,
        solved_at as event_at,
        'ticket_solved' as kind,
        source,
        ticket_id as reference_id,
        case when csat is not null then 'csat ' || cast(cast(csat as bigint) as string) end as title,
        {{ nothing }} as amount
    from tickets
    where solved_at is not null

    union all

    select
        account_id,
        responded_at as event_at,
        'survey_answered' as kind,
        source,
        response_id as reference_id,
        coalesce(kind, 'survey') || ' ' || cast(cast(score as bigint) as string) as title,
        {{ nothing }} as amount
    from {{ ref("int_survey_responses_united") }}

    union all

    select
        account_id,
        occurred_at as event_at,
        'interaction' as kind,
        source,
        interaction_id as reference_id,
        coalesce(channel, direction) as title,
        {{ nothing }} as amount
    from {{ ref("int_interactions_united") }}

    union all

    select
        account_id,
        created_at as event_at,
        'contact_joined' as kind,
        source,
        contact_id as reference_id,
        role as title,
        {{ nothing }} as amount
    from contacts
    where created_at is not null

    union all

    select
        account_id,
        left_at as event_at,
        'contact_left' as kind,
        source,
        contact_id as reference_id,
        role as title,
        {{ nothing }} as amount
    from contacts
    where left_at is not null

    union all

    select
        account_id,
        first_used_at as event_at,
        'feature_first_used' as kind,
        cast(null as string) as source,
        event_name as reference_id,
        event_name as title,
        {{ nothing }} as amount
    from features

),

final as (

    select
        account_id,
        event_at,
        kind,
        source,
        reference_id,
        title,
        amount
    from events

)

select * from final
