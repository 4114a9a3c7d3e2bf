"""Words that the models do not know: measured inside the warehouse, and put into words.

Lives here: which words of the contract have a meaning, counting the others, what is said about them. Must not live here: what
follows from a word (`models/`), the gate the check belongs to (`raw.py`).

All rows count, not only new ones: a mapping that is wrong for the whole history would show for one run only. Words are
compared as the models compare them, without case and surrounding blanks. A word that may be a sentence is counted and not
repeated: people write names into free text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from core.settings import Config
from core.warehouse import Connection, identifier, literal, rows
from data_quality import profile
from data_quality.checks import RawTable
from data_quality.columns import number
from data_quality.frames import Expect
from data_quality.gate import Words
from data_quality.profile import Record
from data_quality.rules import TableRule

KNOWN: dict[tuple[str, str], tuple[str, ...]] = {
    ("subscriptions", "billing_interval"): ("month", "year"),
    ("invoices", "status"): ("paid", "open", "void", "uncollectible"),
    ("tickets", "priority"): ("low", "normal", "medium", "high", "urgent"),
    ("survey_responses", "kind"): ("nps", "csat", "ces"),
    ("interactions", "channel"): ("email", "meeting", "call", "note"),
    ("interactions", "direction"): ("inbound", "outbound"),
}
"""Columns of the contract whose words the models know; other words are loaded but count as nothing in particular."""

END_REASON = ("subscriptions", "end_reason")
"""The column whose unknown words count as churn."""
NAMED = 5
SHORT = re.compile(r"[\w /&+-]{1,30}")
"""A word that may be repeated: no address, no sentence."""


def known(table: RawTable, config: Config) -> dict[str, tuple[str, ...]]:
    """The known words of each column of a table that has some."""
    found = {column: words for (entity, column), words in KNOWN.items() if entity == table.entity.name}
    if table.entity.name == END_REASON[0]:
        found[END_REASON[1]] = (*config.churn.not_churn, *config.quality.end_reasons)
    return found


def measure(
    connection: Connection, table: RawTable, rule: TableRule, words: Mapping[str, Sequence[str]]
) -> list[Record]:
    """One record per source and column with words: the rows that have one, those whose word is unknown, and the words."""
    return [
        record for column, accepted in words.items() for record in _of_column(connection, table, rule, column, accepted)
    ]


def _of_column(
    connection: Connection, table: RawTable, rule: TableRule, column: str, accepted: Sequence[str]
) -> list[Record]:
    word = f"nullif(lower(trim({identifier(column)})), '')"
    unknown = f"{word} not in ({', '.join(literal(one) for one in accepted)})"
    counted = rows(
        connection,
        f"select _source as source, {word} as word, count(*) as rows, {unknown} as is_unknown from {table.name}"
        f" where {word} is not null group by all order by rows desc, word",
    )
    records = []
    for source in sorted({row["source"] for row in counted}):
        of_source = [row for row in counted if row["source"] == source]
        others = {row["word"]: row["rows"] for row in of_source if row["is_unknown"]}
        where = f"_source = {literal(source)} and {unknown}"
        records.append(
            {
                "source": source,
                "column": column,
                "rows": sum(row["rows"] for row in of_source),
                "unknown": sum(others.values()),
                "words": others,
                "sample": profile.sample_keys(connection, rule, where) if others else (),
            }
        )
    return records


class UnknownWords:
    """Words for columns with words that the models do not know."""

    def __init__(self, table: RawTable, words: Mapping[str, Sequence[str]], records: Sequence[Record]) -> None:
        self.table, self.words, self.records = table, words, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(self.records[position]) for position in positions]

    def _one(self, record: Record) -> Words:
        column = record["column"]
        is_reason = (self.table.entity.name, column) == END_REASON
        observed = f"{number(record['unknown'])} of {number(record['rows'])} rows have another {column}: {_named(record['words'])}"
        expected = f"{column} is one of {', '.join(self.words[column])}"
        meaning = (
            "They count as churn. Name those that are none in churn.not_churn, and the others in quality.end_reasons of tenure.yml."
            if is_reason
            else f"They count as nothing in particular. Known are {', '.join(self.words[column])}: translate the others in"
            " tenure.yml, for instance with a CASE expression."
        )
        return Words(
            observed=observed,
            expected=expected,
            unexpected_count=record["unknown"],
            source=record["source"],
            column=column,
            sample=tuple(record["sample"]),
            message=f"{self.table.name}: {record['source']}: {observed} (such as {', '.join(record['sample'])}). {meaning}",
        )


def _named(words: Mapping[str, int]) -> str:
    """`finished` (7), `gone` (2) and 3 others (4): the most frequent of the short ones first."""
    short = [(word, count) for word, count in words.items() if SHORT.fullmatch(word)][:NAMED]
    named = ", ".join(f"`{word}` ({number(count)})" for word, count in short)
    others = len(words) - len(short)
    if not others:
        return named
    rest = f"{number(others)} {'other' if short else 'text'}{'' if others == 1 else 's'}"
    count = sum(words.values()) - sum(count for _, count in short)
    return f"{named} and {rest} ({number(count)})" if short else f"{rest} ({number(count)})"
