{{ config(materialized="view") }}

with

matched as (

    select * from {{ ref("int_accounts_matched") }}

),

final as (

    select
        source,
        source_account_id,
        account_id,
        match_rule,
        is_merged,
        is_derived,
        is_primary_source
    from matched

)

select * from final
