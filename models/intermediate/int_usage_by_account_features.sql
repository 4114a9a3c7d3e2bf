{{
    config(
        materialized="incremental",
        incremental_strategy="delete+insert",
        unique_key=["source", "account_source", "source_account_id", "event_name"],
        on_schema_change="fail",
    )
}}

-- depends_on: {{ ref("stg_ledger__restated_days") }}
-- When each account first used each feature, when the feature was first delivered (a row of no use is), and when a row first
-- named a user. A later event cannot change that, so a run reads new events only; all events of a feature are read again only
-- where the loader took events away on the very day of one of its firsts.
{% set firsts = {
    "first_used_at": "case when " ~ uses() ~ " > 0 then occurred_at end",
    "first_fact_at": "occurred_at",
    "first_identified_at": "case when user_id is not null then occurred_at end",
} %}

with

{% if is_incremental() %}

    watermark as (

        select coalesce(max(loaded_at), timestamp '1970-01-01 00:00:00') as loaded_at
        from {{ this }}

    ),

    firsts_of_new_events as (

        select
            events.source,
            events.account_source,
            events.source_account_id,
            events.event_name,
            {% for first, moment in firsts.items() -%}
                min({{ moment }}) as {{ first }},
            {% endfor -%}
            max(events.loaded_at) as loaded_at
        from {{ union_staged("usage_events") }} as events
        where events.loaded_at > (select watermark.loaded_at from watermark)
        group by events.source, events.account_source, events.source_account_id, events.event_name

    ),

    doubtful as (

        select
            known.source,
            known.account_source,
            known.source_account_id,
            known.event_name,
            max(restated.loaded_at) as loaded_at
        from {{ ref("stg_ledger__restated_days") }} as restated
        inner join {{ this }} as known
            on
                restated.source = known.source
                and restated.account_source = known.account_source
                and restated.source_account_id = known.source_account_id
                and restated.activity_date in (
                    {% for first in firsts -%}
                        cast(known.{{ first }} as date){{ ", " if not loop.last }}
                    {%- endfor %}
                )
        where restated.loaded_at > (select watermark.loaded_at from watermark)
        group by known.source, known.account_source, known.source_account_id, known.event_name

    ),

    recounted as (

        select
            doubtful.source,
            doubtful.account_source,
            doubtful.source_account_id,
            doubtful.event_name,
            {% for first in firsts -%}
                min(events.{{ first }}) as {{ first }},
            {% endfor -%}
            max(doubtful.loaded_at) as loaded_at
        from doubtful
        left join (
            select
                {% for first, moment in firsts.items() -%}
                    {{ moment }} as {{ first }},
                {% endfor -%}
                account_source,
                source,
                source_account_id,
                event_name
            from {{ union_staged("usage_events") }} as staged
        ) as events
            on
                doubtful.source = events.source
                and doubtful.account_source = events.account_source
                and doubtful.source_account_id = events.source_account_id
                and doubtful.event_name = events.event_name
        group by doubtful.source, doubtful.account_source, doubtful.source_account_id, doubtful.event_name

    ),

    first_uses as (

        select
            fresh.source,
            fresh.account_source,
            fresh.source_account_id,
            fresh.event_name,
            {% for first in firsts -%}
                least(known.{{ first }}, fresh.{{ first }}) as {{ first }},
            {% endfor -%}
            fresh.loaded_at
        from firsts_of_new_events as fresh
        left join {{ this }} as known
            on
                fresh.source = known.source
                and fresh.account_source = known.account_source
                and fresh.source_account_id = known.source_account_id
                and fresh.event_name = known.event_name
        left join doubtful
            on
                fresh.source = doubtful.source
                and fresh.account_source = doubtful.account_source
                and fresh.source_account_id = doubtful.source_account_id
                and fresh.event_name = doubtful.event_name
        where doubtful.event_name is null

        union all

        select * from recounted

    )

{% else %}

    -- Stamped as the days are: carried through the grouping, the moment would take a third more of its time.
    newest_load as (

        select max(loaded_at) as loaded_at
        from {{ union_staged("usage_events") }} as events

    ),

    firsts_by_feature as (

        select
            source,
            account_source,
            source_account_id,
            event_name,
            {% for first, moment in firsts.items() -%}
                min({{ moment }}) as {{ first }}{{ "," if not loop.last }}
            {% endfor %}
        from {{ union_staged("usage_events") }} as events
        group by source, account_source, source_account_id, event_name

    ),

    first_uses as (

        select
            firsts_by_feature.*,
            newest_load.loaded_at
        from firsts_by_feature
        cross join newest_load

    )

{% endif %}

select * from first_uses
