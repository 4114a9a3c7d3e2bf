"""What was read, when, and with what outcome: the tables of schema `ledger` that extraction keeps.

Lives here: their definitions and the reads and writes on them. Must not live here: the decision what to load (`load.py`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timedelta
from typing import Literal

from core.contract import ENTITIES
from core.currency import BY_CURRENCY
from core.warehouse import Connection, ensure_table, rows, scalar
from sources.base import Drift, FileVersion, Progress, StreamId
from sources.numbers import Evidence

RAW_META = {
    "_source": "varchar",
    "_stream": "varchar",
    "_account_source": "varchar",
    "_file": "varchar",
    "_unread": "varchar",
    "_loaded_at": "timestamp",
    "_run_id": "varchar",
}
"""`_unread` says which optional values could not be read and are NULL (JSON, see `faults.py`); NULL where all could."""
BY_USER = {"_is_by_user": "boolean", "_user_as_given": "varchar"}
"""Whether the row's account was told by its user: it may turn out to be another. NULL where memberships are not read. And the user's id
as the source gave it, where the row has the one that they are known by instead."""
QUARANTINE_META = {
    "_source": "varchar",
    "_stream": "varchar",
    "_account_source": "varchar",
    "_file": "varchar",
    "_row": "bigint",
    "_reason": "varchar",
    "_detail": "varchar",
    "_unread": "varchar",
    "_loaded_at": "timestamp",
    "_first_seen_at": "timestamp",
    "_last_seen_at": "timestamp",
    "_times_seen": "bigint",
    "_times_in_run": "bigint",
    "_run_id": "varchar",
}
"""`_loaded_at` is there for rows that had been loaded, until nothing said any more whose they are. A row that is delivered again with the
same key and reason is the same record: `_times_seen` counts its deliveries, `_times_in_run` those of the last run that saw it, which is
`_run_id`."""
LEDGER = {
    "files": {
        "source": "varchar",
        "stream": "varchar",
        "path": "varchar",
        "size": "bigint",
        "mtime_ns": "bigint",
        "sha256": "varchar",
        "content": "varchar",
        "copy_of": "varchar",
        "columns": "varchar[]",
        "loaded_at": "timestamp",
        "run_id": "varchar",
    },
    "loads": {
        "run_id": "varchar",
        "source": "varchar",
        "stream": "varchar",
        "connector": "varchar",
        "entity": "varchar",
        "status": "varchar",
        "message": "varchar",
        "files": "bigint",
        "rows_read": "bigint",
        "rows_inserted": "bigint",
        "rows_updated": "bigint",
        "rows_unchanged": "bigint",
        "rows_superseded": "bigint",
        "rows_quarantined": "bigint",
        "rows_deleted": "bigint",
        "rows_ended": "bigint",
        "rows_released": "bigint",
        "rows_reassigned": "bigint",
        "rows_withdrawn": "bigint",
        "rows_suppressed": "bigint",
        "values_unread": "bigint",
        "cursor": "varchar",
        "requests": "bigint",
        "quota": "varchar",
        "drift": "varchar",
        "started_at": "timestamp",
        "finished_at": "timestamp",
    },
    "cursors": {
        "source": "varchar",
        "stream": "varchar",
        "cursor": "varchar",
        "saved_at": "timestamp",
        "run_id": "varchar",
    },
    "mappings": {
        "source": "varchar",
        "stream": "varchar",
        "reading": "varchar",
        "noted_at": "timestamp",
    },
    "origins": {
        "source": "varchar",
        "stream": "varchar",
        "origin": "varchar",
        "noted_at": "timestamp",
    },
    "marks": {
        "source": "varchar",
        "stream": "varchar",
        "field": "varchar",
        "point": "varchar",
        "comma": "varchar",
    },
    "mapped_columns": {
        "source": "varchar",
        "stream": "varchar",
        "entity": "varchar",
        "column_name": "varchar",
    },
    "owner_keys": {
        "hash_key": "varchar",
    },
    "fields": {
        "source": "varchar",
        "stream": "varchar",
        "field": "varchar",
        "kinds": "varchar",
        "is_sent": "boolean",
        "first_seen_at": "timestamp",
    },
    "drift": {
        "source": "varchar",
        "stream": "varchar",
        "field": "varchar",
        "change": "varchar",
        "was": "varchar",
        "now": "varchar",
        "noticed_at": "timestamp",
        "run_id": "varchar",
    },
    "restated_days": {
        "source": "varchar",
        "account_source": "varchar",
        "account_id": "varchar",
        "activity_date": "date",
        "loaded_at": "timestamp",
    },
}
"""Tables of schema `ledger`: columns and their types. A column may be added here, also to tables that are in use."""


@dataclass(frozen=True)
class LoadReport:
    """The outcome of one stream in one run. read = inserted + updated + unchanged + superseded + quarantined + suppressed + deleted.

    `rows_suppressed` belong to accounts or people that were erased: nothing of them is kept.
    `rows_released` were in quarantine since an earlier run and are loaded now, `rows_ended` are periods that a newer one ended,
    `rows_reassigned` were loaded before and belong to another user or account, as is known by now, and `rows_withdrawn` went back to
    quarantine, since nothing says any more which account their user belongs to; they are not part of `rows_read`.
    `message` says why a stream stopped, or what a person should know of one that did not.
    A stream that stopped has the counts of the stretches that were committed. `requests` were
    made to a vendor, who told of its `quota`; `drift` says which of its fields are not what they were.
    """

    run_id: str
    source: str
    stream: str
    connector: str
    entity: str
    status: Literal["loaded", "unchanged", "stopped"]
    message: str | None
    files: int
    rows_read: int
    rows_inserted: int
    rows_updated: int
    rows_unchanged: int
    rows_superseded: int
    rows_quarantined: int
    rows_released: int
    cursor: str | None
    started_at: datetime
    finished_at: datetime
    rows_deleted: int = 0
    rows_ended: int = 0
    rows_reassigned: int = 0
    rows_withdrawn: int = 0
    rows_suppressed: int = 0
    values_unread: int = 0
    requests: int = 0
    quota: str | None = None
    drift: str | None = None

    @property
    def adds_up(self) -> bool:
        done = self.rows_inserted + self.rows_updated + self.rows_unchanged + self.rows_superseded
        return self.rows_read == done + self.rows_quarantined + self.rows_suppressed + self.rows_deleted


def ensure_tables(connection: Connection, streams: list[StreamId]) -> None:
    """Make the ledger, the quarantine and a raw table for each configured stream, or complete those of an older version."""
    for name, columns in LEDGER.items():
        ensure_table(connection, "ledger", name, columns)
    for entity in ENTITIES.values():
        given = dict.fromkeys(entity.column_names, "varchar")
        ensure_table(connection, "quarantine", entity.name, {**given, **QUARANTINE_META})
        _upgrade_quarantine(connection, entity.name)
    for stream in streams:
        typed = {column.name: column.sql_type for column in stream.entity.columns}
        # Keys are all different: to DuckDB's own choice, which looks for a dictionary, ten million take twice as long to write.
        typed[stream.entity.key] = "varchar using compression zstd"
        if "user_id" in typed:
            # Half of them differ within a block: its dictionary takes four times as long as writing them out, for half the space.
            typed["user_id"] = "varchar using compression uncompressed"
        also = (BY_USER if stream.entity.user else {}) | (BY_CURRENCY if stream.entity.has_currency else {})
        ensure_table(connection, stream.raw_schema, stream.entity_name, {**typed, **RAW_META, **also})


def _upgrade_quarantine(connection: Connection, entity: str) -> None:
    """Records of a version that noted each delivery of a row by itself count as seen once."""
    if any(row["column_name"] == "_quarantined_at" for row in rows(connection, f"describe quarantine.{entity}")):
        connection.execute(
            f"update quarantine.{entity} set _first_seen_at = _quarantined_at, _last_seen_at = _quarantined_at,"
            " _times_seen = 1, _times_in_run = 1 where _times_seen is null"
        )
        connection.execute(f"alter table quarantine.{entity} drop column _quarantined_at")


def ensure_owner_key(connection: Connection, candidate: str) -> None:
    """Keep `candidate` as the key that makes ids of account owners out of their addresses, unless there is one: ids stay."""
    connection.execute(
        "insert into ledger.owner_keys (hash_key) select ? where not exists (from ledger.owner_keys)", [candidate]
    )


def known_files(connection: Connection, stream: StreamId) -> dict[str, FileVersion]:
    """The files of a stream as they were when last read, by path."""
    found = rows(
        connection,
        # Older versions kept one hash, in sha256: of a file as it lies there, or an object's e-tag.
        "select path, size, mtime_ns, coalesce(sha256, '') as version, coalesce(content, sha256) as content, columns, copy_of"
        " from ledger.files where source = ? and stream = ?",
        [stream.source, stream.stream],
    )
    return {row["path"]: FileVersion(**{**row, "columns": tuple(row["columns"] or ())}) for row in found}


def remember_files(
    connection: Connection, stream: StreamId, files: Sequence[FileVersion], now: datetime, run_id: str
) -> None:
    """Note `files` as read; takes part in the caller's transaction."""
    if not files:
        return
    forget_files(connection, stream, [file.path for file in files])
    mine = [stream.source, stream.stream]
    connection.executemany(
        "insert into ledger.files (source, stream, path, size, mtime_ns, sha256, content, columns, copy_of, loaded_at, run_id)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            [*mine, f.path, f.size, f.mtime_ns, f.version, f.content, list(f.columns), f.copy_of, now, run_id]
            for f in files
        ],
    )


def forget_files(connection: Connection, stream: StreamId, paths: Sequence[str]) -> None:
    """Take files out of the ledger; takes part in the caller's transaction."""
    connection.execute(
        "delete from ledger.files where source = ? and stream = ? and path in (select unnest(?))",
        [stream.source, stream.stream, list(paths)],
    )


def saved_cursor(connection: Connection, stream: StreamId) -> str | None:
    """Where the stream's last committed load ended."""
    found = connection.execute(
        "select cursor from ledger.cursors where source = ? and stream = ?", [stream.source, stream.stream]
    ).fetchone()
    return found[0] if found else None


def save_cursor(connection: Connection, stream: StreamId, cursor: str | None, now: datetime, run_id: str) -> None:
    """Note where the next load goes on; takes part in the caller's transaction."""
    if cursor is None:
        return
    connection.execute("delete from ledger.cursors where source = ? and stream = ?", [stream.source, stream.stream])
    connection.execute(
        "insert into ledger.cursors (source, stream, cursor, saved_at, run_id) values (?, ?, ?, ?, ?)",
        [stream.source, stream.stream, cursor, now, run_id],
    )


def is_first_of_week(connection: Connection, now: datetime) -> bool:
    """Whether nothing was loaded yet in the week (from Monday on) of `now`."""
    asked = (
        "select 1 from ledger.loads where date_trunc('week', finished_at) = date_trunc('week', ?::timestamp) limit 1"
    )
    return scalar(connection, asked, [now]) is None


def next_moment(connection: Connection, now: datetime) -> datetime:
    """`now`, or just after the last load if the clock was set back: what is loaded later must be stamped later."""
    last = scalar(connection, "select max(finished_at) from ledger.loads")
    return now if last is None else max(now, last + timedelta(microseconds=1))


def last_loaded_at(connection: Connection, stream: StreamId) -> datetime | None:
    """When the stream's last load began that was not stopped."""
    asked = "select max(started_at) from ledger.loads where source = ? and stream = ? and status <> 'stopped'"
    found: datetime | None = scalar(connection, asked, [stream.source, stream.stream])
    return found


def changed_mapping(
    connection: Connection, stream: StreamId, reading: Mapping[str, str], now: datetime, *, is_anew: bool
) -> list[str]:
    """The columns and options by which the stream's rows were not read as `reading` has it now; with `is_anew`, all are.

    Takes part in the caller's transaction. Of rows that were loaded before this was noted, nothing is said.
    """
    mine = [stream.source, stream.stream]
    found = rows(connection, "select reading from ledger.mappings where source = ? and stream = ?", mine)
    if found and not is_anew:
        before = json.loads(found[0]["reading"])
        return sorted(name for name in before.keys() | reading.keys() if before.get(name) != reading.get(name))
    connection.execute("delete from ledger.mappings where source = ? and stream = ?", mine)
    connection.execute(
        "insert into ledger.mappings (source, stream, reading, noted_at) values (?, ?, ?, ?)",
        [*mine, json.dumps(dict(reading), sort_keys=True), now],
    )
    return []


def origin_of(connection: Connection, stream: StreamId) -> str | None:
    """Whose data the stream's rows and cursor are from; None where that was never noted."""
    asked = "select max(origin) from ledger.origins where source = ? and stream = ?"
    found: str | None = scalar(connection, asked, [stream.source, stream.stream])
    return found


def note_origin(connection: Connection, stream: StreamId, origin: str | None, now: datetime) -> None:
    """Note whose data the stream's rows and cursor are from; what was noted stays where that is not known. Takes part in the caller's
    transaction."""
    if origin is None or origin == origin_of(connection, stream):
        return
    mine = [stream.source, stream.stream]
    connection.execute("delete from ledger.origins where source = ? and stream = ?", mine)
    connection.execute("insert into ledger.origins values (?, ?, ?, ?)", [*mine, origin, now])


def known_marks(connection: Connection, stream: StreamId) -> dict[str, Evidence]:
    """What earlier deliveries showed of how the numbers in a stream's texts are written: an example of each mark, by field."""
    found = rows(
        connection,
        "select field, point, comma from ledger.marks where source = ? and stream = ?",
        [stream.source, stream.stream],
    )
    return {row["field"]: Evidence(row["point"], row["comma"]) for row in found}


def note_marks(connection: Connection, stream: StreamId, evidence: Mapping[str, Evidence]) -> None:
    """Note what was seen of the marks of numbers; takes part in the caller's transaction."""
    mine = [stream.source, stream.stream]
    for field, seen in evidence.items():
        connection.execute("delete from ledger.marks where source = ? and stream = ? and field = ?", [*mine, field])
        connection.execute("insert into ledger.marks values (?, ?, ?, ?, ?)", [*mine, field, seen.point, seen.comma])


def forget_marks(connection: Connection, stream: StreamId) -> None:
    """Forget how the numbers of a stream are written; takes part in the caller's transaction."""
    connection.execute("delete from ledger.marks where source = ? and stream = ?", [stream.source, stream.stream])


def note_restated_days(connection: Connection, table: str, condition: str, now: datetime) -> None:
    """Note the days of usage that lose the rows of `table` which meet a condition; takes part in the caller's transaction."""
    connection.execute(
        "insert into ledger.restated_days (source, account_source, account_id, activity_date, loaded_at)"
        " select distinct _source, _account_source, account_id, cast(occurred_at as date), cast(? as timestamp)"
        f" from {table} where {condition}",
        [now],
    )


def note_columns(connection: Connection, stream: StreamId, columns: Collection[str]) -> None:
    """Note which columns of the contract the stream's mapping fills: of these an empty value says that nothing happened.

    Takes part in the caller's transaction.
    """
    connection.execute(
        "delete from ledger.mapped_columns where source = ? and stream = ?", [stream.source, stream.stream]
    )
    connection.executemany(
        "insert into ledger.mapped_columns (source, stream, entity, column_name) values (?, ?, ?, ?)",
        [[stream.source, stream.stream, stream.entity_name, name] for name in sorted(columns)],
    )


def note_fields(
    connection: Connection, stream: StreamId, progress: Progress, now: datetime, run_id: str
) -> list[Drift]:
    """Note the fields that a stream's records have; what is not as it was, which is nothing when they are seen first.

    A field that mappings may use has vanished when a whole load had it in no record. Takes part in the caller's transaction.
    """
    mine = [stream.source, stream.stream]
    found = rows(connection, "select field, kinds, is_sent from ledger.fields where source = ? and stream = ?", mine)
    known = {row["field"]: row for row in found}
    changed: list[tuple[str, str, bool]] = []
    drift: list[Drift] = []
    for name, seen in sorted((progress.fields or {}).items()):
        before = known.get(name)
        kinds = frozenset(filter(None, before["kinds"].split(" or "))) if before else frozenset()
        both = " or ".join(sorted(seen | kinds))
        if before is None or not before["is_sent"]:
            if known:
                drift.append(Drift(name, "appeared", None, both))
        elif kinds and seen - kinds:
            drift.append(Drift(name, "type", " or ".join(sorted(kinds)), " or ".join(sorted(seen - kinds))))
        if before is None or not before["is_sent"] or both != before["kinds"]:
            changed.append((name, both, True))
    if progress.fields and not progress.has_more:
        for name in sorted(progress.hinted - progress.fields.keys()):
            if name in known and known[name]["is_sent"]:
                drift.append(Drift(name, "vanished", known[name]["kinds"], None))
                changed.append((name, known[name]["kinds"], False))
    if changed:
        connection.execute(
            "delete from ledger.fields where source = ? and stream = ? and field in (select unnest(?))",
            [*mine, [name for name, _, _ in changed]],
        )
        connection.executemany(
            "insert into ledger.fields (source, stream, field, kinds, is_sent, first_seen_at) values (?, ?, ?, ?, ?, ?)",
            [[*mine, name, kinds, is_sent, now] for name, kinds, is_sent in changed],
        )
    if drift:
        connection.executemany(
            "insert into ledger.drift (source, stream, field, change, was, now, noticed_at, run_id)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            [[*mine, one.field, one.change, one.was, one.now, now, run_id] for one in drift],
        )
    return drift


def record(connection: Connection, report: LoadReport) -> None:
    """Note the outcome of a stream; that of an earlier stretch of the same load gives way to it."""
    connection.execute(
        "delete from ledger.loads where run_id = ? and source = ? and stream = ? and started_at = ?",
        [report.run_id, report.source, report.stream, report.started_at],
    )
    names = [field.name for field in fields(report)]
    marks = ", ".join("?" for _ in names)
    connection.execute(f"insert into ledger.loads ({', '.join(names)}) values ({marks})", list(astuple(report)))


def loads_of(connection: Connection, run_id: str) -> list[LoadReport]:
    """What the streams of one run came to, in the order they ended."""
    names = ", ".join(field.name for field in fields(LoadReport))
    found = rows(
        connection, f"select {names} from ledger.loads where run_id = ? order by finished_at, source, stream", [run_id]
    )
    return [LoadReport(**row) for row in found]
