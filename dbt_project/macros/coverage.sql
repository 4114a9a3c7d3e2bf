{#
  What is measured. A metric names what it needs in the `needs` of its `meta`: an entity of the contract, or a column of one. Where no
  source of the account delivers that, it is NULL; 0 is a measurement.
#}

{# The families of facts, of which accounts have a coverage. #}
{% macro measured_entities() -%}
    {{ return([
        "contacts", "subscriptions", "invoices", "usage_events", "tickets", "survey_responses", "interactions"
    ]) }}
{%- endmacro %}

{#
  The columns without which a count would be a 0 that nobody measured, by entity: the date of a fact, and for each column what its
  value shows. Of an `attribute` a source that never fills it knows nothing. A `date` is empty until something happens, so a source
  that maps it (ledger.mapped_columns) measures it from its first fact on; where no mapping is known, from the first such date.
#}
{% macro measured_columns() -%}
    {{ return({
        "contacts": {
            "happened_at": "coalesce(created_at, timestamp '1970-01-01 00:00:00')",
            "columns": {"role": "attribute", "left_at": "date"},
        },
        "subscriptions": {
            "happened_at": "started_at",
            "columns": {"product": "attribute", "plan": "attribute", "ended_at": "date"},
        },
        "invoices": {
            "happened_at": "issued_at",
            "columns": {"due_at": "attribute", "paid_at": "date", "status": "attribute", "failed_payments": "attribute"},
        },
        "usage_events": {"columns": {"user_id": "attribute"}},
        "tickets": {
            "happened_at": "opened_at",
            "columns": {"solved_at": "date", "status": "attribute", "priority": "attribute", "reopens": "attribute"},
        },
        "interactions": {
            "happened_at": "occurred_at",
            "columns": {"channel": "attribute", "direction": "attribute"},
        },
    }) }}
{%- endmacro %}

{# The same as names: contacts_role, contacts_left_at and so on. #}
{% macro measured_column_names() -%}
    {%- set names = [] -%}
    {%- for entity, measured in measured_columns().items() -%}
        {%- for column in measured.columns -%}
            {%- do names.append(entity ~ "_" ~ column) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(names) }}
{%- endmacro %}

{#
  A count is NULL where nobody measures it, and 0 where somebody does and there is none. What `needs` a column besides is NULL where no
  source of the account fills it, whatever was counted without it.
#}
{% macro measured(value, is_measured, needs=none) -%}
    case {{ "when not coalesce(" ~ needs ~ ", false) then null " if needs }}when {{ value }} is not null then {{ value }} when {{ is_measured }} then 0 end
{%- endmacro %}

{# Since when the source of each row measures some columns of an entity: a join for `facts`, as alias `known`. #}
{% macro known_columns(entity, facts) -%}
    left join (
        select
            source,
            account_source,
            {% for column in measured_columns()[entity].columns -%}
                min(case when column_name = '{{ column }}' then measured_from end) as {{ column }}_from{{ "," if not loop.last }}
            {% endfor %}
        from {{ ref("int_columns_measured") }}
        where entity = '{{ entity }}'
        group by source, account_source
    ) as known
        on
            {{ facts }}.source = known.source
            and {{ facts }}.account_source = known.account_source
{%- endmacro %}
