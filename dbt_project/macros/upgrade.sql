{#
  Tables of an earlier version. An incremental table that lacks columns of its model was filled by another definition: it is dropped
  before the run, so that the run builds it as if for the first time.
#}
{% macro drop_outdated_tables() -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values() if node.resource_type == "model" and node.config.on_schema_change == "fail" -%}
            {%- set table = adapter.get_relation(database=target.database, schema=node.schema, identifier=node.name) -%}
            {%- if table is not none -%}
                {%- set known = adapter.get_columns_in_relation(table) | map(attribute="name") | map("lower") | list -%}
                {%- if node.columns | reject("in", known) | list -%}
                    {%- do log(node.name ~ " is of an earlier version and is built again", info=true) -%}
                    {%- do adapter.drop_relation(table) -%}
                {%- endif -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
