{{ config(materialized="view") }}

-- Invoices of all sources as they stood at the as-of date: one that was paid later was still open.

with

invoices as (

    select * from {{ union_staged("invoices") }} as staged

),

accounts as (

    select * from {{ ref("int_accounts_matched") }}

),

united as (

    select
        invoices.source,
        invoices.stream,
        invoices.invoice_id,
        accounts.account_id,
        invoices.issued_at,
        invoices.due_at,
        case when invoices.paid_at < {{ as_of() }} then invoices.paid_at end as paid_at,
        {{ converted("invoices.amount", "invoices.exchange_rate") }} as amount,
        invoices.amount as original_amount,
        invoices.currency,
        invoices.exchange_rate,
        case when invoices.paid_at >= {{ as_of() }} then 'open' else invoices.status end as status,
        invoices.failed_payments,
        -- Since when its source says which invoices were paid.
        least(known.paid_at_from, known.status_from) as payment_known_from
    from invoices
    inner join accounts
        on
            invoices.account_source = accounts.source
            and invoices.source_account_id = accounts.source_account_id
    {{ known_columns("invoices", "invoices") }}
    where invoices.issued_at < {{ as_of() }}

)

select * from united
