"""Whose data a source's rows are from: a cursor goes on only in the data that it was taken from.

Lives here: the comparison of what was loaded with where a source leads now, and noting that both are the same. Must not live here: where a
source leads (`core/source_settings.py`), taking out what was loaded (`load.py`).

A source is a name in tenure.yml; the account, project or database behind the name may change, as when a stand-in is swapped for a token.
What is newer than a cursor of other data is not what is new.
"""

from __future__ import annotations

from datetime import datetime

from core.errors import Fatal
from core.settings import Config, Tenure
from core.warehouse import Connection, scalar, table_exists, transaction, warehouse
from sources import ledger
from sources.base import StreamId, stream_ids


def moved_from(connection: Connection, config: Config, stream: StreamId) -> str | None:
    """Whose data the stream's rows are from, if the source leads to other data now; else None, also where nothing was read yet."""
    before, now = ledger.origin_of(connection, stream), config.sources[stream.source].origin
    if None in (before, now) or before == now:
        return None
    was_read = ledger.saved_cursor(connection, stream) is not None or any(
        scalar(connection, f"select 1 from {table} where {stream.mine()} limit 1") is not None
        for table in (stream.table, stream.quarantine)
    )
    return before if was_read else None


def refusal(config: Config, stream: StreamId, before: str) -> Fatal:
    """What to say of a stream whose rows are from `before`, with the two ways on."""
    name = stream.source
    return Fatal(
        f"{stream.label}: what is loaded is from {before}, and sources.{name} leads to {config.sources[name].origin} now.",
        hint=f"`tenure run --full {name}` takes out what is loaded and reads everything from there;"
        f" `tenure sources rebind {name}` says that both are the same data, and the next run goes on where the last one ended.",
    )


def moved_streams(tenure: Tenure) -> dict[str, Fatal]:
    """What to say of each stream of a home whose source leads to other data now, by its label."""
    if not tenure.warehouse_path.exists():
        return {}
    with warehouse(tenure.warehouse_path, read_only=True) as connection:
        return {
            stream.label: refusal(tenure.config, stream, before)
            for stream in stream_ids(tenure.config)
            if table_exists(connection, "ledger", "origins")
            and table_exists(connection, *stream.table.split("."))
            and table_exists(connection, *stream.quarantine.split("."))
            and (before := moved_from(connection, tenure.config, stream)) is not None
        }


def rebind(connection: Connection, config: Config, source: str, now: datetime) -> list[tuple[str, str]]:
    """Note that what is loaded of `source` is from where it leads now: the label of each stream that was moved, and whose data it was.

    One transaction: all streams or none.
    """
    found = []
    with transaction(connection):
        for stream in stream_ids(config):
            if stream.source == source and (before := moved_from(connection, config, stream)) is not None:
                found.append((stream.label, before))
                ledger.note_origin(connection, stream, config.sources[source].origin, now)
    return found
