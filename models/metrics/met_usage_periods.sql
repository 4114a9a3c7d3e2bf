-- Windows of 7, 28, 56 and 112 days end at each date, and neighbouring dates share most of their days. So time is cut at the edge
-- of every window; usage is counted once in each piece, and a window is a sum of pieces. All are whole weeks, so that a weekend
-- more or less is no trend. Windows of people and features cut at 28 and 56 days only, which keeps fewer rows.
{% set families = [("level", [0, 7, 28, 56, 112]), ("people", [0, 28, 56])] %}

with

dates as (

    select * from {{ ref("met_dates") }}

),

{% for family, windows in families %}

    {{ family }}_cuts as (

        {% for days in windows %}
            select {{ days_after("as_of_date", -days) }} as cut_date
            from dates
            {{ "union" if not loop.last }}
        {% endfor %}

    ),

    {{ family }}_pieces as (

        select
            cut_date as period_date,
            lead(cut_date) over (order by cut_date) as next_period_date
        from {{ family }}_cuts

    ),

{% endfor %}

periods as (

    {% for family, windows in families %}
        select
            '{{ family }}' as family,
            dates.as_of_date,
            pieces.period_date,
            pieces.next_period_date,
            cast({{ days_between("pieces.period_date", "dates.as_of_date") }} as bigint) as begins_days_before
        from dates
        inner join {{ family }}_pieces as pieces
            on
                {{ days_after("dates.as_of_date", -windows[-1]) }} <= pieces.period_date
                and dates.as_of_date > pieces.period_date
        {{ "union all" if not loop.last }}
    {% endfor %}

)

select * from periods
