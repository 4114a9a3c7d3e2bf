"""From a source's columns to the contract's: the SQL that casts, and the SQL that finds what could not be cast.

Lives here: compiling a stream's column mapping into one SELECT over a chunk. Must not live here: reading files or databases, what
is wrong with a value (`faults.py`), how timestamps and numbers are written (`timestamps.py`, `numbers.py`), writing tables.

Every contract column becomes `try(cast(expression))`: a value that cannot be cast is NULL and is told apart from a value
that was NULL by asking the same expression whether it *fails*. DuckDB evaluates a `try` row by row in each vector that holds
a failing value; so what is just a column is cast by `try_cast`, which never fails (a column of 100,000 texts, some of them
broken, in 0.05 s instead of 0.6 s).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from core.contract import Column, Entity
from core.errors import Fatal
from core.salesforce import full_id_sql
from core.source_settings import ColumnMapping, StreamConfig
from core.warehouse import BinderError, Connection, Error, identifier, literal
from sources import faults, numbers, timestamps
from sources.base import Chunk, StreamId
from sources.faults import Checks, Fault, Reading
from sources.names import Names
from sources.numbers import Evidence
from sources.texts import FLOATS, ID_TEXT, id_of, is_inexact, null_words, once, shown_id, trimmed, without_null_words
from sources.timestamps import Word

HELPERS = (
    "create or replace temp macro text_of(x) as nullif(trim(cast(x as varchar)), '')",
    ID_TEXT,
    "create or replace temp macro email_domain(x) as nullif(lower(split_part(cast(x as varchar), '@', 2)), '')",
    "create or replace temp macro custom_field(fields, wanted) as list_extract(list_filter(from_json(fields,"
    """ '[{"id": "VARCHAR", "value": "VARCHAR"}]'), lambda f: f.id = cast(wanted as varchar)), 1).value""",
    f"create or replace temp macro salesforce_id(x) as {full_id_sql('text_of(x)')}",
    "create or replace temp macro total_of(x) as case when count(*) = count(x) then sum(x) end",
)
"""SQL helpers that a mapping may use, besides everything DuckDB has and those that read numbers (`numbers.py`). `total_of` is NULL when
any value is; `custom_field` finds the value of an id in a list of ids and values; `salesforce_id` writes Salesforce's ids of 15
characters with 18, as its API does."""

_NAME = re.compile(r'\w+|"[^"]+"')
_SHOWN = 3
"""So many columns of an expression are shown where it cannot be read."""
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


@dataclass(frozen=True)
class MappedColumn:
    """SQL of one contract column: the typed value, the value as given (of any type), and whether casting fails (None: it cannot).

    `fails` is SQL over the source, or with `is_told_late` over the typed value and `_given_…`, so that nothing is cast twice.
    `advice` says what to do where its numbers may be ambiguous.
    """

    name: str
    typed: str
    given: str
    fails: str | None
    is_told_late: bool = False
    advice: str | None = None

    @property
    def reading(self) -> Reading:
        fails = self.fails if self.is_told_late or not self.fails else identifier("_bad_" + self.name)
        return Reading(fails, self.advice)


@dataclass(frozen=True)
class Mapped:
    """A compiled mapping for chunks with one set of columns. `said` are faults that the chunk itself tells of."""

    columns: tuple[MappedColumn, ...]
    said: tuple[Fault, ...]
    checks: Checks
    joined: str
    """What the configuration joins to the source."""
    join: str
    """The same with the items of the source's lists."""
    group: tuple[tuple[str, str], ...] | None
    group_by: tuple[str, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What breaks a row, in the order in which the first that holds is its reason."""
        return (*self.said, *self.checks.rows)

    def rows(self, relation: str, *, numbered: bool) -> str:
        """SQL of the typed rows with `_file`, `_fault` (number of the first fault, 1-based, or NULL) and `_unread` (which values could
        not be read, or NULL): such a value is NULL in a row without a fault.

        With `numbered`, `relation` has `_row`, and the rows also carry it and each value as given, whatever its type: as
        text it is only wanted for broken rows, and 10 million timestamps take 2 processor seconds to write out.
        """
        source = self.source(relation, extra=", cast(null as bigint) as _row" if numbered else "")
        typed = [f"{column.typed} as {identifier(column.name)}" for column in self.columns]
        failing = [
            f"{column.fails} as {identifier('_bad_' + column.name)}"
            for column in self.columns
            if column.fails and not column.is_told_late
        ]
        shown = self.checks.shown
        given = [
            f"{column.given} as {identifier('_given_' + column.name)}"
            for column in self.columns
            if numbered or column.is_told_late or column.name in shown
        ]
        inner = ", ".join(["_file", *self.told, *typed, *failing, *given, *(["_row"] if numbered else [])])
        cases = " ".join(f"when {fault.predicate} then {n}" for n, fault in enumerate(self.faults, start=1))
        fault = f"cast(case {cases} end as utinyint)" if cases else "cast(null as utinyint)"
        judged = f"select *, {fault} as _fault from (select {inner} from {source})"
        cleared = self.checks.cleared()
        replaced = f" replace ({', '.join(cleared)})" if cleared else ""
        return f"select *{replaced}, {self.checks.unread()} as _unread from ({judged})"

    @property
    def told(self) -> list[str]:
        """Columns of `rows` in which the chunk says what is wrong with a row."""
        return [name for name in _TOLD if any(fault.predicate.startswith(name) for fault in self.said)]

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
    earliest: datetime,
    derived_accounts: bool,
    by_user: bool = False,
    evidence: Mapping[str, Evidence] | None = None,
) -> Mapped:
    """Compile `config` for chunks shaped like `chunk`. With `by_user`, a row may leave it to its user to tell the account.

    No date before `earliest` is plausible. `evidence` says how numbers in the source's columns are written.

    Raises `Fatal` that lists every expression that names a column the chunk lacks, or is not valid SQL.
    """
    for helper in (*HELPERS, *numbers.helpers(config)):
        connection.execute(helper)
    compiler = _Compiler(connection, stream, config, chunk, evidence or {})
    columns, group = compiler.columns()
    unasked = {"created_at"} if derived_accounts else set[str]()
    unasked |= {"account_id"} if by_user else set()
    unrepresentable = (
        compiler.unrepresentable(faults.binding_columns(stream.entity, unasked)) if chunk.has_unreadable else {}
    )
    checks = faults.checks(
        stream.entity,
        effective_columns(stream.entity, config),
        {column.name: column.reading for column in columns},
        now=now,
        earliest=earliest,
        unasked=unasked,
        unrepresentable=unrepresentable,
    )
    said = []
    if chunk.has_unreadable:
        optional = {name for names in unrepresentable.values() for name in names}
        said.append(
            faults.unrepresentable_row(optional, compiler.read_by(c.name for c in stream.entity.columns if c.personal))
        )
    if chunk.has_incomplete:
        said.append(Fault("_incomplete is not null", "'incomplete_record'", "_incomplete"))
    if chunk.has_malformed:
        said.append(Fault("_malformed", "'malformed_row'", "'the line is not a JSON object'"))
    return Mapped(columns, tuple(said), checks, compiler.joined, compiler.join, group, compiler.group_by)


def texts_of_numbers(connection: Connection, entity: Entity, config: StreamConfig, chunk: Chunk) -> dict[str, str]:
    """What the mapping reads as numbers and is text in the chunk: SQL over its rows, by the name or expression in the mapping."""
    mappings = effective_columns(entity, config)
    of_numbers = [m.sql for name, m in mappings.items() if entity.column(name).type in numbers.NUMBERS]
    names, found = Names(connection, _given_names(connection, chunk)), {}
    for sql in numbers.candidates([mapping.sql for mapping in mappings.values()], of_numbers):
        try:
            asked, _ = names.exact(sql)
            kind = str((connection.execute(f"select {asked} from {chunk.relation} limit 0").description or [])[0][1])
        except Error:
            continue  # Compiling the mapping says what is wrong with it; what joins and lists bring is not looked at.
        keys = _mentioned(asked, list(names.names.values()))
        if kind == "VARCHAR" and keys and (chunk.quoted is None or any(map(chunk.quoted, keys))):
            found[keys[0] if asked == identifier(keys[0]) else asked] = asked
    return found


def only(connection: Connection, stream: StreamId, chunk: Chunk, where: str) -> Chunk:
    """The rows of a chunk that its stream is about. A record that could not be taken apart may be any.

    Raises `Fatal` for a condition that names a column the chunk lacks, or is not valid SQL.
    """
    names = _given_names(connection, chunk)
    sql, problem = Names(connection, names).exact(where)
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

    def __init__(
        self,
        connection: Connection,
        stream: StreamId,
        config: StreamConfig,
        chunk: Chunk,
        evidence: Mapping[str, Evidence],
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.config = config
        self.chunk = chunk
        self.names = _given_names(connection, chunk)
        self.unclear = {name: found.advice for name, found in evidence.items() if found.is_unclear}
        self.problems: list[str] = []
        self.known = Names(connection, self.names)
        self.joined, problem = self.known.exact_join(config.join or "")
        self.known.join = self.joined
        if problem is not None:
            self.problems.append(f"`join`: {problem}")
        self.unnest = self._exact("`unnest`", config.unnest) if config.unnest else None
        self.join = " ".join(filter(None, (self.joined, _each_item(self.unnest, chunk) if self.unnest else None)))
        self.group_by: tuple[str, ...] = ()

    def columns(self) -> tuple[tuple[MappedColumn, ...], tuple[tuple[str, str], ...] | None]:
        entity = self.stream.entity
        source = f"{self.chunk.relation} {self.join}"
        joined = f"{self.chunk.relation} {self.joined}"
        self._stop()
        problem = self._try(f"select 1 from {joined} limit 0")
        if problem is not None:
            self.problems.append(f"`join`: {problem}")
            self._stop()
        if self.unnest:
            self._check_list(self.unnest, joined)
        self.known.others = [name for name in _columns(self.connection, source) if name not in self.names.values()]
        mappings: Mapping[str, ColumnMapping] = {
            name: mapping.model_copy(update={"sql": self._clear(self._exact(name, mapping.sql))})
            for name, mapping in effective_columns(entity, self.config).items()
        }
        self.mentioned = {
            name: _mentioned(mapping.sql, list(self.names.values())) for name, mapping in mappings.items()
        }
        if self.config.group_by:
            given = (self._exact("`group_by`", sql) for sql in self.config.group_by)
            self.group_by = (*given, *_marks(self.chunk))
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

    def read_by(self, columns: Iterable[str]) -> set[str]:
        """The source's columns, by their names in SQL, that the mappings of `columns` name."""
        return {name for column in columns for name in self.mentioned.get(column, ())}

    def unrepresentable(self, binding: Collection[str]) -> dict[str, list[str]]:
        """Of each column that the row can do without, the source's columns that it is read from, but for those that anything else of
        the stream needs too. A group's values are not told apart: there, nothing."""
        if self.config.group_by:
            return {}
        # What the configuration names by the source's own names; a join has those of SQL by now.
        config, own = self.config, list(self.names)
        conditions = [name for sql in (config.where, config.deleted_at) if sql for name in _mentioned(sql, own)]
        named = (*config.primary_key, *filter(None, (config.cursor,)), *conditions)
        needed = self.read_by(binding) | set(_mentioned(self.join, list(self.names.values())))
        needed |= {self.names.get(name, name) for name in named}
        return {
            column: [name for name in mentioned if name not in needed]
            for column, mentioned in self.mentioned.items()
            if column not in binding
        }

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
        read = (mapping.sql, *self.mentioned[column.name])
        advice = next((self.unclear[name] for name in read if name in self.unclear), None)
        if is_bare:
            value = self._value(column, mapping, given_type, words, word="try_cast", is_unclear=advice is not None)
            return self._bare(column, f"try({value})", given, given_type, words, advice)
        cast = self._value(column, mapping, given_type, words, word="cast", is_unclear=mapping.sql in self.unclear)
        cast = _number(cast) if column.type == "double" else cast
        if self._try(f"select try({cast}) from {source} limit 0") is not None:
            # TRY takes no subqueries and no random functions: a value that fails there stops the stream.
            return MappedColumn(column.name, cast, given, None)
        given = self._given(mapping.sql, self.mentioned[column.name], source)
        return MappedColumn(column.name, f"try({cast})", given, f"try(({cast}) is null) is null", advice=advice)

    def _given(self, sql: str, mentioned: Sequence[str], source: str) -> str:
        """SQL of what was given where an expression cannot be read: what the columns hold that it names."""
        if len(mentioned) == 1:
            given = identifier(mentioned[0])
        else:
            texts = ", ".join(f"cast({identifier(name)} as varchar)" for name in mentioned[:_SHOWN])
            given = f"coalesce(try(cast({sql} as varchar)), nullif(concat_ws(', ', {texts}), ''))"
        # Of two tables that are joined, both may have a column of a name.
        is_known = mentioned and self._try(f"select {given} from {source} limit 0") is None
        return given if is_known else f"try(cast({sql} as varchar))"

    def _bare(
        self, column: Column, value: str, given: str, given_type: str, words: Sequence[str], advice: str | None
    ) -> MappedColumn:
        """What is just a column: whether its value cannot be read shows when it is cast."""
        text = _text(identifier("_given_" + column.name), given_type, words, word="try_cast")
        is_none = ""
        if column.type == "timestamp":
            is_none = f" and not {timestamps.stands_for_none(text)}"
        if column.type == "double":
            is_none = f" and not coalesce(isnan(try_cast({text} as double)), false)"
            value = _number(value)
        fails = f"case when {identifier(column.name)} is null then {text} is not null{is_none} else false end"
        return MappedColumn(column.name, value, given, fails, is_told_late=True, advice=advice)

    def _value(
        self,
        column: Column,
        mapping: ColumnMapping,
        given_type: str,
        words: Sequence[str],
        *,
        word: Word,
        is_unclear: bool = False,
    ) -> str:
        """SQL of the value as the column's type (a double may be NaN). With `try_cast`, NULL where it cannot be read."""
        text = _text(mapping.sql, given_type, words, word=word)
        if column.type in numbers.NUMBERS and given_type == "VARCHAR":
            if numbers.is_set(self.config):
                text = _or_fail(numbers.plain(text, self.config), text, word)
            elif is_unclear:
                clear = f"case when not regexp_matches({text}, {literal(numbers.AMBIGUOUS)}) then {text} end"
                text = _or_fail(clear, text, word)
        return _value(column, mapping.sql, text, mapping.format, given_type, word=word)

    def _clear(self, sql: str) -> str:
        return numbers.with_clear_helpers(sql, frozenset(self.unclear)) if self.unclear else sql

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

    def _exact(self, name: str, sql: str) -> str:
        """SQL that names the columns as they are called in the chunk."""
        named, problem = self.known.exact(sql)
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


def _mentioned(sql: str, names: Sequence[str]) -> list[str]:
    """The source's columns that an expression names."""
    words = {word.strip('"') for word in _NAME.findall(re.sub(r"'[^']*'", "", sql))}
    return [name for name in names if name in words]


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


def _text(expression: str, given_type: str, words: Sequence[str], *, word: Word) -> str:
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
    text: str,
    format_: str | tuple[str, ...] | None,
    given_type: str,
    *,
    word: Word,
) -> str:
    """SQL of the value that `text`, the text of the expression, holds."""
    if column.type == "text":
        return text
    if column.type == "timestamp":
        if format_ is None and (given_type in _NATIVE["timestamp"] or given_type == "TIMESTAMP WITH TIME ZONE"):
            return f"cast({expression} as timestamp)"
        return timestamps.read(text, format_, word=word)
    if column.type == "boolean":
        spoken = "when 'yes' then true when 'y' then true when 'no' then false when 'n' then false"
        return f"case lower({text}) {spoken} else {word}({text} as boolean) end"
    if column.type == "integer":
        # A cast would round 3.7 to 4.
        whole = f"{word}({text} as decimal(18,6)) % 1 = 0"
        return f"case when {whole} then {word}({text} as bigint) else {word}('x' || {text} as bigint) end"
    return f"{word}({text} as {column.sql_type})"


def _or_fail(wanted: str, text: str, word: Word) -> str:
    """SQL of `wanted`; where it is NULL of a text that is not, a cast is to fail, and not only a `try_cast` to be NULL."""
    return wanted if word == "try_cast" else f"coalesce({wanted}, 'not so written: ' || {text})"


def _number(floating: str) -> str:
    """NaN is how data frames write that nothing is there. `= 'nan'` is not asked: statistics of Parquet files say no to it."""
    return f"case when not isnan({floating}) then {floating} end"
