"""Whether two files hold the same marts: rows, types, and a fingerprint of each column.

Lives here: the comparison. Must not live here: how either file came about.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.warehouse import Connection, identifier, literal, rows, scratch

EXCLUDED = {"source_freshness": {"newest_load_at": "the wall clock of the load"}}
"""Columns that are not compared, by table, and why."""


@dataclass(frozen=True)
class Comparison:
    """One table. `differing` names columns whose type or fingerprint differs, and `(rows)` when whole rows do."""

    table: str
    rows: int
    floor_rows: int
    columns: int
    differing: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        return self.rows == self.floor_rows and not self.differing

    def document(self) -> dict[str, Any]:
        return {"rows": self.rows, "columns": self.columns, "equal": self.is_equal, "differing": list(self.differing)}


def compare_marts(warehouse: Path, floor: Path) -> list[Comparison]:
    """Compare each mart of the pipeline's working warehouse with the floor's table of that name.

    A fingerprint is the sum of the values' hashes: the order of rows does not matter, their number does.
    """
    with scratch() as connection:
        # Views name the catalog in which they were made, which is the file's name.
        connection.execute(f"attach {literal(str(warehouse))} as {identifier(warehouse.stem)} (read_only)")
        connection.execute(f"attach {literal(str(floor))} as floor_marts (read_only)")
        ours, theirs = identifier(warehouse.stem), "floor_marts"
        names = sorted({*_tables(connection, warehouse.stem), *_tables(connection, "floor_marts")})
        return [_compare(connection, name, f"{ours}.marts.{name}", f"{theirs}.marts.{name}") for name in names]


def _tables(connection: Connection, catalog: str) -> list[str]:
    found = rows(
        connection,
        "select table_name from information_schema.tables where table_catalog = ? and table_schema = 'marts'",
        [catalog],
    )
    return [row["table_name"] for row in found]


def _compare(connection: Connection, name: str, ours: str, theirs: str) -> Comparison:
    types, floor_types = _types(connection, ours), _types(connection, theirs)
    differing = [column for column in {**types, **floor_types} if types.get(column) != floor_types.get(column)]
    compared = [c for c in types if c not in differing and c not in EXCLUDED.get(name, {})]
    found, floor_found = (_fingerprints(connection, table, compared) for table in (ours, theirs))
    differing += [column for column in (*compared, "(rows)") if found[column] != floor_found[column]]
    return Comparison(name, found["(count)"], floor_found["(count)"], len(compared), tuple(differing))


def _types(connection: Connection, table: str) -> dict[str, str]:
    return {row["column_name"]: row["column_type"] for row in rows(connection, f"describe {table}")}


def _fingerprints(connection: Connection, table: str, columns: list[str]) -> dict[str, Any]:
    of_columns = ", ".join(f"sum(hash({identifier(c)})) as {identifier(c)}" for c in columns)
    of_rows = ", ".join(identifier(c) for c in columns)
    sql = f'select count(*) as "(count)", {of_columns}, sum(hash({of_rows})) as "(rows)" from {table}'
    return rows(connection, sql)[0]
