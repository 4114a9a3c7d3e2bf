"""What arrives when: rows that changed in a window of time, the planted faults among them, and the files they go into.

Lives here: the choice of rows for a delivery, copies and broken rows, writing files. Must not live here: vendors' columns
(`sandbox/vendors.py`), what happens (`sandbox/world.py`), the company as a whole (`sandbox/company.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
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
from sandbox.timeline import DAY, epoch
from sandbox.vendors import CSV, CSV_ZSTD, EVENTS, JSONL_GZIP, LAYOUTS, MACROS, OWNERS, PARQUET, Layout

PART_ROWS = 250_000
"""Rows that fill a file; a delivery with more is split into numbered parts."""
_COPY_OPTIONS = {
    CSV: "format csv, header",
    CSV_ZSTD: "format csv, header, compression zstd",
    JSONL_GZIP: "format json, compression gzip",
}
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


@dataclass(frozen=True)
class Window:
    """What one delivery covers: from `since` (inclusive) to `until` (exclusive), in seconds since 1970."""

    since: int
    until: int
    day: date

    @classmethod
    def of_day(cls, day: date) -> Window:
        return cls(epoch(day), epoch(day) + DAY, day)


def _windows_sql(windows: Sequence[Window]) -> str:
    listed = ", ".join(
        f"(make_timestamp({w.since}000000), make_timestamp({w.until}000000), date '{w.day}')" for w in windows
    )
    return f"(values {listed}) as w(_since, _until, _day)"


def _changes_sql(layout: Layout, windows: Sequence[Window]) -> str:
    """Rows of deliveries: what is new or changed in each window, as it stands at its end, and the faults among it."""
    shown = ", ".join(f"{_value(layout, name, sql)} as {identifier(name)}" for name, sql in layout.columns.items())
    derived = "".join(f", {sql} as {identifier(name)}" for name, sql in layout.derived.items())
    new = "_visible >= _since and _visible < _until"
    again = f"_visible + interval {faults.REDELIVERY_DAYS} day"
    roles = " union all ".join(
        f"select *, {at} as _at, '{role}' as _role from {layout.name} join windows on {condition}"
        for role, at, condition in (
            ("plain", "_until", "_visible < _until"),
            ("twice", "_until", f"_copy = 1 and {new}"),
            ("stale", "_visible + interval 1 second", f"_copy = 2 and {again} >= _since and {again} < _until"),
            ("broken", "_until", f"_broken > 0 and {new}"),
        )
    )
    reasons = " ".join(f"when {n} then {literal(b.reason)}" for n, b in enumerate(layout.broken, start=1))
    kinds = " ".join(f"when {n} then {literal('broken: ' + b.kind)}" for n, b in enumerate(layout.broken, start=1))
    return f"""
        with windows as materialized (from {_windows_sql(windows)})
        select {shown}, _account, _day,
            case _role when 'twice' then 'duplicate' when 'stale' then 'stale duplicate'
                when 'broken' then case _broken {kinds} end
                else case when _created < _since and _visible >= _since then 'late' end end as _kind,
            case when _role = 'broken' then case _broken {reasons} end end as _reason
        from (select *, {layout.updated} as _updated from (select *{derived} from ({roles})))
        where _role <> 'plain' or greatest(_visible, _updated) >= _since
        order by _day, _id, _role
    """


def _by_day(table: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    """The parts of a table that is sorted by `_day`, without that column."""
    days = table["_day"].combine_chunks()
    table = table.drop(["_day"])
    first = 0
    for counted in pc.value_counts(days).to_pylist():
        yield counted["values"], table.slice(first, counted["counts"])
        first += counted["counts"]


def deliver_objects(
    connection: Connection, outbox: Outbox, tables: dict[str, pa.Table], windows: Sequence[Window]
) -> None:
    """Put what changed in each window of every object but owners and events (`sandbox/records.py`) into the outbox."""
    for layout in LAYOUTS:
        connection.register(layout.name, tables[layout.name])
        changed = connection.execute(_changes_sql(layout, windows)).to_arrow_table()
        # DuckDB reserves room for a million rows in each result: 700 MB for the objects of a chunk if kept until a file
        # is full. Arrow's copy has the size of the rows.
        changed = changed.take(pa.array(np.arange(changed.num_rows)))
        for day, table in _by_day(changed):
            found = table.filter(pc.is_valid(table["_kind"])).select([layout.key, "_account", "_kind", "_reason"])
            rows = table.drop(["_account", "_kind", "_reason"])
            outbox.vendor(layout, day, rows, found.rename_columns(_FOUND.names).cast(_FOUND))
        if not changed.num_rows and len(windows) == 1:
            outbox.vendor(layout, windows[0].day, changed.drop(["_account", "_kind", "_reason", "_day"]))
        if layout.name == "companies":
            _note_identity_changes(connection, outbox, windows)
        connection.unregister(layout.name)


def _note_identity_changes(connection: Connection, outbox: Outbox, windows: Sequence[Window]) -> None:
    """Tell the truth which companies were renamed or merged away in each window."""
    columns = "'crm' as vendor, 'companies' as object, null::varchar as file, _id as key, _account as account_id"
    table = connection.execute(
        " union all ".join(
            f"select {columns}, '{kind}' as kind, null::varchar as reason, _day"
            f" from companies join {_windows_sql(windows)} on {kind} >= _since and {kind} < _until"
            for kind in ("merged", "renamed")
        )
        + " order by _day, kind, key"
    ).to_arrow_table()
    for day, rows in _by_day(table):
        outbox.truth("faults", day, rows.cast(FAULTS))


def deliver_events(outbox: Outbox, events: Events, accounts: pa.Array, window: Window) -> None:
    """Put the events received in the window into the outbox; `accounts` are the CRM's ids of the chunk's accounts."""
    events = events.between(window.since, window.until)
    if not events.table.num_rows:
        return
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
    outbox.vendor(EVENTS, window.day, events.table, found)


def deliver_truth(outbox: Outbox, tables: dict[str, pa.Table], windows: Sequence[Window]) -> None:
    """Put the rows of the truth that came to pass in each window into the outbox."""
    for name, table in tables.items():
        at = np.asarray(table["_at"].cast(pa.int64())) // 1_000_000
        for window in windows:
            rows = np.flatnonzero((at >= window.since) & (at < window.until))
            if len(rows) or len(windows) == 1:
                outbox.truth(name, window.day, table.drop(["_at"]).take(pa.array(rows)))
