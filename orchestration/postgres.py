"""The published copy in PostgreSQL, for tools that want a server: the same schemas and tables, in one transaction.

Lives here: how tables of the published file become rows of PostgreSQL. Must not live here: what is published.

Rows are deleted and copied anew inside one transaction, rather than tables swapped: readers go on reading the old rows until
the commit and are never blocked, and views and grants on the tables survive. A table whose columns changed is made anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from core.errors import Fatal, Retriable
from core.warehouse import Connection, identifier, rows, warehouse

_TYPES = {
    "VARCHAR": "text",
    "BIGINT": "bigint",
    "INTEGER": "integer",
    "SMALLINT": "smallint",
    "TINYINT": "smallint",
    "HUGEINT": "numeric(38,0)",
    "UBIGINT": "numeric(20,0)",
    "UINTEGER": "bigint",
    "DOUBLE": "double precision",
    "FLOAT": "real",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
}
_BATCH = 20_000
_LOCK = 7_305_001
"""The advisory lock of a publication: two homes never publish into one database at once."""


def copy_to_postgres(serving: Path, url: str) -> dict[str, int]:
    """Replace the contents of the published schemas in the database at `url`; return the rows of each table.

    Raises `Retriable` when the database cannot be reached, `Fatal` when it refuses; either way it stays as it was.
    """
    try:
        with (
            warehouse(serving, read_only=True) as connection,
            psycopg.connect(_plain(url), connect_timeout=15) as database,
        ):
            database.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
            return {
                f"{schema}.{table}": _copy_table(connection, database, schema, table)
                for schema, table in _tables(connection)
            }
    except psycopg.OperationalError as error:
        raise Retriable(f"publish.postgres_url cannot be reached: {_words(error)}") from error
    except psycopg.Error as error:
        raise Fatal(
            f"PostgreSQL refused the publication, and stays as it was: {_words(error)}",
            hint="Views on a table whose columns changed have to be dropped first.",
        ) from error


def _plain(url: str) -> str:
    """A libpq URL, also from the form that SQLAlchemy writes."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.split('+')[0]}://{rest}"


def _words(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


def _tables(connection: Connection) -> list[tuple[str, str]]:
    listed = rows(
        connection,
        "select schema_name, table_name from duckdb_tables() where not internal order by schema_name, table_name",
    )
    return [(row["schema_name"], row["table_name"]) for row in listed]


def _copy_table(connection: Connection, database: psycopg.Connection[Any], schema: str, table: str) -> int:
    target = sql.Identifier("public" if schema == "main" else schema, table)
    columns = [
        (r["column_name"], _type(r["column_type"])) for r in rows(connection, f"describe {_quoted(schema, table)}")
    ]
    if schema != "main":
        database.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
    if _columns_there(database, "public" if schema == "main" else schema, table) != [name for name, _ in columns]:
        database.execute(sql.SQL("drop table if exists {}").format(target))
        definitions = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in columns]
        database.execute(sql.SQL("create table {} ({})").format(target, sql.SQL(", ").join(definitions)))
    else:
        database.execute(sql.SQL("delete from {}").format(target))
    return _copy_rows(connection, database, _quoted(schema, table), target)


def _columns_there(database: psycopg.Connection[Any], schema: str, table: str) -> list[str]:
    found = database.execute(
        "select column_name from information_schema.columns where table_schema = %s and table_name = %s"
        " order by ordinal_position",
        [schema, table],
    )
    return [name for (name,) in found]


def _copy_rows(connection: Connection, database: psycopg.Connection[Any], source: str, target: sql.Composable) -> int:
    found = connection.execute(f"select * from {source}")
    copied = 0
    with database.cursor() as cursor, cursor.copy(sql.SQL("copy {} from stdin").format(target)) as copy:
        while batch := found.fetchmany(_BATCH):
            for row in batch:
                copy.write_row(row)
            copied += len(batch)
    return copied


def _quoted(schema: str, table: str) -> str:
    return f"{identifier(schema)}.{identifier(table)}"


def _type(duckdb_type: str) -> str:
    return (
        "numeric" + duckdb_type.removeprefix("DECIMAL")
        if duckdb_type.startswith("DECIMAL")
        else _TYPES.get(duckdb_type, "text")
    )
