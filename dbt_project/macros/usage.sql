{# How usage is counted: here, and nowhere else. #}

{#
  How many uses a row stands for: what its event_count says, else its quantity, else it is one. Nothing, and less than nothing (a
  return, a correction), is no use.
#}
{% macro uses() -%}
    greatest(coalesce(event_count, quantity, 1), 0)
{%- endmacro %}

{# A sum of uses as a whole number. A part of a use is a use: nothing that happened reads as 0. #}
{% macro whole_uses(sum) -%}
    cast(ceil(round({{ sum }}, 6)) as bigint)
{%- endmacro %}
