"""The warehouse: the only place that opens DuckDB.

Lives here: opening the working warehouse, a published file, or a scratch database, each with its limits, and the small
vocabulary (quoting, transactions) that every caller needs. Must not live here: tables of a step, SQL of a step.

One process at a time can hold a DuckDB file for writing; the operating system's lock, which dies with its owner, keeps it so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from core.errors import Fatal, UserError

Connection = duckdb.DuckDBPyConnection
Error = duckdb.Error
BinderError = duckdb.BinderException
Interrupted = duckdb.InterruptException
_BETWEEN_INTERRUPTS = 0.05
_MERGES_AT_ONCE = 100
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

STORAGE_VERSION = "v1.5.0"
"""New files use what DuckDB 1.5 can read: 10 million events are written in 16 processor seconds instead of 20, and are 9 %
smaller, than in the format that every version since 1.0 can read."""


def _limits(
    memory_limit: str, threads: int, temp_directory: Path | None
) -> dict[str, str | int | bool | float | list[str]]:
    config: dict[str, str | int | bool | float | list[str]] = {
        "memory_limit": memory_limit,
        "threads": threads,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "storage_compatibility_version": STORAGE_VERSION,
    }
    if temp_directory is not None:
        temp_directory.mkdir(parents=True, exist_ok=True)
        config["temp_directory"] = str(temp_directory)
    return config


def _prepare(connection: Connection) -> None:
    connection.execute("set timezone = 'UTC'")
    # DuckDB draws it on standard output, which belongs to the command's answer.
    connection.execute("set enable_progress_bar = false")


@contextmanager
def scratch(memory_limit: str = "2GB", threads: int = 2, temp_directory: Path | None = None) -> Iterator[Connection]:
    """An in-memory database that is gone afterwards."""
    connection = duckdb.connect(":memory:", config=_limits(memory_limit, threads, temp_directory))
    try:
        _prepare(connection)
        yield connection
    finally:
        connection.close()


@contextmanager
def warehouse(
    path: Path,
    *,
    read_only: bool = False,
    memory_limit: str = "4GB",
    threads: int = 2,
    temp_directory: Path | None = None,
    wait_seconds: float = 60.0,
) -> Iterator[Connection]:
    """Open the file at `path`; wait up to `wait_seconds` while another process writes to it.

    Raises `UserError` when the file is missing (reading), is still locked after the wait, or is not a warehouse.
    """
    if read_only and not path.exists():
        raise UserError(f"There is no warehouse at {path} yet.", hint="Run `tenure run` first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    config = _limits(memory_limit, threads, temp_directory)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            connection = duckdb.connect(str(path), read_only=read_only, config=config)
            break
        except duckdb.IOException as error:
            if "lock" not in str(error):
                raise UserError(
                    f"{path} cannot be opened: {error}", hint="Is it a DuckDB file, and is the disk full?"
                ) from error
            if time.monotonic() > deadline:
                raise UserError(
                    f"{path} is in use by another process: {error}", hint="Wait for the other run to end."
                ) from error
            time.sleep(0.2)
    try:
        _prepare(connection)
        connection.execute("set preserve_insertion_order = false")
        yield connection
    finally:
        connection.close()


def confine(connection: Connection) -> None:
    """Keep the SQL that follows to this database: no files, no network, no extensions, and no setting that could undo it."""
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def merge_parts(connection: Connection, *, wanted: bool) -> None:
    """Whether tables that are written from here on, until the file is closed, have their small parts merged when it is.

    Each load appends a part to its table, and what was deleted keeps its place in the others until they are merged. A day that is
    added to a year of events writes 100,000 rows anew for it.
    """
    connection.execute(f"set max_vacuum_tasks = {_MERGES_AT_ONCE if wanted else 0}")


def side_by_side(
    connection: Connection,
    work: Callable[[Connection, _Item], _Result],
    items: Sequence[_Item],
    *,
    at_once: int = 2,
) -> list[_Result]:
    """Do `work` on each of `items`, so many at once (at most as many as the database has threads); the results in their order.

    Each piece of work has a connection of its own, with its own transactions and temporary tables. When one raises (an
    interrupt too), what has not begun does not begin, and the statements that run are interrupted.
    """
    workers = min(at_once, int(scalar(connection, "select current_setting('threads')")))
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=workers) as pool:
        connections = [stack.enter_context(_beside(connection)) for _ in items]
        begun = [pool.submit(work, one, item) for one, item in zip(connections, items, strict=True)]
        try:
            done, _ = wait(begun, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            return [future.result() for future in begun]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # More than once: between two statements there is nothing to interrupt.
            while not all(future.done() for future in begun):
                for one in connections:
                    one.interrupt()
                time.sleep(_BETWEEN_INTERRUPTS)
            raise


@contextmanager
def _beside(connection: Connection) -> Iterator[Connection]:
    other = connection.cursor()
    try:
        _prepare(other)
        yield other
    finally:
        other.close()


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All or nothing: commits at the end, rolls back on any exception (an interrupt too)."""
    connection.execute("begin transaction")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


def identifier(name: str) -> str:
    """`name` quoted as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """`value` as an SQL literal: text (quoted), a number, or NULL."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


def table_exists(connection: Connection, schema: str, table: str) -> bool:
    """Whether `schema.table` is there."""
    row = connection.execute(
        "select count(*) from information_schema.tables where table_schema = ? and table_name = ?", [schema, table]
    ).fetchone()
    return bool(row and row[0])


def ensure_table(connection: Connection, schema: str, table: str, columns: Mapping[str, str]) -> None:
    """Create `schema.table` with `columns`, or add the columns that a table of an older version lacks.

    `columns` are names with types; a type may be followed by ` using compression …`. Rows that are there have NULL in added
    columns. Raises `Fatal` where a column is there with another type: what its values mean in the new one, no program can know.
    """
    name = f"{identifier(schema)}.{identifier(table)}"
    declared = [f"{identifier(column)} {kind}" for column, kind in columns.items()]
    connection.execute(f"create schema if not exists {identifier(schema)}")
    connection.execute(f"create table if not exists {name} ({', '.join(declared)})")
    described = rows(connection, f"describe {name}")
    there = {row["column_name"]: row["column_type"].lower() for row in described}
    for (column, kind), declaration in zip(columns.items(), declared, strict=True):
        if column not in there:
            connection.execute(f"alter table {name} add column {declaration}")
        elif there[column] != kind.partition(" using ")[0]:
            raise Fatal(
                f"{schema}.{table}.{column} is {there[column]} in this warehouse, which an older version wrote, and {kind} now.",
                hint="Go back to that version, or, if its values mean the same in the new type, make a copy of warehouse.duckdb"
                f" and run this SQL on it: alter table {schema}.{table} alter {identifier(column)} type {kind}",
            )


def rows(connection: Connection, sql: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
    """The result of `sql` as dictionaries; for small results."""
    cursor = connection.execute(sql, parameters or [])
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def scalar(connection: Connection, sql: str, parameters: list[Any] | None = None) -> Any:
    """The first column of the first row of `sql`, or None."""
    row = connection.execute(sql, parameters or []).fetchone()
    return row[0] if row else None
