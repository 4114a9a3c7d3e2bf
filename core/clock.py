"""The run's clock: the one "now" that every model reads.

Lives here: the table `ledger.clock` and how its value is chosen. Must not live here: the wall clock itself (`core.settings.utc_now`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from core.warehouse import Connection, ensure_table, rows, table_exists

FACT_TIMES = {
    "usage_events": "occurred_at",
    "invoices": "issued_at",
    "tickets": "opened_at",
    "survey_responses": "responded_at",
    "interactions": "occurred_at",
    "subscriptions": "started_at",
}
"""The columns that move a clock that follows the data. Dates that may lie ahead (renewals, due dates) do not."""


def as_of(connection: Connection, *, clock: str, now: datetime, replay: datetime | None) -> datetime:
    """The instant that facts must precede: the replayed one, `now`, or the midnight after the last fact (`clock: data`)."""
    if replay is not None:
        return replay
    if clock == "wall":
        return now
    schemas = rows(
        connection, "select schema_name from information_schema.schemata where starts_with(schema_name, 'raw_')"
    )
    newest = [
        value
        for schema in schemas
        for entity, column in FACT_TIMES.items()
        if table_exists(connection, schema["schema_name"], entity)
        for value in [_newest(connection, schema["schema_name"], entity, column, now)]
        if value is not None
    ]
    last = max(newest, default=now)
    return datetime(last.year, last.month, last.day) + timedelta(days=1)


def _newest(connection: Connection, schema: str, entity: str, column: str, now: datetime) -> datetime | None:
    # A subscription may be sold to start later: what lies after the wall clock does not move it.
    row = connection.execute(f"select max({column}) from {schema}.{entity} where {column} <= ?", [now]).fetchone()
    return row[0] if row else None


def write(connection: Connection, as_of_at: datetime, *, is_replay: bool) -> None:
    """Make `as_of_at` the clock of the models that are built next."""
    ensure_table(connection, "ledger", "clock", {"as_of_at": "timestamp", "is_replay": "boolean"})
    connection.execute("begin transaction")
    connection.execute("delete from ledger.clock")
    connection.execute("insert into ledger.clock (as_of_at, is_replay) values (?, ?)", [as_of_at, is_replay])
    connection.execute("commit")
