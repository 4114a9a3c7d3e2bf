{{ config(materialized="view") }}

-- Touches between team and account, of all sources, before the as-of date.

with

interactions as (

    select * from {{ union_staged("interactions") }} as staged

),

accounts as (

    select * from {{ ref("int_accounts_matched") }}

),

united as (

    select
        interactions.source,
        interactions.stream,
        interactions.interaction_id,
        accounts.account_id,
        interactions.contact_id,
        interactions.channel,
        interactions.direction,
        interactions.occurred_at,
        interactions.subject
    from interactions
    inner join accounts
        on
            interactions.account_source = accounts.source
            and interactions.source_account_id = accounts.source_account_id
    where interactions.occurred_at < {{ as_of() }}

)

select * from united
