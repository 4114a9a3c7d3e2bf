{% set snapshots = var("snapshots") %}
{% set earlier = earlier_snapshots() %}
{% set history = earlier_history() %}

-- depends_on: {{ ref("int_usage_by_account_features") }}
-- The as-of dates whose metrics this run computes: its own date, which the customer 360 shows and the model scores, the dates of
-- the calendar whose features earlier runs have not kept under the same definition, and the dates of the history of metrics (each
-- of the last days, before them one a week) that are new, or after which facts came in later.

with

first_facts as (

    select min(started_at) as first_fact_at
    from {{ union_staged("subscriptions") }} as subscriptions
    union all
    select min(issued_at) as first_fact_at
    from {{ union_staged("invoices") }} as invoices
    union all
    select min(first_fact_at) as first_fact_at
    from {{ ref("int_usage_by_account_features") }}

),

-- Nothing is looked at that is older than three years.
oldest as (

    select
        case
            when min(first_fact_at) < {{ days_after(as_of_date(), -3 * 365) }} then {{ days_after(as_of_date(), -3 * 365) }}
            else cast(min(first_fact_at) as date)
        end as first_date
    from first_facts

),

beginning as (

    {% if snapshots["from"] %}
        select cast('{{ snapshots["from"] }}' as date) as first_date
    {% else %}
        -- Before a source delivers, there is nothing to learn from it. The calendar begins when the last of those that define a
        -- customer has three months behind it, and not more than three years ago.
        select
            case
                when max(first_fact_at) < {{ days_after(as_of_date(), -3 * 365 - 90) }}
                    then {{ days_after(as_of_date(), -3 * 365) }}
                else {{ days_after("max(first_fact_at)", 90) }}
            end as first_date
        from first_facts
    {% endif %}

),

days as (

    {{ day_spine("(select first_date from beginning)", as_of_date()) }}

),

-- One date in each week, and each time another day of the week: every eighth day of cycles of seven weeks, which are counted
-- from Monday the fifth of January 1970. Scoring happens on any day, and on a Monday everybody was last seen on Friday.
calendar as (

    select calendar_date as as_of_date
    from days
    {% if snapshots["every"] == "month" %}
        where calendar_date = {{ month_of("calendar_date") }}
    {% else %}
        where {{ is_weekly_date("calendar_date") }}
    {% endif %}

),

-- The dates that the history of metrics keeps.
all_days as (

    {{ day_spine("(select first_date from oldest)", as_of_date()) }}

),

kept as (

    select calendar_date as as_of_date
    from all_days
    where ({{ is_weekly_date("calendar_date") }} or {{ is_daily_date("calendar_date") }})
    {%- if is_replay() %} and 1 = 0 {%- endif %}

),

missing as (

    select as_of_date
    from kept
    {% if history is not none and not is_full_refresh() and not is_replay() -%}
        where as_of_date not in (
            select known.as_of_date
            from {{ history }} as known
            where known.metric_set = '{{ feature_set() }}'
        )
    {%- endif %}

),

restated as (

    select min(restated_from_date) as first_date
    from {{ ref("int_accounts_restated") }}

),

wanted as (

    {% if not is_replay() and var("features_enabled", true) %}

        select
            as_of_date,
            true as is_training_date,
            false as is_new_date
        from calendar
        {% if earlier is not none and not is_full_refresh() %}
            where as_of_date not in (
                select known.as_of_date
                from {{ earlier }} as known
                where known.feature_set = '{{ feature_set() }}' and known.is_sampled
            )
        {% endif %}

        union all

    {% endif %}

    select
        as_of_date,
        false as is_training_date,
        true as is_new_date
    from missing

    union all

    select
        kept.as_of_date,
        false as is_training_date,
        false as is_new_date
    from kept
    inner join restated on kept.as_of_date > restated.first_date

    union all

    select
        {{ as_of_date() }} as as_of_date,
        {{ as_of_date() }} in (select known.as_of_date from calendar as known) as is_training_date,
        false as is_new_date

),

final as (

    select
        as_of_date,
        max(case when is_training_date then 1 else 0 end) = 1 as is_training_date,
        as_of_date = {{ as_of_date() }} as is_scoring_date,
        max(case when is_new_date then 1 else 0 end) = 1 as is_new_date,
        as_of_date in (select known.as_of_date from kept as known) as is_kept_date
    from wanted
    group by as_of_date

)

select * from final
