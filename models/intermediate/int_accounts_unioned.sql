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

)

select * from normalised
