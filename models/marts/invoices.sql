{{ config(materialized="view") }}

with

invoices as (

    select * from {{ ref("int_invoices_united") }}

),

classified as (

    select
        *,
        -- A credit note asks nobody for money, and a cancelled or written-off invoice no longer does. Of a source that says
        -- nothing of payments, nobody knows.
        case
            when payment_known_from < {{ as_of() }}
                then
                    paid_at is null
                    and amount > 0
                    and coalesce(status, 'open') not in ('paid', 'void', 'uncollectible')
        end as is_unpaid
    from invoices

),

final as (

    select
        source,
        stream,
        invoice_id,
        account_id,
        issued_at,
        due_at,
        paid_at,
        amount,
        original_amount,
        currency,
        exchange_rate,
        status,
        failed_payments,
        is_unpaid,
        case when due_at is not null and is_unpaid is not null then is_unpaid and due_at < {{ as_of() }} end as is_overdue,
        case
            when due_at is null then null
            when paid_at is not null and paid_at > due_at then cast({{ days_between("due_at", "paid_at") }} as bigint)
            when paid_at is not null then 0
            when is_unpaid and due_at < {{ as_of() }} then cast({{ days_between("due_at", as_of()) }} as bigint)
        end as late_days
    from classified

)

select * from final
