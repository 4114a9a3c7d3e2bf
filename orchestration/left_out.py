"""What of the sources is not in the marts, as published tables: rows in quarantine, and values that could not be read.

Lives here: their SQL over the working warehouse. Must not live here: which rows and values these are (`sources/`), how they are shown.

The rows themselves stay in the working warehouse: they hold what came as it came. Of values, one example of each kind is published.
"""

from __future__ import annotations

from core.warehouse import Connection, identifier, literal, rows

_UNREAD = literal('[{"column": "VARCHAR", "reason": "VARCHAR", "detail": "VARCHAR"}]')
_QUARANTINED = (
    "select _source as source, _stream as stream, _reason as reason, count(*) as rows_quarantined,"
    " cast(sum(_times_seen) as bigint) as times_seen, min(_first_seen_at) as first_seen_at, max(_last_seen_at) as last_seen_at"
)
_MRR = """
with subscriptions as (
    -- A row may be broken in one way, and delivered again broken in another: the newest record of it counts.
    select distinct on (_source, _stream, coalesce(subscription_id, cast(rowid as varchar)))
        _source as source,
        _stream as stream,
        case
            when coalesce(_unread not like '%"column":"mrr"%', true)
                then cast(try_cast(mrr as decimal(18, 2)) * ({rate}) as decimal(18, 2))
        end as mrr,
        try_cast(started_at as timestamp) as started_at,
        try_cast(ended_at as timestamp) as ended_at,
        ended_at is not null and try_cast(ended_at as timestamp) is null as has_unread_end,
        coalesce(try_cast(is_trial as boolean), false) as is_trial
    from quarantine.subscriptions
    where _reason is not null
    order by _source, _stream, coalesce(subscription_id, cast(rowid as varchar)), _last_seen_at desc
),

running as (
    select subscriptions.*
    from subscriptions
    cross join (select max(as_of_at) as as_of_at from ledger.clock) as clock
    where
        not is_trial
        and (started_at is null or started_at <= as_of_at)
        and (ended_at is null or ended_at > as_of_at)
)

select
    source,
    stream,
    count(*) as subscriptions,
    coalesce(sum(mrr) filter (not has_unread_end), 0) as mrr,
    count(*) filter (mrr is null or has_unread_end) as subscriptions_unread
from running
group by source, stream
"""
"""MRR of subscriptions in quarantine that would be running at the as-of date. Of `subscriptions_unread`, the amount, its rate of exchange
or the end is not known: they are not in the sum, so that it is at least so much."""


def tables(connection: Connection, *, rate: str = "1") -> dict[str, str]:
    """The tables of schema `quality` by name, and the SQL that fills them. `rate` is SQL of a quarantined subscription's rate into the
    reporting currency, NULL where there is none."""
    found = rows(
        connection,
        "select table_schema as schema, table_name as entity from information_schema.columns"
        " where (table_schema = 'quarantine' and column_name = '_reason')"
        " or (starts_with(table_schema, 'raw_') and column_name = '_unread') order by all",
    )
    held = [row["entity"] for row in found if row["schema"] == "quarantine"]
    loaded = [(row["schema"], row["entity"]) for row in found if row["schema"] != "quarantine"]
    quarantined = [
        f"select {literal(entity)} as entity, * from ({_QUARANTINED} from quarantine.{identifier(entity)} group by all)"
        for entity in held
    ]
    nothing = "select '' as source, '' as stream, 0 as subscriptions, cast(0 as decimal(18, 2)) as mrr, 0 as subscriptions_unread"
    return {
        "quarantined": " union all ".join(quarantined),
        "quarantined_mrr": _MRR.replace("{rate}", rate) if "subscriptions" in held else f"{nothing} where false",
        "unread_values": " union all ".join(_unread(schema, entity) for schema, entity in loaded)
        or f"{_unread_of()} where false",
    }


def _unread(schema: str, entity: str) -> str:
    noted = (
        f"select _source, _stream, unnest(from_json(_unread, {_UNREAD})) as u from {identifier(schema)}.{identifier(entity)}"
        " where _unread is not null"
    )
    return (
        f'select {literal(entity)} as entity, _source as source, _stream as stream, u."column" as column_name, u.reason as reason,'
        f" count(*) as values_unread, min(u.detail) as example from ({noted}) group by all"
    )


def _unread_of() -> str:
    texts = ("entity", "source", "stream", "column_name", "reason")
    empty = ", ".join(f"'' as {name}" for name in texts)
    return f"select {empty}, 0 as values_unread, '' as example"
