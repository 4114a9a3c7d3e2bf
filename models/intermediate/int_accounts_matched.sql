-- Which records of different sources are one company. Sources are ordered by trust; a record of a later source joins a record of
-- an earlier one by the first rule that finds a partner:
--   1. id      it names the other's id, as it is written or else in another form of the same id (canonical_id)
--   2. domain  both have a domain that no other record of their source has
--   3. name    both have a normalised name that no other record of their source has
-- A value that two records of a source share proves nothing, so it matches nobody. Before that, records that their own source
-- merged go to the survivor.
{% set rules = var("identity_rules") %}
-- A chain of matches visits each source at most once.
{% set hops = [var("identity_precedence") | length, 4] | max - 1 %}

with

accounts as (

    select * from {{ ref("int_accounts_unioned") }}

),

absorptions as (

    select
        merged.source,
        merged.source_account_id,
        survivor.source_account_id as survivor_id
    from accounts as merged
    inner join accounts as survivor
        on
            merged.source = survivor.source
            and merged.merged_into_account_id = survivor.source_account_id
    where merged.source_account_id <> survivor.source_account_id

),

-- A survivor may itself have been merged later; three hops follow such a chain.
merge_chains as (

    select
        first_hop.source,
        first_hop.source_account_id,
        coalesce(third_hop.survivor_id, second_hop.survivor_id, first_hop.survivor_id) as survivor_id
    from absorptions as first_hop
    left join absorptions as second_hop
        on
            first_hop.source = second_hop.source
            and first_hop.survivor_id = second_hop.source_account_id
    left join absorptions as third_hop
        on
            second_hop.source = third_hop.source
            and second_hop.survivor_id = third_hop.source_account_id

),

-- A chain that is longer, or that bites its own tail, has no survivor: its records stay apart rather than vanish.
ended_merge_chains as (

    select
        merge_chains.source,
        merge_chains.source_account_id,
        merge_chains.survivor_id
    from merge_chains
    left join absorptions
        on
            merge_chains.source = absorptions.source
            and merge_chains.survivor_id = absorptions.source_account_id
    where absorptions.source_account_id is null

),

surviving as (

    select
        accounts.source,
        accounts.source_account_id,
        accounts.crm_account_id,
        accounts.canonical_account_id,
        accounts.canonical_crm_account_id,
        accounts.normalised_domain,
        accounts.normalised_name,
        accounts.precedence,
        accounts.is_primary_source,
        accounts.is_derived,
        ended.survivor_id is not null as is_merged,
        coalesce(ended.survivor_id, accounts.source_account_id) as survivor_id
    from accounts
    left join ended_merge_chains as ended
        on
            accounts.source = ended.source
            and accounts.source_account_id = ended.source_account_id

),

-- Two records may have one id in two forms; then only the form as written tells which is meant.
unique_ids as (

    select
        source,
        precedence,
        canonical_account_id,
        min(survivor_id) as survivor_id
    from surviving
    group by source, precedence, canonical_account_id
    having count(*) = 1

),

unique_domains as (

    select
        source,
        precedence,
        normalised_domain,
        min(source_account_id) as source_account_id
    from surviving
    where
        not is_merged
        and normalised_domain is not null
    group by source, precedence, normalised_domain
    having count(*) = 1

),

unique_names as (

    select
        source,
        precedence,
        normalised_name,
        min(source_account_id) as source_account_id
    from surviving
    where
        not is_merged
        and normalised_name is not null
    group by source, precedence, normalised_name
    having count(*) = 1

),

candidates as (

    -- The id may name a record that was merged since; its survivor is meant.
    select
        later.source,
        later.source_account_id,
        earlier.source as matched_source,
        earlier.survivor_id as matched_account_id,
        earlier.precedence as matched_precedence,
        'id' as match_rule,
        1 as rule_order
    from surviving as later
    inner join surviving as earlier
        on
            later.crm_account_id = earlier.source_account_id
            and later.precedence > earlier.precedence
    where not later.is_merged and {{ ("id" in rules) | lower }}

    union all

    select
        later.source,
        later.source_account_id,
        earlier.source as matched_source,
        earlier.survivor_id as matched_account_id,
        earlier.precedence as matched_precedence,
        'id' as match_rule,
        2 as rule_order
    from surviving as later
    inner join unique_ids as earlier
        on
            later.canonical_crm_account_id = earlier.canonical_account_id
            and later.precedence > earlier.precedence
    where not later.is_merged and {{ ("id" in rules) | lower }}

    union all

    select
        later.source,
        later.source_account_id,
        earlier.source as matched_source,
        earlier.source_account_id as matched_account_id,
        earlier.precedence as matched_precedence,
        'domain' as match_rule,
        3 as rule_order
    from unique_domains as later
    inner join unique_domains as earlier
        on
            later.normalised_domain = earlier.normalised_domain
            and later.precedence > earlier.precedence
    where {{ ("domain" in rules) | lower }}

    union all

    select
        later.source,
        later.source_account_id,
        earlier.source as matched_source,
        earlier.source_account_id as matched_account_id,
        earlier.precedence as matched_precedence,
        'name' as match_rule,
        4 as rule_order
    from unique_names as later
    inner join unique_names as earlier
        on
            later.normalised_name = earlier.normalised_name
            and later.precedence > earlier.precedence
    where {{ ("name" in rules) | lower }}

),

-- Records that name the id of an account, where one of an earlier source has it.
known_ids as (

    select distinct
        source,
        source_account_id
    from candidates
    where match_rule = 'id'

),

-- A rule finds at most one partner in a source, so the order has no ties. As aggregates and not as a window: a quarter less
-- processor time for the whole model.
ordered_candidates as (

    select
        *,
        rule_order * 1000000 + matched_precedence as choice
    from candidates

),

matches as (

    select
        source,
        source_account_id,
        {{ first_by("matched_source", "choice") }} as matched_source,
        {{ first_by("matched_account_id", "choice") }} as matched_account_id,
        {{ first_by("match_rule", "choice") }} as match_rule
    from ordered_candidates
    group by source, source_account_id

),

-- The partner may have a partner in a still earlier source: follow to the end.
hop_0 as (

    select
        source,
        source_account_id,
        source as root_source,
        source_account_id as root_account_id
    from surviving
    where not is_merged

),

{% for hop in range(1, hops + 1) %}

    hop_{{ hop }} as (

        select
            hop.source,
            hop.source_account_id,
            coalesce(matches.matched_source, hop.root_source) as root_source,
            coalesce(matches.matched_account_id, hop.root_account_id) as root_account_id
        from hop_{{ hop - 1 }} as hop
        left join matches
            on
                hop.root_source = matches.source
                and hop.root_account_id = matches.source_account_id

    ),

{% endfor %}

identified as (

    select
        surviving.source,
        surviving.source_account_id,
        case
            when root.is_primary_source then root.source_account_id
            else root.source || ':' || root.source_account_id
        end as account_id,
        case
            when surviving.is_primary_source then 'primary'
            else coalesce(matches.match_rule, 'unmatched')
        end as match_rule,
        surviving.is_merged,
        surviving.is_derived,
        surviving.is_primary_source,
        surviving.precedence,
        surviving.precedence > 1
        and not surviving.is_merged
        and surviving.crm_account_id is not null
        and known_ids.source_account_id is null
        and {{ ("id" in rules) | lower }} as names_unknown_id
    from surviving
    inner join hop_{{ hops }} as followed
        on
            surviving.source = followed.source
            and surviving.survivor_id = followed.source_account_id
    inner join surviving as root
        on
            followed.root_source = root.source
            and followed.root_account_id = root.source_account_id
    left join matches
        on
            surviving.source = matches.source
            and surviving.survivor_id = matches.source_account_id
    left join known_ids
        on
            surviving.source = known_ids.source
            and surviving.source_account_id = known_ids.source_account_id

)

select * from identified
