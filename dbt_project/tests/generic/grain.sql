{# The columns together identify a row, and none of them is NULL. #}
{% test grain(model, columns) %}

{{ config(meta={"description": "The columns of the grain identify a row, and none of them is NULL."}) }}

select
    {{ columns | join(", ") }},
    count(*) as times
from {{ model }}
group by {{ columns | join(", ") }}
having
    count(*) > 1
    {%- for column in columns %}
        or {{ column }} is null
    {%- endfor %}

{% endtest %}
