{#
  The customer data contract for dbt: entity -> columns with types, in the order of core/contract.py (a test compares them).
  Needed where no connector delivers an entity: the union is then empty, but has its columns.
#}
{% macro contract(entity) -%}
    {%- set entities = {
        "accounts": [
            ["account_id", "string"], ["name", "string"], ["domain", "string"], ["industry", "string"],
            ["segment", "string"], ["country", "string"], ["employees", "bigint"], ["parent_account_id", "string"],
            ["owner_id", "string"], ["owner_name", "string"], ["owner_email", "string"], ["created_at", "timestamp"],
            ["crm_account_id", "string"], ["merged_into_account_id", "string"], ["updated_at", "timestamp"],
        ],
        "contacts": [
            ["contact_id", "string"], ["account_id", "string"], ["email", "string"], ["role", "string"],
            ["created_at", "timestamp"], ["is_unsubscribed", "boolean"], ["left_at", "timestamp"],
            ["updated_at", "timestamp"],
        ],
        "subscriptions": [
            ["subscription_id", "string"], ["account_id", "string"], ["product", "string"], ["plan", "string"],
            ["seats", "bigint"], ["mrr", "decimal(18,2)"], ["currency", "string"], ["started_at", "timestamp"],
            ["ended_at", "timestamp"], ["end_reason", "string"], ["renews_at", "timestamp"], ["term_ends_at", "timestamp"],
            ["discount_ends_at", "timestamp"], ["billing_interval", "string"], ["is_trial", "boolean"],
            ["updated_at", "timestamp"],
        ],
        "invoices": [
            ["invoice_id", "string"], ["account_id", "string"], ["issued_at", "timestamp"], ["due_at", "timestamp"],
            ["paid_at", "timestamp"], ["amount", "decimal(18,2)"], ["currency", "string"], ["status", "string"],
            ["failed_payments", "bigint"], ["updated_at", "timestamp"],
        ],
        "usage_events": [
            ["event_id", "string"], ["account_id", "string"], ["user_id", "string"], ["event_name", "string"],
            ["occurred_at", "timestamp"], ["quantity", "double"], ["event_count", "double"],
            ["product", "string"],
        ],
        "tickets": [
            ["ticket_id", "string"], ["account_id", "string"], ["opened_at", "timestamp"],
            ["first_response_at", "timestamp"], ["solved_at", "timestamp"], ["priority", "string"],
            ["status", "string"], ["csat", "double"], ["reopens", "bigint"], ["subject", "string"], ["body", "string"],
            ["updated_at", "timestamp"],
        ],
        "survey_responses": [
            ["response_id", "string"], ["account_id", "string"], ["contact_id", "string"], ["kind", "string"],
            ["score", "double"], ["responded_at", "timestamp"], ["comment", "string"],
        ],
        "interactions": [
            ["interaction_id", "string"], ["account_id", "string"], ["contact_id", "string"], ["channel", "string"],
            ["direction", "string"], ["occurred_at", "timestamp"], ["subject", "string"], ["body", "string"],
        ],
        "memberships": [
            ["membership_id", "string"], ["account_id", "string"], ["user_id", "string"], ["known_as", "string"],
            ["since_at", "timestamp"],
        ],
    } -%}
    {{ return(entities[entity]) }}
{%- endmacro %}

{# What a staging model yields: the contract's columns, with the account's id named for what it is, an id of the source. #}
{% macro staged_columns(entity) -%}
    {%- set columns = [["source", "string"], ["stream", "string"], ["account_source", "string"]] -%}
    {%- for name, type in contract(entity) -%}
        {%- do columns.append(["source_account_id" if name == "account_id" else name, type]) -%}
    {%- endfor -%}
    {%- if has_currency(entity) -%}
        {%- do columns.append(["exchange_rate", "decimal(18,8)"]) -%}
    {%- endif -%}
    {%- do columns.append(["loaded_at", "timestamp"]) -%}
    {{ return(columns) }}
{%- endmacro %}

{# Whether an entity holds money, which has a currency and a rate into the reporting currency. #}
{% macro has_currency(entity) -%}
    {{ return(contract(entity) | selectattr(0, "equalto", "currency") | list | length > 0) }}
{%- endmacro %}

{# An amount in the reporting currency, to the cent. #}
{% macro converted(amount, rate) -%}
    cast(round({{ amount }} * {{ rate }}, 2) as decimal(18, 2))
{%- endmacro %}

{# The columns whose texts have a meaning for the models: `Completed` and ` completed` are one word. #}
{% macro words(entity) -%}
    {{ return({
        "contacts": ["role"],
        "subscriptions": ["end_reason", "billing_interval"],
        "invoices": ["status"],
        "tickets": ["priority", "status"],
        "survey_responses": ["kind"],
        "interactions": ["channel", "direction"],
    }.get(entity, [])) }}
{%- endmacro %}

{# What a staging model selects to yield them: raw tables have the columns of the contract, whatever filled them. #}
{% macro as_staged(entity) -%}
    _source as source, _stream as stream, _account_source as account_source,
    {%- for name, type in contract(entity) %}
        {%- if name == "account_id" %} account_id as source_account_id,
        {%- elif entity == "subscriptions" and name == "ended_at" %} {{ exclusive_end(name) }} as ended_at,
        {%- elif name == "currency" %} upper(trim(coalesce(currency, _reporting_currency, '{{ var("currency") }}'))) as currency,
        {%- elif name in words(entity) %} nullif(lower(trim({{ name }})), '') as {{ name }},
        {%- else %} {{ name }},
        {%- endif %}
    {%- endfor %}
    {% if has_currency(entity) %}coalesce(_exchange_rate, 1) as exchange_rate,{% endif %}
    _loaded_at as loaded_at
{%- endmacro %}

{% macro is_staged(connector, entity) -%}
    {{ return(connector in var("staged").get(entity, [])) }}
{%- endmacro %}

{# Everything that the configured connectors deliver for an entity, as one relation to select from. #}
{% macro union_staged(entity) -%}
    {%- set columns = staged_columns(entity) -%}
    {%- set connectors = var("staged").get(entity, []) -%}
    (
    {%- for connector in connectors %}
        select {% for name, type in columns %}{{ name }}{{ ", " if not loop.last }}{% endfor %}
        from {{ ref("stg_" ~ connector ~ "__" ~ entity) }}
        {{ "union all" if not loop.last }}
    {%- else %}
        select {% for name, type in columns %}cast(null as {{ type }}) as {{ name }}{{ ", " if not loop.last }}{% endfor %}
        where 1 = 0
    {%- endfor %}
    )
{%- endmacro %}
