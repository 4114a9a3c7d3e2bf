{{ config(materialized="view") }}

-- The records that no rule could join to a more trusted source, with what would help a human to do it.

with

unmatched as (

    select
        source,
        source_account_id,
        account_id
    from {{ ref("int_accounts_matched") }}
    where match_rule = 'unmatched' and not is_merged

),

accounts as (

    select * from {{ ref("int_accounts_unioned") }}

),

described as (

    select
        unmatched.source,
        unmatched.source_account_id,
        unmatched.account_id,
        accounts.account_name,
        accounts.domain,
        accounts.crm_account_id,
        accounts.created_at,
        case
            when accounts.is_derived then 'only facts mention it'
            when accounts.crm_account_id is not null then 'names an id that no earlier source has'
            when accounts.normalised_domain is null and accounts.normalised_name is null
                then 'has neither a domain nor a name that identifies a company'
            else 'its domain and name match no record of an earlier source, or more than one'
        end as explanation
    from unmatched
    inner join accounts
        on
            unmatched.source = accounts.source
            and unmatched.source_account_id = accounts.source_account_id

)

select * from described
