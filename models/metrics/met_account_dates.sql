{% set churn = var("churn") %}
{% set max_accounts = var("snapshots")["max_accounts"] %}
{% set entities = measured_entities() %}

-- Who existed before each date, who was a customer, and what was measured of them by then.

with

dates as (

    select * from {{ ref("met_dates") }}

),

-- A source measures a family of facts from its first fact on. What it begins to measure later was unknown, not zero.
first_facts as (

    {% for entity in measured_entities() if entity != "usage_events" %}
        select
            account_source,
            '{{ entity }}' as entity,
            min({{ happened_at(entity) }}) as first_fact_at
        from {{ union_staged(entity) }} as {{ entity }}
        group by account_source

        union all
    {% endfor %}

    select
        account_source,
        'usage_events' as entity,
        min(first_fact_at) as first_fact_at
    from {{ ref("int_usage_by_account_features") }}
    group by account_source

),

-- An account is measured once the source knows it.
first_measured as (

    select
        matched.account_id,
        first_facts.entity,
        min(
            case
                when first_facts.first_fact_at > records.created_at then first_facts.first_fact_at
                else records.created_at
            end
        ) as measured_from
    from {{ ref("int_accounts_matched") }} as matched
    inner join {{ ref("int_accounts_unioned") }} as records
        on
            matched.source = records.source
            and matched.source_account_id = records.source_account_id
    inner join first_facts on matched.source = first_facts.account_source
    group by matched.account_id, first_facts.entity

),

coverage as (

    select
        account_id,
        {% for entity in entities -%}
            min(case when entity = '{{ entity }}' then measured_from end) as {{ entity }}_from{{ "," if not loop.last }}
        {% endfor %}
    from first_measured
    group by account_id

),

column_coverage as (

    select
        matched.account_id,
        {% for name in measured_column_names() -%}
            min(case when filled.entity || '_' || filled.column_name = '{{ name }}' then filled.measured_from end)
                as {{ name }}_from{{ "," if not loop.last }}
        {% endfor %}
    from {{ ref("int_accounts_matched") }} as matched
    inner join {{ ref("int_columns_measured") }} as filled on matched.source = filled.account_source
    group by matched.account_id

),

subscriptions as (

    select * from {{ ref("int_subscriptions_united") }}

),

first_subscriptions as (

    select
        account_id,
        min(started_at) as first_started_at
    from subscriptions
    group by account_id

),

-- A customer may be older than its record: a CRM often learns late.
accounts as (

    select
        united.account_id,
        case
            when first_subscriptions.first_started_at < united.created_at then first_subscriptions.first_started_at
            else united.created_at
        end as known_from,
        {{ lot_of("united.account_id") }} as lot
    from {{ ref("int_accounts_united") }} as united
    left join first_subscriptions on united.account_id = first_subscriptions.account_id

),

revenue as (

    select
        subscriptions.account_id,
        dates.as_of_date,
        sum(subscriptions.mrr) as mrr
    from subscriptions
    inner join dates
        on
            subscriptions.started_at < dates.as_of_date
            and (subscriptions.ended_at is null or subscriptions.ended_at >= dates.as_of_date)
    group by subscriptions.account_id, dates.as_of_date

),

{% if churn["definition"] == "inactivity" %}

    -- Each day of activity counts for the first date after it; what came before is carried on below.
    activity_calendar as (

        select
            days.calendar_date as activity_date,
            min(dates.as_of_date) as as_of_date
        from (
            {{ day_spine(
                "(select min(activity_date) from (" ~ active_days() ~ ") as all_days)",
                "(select max(as_of_date) from dates)"
            ) }}
        ) as days
        inner join dates on days.calendar_date < dates.as_of_date
        group by days.calendar_date

    ),

    activity as (

        select
            days.account_id,
            activity_calendar.as_of_date,
            max(days.activity_date) as last_active_date
        from ({{ active_days() }}) as days
        inner join activity_calendar on days.activity_date = activity_calendar.activity_date
        group by days.account_id, activity_calendar.as_of_date

    ),

    activity_so_far as (

        select
            accounts.account_id,
            dates.as_of_date,
            max(activity.last_active_date) over (
                partition by accounts.account_id order by dates.as_of_date
                rows between unbounded preceding and current row
            ) as last_active_date
        from accounts
        inner join dates on accounts.known_from < dates.as_of_date
        left join activity
            on
                accounts.account_id = activity.account_id
                and dates.as_of_date = activity.as_of_date

    ),

    customers as (

        select
            account_id,
            as_of_date,
            last_active_date,
            last_active_date >= {{ days_after("as_of_date", -churn["active_within_days"]) }} as is_customer
        from activity_so_far

    ),

{% else %}

    customers as (

        select
            account_id,
            as_of_date,
            cast(null as date) as last_active_date,
            mrr > 0 as is_customer
        from revenue

    ),

{% endif %}

spine as (

    select
        accounts.account_id,
        accounts.lot,
        dates.as_of_date,
        dates.is_training_date,
        dates.is_scoring_date,
        dates.is_new_date or coalesce(dates.as_of_date > restated.restated_from_date, false) as is_to_be_kept,
        accounts.known_from,
        {% for entity in entities -%}
            coalesce(coverage.{{ entity }}_from < dates.as_of_date, false) as has_{{ entity }},
        {% endfor -%}
        {% for name in measured_column_names() -%}
            coalesce(column_coverage.{{ name }}_from < dates.as_of_date, false) as has_{{ name }},
        {% endfor -%}
        {{ money("revenue.mrr") }} as running_mrr,
        customers.last_active_date,
        coalesce(customers.is_customer, false) as is_customer
    from accounts
    inner join dates on accounts.known_from < dates.as_of_date
    left join {{ ref("int_accounts_restated") }} as restated on accounts.account_id = restated.account_id
    left join coverage on accounts.account_id = coverage.account_id
    left join column_coverage on accounts.account_id = column_coverage.account_id
    left join revenue
        on
            accounts.account_id = revenue.account_id
            and dates.as_of_date = revenue.as_of_date
    left join customers
        on
            accounts.account_id = customers.account_id
            and dates.as_of_date = customers.as_of_date

),

drawn as (

    select
        *,
        {% if max_accounts -%}
            is_training_date and row_number() over (
                partition by as_of_date order by case when is_customer then 0 else 1 end, lot
            ) <= {{ max_accounts }} as is_sampled
        {%- else -%}
            is_training_date as is_sampled
        {%- endif %}
    from spine

),

final as (

    select
        account_id,
        as_of_date,
        is_sampled,
        is_scoring_date,
        is_customer,
        last_active_date,
        cast(known_from as date) as known_from_date,
        {{ money(measured("running_mrr", "has_subscriptions")) }} as mrr,
        {% for measured in entities + measured_column_names() -%}
            has_{{ measured }},
        {% endfor -%}
        cast(
            {% for entity in entities -%}
                case when has_{{ entity }} then 1 else 0 end {{ "+" if not loop.last }}
            {% endfor -%}
            as double
        ) * 100 / {{ entities | length }} as coverage_pct
    from drawn
    where is_sampled or is_scoring_date or is_to_be_kept

)

select * from final
