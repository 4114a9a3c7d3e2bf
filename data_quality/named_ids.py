"""Records that name an account by an id which no earlier source has: measured inside the warehouse, and put into words.

Lives here: counting such records by source, naming a few ids, what is said about them. Must not live here: matching itself
(`models/intermediate`), the gate the check belongs to (`published.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from core.warehouse import Connection, rows, table_exists
from data_quality import profile
from data_quality.columns import number
from data_quality.frames import Expect
from data_quality.gate import Words
from data_quality.profile import Record


def measure(connection: Connection) -> list[Record]:
    """One record per source that names ids of accounts: how many records do, how many of the ids are unknown, and a few."""
    if not table_exists(connection, "intermediate", "int_accounts_matched"):
        return []
    return rows(
        connection,
        "select m.source, count(*) as named, count(*) filter (where m.names_unknown_id) as unknown,"
        f" coalesce(list_slice(list_sort(list(distinct a.crm_account_id) filter (where m.names_unknown_id)), 1, {profile.SAMPLE}), [])"
        " as sample from intermediate.int_accounts_matched as m join intermediate.int_accounts_unioned as a"
        " on a.source = m.source and a.source_account_id = m.source_account_id"
        " where a.crm_account_id is not null and m.precedence > 1 and not m.is_merged group by m.source order by m.source",
    )


class NamedIdWords:
    """Words for sources that name ids which no earlier source has."""

    def __init__(self, table: str, records: Sequence[Record]) -> None:
        self.table, self.records = table, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(self.records[position]) for position in positions]

    def _one(self, record: Record) -> Words:
        observed = f"{number(record['unknown'])} of {number(record['named'])} crm_account_id name no account of an earlier source"
        return Words(
            observed=observed,
            expected="every crm_account_id is the id of an account of an earlier source",
            unexpected_count=record["unknown"],
            source=record["source"],
            column="crm_account_id",
            sample=tuple(record["sample"]),
            message=f"{self.table}: {record['source']}: {observed} (such as {', '.join(record['sample'])}). These records are matched"
            " by domain or name, or stay apart. Check which id the mapping of crm_account_id reads, and whether the earlier source"
            " delivers all its accounts.",
        )
