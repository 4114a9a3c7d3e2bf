"""Names of a source's columns, matched exactly: `id` and `ID` are two columns, and a mapping reads the one that it names.

Lives here: what an SQL expression of a mapping names, and how DuckDB, which takes `id` and `ID` for one name, is kept from mixing them
up. Must not live here: what the columns mean (`mapping.py`), how they are read (the connectors).

Columns whose names differ in case only, or are those of the loader's own columns, get another name within a chunk. Expressions are
parsed by DuckDB, which says where in the text each column is named; so they are rewritten there and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.source_settings import StreamConfig
from core.warehouse import Connection, Error, identifier, scalar

_OWN = ("_file", "_row", "_malformed", "_incomplete", "_unreadable", "_gone", "_gone_at")
"""Columns that chunks have besides those of the source, in lower case."""
_SELECT = "select "
_SOURCE = "tenure_source"
"""What the source is called where its SQL is parsed."""
_NOWHERE = 2**64 - 1
"""Where DuckDB says that a name stands that is not in the text."""


def sql_names(given: Sequence[str]) -> dict[str, str]:
    """The name in SQL of each of a source's columns: its own, where DuckDB takes it for no other column's.

    What has no name, or one that no SQL can hold, is left out: no mapping can name it.
    """
    taken = set(_OWN)
    names: dict[str, str] = {}
    for name in given:
        if not name or "\0" in name:
            continue
        candidate, n = name, 0
        while candidate.lower() in taken:
            n += 1
            candidate = f"{name}_{n}"
        taken.add(candidate.lower())
        names[name] = candidate
    return names


def wanted(connection: Connection, config: StreamConfig) -> frozenset[str] | None:
    """The names that the SQL of a stream's configuration mentions; None where it cannot be said, or is all (`*`)."""
    selected = [
        *(mapping.sql for mapping in config.columns.values()),
        *filter(None, (config.where, config.unnest, config.deleted_at)),
        *config.group_by,
    ]
    queries = [_SELECT + sql for sql in selected]
    if config.join:
        queries.append(f"{_SELECT}1 from {_SOURCE} {config.join}")
    found: set[str] = {*config.primary_key, *filter(None, (config.cursor,))}
    # What is just a column need not be SQL: `end`, or `Customer ID`.
    found |= {sql.strip() for sql in selected}
    for query in queries:
        parsed = _parsed(connection, query)
        if parsed is None:
            if query.removeprefix(_SELECT).isidentifier():
                continue
            return None
        for node in _nodes(parsed):
            if node.get("class") == "STAR":
                return None
            found.update(node.get("column_names", ()))
            found.update(node.get("using_columns", ()))
    return frozenset(found)


def exact(
    connection: Connection, sql: str, names: Mapping[str, str], join: str = "", others: Sequence[str] = ()
) -> tuple[str, str | None]:
    """`sql`, an expression over columns that are called `names` in SQL, with these names; and what is wrong with it, if it names a
    column in another case than its table. `join` is what is joined to the source, in SQL, and `others` are the columns that it brings.

    What is just a column's name is quoted, so that names such as `end`, `at` or `Customer ID` need no care.
    """
    bare = sql.strip()
    if bare in names or bare in others:
        return identifier(names.get(bare, bare)), None
    text, problem = _exact(connection, f"{_SELECT}{sql}", f"\nfrom {_SOURCE} {join}", names, others)
    return (text.removeprefix(_SELECT), None) if problem is None else (sql, problem)


def exact_join(connection: Connection, join: str, names: Mapping[str, str]) -> tuple[str, str | None]:
    """`join`, what is joined to a source whose columns are called `names` in SQL, with these names; and what is wrong with it."""
    before = f"{_SELECT}1 from {_SOURCE} "
    text, problem = _exact(connection, before + join, "", names, ())
    return (text.removeprefix(before), None) if problem is None else (join, problem)


def _exact(
    connection: Connection, query: str, rest: str, names: Mapping[str, str], others: Sequence[str]
) -> tuple[str, str | None]:
    """`query`, which `rest` completes, with the source's columns by their names in SQL; and what is wrong with it."""
    parsed = _parsed(connection, query + rest)
    if parsed is None:
        return query, None
    lambdas = {
        name.lower() for node in _nodes(parsed) if node.get("class") == "LAMBDA" for name in _names_in(node.get("lhs"))
    }
    text, found = query.encode(), list(_named(connection, parsed[0]["node"], (), names, others))
    for at, parts, named in sorted(found, key=lambda one: one[0] or 0, reverse=True):
        if parts[0].lower() in lambdas:
            continue
        table, column = named.table, named.column
        if column is None:
            continue
        if column != parts[named.place]:
            also = (
                f" ({column} and others that differ in case only: those after the first are numbered)"
                if named.repeated
                else ""
            )
            return query, f"{table} has no column {parts[named.place]}, but {column}: names are matched exactly{also}"
        if not named.of_source or names[column] == column:
            continue
        if at is None:
            return query, f"`using ({column})` cannot tell {column} from a column that differs in case only: write `on`"
        if at < len(text):
            text = _replaced(text, at, parts[: named.place], column, names[column])
    return text.decode(), None


@dataclass(frozen=True)
class _Table:
    """A table that a query reads: what it is called there, and its columns (None: not known)."""

    alias: str
    said: str
    columns: Sequence[str] | None
    is_source: bool = False


@dataclass(frozen=True)
class _Named:
    """What a name leads to: a column of a table by its exact name (None: of none that is known), and which part of the name says it."""

    table: str = ""
    column: str | None = None
    place: int = 0
    of_source: bool = False
    repeated: bool = False


_Scopes = tuple[list[_Table], ...]
"""The tables of a query and of those that it stands in, the innermost first."""


def _named(
    connection: Connection, select: dict[str, Any], outer: _Scopes, names: Mapping[str, str], others: Sequence[str]
) -> Iterator[tuple[int | None, list[str], _Named]]:
    """What the columns that a query names lead to, with where (None: in a `using`), as it is written."""
    parts = list(_of_query(select))
    scopes = (_tables(connection, parts, names), *outer)
    for node in parts:
        if node.get("class") == "COLUMN_REF" and node["query_location"] < _NOWHERE:
            written = node["column_names"]
            yield node["query_location"], written, _resolved(written, scopes, others)
        for name in node.get("using_columns") or ():
            yield None, [name], _resolved([name], scopes, others)
        if node.get("type") == "SELECT_NODE" and node is not select:
            yield from _named(connection, node, scopes, names, others)


def _of_query(node: Any) -> Iterator[dict[str, Any]]:
    """The nodes of a query, and of those within it the outermost only."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for value in values:
        if isinstance(value, dict):
            yield value
        if not (isinstance(value, dict) and value.get("type") == "SELECT_NODE"):
            yield from _of_query(value)


def _tables(connection: Connection, parts: Sequence[dict[str, Any]], names: Mapping[str, str]) -> list[_Table]:
    tables = []
    for node in parts:
        if node.get("type") == "BASE_TABLE":
            name = node["table_name"]
            if name == _SOURCE:
                tables.append(_Table(node["alias"] or name, "the source", list(names), is_source=True))
            else:
                tables.append(_Table(node["alias"] or name, name, _columns_of(connection, name)))
        elif node.get("type") in ("SUBQUERY", "TABLE_FUNCTION", "EXPRESSION_LIST") and "class" not in node:
            tables.append(_Table(node.get("alias") or "", "", None))
    return tables


def _columns_of(connection: Connection, table: str) -> list[str] | None:
    try:
        described = connection.execute(f"select * from {identifier(table)} limit 0").description or []
    except Error:
        return None
    return [name for name, *_ in described]


def _resolved(written: Sequence[str], scopes: _Scopes, others: Sequence[str]) -> _Named:
    """What a name leads to: its first part may be a table, or a column of which the others are fields."""
    for tables in scopes:
        for table in tables:
            if len(written) > 1 and table.alias.lower() == written[0].lower() and table.columns is not None:
                return _column(written[1], [table], 1) or _Named()
        if len(written) > 1 and any(table.alias.lower() == written[0].lower() for table in tables):
            return _Named()
        known = [table for table in tables if table.columns is not None]
        has_unknown = len(known) < len(tables)
        found = _column(written[0], known, 0)
        if found is not None and not (has_unknown and found.column != written[0] and written[0] in others):
            return found
    return _Named()


def _column(name: str, tables: Sequence[_Table], place: int) -> _Named | None:
    for table in tables:
        if name in (table.columns or ()):
            return _Named(table.said, name, place, table.is_source)
    for table in tables:
        for column in table.columns or ():
            if column.lower() == name.lower():
                repeated = any(re.fullmatch(re.escape(name) + r"_\d+", one) for one in table.columns or ())
                return _Named(table.said, column, place, table.is_source, repeated and not table.is_source)
    return None


def _replaced(text: bytes, at: int, before: Sequence[str], name: str, new: str) -> bytes:
    """`text` with a column's name, which stands at `at` after the parts `before`, written as `new`."""
    part = "|".join(re.escape(written) for written in (name, identifier(name)))
    table = "".join(rf"(?:{re.escape(one)}|{re.escape(identifier(one))})\s*\.\s*" for one in before)
    found = re.compile(f"({table})({part})".encode()).match(text, at)
    if found is None:
        return text
    return text[: found.start(2)] + identifier(new).encode() + text[found.end(2) :]


def _parsed(connection: Connection, query: str) -> Any:
    try:
        document = json.loads(scalar(connection, "select json_serialize_sql(?::varchar)", [query]))
    except Error:
        return None
    return None if document["error"] or len(document["statements"]) != 1 else document["statements"]


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part)


def _names_in(value: Any) -> Iterator[str]:
    for node in _nodes(value):
        yield from node.get("column_names", ())
