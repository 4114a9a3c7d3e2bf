{# What keeps the history of metrics: which facts there are, which dates are kept, and what goes. #}

{# The table of metrics as earlier runs left it; none before the first one. #}
{% macro earlier_history() -%}
    {%- if execute -%}
        {{ return(adapter.get_relation(database=target.database, schema="metrics", identifier="met_account_history")) }}
    {%- endif -%}
    {{ return(none) }}
{%- endmacro %}

{# When a fact of an account happened, by its entity. #}
{% macro happened_at(entity) -%}
    {{- {
        "contacts": "coalesce(created_at, timestamp '1970-01-01 00:00:00')",
        "subscriptions": "started_at",
        "invoices": "issued_at",
        "usage_events": "occurred_at",
        "tickets": "opened_at",
        "survey_responses": "responded_at",
        "interactions": "occurred_at",
    }[entity] -}}
{%- endmacro %}

{# When the newest of the facts was loaded. #}
{% macro newest_load() -%}
    select max(loaded_at) as facts_loaded_at
    from (
        {% for entity in measured_entities() -%}
            select max(loaded_at) as loaded_at
            from {{ union_staged(entity) }} as facts
            {{ "union all" if not loop.last }}
        {% endfor %}
    ) as loads
{%- endmacro %}

{# Whether a date is one of those that are kept for ever: one in each week, and each time another day of the week. #}
{% macro is_weekly_date(day) -%}
    {{ days_between("date '1970-01-05'", day) }} % 49 % 8 = 0
{%- endmacro %}

{# Whether a date is one of the last days, of which each is kept. #}
{% macro is_daily_date(day) -%}
    {{ day }} > {{ days_after(as_of_date(), -var("metrics")["daily_days"]) }}
{%- endmacro %}

{# What the history keeps no longer: days that are too old, and accounts that are no more (merged, erased, deleted). #}
{% macro forget_metrics() -%}
    {% if is_replay() -%}
        select 1
    {%- else -%}
        delete from {{ this }}
        where
            (not {{ is_weekly_date("as_of_date") }} and not {{ is_daily_date("as_of_date") }})
            or account_id not in (select account_id from {{ ref("int_accounts_united") }})
            or metric_set <> '{{ feature_set() }}'
    {%- endif %}
{%- endmacro %}
