"""Terms that a source forgets when a subscription ends: measured inside the warehouse, and put into words.

Lives here: how often what was agreed is known of periods that run and of those that ended, and what is said about it. Must not
live here: which tables are judged (`checks.py`), the gate they belong to (`raw.py`).

Features of past dates read `term_ends_at` and `discount_ends_at`. Where having them tells who stayed, they know the future.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.warehouse import Connection, literal, rows
from data_quality.checks import RawTable
from data_quality.columns import number
from data_quality.frames import Expect
from data_quality.gate import Words
from data_quality.profile import Record

AGREED = ("term_ends_at", "discount_ends_at")
"""The columns that say what was agreed when a period began."""
FEW = 30
"""Of fewer periods that run, or that ended, nothing is said."""
LEAST = 0.5
"""Of ended periods, the term is known at least so many times as often as of running ones."""


def measure(connection: Connection, table: RawTable, as_of: datetime) -> list[Record]:
    """One record per source and column that it tells: of how many running and ended periods, and of how many with it.

    Periods from before the first of which it is told do not count: nobody gave discounts then, or wrote them down.
    """
    found = [record for column in AGREED for record in _of_column(connection, table, column, as_of)]
    return [
        {**row, "kept": row["ended_told"] / row["ended"] / (row["running_told"] / row["running"])}
        for row in found
        if row["running"] >= FEW and row["ended"] >= FEW and row["running_told"]
    ]


def _of_column(connection: Connection, table: RawTable, column: str, as_of: datetime) -> list[Record]:
    ended = f"coalesce(ended_at <= timestamp {literal(str(as_of))}, false)"
    return rows(
        connection,
        f"select source, {literal(column)} as agreed, count(*) filter (not {ended}) as running,"
        f" count(*) filter ({ended}) as ended, count({column}) filter (not {ended}) as running_told,"
        f" count({column}) filter ({ended}) as ended_told"
        f" from (select _source as source, {column}, started_at, ended_at,"
        f" min(case when {column} is not null then started_at end) over (partition by _source) as first_told_at"
        f" from {table.name} where not coalesce(is_trial, false)) where started_at >= first_told_at"
        " group by source order by source",
    )


class TermWords:
    """Words for sources that forget the terms of who left."""

    def __init__(self, table: RawTable, records: Sequence[Record]) -> None:
        self.table, self.records = table, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(self.records[position]) for position in positions]

    def _one(self, record: Record) -> Words:
        agreed = record["agreed"]
        observed = (
            f"{agreed} is known of {number(record['running_told'])} of {number(record['running'])} periods that run,"
            f" but only of {number(record['ended_told'])} of {number(record['ended'])} that ended"
        )
        return Words(
            observed=observed,
            expected="what was agreed is known of periods that ended as well",
            unexpected_count=record["ended"] - record["ended_told"],
            source=record["source"],
            column=agreed,
            message=f"{self.table.name}: {record['source']}: {observed}: having it tells who stayed, and the churn model would"
            f" learn that. Leave {agreed} out of the mapping, or fill it from what was agreed.",
        )
