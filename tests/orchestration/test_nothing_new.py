"""A run ends after the extraction where nothing is new, and only there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core import settings, suppression
from core.settings import Tenure
from core.warehouse import Connection, rows, scalar, warehouse
from orchestration import nothing_new


class Copy:
    """The session's company in a folder of its own, as a run leaves it that published there."""

    def __init__(self, home: Any, folder: Path) -> None:
        self.tenure: Tenure = settings.load(home.config, folder)
        for name in ("warehouse.duckdb", "serving.duckdb", "sync.db"):
            shutil.copy(home.path / name, folder / name)
        with warehouse(self.tenure.serving_path, read_only=True) as connection:
            (made,) = rows(connection, "from publication")
        with warehouse(self.tenure.warehouse_path) as connection:
            nothing_new.begin(connection, self.tenure, made["as_of_at"], made["run_id"])
            said = made["run_id"], made["publication_id"], made["published_at"]
            nothing_new.note_published(connection, self.tenure, *said)

    def since(self, later: timedelta = timedelta(0)) -> datetime | None:
        """What the next run would be told."""
        with warehouse(self.tenure.warehouse_path) as connection:
            as_of = scalar(connection, "select as_of_at from ledger.clock")
            return nothing_new.since(connection, self.tenure, as_of + later, "next")

    def change(self, sql: str) -> None:
        with warehouse(self.tenure.warehouse_path) as connection:
            connection.execute(sql)


@pytest.fixture
def copy(world: Any, tmp_path: Path) -> Copy:
    return Copy(world.home, tmp_path)


@pytest.fixture
def connection(copy: Copy) -> Iterator[Connection]:
    with warehouse(copy.tenure.warehouse_path) as connection:
        yield connection


def test_after_a_run_that_published_nothing_is_new(copy: Copy) -> None:
    published = "select published_at from publication"
    with warehouse(copy.tenure.serving_path, read_only=True) as connection:
        assert copy.since() == scalar(connection, published)
    assert copy.since() is not None


ROW = "insert into raw_files.tickets by name select * replace ('new' as ticket_id) from raw_files.tickets limit 1"
LOAD = "insert into ledger.loads by name select * replace (timestamp '2099-01-01' as started_at, 1 as {}) from ledger.loads limit 1"


@pytest.mark.parametrize(
    "sql",
    [
        ROW,
        "delete from raw_files.tickets where ticket_id = (select min(ticket_id) from raw_files.tickets)",
        "delete from quarantine.tickets where _row = (select min(_row) from quarantine.tickets)",
        LOAD.format("rows_updated"),
        LOAD.format("rows_quarantined"),
        LOAD.format("values_unread"),
        "update ledger.published_from set fingerprint = null",
        "delete from ledger.published_from",
        "update ledger.published_from set publication_id = 'of another file'",
    ],
)
def test_what_was_loaded_otherwise_is_built(copy: Copy, sql: str) -> None:
    copy.change(sql)
    assert copy.since() is None


def test_a_load_that_changed_nothing_is_nothing_new(copy: Copy) -> None:
    unchanged = ", ".join(f"0 as {name}" for name in nothing_new._COUNTS)
    copy.change(
        f"insert into ledger.loads by name select * replace ({unchanged}, 'unchanged' as status, 'next' as run_id,"
        " timestamp '2099-01-01' as started_at) from ledger.loads limit 1"
    )
    assert copy.since() is not None


def test_a_stream_that_was_stopped_is_built_now_and_the_next_time(copy: Copy, connection: Connection) -> None:
    as_of = scalar(connection, "select as_of_at from ledger.clock")
    connection.execute(
        "insert into ledger.loads by name select * replace ('stopped' as status, 'next' as run_id) from ledger.loads limit 1"
    )
    assert nothing_new.since(connection, copy.tenure, as_of, "next") is None
    nothing_new.begin(connection, copy.tenure, as_of, "next")
    nothing_new.note_published(connection, copy.tenure, "next", "p", as_of)
    assert rows(connection, "select fingerprint from ledger.published_from") == [{"fingerprint": None}]


def test_another_day_is_built_and_another_hour_is_not(copy: Copy) -> None:
    assert copy.since(timedelta(hours=23)) is not None
    assert copy.since(timedelta(days=1)) is None


def test_another_configuration_is_built(copy: Copy) -> None:
    config = copy.tenure.config
    other = config.churn.model_copy(update={"horizon_days": 30})
    copy.tenure = copy.tenure.model_copy(update={"config": config.model_copy(update={"churn": other})})
    assert copy.since() is None


def test_an_erasure_is_built(copy: Copy) -> None:
    erased = suppression.Erasure("e", "account", datetime(2024, 1, 1), ("0" * 64,))
    suppression.add(copy.tenure.home, erased, new_salt="salt")
    assert copy.since() is None


def test_a_published_file_that_is_gone_or_another_is_made_again(copy: Copy) -> None:
    with warehouse(copy.tenure.serving_path) as connection:
        connection.execute("update publication set publication_id = 'another'")
    assert copy.since() is None
    copy.tenure.serving_path.unlink()
    assert copy.since() is None


@pytest.mark.parametrize(
    "sql",
    [
        "update sync_runs set status = 'partial'",
        "update sync_rows set parked_at = '2024-01-01 00:00:00' where key = (select min(key) from sync_rows)",
        "delete from sync_runs",
    ],
)
def test_what_a_destination_has_not_received_is_sent(lived: Any, tmp_path: Path, sql: str) -> None:
    copy = Copy(lived["home"], tmp_path)
    assert copy.since() is not None
    engine = sa.create_engine(f"sqlite:///{copy.tenure.home / 'sync.db'}")
    with engine.begin() as connection:
        assert connection.execute(sa.text(sql)).rowcount > 0
    engine.dispose()
    assert copy.since() is None


def test_until_a_run_has_published_the_next_one_builds(copy: Copy, connection: Connection) -> None:
    """As after a kill, or a check that refused."""
    as_of = scalar(connection, "select as_of_at from ledger.clock")
    nothing_new.begin(connection, copy.tenure, as_of, "killed")
    assert nothing_new.since(connection, copy.tenure, as_of, "next") is None
    publication = rows(connection, "select 'p' as id, timestamp '2024-01-01' as at")[0]
    nothing_new.note_published(connection, copy.tenure, "another run", publication["id"], publication["at"])
    assert nothing_new.since(connection, copy.tenure, as_of, "next") is None
    with warehouse(copy.tenure.serving_path, read_only=True) as published:
        id_ = scalar(published, "select publication_id from publication")
    nothing_new.note_published(connection, copy.tenure, "killed", id_, publication["at"])
    assert nothing_new.since(connection, copy.tenure, as_of, "next") == publication["at"]


def test_what_changed_while_a_run_built_is_built_by_the_next(copy: Copy, connection: Connection) -> None:
    as_of = scalar(connection, "select as_of_at from ledger.clock")
    nothing_new.begin(connection, copy.tenure, as_of, "long")
    connection.execute(ROW)
    with warehouse(copy.tenure.serving_path, read_only=True) as published:
        id_ = scalar(published, "select publication_id from publication")
    nothing_new.note_published(connection, copy.tenure, "long", id_, as_of)
    assert nothing_new.since(connection, copy.tenure, as_of, "next") is None


def test_the_registry_of_models_counts(lived: Any, tmp_path: Path) -> None:
    registry = tmp_path / "mlflow" / "mlflow.db"
    registry.parent.mkdir()
    shutil.copy2(lived["home"].path / "mlflow" / "mlflow.db", registry)
    copy = Copy(lived["home"], tmp_path)
    assert copy.since() is not None
    with registry.open("ab") as file:
        file.write(b"promoted")
    assert copy.since() is None


def test_a_run_with_nothing_new_says_so_and_leaves_what_is_published(lived: dict[str, Any]) -> None:
    again = lived["again"]
    assert again["status"] == "done"
    assert again["nothing_new"].startswith("Nothing is new since ")
    assert again["published"]["run_id"] == lived["first"]["run_id"]
    assert lived["again_rows"] == lived["first_rows"]
    assert lived["first"]["nothing_new"] is None


def test_rebuild_builds_although_nothing_is_new(lived: dict[str, Any]) -> None:
    assert lived["second"]["nothing_new"] is None
    assert lived["second"]["published"]["run_id"] == lived["second"]["run_id"]


def test_what_came_since_is_built(lived: dict[str, Any]) -> None:
    assert lived["third"]["nothing_new"] is None
    assert lived["third"]["published"]["run_id"] == lived["third"]["run_id"]


def test_the_command_offers_the_way_around_it(new_home: Callable[..., Any]) -> None:
    answer = new_home("help").run("run", "--as-of", "2024-01-01", "--rebuild")
    assert answer.code == 2
    assert "--rebuild" in answer.err
