"""From a model's columns to a destination's fields: which column fills which field, as what, rounded how.

Lives here: resolving the configuration against the columns that are there, and each field's SQL. Must not live here: what has
changed (`plan.py`), or how a destination writes a value.

Every field has two expressions: its value, as a destination receives it, and the canonical text of that value, which is what
fields are compared by and what the ledger keeps.
"""

from __future__ import annotations

from collections.abc import Mapping as Names
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from activation.base import Field
from core.errors import UserError
from core.sync_settings import FieldConfig, SyncConfig
from core.warehouse import Connection, identifier, rows

Kind = Literal["text", "number", "boolean", "date", "datetime"]
_KINDS: dict[str, Kind] = {
    "VARCHAR": "text",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "datetime",
    "TIMESTAMP_S": "datetime",
    "TIMESTAMP_MS": "datetime",
    "TIMESTAMP_NS": "datetime",
    "TIMESTAMP WITH TIME ZONE": "datetime",
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"), "number"),
    **dict.fromkeys(("UBIGINT", "HUGEINT", "FLOAT", "DOUBLE"), "number"),
}
_CASTS: dict[Kind, str] = {
    "text": "varchar",
    "number": "double",
    "boolean": "boolean",
    "date": "date",
    "datetime": "timestamp",
}
_ABBREVIATIONS = {"mrr": "MRR", "arr": "ARR", "pct": "%", "id": "id", "nps": "NPS", "7d": "7 days"}


@dataclass(frozen=True)
class MappedField:
    """A field of the destination and where its value comes from."""

    name: str
    column: str
    column_type: str
    kind: Kind
    digits: int | None
    on_null: Literal["skip", "clear"]
    is_volatile: bool
    description: str = ""

    @property
    def value_sql(self) -> str:
        """The value: of the declared kind, rounded, with empty text as NULL, and nothing that is no number."""
        column = f"s.{identifier(self.column)}"
        if self.kind == "text":
            return f"nullif(cast({column} as varchar), '')"
        if self.kind == "number":
            value = column if _kind(self.column_type) == "number" else f"try_cast({column} as double)"
            if self._is_double:
                value = f"case when isfinite({value}) then {value} end"
            rounded = value if self.digits is None else f"round({value}, {self.digits})"
            # 0.0 is added so that no row differs by the sign of its zero.
            return f"({rounded} + 0.0::double)" if self._is_double else rounded
        return f"try_cast({column} as {_CASTS[self.kind]})"

    @property
    def text_sql(self) -> str:
        """The canonical text of the value; NULL where it is NULL."""
        if self.kind == "datetime":
            return f"strftime({self.value_sql}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        return self.value_sql if self.kind == "text" else f"cast({self.value_sql} as varchar)"

    @property
    def wrong_sql(self) -> str | None:
        """Whether a row holds something that is no value of this kind; None where no row can."""
        column = f"s.{identifier(self.column)}"
        if _kind(self.column_type) == self.kind and not self._is_double:
            return None
        if self.kind == "text":
            return None
        return f"({column} is not null and {self.value_sql} is null)"

    @property
    def _is_double(self) -> bool:
        return self.kind == "number" and (
            self.column_type in ("DOUBLE", "FLOAT") or _kind(self.column_type) != "number"
        )


@dataclass(frozen=True)
class Mapping:
    """How rows of `relation` become rows of a destination."""

    relation: str
    key: str
    fields: tuple[MappedField, ...]

    @property
    def compared(self) -> tuple[MappedField, ...]:
        """The fields that make a row differ."""
        return tuple(field for field in self.fields if not field.is_volatile)

    def described(self) -> list[Field]:
        """The fields as a destination is asked for them."""
        return [Field(field.name, field.kind, label_of(field.name), field.description) for field in self.fields]


def label_of(name: str) -> str:
    """A field's name for people: `tenure_mrr_at_risk` is `Tenure MRR at risk`."""
    words = name.removesuffix("__c").lower().split("_")
    told = " ".join(_ABBREVIATIONS.get(word, word) for word in words if word)
    return told[:1].upper() + told[1:]


def resolve(connection: Connection, config: SyncConfig, *, schema: str = "reverse_etl") -> Mapping:
    """The mapping of `config` against the model that is there; every column but the key, where no fields are named.

    Raises `UserError` when the model, the key or a column is missing, or a column is of a type that no destination takes.
    """
    relation = f"{identifier(schema)}.{identifier(config.model)}"
    columns = _columns(connection, schema, config.model)
    if not columns:
        raise UserError(
            f"{schema}.{config.model} is not in the published copy: it is built by the first run after a destination is configured.",
            hint="Run `tenure run`. A model of your own belongs in models/activation/.",
        )
    key = _find(columns, config.key, f"the key of {config.model}")
    wanted: Names[str, FieldConfig] = config.fields or {name: FieldConfig() for name in columns if name != key}
    fields = (_mapped(name, wanted[name], columns, config) for name in sorted(wanted))
    return Mapping(relation, key, tuple(fields))


def _columns(connection: Connection, schema: str, table: str) -> dict[str, tuple[str, str]]:
    """Type and comment by column, in order."""
    found = rows(
        connection,
        "select column_name, data_type, comment from duckdb_columns() where schema_name = ? and table_name = ?"
        " and database_name = current_database() order by column_index",
        [schema, table],
    )
    return {row["column_name"]: (row["data_type"], row["comment"] or "") for row in found}


def _find(columns: Names[str, tuple[str, str]], wanted: str, what: str) -> str:
    for name in columns:
        if name.lower() == wanted.lower():
            return name
    raise UserError(f"There is no column {wanted}, {what}.", hint=f"The columns are {', '.join(columns)}.")


def _mapped(name: str, field: FieldConfig, columns: Names[str, tuple[str, str]], config: SyncConfig) -> MappedField:
    column = _find(columns, field.column or name, f"which fills the field {name}")
    column_type, comment = columns[column]
    kind = _kind(column_type)
    if kind is None:
        raise UserError(
            f"{config.model}.{column} is {column_type}; no destination takes that.", hint="Cast it in the model."
        )
    return MappedField(
        name=name,
        column=column,
        column_type=column_type.partition("(")[0],
        kind=field.type or kind,
        digits=field.round if field.round is not None else _by_pattern(name, config.rounding),
        on_null=field.on_null or config.on_null,
        is_volatile=field.volatile if field.volatile is not None else _matches(name, config.volatile),
        description=comment,
    )


def _by_pattern(name: str, rounding: Names[str, int]) -> int | None:
    return next((digits for pattern, digits in rounding.items() if fnmatchcase(name.lower(), pattern.lower())), None)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def _kind(column_type: str) -> Kind | None:
    base = column_type.partition("(")[0]
    return "number" if base == "DECIMAL" else _KINDS.get(base) if "[" not in column_type else None
