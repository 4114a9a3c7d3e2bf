{% set movements = ["new", "expansion", "contraction", "churn", "completion", "reactivation"] %}
{% set of_ends = ["contraction", "churn", "completion", "reactivation", "reactivated", "churned", "completed"] %}

with

account_months as (

    select * from {{ ref("account_months") }}

),

invoices as (

    select
        {{ month_of("issued_at") }} as month_start_date,
        sum(amount) as invoiced_amount,
        count(distinct account_id) as invoiced_accounts
    from {{ ref("invoices") }}
    where coalesce(status, 'open') <> 'void'
    group by {{ month_of("issued_at") }}

),

active_accounts as (

    select distinct
        matched.account_id,
        usage_months.month_start_date
    from {{ ref("int_usage_months_united") }} as usage_months
    inner join {{ ref("int_accounts_matched") }} as matched
        on
            usage_months.account_source = matched.source
            and usage_months.source_account_id = matched.source_account_id
    where usage_months.events > 0

),

usage_months as (

    select
        month_start_date,
        count(*) as active_accounts
    from active_accounts
    group by month_start_date

),

-- What nobody delivers is unknown, not zero.
delivered as (

    select
        {% for entity in ["subscriptions", "invoices", "usage_events"] -%}
            max(case when entity = '{{ entity }}' then 1 else 0 end) = 1 as has_{{ entity }},
        {% endfor -%}
        (
            select min(filled.measured_from) from {{ ref("int_columns_measured") }} as filled
            where filled.entity = 'subscriptions' and filled.column_name = 'ended_at'
        ) as ends_from
    from {{ ref("int_sources_measured") }}

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

-- Retention asks what became of the customers a month began with. Whoever left as agreed is taken out of both sides: that end was
-- no success and no failure. Gross retention knows no growth: what one pays more does not make up for another's loss.
waterfall as (

    select
        month_start_date,
        sum(start_mrr) as start_mrr,
        {% for movement in movements -%}
            sum({{ movement }}_mrr) as {{ movement }}_mrr,
        {% endfor -%}
        sum(end_mrr) as end_mrr,
        sum(case when start_mrr > 0 and not is_logo_completed then start_mrr end) as retainable_mrr,
        sum(case when start_mrr > 0 then end_mrr end) as retained_mrr,
        sum(case when end_mrr < start_mrr then end_mrr else start_mrr end) as retained_gross_mrr,
        {{ count_where("start_mrr > 0") }} as customers_at_start,
        {{ count_where("is_logo_new") }} as customers_new,
        {{ count_where("is_logo_reactivated") }} as customers_reactivated,
        {{ count_where("is_logo_churned") }} as customers_churned,
        {{ count_where("is_logo_completed") }} as customers_completed,
        {{ count_where("end_mrr > 0") }} as customers_at_end
    from account_months
    group by month_start_date

),

{% set knows_ends = "delivered.ends_from < " ~ next_month("months.month_start_date") %}

final as (

    select
        months.month_start_date,
        {{ next_month("months.month_start_date") }} <= {{ as_of_date() }} as is_complete,
        {% for measure in ["start"] + movements + ["end"] -%}
            {% set needs = knows_ends if measure in of_ends -%}
            {{ money(measured("waterfall." ~ measure ~ "_mrr", "delivered.has_subscriptions", needs)) }}
                as {{ measure }}_mrr,
        {% endfor -%}
        {% for measure in ["at_start", "new", "reactivated", "churned", "completed", "at_end"] -%}
            {% set needs = knows_ends if measure in of_ends -%}
            {{ measured("waterfall.customers_" ~ measure, "delivered.has_subscriptions", needs) }} as customers_{{ measure }},
        {% endfor -%}
        case when {{ knows_ends }} then {{ pct("waterfall.retained_mrr", "waterfall.retainable_mrr") }} end as nrr_pct,
        case when {{ knows_ends }} then {{ pct("waterfall.retained_gross_mrr", "waterfall.retainable_mrr") }} end as grr_pct,
        case
            when {{ knows_ends }}
                then {{ pct("waterfall.customers_churned", "waterfall.customers_at_start - waterfall.customers_completed") }}
        end as logo_churn_pct,
        case when delivered.has_invoices then {{ money("coalesce(invoices.invoiced_amount, 0)") }} end as invoiced_amount,
        case when delivered.has_invoices then cast(coalesce(invoices.invoiced_accounts, 0) as bigint) end as invoiced_accounts,
        case when delivered.has_usage_events then cast(coalesce(usage_months.active_accounts, 0) as bigint) end
            as active_accounts
    from months
    left join waterfall on months.month_start_date = waterfall.month_start_date
    left join invoices on months.month_start_date = invoices.month_start_date
    left join usage_months on months.month_start_date = usage_months.month_start_date
    cross join delivered

)

select * from final
