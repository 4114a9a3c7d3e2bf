"""The warehouse's file: work side by side in it, and the parts of its tables."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from core.warehouse import Connection, Error, confine, merge_parts, scalar, side_by_side, transaction, warehouse

ENDLESS = "select count(*) from range(1_000_000_000_000) as a (i) where hash(i) = 1"


def test_results_come_in_the_order_of_the_items_whoever_ends_first(tmp_path: Path) -> None:
    second_is_done = threading.Event()

    def work(connection: Connection, number: int) -> int:
        if number == 1:
            assert second_is_done.wait(30)
        with transaction(connection):
            connection.execute("create temp table mine as select ? as n", [number])
            connection.execute("insert into numbers select n from mine")
        if number == 2:
            second_is_done.set()
        return number * 10

    with warehouse(tmp_path / "w.duckdb") as connection:
        connection.execute("create table numbers (n integer)")
        assert side_by_side(connection, work, [1, 2, 3], at_once=2) == [10, 20, 30]
        assert scalar(connection, "select list(n order by n) from numbers") == [1, 2, 3]


@pytest.mark.parametrize("first", [["broken", "endless"], ["endless", "broken"]])
def test_when_one_goes_wrong_the_others_stop_and_leave_nothing(tmp_path: Path, first: list[str]) -> None:
    begun = threading.Event()
    seen: list[str] = []

    def work(connection: Connection, what: str) -> None:
        seen.append(what)
        if what == "broken":
            assert begun.wait(30)
            raise ValueError(what)
        with transaction(connection):
            connection.execute("insert into numbers values (1)")
            begun.set()
            connection.execute(ENDLESS)

    with warehouse(tmp_path / "w.duckdb") as connection:
        connection.execute("create table numbers (n integer)")
        started = time.monotonic()
        with pytest.raises(ValueError, match="broken"):
            side_by_side(connection, work, [*first, "later", "last"], at_once=2)
        assert time.monotonic() - started < 30
        assert scalar(connection, "select count(*) from numbers") == 0
        assert "last" not in seen


def test_parts_of_a_table_are_merged_when_the_file_is_closed_where_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"

    def appended(*, merging: bool) -> tuple[int, int]:
        """Rows and parts after one more load."""
        with warehouse(path) as connection:
            merge_parts(connection, wanted=merging)
            connection.execute("insert into events select i from range(20_000) as a (i)")
        with warehouse(path) as connection:
            parts = "select count(distinct row_group_id) from pragma_storage_info('events')"
            return scalar(connection, "select count(*) from events"), scalar(connection, parts)

    with warehouse(path) as connection:
        connection.execute("create table events (n bigint)")
    assert [appended(merging=False) for _ in range(3)] == [(20_000, 1), (40_000, 2), (60_000, 3)]
    assert appended(merging=True) == (80_000, 1)


def test_confined_sql_reaches_no_file_no_network_and_no_setting(tmp_path: Path) -> None:
    path = tmp_path / "one.duckdb"
    with warehouse(path) as connection:
        connection.execute("create table t as select 1 as a")
    (tmp_path / "x.csv").write_text("a\n1\n", encoding="utf-8")
    with warehouse(path, read_only=True) as connection:
        confine(connection)
        assert scalar(connection, "select a from t") == 1
        for sql in (
            f"from read_csv('{tmp_path / 'x.csv'}')",
            f"from '{tmp_path / 'x.csv'}'",
            f"from read_text('{tmp_path}/*')",
            f"from glob('{tmp_path}/*')",
            f"copy (select 1) to '{tmp_path / 'y.csv'}'",
            f"attach '{tmp_path / 'two.duckdb'}'",
            f"export database '{tmp_path / 'out'}'",
            "install httpfs",
            "load httpfs",
            "set enable_external_access = true",
            "set lock_configuration = false",
            "reset lock_configuration",
            "set temp_directory = '/tmp'",
            "create secret s (type s3)",
        ):
            with pytest.raises(Error):
                connection.execute(sql)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.duckdb", "x.csv"]
