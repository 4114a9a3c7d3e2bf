{# Schemas carry the name of their step, the same in every environment: two companies live in two files, not in two prefixes. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
