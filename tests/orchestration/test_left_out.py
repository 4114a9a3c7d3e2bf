"""What is said of rows in quarantine and of values that could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core import warehouse
from orchestration import left_out
from sources import ledger
from sources.base import StreamId

STREAM = StreamId("billing", "subscriptions", "files", "billing", "subscriptions")
NOTED = '[{{"column":"{}","reason":"wrong_type","detail":"{} \'ten\' is not of type {}"}}]'


@pytest.fixture
def working(tmp_path: Path) -> Iterator[warehouse.Connection]:
    with warehouse.warehouse(tmp_path / "warehouse.duckdb") as connection:
        ledger.ensure_tables(connection, [STREAM])
        connection.execute("create table ledger.clock as select timestamp '2024-07-01' as as_of_at")
        yield connection


def quarantine(connection: warehouse.Connection, key: str | None, **values: Any) -> None:
    row = {
        "_source": "billing",
        "_stream": "subscriptions",
        "_reason": "wrong_type",
        "_last_seen_at": "2024-06-01",
        "_first_seen_at": "2024-05-01",
        "_times_seen": 3,
        "subscription_id": key,
        **values,
    }
    names, marks = ", ".join(row), ", ".join("?" for _ in row)
    connection.execute(f"insert into quarantine.subscriptions ({names}) values ({marks})", list(row.values()))


def asked(connection: warehouse.Connection, table: str) -> list[dict[str, Any]]:
    return warehouse.rows(connection, left_out.tables(connection)[table])


def test_the_mrr_in_quarantine_is_that_of_what_would_be_running(working: Any) -> None:
    quarantine(working, "runs", mrr="100.00", started_at="2024-01-01 00:00:00")
    quarantine(working, "no start", mrr="10.00", started_at="soon")
    quarantine(working, "ends later", mrr="1.00", started_at="2024-01-01", ended_at="2024-08-01 00:00:00")
    quarantine(working, "ended", mrr="1000.00", started_at="2024-01-01", ended_at="2024-06-01")
    quarantine(working, "begins later", mrr="1000.00", started_at="2024-09-01")
    quarantine(working, "trial", mrr="1000.00", started_at="2024-01-01", is_trial="true")
    assert asked(working, "quarantined_mrr") == [
        {
            "source": "billing",
            "stream": "subscriptions",
            "subscriptions": 3,
            "mrr": Decimal("111.00"),
            "subscriptions_unread": 0,
        }
    ]


def test_what_cannot_be_read_is_not_in_the_sum_which_is_then_at_least_so_much(working: Any) -> None:
    quarantine(working, "a", mrr="100.00", started_at="2024-01-01")
    quarantine(working, "b", mrr="4.500", started_at="2024-01-01", _unread=NOTED.format("mrr", "mrr", "money"))
    quarantine(working, "c", mrr="ten", started_at="2024-01-01", _unread=NOTED.format("mrr", "mrr", "money"))
    quarantine(working, "d", mrr="50.00", started_at="2024-01-01", ended_at="soon")
    quarantine(working, None, _reason="malformed_row")
    (found,) = asked(working, "quarantined_mrr")
    assert (found["mrr"], found["subscriptions"], found["subscriptions_unread"]) == (Decimal("100.00"), 5, 4)


def test_a_subscription_that_is_wrong_in_two_ways_counts_once_by_its_newest_record(working: Any) -> None:
    quarantine(working, "a", mrr="100.00", started_at="2024-01-01")
    quarantine(working, "a", mrr="120.00", started_at="2024-01-01", _reason="null_key", _last_seen_at="2024-06-02")
    assert asked(working, "quarantined_mrr")[0]["mrr"] == Decimal("120.00")


def test_records_are_counted_with_how_often_and_when_they_were_seen(working: Any) -> None:
    quarantine(working, "a")
    quarantine(working, "b", _first_seen_at="2024-04-01")
    (found,) = asked(working, "quarantined")
    assert (found["entity"], found["reason"], found["rows_quarantined"], found["times_seen"]) == (
        "subscriptions",
        "wrong_type",
        2,
        6,
    )
    assert (f"{found['first_seen_at']:%m-%d}", f"{found['last_seen_at']:%m-%d}") == ("04-01", "06-01")


def test_values_that_could_not_be_read_are_counted_by_column_and_reason_with_an_example(working: Any) -> None:
    for key, noted in (("a", NOTED), ("b", NOTED), ("c", None)):
        working.execute(
            "insert into raw_files.subscriptions (subscription_id, _source, _stream, _unread) values (?, 'billing', 'subscriptions', ?)",
            [key, noted and noted.format("seats", "seats", "integer")],
        )
    assert asked(working, "unread_values") == [
        {
            "entity": "subscriptions",
            "source": "billing",
            "stream": "subscriptions",
            "column_name": "seats",
            "reason": "wrong_type",
            "values_unread": 2,
            "example": "seats 'ten' is not of type integer",
        }
    ]
