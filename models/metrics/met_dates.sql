{% set snapshots = var("snapshots") %}
{% set earlier = earlier_snapshots() %}

-- depends_on: {{ ref("int_usage_by_account_features") }}
-- The as-of dates whose metrics this run computes: its own date, which the customer 360 shows and the model scores, and the dates
-- of the calendar whose features earlier runs have not kept under the same definition.

with

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
        from (
            select min(started_at) as first_fact_at
            from {{ union_staged("subscriptions") }} as subscriptions
            union all
            select min(issued_at) as first_fact_at
            from {{ union_staged("invoices") }} as invoices
            union all
            select min(first_fact_at) as first_fact_at
            from {{ ref("int_usage_by_account_features") }}
        ) as first_facts
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
        where {{ days_between("date '1970-01-05'", "calendar_date") }} % 49 % 8 = 0
    {% endif %}

),

wanted as (

    {% if not is_replay() and var("features_enabled", true) %}

        select
            as_of_date,
            true as is_training_date
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
        {{ as_of_date() }} as as_of_date,
        {{ as_of_date() }} in (select known.as_of_date from calendar as known) as is_training_date

),

final as (

    select
        as_of_date,
        max(case when is_training_date then 1 else 0 end) = 1 as is_training_date,
        as_of_date = {{ as_of_date() }} as is_scoring_date
    from wanted
    group by as_of_date

)

select * from final
