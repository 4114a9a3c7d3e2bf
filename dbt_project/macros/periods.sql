{#
  The end of a period, exclusive, as everywhere in the models. An end in the last minute of a day means the whole day, and is the
  next midnight. `ends: inclusive` of a stream says that its ends are last days: the end is a day later.
#}
{% macro exclusive_end(ended_at) -%}
    {%- set next_day = "cast(" ~ dbt.dateadd("minute", 1, ended_at) ~ " as date)" -%}
    case
        when {{ next_day }} > cast({{ ended_at }} as date) then cast({{ next_day }} as timestamp)
        {%- for stream in var("inclusive_ends", []) %}
            when _source = '{{ stream[0] }}' and _stream = '{{ stream[1] }}'
                then cast({{ dbt.dateadd("day", 1, ended_at) }} as timestamp)
        {%- endfor %}
        else {{ ended_at }}
    end
{%- endmacro %}
