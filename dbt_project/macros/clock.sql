{#
  The pipeline's "now". `ledger.clock` holds one row, written before dbt runs, so that the date never passes through vars
  (a var that changes daily would make dbt parse everything anew). A fact counts when it happened before `as_of()`.

  The instant is cut to midnight: usage is kept by day, and a day of which half has passed cannot be compared with any other.
#}
{% macro clock_value(column, default) -%}
    {%- if execute -%}
        {%- set clock = run_query("select " ~ column ~ " from ledger.clock") -%}
        {%- if clock.rows | length != 1 -%}
            {{ exceptions.raise_compiler_error("ledger.clock must hold exactly one row, it has " ~ clock.rows | length) }}
        {%- endif -%}
        {{ return(clock.rows[0][0]) }}
    {%- endif -%}
    {{ return(default) }}
{%- endmacro %}

{% macro as_of() -%}
    timestamp '{{ clock_value("cast(cast(as_of_at as date) as varchar(10))", "2000-01-01") }} 00:00:00'
{%- endmacro %}

{% macro as_of_date() -%}
    cast({{ as_of() }} as date)
{%- endmacro %}

{# A replay looks at the past: it must leave no trace in the history that later runs learn from. #}
{% macro is_replay() -%}
    {{ return(clock_value("cast(is_replay as int)", 0) == 1) }}
{%- endmacro %}
