-- One company out of its records: each attribute comes from the most trusted source that fills it.

with

matched as (

    select * from {{ ref("int_accounts_matched") }}

),

records as (

    select
        accounts.*,
        matched.account_id,
        matched.match_rule,
        matched.is_merged,
        row_number() over (
            partition by matched.account_id
            order by matched.is_merged, matched.precedence, accounts.created_at, accounts.source_account_id
        ) as trust_order,
        case matched.match_rule
            when 'primary' then 1
            when 'id' then 2
            when 'domain' then 3
            when 'name' then 4
            else 5
        end as rule_order
    from {{ ref("int_accounts_unioned") }} as accounts
    inner join matched
        on
            accounts.source = matched.source
            and accounts.source_account_id = matched.source_account_id

),

-- An owner is one person: id, name and address come from the same record, the most trusted one that has an owner.
owners as (

    select
        account_id,
        min(trust_order) as trust_order
    from records
    where owner_id is not null
    group by account_id

),

united as (

    select
        account_id,
        {{ first_by("account_name", "trust_order") }} as account_name,
        {{ first_by("domain", "trust_order") }} as domain,
        {{ first_by("industry", "trust_order") }} as industry,
        {{ first_by("segment", "trust_order") }} as segment,
        {{ first_by("country", "trust_order") }} as country,
        {{ first_by("employees", "trust_order") }} as employees,
        {{ first_by("source", "trust_order") }} as leading_source,
        {{ first_by("case when source_parent_account_id is not null then source end", "trust_order") }} as parent_source,
        {{ first_by("source_parent_account_id", "trust_order") }} as source_parent_account_id,
        {{ first_by("case when is_primary_source then source_account_id end", "trust_order") }} as crm_account_id,
        -- An account is known as well as its weakest link.
        {{ last_by("match_rule", "rule_order") }} as match_rule,
        cast(count(*) as bigint) as account_sources,
        {{ count_where("is_merged") }} as merged_records,
        min(case when is_derived then 1 else 0 end) = 1 as is_derived,
        min(created_at) as created_at
    from records
    group by account_id

),

sources_of_accounts as (

    select distinct
        account_id,
        source
    from records

),

listed_sources as (

    select
        account_id,
        {{ listed("source") }} as sources
    from sources_of_accounts
    group by account_id

),

same_ids as (
    -- An id in another form than the parent's own, where it can only be that one.
    select
        source,
        {{ canonical_id("source_account_id") }} as canonical_id,
        min(account_id) as account_id
    from matched
    group by source, {{ canonical_id("source_account_id") }}
    having count(*) = 1

),

with_parents as (

    select
        united.account_id,
        united.account_name,
        united.domain,
        united.industry,
        united.segment,
        united.country,
        united.employees,
        owner_records.owner_id,
        owner_records.owner_name,
        owner_records.owner_email,
        united.leading_source,
        nullif(coalesce(parent.account_id, same_id.account_id), united.account_id) as parent_account_id,
        united.crm_account_id,
        united.match_rule,
        united.account_sources,
        listed_sources.sources,
        united.merged_records,
        united.is_derived,
        united.created_at
    from united
    inner join listed_sources on united.account_id = listed_sources.account_id
    left join owners on united.account_id = owners.account_id
    left join records as owner_records
        on
            owners.account_id = owner_records.account_id
            and owners.trust_order = owner_records.trust_order
    left join matched as parent
        on
            united.parent_source = parent.source
            and united.source_parent_account_id = parent.source_account_id
    left join same_ids as same_id
        on
            united.parent_source = same_id.source
            and {{ canonical_id("united.source_parent_account_id") }} = same_id.canonical_id

)

select * from with_parents
