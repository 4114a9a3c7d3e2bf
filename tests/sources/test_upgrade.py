"""A warehouse that an older version wrote: its tables are completed, its rows stay."""

from __future__ import annotations

from typing import Any

import pytest

from core import warehouse
from core.errors import Fatal

ACCOUNTS: dict[str, Any] = {
    "files": "accounts*",
    "columns": {"account_id": "id", "name": "name", "created_at": "created"},
}
EVENTS: dict[str, Any] = {
    "files": "events*",
    "columns": {"account_id": "account", "event_name": "event", "occurred_at": "at"},
}


def change(company: Any, *statements: str) -> None:
    """Run SQL on the warehouse, to make it what an older version would have left."""
    with warehouse.warehouse(company.tenure.warehouse_path) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def old(company: Any) -> Any:
    """A company loaded by a version that knew no industry, no reason's detail, no released rows and no file's columns."""
    company.streams(accounts=ACCOUNTS, usage_events=EVENTS)
    company.write("accounts-1.csv", "id,name,created\n1,One,2024-01-01\n,Nobody,2024-01-01\n")
    company.load()
    change(
        company,
        "alter table raw_files.accounts drop column industry",
        "alter table quarantine.accounts drop column industry",
        "alter table quarantine.accounts drop column _detail",
        "alter table ledger.loads drop column rows_released",
        'alter table ledger.files drop column "columns"',
    )
    company.document["sources"]["app"]["streams"]["accounts"]["columns"]["industry"] = {
        "sql": "industry",
        "optional": True,
    }
    return company


def test_columns_that_a_later_version_adds_are_null_in_old_rows_and_filled_in_new_ones(old: Any) -> None:
    old.write("accounts-2.csv", "id,name,created,industry\n2,Two,2024-01-01,Mining\n,Nobody,2024-01-01,Mining\n")
    old.load()
    assert old.query("select account_id, name, industry from raw_files.accounts order by 1") == [
        ("1", "One", None),
        ("2", "Two", "Mining"),
    ]
    assert old.query("select industry, _detail is null from quarantine.accounts order by _file") == [
        (None, True),
        ("Mining", False),
    ]
    loads = "select run_id, rows_read, rows_released from ledger.loads where stream = 'accounts' order by run_id"
    assert old.query(loads) == [("run 1", 2, None), ("run 2", 2, 0)]
    assert old.query('select len("columns") from ledger.files order by path') == [(None,), (0,)]


def test_reading_all_anew_fills_them(old: Any) -> None:
    old.write("accounts-1.csv", "id,name,created,industry\n1,One,2024-01-01,Fishing\n")
    old.load(full=True)
    assert old.query("select account_id, industry from raw_files.accounts") == [("1", "Fishing")]


def test_a_column_that_changed_its_type_is_named_with_what_to_do(old: Any) -> None:
    change(old, "alter table raw_files.accounts alter employees type varchar")
    with pytest.raises(Fatal, match=r"raw_files\.accounts\.employees is varchar .* and bigint now") as raised:
        old.load()
    statement = str(raised.value).partition("run this SQL on it: ")[2]
    change(old, statement)
    old.load()
    assert old.query("select account_id from raw_files.accounts") == [("1",)]
