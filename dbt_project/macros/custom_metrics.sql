{#
  The SQL of a company's own metrics (metrics.yml). A definition has name, kind, entity, where, window (days), compare, windows (how
  many it looks at, its own included) and number, the column that is summed. Each is two or three CTEs and a column of met_custom.
#}

{# The columns of a fact that a metric uses: where no source of an account fills one, the metric cannot be measured. #}
{% macro custom_columns(metric) -%}
    {%- set columns = metric.where.keys() | reject("in", ["open", "event_name"]) | list -%}
    {%- if metric.kind in ["unique_users", "share_of_active_users", "share_of_seats"] -%}
        {%- do columns.append("user_id") -%}
    {%- endif -%}
    {%- if metric.kind == "sum" and metric.entity != "invoices" -%}
        {%- do columns.append(metric.number) -%}
    {%- endif -%}
    {{ return(columns) }}
{%- endmacro %}

{# Whether a fact is one of those that are meant. #}
{% macro custom_filter(metric) -%}
    {%- set conditions = [] -%}
    {%- for column, values in metric.where.items() if column != "open" -%}
        {%- set quoted = [] -%}
        {%- for value in values -%}{%- do quoted.append("'" ~ value | replace("'", "''") ~ "'") -%}{%- endfor -%}
        {%- do conditions.append("coalesce(facts." ~ column ~ " in (" ~ quoted | join(", ") ~ "), false)") -%}
    {%- endfor -%}
    {{ return(conditions | join(" and ") or "true") }}
{%- endmacro %}

{# The value over the days after `more_than` and up to `at_most` days before the date; for all days, `at_most` is none. #}
{% macro custom_value(metric, more_than, at_most) -%}
    {%- set is_inside = "days_ago > " ~ more_than ~ (" and days_ago <= " ~ at_most if at_most is not none else "") -%}
    {%- set is_meant = is_inside ~ " and is_meant" -%}
    {%- if metric.kind == "count" -%}
        sum(case when {{ is_meant }} then facts else 0 end)
    {%- elif metric.kind == "sum" -%}
        sum(case when {{ is_meant }} then number else 0 end)
    {%- elif metric.kind == "active_days" -%}
        count(distinct case when {{ is_meant }} then fact_date end)
    {%- elif metric.kind == "days_since_last" -%}
        min(case when {{ is_meant }} then days_ago end)
    {%- elif metric.kind == "share_of_active_users" -%}
        {{ pct(
            "count(distinct case when " ~ is_meant ~ " then user_id end)",
            "count(distinct case when " ~ is_inside ~ " then user_id end)",
        ) }}
    {%- else -%}
        count(distinct case when {{ is_meant }} then user_id end)
    {%- endif -%}
{%- endmacro %}

{# What the window is compared with: the window before it, or the mean of the three windows before it. #}
{% macro custom_before(metric) -%}
    {%- set values = [] -%}
    {%- for place in range(1, metric.windows) -%}
        {%- do values.append(custom_value(metric, place * metric.window, (place + 1) * metric.window)) -%}
    {%- endfor -%}
    ({{ values | join(" + ") }}) / {{ values | length }}.0
{%- endmacro %}

{# The CTEs of a metric: its facts by account and day, its values by account and date, and since when its columns are filled. #}
{% macro custom_ctes(metric) -%}
    {%- set fact_at = "facts." ~ happened_at(metric.entity) -%}
    {%- set number = "facts." ~ metric.number if metric.number else "0" -%}
    {{ metric.name }}_facts as (

        {% if metric.entity == "usage_events" -%}
            -- A use counts for what it stands for; a day of a person is one row, however often dates look at it.
            select
                records.account_id,
                cast({{ fact_at }} as date) as fact_date,
                facts.user_id,
                {{ custom_filter(metric) }} as is_meant,
                cast(sum({{ uses() }}) as double) as facts,
                cast(sum({{ number }}) as double) as number
            from {{ union_staged("usage_events") }} as facts
            inner join {{ ref("int_accounts_matched") }} as records
                on
                    facts.account_source = records.source
                    and facts.source_account_id = records.source_account_id
            where
                {{ fact_at }} < {{ as_of() }}
                and {{ uses() }} > 0
                {% if metric.kind != "share_of_active_users" %} and {{ custom_filter(metric) }} {% endif %}
            group by 1, 2, 3, 4
        {%- else -%}
            select
                facts.account_id,
                cast({{ fact_at }} as date) as fact_date,
                true as is_meant,
                {% if metric.entity == "tickets" -%}
                    facts.solved_at,
                    facts.outcome_known_from,
                    facts.solved_at is null and facts.status in ('solved', 'closed') as is_closed_undated,
                {% endif -%}
                1 as facts,
                cast({{ number }} as double) as number
            from {{ ref("int_" ~ metric.entity ~ "_united") }} as facts
            where {{ custom_filter(metric) }}
        {%- endif %}

    ),

    {{ metric.name }}_by_date as (

        select
            facts.*,
            dates.as_of_date,
            {{ days_between("facts.fact_date", "dates.as_of_date") }} as days_ago
        from {{ metric.name }}_facts as facts
        inner join dates
            on
                facts.fact_date < dates.as_of_date
                {% if metric.window -%}
                    and facts.fact_date >= {{ days_after("dates.as_of_date", -metric.window * metric.windows) }}
                {% endif -%}
                {% if metric.where.get("open") -%}
                    and coalesce(facts.outcome_known_from < dates.as_of_date, false)
                    and not coalesce(facts.solved_at < dates.as_of_date, false)
                    and not coalesce(facts.is_closed_undated, false)
                {% endif %}

    ),

    {{ metric.name }}_values as (

        select
            account_id,
            as_of_date,
            {{ custom_value(metric, 0, metric.window) }} as value_now,
            {{ custom_before(metric) if metric.compare else "null" }} as value_before
        from {{ metric.name }}_by_date
        group by account_id, as_of_date

    ),

    {% if custom_columns(metric) -%}

        {{ metric.name }}_filled as (

            select
                records.account_id,
                {% for column in custom_columns(metric) -%}
                    min(sources.{{ column }}_from) as {{ column }}_from{{ "," if not loop.last }}
                {% endfor %}
            from {{ ref("int_accounts_matched") }} as records
            inner join (
                select
                    facts.account_source,
                    {% for column in custom_columns(metric) -%}
                        min(case when facts.{{ column }} is not null then {{ fact_at }} end)
                            as {{ column }}_from{{ "," if not loop.last }}
                    {% endfor %}
                from {{ union_staged(metric.entity) }} as facts
                group by facts.account_source
            ) as sources on records.source = sources.account_source
            group by records.account_id

        ),

    {%- endif %}

    {% if metric.compare -%}

        {{ metric.name }}_begun as (

            select
                records.account_id,
                cast(min({{ fact_at }}) as date) as first_fact_date
            from {{ union_staged(metric.entity) }} as facts
            inner join {{ ref("int_accounts_matched") }} as records
                on
                    facts.account_source = records.source
                    and facts.source_account_id = records.source_account_id
            group by records.account_id

        ),

    {%- endif %}
{%- endmacro %}

{# The joins that the column of a metric needs, to the accounts and dates. #}
{% macro custom_joins(metric) -%}
    left join {{ metric.name }}_values
        on
            accounts.account_id = {{ metric.name }}_values.account_id
            and accounts.as_of_date = {{ metric.name }}_values.as_of_date
    {% if custom_columns(metric) -%}
        left join {{ metric.name }}_filled on accounts.account_id = {{ metric.name }}_filled.account_id
    {% endif -%}
    {% if metric.compare -%}
        left join {{ metric.name }}_begun on accounts.account_id = {{ metric.name }}_begun.account_id
    {% endif -%}
{%- endmacro %}

{#
  The column of a metric: NULL where it cannot be measured, 0 where it was and there is none. A comparison needs an account whose facts
  reach back over all that is compared, and something to compare with.
#}
{% macro custom_column(metric) -%}
    {%- set needs = ["accounts.has_" ~ metric.entity] -%}
    {%- for column in custom_columns(metric) -%}
        {%- do needs.append(metric.name ~ "_filled." ~ column ~ "_from < accounts.as_of_date") -%}
    {%- endfor -%}
    {%- if metric.where.get("open") -%}
        {%- do needs.append("(accounts.has_tickets_solved_at or accounts.has_tickets_status)") -%}
    {%- endif -%}
    {%- if metric.compare -%}
        {%- do needs.append(
            metric.name ~ "_begun.first_fact_date <= " ~ days_after("accounts.as_of_date", -metric.window * metric.windows)
        ) -%}
    {%- endif -%}
    {%- set value_now = metric.name ~ "_values.value_now" -%}
    {%- if metric.compare -%}
        {%- set value = change_pct(value_now, metric.name ~ "_values.value_before") -%}
    {%- elif metric.kind in ["days_since_last", "share_of_active_users"] -%}
        {%- set value = value_now -%}
    {%- elif metric.kind == "share_of_seats" -%}
        {%- set value = pct("coalesce(" ~ value_now ~ ", 0)", "contracts.seats") -%}
    {%- else -%}
        {%- set value = "coalesce(" ~ value_now ~ ", 0)" -%}
    {%- endif -%}
    {%- set measurement = "case when " ~ needs | join(" and ") ~ " then " ~ value ~ " end" -%}
    {%- if metric.compare or metric.kind in ["sum", "share_of_active_users", "share_of_seats"] -%}
        round({{ measurement }}, 6) + 0 as {{ metric.name }}
    {%- elif metric.kind == "count" -%}
        {{ whole_uses(measurement) }} as {{ metric.name }}
    {%- else -%}
        cast({{ measurement }} as bigint) as {{ metric.name }}
    {%- endif -%}
{%- endmacro %}
