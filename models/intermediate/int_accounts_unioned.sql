-- Every account that any source knows as of the run, ready for matching. Where sources only deliver facts, whoever a fact
-- mentions is an account.

with

staged as (

    select
        *,
        row_number() over (
            partition by source, source_account_id
            order by loaded_at desc, stream asc
        ) as recency
    from {{ union_staged("accounts") }} as staged
    where created_at < {{ as_of() }}

),

listed as (

    select
        source,
        source_account_id,
        name as account_name,
        domain,
        industry,
        segment,
        country,
        employees,
        parent_account_id as source_parent_account_id,
        owner_id,
        owner_name,
        owner_email,
        created_at,
        crm_account_id,
        merged_into_account_id,
        false as is_derived
    from staged
    -- Two streams of one source may both list an account; what was loaded last is nearest to the truth.
    where recency = 1

),

{% if var("derive_accounts") %}

    mentions as (

        select
            account_source,
            source_account_id,
            started_at as happened_at
        from {{ union_staged("subscriptions") }} as subscriptions
        union all
        select
            account_source,
            source_account_id,
            issued_at as happened_at
        from {{ union_staged("invoices") }} as invoices
        union all
        select
            account_source,
            source_account_id,
            opened_at as happened_at
        from {{ union_staged("tickets") }} as tickets
        union all
        select
            account_source,
            source_account_id,
            responded_at as happened_at
        from {{ union_staged("survey_responses") }} as survey_responses
        union all
        select
            account_source,
            source_account_id,
            occurred_at as happened_at
        from {{ union_staged("interactions") }} as interactions
        union all
        -- Usage is far larger than all else, and the first row of each feature is already known.
        select
            account_source,
            source_account_id,
            first_fact_at as happened_at
        from {{ ref("int_usage_by_account_features") }}

    ),

    first_mentions as (

        select
            account_source as source,
            source_account_id,
            min(happened_at) as created_at
        from mentions
        where happened_at < {{ as_of() }}
        group by account_source, source_account_id

    ),

    derived as (

        select
            first_mentions.source,
            first_mentions.source_account_id,
            cast(null as string) as account_name,
            cast(null as string) as domain,
            cast(null as string) as industry,
            cast(null as string) as segment,
            cast(null as string) as country,
            cast(null as bigint) as employees,
            cast(null as string) as source_parent_account_id,
            cast(null as string) as owner_id,
            cast(null as string) as owner_name,
            cast(null as string) as owner_email,
            first_mentions.created_at,
            cast(null as string) as crm_account_id,
            cast(null as string) as merged_into_account_id,
            true as is_derived
        from first_mentions
        left join listed
            on
                first_mentions.source = listed.source
                and first_mentions.source_account_id = listed.source_account_id
        where listed.source_account_id is null

    ),

    accounts as (

        select * from listed
        union all
        select * from derived

    ),

{% else %}

    accounts as (

        select * from listed

    ),

{% endif %}

-- Sources are ranked by themselves: a rank over all accounts would sort them with all their columns.
known_sources as (

    select distinct source
    from accounts

),

ranked_sources as (

    select
        source,
        cast(dense_rank() over (order by {{ source_position("source") }}, source) as bigint) as precedence,
        {% if var("identity_precedence") -%}
            source = '{{ var("identity_precedence")[0] }}' as is_primary_source
        {%- else -%}
            dense_rank() over (order by source) = 1 as is_primary_source
        {%- endif %}
    from known_sources

),

normalised as (

    select
        accounts.source,
        accounts.source_account_id,
        accounts.account_name,
        accounts.domain,
        accounts.industry,
        accounts.segment,
        accounts.country,
        accounts.employees,
        accounts.source_parent_account_id,
        {{ opaque_owner("accounts", "ranked_sources.is_primary_source") }} as owner_id,
        case when accounts.owner_name not like '%@%' then accounts.owner_name end as owner_name,
        accounts.owner_email,
        accounts.created_at,
        accounts.crm_account_id,
        accounts.merged_into_account_id,
        accounts.is_derived,
        {{ normalised_name("accounts.account_name") }} as normalised_name,
        {{ normalised_domain("accounts.domain") }} as normalised_domain,
        ranked_sources.precedence,
        ranked_sources.is_primary_source
    from accounts
    inner join ranked_sources on accounts.source = ranked_sources.source

),

placeholders as (

    select listed_value as placeholder
    from {{ ref("stg_ledger__identity_lists") }}
    where kind = 'placeholder'

),

domain_lists as (

    select
        kind,
        listed_value
    from {{ ref("stg_ledger__identity_lists") }}
    where kind in ('suffix', 'shared_domain')

),

domains as (

    select distinct normalised_domain as domain
    from normalised
    where normalised_domain is not null

),

-- What is shared is shared with all that lies below it.
shared_domains as (

    {% for count in [2, 3, 4] -%}
        select domains.domain
        from domains
        inner join domain_lists as shared on {{ last_labels("domains.domain", count) }} = shared.listed_value
        where shared.kind = 'shared_domain'
        {{ "union" if not loop.last }}
    {% endfor %}

),

-- A domain names a company if it lies below a suffix that exists, is no such suffix itself, and neither a mail provider's nor a
-- placeholder (`none.com`). An address of numbers, a single word and a slip of the pen have no suffix that exists.
company_domains as (

    select domains.domain
    from domains
    inner join domain_lists as top on {{ last_labels("domains.domain", 1) }} = top.listed_value and top.kind = 'suffix'
    left join domain_lists as suffixes on domains.domain = suffixes.listed_value and suffixes.kind = 'suffix'
    left join shared_domains on domains.domain = shared_domains.domain
    left join placeholders on {{ first_label("domains.domain") }} = placeholders.placeholder
    where suffixes.listed_value is null and shared_domains.domain is null and placeholders.placeholder is null

),

-- What identifies no company is NULL, so that no rule can match by it.
identifying as (

    select
        normalised.source,
        normalised.source_account_id,
        normalised.account_name,
        normalised.domain,
        normalised.industry,
        normalised.segment,
        normalised.country,
        normalised.employees,
        normalised.source_parent_account_id,
        normalised.owner_id,
        normalised.owner_name,
        normalised.owner_email,
        normalised.created_at,
        case when empty_ids.placeholder is null then normalised.crm_account_id end as crm_account_id,
        normalised.merged_into_account_id,
        normalised.is_derived,
        case
            when written_names.placeholder is null and empty_names.placeholder is null then normalised.normalised_name
        end as normalised_name,
        company_domains.domain as normalised_domain,
        {{ canonical_id("normalised.source_account_id") }} as canonical_account_id,
        case when empty_ids.placeholder is null then {{ canonical_id("normalised.crm_account_id") }} end
            as canonical_crm_account_id,
        normalised.precedence,
        normalised.is_primary_source
    from normalised
    left join company_domains on normalised.normalised_domain = company_domains.domain
    left join placeholders as written_names on lower(trim(normalised.account_name)) = written_names.placeholder
    left join placeholders as empty_names on normalised.normalised_name = empty_names.placeholder
    left join placeholders as empty_ids on lower(trim(normalised.crm_account_id)) = empty_ids.placeholder

)

select * from identifying
