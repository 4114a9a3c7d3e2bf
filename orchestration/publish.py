"""Step 6's copy: marts, scores and quality results, written to a new file that replaces the published one in one move.

Lives here: what is published, what is left out, and how a reader never sees half of it. Must not live here: how the marts
are made, or whether they may be published (the checks decide).

Method: write-new, fsync, rename (the rename of POSIX is atomic). A reader that has the old file open keeps it until it
opens the path again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.locks import RunLock
from core.settings import PROJECT_ROOT
from core.warehouse import Connection, Error, identifier, literal, rows, scalar, side_by_side, transaction, warehouse
from orchestration import left_out

QUALITY = {
    "loads": "select * from ledger.loads",
    "drift": "select * from ledger.drift",
    "checks": "select * from quality.checks",
    "files": "select source, stream, path, size, mtime_ns, loaded_at, run_id from ledger.files",
    "clock": "select * from ledger.clock",
    "model_trainings": "select * from ml.trainings",
    "model_backtest": "select * from ml.churn_backtest",
    "model_drift": "select * from ml.drift",
    "model_watch": "select * from ml.watch",
}
"""Tables of schema `quality` and the SQL over the working warehouse that fills them."""
ROWS_OF_A_GROUP = 30 * 2048
"""Half of DuckDB's own choice. Parts of a table that fill a group are compressed by all threads while it is made, what is left by one
thread at the end: 5.1 million rows, a third of them in tables made of many parts, are published in 4.9 processor seconds instead of 5.6,
and in a third less time; the file is 5 % larger."""
_LONGEST_PUBLICATION_SECONDS = 3600.0


@dataclass(frozen=True)
class Publication:
    """One published state. `git_commit` is that of the project's code, NULL outside of a repository; `currency` is
    that of all money, but for the columns that say otherwise."""

    publication_id: str
    run_id: str
    published_at: datetime
    as_of_at: datetime
    git_commit: str | None
    currency: str


def publish(
    connection: Connection,
    path: Path,
    publication: Publication,
    *,
    tables: Mapping[str, Mapping[str, Any]],
    exclude: tuple[str, ...],
    synced: Iterable[tuple[str, Any]] = (),
    storage_version: str = "v1.0.0",
    rate: str = "1",
) -> dict[str, int]:
    """Write `tables`, schema `quality` and the table `publication` to `path`; return the rows of each table.

    `synced` are the tables of the sync ledger, in parts (Arrow), which become schema `sync`.

    `rate` is SQL of a quarantined subscription's rate into the reporting currency.

    `storage_version` is the oldest DuckDB that can read the file: BI tools carry drivers that are years old.

    `tables` are models by `schema.table`, with dbt's descriptions, which become comments. `exclude` names columns as
    `table.column`. Raises `UserError` when `exclude` names a column that is not there, or a model has not been built yet.
    """
    _check_built(connection, tables)
    _check_excluded(connection, tables, exclude)
    with replacing(path) as fresh:
        options = f"row_group_size {ROWS_OF_A_GROUP}, storage_version {literal(storage_version)}"
        _attach(connection, fresh, options)
        try:
            for schema in sorted({"quality", *(table.partition(".")[0] for table in tables)}):
                connection.execute(f"create schema published.{schema}")
            names = sorted(tables)
            copied = side_by_side(connection, lambda own, table: _copy_model(own, table, exclude), names)
            counts = dict(zip(names, copied, strict=True))
            # One transaction for hundreds of comments: by itself, each would be synced to the disk.
            with transaction(connection):
                for table in sorted(tables):
                    _describe(connection, table, tables[table])
            for name, sql in {**QUALITY, **left_out.tables(connection, rate=rate)}.items():
                connection.execute(f"create table published.quality.{name} as {sql}")
                counts[f"quality.{name}"] = int(scalar(connection, f"select count(*) from published.quality.{name}"))
            _write_publication(connection, publication)
            counts |= _copy_ledger(connection, "published", synced)
        finally:
            connection.execute("detach published")
    return counts


def _attach(connection: Connection, path: Path, options: str) -> None:
    try:
        connection.execute(f"attach {literal(str(path))} as published ({options})")
    except Error as error:
        if "version string" not in str(error):
            raise
        raise UserError(
            f"publish.storage_version: {' '.join(str(error).split())}",
            hint="v1.0.0 can be read by every DuckDB since 1.0.",
        ) from error


def publish_ledger(path: Path, synced: Iterable[tuple[str, Any]]) -> dict[str, int]:
    """Replace schema `sync` of the published file at `path`, all else staying as it is; return the rows of each table."""
    with replacing(path) as fresh:
        shutil.copyfile(path, fresh)
        with warehouse(fresh) as connection:
            connection.execute("drop schema if exists sync cascade")
            return _copy_ledger(connection, str(scalar(connection, "select current_database()")), synced)


def _copy_ledger(connection: Connection, database: str, synced: Iterable[tuple[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, part in synced:
        table = f"{identifier(database)}.sync.{identifier(name)}"
        connection.register("part", part)
        if name not in counts:
            connection.execute(f"create schema if not exists {identifier(database)}.sync")
            connection.execute(f"create table {table} as from part")
        else:
            connection.execute(f"insert into {table} from part")
        connection.unregister("part")
        counts[name] = counts.get(name, 0) + len(part)
    return {f"sync.{name}": count for name, count in counts.items()}


def git_commit() -> str | None:
    """The commit of the project's code, or None."""
    command = ["git", "-C", str(PROJECT_ROOT), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; moved onto `path` when all went well, removed when not. One at a time: a sync that brings
    the ledger up to date must not put an older publication back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    leftovers = (fresh, fresh.with_name(fresh.name + ".wal"))
    lock = RunLock(path.with_name(".publishing.lock"))
    lock.acquire(str(os.getpid()), wait_seconds=_LONGEST_PUBLICATION_SECONDS, on_wait=lambda holder: None)
    try:
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        yield fresh
        _sync(fresh)
        os.replace(fresh, path)  # noqa: PTH105 - the name says what matters
        _sync(path.parent)
    finally:
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        lock.release()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy_model(connection: Connection, table: str, exclude: tuple[str, ...]) -> int:
    schema, _, name = table.partition(".")
    left_out = [column for entry in exclude for of, column in [entry.split(".")] if of == name]
    without = f" exclude ({', '.join(identifier(c) for c in left_out)})" if left_out else ""
    created = connection.execute(
        f"create table published.{schema}.{identifier(name)} as select *{without} from {schema}.{identifier(name)}"
    ).fetchone()
    return int(created[0]) if created else 0


def _describe(connection: Connection, table: str, node: Mapping[str, Any]) -> None:
    """Write dbt's descriptions of a published table and its columns as comments."""
    schema, _, name = table.partition(".")
    target = f"published.{schema}.{identifier(name)}"
    connection.execute(f"comment on table {target} is {literal(_one_line(node.get('description')))}")
    kept = {row["column_name"] for row in rows(connection, f"describe {target}")}
    for column, described in node.get("columns", {}).items():
        if column in kept and described.get("description"):
            text = literal(_one_line(described["description"]))
            connection.execute(f"comment on column {target}.{identifier(column)} is {text}")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _write_publication(connection: Connection, publication: Publication) -> None:
    connection.execute(
        "create table published.main.publication (publication_id varchar, run_id varchar, published_at timestamp,"
        " as_of_at timestamp, git_commit varchar, currency varchar)"
    )
    connection.execute(
        "insert into published.main.publication values (?, ?, ?, ?, ?, ?)", list(asdict(publication).values())
    )


def _check_built(connection: Connection, tables: Iterable[str]) -> None:
    known = rows(connection, "select table_schema || '.' || table_name as name from information_schema.tables")
    missing = sorted(set(tables) - {row["name"] for row in known})
    if missing:
        said = f"{missing[0]} has" if len(missing) == 1 else f"{', '.join(missing)} have"
        raise UserError(
            f"{said} not been built yet: the configuration has changed since the last run.", hint="Run `tenure run`."
        )


def _check_excluded(connection: Connection, tables: Mapping[str, Any], exclude: tuple[str, ...]) -> None:
    schemas = {name: schema for schema, _, name in (table.partition(".") for table in tables)}
    for entry in exclude:
        name, _, column = entry.partition(".")
        known = rows(connection, f"describe {schemas[name]}.{identifier(name)}") if name in schemas else []
        columns = [row["column_name"] for row in known]
        if column not in columns:
            raise UserError(
                f"publish.exclude_columns: there is no column {entry}.",
                hint=f"{name} has {', '.join(columns)}."
                if columns
                else f"The tables are {', '.join(sorted(schemas))}.",
            )
