"""The published copy in PostgreSQL, for tools that want a server: the same schemas and tables, in one transaction.

Lives here: how tables of the published file become rows of PostgreSQL. Must not live here: what is published.

Rows are deleted and copied anew inside one transaction, rather than tables swapped: readers go on reading the old rows until
the commit and are never blocked, and views and grants on the tables survive. A table whose columns changed is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from core.contract import PERSON_REFERENCES
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
PUBLISHED = ("marts", "features", "reverse_etl", "quality", "sync")
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


def rows_about(url: str, named: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Rows of each published table that name an account, a person or an address of `named`; tables without any are left out.

    Raises as `copy_to_postgres`.
    """
    found: dict[str, int] = {}
    with _connected(url) as database:
        for schema, table, columns in _published_tables(database):
            conditions, values = [], list[Any]()
            for name in columns:
                column = sql.Identifier(name)
                exact = named["account"] if name == "account_id" or name == "crm_account_id" else ()
                exact = named["person"] if name in PERSON_REFERENCES else exact
                if exact:
                    conditions.append(sql.SQL("{} = any(%s)").format(column))
                    values.append(list(exact))
                if named["address"]:
                    conditions.append(sql.SQL("lower({}) like any(%s)").format(column))
                    values.append([f"%{_escaped(one)}%" for one in named["address"]])
            if conditions:
                asked = sql.SQL("select count(*) from {} where {}").format(
                    sql.Identifier(schema, table), sql.SQL(" or ").join(conditions)
                )
                row = database.execute(asked, values).fetchone()
                if row and row[0]:
                    found[f"{schema}.{table}"] = int(row[0])
    return found


def compact(url: str) -> None:
    """Write the published tables anew on the server's disk, without the rows that were deleted from them. Raises as `copy_to_postgres`."""
    with _connected(url, autocommit=True) as database:
        for schema, table, _ in _published_tables(database):
            database.execute(sql.SQL("vacuum full {}").format(sql.Identifier(schema, table)))


@contextmanager
def _connected(url: str, *, autocommit: bool = False) -> Iterator[psycopg.Connection[Any]]:
    try:
        with psycopg.connect(_plain(url), connect_timeout=15, autocommit=autocommit) as database:
            yield database
    except psycopg.OperationalError as error:
        raise Retriable(f"publish.postgres_url cannot be reached: {_words(error)}") from error
    except psycopg.Error as error:
        raise Fatal(f"PostgreSQL refused: {_words(error)}") from error


def _published_tables(database: psycopg.Connection[Any]) -> list[tuple[str, str, list[str]]]:
    """Schema, table and text columns of the published schemas."""
    return database.execute(
        "select table_schema, table_name, array_agg(column_name::text) from information_schema.columns"
        " join information_schema.tables using (table_schema, table_name)"
        " where table_schema = any(%s) and table_type = 'BASE TABLE' and data_type = 'text' group by 1, 2 order by 1, 2",
        [list(PUBLISHED)],
    ).fetchall()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


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
