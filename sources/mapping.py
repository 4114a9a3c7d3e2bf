"""From a source's columns to the contract's: the SQL that casts, and the SQL that finds broken rows.

Lives here: compiling a stream's column mapping into one SELECT over a chunk, and the list of faults a row can have.
Must not live here: reading files or databases, writing tables.

Every contract column becomes `try(cast(expression))`: a value that cannot be cast is NULL and is told apart from a value
that was NULL by asking the same expression whether it *fails*. DuckDB evaluates a `try` row by row in each vector that holds
a failing value; so what is just a column is cast by `try_cast`, which never fails (a column of 100,000 texts, some of them
broken, in 0.05 s instead of 0.6 s).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from core.contract import Column, Entity
from core.errors import Fatal
from core.salesforce import full_id_sql
from core.source_settings import ColumnMapping, StreamConfig
from core.warehouse import BinderError, Connection, Error, identifier, literal
from sources.base import Chunk, StreamId
from sources.names import exact
from sources.texts import FLOATS, ID_TEXT, id_of, is_inexact, null_words, once, shown_id, trimmed, without_null_words

HELPERS = (
    # decimal(18,6), not (38,6): casting text to a 128-bit decimal takes 200 times as long.
    # What casts as it stands needs no trimming, which takes three times as long as the cast.
    "create or replace temp macro number(x) as coalesce(try_cast(cast(x as varchar) as decimal(18,6)),"
    " cast(nullif(trim(cast(x as varchar)), '') as decimal(18,6)))",
    "create or replace temp macro comma_number(x) as"
    " cast(replace(replace(nullif(trim(cast(x as varchar)), ''), '.', ''), ',', '.') as decimal(18,6))",
    "create or replace temp macro cents(x) as coalesce(try_cast(cast(x as varchar) as decimal(18,6)),"
    " cast(nullif(trim(cast(x as varchar)), '') as decimal(18,6))) / 100",
    "create or replace temp macro text_of(x) as nullif(trim(cast(x as varchar)), '')",
    ID_TEXT,
    "create or replace temp macro email_domain(x) as nullif(lower(split_part(cast(x as varchar), '@', 2)), '')",
    "create or replace temp macro custom_field(fields, wanted) as list_extract(list_filter(from_json(fields,"
    """ '[{"id": "VARCHAR", "value": "VARCHAR"}]'), lambda f: f.id = cast(wanted as varchar)), 1).value""",
    f"create or replace temp macro salesforce_id(x) as {full_id_sql('text_of(x)')}",
    "create or replace temp macro total_of(x) as case when count(*) = count(x) then sum(x) end",
)
"""SQL helpers that a mapping may use, besides everything DuckDB has. `total_of` is NULL when any value is; `custom_field` finds the
value of an id in a list of ids and values; `salesforce_id` writes Salesforce's ids of 15 characters with 18, as its API does."""

EARLIEST = datetime(1970, 1, 1)
LATEST_AHEAD = timedelta(days=2)
LATEST_PLANNED = timedelta(days=365 * 50)

_NAME = re.compile(r'\w+|"[^"]+"')
_NATIVE: dict[str, frozenset[str]] = {
    "integer": frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}),
    "double": frozenset({"INTEGER", "BIGINT"}),
    "timestamp": frozenset({"TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP_S", "TIMESTAMP_NS", "DATE"}),
    "boolean": frozenset({"BOOLEAN"}),
    "money": frozenset(),
    "text": frozenset(),
}
"""Source types whose bare columns need no guard: the cast cannot fail."""
_TOLD = ("_malformed", "_incomplete", "_unreadable")
"""Columns in which a chunk says what is wrong with a row."""
_Word = Literal["cast", "try_cast"]


@dataclass(frozen=True)
class Fault:
    """One way for a row to break the contract. `predicate` is SQL over the typed row; `detail` is SQL that says it in words."""

    code: str
    predicate: str
    detail: str


@dataclass(frozen=True)
class MappedColumn:
    """SQL of one contract column: the typed value, the value as given (of any type), and whether casting fails (None: it cannot).

    `fails` is SQL over the source, or with `is_told_late` over the typed value and `_given_…`, so that nothing is cast twice.
    """

    name: str
    typed: str
    given: str
    fails: str | None
    is_told_late: bool = False


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

        With `numbered`, `relation` has `_row`, and the rows also carry it and each value as given, whatever its type: as
        text it is only wanted for broken rows, and 10 million moments take 2 processor seconds to write out.
        """
        source = self.source(relation, extra=", cast(null as bigint) as _row" if numbered else "")
        typed = [f"{column.typed} as {identifier(column.name)}" for column in self.columns]
        failing = [
            f"{column.fails} as {identifier('_bad_' + column.name)}"
            for column in self.columns
            if column.fails and not column.is_told_late
        ]
        given = [
            f"{column.given} as {identifier('_given_' + column.name)}"
            for column in self.columns
            if numbered or column.is_told_late
        ]
        inner = ", ".join(["_file", *self.told, *typed, *failing, *given, *(["_row"] if numbered else [])])
        cases = " ".join(f"when {fault.predicate} then {n}" for n, fault in enumerate(self.faults, start=1))
        fault = f"case {cases} end" if cases else "null"
        return f"select *, cast({fault} as utinyint) as _fault from (select {inner} from {source})"

    @property
    def told(self) -> list[str]:
        """Columns of `rows` in which the chunk says what is wrong with a row."""
        return [name for name in _TOLD if any(fault.predicate.startswith(name) for fault in self.faults)]

    def typed(self, name: str) -> str:
        """SQL of one column's typed value, over `source`."""
        return next(column.typed for column in self.columns if column.name == name)

    def source(self, relation: str, extra: str = "") -> str:
        """SQL of what the columns are mapped from: `relation` with its joins, or its groups. One row each is one row read."""
        joined = f"{relation} {self.join}"
        return joined if self.group is None else _grouped(joined, self.group, self.group_by, extra=extra)


def effective_columns(entity: Entity, config: StreamConfig) -> Mapping[str, ColumnMapping]:
    """The configured mapping; a key that is not mapped is made of the stream's primary key, if there is one."""
    if entity.key in config.columns or not config.primary_key:
        return config.columns
    parts = " || '-' || ".join(f"id_text({identifier(name)})" for name in config.primary_key)
    return {entity.key: ColumnMapping(sql=parts), **config.columns}


def compile_mapping(
    connection: Connection,
    stream: StreamId,
    config: StreamConfig,
    chunk: Chunk,
    *,
    now: datetime,
    derived_accounts: bool,
    by_user: bool = False,
) -> Mapped:
    """Compile `config` for chunks shaped like `chunk`. With `by_user`, a row may leave it to its user to tell the account.

    Raises `Fatal` that lists every expression that names a column the chunk lacks, or is not valid SQL.
    """
    for helper in HELPERS:
        connection.execute(helper)
    compiler = _Compiler(connection, stream, config, chunk)
    columns, group = compiler.columns()
    unasked = {"created_at"} if derived_accounts else set[str]()
    unasked |= {"account_id"} if by_user else set()
    faults = _faults(stream.entity, effective_columns(stream.entity, config), now, unasked, columns)
    if chunk.has_malformed:
        faults.insert(0, Fault("malformed_row", "_malformed", literal("the line is not a JSON object")))
    if chunk.has_incomplete:
        faults.insert(0, Fault("incomplete_record", "_incomplete is not null", "_incomplete"))
    if chunk.has_unreadable:
        faults.insert(0, Fault("unreadable_value", "_unreadable is not null", "_unreadable"))
    return Mapped(columns, tuple(faults), compiler.join, group, compiler.group_by)


def only(connection: Connection, stream: StreamId, chunk: Chunk, where: str) -> Chunk:
    """The rows of a chunk that its stream is about. A record that could not be taken apart may be any.

    Raises `Fatal` for a condition that names a column the chunk lacks, or is not valid SQL.
    """
    names = _given_names(connection, chunk)
    sql, problem = exact(connection, where, names)
    marks = "".join(f" or {mark}" for mark in _marks(chunk).values())

    def wanted(relation: str) -> str:
        return f"(select * from {relation} where (({sql}){marks}))"

    if problem is None:
        try:
            connection.execute(f"select 1 from {wanted(chunk.relation)} limit 0")
        except Error as error:
            problem = _first_line(error)
    if problem is not None:
        raise Fatal(
            f"{stream.label}: `where` does not fit. {where}: {problem}.", hint=f"The source has {', '.join(names)}."
        )
    return replace(
        chunk,
        relation=wanted(chunk.relation),
        numbered=lambda files: wanted(chunk.numbered(files)),
        counted=None if chunk.counted is None else wanted(chunk.counted),
    )


class _Compiler:
    """Tries each expression of a mapping on a chunk, and collects what is wrong."""

    def __init__(self, connection: Connection, stream: StreamId, config: StreamConfig, chunk: Chunk) -> None:
        self.connection = connection
        self.stream = stream
        self.config = config
        self.chunk = chunk
        self.names = _given_names(connection, chunk)
        self.problems: list[str] = []
        self.unnest = self._exact("`unnest`", config.unnest) if config.unnest else None
        self.join = " ".join(filter(None, (config.join, _each_item(self.unnest, chunk) if self.unnest else None)))
        self.group_by = (*config.group_by, *(_marks(chunk) if config.group_by else ()))

    def columns(self) -> tuple[tuple[MappedColumn, ...], tuple[tuple[str, str], ...] | None]:
        entity = self.stream.entity
        source = f"{self.chunk.relation} {self.join}"
        joined = f"{self.chunk.relation} {self.config.join or ''}"
        problem = self._try(f"select 1 from {joined} limit 0")
        if problem is not None:
            self.problems.append(f"`join`: {problem}")
            self._stop()
        if self.unnest:
            self._check_list(self.unnest, joined)
        joins = [name for name in _columns(self.connection, source) if name not in self.names.values()]
        mappings: Mapping[str, ColumnMapping] = {
            name: mapping.model_copy(update={"sql": self._exact(name, mapping.sql, joins)})
            for name, mapping in effective_columns(entity, self.config).items()
        }
        self.group_by = tuple(self._exact("`group_by`", sql, joins) for sql in self.group_by)
        self._stop()
        group = None
        if self.config.group_by:
            grouping = ", ".join(["_file", *self.group_by])
            for name, mapping in mappings.items():
                self._type_of(name, mapping, f"{source} group by {grouping}")
            self._stop()
            group = tuple((f"_group_{name}", mapping.sql) for name, mapping in mappings.items())
            source = _grouped(source, group, self.group_by)
            mappings = {name: m.model_copy(update={"sql": f"_group_{name}"}) for name, m in mappings.items()}
        types = {name: self._type_of(name, mapping, source) for name, mapping in mappings.items()}
        self._stop()
        return tuple(self._column(column, mappings, types, source) for column in entity.columns), group

    def _check_list(self, unnest: str, joined: str) -> None:
        kind = self._type_of("`unnest`", ColumnMapping(sql=unnest), joined)
        self._stop()
        if kind is not None and not kind.endswith("]"):
            given = self.config.unnest
            advice = f"; of JSON, write json_extract({given}, '$[*]')" if kind in ("VARCHAR", "JSON") else ""
            self.problems.append(f"`unnest`: {given} is of type {kind}, which is no list{advice}")
            self._stop()

    def _column(
        self, column: Column, mappings: Mapping[str, ColumnMapping], types: Mapping[str, str | None], source: str
    ) -> MappedColumn:
        mapping, given_type = mappings.get(column.name), types.get(column.name)
        if mapping is None or given_type is None or given_type == '"NULL"':
            return MappedColumn(column.name, f"cast(null as {column.sql_type})", "cast(null as varchar)", None)
        words = null_words(column, self.config)
        is_bare = _NAME.fullmatch(mapping.sql.strip()) is not None
        given = mapping.sql
        as_text = f"cast({given} as varchar)"
        if column.type == "id":
            return self._id(column, mapping.sql, given_type, words, source, is_bare=is_bare)
        if is_bare and column.type == "text":
            needs_no_trim = not self.chunk.is_text and given_type == "VARCHAR"
            if given_type in FLOATS:
                text = f"cast({_number(given)} as varchar)"
            else:
                text = as_text if needs_no_trim or given_type != "VARCHAR" else trimmed(given)
            return MappedColumn(column.name, without_null_words(text, words), given, None)
        if is_bare and given_type in _NATIVE[column.type] and mapping.format is None:
            return MappedColumn(column.name, f"cast({mapping.sql} as {column.sql_type})", given, None)
        if is_bare and given_type in FLOATS and column.type == "double":
            return MappedColumn(column.name, f"cast({_number(mapping.sql)} as double)", given, None)
        if is_bare:
            value = f"try({_value(column, mapping.sql, mapping.format, given_type, words, word='try_cast')})"
            if column.type == "double":
                fails = f"{value} is null and {_text(mapping.sql, given_type, words, word='try_cast')} is not null"
                return MappedColumn(column.name, _number(value), given, fails)
            text = _text(identifier("_given_" + column.name), given_type, words, word="try_cast")
            fails = f"case when {identifier(column.name)} is null then {text} is not null else false end"
            return MappedColumn(column.name, value, given, fails, is_told_late=True)
        cast = _cast(column, mapping.sql, mapping.format, given_type, words)
        if self._try(f"select try({cast}) from {source} limit 0") is not None:
            # TRY takes no subqueries and no random functions: a value that fails there stops the stream.
            return MappedColumn(column.name, cast, given, None)
        return MappedColumn(column.name, f"try({cast})", f"try({as_text})", f"try(({cast}) is null) is null")

    def _id(
        self, column: Column, sql: str, given_type: str, words: Sequence[str], source: str, *, is_bare: bool
    ) -> MappedColumn:
        """An id: what is just a column as it is, an expression evaluated once, and guarded."""
        if is_bare:
            written, given = id_of(sql, given_type, words), shown_id(sql, given_type)
            inexact = is_inexact(identifier(column.name), identifier("_given_" + column.name), given_type, words)
            return MappedColumn(column.name, written, given, inexact, is_told_late=inexact is not None)
        value = once(sql, id_of("v", given_type, words))
        inexact = is_inexact(id_of("v", given_type, words), "v", given_type, words) or "false"
        if self._try(f"select try({value}) from {source} limit 0") is not None:
            return MappedColumn(column.name, value, sql, None)
        fails = f"coalesce(try({once(sql, inexact)}), true)"
        return MappedColumn(column.name, f"try({value})", f"try({shown_id(sql, given_type)})", fails)

    def _type_of(self, name: str, mapping: ColumnMapping, relation: str) -> str | None:
        """The SQL type of the mapping's expression, or None when it is optional and its column is missing."""
        try:
            cursor = self.connection.execute(f"select {mapping.sql} from {relation} limit 0")
        except Error as error:
            if not (mapping.optional and isinstance(error, BinderError) and "not found in FROM clause" in str(error)):
                self.problems.append(f"{name} ← {mapping.sql}: {_first_line(error)}")
            return None
        return str((cursor.description or [])[0][1])

    def _try(self, sql: str) -> str | None:
        try:
            self.connection.execute(sql)
        except Error as error:
            return _first_line(error)
        return None

    def _exact(self, name: str, sql: str, joins: Sequence[str] = ()) -> str:
        """SQL that names the columns as they are called in the chunk."""
        named, problem = exact(self.connection, sql, {**{one: one for one in joins}, **self.names}, joins)
        if problem is not None:
            self.problems.append(f"{name} ← {sql}: {problem}")
        return named

    def _stop(self) -> None:
        if not self.problems:
            return
        origin = f" ({self.chunk.files[0].path})" if self.chunk.files else ""
        columns = ", ".join(self.names)
        columns += ", and `item` is what `unnest` finds" if self.config.unnest else ""
        raise Fatal(
            f"{self.stream.label}{origin}: the mapping does not fit. " + "; ".join(self.problems) + ".",
            hint=f"The source has {columns}. Correct the mapping, or write `optional: true` where a column may be missing."
            f" Where the key was renamed and its values are other ones, run `tenure run --full {self.stream.label}` then.",
        )


def _each_item(sql: str, chunk: Chunk) -> str:
    """SQL of a join that makes a row, with the column `item`, of each item of a list. Of a record that could not be taken apart, one."""
    marked = " or ".join(_marks(chunk).values())
    items = f"case when {marked} then [null] else {sql} end" if marked else sql
    return f"cross join lateral (select unnest({items}) as item)"


def _given_names(connection: Connection, chunk: Chunk) -> Mapping[str, str]:
    if chunk.names is not None:
        return chunk.names
    return {name: name for name in _columns(connection, chunk.relation) if name not in ("_file", *_TOLD)}


def _columns(connection: Connection, relation: str) -> list[str]:
    return [name for name, *_ in connection.execute(f"select * from {relation} limit 0").description or []]


def _marks(chunk: Chunk) -> dict[str, str]:
    """The columns in which a chunk says what is wrong with a row, with SQL that says whether anything is."""
    there = (chunk.has_malformed, chunk.has_incomplete, chunk.has_unreadable)
    marks = dict(zip(_TOLD, ("_malformed", "_incomplete is not null", "_unreadable is not null"), strict=True))
    return {name: mark for (name, mark), is_there in zip(marks.items(), there, strict=True) if is_there}


def _grouped(source: str, group: tuple[tuple[str, str], ...], group_by: tuple[str, ...], extra: str = "") -> str:
    values = ", ".join(f"{sql} as {name}" for name, sql in group)
    told = "".join(f", {name}" for name in _TOLD if name in group_by)
    return f"(select _file{told}{extra}, {values} from {source} group by {', '.join(['_file', *group_by])})"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0].removeprefix("Binder Error: ").rstrip(".!")
    if "No function matches" in first and "VARCHAR" in first:
        # One word among a thousand numbers makes a column of a text file text.
        return f"{first}. A column in it is text: number(column) makes it a number, and what is none goes to quarantine"
    return first


def _cast(
    column: Column, expression: str, format_: str | tuple[str, ...] | None, given_type: str, words: Sequence[str]
) -> str:
    value = _value(column, expression, format_, given_type, words, word="cast")
    return _number(value) if column.type == "double" else value


def _text(expression: str, given_type: str, words: Sequence[str], *, word: _Word) -> str:
    """SQL of a value as text, NULL where it is empty or a word for that."""
    number = _number(expression) if given_type in FLOATS else expression
    if given_type != "VARCHAR":
        return f"nullif(trim(cast({number} as varchar)), '')"
    if word == "try_cast":
        return without_null_words(trimmed(number), words)
    # An expression may cost more than trimming: only what is just a column is written out several times.
    return once(f"trim({expression})", without_null_words("v", words))


def _value(
    column: Column,
    expression: str,
    format_: str | tuple[str, ...] | None,
    given_type: str,
    words: Sequence[str],
    *,
    word: _Word,
) -> str:
    """SQL of the value as the column's type (a double may be NaN). With `try_cast`, NULL where it cannot be read."""
    text = _text(expression, given_type, words, word=word)
    if column.type == "text":
        return text
    if column.type == "timestamp":
        return _timestamp(text, expression, format_, given_type, word=word)
    if column.type == "boolean":
        spoken = "when 'yes' then true when 'y' then true when 'no' then false when 'n' then false"
        return f"case lower({text}) {spoken} else {word}({text} as boolean) end"
    if column.type == "integer":
        # A cast would round 3.7 to 4.
        whole = f"{word}({text} as decimal(18,6)) % 1 = 0"
        return f"case when {whole} then {word}({text} as bigint) else {word}('x' || {text} as bigint) end"
    return f"{word}({text} as {column.sql_type})"


def _number(floating: str) -> str:
    """NaN is how data frames write that nothing is there. `= 'nan'` is not asked: statistics of Parquet files say no to it."""
    return f"case when not isnan({floating}) then {floating} end"


def _timestamp(
    text: str, expression: str, format_: str | tuple[str, ...] | None, given_type: str, *, word: _Word
) -> str:
    if format_ in ("epoch", "epoch_ms"):
        unit = 1_000_000 if format_ == "epoch" else 1_000
        # Double holds microseconds since 1970 exactly until the year 2255; decimal(18,3) overflows when multiplied.
        return f"make_timestamp({word}(round({word}({text} as double) * {unit}) as bigint))"
    if format_ is not None:
        patterns = (format_,) if isinstance(format_, str) else format_
        parse = "strptime" if word == "cast" else "try_strptime"
        return f"cast({parse}({text}, [{', '.join(literal(pattern) for pattern in patterns)}]) as timestamp)"
    if given_type in _NATIVE["timestamp"] or given_type == "TIMESTAMP WITH TIME ZONE":
        return f"cast({expression} as timestamp)"
    # Straight to TIMESTAMP, DuckDB would read the +02:00 of 10:00+02:00 and ignore it. The session's zone is UTC.
    return f"cast({word}({text} as timestamptz) as timestamp)"


def _faults(
    entity: Entity,
    mappings: Mapping[str, ColumnMapping],
    now: datetime,
    unasked: set[str],
    columns: tuple[MappedColumn, ...],
) -> list[Fault]:
    """The checks of a row, in the order in which the first one that holds is its reason; `unasked` columns may be empty."""
    failing = {column.name for column in columns if column.fails}
    late = {column.name: column.fails for column in columns if column.fails and column.is_told_late}
    unreadable = [
        Fault(
            {"timestamp": "impossible_date", "id": "inexact_id"}.get(column.type, "wrong_type"),
            late.get(column.name, identifier("_bad_" + column.name)),
            _says_unreadable(column),
        )
        for column in entity.columns
        if column.name in failing
    ]
    optional = unasked | ({entity.key} if entity.key_is_optional and entity.key not in mappings else set())
    empty = [
        Fault(
            "null_key" if column.name in (entity.key, "account_id") else "missing_value",
            f"{identifier(column.name)} is null",
            _says_empty(column),
        )
        for column in entity.columns
        if (column.required or column.name == entity.key) and column.name not in optional
    ]
    implausible = [fault for column in entity.columns if column.name in mappings for fault in _ranges(column, now)]
    return [*unreadable, *empty, *implausible, *disordered(entity)]


def disordered(entity: Entity) -> list[Fault]:
    """The checks of what must not end before it begins."""
    return [
        Fault(
            "end_before_start",
            f"{identifier(later)} < {identifier(earlier)}",
            f"{literal(later + ' ')} || cast({identifier(later)} as varchar)"
            f" || {literal(f' is before {earlier} ')} || cast({identifier(earlier)} as varchar)",
        )
        for earlier, later in entity.ordered
    ]


def _ranges(column: Column, now: datetime) -> list[Fault]:
    quoted = identifier(column.name)
    if column.type == "timestamp":
        latest = now + (LATEST_PLANNED if column.future else LATEST_AHEAD)
        outside = f"({quoted} < timestamp '{EARLIEST}' or {quoted} > timestamp '{latest:%Y-%m-%d %H:%M:%S}')"
        what = f"lies outside {EARLIEST:%Y-%m-%d} to {latest:%Y-%m-%d}"
        return [Fault("impossible_date", outside, _says(column, what))]
    faults = []
    if column.minimum is not None:
        faults.append(("<", column.minimum, "below"))
    if column.maximum is not None:
        faults.append((">", column.maximum, "above"))
    found = [
        Fault("out_of_range", f"{quoted} {sign} {limit:g}", _says(column, f"is {word} {limit:g}"))
        for sign, limit, word in faults
    ]
    if column.type == "double":
        found.append(Fault("out_of_range", f"isinf({quoted})", _says(column, "is not finite")))
    return found


def _says_unreadable(column: Column) -> str:
    if column.type == "timestamp":
        return _says(column, "is not a date")
    if column.type == "id":
        # An expression that fails gives nothing to show.
        inexact = (
            "is not exact: it went through a floating-point number or Excel; deliver ids as text or as whole numbers"
        )
        failed = literal(f"{column.name} cannot be read")
        return (
            f"case when {identifier('_given_' + column.name)} is null then {failed} else {_says(column, inexact)} end"
        )
    return _says(column, f"is not of type {column.type}")


def _says_empty(column: Column) -> str:
    """SQL for a sentence that names the word which stands for no value, where there is one."""
    if column.personal:
        return literal(f"{column.name} is empty")
    given = f"nullif(trim(cast({identifier('_given_' + column.name)} as varchar)), '')"
    word = _says(column, "stands for a missing value")
    return f"case when {given} is null then {literal(column.name + ' is empty')} else {word} end"


def _says(column: Column, what: str) -> str:
    """SQL for a sentence such as: mrr_usd '-12' is below 0. Personal values are not repeated."""
    if column.personal:
        return literal(f"{column.name} {what}")
    given = f"coalesce(left({identifier('_given_' + column.name)}, 60), '(unreadable)')"
    return f"{literal(column.name + ' ')} || '''' || {given} || '''' || {literal(' ' + what)}"
