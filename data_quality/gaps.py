"""Gaps of up to a day between the periods of an account: measured inside the warehouse, and put into words.

Lives here: counting such gaps by stream, naming a few periods, what is said about them. Must not live here: what an end means
(`dbt_project/macros/periods.sql`), the gate the check belongs to (`published.py`).

Where a source writes the last day of a period as its end, every renewal is a day without MRR, and so churn and reactivation. A customer
who comes back on the next day looks the same; so it is asked of how many periods that are carried on a day or less lies between, and
a few among many are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.settings import Config
from core.warehouse import Connection, rows
from core.words import percent
from data_quality import profile
from data_quality.columns import number
from data_quality.frames import Expect
from data_quality.gate import Words
from data_quality.profile import Record

MOST = 0.1
"""Of the periods that are carried on within a day, at most this share may leave a gap."""


def measure(connection: Connection, config: Config) -> list[Record]:
    """One record per stream: of how many periods another follows within a day, before how many a day without MRR lies, and a few.

    Streams that say what their ends are (`ends: exclusive`) mean the gaps that they have.
    """
    meant = {
        (source, name)
        for source, settings in config.sources.items()
        for name, stream in settings.streams.items()
        if stream.ends == "exclusive"
    }
    found = rows(
        connection,
        "with paid as (select source, stream, subscription_id, account_id, started_at, ended_at from marts.subscriptions"
        " where mrr > 0), carried_on as (select paid.source, paid.stream, paid.subscription_id,"
        " min(next.started_at)::date > paid.ended_at::date as leaves_gap from paid join paid as next"
        " on next.account_id = paid.account_id and next.started_at > paid.started_at"
        " and next.started_at between paid.ended_at::date and paid.ended_at + interval 1 day"
        " group by paid.source, paid.stream, paid.subscription_id, paid.ended_at)"
        " select source, stream, count(*) as carried_on, count(*) filter (leaves_gap) as gaps,"
        " coalesce(list_slice(list_sort(list(source || '/' || stream || '/' || subscription_id) filter (leaves_gap)),"
        f" 1, {profile.SAMPLE}), []) as sample"
        " from carried_on group by source, stream order by source, stream",
    )
    return [
        {**row, "share": row["gaps"] / row["carried_on"]}
        for row in found
        if (row["source"], row["stream"]) not in meant
    ]


class GapWords:
    """Words for streams whose periods leave gaps of up to a day."""

    def __init__(self, table: str, records: Sequence[Record]) -> None:
        self.table, self.records = table, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(self.records[position]) for position in positions]

    def _one(self, record: Record) -> Words:
        observed = f"{number(record['gaps'])} of {number(record['carried_on'])} periods that are carried on end up to a day before that"
        where = f"{record['source']}/{record['stream']}"
        return Words(
            observed=observed,
            expected=f"at most {percent(MOST)} of the periods that are carried on leave a gap",
            unexpected_count=record["gaps"],
            source=record["source"],
            column="ended_at",
            sample=tuple(record["sample"]),
            message=f"{self.table}: {where}: {observed} (such as {', '.join(record['sample'])}): each shows as lost and won again."
            f" If an end is the last day that is paid for, say `ends: inclusive` in stream {where} of tenure.yml; if the gaps are"
            " real, `ends: exclusive`.",
        )
