-- Which optional columns each source fills, and since when. What needs a column that a source never fills is not measured by it.

with

mapped as (

    select distinct
        source,
        entity,
        column_name
    from {{ ref("stg_ledger__mapped_columns") }}

),

{% set entities = measured_columns() %}
{% for entity, measured in entities.items() if entity != "usage_events" %}

    {{ entity }} as (

        select
            source,
            account_source,
            {% for column, shows in measured.columns.items() -%}
                min(case when {{ column }} is not null then {{ column if shows == "date" else measured.happened_at }} end)
                    as {{ column }}_from,
            {% endfor -%}
            min({{ measured.happened_at }}) as first_fact_at
        from {{ union_staged(entity) }} as staged
        group by source, account_source

    ),

{% endfor %}

-- Usage is far larger than all else, and the first row that names a user is already known.
usage_events as (

    select
        source,
        account_source,
        min(first_identified_at) as user_id_from,
        min(first_fact_at) as first_fact_at
    from {{ ref("int_usage_by_account_features") }}
    group by source, account_source

),

filled as (

    {% for entity, measured in entities.items() -%}
        {%- set is_last_entity = loop.last -%}
        {% for column, shows in measured.columns.items() -%}
            select
                source,
                account_source,
                '{{ entity }}' as entity,
                '{{ column }}' as column_name,
                {{ "true" if shows == "date" else "false" }} as is_date,
                first_fact_at,
                {{ column }}_from as filled_from
            from {{ entity }}
            {{ "union all" if not (is_last_entity and loop.last) }}
        {% endfor %}
    {%- endfor %}

),

final as (

    select
        filled.source,
        filled.account_source,
        filled.entity,
        filled.column_name,
        case when filled.is_date and mapped.source is not null then filled.first_fact_at else filled.filled_from end as measured_from
    from filled
    left join mapped
        on
            filled.source = mapped.source
            and filled.entity = mapped.entity
            and filled.column_name = mapped.column_name

)

select * from final
where measured_from is not null
