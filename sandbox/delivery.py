"""What arrives when: rows that changed in a window of time, the planted faults among them, and the files they go into.

Lives here: the choice of rows for a delivery, copies and broken rows, writing files. Must not live here: vendors' columns
(`sandbox/vendors.py`), what happens (`sandbox/world.py`), the company as a whole (`sandbox/company.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.warehouse import Connection, identifier, literal
from sandbox import faults
from sandbox.events import KINDS, Events
from sandbox.vendors import CSV, CSV_ZSTD, EVENTS, JSONL_GZIP, LAYOUTS, MACROS, OWNERS, PARQUET, Layout

PART_ROWS = 250_000
"""Rows that fill a file; a delivery with more is split into numbered parts."""
_COPY_OPTIONS = {
    CSV: "format csv, header",
    CSV_ZSTD: "format csv, header, compression zstd",
    JSONL_GZIP: "format json, compression gzip",
}
_ROLES = ("plain", "twice", "stale", "broken")
FAULTS = pa.schema(
    [
        ("vendor", pa.string()),
        ("object", pa.string()),
        ("file", pa.string()),
        ("key", pa.string()),
        ("account_id", pa.string()),
        ("kind", pa.string()),
        ("reason", pa.string()),
    ]
)
"""Truth: each planted fault. `reason` is the contract's reason for refusing a broken row, NULL for other kinds."""
_FOUND = pa.schema([FAULTS.field(name) for name in ("key", "account_id", "kind", "reason")])


@dataclass
class _Open:
    """A file in the making."""

    tables: list[pa.Table] = field(default_factory=list)
    found: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    parts: int = 0


class Outbox:
    """Collects rows by object and delivery date below `root`, and writes a file when it is full or closed."""

    def __init__(self, connection: Connection, root: Path) -> None:
        self.connection = connection
        self.root = root
        self.rows: Counter[str] = Counter()
        self.files: list[Path] = []
        self._open: dict[tuple[str, date], _Open] = defaultdict(_Open)
        self._layouts = {layout.path: layout for layout in (*LAYOUTS, OWNERS, EVENTS)}

    def vendor(self, layout: Layout, day: date, table: pa.Table, found: pa.Table | None = None) -> None:
        """Add rows of a vendor's object, and the faults among them (`_FOUND`)."""
        self._add(layout.path, day, table, found)

    def truth(self, name: str, day: date, table: pa.Table) -> None:
        """Add rows of the hidden truth."""
        self._add(f"truth/{name}", day, table, None)

    def _add(self, path: str, day: date, table: pa.Table, found: pa.Table | None) -> None:
        opened = self._open[path, day]
        opened.tables.append(table)
        opened.rows += table.num_rows
        if found is not None and found.num_rows:
            opened.found.append(found)
        if opened.rows >= PART_ROWS:
            self._write(path, day, is_last=False)

    def close(self, day: date, *, keep_empty: bool) -> None:
        """Write everything of a delivery date; objects without rows get a file only with `keep_empty`."""
        for path, due in sorted(key for key in self._open if key[1] == day):
            if not path.startswith("truth/"):
                self._finish(path, due, keep_empty=keep_empty)
        for path, due in sorted(key for key in self._open if key[1] == day):
            self._finish(path, due, keep_empty=keep_empty)

    def _finish(self, path: str, day: date, *, keep_empty: bool) -> None:
        opened = self._open[path, day]
        if opened.rows or (keep_empty and not opened.parts):
            self._write(path, day, is_last=True)
        del self._open[path, day]

    def _write(self, path: str, day: date, *, is_last: bool) -> None:
        opened = self._open[path, day]
        layout = self._layouts.get(path)
        ending = layout.ending if layout is not None else PARQUET
        part = "" if is_last and not opened.parts else f"-{opened.parts + 1:04d}"
        folder = path if layout is None else f"data/{path}"
        file = self.root / folder / f"{day:%Y-%m-%d}{part}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        table = pa.concat_tables(opened.tables)
        if ending == PARQUET:
            pq.write_table(table, file, compression="zstd", compression_level=1, row_group_size=PART_ROWS)
        else:
            self.connection.register("_outgoing", table)
            self.connection.execute(f"copy (from _outgoing) to {literal(file)} ({_COPY_OPTIONS[ending]})")
            self.connection.unregister("_outgoing")
        self.files.append(file.relative_to(self.root))
        self.rows[path] += table.num_rows
        if layout is not None and opened.found:
            found = pa.concat_tables(opened.found)
            named = {"vendor": layout.vendor, "object": layout.name, "file": str(file.relative_to(self.root / "data"))}
            for place, (name, value) in enumerate(named.items()):
                found = found.add_column(place, name, pa.repeat(pa.scalar(value), found.num_rows))
            self._add("truth/faults", day, found, None)
        opened.tables, opened.found, opened.rows, opened.parts = [], [], 0, opened.parts + 1


def prepare(connection: Connection) -> None:
    """Define what the layouts' SQL uses."""
    for macro in MACROS:
        connection.execute(macro)


def _value(layout: Layout, name: str, expression: str) -> str:
    """A column's SQL with the values that break it."""
    if name == layout.key:
        expression = f"case when _role = 'broken' then {expression} || '0' else {expression} end"
    cases = " ".join(
        f"when {number} then {broken.values[name]}"
        for number, broken in enumerate(layout.broken, start=1)
        if name in broken.values
    )
    return f"case case when _role = 'broken' then _broken end {cases} else {expression} end" if cases else expression


def _changes_sql(layout: Layout, since: str, until: str) -> str:
    """Rows of a delivery: what is new or changed between two instants, as it stands at the later one, and its faults."""
    shown = ", ".join(f"{_value(layout, name, sql)} as {identifier(name)}" for name, sql in layout.columns.items())
    derived = "".join(f", {sql} as {identifier(name)}" for name, sql in layout.derived.items())
    new = f"_visible >= {since} and _visible < {until}"
    again = f"_visible + interval {faults.REDELIVERY_DAYS} day"
    roles = " union all ".join(
        f"select *, {at} as _at, '{role}' as _role from {layout.name} where {condition}"
        for role, at, condition in (
            ("plain", until, f"_visible < {until}"),
            ("twice", until, f"_copy = 1 and {new}"),
            ("stale", "_visible + interval 1 second", f"_copy = 2 and {again} >= {since} and {again} < {until}"),
            ("broken", until, f"_broken > 0 and {new}"),
        )
    )
    reasons = " ".join(f"when {n} then {literal(b.reason)}" for n, b in enumerate(layout.broken, start=1))
    kinds = " ".join(f"when {n} then {literal('broken: ' + b.kind)}" for n, b in enumerate(layout.broken, start=1))
    return f"""
        select {shown}, _account,
            case _role when 'twice' then 'duplicate' when 'stale' then 'stale duplicate'
                when 'broken' then case _broken {kinds or "when 0 then ''"} end
                else case when _created < {since} and _visible >= {since} then 'late' end end as _kind,
            case when _role = 'broken' then case _broken {reasons or "when 0 then ''"} end end as _reason
        from (select *, {layout.updated} as _updated from (select *{derived} from ({roles})))
        where _role <> 'plain' or greatest(_visible, _updated) >= {since}
        order by _id, _role
    """


def deliver_objects(connection: Connection, outbox: Outbox, *, since: str, until: str, day: date) -> None:
    """Put what changed between two instants (SQL timestamps) of every object but owners and events into the outbox.

    The tables of `sandbox/records.py` are registered under the objects' names.
    """
    for layout in LAYOUTS:
        table = connection.execute(_changes_sql(layout, since, until)).to_arrow_table()
        kind = table["_kind"]
        found = table.filter(pc.is_valid(kind)).select([layout.key, "_account", "_kind", "_reason"])
        outbox.vendor(
            layout, day, table.drop(["_account", "_kind", "_reason"]), found.rename_columns(_FOUND.names).cast(_FOUND)
        )
        if layout.name == "companies":
            _note_identity_changes(connection, outbox, since=since, until=until, day=day)


def _note_identity_changes(connection: Connection, outbox: Outbox, *, since: str, until: str, day: date) -> None:
    """Tell the truth which companies were renamed or merged away in the window."""
    columns = "'crm' as vendor, 'companies' as object, null::varchar as file, _id as key, _account as account_id"
    for kind, moment in (("renamed", "renamed"), ("merged", "merged")):
        table = connection.execute(
            f"select {columns}, '{kind}' as kind, null::varchar as reason from companies"
            f" where {moment} >= {since} and {moment} < {until} order by _id"
        ).to_arrow_table()
        if table.num_rows:
            outbox.truth("faults", day, table.cast(FAULTS))


def deliver_events(outbox: Outbox, events: Events, accounts: pa.Array, *, day: date) -> None:
    """Put events into the outbox; `accounts` are the CRM's ids of the chunk's accounts."""
    rows = np.flatnonzero(events.fault)
    fault = events.fault[rows]
    kinds = ["", "late", "duplicate", *(f"broken: {kind.kind}" for kind in KINDS)]
    reasons = [None, None, None, *(kind.reason for kind in KINDS)]
    found = pa.table(
        [
            events.table["event_id"].take(pa.array(rows)),
            accounts.take(pa.array(events.account[rows])),
            pa.array(kinds).take(pa.array(fault)),
            pa.array(reasons, pa.string()).take(pa.array(fault)),
        ],
        schema=_FOUND,
    )
    outbox.vendor(EVENTS, day, events.table, found)


def deliver_truth(outbox: Outbox, name: str, table: pa.Table, *, since: int, until: int, day: date) -> None:
    """Put the rows of a table of the truth that came to pass in the window (seconds since 1970) into the outbox."""
    at = np.asarray(table["_at"].cast(pa.int64())) // 1_000_000
    outbox.truth(name, day, table.filter(pa.array((at >= since) & (at < until))).drop(["_at"]))
