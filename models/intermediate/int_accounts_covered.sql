-- Which families of facts are measured for which account, and since when which of their columns: some source that delivers them
-- must know the account. Where none does, the marts say NULL; where one does, the absence of facts is a measured zero.

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

filled_columns as (

    select
        account_source,
        entity || '_' || column_name as filled,
        min(measured_from) as measured_from
    from {{ ref("int_columns_measured") }}
    where measured_from < {{ as_of() }}
    group by account_source, entity || '_' || column_name

),

columns_of_accounts as (

    select
        accounts.account_id,
        {% for name in measured_column_names() -%}
            min(case when filled_columns.filled = '{{ name }}' then filled_columns.measured_from end)
                as {{ name }}_from{{ "," if not loop.last }}
        {% endfor %}
    from {{ ref("int_accounts_matched") }} as accounts
    inner join filled_columns on accounts.source = filled_columns.account_source
    group by accounts.account_id

),

families as (

    select
        account_id,
        {% for entity in measured_entities() -%}
            max(case when entity = '{{ entity }}' then 1 else 0 end) = 1 as has_{{ entity }},
            max(case when entity = '{{ entity }}' then newest_fact_at end) as {{ entity }}_fresh_at,
        {% endfor -%}
        cast(count(*) as double) * 100 / {{ measured_entities() | length }} as coverage_pct
    from measured
    group by account_id

),

covered as (

    select
        families.*,
        {% for name in measured_column_names() -%}
            columns_of_accounts.{{ name }}_from{{ "," if not loop.last }}
        {% endfor %}
    from families
    left join columns_of_accounts on families.account_id = columns_of_accounts.account_id

)

select * from covered
