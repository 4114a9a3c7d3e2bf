{{ config(materialized="view") }}

-- People of all sources as of the run. A contact without a date counts as known all along.

with

contacts as (

    select * from {{ union_staged("contacts") }} as staged

),

accounts as (

    select * from {{ ref("int_accounts_matched") }}

),

united as (

    select
        contacts.source,
        contacts.stream,
        contacts.contact_id,
        accounts.account_id,
        contacts.email,
        contacts.role,
        contacts.created_at,
        contacts.is_unsubscribed,
        case when contacts.left_at < {{ as_of() }} then contacts.left_at end as left_at,
        -- Of a source that says nothing of roles, nobody knows.
        case when known.role_from < {{ as_of() }} then coalesce(contacts.role like '%champion%', false) end as is_champion
    from contacts
    inner join accounts
        on
            contacts.account_source = accounts.source
            and contacts.source_account_id = accounts.source_account_id
    {{ known_columns("contacts", "contacts") }}
    where coalesce(contacts.created_at < {{ as_of() }}, true)

)

select * from united
