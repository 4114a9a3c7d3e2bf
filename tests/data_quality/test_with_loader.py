"""The raw gate behind the real loader: its ledger and its tables agree, whatever was delivered."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.settings import Config, Tenure
from core.warehouse import scratch
from data_quality.checks import CheckResult, blocking_failures
from data_quality.run import check_raw
from sources import ledger
from sources.base import open_stream, stream_ids
from sources.load import load_stream

NOW = datetime(2024, 7, 1, 5)
ACCOUNTS = "id,name,created\na1,Ant,2023-01-01\na2,Bee,2023-01-02\n,Cat,2023-01-03\n"
EVENTS = "id,account,event,at\ne1,a1,login,2024-06-30\ne2,a1,login,2024-06-31\ne3,a9,login,2024-06-30\ne1,a1,login,2024-06-30\n"


class Job:
    """Extraction and its gate, run after run, on a folder of files."""

    def __init__(self, home: Path, connection: Any) -> None:
        self.folder, self.connection, self.runs = home / "data", connection, 0
        self.folder.mkdir()
        config: dict[str, Any] = {
            "company": "Test",
            "sources": {
                "app": {
                    "connector": "files",
                    "path": str(self.folder),
                    "streams": {
                        "accounts": {
                            "files": "accounts.csv",
                            "columns": {"account_id": "id", "name": "name", "created_at": "created"},
                        },
                        "usage_events": {
                            "files": "events*.csv",
                            "columns": {
                                "event_id": "id",
                                "account_id": "account",
                                "event_name": "event",
                                "occurred_at": "at",
                            },
                        },
                    },
                }
            },
        }
        self.app: dict[str, Any] = config["sources"]["app"]
        self.tenure = Tenure(home=home, config_path=home / "tenure.yml", config=Config.model_validate(config))
        self.streams = stream_ids(self.tenure.config)
        ledger.ensure_tables(connection, self.streams)

    def stream(self, **streams: dict[str, Any]) -> None:
        """Read these streams as well, or in another way."""
        document = self.tenure.config.model_dump(include={"company"}) | {
            "sources": {"app": {**self.app, "streams": {}}}
        }
        document["sources"]["app"]["streams"] = {**self.app["streams"], **streams}
        self.tenure = self.tenure.model_copy(update={"config": Config.model_validate(document)})
        self.streams = stream_ids(self.tenure.config)
        ledger.ensure_tables(self.connection, self.streams)

    def run(self, *, full: bool = False, **files: str) -> list[CheckResult]:
        for name, text in files.items():
            (self.folder / f"{name}.csv").write_text(text, encoding="utf-8")
        self.runs += 1
        now, run = NOW + timedelta(days=self.runs), f"run{self.runs}"
        for stream in self.streams:
            source = self.tenure.config.sources[stream.source]
            opened = open_stream(stream, source, now=now, temp_directory=self.tenure.temp_directory)
            load_stream(self.connection, opened, self.tenure, now=now, run_id=run, full=full)
        return check_raw(self.connection, self.tenure, run, now)


@pytest.fixture
def job(tmp_path: Path) -> Any:
    with scratch(memory_limit="1GB") as connection:
        yield Job(tmp_path, connection)


def observed(results: list[CheckResult], key: str) -> str:
    return next(result.observed for result in results if f"raw_files.{key}" == f"{result.table}.{result.name}")


def test_first_load_new_files_changed_files_and_full_reload_all_add_up(job: Job) -> None:
    first = job.run(accounts=ACCOUNTS, events1=EVENTS)
    assert blocking_failures(first) == []
    assert observed(first, "accounts.accounting") == "3 rows read = 2 loaded or known + 1 quarantined"
    assert observed(first, "usage_events.accounting") == "4 rows read = 2 loaded or known + 2 quarantined"
    again = job.run()
    assert blocking_failures(again) == []
    more = job.run(events2="id,account,event,at\ne4,a2,login,2024-06-30\n")
    assert blocking_failures(more) == []
    released = job.run(accounts=f"{ACCOUNTS}a9,Dog,2023-02-01\n")
    assert blocking_failures(released) == []
    changed = job.run(events1=EVENTS.replace("2024-06-31", "2024-06-29"))
    assert blocking_failures(changed) == []
    full = job.run(full=True)
    assert blocking_failures(full) == []
    assert observed(full, "usage_events.quarantine_share") == "0 of 5 rows are in quarantine"


MEMBERS = {
    "memberships": {
        "files": "members*.csv",
        "columns": {"membership_id": "id", "user_id": "user", "account_id": "account", "since_at": "since"},
    },
    "usage_events": {
        "files": "events*.csv",
        "partial": True,
        "columns": {"event_id": "id", "user_id": "user", "event_name": "event", "occurred_at": "at", "quantity": "n"},
    },
}


def test_rows_that_wait_for_their_users_and_move_with_them_add_up(job: Job) -> None:
    job.stream(**MEMBERS)
    events = "id,user,event,at,n\ne1,u,login,2024-06-01,\ne2,u,login,2024-06-20,\ne3,w,login,2024-06-20,1\n"
    first = job.run(
        accounts="id,name,created\na1,Ant,2023-01-01\na2,Bee,2023-01-02\n",
        members1="id,user,account,since\nm1,u,a1,2024-01-01\n",
        events1=events,
    )
    assert blocking_failures(first) == []
    assert observed(first, "usage_events.accounting") == "3 rows read = 2 loaded or known + 1 quarantined"
    more = "id,user,account,since\nm2,u,a2,2024-06-10\nm3,w,a1,2024-06-10\n"
    assert blocking_failures(job.run(members2=more)) == []
    told = "select event_id, account_id, quantity from raw_files.usage_events order by all"
    assert job.connection.execute(told).fetchall() == [("e1", "a1", None), ("e2", "a2", None), ("e3", "a1", 1.0)]
    # An older version tells what the one that stands leaves out.
    assert blocking_failures(job.run(events0="id,user,event,at,n\ne1,u,login,2024-06-01,5\n")) == []
    assert blocking_failures(job.run()) == []


@pytest.mark.parametrize("kind", ["with ids", "without ids", "partial"])
def test_rows_that_go_back_to_quarantine_add_up_also_when_their_file_comes_again(job: Job, kind: str) -> None:
    members, events = MEMBERS["memberships"], {**MEMBERS["usage_events"], "partial": kind == "partial"}
    if kind == "without ids":
        events["columns"] = {name: sql for name, sql in events["columns"].items() if name != "event_id"}

    def run(**files: str) -> None:
        """A run that is refused for nothing but the many rows that wait."""
        assert {failure.name for failure in blocking_failures(job.run(**files))} <= {"quarantine_share"}

    job.stream(
        memberships={**members, "columns": {**members["columns"], "known_as": "known"}},
        usage_events=events,
    )
    header, first = "id,user,account,known,since\n", "id,user,event,at,n\ne1,x,login,2024-06-01,1\n"
    told = "select user_id, account_id, quantity from raw_files.usage_events order by all"
    waits = "select distinct user_id, quantity::double from quarantine.usage_events order by all"
    run(
        accounts="id,name,created\na1,Ant,2023-01-01\na2,Bee,2023-01-02\n",
        members1=f"{header}m1,x,,u,2024-05-01\nm2,u,a1,,2024-05-01\n",
        events1=first,
    )
    assert job.connection.execute(told).fetchall() == [("u", "a1", 1)]
    run(members2=f"{header}m3,x,,w,2024-05-02\n")
    assert job.connection.execute(told).fetchall() == []
    assert job.connection.execute(waits).fetchall() == [("x", 1)]
    run(members3=f"{header}m4,x,,u,2024-05-03\n")
    assert job.connection.execute(told).fetchall() == [("u", "a1", 1)]
    # Back to quarantine, and read again, in one run.
    longer = f"{first}e2,x,login,2024-06-02,2\n"
    run(members4=f"{header}m5,x,,w,2024-05-04\n", events1=longer)
    assert job.connection.execute(told).fetchall() == []
    assert job.connection.execute(waits).fetchall() == [("x", 1), ("x", 2)]
    run(events1=f"{longer}e3,u,login,2024-06-03,3\n")
    run(members5=f"{header}m6,w,a2,,2024-05-05\n")
    assert job.connection.execute(told).fetchall() == [("u", "a1", 3), ("w", "a2", 1), ("w", "a2", 2)]
    assert job.connection.execute(waits).fetchall() == []


def test_a_broken_file_is_shown_and_does_not_block(job: Job) -> None:
    assert blocking_failures(job.run(accounts=ACCOUNTS, events1=EVENTS)) == []
    results = job.run(events2="other,columns\n1,2\n")
    assert blocking_failures(results) == []
    stopped = [result for result in results if result.name == "streams" and not result.passed]
    assert [(result.table, result.severity) for result in stopped] == [("raw_files.usage_events", "warning")]
    assert "app/usage_events" in stopped[0].message


def test_a_file_of_which_most_rows_are_broken_blocks_until_it_is_mended(job: Job) -> None:
    rows = [f"e{n},a1,login,{'2024-06-30' if n % 3 == 0 else 'yesterday'}" for n in range(90)]
    header = "id,account,event,at\n"
    broken = job.run(accounts=ACCOUNTS, events1=header + "\n".join(rows) + "\n")
    assert [result.name for result in blocking_failures(broken)] == ["quarantine_share"]
    assert "60 impossible_date" in blocking_failures(broken)[0].message
    assert [result.name for result in blocking_failures(job.run())] == ["quarantine_share"]
    mended = job.run(events1=header + "\n".join(row.replace("yesterday", "2024-06-29") for row in rows) + "\n")
    assert blocking_failures(mended) == []
