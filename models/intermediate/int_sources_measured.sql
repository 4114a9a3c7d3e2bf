-- What each source delivers, and how far it reaches. A source that never sent a row of an entity does not measure it: the
-- difference between "no tickets" and "we do not see tickets" starts here.

with

facts as (

    {% for entity, happened_at in [
        ("contacts", "coalesce(created_at, loaded_at)"),
        ("subscriptions", "started_at"),
        ("invoices", "issued_at"),
        ("tickets", "opened_at"),
        ("survey_responses", "responded_at"),
        ("interactions", "occurred_at"),
        ("accounts", "created_at"),
    ] %}
        select
            source,
            account_source,
            '{{ entity }}' as entity,
            cast(count(*) as bigint) as facts,
            max({{ happened_at }}) as newest_fact_at,
            max(loaded_at) as newest_load_at
        from {{ union_staged(entity) }} as {{ entity }}
        where coalesce({{ "created_at" if entity == "contacts" else happened_at }} < {{ as_of() }}, true)
        group by source, account_source

        union all
    {% endfor %}

    select
        source,
        account_source,
        'usage_events' as entity,
        cast(sum(facts) as bigint) as facts,
        -- A row of no use is delivered, too: to the day, it shows how far the source reaches.
        max(greatest(last_event_at, cast(last_fact_date as timestamp))) as newest_fact_at,
        max(loaded_at) as newest_load_at
    from {{ ref("int_usage_months_united") }}
    group by source, account_source

)

select * from facts
