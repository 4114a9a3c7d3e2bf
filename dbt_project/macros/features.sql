{#
  What the feature models share. A row of ftr_account_snapshots is written once: the macros here find out which dates are still
  to be written, and when the definition changed so that they all are.
#}

{# The table of feature rows as earlier runs left it; none before the first one. #}
{% macro earlier_snapshots() -%}
    {%- if execute -%}
        {{ return(adapter.get_relation(database=target.database, schema="features", identifier="ftr_account_snapshots")) }}
    {%- endif -%}
    {{ return(none) }}
{%- endmacro %}

{# Whether the run was told to read and build everything anew. #}
{% macro is_full_refresh() -%}
    {{ return(flags.FULL_REFRESH) }}
{%- endmacro %}

{#
  A name for the definition of the features: what the models of metrics and features say, without comments and layout, and the rules of
  churn and of ends of periods that they read. Rows of another definition are built anew.
#}
{% macro feature_set() -%}
    {%- if execute -%}
        {%- set definitions = [tojson(var("churn"), sort_keys=true), var("snapshots")["max_accounts"] | string] -%}
        {%- do definitions.extend(var("inclusive_ends", []) | map("join", ".")) -%}
        {%- for node in graph.nodes.values() | sort(attribute="name") -%}
            {%- set is_of_the_step = node.resource_type == "model" and node.fqn[1] in ("metrics", "features") -%}
            {%- if is_of_the_step and node.name not in not_of_the_feature_set() -%}
                {%- do definitions.append(modules.re.sub("--[^\n]*|\\s+", " ", node.raw_code)) -%}
            {%- endif -%}
        {%- endfor -%}
        {{ return(local_md5(definitions | join(";"))[:12]) }}
    {%- endif -%}
    {{ return("unknown") }}
{%- endmacro %}

{# Which dates are built, and what is made of the rows, changes no row. #}
{% macro not_of_the_feature_set() -%}
    {{ return([
        "met_dates", "met_account_history", "met_custom", "ftr_account_snapshots", "ftr_account_labels", "ftr_churn_training",
        "ftr_churn_scoring",
    ]) }}
{%- endmacro %}

{# Whether a moment or date lies in the last `days` days before the as-of date. #}
{% macro in_last(moment, days, as_of_date="dates.as_of_date") -%}
    ({{ moment }} >= {{ days_after(as_of_date, -days) }} and {{ moment }} < {{ as_of_date }})
{%- endmacro %}

{# Change in per cent; NULL where there was nothing before. #}
{% macro change_pct(now, before) -%}
    {{ pct("(" ~ now ~ ") - (" ~ before ~ ")", before) }}
{%- endmacro %}

{# Account and day of everything that counts as activity (churn.activity), for churn by inactivity; a day may come twice. #}
{% macro active_days() -%}
    {%- for activity in var("churn")["activity"] %}
        {%- if activity == "invoices" %}
            select
                account_id,
                cast(issued_at as date) as activity_date
            from {{ ref("int_invoices_united") }}
            where amount > 0
        {%- else %}
            select
                account_id,
                activity_date
            from {{ ref("int_usage_days_united") }}
        {%- endif %}
        {{ "union all" if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{# The columns that the model's own documentation lists, taken from `relation`; what older definitions left there stays behind. #}
{% macro documented_columns(relation, without=[]) -%}
    {%- for column in model.columns if column not in without -%}
        {{ relation }}.{{ column }}{{ ", " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{# The same, with numbers of type double rounded to six decimals (and no minus before a zero). #}
{% macro rounded_columns(relation) -%}
    {%- for name, column in model.columns.items() -%}
        {%- set value = relation ~ "." ~ name -%}
        {{ "round(" ~ value ~ ", 6) + 0 as " ~ name if column.data_type == "double" else value }}{{ ", " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
