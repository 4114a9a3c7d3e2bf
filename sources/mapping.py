"""From a source's columns to the contract's: the SQL that casts, and the SQL that finds broken rows.

Lives here: compiling a stream's column mapping into one SELECT over a chunk, and the list of faults a row can have.
Must not live here: reading files or databases, writing tables.

Every contract column becomes `try(cast(expression))`: a value that cannot be cast is NULL and is told apart from a value
that was NULL by asking the same expression whether it *fails*. Both stay vectorised: DuckDB evaluates row by row only in
the vectors that hold a failing value.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from core.contract import Column, Entity
from core.errors import Fatal
from core.settings import ColumnMapping, StreamConfig
from core.warehouse import BinderError, Connection, Error, identifier, literal
from sources.base import Chunk, StreamId

HELPERS = (
    # decimal(18,6), not (38,6): casting text to a 128-bit decimal takes 200 times as long.
    "create or replace temp macro number(x) as cast(nullif(trim(cast(x as varchar)), '') as decimal(18,6))",
    "create or replace temp macro text_of(x) as nullif(trim(cast(x as varchar)), '')",
    "create or replace temp macro cents(x) as cast(nullif(trim(cast(x as varchar)), '') as decimal(18,6)) / 100",
    "create or replace temp macro email_domain(x) as nullif(lower(split_part(cast(x as varchar), '@', 2)), '')",
)
"""SQL helpers that a mapping may use, besides everything DuckDB has."""

EARLIEST = datetime(1970, 1, 1)
LATEST_AHEAD = timedelta(days=2)
LATEST_PLANNED = timedelta(days=365 * 50)


@dataclass(frozen=True)
class Fault:
    """One way for a row to break the contract. `predicate` is SQL over the typed row; `detail` is SQL that says it in words."""

    code: str
    predicate: str
    detail: str


@dataclass(frozen=True)
class MappedColumn:
    """SQL of one contract column: the typed value, the value as given (text), and whether casting fails (None: it cannot)."""

    name: str
    typed: str
    given: str
    fails: str | None


@dataclass(frozen=True)
class Mapped:
    """A compiled mapping for chunks with one set of columns."""

    columns: tuple[MappedColumn, ...]
    faults: tuple[Fault, ...]
    join: str
    group: tuple[tuple[str, str], ...] | None
    group_by: tuple[str, ...]

    def rows(self, relation: str, *, numbered: bool) -> str:
        """SQL of the typed rows with `_file` and `_fault` (number of the first fault, 1-based, or NULL).

        With `numbered`, `relation` has `_row`, and the rows also carry it and each value as given.
        """
        source = f"{relation} {self.join}"
        if self.group is not None:
            groups = ", ".join(["_file", *self.group_by])
            values = ", ".join(f"{sql} as {name}" for name, sql in self.group)
            row = ", cast(null as bigint) as _row" if numbered else ""
            source = f"(select _file{row}, {values} from {source} group by {groups})"
        typed = [f"{column.typed} as {identifier(column.name)}" for column in self.columns]
        failing = [f"{column.fails} as {identifier('_bad_' + column.name)}" for column in self.columns if column.fails]
        given = (
            [f"{column.given} as {identifier('_given_' + column.name)}" for column in self.columns] if numbered else []
        )
        inner = ", ".join(["_file", *(["_row"] if numbered else []), *typed, *failing, *given])
        cases = " ".join(f"when {fault.predicate} then {n}" for n, fault in enumerate(self.faults, start=1))
        fault = f"case {cases} end" if cases else "null"
        return f"select *, cast({fault} as utinyint) as _fault from (select {inner} from {source})"


def compile_mapping(
    connection: Connection,
    stream: StreamId,
    config: StreamConfig,
    chunk: Chunk,
    *,
    now: datetime,
    derived_accounts: bool,
) -> Mapped:
    """Compile `config` for chunks shaped like `chunk`.

    Raises `Fatal` when an expression names a column that the chunk lacks, or is not valid SQL.
    """
    for helper in HELPERS:
        connection.execute(helper)
    join = config.join or ""
    source = f"{chunk.relation} {join}"
    _check_join(connection, stream, source)
    mappings = dict(config.columns)
    group = None
    if config.group_by:
        group = tuple((f"_group_{name}", mapping.sql) for name, mapping in mappings.items())
        groups = ", ".join(["_file", *config.group_by])
        for name, mapping in mappings.items():
            _type_of(connection, stream, stream.entity.column(name), mapping, f"{source} group by {groups}")
        values = ", ".join(f"{sql} as {name}" for name, sql in group)
        source = f"(select _file, {values} from {source} group by {groups})"
        mappings = {name: mapping.model_copy(update={"sql": f"_group_{name}"}) for name, mapping in mappings.items()}
    columns = tuple(
        _column_sql(column, mapping, _type_of(connection, stream, column, mapping, source) if mapping else None, chunk.is_text)
        for column in stream.entity.columns
        for mapping in [mappings.get(column.name)]
    )
    return Mapped(
        columns, tuple(_faults(stream.entity, config, now, derived_accounts, columns)), join, group, config.group_by
    )


def _check_join(connection: Connection, stream: StreamId, source: str) -> None:
    try:
        connection.execute(f"select 1 from {source} limit 0")
    except BinderError as error:
        raise Fatal(
            f"{stream.label}: `join` does not fit the source: {_first_line(error)}",
            hint="Check the column names against the file's header.",
        ) from error


def _type_of(
    connection: Connection, stream: StreamId, column: Column, mapping: ColumnMapping, relation: str
) -> str | None:
    """The SQL type of the mapping's expression, or None when it is optional and its column is missing."""
    try:
        cursor = connection.execute(f"select {mapping.sql} from {relation} limit 0")
    except BinderError as error:
        if mapping.optional and "not found in FROM clause" in str(error):
            return None
        raise Fatal(
            f"{stream.label}: column {column.name} ← {mapping.sql}: {_first_line(error)}",
            hint="Mend the mapping, or write `optional: true` if some files lack this column.",
        ) from error
    except Error as error:
        raise Fatal(f"{stream.label}: column {column.name} ← {mapping.sql}: {_first_line(error)}") from error
    return str((cursor.description or [])[0][1])


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).removeprefix("Binder Error: ")


def _column_sql(column: Column, mapping: ColumnMapping | None, given_type: str | None, is_text: bool) -> MappedColumn:
    if mapping is None or given_type is None or given_type == "NULL":
        return MappedColumn(column.name, f"cast(null as {column.sql_type})", "cast(null as varchar)", None)
    expression = mapping.sql
    given = f"cast({expression} as varchar)"
    if column.type == "text":
        trims = is_text or given_type != "VARCHAR"
        typed = f"nullif(trim({given}), '')" if trims else f"nullif({expression}, '')"
        return MappedColumn(column.name, typed, given, None)
    native = {
        "integer": {"TINYINT", "SMALLINT", "INTEGER", "BIGINT"},
        "double": {"FLOAT", "DOUBLE", "INTEGER", "BIGINT"},
        "timestamp": {"TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMP_S", "DATE"},
        "boolean": {"BOOLEAN"},
        "money": set(),
    }[column.type]
    if given_type.upper() in native and mapping.format is None:
        return MappedColumn(column.name, f"cast({expression} as {column.sql_type})", given, None)
    cast = _cast(column, expression, mapping.format, given_type)
    return MappedColumn(column.name, f"try({cast})", f"try({given})", f"try(({cast}) is null) is null")


def _cast(column: Column, expression: str, format_: str | tuple[str, ...] | None, given_type: str) -> str:
    text = f"nullif(trim(cast({expression} as varchar)), '')"
    if column.type == "timestamp":
        if format_ in ("epoch", "epoch_ms"):
            unit = 1_000_000 if format_ == "epoch" else 1_000
            # Double holds microseconds since 1970 exactly until the year 2255; decimal(18,3) overflows when multiplied.
            return f"make_timestamp(cast(round(cast({text} as double) * {unit}) as bigint))"
        if format_ is not None:
            patterns = (format_,) if isinstance(format_, str) else format_
            return f"strptime({text}, [{', '.join(literal(pattern) for pattern in patterns)}])"
        if given_type.upper() == "TIMESTAMP WITH TIME ZONE":
            return f"cast({expression} as timestamp)"
        return f"cast({text} as timestamp)"
    if column.type == "boolean":
        return f"case lower({text}) when 'yes' then true when 'y' then true when 'no' then false when 'n' then false else cast({text} as boolean) end"
    if column.type == "integer":
        return f"cast({text} as bigint)"
    return f"cast({text} as {column.sql_type})"


def _faults(
    entity: Entity,
    config: StreamConfig,
    now: datetime,
    derived_accounts: bool,
    columns: tuple[MappedColumn, ...],
) -> list[Fault]:
    faults: list[Fault] = []
    failing = {column.name for column in columns if column.fails}
    for column in entity.columns:
        quoted = identifier(column.name)
        if column.name in failing:
            code, what = (
                ("impossible_date", "a date") if column.type == "timestamp" else ("wrong_type", f"a {column.type}")
            )
            faults.append(Fault(code, identifier("_bad_" + column.name), _says(column, f"is not {what}")))
    for column in entity.columns:
        quoted = identifier(column.name)
        is_key = column.name in (entity.key, "account_id")
        optional = (column.name == entity.key and entity.key_is_optional and not config.columns.get(entity.key)) or (
            column.name == "created_at" and derived_accounts
        )
        needed = column.required or (column.name == entity.key and not optional)
        if needed and not optional:
            faults.append(
                Fault(
                    "null_key" if is_key else "missing_value",
                    f"{quoted} is null",
                    literal(f"{column.name} is empty"),
                )
            )
    for column in entity.columns:
        quoted = identifier(column.name)
        if column.name not in config.columns:
            continue
        if column.type == "timestamp":
            latest = now + (LATEST_PLANNED if column.future else LATEST_AHEAD)
            faults.append(
                Fault(
                    "impossible_date",
                    f"({quoted} < timestamp '{EARLIEST}' or {quoted} > timestamp '{latest:%Y-%m-%d %H:%M:%S}')",
                    _says(column, f"lies outside {EARLIEST:%Y-%m-%d} to {latest:%Y-%m-%d}"),
                )
            )
        if column.minimum is not None:
            faults.append(
                Fault("out_of_range", f"{quoted} < {column.minimum:g}", _says(column, f"is below {column.minimum:g}"))
            )
        if column.maximum is not None:
            faults.append(
                Fault("out_of_range", f"{quoted} > {column.maximum:g}", _says(column, f"is above {column.maximum:g}"))
            )
    for earlier, later in entity.ordered:
        faults.append(
            Fault(
                "end_before_start",
                f"{identifier(later)} < {identifier(earlier)}",
                f"{literal(later + ' ')} || cast({identifier(later)} as varchar) || {literal(f' is before {earlier} ')} || cast({identifier(earlier)} as varchar)",
            )
        )
    return faults


def _says(column: Column, what: str) -> str:
    """SQL for a sentence such as: mrr_usd '-12' is below 0. Personal values are not repeated."""
    if column.personal:
        return literal(f"{column.name} {what}")
    given = identifier("_given_" + column.name)
    return f"{literal(column.name + ' ')} || '''' || coalesce(left({given}, 60), '(unreadable)') || '''' || {literal(' ' + what)}"
