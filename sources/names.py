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


class Names:
    """The names of a source's columns, with what they are called in SQL, and of the columns of what is joined to it.

    `join` is the SQL of that, and `others` are the columns that it brings. A table that is joined is described once.
    """

    def __init__(self, connection: Connection, names: Mapping[str, str]) -> None:
        self.connection = connection
        self.names = names
        self.join = ""
        self.others: Sequence[str] = ()
        self._described: dict[str, Sequence[str] | None] = {}

    def exact(self, sql: str) -> tuple[str, str | None]:
        """`sql`, an expression over the columns, with their names in SQL; and what is wrong with it, if it names a column in another
        case than its table.

        What is just a column's name is quoted, so that names such as `end`, `at` or `Customer ID` need no care.
        """
        bare = sql.strip()
        if bare in self.names or bare in self.others:
            return identifier(self.names.get(bare, bare)), None
        text, problem = self._exact(f"{_SELECT}{sql}", f"\nfrom {_SOURCE} {self.join}")
        return (text.removeprefix(_SELECT), None) if problem is None else (sql, problem)

    def exact_join(self, join: str) -> tuple[str, str | None]:
        """`join`, the SQL of what is joined to the source, with the columns' names in SQL; and what is wrong with it."""
        before = f"{_SELECT}1 from {_SOURCE} "
        text, problem = self._exact(before + join, "")
        return (text.removeprefix(before), None) if problem is None else (join, problem)

    def _exact(self, query: str, rest: str) -> tuple[str, str | None]:
        """`query`, which `rest` completes, with the columns' names in SQL; and what is wrong with it."""
        parsed = _parsed(self.connection, query + rest)
        if parsed is None:
            return query, None
        lambdas = {
            name.lower()
            for node in _nodes(parsed)
            if node.get("class") == "LAMBDA"
            for name in _names_in(node.get("lhs"))
        }
        text = query.encode()
        references = [one for one in self._references(parsed[0]["node"], ()) if one.parts[0].lower() not in lambdas]
        for reference in sorted(references, key=lambda one: one.at or 0, reverse=True):
            if reference.problem is not None:
                return query, reference.problem
            new = self.names[reference.column] if reference.of_source else reference.column
            if new == reference.column:
                continue
            if reference.at is None:
                return query, (
                    f"`using ({reference.column})` cannot tell {reference.column} from a column that differs in case only:"
                    " write `on`"
                )
            if reference.at < len(text):
                text = _replaced(text, reference, new)
        return text.decode(), None

    def _references(self, select: dict[str, Any], outer: _Scopes) -> Iterator[_Reference]:
        """What a query names that leads to a column of a known table, `outer` being the tables of the queries that it stands in."""
        nodes = list(_of_query(select))
        scopes = (list(self._tables(nodes)), *outer)
        for node in nodes:
            if node.get("class") == "COLUMN_REF" and node["query_location"] < _NOWHERE:
                yield from self._resolved(node["column_names"], node["query_location"], scopes)
            for name in node.get("using_columns") or ():
                yield from self._resolved([name], None, scopes)
            if node.get("type") == "SELECT_NODE":
                yield from self._references(node, scopes)

    def _tables(self, nodes: Sequence[dict[str, Any]]) -> Iterator[_Table]:
        for node in nodes:
            if node.get("type") == "BASE_TABLE":
                name = node["table_name"]
                is_source = name == _SOURCE
                columns = list(self.names) if is_source else self._columns_of(name)
                yield _Table(node["alias"] or name, "the source" if is_source else name, columns, is_source)
            elif node.get("type") in ("SUBQUERY", "TABLE_FUNCTION", "EXPRESSION_LIST") and "class" not in node:
                yield _Table(node.get("alias") or "", "", None)

    def _columns_of(self, table: str) -> Sequence[str] | None:
        if table not in self._described:
            try:
                described = self.connection.execute(f"select * from {identifier(table)} limit 0").description or []
                self._described[table] = [name for name, *_ in described]
            except Error:
                self._described[table] = None
        return self._described[table]

    def _resolved(self, parts: Sequence[str], at: int | None, scopes: _Scopes) -> Iterator[_Reference]:
        """The column that a name leads to, if it is known: its first part may be a table, or a column of which the others are fields."""
        for tables in scopes:
            qualified = [table for table in tables if len(parts) > 1 and table.alias.lower() == parts[0].lower()]
            if qualified:
                found = _column(parts, 1, at, qualified)
                if found is not None:
                    yield found
                return
            found = _column(parts, 0, at, tables)
            # A table whose columns are not known may have the name exactly.
            may_be_unknown = parts[0] in self.others and any(table.columns is None for table in tables)
            if found is not None and not (found.problem and may_be_unknown):
                yield found
                return


@dataclass(frozen=True)
class _Table:
    """A table that a query reads: what it is called there and in messages, and its columns (None: not known)."""

    alias: str
    label: str
    columns: Sequence[str] | None
    is_source: bool = False


@dataclass(frozen=True)
class _Reference:
    """A name in a query, as it is written and where (None: in a `using`), and the column of a table that it leads to; which of its parts
    is the column, and what is wrong with it, where that is in another case."""

    parts: Sequence[str]
    place: int
    at: int | None
    column: str
    of_source: bool
    problem: str | None = None


_Scopes = tuple[list[_Table], ...]
"""The tables of a query and of those that it stands in, the innermost first."""


def _of_query(node: Any) -> Iterator[dict[str, Any]]:
    """The nodes of a query, and of those within it the outermost only."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for value in values:
        if isinstance(value, dict):
            yield value
        if not (isinstance(value, dict) and value.get("type") == "SELECT_NODE"):
            yield from _of_query(value)


def _column(parts: Sequence[str], place: int, at: int | None, tables: Sequence[_Table]) -> _Reference | None:
    """The column that a part of a name leads to: by its exact name, or else by one that differs in case."""
    written = parts[place]
    columns = [(table, column) for table in tables for column in table.columns or ()]
    for table, column in columns:
        if column == written:
            return _Reference(parts, place, at, column, table.is_source)
    for table, column in columns:
        if column.lower() == written.lower():
            problem = f"{table.label} has no column {written}, but {column}: names are matched exactly"
            if not table.is_source and any(
                re.fullmatch(re.escape(written) + r"_\d+", one) for one in table.columns or ()
            ):
                problem += f" ({column} and others that differ in case only: those after the first are numbered)"
            return _Reference(parts, place, at, column, table.is_source, problem)
    return None


def _replaced(text: bytes, reference: _Reference, new: str) -> bytes:
    """`text` with the column that `reference` names written as `new`."""
    assert reference.at is not None
    part = "|".join(re.escape(written) for written in (reference.column, identifier(reference.column)))
    before = reference.parts[: reference.place]
    table = "".join(rf"(?:{re.escape(one)}|{re.escape(identifier(one))})\s*\.\s*" for one in before)
    found = re.compile(f"({table})({part})".encode()).match(text, reference.at)
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
