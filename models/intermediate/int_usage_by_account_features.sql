{{
    config(
        materialized="incremental",
        incremental_strategy="delete+insert",
        unique_key=["source", "account_source", "source_account_id", "event_name"],
        on_schema_change="fail",
    )
}}

-- depends_on: {{ ref("stg_ledger__restated_days") }}
-- When each account first used each feature. A later event cannot change that, so a run reads new events only; all events
-- of a feature are read again only where the loader took events away on the very day of its first use.

with

{% if is_incremental() %}

    watermark as (

        select coalesce(max(loaded_at), timestamp '1970-01-01 00:00:00') as loaded_at
        from {{ this }}

    ),

    first_uses_in_new_events as (

        select
            events.source,
            events.account_source,
            events.source_account_id,
            events.event_name,
            min(events.occurred_at) as first_used_at,
            max(events.loaded_at) as loaded_at
        from {{ union_staged("usage_events") }} as events
        where events.loaded_at > (select watermark.loaded_at from watermark)
        group by events.source, events.account_source, events.source_account_id, events.event_name

    ),

    doubtful_first_uses as (

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
                and restated.activity_date = cast(known.first_used_at as date)
        where restated.loaded_at > (select watermark.loaded_at from watermark)
        group by known.source, known.account_source, known.source_account_id, known.event_name

    ),

    recounted_first_uses as (

        select
            doubtful.source,
            doubtful.account_source,
            doubtful.source_account_id,
            doubtful.event_name,
            min(events.occurred_at) as first_used_at,
            max(doubtful.loaded_at) as loaded_at
        from doubtful_first_uses as doubtful
        left join {{ union_staged("usage_events") }} as events
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
            case
                when known.first_used_at < fresh.first_used_at then known.first_used_at
                else fresh.first_used_at
            end as first_used_at,
            fresh.loaded_at
        from first_uses_in_new_events as fresh
        left join {{ this }} as known
            on
                fresh.source = known.source
                and fresh.account_source = known.account_source
                and fresh.source_account_id = known.source_account_id
                and fresh.event_name = known.event_name
        left join doubtful_first_uses as doubtful
            on
                fresh.source = doubtful.source
                and fresh.account_source = doubtful.account_source
                and fresh.source_account_id = doubtful.source_account_id
                and fresh.event_name = doubtful.event_name
        where doubtful.event_name is null

        union all

        select
            source,
            account_source,
            source_account_id,
            event_name,
            first_used_at,
            loaded_at
        from recounted_first_uses

    )

{% else %}

    -- Stamped as the days are: carried through the grouping, the moment would take a third more of its time.
    newest_load as (

        select max(loaded_at) as loaded_at
        from {{ union_staged("usage_events") }} as events

    ),

    first_uses_by_feature as (

        select
            source,
            account_source,
            source_account_id,
            event_name,
            min(occurred_at) as first_used_at
        from {{ union_staged("usage_events") }} as events
        group by source, account_source, source_account_id, event_name

    ),

    first_uses as (

        select
            first_uses_by_feature.*,
            newest_load.loaded_at
        from first_uses_by_feature
        cross join newest_load

    )

{% endif %}

select * from first_uses
