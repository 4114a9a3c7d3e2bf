"""Sources that tenure.yml no longer has: what they loaded is found, and goes as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from core.warehouse import warehouse
from sources import leftovers

ACCOUNTS: dict[str, Any] = {
    "files": "accounts.csv",
    "columns": {"account_id": "id", "name": "name", "created_at": "created"},
}
EVENTS: dict[str, Any] = {
    "files": "events*",
    "columns": {"account_id": "account", "event_name": "event", "occurred_at": "at"},
}
NOW = datetime(2024, 6, 2)


def two_sources(company: Any) -> Any:
    company.data.mkdir(parents=True)
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n2,Two,2024-01-01\n")
    company.write("events.csv", "account,event,at\n1,login,2024-02-01\n2,login,2024-02-02\n9,login,2024-02-03\n")
    block = {"connector": "files", "path": str(company.data), "streams": {"accounts": ACCOUNTS, "usage_events": EVENTS}}
    company.sources(old=block, new=block)
    company.load()
    del company.document["sources"]["old"]
    return company


def found(company: Any) -> list[leftovers.Leftover]:
    with warehouse(company.tenure.warehouse_path, read_only=True) as connection:
        return leftovers.find(connection, company.tenure.config)


def remove(company: Any, *names: str) -> None:
    with warehouse(company.tenure.warehouse_path) as connection:
        wanted = [one for one in leftovers.find(connection, company.tenure.config) if one.source in names]
        leftovers.remove(connection, company.tenure.config, wanted, now=NOW)


def test_what_a_source_left_is_found_and_goes_and_all_else_stays(company: Any) -> None:
    two_sources(company)
    assert [(one.label, one.rows, one.quarantined) for one in found(company)] == [
        ("old/accounts", 2, 0),
        ("old/usage_events", 2, 1),
    ]
    remove(company, "old")
    assert found(company) == []
    for table in ("raw_files.accounts", "raw_files.usage_events", "quarantine.usage_events"):
        assert company.query(f"select distinct _source from {table}") == [("new",)]
    for table in ("files", "mappings"):
        assert company.query(f"select distinct source from ledger.{table}") == [("new",)]
    days = "select source, account_id, cast(activity_date as varchar) from ledger.restated_days order by all"
    assert company.query(days) == [("old", "1", "2024-02-01"), ("old", "2", "2024-02-02")]
    newest = "select (select max(loaded_at) from ledger.restated_days) > (select max(finished_at) from ledger.loads)"
    assert company.query(newest) == [(True,)]
    before = company.contents()
    remove(company, "old")
    assert company.contents() == before
    assert company.load()["usage_events"].status == "unchanged"


def test_a_source_that_returns_is_read_from_its_beginning(company: Any) -> None:
    two_sources(company)
    before = company.contents()
    block = company.document["sources"]["new"]
    remove(company, "old")
    company.document["sources"] = {"old": block, "new": block}
    company.load()
    assert company.contents() == before


def test_a_stream_that_another_connector_or_entity_fills_now_has_left_something_too(company: Any) -> None:
    two_sources(company)
    remove(company, "old")
    streams = company.document["sources"]["new"]["streams"]
    streams["usage_events"] = {
        "files": "events*",
        "entity": "interactions",
        "columns": {"interaction_id": "account", "account_id": "account", "occurred_at": "at"},
    }
    streams["clicks"] = {"entity": "usage_events", **EVENTS}
    assert [(one.label, one.rows, one.tables) for one in found(company)] == [
        ("new/usage_events", 2, ("raw_files.usage_events",))
    ]


def test_a_removal_that_is_killed_leaves_all_or_nothing(company: Any) -> None:
    two_sources(company)
    before = company.contents()
    code = (
        "import os, signal, sys; from pathlib import Path; from datetime import datetime;"
        "from core import settings, warehouse; from sources import leftovers;"
        "tenure = settings.load(Path(sys.argv[1]), home=Path(sys.argv[2]));"
        "leftovers._REMEMBERED = type('Killing', (), {'__iter__': lambda self: os.kill(os.getpid(), signal.SIGKILL)})();\n"
        "with warehouse.warehouse(tenure.warehouse_path) as connection:\n"
        "    leftovers.remove(connection, tenure.config, leftovers.find(connection, tenure.config), now=datetime(2024, 6, 2))"
    )
    assert company.tenure
    done = subprocess.run(
        [sys.executable, "-c", code, str(company.folder / "tenure.yml"), str(company.home)],
        cwd=Path(__file__).parents[2],
        env={**os.environ},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert company.contents() == before
    remove(company, "old")
    assert found(company) == []
