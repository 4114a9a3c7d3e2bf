-- How an account buys and pays, as of each date. A payment counts from the day it was made. Failed payments have no date of their
-- own: they are known when the invoice was paid in the end, or after the two weeks in which cards are tried again. The same
-- two weeks stand for an invoice that was voided or written off.
-- Under contracts bills come as agreed, which is no habit of buying: purchases are measured where inactivity is churn.
{% set known_after_days = 14 %}
{% set buys = var("churn")["definition"] == "inactivity" %}

with

accounts as (

    select
        account_id,
        as_of_date,
        has_invoices,
        has_invoices_due_at,
        has_invoices_paid_at,
        has_invoices_status,
        has_invoices_failed_payments
    from {{ ref("met_account_dates") }}

),

dates as (

    select * from {{ ref("met_dates") }}

),

invoices as (

    select * from {{ ref("int_invoices_united") }}

),

-- Of older invoices than a year, only those that are still unpaid matter.
as_of_dates as (

    select
        invoices.account_id,
        dates.as_of_date,
        {{ days_between("invoices.issued_at", "dates.as_of_date") }} as issued_days_ago,
        {{ days_between("invoices.due_at", "dates.as_of_date") }} as due_days_ago,
        {{ days_between("invoices.due_at", "invoices.paid_at") }} as paid_days_late,
        {{ in_last("invoices.issued_at", 365) }} as is_of_this_year,
        invoices.amount,
        invoices.failed_payments,
        coalesce(invoices.paid_at < dates.as_of_date, false) as is_paid,
        invoices.due_at < dates.as_of_date as is_due,
        -- Who is said to have paid, but not when, owes nothing.
        coalesce(invoices.paid_at is null and invoices.status = 'paid', false) as is_paid_some_day,
        coalesce(invoices.status in ('void', 'uncollectible'), false) as is_given_up,
        coalesce(invoices.payment_known_from < dates.as_of_date, false) as is_payment_known
    from invoices
    inner join dates
        on
            invoices.issued_at < dates.as_of_date
            and (
                invoices.issued_at >= {{ days_after("dates.as_of_date", -365) }}
                or (
                    invoices.payment_known_from < dates.as_of_date
                    and (invoices.paid_at is null or invoices.paid_at >= dates.as_of_date)
                )
            )

),

classified as (

    select
        *,
        is_paid or issued_days_ago > {{ known_after_days }} as are_failures_known,
        amount > 0
        and is_payment_known
        and not is_paid
        and not is_paid_some_day
        and not (is_given_up and issued_days_ago > {{ known_after_days }}) as is_unpaid
    from as_of_dates

),

bills as (

    select
        account_id,
        as_of_date,
        {% for days in [45, 90] -%}
            sum(case when issued_days_ago <= {{ days }} and are_failures_known then coalesce(failed_payments, 0) else 0 end)
                as failed_payments_{{ days }}d,
        {% endfor -%}
        sum(case when is_unpaid then amount else 0 end) as unpaid_amount,
        sum(case when is_unpaid and is_due then amount else 0 end) as overdue_amount,
        max(case when is_unpaid and is_due then due_days_ago end) as overdue_days,
        max(case when is_unpaid then issued_days_ago end) as unpaid_days,
        avg(
            cast(case
                when not is_of_this_year or amount <= 0 then null
                when is_paid and paid_days_late < 0 then 0
                when is_paid then paid_days_late
                when is_unpaid and is_due then due_days_ago
            end as double)
        ) as late_days_avg_365d,
        sum(case when is_of_this_year and amount < 0 then -amount else 0 end) as refunded_amount_365d,
        sum(case when is_of_this_year and amount > 0 then amount else 0 end) as invoiced_amount_365d
    from classified
    group by account_id, as_of_date

),

-- What was invoiced so far: an invoice adds its amount, and a voided one takes it away again once that is known.
amounts as (

    select
        account_id,
        issued_at as counted_from,
        amount,
        case when amount > 0 then issued_at end as billed_at
    from invoices

    union all

    select
        account_id,
        cast({{ days_after("issued_at", known_after_days) }} as timestamp) as counted_from,
        -amount as amount,
        cast(null as timestamp) as billed_at
    from invoices
    where status = 'void'

),

amounts_by_time as (

    select
        account_id,
        counted_from,
        sum(amount) as amount,
        max(billed_at) as billed_at
    from amounts
    group by account_id, counted_from

),

invoiced_so_far as (

    select
        account_id,
        counted_from,
        sum(amount) over (
            partition by account_id order by counted_from rows between unbounded preceding and current row
        ) as invoiced_amount,
        max(billed_at) over (
            partition by account_id order by counted_from rows between unbounded preceding and current row
        ) as last_invoice_at,
        lead(counted_from) over (partition by account_id order by counted_from) as counts_until
    from amounts_by_time

),

invoiced as (

    select
        invoiced_so_far.account_id,
        dates.as_of_date,
        invoiced_so_far.invoiced_amount,
        invoiced_so_far.last_invoice_at
    from invoiced_so_far
    inner join dates
        on
            invoiced_so_far.counted_from < dates.as_of_date
            and (invoiced_so_far.counts_until is null or invoiced_so_far.counts_until >= dates.as_of_date)

),

-- A purchase is an invoice with a positive amount; several on a day are one.
purchases as (

    select
        account_id,
        cast(issued_at as date) as purchase_date,
        sum(amount) as amount
    from invoices
    where amount > 0 and {{ buys }}
    group by account_id, cast(issued_at as date)

),

purchases_before as (

    select
        purchases.account_id,
        dates.as_of_date,
        purchases.purchase_date,
        cast(purchases.amount as double) as amount,
        {{ days_between("purchases.purchase_date", "dates.as_of_date") }} as days_ago
    from purchases
    inner join dates on purchases.purchase_date < dates.as_of_date

),

purchases_by_date as (

    select
        account_id,
        as_of_date,
        count(*) as purchases_ever,
        {% for days in [30, 90, 180] -%}
            {{ count_where("days_ago <= " ~ days) }} as purchases_{{ days }}d,
            sum(case when days_ago <= {{ days }} then amount else 0 end) as purchased_amount_{{ days }}d,
        {% endfor -%}
        avg(amount) as purchase_avg_amount,
        min(purchase_date) as first_purchase_date,
        max(purchase_date) as last_purchase_date
    from purchases_before
    group by account_id, as_of_date

),

joined as (

    select
        accounts.account_id,
        accounts.as_of_date,
        accounts.has_invoices,
        accounts.has_invoices and {{ buys }} as has_purchases,
        accounts.has_invoices_due_at as knows_due_dates,
        accounts.has_invoices_paid_at as knows_payment_dates,
        accounts.has_invoices_paid_at or accounts.has_invoices_status as knows_payments,
        accounts.has_invoices_failed_payments as knows_failures,
        bills.failed_payments_45d,
        bills.failed_payments_90d,
        bills.unpaid_amount,
        bills.overdue_amount,
        bills.overdue_days,
        bills.unpaid_days,
        bills.late_days_avg_365d,
        bills.refunded_amount_365d,
        bills.invoiced_amount_365d,
        invoiced.invoiced_amount,
        invoiced.last_invoice_at,
        bought.purchases_ever,
        bought.purchases_30d,
        bought.purchases_90d,
        bought.purchases_180d,
        bought.purchased_amount_90d,
        bought.purchased_amount_180d,
        bought.purchase_avg_amount,
        bought.first_purchase_date,
        cast({{ days_between("bought.last_purchase_date", "accounts.as_of_date") }} as bigint) as days_since_last_purchase,
        case
            when bought.purchases_ever > 1
                then
                    cast({{ days_between("bought.first_purchase_date", "bought.last_purchase_date") }} as double)
                    / (bought.purchases_ever - 1)
        end as purchase_gap_avg_days,
        cast({{ days_between("bought.first_purchase_date", "accounts.as_of_date") }} as bigint) as buying_for_days
    from accounts
    left join bills
        on
            accounts.account_id = bills.account_id
            and accounts.as_of_date = bills.as_of_date
    left join invoiced
        on
            accounts.account_id = invoiced.account_id
            and accounts.as_of_date = invoiced.as_of_date
    left join purchases_by_date as bought
        on
            accounts.account_id = bought.account_id
            and accounts.as_of_date = bought.as_of_date

),

final as (

    select
        account_id,
        as_of_date,
        {% for count, needs in {
            "failed_payments_45d": "knows_failures",
            "failed_payments_90d": "knows_failures",
            "overdue_days": "knows_payments and knows_due_dates",
            "unpaid_days": "knows_payments",
        }.items() -%}
            cast({{ measured(count, "has_invoices", needs) }} as bigint) as {{ count }},
        {% endfor -%}
        {% for count in ["purchases_30d", "purchases_90d", "purchases_180d", "purchases_ever"] -%}
            cast({{ measured(count, "has_purchases") }} as bigint) as {{ count }},
        {% endfor -%}
        {{ money(measured("invoiced_amount", "has_invoices")) }} as invoiced_amount,
        {{ money(measured("unpaid_amount", "has_invoices", "knows_payments")) }} as unpaid_amount,
        {{ money(measured("overdue_amount", "has_invoices", "knows_payments and knows_due_dates")) }} as overdue_amount,
        {{ money(measured("purchased_amount_90d", "has_purchases")) }} as purchased_amount_90d,
        last_invoice_at,
        case when knows_payment_dates and knows_due_dates then late_days_avg_365d end as late_days_avg_365d,
        case
            when buying_for_days >= 180
                then {{ change_pct("purchased_amount_90d", "purchased_amount_180d - purchased_amount_90d") }}
        end as purchased_trend_90d_pct,
        cast(purchase_avg_amount as double) as purchase_avg_amount,
        {{ pct("refunded_amount_365d", "invoiced_amount_365d") }} as refunded_365d_pct,
        days_since_last_purchase,
        purchase_gap_avg_days,
        days_since_last_purchase / nullif(purchase_gap_avg_days, 0) as purchase_silence_ratio,
        first_purchase_date
    from joined

)

select * from final
