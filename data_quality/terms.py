"""Terms that a source forgets when a subscription ends: measured inside the warehouse, and put into words.

Lives here: how often the end of the agreed term is known of periods that run and of those that ended, and what is said about
it. Must not live here: which tables are judged (`checks.py`), the gate they belong to (`raw.py`).

Features of past dates read `term_ends_at`. Where having it tells who stayed, they know the future.
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

FEW = 30
"""Of fewer periods that run, or that ended, nothing is said."""
LEAST = 0.5
"""Of ended periods, the term is known at least so many times as often as of running ones."""


def measure(connection: Connection, table: RawTable, as_of: datetime) -> list[Record]:
    """One record per source that tells terms: of how many running and ended periods, and of how many of them with one."""
    ended = f"coalesce(ended_at <= timestamp {literal(str(as_of))}, false)"
    found = rows(
        connection,
        f"select _source as source, count(*) filter (not {ended}) as running, count(*) filter ({ended}) as ended,"
        f" count(term_ends_at) filter (not {ended}) as running_told, count(term_ends_at) filter ({ended}) as ended_told"
        f" from {table.name} where not coalesce(is_trial, false) group by all having count(term_ends_at) > 0 order by source",
    )
    return [
        {**row, "kept": row["ended_told"] / row["ended"] / (row["running_told"] / row["running"])}
        for row in found
        if row["running"] >= FEW and row["ended"] >= FEW and row["running_told"]
    ]


class TermWords:
    """Words for sources that forget the terms of who left."""

    def __init__(self, table: RawTable, records: Sequence[Record]) -> None:
        self.table, self.records = table, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(self.records[position]) for position in positions]

    def _one(self, record: Record) -> Words:
        observed = (
            f"term_ends_at is known of {number(record['running_told'])} of {number(record['running'])} periods that run,"
            f" but only of {number(record['ended_told'])} of {number(record['ended'])} that ended"
        )
        return Words(
            observed=observed,
            expected="the end of the agreed term is known of periods that ended as well",
            unexpected_count=record["ended"] - record["ended_told"],
            source=record["source"],
            column="term_ends_at",
            message=f"{self.table.name}: {record['source']}: {observed}: having it tells who stayed, and the churn model would"
            " learn that. Leave term_ends_at out of the mapping, or fill it from what was agreed.",
        )
