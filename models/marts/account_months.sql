{% set movements = ["new", "expansion", "contraction", "churn", "completion", "reactivation"] %}
{% set of_ends = ["contraction", "churn", "completion", "reactivation"] %}

with

movements as (

    select
        account_id,
        movement_date,
        movement,
        mrr_delta,
        mrr_after,
        {{ month_of("movement_date") }} as month_start_date
    from {{ ref("mrr_movements") }}

),

by_month as (

    select
        account_id,
        month_start_date,
        {% for movement in movements -%}
            sum(case when movement = '{{ movement }}' then mrr_delta else 0 end) as {{ movement }}_mrr,
        {% endfor -%}
        sum(mrr_delta) as net_mrr,
        {{ last_by("mrr_after", "movement_date") }} as end_mrr,
        {{ last_by("movement", "movement_date") }} as last_movement,
        {{ last_by("case when movement in ('churn', 'completion') then movement end", "movement_date") }} as last_loss
    from movements
    group by account_id, month_start_date

),

spells as (

    select
        *,
        lead(month_start_date) over (partition by account_id order by month_start_date) as next_month_date
    from by_month

),

months as (

    {{ month_spine("(select min(month_start_date) from by_month)", month_of(days_after(as_of_date(), -1))) }}

),

-- A month in which MRR moved, and every month after it in which there is still some; a former customer's empty months say
-- nothing.
filled as (

    select
        spells.*,
        months.month_start_date as filled_month_date,
        months.month_start_date = spells.month_start_date as has_movement
    from spells
    inner join months
        on
            spells.month_start_date <= months.month_start_date
            and (spells.next_month_date is null or spells.next_month_date > months.month_start_date)
            and (spells.end_mrr > 0 or spells.month_start_date = months.month_start_date)

),

waterfall as (

    select
        account_id,
        filled_month_date as month_start_date,
        {% for movement in movements -%}
            case when has_movement then {{ movement }}_mrr else 0 end as {{ movement }}_mrr,
        {% endfor -%}
        end_mrr - case when has_movement then net_mrr else 0 end as start_mrr,
        end_mrr,
        has_movement and new_mrr > 0 as is_first,
        case when has_movement then last_loss end as last_loss
    from filled

),

-- As long as no source says when a subscription ended, nobody knows what was lost.
with_ends as (

    select
        waterfall.*,
        coalesce(coverage.subscriptions_ended_at_from < {{ next_month("waterfall.month_start_date") }}, false) as knows_ends
    from waterfall
    left join {{ ref("int_accounts_covered") }} as coverage on waterfall.account_id = coverage.account_id

),

final as (

    select
        account_id,
        month_start_date,
        {{ money("start_mrr") }} as start_mrr,
        {% for movement in movements -%}
            {% set amount = movement ~ "_mrr" -%}
            {{ money("case when knows_ends then " ~ amount ~ " end" if movement in of_ends else amount) }}
                as {{ movement }}_mrr,
        {% endfor -%}
        {{ money("end_mrr") }} as end_mrr,
        start_mrr = 0 and end_mrr > 0 and is_first as is_logo_new,
        case when knows_ends then start_mrr = 0 and end_mrr > 0 and not is_first end as is_logo_reactivated,
        case when knows_ends then start_mrr > 0 and end_mrr = 0 and last_loss = 'churn' end as is_logo_churned,
        case when knows_ends then start_mrr > 0 and end_mrr = 0 and last_loss = 'completion' end as is_logo_completed
    from with_ends

)

select * from final
