"""Measuring tables inside the warehouse: small frames about large tables.

Lives here: the profile of a table (one row per column), repeated keys, keys of offending rows. Must not live here: any
judgement of what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.warehouse import Connection, identifier, rows, scalar
from data_quality.rules import TableRule

SAMPLE = 5
"""How many keys of offending rows a result names."""

ROWS_PER_SLICE = 10_000_000
"""Keys are grouped by slices of their hash of about this size, so that 100 million of them fit in memory."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """The columns a table has, by name, with their types in lower case; empty when there is no such table."""

    types: dict[str, str]

    def fits(self, rule: TableRule) -> bool:
        """Whether every column is there with a type that SQL over it can rely on."""
        return all(same_type(self.types.get(column.name, ""), column.sql_type) for column in rule.columns)


def same_type(found: str, expected: str) -> bool:
    """Whether two type names mean the same; `string` and friends are other engines' words."""
    words = {
        "string": "varchar",
        "text": "varchar",
        "integer": "integer",
        "int": "integer",
        "timestamp_ntz": "timestamp",
    }
    return words.get(found, found).replace(" ", "") == words.get(expected, expected).replace(" ", "")


def shape(connection: Connection, schema: str, table: str) -> Shape:
    """The columns of `schema.table`."""
    found = rows(
        connection,
        "select column_name, lower(data_type) as data_type from information_schema.columns"
        " where table_schema = ? and table_name = ?",
        [schema, table],
    )
    return Shape({row["column_name"]: row["data_type"] for row in found})


def profile(connection: Connection, rule: TableRule, where: str = "true") -> list[Record]:
    """One record per column over the rows that match `where`: rows, nulls, minimum, maximum, and counts of broken rows.

    One scan for all columns. `minimum` and `maximum` are measured for numbers with limits only.
    """
    selected = ["count(*) as n"]
    for number, column in enumerate(rule.columns):
        name = identifier(column.name)
        selected.append(f"count(*) - count({name}) as nulls_{number}")
        if column.has_limits:
            selected.append(
                f"cast(min({name}) as double) as minimum_{number}, cast(max({name}) as double) as maximum_{number}"
            )
            selected.append(f"count(*) filter (where {column.is_out_of_range}) as out_of_range_{number}")
        if column.earliest or column.latest or column.not_before:
            selected.append(f"count(*) filter (where {column.is_out_of_time}) as out_of_time_{number}")
        if column.values:
            selected.append(f"count(*) filter (where {column.is_unaccepted}) as unaccepted_{number}")
    measured = rows(connection, f"select {', '.join(selected)} from {rule.table} where {where}")[0]
    total = int(measured["n"])
    records = []
    for number, column in enumerate(rule.columns):
        nulls = int(measured[f"nulls_{number}"])
        records.append(
            {
                "column": column.name,
                "rows": total,
                "nulls": nulls,
                "null_share": nulls / total if total else 0.0,
                "minimum": measured.get(f"minimum_{number}"),
                "maximum": measured.get(f"maximum_{number}"),
                "lowest": column.minimum,
                "highest": column.maximum,
                "out_of_range": measured.get(f"out_of_range_{number}"),
                "out_of_time": measured.get(f"out_of_time_{number}"),
                "unaccepted": measured.get(f"unaccepted_{number}"),
            }
        )
    return records


def count(connection: Connection, table: str, where: str) -> int:
    """How many rows of `table` match `where`."""
    return int(scalar(connection, f"select count(*) from {table} where {where}"))


def repeated_keys(
    connection: Connection, rule: TableRule, candidates: str | None = None, *, rows_of_table: int
) -> tuple[int, tuple[str, ...]]:
    """How many keys stand on more than one row of the table, and a few of them.

    With `candidates`, an SQL condition, only keys that occur on the rows that match it are looked at.
    """
    key = ", ".join(identifier(name) for name in rule.key)
    where = rule.key_where
    if candidates is not None:
        last = identifier(rule.key[-1])
        where += f" and {last} in (select {last} from {rule.table} where {candidates})"
        slices = 1
    else:
        slices = 1 + rows_of_table // ROWS_PER_SLICE
    found = 0
    sample: list[str] = []
    for part in range(slices):
        sliced = f" and hash({key}) % {slices} = {part}" if slices > 1 else ""
        # Few keys repeat, if any: grouping their hashes first takes a third of the time of grouping keys of text.
        hashes = f"select h from (select hash({key}) as h from {rule.table} where {where}{sliced}) group by h having count(*) > 1"
        if scalar(connection, f"select 1 from ({hashes}) limit 1") is None:
            continue
        grouped = (
            f"select {key} from {rule.table} where {where}{sliced} and hash({key}) in ({hashes})"
            f" group by {key} having count(*) > 1"
        )
        found += int(scalar(connection, f"select count(*) from ({grouped})"))
        if len(sample) < SAMPLE:
            named = f"select {key_sql(rule)} as key from ({grouped}) order by key limit {SAMPLE - len(sample)}"
            sample += [row["key"] for row in rows(connection, named)]
    return found, tuple(sample)


def sample_keys(connection: Connection, rule: TableRule, where: str) -> tuple[str, ...]:
    """Keys of a few rows that match `where`, the same ones every time."""
    named = f"select {key_sql(rule)} as key from {rule.table} where {where} order by key limit {SAMPLE}"
    return tuple(row["key"] for row in rows(connection, named))


def key_sql(rule: TableRule) -> str:
    """SQL of a row's key as one word: its values with slashes between them."""
    return " || '/' || ".join(f"coalesce(cast({identifier(name)} as varchar), '(none)')" for name in rule.key)
