"""The results over time: the tables of schema `quality` in the working warehouse.

Lives here: their definitions, and writing and reading them. Must not live here: how a result comes about.

`quality.checks`: one row per result. `quality.measures`: sizes of tables by run, for comparison with the next one.
`quality.guarded`: whose rows have passed which gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.warehouse import Connection, ensure_table, rows, transaction
from data_quality.checks import Boundary, CheckResult

TABLES = {
    "checks": {
        "run_id": "varchar",
        "checked_at": "timestamp",
        "boundary": "varchar",
        "table_name": "varchar",
        "check_name": "varchar",
        "source": "varchar",
        "column_name": "varchar",
        "severity": "varchar",
        "measured": "boolean",
        "passed": "boolean",
        "observed": "varchar",
        "expected": "varchar",
        "unexpected_count": "bigint",
        "sample": "varchar[]",
        "message": "varchar",
    },
    "measures": {
        "run_id": "varchar",
        "measured_at": "timestamp",
        "boundary": "varchar",
        "table_name": "varchar",
        "measure": "varchar",
        "value": "double",
        "as_of_at": "timestamp",
        "passed": "boolean",
    },
    "guarded": {
        "table_name": "varchar",
        "run_id": "varchar",
        "guarded_by": "varchar",
        "guarded_at": "timestamp",
    },
}
"""Tables of schema `quality`: columns and their types, in the order in which their rows are written."""


@dataclass(frozen=True)
class Measure:
    """One number about a table in a run."""

    table: str
    name: str
    value: float


def ensure_tables(connection: Connection) -> None:
    """Make the tables of schema `quality`, or complete those of an older version."""
    for name, columns in TABLES.items():
        ensure_table(connection, "quality", name, columns)


def forget(connection: Connection, run_id: str, boundary: Boundary) -> None:
    """Take back what an earlier check of the same run wrote; takes part in the caller's transaction."""
    connection.execute("delete from quality.checks where run_id = ? and boundary = ?", [run_id, boundary])
    connection.execute("delete from quality.measures where run_id = ? and boundary = ?", [run_id, boundary])
    if boundary == "raw":
        connection.execute("delete from quality.guarded where guarded_by = ?", [run_id])


def record(
    connection: Connection,
    boundary: Boundary,
    run_id: str,
    now: datetime,
    as_of: datetime,
    results: Sequence[CheckResult],
    measures: Sequence[Measure],
    guarded: dict[str, list[str]],
) -> None:
    """Write the results of one run at one boundary in place of what the same run wrote before.

    `guarded` lists, by table, the runs whose rows have now passed.
    """
    blocked = {result.table for result in results if result.blocks}
    with transaction(connection):
        forget(connection, run_id, boundary)
        _insert(connection, "checks", [_row(result) for result in results])
        _insert(
            connection,
            "measures",
            [[run_id, now, boundary, m.table, m.name, m.value, as_of, not blocked] for m in measures],
        )
        passed = [[table, run, run_id, now] for table, runs in guarded.items() if table not in blocked for run in runs]
        _insert(connection, "guarded", passed)


def checks_of(connection: Connection, run_id: str) -> list[CheckResult]:
    """The results of one run, as they were written."""
    found = rows(
        connection,
        "select run_id, checked_at, boundary, table_name as table, check_name as name, source, column_name as column, severity,"
        " measured, passed, observed, expected, unexpected_count, sample, message from quality.checks where run_id = ?"
        " order by boundary desc, table_name, check_name, source, column_name, observed",
        [run_id],
    )
    return [CheckResult(**{**row, "sample": tuple(row["sample"] or ())}) for row in found]


def _row(result: CheckResult) -> list[object]:
    return [
        result.run_id,
        result.checked_at,
        result.boundary,
        result.table,
        result.name,
        result.source,
        result.column,
        result.severity,
        result.measured,
        result.passed,
        result.observed,
        result.expected,
        result.unexpected_count,
        list(result.sample),
        result.message,
    ]


def _insert(connection: Connection, table: str, values: Sequence[Sequence[object]]) -> None:
    if values:
        names, marks = ", ".join(TABLES[table]), ", ".join("?" for _ in TABLES[table])
        connection.executemany(f"insert into quality.{table} ({names}) values ({marks})", [list(row) for row in values])
