-- Which families of facts are measured for which account: some source that delivers the family must know the account.
-- Where none does, the marts say NULL; where one does, the absence of facts is a measured zero.

with

suppliers as (

    select
        account_source,
        entity,
        max(newest_fact_at) as newest_fact_at
    from {{ ref("int_sources_measured") }}
    where entity <> 'accounts'
    group by account_source, entity

),

measured as (

    select
        accounts.account_id,
        suppliers.entity,
        max(suppliers.newest_fact_at) as newest_fact_at
    from {{ ref("int_accounts_matched") }} as accounts
    inner join suppliers on accounts.source = suppliers.account_source
    group by accounts.account_id, suppliers.entity

),

covered as (

    select
        account_id,
        {% for entity in [
            "contacts", "subscriptions", "invoices", "usage_events", "tickets", "survey_responses", "interactions"
        ] -%}
            max(case when entity = '{{ entity }}' then 1 else 0 end) = 1 as has_{{ entity }},
            max(case when entity = '{{ entity }}' then newest_fact_at end) as {{ entity }}_fresh_at,
        {% endfor -%}
        cast(count(*) as double) * 100 / 7 as coverage_pct
    from measured
    group by account_id

)

select * from covered
