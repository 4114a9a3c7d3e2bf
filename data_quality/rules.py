"""What a table promises, column by column, as data; raw tables and marts share the words.

Lives here: the rules and the SQL predicate of the rows that break one. Must not live here: running the SQL
(`profile.py`), saying what the rules are of any one table (`raw.py`, `marts.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from core.warehouse import identifier, literal


@dataclass(frozen=True)
class ColumnRule:
    """One column: its type, whether it must be filled, its inclusive limits and the words it may hold.

    `not_before` names a column of the same row that must not be later; `orphan` is SQL over the table that is true for
    a row whose reference leads nowhere; `earliest` and `latest` are SQL timestamps.
    """

    name: str
    sql_type: str
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()
    not_before: tuple[str, ...] = ()
    earliest: str | None = None
    latest: str | None = None
    orphan: str | None = None
    personal: bool = False

    @property
    def has_limits(self) -> bool:
        return self.minimum is not None or self.maximum is not None

    @property
    def is_orphan(self) -> str:
        return self.orphan or "false"

    @property
    def is_missing(self) -> str:
        return f"{identifier(self.name)} is null"

    @property
    def is_out_of_range(self) -> str:
        """SQL of the rows outside the limits or before a column that must come first; NULL is never out of range."""
        column = identifier(self.name)
        broken = [f"{column} < {literal(self.minimum)}"] if self.minimum is not None else []
        broken += [f"{column} > {literal(self.maximum)}"] if self.maximum is not None else []
        return f"coalesce({' or '.join(broken) or 'false'}, false)"

    @property
    def is_out_of_time(self) -> str:
        """SQL of the rows whose date is impossible or lies before the column that must come first."""
        column = identifier(self.name)
        broken = [f"{column} < {self.earliest}"] if self.earliest is not None else []
        broken += [f"{column} > {self.latest}"] if self.latest is not None else []
        broken += [f"{column} < {identifier(other)}" for other in self.not_before]
        return f"coalesce({' or '.join(broken) or 'false'}, false)"

    @property
    def is_unaccepted(self) -> str:
        if not self.values:
            return "false"
        return f"coalesce({identifier(self.name)} not in ({', '.join(literal(value) for value in self.values)}), false)"


@dataclass(frozen=True)
class TableRule:
    """One table: its columns and the columns that together identify a row (of those rows where `key_where` holds)."""

    schema: str
    name: str
    columns: tuple[ColumnRule, ...]
    key: tuple[str, ...]
    key_where: str = "true"

    @property
    def table(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> ColumnRule:
        return next(column for column in self.columns if column.name == name)
