with

movements as (

    select
        *,
        {{ month_of("movement_date") }} as month_start_date
    from {{ ref("mrr_movements") }}

),

by_month as (

    select
        account_id,
        month_start_date,
        sum(case when movement = 'new' then mrr_delta_usd else 0 end) as new_usd,
        sum(case when movement = 'expansion' then mrr_delta_usd else 0 end) as expansion_usd,
        sum(case when movement = 'contraction' then mrr_delta_usd else 0 end) as contraction_usd,
        sum(case when movement = 'churn' then mrr_delta_usd else 0 end) as churn_usd,
        sum(case when movement = 'reactivation' then mrr_delta_usd else 0 end) as reactivation_usd,
        sum(mrr_delta_usd) as net_usd,
        {{ last_by("case when is_completed then 1 else 0 end", "movement_date") }} as ended_as_agreed
    from movements
    group by account_id, month_start_date

),

first_months as (

    select
        account_id,
        min(month_start_date) as first_month_date
    from by_month
    group by account_id

),

months as (

    {{ month_spine("(select min(month_start_date) from by_month)", month_of(days_after(as_of_date(), -1))) }}

),

-- Every month since the first payment, also those in which nothing moved.
filled as (

    select
        first_months.account_id,
        months.month_start_date,
        coalesce(by_month.new_usd, 0) as new_usd,
        coalesce(by_month.expansion_usd, 0) as expansion_usd,
        coalesce(by_month.contraction_usd, 0) as contraction_usd,
        coalesce(by_month.churn_usd, 0) as churn_usd,
        coalesce(by_month.reactivation_usd, 0) as reactivation_usd,
        coalesce(by_month.net_usd, 0) as net_usd,
        by_month.account_id is not null as has_movement,
        coalesce(by_month.ended_as_agreed, 0) as ended_as_agreed
    from first_months
    inner join months on first_months.first_month_date <= months.month_start_date
    left join by_month
        on
            first_months.account_id = by_month.account_id
            and months.month_start_date = by_month.month_start_date

),

running as (

    select
        *,
        sum(net_usd) over (
            partition by account_id order by month_start_date
            rows between unbounded preceding and current row
        ) as end_usd
    from filled

),

final as (

    select
        account_id,
        month_start_date,
        {{ money("end_usd - net_usd") }} as start_mrr_usd,
        {{ money("new_usd") }} as new_mrr_usd,
        {{ money("expansion_usd") }} as expansion_mrr_usd,
        {{ money("contraction_usd") }} as contraction_mrr_usd,
        {{ money("churn_usd") }} as churn_mrr_usd,
        {{ money("reactivation_usd") }} as reactivation_mrr_usd,
        {{ money("end_usd") }} as end_mrr_usd,
        {{ money("case when end_usd - net_usd > 0 then end_usd else 0 end") }} as retained_mrr_usd,
        -- Gross retention knows no growth: what an account pays more than at the start does not make up for another's loss.
        {{ money("case when end_usd < end_usd - net_usd then end_usd else end_usd - net_usd end") }} as retained_gross_mrr_usd,
        end_usd - net_usd > 0 and end_usd = 0 and ended_as_agreed = 0 as is_logo_churned,
        end_usd - net_usd > 0 and end_usd = 0 and ended_as_agreed = 1 as is_logo_completed
    from running
    -- A former customer's empty months say nothing.
    where has_movement or end_usd > 0

)

select * from final
