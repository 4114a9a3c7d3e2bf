with

account_months as (

    select * from {{ ref("account_months") }}

),

invoices as (

    select
        {{ month_of("issued_at") }} as month_start_date,
        sum(amount_usd) as invoiced_usd,
        count(distinct account_id) as invoiced_accounts
    from {{ ref("invoices") }}
    where coalesce(status, 'open') <> 'void'
    group by {{ month_of("issued_at") }}

),

active_accounts as (

    select distinct
        matched.account_id,
        usage_months.month_start_date
    from {{ ref("int_usage_by_account_months") }} as usage_months
    inner join {{ ref("int_accounts_matched") }} as matched
        on
            usage_months.account_source = matched.source
            and usage_months.source_account_id = matched.source_account_id

),

usage_months as (

    select
        month_start_date,
        count(*) as active_accounts
    from active_accounts
    group by month_start_date

),

first_months as (

    select min(month_start_date) as month_start_date from account_months
    union all
    select min(month_start_date) as month_start_date from invoices
    union all
    select min(month_start_date) as month_start_date from usage_months

),

months as (

    {{ month_spine(
        "(select min(month_start_date) from first_months)",
        month_of(days_after(as_of_date(), -1))
    ) }}

),

waterfall as (

    select
        month_start_date,
        sum(start_mrr_usd) as start_mrr_usd,
        sum(new_mrr_usd) as new_mrr_usd,
        sum(expansion_mrr_usd) as expansion_mrr_usd,
        sum(contraction_mrr_usd) as contraction_mrr_usd,
        sum(churn_mrr_usd) as churn_mrr_usd,
        sum(reactivation_mrr_usd) as reactivation_mrr_usd,
        sum(end_mrr_usd) as end_mrr_usd,
        sum(retained_mrr_usd) as retained_mrr_usd,
        sum(retained_gross_mrr_usd) as retained_gross_mrr_usd,
        {{ count_where("start_mrr_usd > 0") }} as customers_at_start,
        {{ count_where("new_mrr_usd > 0") }} as customers_new,
        {{ count_where("is_logo_churned") }} as customers_churned,
        {{ count_where("is_logo_completed") }} as customers_completed,
        {{ count_where("end_mrr_usd > 0") }} as customers_at_end
    from account_months
    group by month_start_date

),

final as (

    select
        months.month_start_date,
        {{ next_month("months.month_start_date") }} <= {{ as_of_date() }} as is_complete,
        {% for measure in [
            "start", "new", "expansion", "contraction", "churn", "reactivation", "end"
        ] -%}
            {{ money("coalesce(waterfall." ~ measure ~ "_mrr_usd, 0)") }} as {{ measure }}_mrr_usd,
        {% endfor -%}
        {% for measure in ["at_start", "new", "churned", "completed", "at_end"] -%}
            coalesce(waterfall.customers_{{ measure }}, 0) as customers_{{ measure }},
        {% endfor -%}
        {{ pct("waterfall.retained_mrr_usd", "waterfall.start_mrr_usd") }} as nrr_pct,
        {{ pct("waterfall.retained_gross_mrr_usd", "waterfall.start_mrr_usd") }} as grr_pct,
        {{ pct("waterfall.customers_churned", "waterfall.customers_at_start") }} as logo_churn_pct,
        {{ money("coalesce(invoices.invoiced_usd, 0)") }} as invoiced_usd,
        cast(coalesce(invoices.invoiced_accounts, 0) as bigint) as invoiced_accounts,
        cast(coalesce(usage_months.active_accounts, 0) as bigint) as active_accounts
    from months
    left join waterfall on months.month_start_date = waterfall.month_start_date
    left join invoices on months.month_start_date = invoices.month_start_date
    left join usage_months on months.month_start_date = usage_months.month_start_date

)

select * from final
