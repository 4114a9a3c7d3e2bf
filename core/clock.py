"""The run's clock: the one "now" that every model reads.

Lives here: the table `ledger.clock` and how its value is chosen. Must not live here: the wall clock itself (`core.settings.utc_now`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from core.contract import ENTITIES, Entity
from core.warehouse import Connection, ensure_table, rows, scalar, table_exists

STATES = ("accounts", "contacts", "memberships")
"""Entities that say what is there, not what happened: an account that was created says nothing of how far the data go."""


def as_of(connection: Connection, *, clock: str, now: datetime, replay: datetime | None) -> datetime:
    """The instant that facts must precede: the replayed one, `now`, or the midnight after the last fact that was observed
    (`clock: data`)."""
    if replay is not None:
        return replay
    if clock == "wall":
        return now
    schemas = rows(
        connection, "select schema_name from information_schema.schemata where starts_with(schema_name, 'raw_')"
    )
    tables = [
        (f"{schema['schema_name']}.{entity.name}", entity)
        for schema in schemas
        for entity in ENTITIES.values()
        if table_exists(connection, schema["schema_name"], entity.name)
    ]
    # A company that is known by its contracts alone has nothing else that says how far its data go.
    facts = [(table, entity) for table, entity in tables if entity.name not in STATES]
    last = _newest(connection, facts, _observed, now) or _newest(connection, facts, _begun, now) or now
    return datetime(last.year, last.month, last.day) + timedelta(days=1)


def _newest(
    connection: Connection,
    tables: Sequence[tuple[str, Entity]],
    condition: Callable[[Entity], str | None],
    now: datetime,
) -> datetime | None:
    """When the newest fact of `tables` happened, of those that meet a condition, and not after the wall clock."""
    found = [
        scalar(connection, f"select max({at}) from {table} where {at} <= ? and {where}", [now])
        for table, entity in tables
        for at, where in [(entity.happened_at, condition(entity))]
        if where is not None
    ]
    return max((at for at in found if at is not None), default=None)


def _observed(entity: Entity) -> str | None:
    """SQL: facts that were observed. What may be planned (the start of a subscription, a meeting) was, once the source changed the row
    after it: sold or planned ahead, it does not move the clock."""
    if not entity.column(entity.happened_at).future:
        return "true"
    return f"{entity.happened_at} <= updated_at" if "updated_at" in entity.column_names else None


def _begun(entity: Entity) -> str | None:
    return "true"


def write(connection: Connection, as_of_at: datetime, *, is_replay: bool) -> None:
    """Make `as_of_at` the clock of the models that are built next."""
    ensure_table(connection, "ledger", "clock", {"as_of_at": "timestamp", "is_replay": "boolean"})
    connection.execute("begin transaction")
    connection.execute("delete from ledger.clock")
    connection.execute("insert into ledger.clock (as_of_at, is_replay) values (?, ?)", [as_of_at, is_replay])
    connection.execute("commit")
