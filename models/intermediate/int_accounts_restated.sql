{% set earlier = earlier_history() %}
{% set is_restated = earlier is not none and not is_replay() and not is_full_refresh() %}

-- Accounts of which facts came in since their metrics were last kept, that had happened before: their past is computed again from
-- the first of these facts on.

with

known as (

    {% if is_restated -%}
        select
            max(facts_loaded_at) as facts_loaded_at,
            max(as_of_date) as as_of_date
        from {{ earlier }}
    {%- else -%}
        select
            cast(null as timestamp) as facts_loaded_at,
            cast(null as date) as as_of_date
    {%- endif %}

),

late_facts as (

    {% for entity in measured_entities() -%}
        select
            facts.account_source,
            facts.source_account_id,
            min({{ happened_at(entity) }}) as happened_at
        from {{ union_staged(entity) }} as facts
        cross join known
        where
            {% if not is_restated -%} 1 = 0 and {% endif -%}
            facts.loaded_at > known.facts_loaded_at
            and {{ happened_at(entity) }} < known.as_of_date
        group by facts.account_source, facts.source_account_id
        {{ "union all" if not loop.last }}
    {% endfor %}

),

final as (

    select
        matched.account_id,
        cast(min(late_facts.happened_at) as date) as restated_from_date
    from late_facts
    inner join {{ ref("int_accounts_matched") }} as matched
        on
            late_facts.account_source = matched.source
            and late_facts.source_account_id = matched.source_account_id
    group by matched.account_id

)

select * from final
