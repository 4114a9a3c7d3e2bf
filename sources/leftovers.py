"""Rows of sources and streams that tenure.yml no longer has: which there are, and taking them out.

Lives here: what is loaded of streams that are not configured, and its removal from raw tables, quarantine and ledger. Must not live
here: rows of streams that are (`load.py`), a person's or an account's rows in every store (the erasure).

Models read a connector's tables as a whole, so such rows count until they are removed. They are removed in one transaction: a kill
leaves all of them or none. Days of usage that lose events are noted, so that the models count them again. The ledger keeps what was
loaded when (`ledger.loads`), which stays true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.contract import ENTITIES
from core.settings import Config
from core.warehouse import Connection, literal, rows, scalar, table_exists, transaction
from sources import ledger
from sources.base import stream_ids

_HISTORY = ("loads", "drift")
_REMEMBERED = tuple(
    name for name, columns in ledger.LEDGER.items() if {"source", "stream"} <= columns.keys() and name not in _HISTORY
)
"""Tables of the ledger that hold what the next load of a stream goes on from."""


@dataclass(frozen=True)
class Leftover:
    """What is loaded of one stream that is not configured: rows of `tables` (those of raw tables by name), and in quarantine."""

    source: str
    stream: str
    rows: int
    quarantined: int
    tables: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.source}/{self.stream}"


def find(connection: Connection, config: Config) -> list[Leftover]:
    """All that is loaded of streams that are not configured. A stream that is filled by another connector now, or fills another entity,
    has left what it loaded before."""
    configured = {(stream.source, stream.stream, stream.table) for stream in stream_ids(config)}
    known = {(source, stream) for source, stream, _ in configured}
    loaded: dict[tuple[str, str], dict[str, int]] = {}
    for table in _raw_tables(connection):
        for row in _streams_of(connection, table):
            if (row["_source"], row["_stream"], table) not in configured:
                loaded.setdefault((row["_source"], row["_stream"]), {})[table] = row["n"]
    quarantined: dict[tuple[str, str], int] = {}
    for table in _quarantines(connection):
        for row in _streams_of(connection, table):
            if (row["_source"], row["_stream"]) not in known:
                stream = (row["_source"], row["_stream"])
                quarantined[stream] = quarantined.get(stream, 0) + row["n"]
    return [
        Leftover(
            *stream,
            rows=sum(loaded.get(stream, {}).values()),
            quarantined=quarantined.get(stream, 0),
            tables=tuple(sorted(loaded.get(stream, {}))),
        )
        for stream in sorted(loaded.keys() | quarantined.keys())
    ]


def was_loaded(connection: Connection, source: str) -> bool:
    """Whether anything was ever loaded of a source."""
    if not table_exists(connection, "ledger", "loads"):
        return False
    return scalar(connection, "select 1 from ledger.loads where source = ? limit 1", [source]) is not None


def remove(connection: Connection, config: Config, leftovers: Sequence[Leftover], *, now: datetime) -> None:
    """Take out what is loaded of `leftovers`, all or nothing."""
    known = {(stream.source, stream.stream) for stream in stream_ids(config)}
    with transaction(connection):
        at = ledger.next_moment(connection, now)
        for one in leftovers:
            mine = f"_source = {literal(one.source)} and _stream = {literal(one.stream)}"
            for table in one.tables:
                if table.endswith(".usage_events"):
                    ledger.note_restated_days(connection, table, mine, at)
                connection.execute(f"delete from {table} where {mine}")
            if (one.source, one.stream) in known:
                continue
            for table in _quarantines(connection):
                connection.execute(f"delete from {table} where {mine}")
            for name in _REMEMBERED:
                connection.execute(
                    f"delete from ledger.{name} where source = ? and stream = ?", [one.source, one.stream]
                )


def _raw_tables(connection: Connection) -> list[str]:
    found = rows(
        connection,
        "select table_schema || '.' || table_name as name, table_name from information_schema.columns"
        " where starts_with(table_schema, 'raw_') and column_name = '_stream' order by all",
    )
    return [row["name"] for row in found if row["table_name"] in ENTITIES]


def _quarantines(connection: Connection) -> list[str]:
    return [f"quarantine.{name}" for name in ENTITIES if table_exists(connection, "quarantine", name)]


def _streams_of(connection: Connection, table: str) -> list[dict[str, Any]]:
    return rows(connection, f"select _source, _stream, count(*) as n from {table} group by all")
