-- Every staged fact before the as-of date arrives in its mart exactly once, with its amount: joins neither lose nor multiply
-- rows. Only facts of accounts that their source says were created later stay outside.
{{
    config(
        meta={
            "dagster": {"ref": {"name": "subscriptions"}},
            "description": "Every staged fact before the clock is in its mart once, with its amount."
        }
    )
}}
{% set facts = [
    ("contacts", "created_at", "0", "contacts", "0"),
    ("subscriptions", "started_at", "case when is_trial then 0 else mrr end", "subscriptions", "mrr"),
    ("invoices", "issued_at", "amount", "invoices", "amount"),
    ("tickets", "opened_at", "0", "tickets", "0"),
    ("survey_responses", "responded_at", "0", "int_survey_responses_united", "0"),
    ("interactions", "occurred_at", "0", "int_interactions_united", "0"),
] %}

with

later_accounts as (

    select distinct
        staged.source,
        staged.source_account_id
    from {{ union_staged("accounts") }} as staged
    left join {{ ref("int_accounts_matched") }} as matched
        on
            staged.source = matched.source
            and staged.source_account_id = matched.source_account_id
    where staged.created_at >= {{ as_of() }} and matched.account_id is null

),

compared as (

    {% for entity, happened_at, staged_amount, mart, mart_amount in facts %}
        select
            '{{ entity }}' as entity,
            (select count(*) from {{ ref(mart) }}) as mart_rows,
            (select coalesce(sum({{ mart_amount }}), 0) from {{ ref(mart) }}) as mart_amount,
            count(*) as staged_rows,
            coalesce(sum({{ staged_amount }}), 0) as staged_amount
        from {{ union_staged(entity) }} as staged
        left join later_accounts
            on
                staged.account_source = later_accounts.source
                and staged.source_account_id = later_accounts.source_account_id
        where
            coalesce(staged.{{ happened_at }} < {{ as_of() }}, true)
            and later_accounts.source is null

        union all
    {% endfor %}

    -- Usage is counted before accounts are matched.
    select
        'usage_events' as entity,
        (
            select coalesce(sum(days.facts), 0) from {{ ref("int_usage_by_account_days") }} as days
            where days.activity_date < {{ as_of_date() }}
        ) as mart_rows,
        0 as mart_amount,
        count(*) as staged_rows,
        0 as staged_amount
    from {{ union_staged("usage_events") }} as staged
    where staged.occurred_at < {{ as_of() }}

)

select * from compared
where mart_rows <> staged_rows or mart_amount <> staged_amount
