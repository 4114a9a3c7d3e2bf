"""Checks of columns: the same rules, judged on the rows themselves or on their profile.

Lives here: frames and words for schema, required columns, ranges, accepted values and keys of any table. Must not live
here: which table has which rule, checks that need more than the table itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.warehouse import Connection
from data_quality import profile
from data_quality.checks import Boundary, CheckSpec
from data_quality.frames import Expect, Frame
from data_quality.gate import Words
from data_quality.profile import Record, Shape
from data_quality.rules import ColumnRule, TableRule

"""Checks that look at one row at a time."""

RAW_ADVICE = {
    "schema": "Tables of raw schemas belong to the loader: move this one aside and load with --full.",
    "required": "Map the column in tenure.yml to a source column that is always filled.",
    "ranges": "Look at these rows in the source; correct them there, or their mapping in tenure.yml.",
    "keys_unique": "Check that the mapped key identifies a row of the source.",
    "references": "Load the accounts of that source, or set account_source to the source whose ids these are.",
}
MART_ADVICE = {
    "schema": "Build the models again; if it stays, a model no longer gives what is published.",
    "required": "Look at these rows, and at the model that leaves them empty.",
    "ranges": "Look at these rows and at the facts behind them; a model computes what cannot be.",
    "accepted_values": "The model says a word that its readers do not know: add it to both, or correct the model.",
    "keys_unique": "A join in the model doubles rows.",
    "references": "The model keeps rows whose account it does not know.",
}


def _advice(rule: TableRule) -> dict[str, str]:
    """Raw tables are the loader's; all others are made by models."""
    return RAW_ADVICE if rule.schema.startswith("raw_") else MART_ADVICE


def number(value: float | int | None) -> str:
    """A number for people: thousands separated, no needless decimals."""
    if value is None:
        return "nothing"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def schema_records(rule: TableRule, found: Shape) -> list[Record]:
    """One record per promised column: its type and the promised one."""
    return [
        {
            "column": column.name,
            "type": (
                column.sql_type
                if profile.same_type(found.types.get(column.name, ""), column.sql_type)
                else found.types.get(column.name, "missing")
            ),
            "expected_type": column.sql_type,
        }
        for column in rule.columns
    ]


def profile_expectations(specs: dict[str, CheckSpec]) -> list[Expect]:
    """What is expected of a profile, one row per column, for those checks that `specs` has."""
    wanted = [
        ("schema", "equal", "type", {"other": "expected_type"}, "Every column is there with its promised type"),
        ("required", "between", "missing", {"minimum": 0, "maximum": 0}, "Required columns are never NULL"),
        ("ranges", "at_least", "minimum", {"other": "lowest"}, "The smallest value is not below the lowest allowed"),
        ("ranges", "at_least", "highest", {"other": "maximum"}, "The largest value is not above the highest allowed"),
        ("ranges", "between", "out_of_time", {"minimum": 0, "maximum": 0}, "No date is impossible or out of order"),
        ("accepted_values", "between", "unaccepted", {"minimum": 0, "maximum": 0}, "Only known words occur"),
        ("keys_unique", "between", "repeated_keys", {"minimum": 0, "maximum": 0}, "No key stands on two rows"),
        ("references", "between", "orphans", {"minimum": 0, "maximum": 0}, "Every reference leads to a row"),
        ("personal", "between", "published_personal", {"minimum": 0, "maximum": 0}, "No personal column is published"),
        (
            "personal",
            "between",
            "addresses",
            {"minimum": 0, "maximum": 0},
            "No published column holds e-mail addresses",
        ),
    ]
    return [
        Expect(check, specs[check].severity, kind, column, says, **limits)  # type: ignore[arg-type]
        for check, kind, column, limits, says in wanted
        if check in specs
    ]


def row_expectations(rule: TableRule, specs: dict[str, CheckSpec], limits: dict[str, tuple[str, str]]) -> list[Expect]:
    """What is expected of the rows themselves; `limits` gives the earliest and latest timestamp by column."""
    expects = []
    for column in rule.columns:
        name = column.name
        if column.required:
            expects.append(Expect("required", specs["required"].severity, "filled", name, f"{name} is filled"))
        ranges = specs["ranges"].severity
        if column.has_limits:
            says = _limits(column)
            expects.append(
                Expect("ranges", ranges, "between", name, says, minimum=column.minimum, maximum=column.maximum)
            )
        if name in limits:
            earliest, latest = limits[name]
            says = f"{name} lies within {earliest[:10]} to {latest[:10]}"
            expects.append(Expect("ranges", ranges, "between", name, says, minimum=earliest, maximum=latest))
        for other in column.not_before:
            expects.append(Expect("ranges", ranges, "at_least", name, f"{name} is not before {other}", other=other))
    return expects


def explain_rows(rule: TableRule, keys: Sequence[str], rows_of_frame: int, what: str) -> _RowWords:
    """Words for rows that were judged themselves; `keys` are the rows' keys by position."""
    return _RowWords(rule, keys, rows_of_frame, what)


class _RowWords:
    def __init__(self, rule: TableRule, keys: Sequence[str], total: int, what: str) -> None:
        self.rule, self.keys, self.total, self.what = rule, keys, total, what

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        sample = tuple(sorted(self.keys[position] for position in positions)[: profile.SAMPLE])
        return [
            broken_column(
                self.rule, expect.check, expect.column, expect.says, len(positions), self.total, self.what, sample
            )
        ]


def broken_column(
    rule: TableRule, check: str, column: str, says: str, broken: int, total: int, what: str, sample: tuple[str, ...]
) -> Words:
    """The sentence for a column with broken rows."""
    shown = f" (such as {', '.join(sample)})" if sample else ""
    advice = _advice(rule)[check]
    breaks = f"{number(broken)} of {number(total)} {what} {'breaks' if broken == 1 else 'break'}"
    return Words(
        observed=f"{breaks} it",
        expected=says,
        unexpected_count=broken,
        column=column,
        sample=sample,
        message=f"{rule.table}: {breaks} the rule that {says}{shown}. {advice}",
    )


class ProfileWords:
    """Words for columns whose profile was judged; keys of offending rows are looked up only now."""

    def __init__(
        self, connection: Connection, rule: TableRule, records: Sequence[Record], where: str, what: str
    ) -> None:
        self.connection, self.rule, self.records, self.where, self.what = connection, rule, records, where, what

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        found = [self._one(expect, self.records[position]) for position in positions]
        return [words for words in found if words is not None]

    def _one(self, expect: Expect, record: Record) -> Words | None:
        column = self.rule.column(record["column"])
        total = record.get("rows", 0)
        match expect.check:
            case "schema":
                return Words(
                    observed=record["type"],
                    expected=record["expected_type"],
                    column=column.name,
                    message=f"{self.rule.table}.{column.name} is {record['type']}, expected {record['expected_type']}."
                    f" {_advice(self.rule)['schema']}",
                )
            case "required":
                return self._broken(
                    "required", column, f"{column.name} is filled", record["nulls"], total, column.is_missing
                )
            case "ranges" if expect.column == "out_of_time":
                return self._broken(
                    "ranges", column, _times(column), record["out_of_time"], total, column.is_out_of_time
                )
            case "ranges":
                # Both limits of one column share a count: it is said once, for the limit that is broken first.
                if expect.column == "highest" and (record["minimum"] or 0) < (
                    column.minimum if column.minimum is not None else float("-inf")
                ):
                    return None
                says = _limits(column)
                return self._broken("ranges", column, says, record["out_of_range"], total, column.is_out_of_range)
            case "accepted_values":
                says = f"{column.name} is one of {', '.join(column.values)}"
                return self._broken("accepted_values", column, says, record["unaccepted"], total, column.is_unaccepted)
            case "keys_unique":
                return broken_column(
                    self.rule,
                    "keys_unique",
                    column.name,
                    f"{', '.join(self.rule.key)} occur together once",
                    record["repeated_keys"],
                    record["table_rows"],
                    "keys",
                    tuple(record["repeated_sample"]),
                )
            case "personal":
                return self._personal(column.name, record, expect.column)
            case _:
                says = f"{column.name} leads to a row of {record['refers_to']}"
                return self._broken(
                    "references", column, says, record["orphans"], record["table_rows"], column.is_orphan, "true"
                )

    def _personal(self, column: str, record: Record, measure: str) -> Words:
        what = "is personal data" if measure == "published_personal" else "holds e-mail addresses"
        count = record["rows"] - record["nulls"] if measure == "published_personal" else record["addresses"]
        return Words(
            observed=f"{column} {what} ({number(count)} rows) and is published",
            expected="personal data stays in the warehouse",
            unexpected_count=count,
            column=column,
            message=f"{self.rule.table}.{column} {what} ({number(count)} rows) and is published."
            f" Add {self.rule.name}.{column} to publish.exclude_columns unless readers may see it.",
        )

    def _broken(
        self,
        check: str,
        column: ColumnRule,
        says: str,
        broken: int,
        total: int,
        predicate: str,
        where: str | None = None,
    ) -> Words:
        sample = profile.sample_keys(self.connection, self.rule, f"{where or self.where} and {predicate}")
        return broken_column(self.rule, check, column.name, says, broken, total, self.what, sample)


def columns_frame(
    boundary: Boundary, rule: TableRule, records: Sequence[Record], specs: dict[str, CheckSpec], part: str = "columns"
) -> Frame:
    """The profile as a frame; a measure that no record has is not judged."""
    import pandas as pd

    expects = [
        expect
        for expect in profile_expectations(specs)
        if any(record.get(expect.column) is not None for record in records)
    ]
    hidden = ("repeated_sample", "refers_to")
    shown = [{name: value for name, value in record.items() if name not in hidden} for record in records]
    return Frame(boundary, rule.table, part, pd.DataFrame(shown), tuple(expects), ("column",))


def add_missing(records: Sequence[Record], rule: TableRule) -> None:
    """`missing`: the NULLs of columns that must be filled; None for the others."""
    for record in records:
        record["missing"] = record["nulls"] if rule.column(record["column"]).required else None


def _limits(column: ColumnRule) -> str:
    if column.maximum is None:
        return f"{column.name} is {number(column.minimum)} or more"
    if column.minimum is None:
        return f"{column.name} is {number(column.maximum)} or less"
    return f"{column.name} lies within {number(column.minimum)} to {number(column.maximum)}"


def _times(column: ColumnRule) -> str:
    first = f" and not before {' or '.join(column.not_before)}" if column.not_before else ""
    return f"{column.name} is a possible date{first}"
