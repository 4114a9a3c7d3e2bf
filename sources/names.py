"""Names of a source's columns, matched exactly: `id` and `ID` are two columns, and a mapping reads the one that it names.

Lives here: what an SQL expression of a mapping names, and how DuckDB, which takes `id` and `ID` for one name, is kept from mixing them
up. Must not live here: what the columns mean (`mapping.py`), how they are read (the connectors).

Columns whose names differ in case only, or are those of the loader's own columns, get another name within a chunk. Expressions are
parsed by DuckDB, which says where in the text each column is named; so they are rewritten there and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.source_settings import StreamConfig
from core.warehouse import Connection, Error, identifier, scalar

_OWN = ("_file", "_row", "_malformed", "_incomplete", "_unreadable", "_gone", "_gone_at")
"""Columns that chunks have besides those of the source, in lower case."""
_SELECT = "select "


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
        queries.append(f"{_SELECT} 1 from source {config.join}")
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
    connection: Connection, sql: str, names: Mapping[str, str], others: Sequence[str] = ()
) -> tuple[str, str | None]:
    """`sql`, an expression over columns that are called `names` in SQL, with these names; and what is wrong with it, if it names a
    column in another case than the source. `others` are columns of what is joined.

    What is just a column's name is quoted, so that names such as `end`, `at` or `Customer ID` need no care.
    """
    bare = sql.strip()
    if bare in names:
        return identifier(names[bare]), None
    parsed = _parsed(connection, _SELECT + sql)
    if parsed is None:
        return sql, None
    nodes = list(_nodes(parsed))
    has_own_scope = any(node.get("class") == "SUBQUERY" for node in nodes)
    mentioned = [
        (node["column_names"][0], node["query_location"]) for node in nodes if node.get("class") == "COLUMN_REF"
    ]
    lambdas = {name for node in nodes if node.get("class") == "LAMBDA" for name in _names_in(node.get("lhs"))}
    by_lower = {name.lower(): name for name in names}
    text = (_SELECT + sql).encode()
    for name, at in sorted(mentioned, key=lambda one: one[1], reverse=True):
        if name in names:
            if names[name] != name and at < len(text):
                text = _replaced(text, at, name, names[name])
        elif name.lower() in by_lower and name not in others and name not in lambdas and not has_own_scope:
            return sql, f"the source has no column {name}, but {by_lower[name.lower()]}: names are matched exactly"
    return text.decode().removeprefix(_SELECT), None


def _replaced(text: bytes, at: int, name: str, new: str) -> bytes:
    for written in (name.encode(), identifier(name).encode()):
        if text[at:].startswith(written):
            return text[:at] + identifier(new).encode() + text[at + len(written) :]
    return text


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
