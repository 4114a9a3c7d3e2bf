"""Loading: versions of a row, waiting for accounts, reloading, and being killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core import warehouse
from core.errors import Retriable
from sources import ledger
from sources.base import Progress, Unopened, open_stream, stream_ids
from sources.load import load_stream

ACCOUNTS: dict[str, Any] = {
    "files": "accounts*",
    "columns": {"account_id": "id", "name": "name", "created_at": "created", "updated_at": "changed"},
}
EVENTS: dict[str, Any] = {
    "files": "events*",
    "columns": {"account_id": "account", "event_name": "event", "occurred_at": "at"},
}
KEYED = {**EVENTS, "columns": {**EVENTS["columns"], "event_id": "id"}}
HEAD = "id,name,created,changed\n"
NAMES = "select account_id, name from raw_files.accounts order by account_id"


def outcome(report):
    return (
        report.rows_read,
        report.rows_inserted,
        report.rows_updated,
        report.rows_unchanged,
        report.rows_superseded,
        report.rows_quarantined,
    )


@pytest.fixture
def app(company):
    company.write("accounts-1.csv", HEAD + "1,One,2024-01-01,2024-01-01\n2,Two,2024-01-01,2024-01-01\n")
    return company.streams(accounts=ACCOUNTS, usage_events=EVENTS)


def test_every_row_read_has_one_outcome(app):
    app.load()
    rows = ["1,One,2024-01-01,2024-01-01", "2,Zwei,2024-01-01,2024-02-01", "2,Deux,2024-01-01,2024-01-15"]
    rows += ["3,Three,2024-01-01,2024-01-01", ",None,2024-01-01,"]
    app.write("accounts-2.csv", HEAD + "\n".join(rows) + "\n")
    assert outcome(app.load()["accounts"]) == (5, 1, 1, 1, 1, 1)
    assert app.query(NAMES) == [("1", "One"), ("2", "Zwei"), ("3", "Three")]


def test_an_older_version_that_arrives_later_does_not_win(app):
    app.write("accounts-2.csv", HEAD + "1,Newest,2024-01-01,2024-03-01\n")
    app.load()
    app.write("accounts-3.csv", HEAD + "1,Older,2024-01-01,2024-02-01\n2,Undated,2024-01-01,\n")
    assert outcome(app.load()["accounts"]) == (2, 0, 0, 0, 2, 0)
    assert app.query(NAMES) == [("1", "Newest"), ("2", "Two")]


def test_without_a_change_date_the_later_delivery_stands_and_in_one_run_the_later_name(app):
    del app.document["sources"]["app"]["streams"]["accounts"]["columns"]["updated_at"]
    app.write("accounts-0.csv", HEAD + "1,Uno,2024-01-01,\n")
    app.load()
    assert app.query(NAMES) == [("1", "One"), ("2", "Two")]
    app.write("accounts-0b.csv", HEAD + "2,Dos,2024-01-01,\n")
    app.load()
    assert app.query(NAMES) == [("1", "One"), ("2", "Dos")]


@pytest.mark.parametrize("piece", [10, 10**9])
def test_in_one_run_the_later_name_stands_whatever_the_columns_and_pieces(company, monkeypatch, piece):
    monkeypatch.setattr("sources.files.CHUNK_BYTES", piece)
    columns = {"account_id": "id", "name": "name", "created_at": "created"}
    company.streams(accounts={"files": "accounts*", "columns": columns}, usage_events=EVENTS)
    company.write("accounts-0.csv", "id,name,created\n0,Zero,2024-01-01\n")
    company.load()
    company.write("accounts-1.csv", "id,name,created\n1,first,2024-01-01\n0,first,2024-01-01\n")
    company.write("accounts-2.csv", "id,created,name\n1,2024-01-01,second\n0,2024-01-01,second\n")
    company.write("accounts-3.csv", "id,name,created\n1,third,2024-01-01\n0,third,2024-01-01\n")
    assert company.load()["accounts"].adds_up
    assert company.query(NAMES) == [("0", "third"), ("1", "third")]


def test_a_repeated_event_is_loaded_once(company):
    company.write("accounts.csv", HEAD + "1,One,2024-01-01,\n")
    company.streams(accounts=ACCOUNTS, usage_events=KEYED)
    company.write(
        "events-1.csv", "id,account,event,at\na,1,login,2024-02-01\na,1,login,2024-02-01\nb,1,login,2024-02-01\n"
    )
    assert outcome(company.load()["usage_events"]) == (3, 2, 0, 0, 1, 0)
    company.write(
        "events-2.csv", "id,account,event,at\nb,1,login,2024-02-01\nc,1,login,2024-02-02\nc,1,login,2024-02-02\n"
    )
    assert outcome(company.load()["usage_events"]) == (3, 1, 0, 1, 1, 0)


def test_a_corrected_event_restates_the_day_it_was_on(company):
    company.write("accounts.csv", HEAD + "1,One,2024-01-01,\n")
    company.streams(accounts=ACCOUNTS, usage_events=KEYED)
    company.write("events-1.csv", "id,account,event,at\na,1,login,2024-02-01\n")
    company.load()
    company.write("events-2.csv", "id,account,event,at\na,1,login,2024-02-03\n")
    assert outcome(company.load()["usage_events"]) == (1, 0, 1, 0, 0, 0)
    days = company.query(
        "select source, account_id, cast(activity_date as varchar), loaded_at from ledger.restated_days"
    )
    assert days == [("app", "1", "2024-02-01", company.now)]


def test_rows_wait_in_quarantine_until_their_account_is_known(app):
    app.write("events-1.csv", "account,event,at\n3,login,2024-02-01\n4,login,2024-02-01\n")
    assert app.load()["usage_events"].rows_quarantined == 2
    app.write("accounts-2.csv", HEAD + "3,Three,2024-01-01,2024-01-01\n")
    report = app.load()["usage_events"]
    assert (report.status, report.rows_read, report.rows_released) == ("loaded", 0, 1)
    assert app.query("select account_id from raw_files.usage_events") == [("3",)]
    assert app.quarantined("usage_events") == [("events-1.csv", 3, "unknown_account")]
    assert app.load()["usage_events"].status == "unchanged"


def test_a_released_row_does_not_replace_a_newer_one(company):
    company.write("accounts.csv", HEAD + "1,One,2024-01-01,\n")
    company.streams(accounts=ACCOUNTS, usage_events=KEYED)
    company.write("events-1.csv", "id,account,event,at\na,2,first,2024-02-01\n")
    company.load()
    company.write("events-2.csv", "id,account,event,at\na,1,second,2024-02-01\n")
    company.load()
    company.write("accounts-2.csv", HEAD + "2,Two,2024-01-01,\n")
    assert company.load()["usage_events"].rows_released == 1
    assert company.query("select account_id, event_name from raw_files.usage_events") == [("1", "second")]
    assert company.quarantined("usage_events") == []


def test_accounts_of_another_source_are_the_ones_that_count(company):
    for name, text in {
        "crm/accounts.csv": HEAD + "1,One,2024-01-01,\n",
        "app/events.csv": "account,event,at\n1,login,2024-02-01\n2,login,2024-02-01\n",
    }.items():
        company.write(name, text)
    company.sources(
        app={
            "connector": "files",
            "path": str(company.data / "app"),
            "account_source": "crm",
            "streams": {"usage_events": EVENTS},
        },
        crm={"connector": "files", "path": str(company.data / "crm"), "streams": {"accounts": ACCOUNTS}},
    )
    company.load()
    assert company.query("select _source, _account_source, account_id from raw_files.usage_events") == [
        ("app", "crm", "1")
    ]
    assert company.quarantined("usage_events") == [("events.csv", 3, "unknown_account")]


def test_two_sources_with_the_same_keys_keep_their_own_rows(company):
    for source in ("eu", "us"):
        company.write(f"{source}/accounts.csv", HEAD + f"1,One of {source},2024-01-01,2024-01-01\n")
        company.write(f"{source}/events.csv", "account,event,at\n1,login,2024-02-01\n")
    company.sources(
        **{
            source: {
                "connector": "files",
                "path": str(company.data / source),
                "streams": {"accounts": ACCOUNTS, "usage_events": EVENTS},
            }
            for source in ("eu", "us")
        }
    )
    company.load()
    company.write("us/accounts-2.csv", HEAD + "1,Renamed,2024-01-01,2024-02-01\n")
    company.load()
    assert company.query("select _source, name from raw_files.accounts order by 1") == [
        ("eu", "One of eu"),
        ("us", "Renamed"),
    ]


def test_two_streams_of_one_entity_keep_their_own_rows(company):
    company.write("accounts.csv", HEAD + "1,One,2024-01-01,\n")
    company.write("events.csv", "id,account,event,at\n7,1,login,2024-02-01\n")
    company.write("exports.csv", "id,account,event,at\n7,1,export,2024-02-01\n")
    company.streams(
        accounts=ACCOUNTS,
        usage_events=KEYED,
        exports={**KEYED, "entity": "usage_events", "files": "exports*"},
    )
    company.load()
    company.load()
    assert company.query("select _stream, event_name from raw_files.usage_events order by 1") == [
        ("exports", "export"),
        ("usage_events", "login"),
    ]


def test_a_full_reload_ends_in_what_the_files_say_now(app):
    app.write("events-1.csv", "account,event,at\n1,login,2024-02-01\n9,login,2024-02-01\n")
    gone = app.write("events-2.csv", "account,event,at\n2,login,2024-02-01\n")
    app.load()
    before = app.contents()
    assert outcome(app.load(full=True)["usage_events"]) == (3, 2, 0, 0, 0, 1)
    assert app.contents() == before
    gone.unlink()
    app.load(full=True)
    assert app.query("select account_id from raw_files.usage_events") == [("1",)]
    assert app.load()["usage_events"].status == "unchanged"


def test_every_row_says_where_from_when_and_by_which_run(app):
    app.load()
    found = app.query("select _source, _stream, _file, _loaded_at, _run_id from raw_files.accounts")
    assert set(found) == {("app", "accounts", str(app.data / "accounts-1.csv"), app.now, "run 1")}


def test_what_may_be_there_later_is_raised_until_the_last_attempt(app):
    path = app.write("events.csv", "account,event,at\n1,login")
    app.touch(path, app.now.timestamp() + 60 - 1 - path.stat().st_mtime)
    before = app.loads
    with pytest.raises(Retriable, match="may still be being written"):
        app.load(last_attempt=False)
    app.loads = before
    assert app.load(last_attempt=True)["usage_events"].status == "stopped"
    assert app.query("select count(*) from ledger.loads where stream = 'usage_events'") == [(1,)]


CHILD = """
import sys, time
from datetime import datetime
from pathlib import Path
import core.warehouse, core.settings
from sources import ledger
from sources.base import open_stream, stream_ids
from sources.load import load_stream, prepare

tenure = core.settings.load(Path(sys.argv[1]), home=Path(sys.argv[2]))
now = datetime(2024, 6, 2)
with core.warehouse.warehouse(tenure.warehouse_path, temp_directory=tenure.temp_directory) as connection:
    streams = stream_ids(tenure.config)
    ledger.ensure_tables(connection, streams)
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    def load(own, stream):
        opened = open_stream(stream, tenure.config.sources[stream.source], now=now, temp_directory=tenure.temp_directory)
        load_stream(own, opened, tenure, now=now, run_id="child")
    prepare(connection)
    accounts, events = streams[:1], streams[1:]
    for part in (accounts, events):
        core.warehouse.side_by_side(connection, load, part)
    sys.stdout.write("done\\n"); sys.stdout.flush()
"""


def child(company) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    home = company.tenure.home
    command = [sys.executable, "-c", CHILD, str(company.folder / "tenure.yml"), str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)})


BOTH = "(select _stream from raw_files.usage_events union all select _stream from quarantine.usage_events)"

TOLD = "select stream, rows_inserted + rows_quarantined from ledger.loads where entity = 'usage_events' order by all"


@pytest.mark.slow
def test_a_load_side_by_side_that_is_killed_midway_and_run_again_ends_in_the_same_tables(company):
    rows = 30_000
    company.write("accounts.csv", HEAD + "".join(f"{n},Name {n},2024-01-01,2024-01-01\n" for n in range(500)))
    for day in (1, 2, 3):
        lines = (f"{day}-{n % (rows - 50)},{n % 600},login,2024-02-0{day}\n" for n in range(rows))
        company.write(f"events-{day}.csv", "id,account,event,at\n" + "".join(lines))
    by_day = {f"day_{day}": {**KEYED, "entity": "usage_events", "files": f"events-{day}.csv"} for day in (1, 2, 3)}
    company.streams(accounts=ACCOUNTS, **by_day)
    whole = child(company)
    assert whole.stdout.readline() == "ready\n"
    started = time.monotonic()
    assert whole.stdout.read() == "done\n"
    duration = time.monotonic() - started
    assert whole.wait() == 0
    expected = company.contents()
    assert len(expected["raw_files.usage_events"]) + len(expected["quarantine.usage_events"]) > 2 * rows

    killed = 0
    for share in (0.3, 0.6, 0.9):
        company.tenure.warehouse_path.unlink()
        process = child(company)
        assert process.stdout.readline() == "ready\n"
        time.sleep(duration * share)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        told = company.query(TOLD)
        assert company.query(f"select _stream, count(*) from {BOTH} group by all order by all") == told
        assert child(company).wait() == 0
        assert company.contents() == expected
    assert killed > 0


class Odd:
    """A stream whose input nobody thought of."""

    def __init__(self, stream, config):
        self.id, self.config = stream, config

    def chunks(self, connection, *, full, sample_rows=None):
        yield from ()
        raise ZeroDivisionError("of all things")

    def progress(self):
        return Progress()


def test_an_exception_that_nobody_thought_of_stops_its_stream_only(company):
    company.streams(accounts=ACCOUNTS, usage_events=EVENTS)
    company.write("accounts.csv", HEAD + "1,One,2024-01-01,\n")
    company.load()
    before = company.contents()
    tenure = company.tenure
    with warehouse.warehouse(tenure.warehouse_path, temp_directory=tenure.temp_directory) as connection:
        accounts = stream_ids(tenure.config)[0]
        config = tenure.config.sources["app"].streams["accounts"]
        for stream in (Odd(accounts, config), Unopened(accounts, config, KeyError("door"))):
            report = load_stream(connection, stream, tenure, now=company.now, run_id="odd")
            assert report.status == "stopped"
            assert report.message.startswith("app/accounts: accounts cannot be read: ")
        found = connection.execute("select status, message from ledger.loads where run_id = 'odd'").fetchall()
        assert found == [("stopped", report.message)]
    assert company.contents() == before


def test_a_source_that_cannot_be_opened_stops_its_streams_and_no_other(company):
    company.streams(accounts=ACCOUNTS, usage_events={**EVENTS, "files": "events.csv"})
    company.document["sources"]["db"] = {
        "connector": "database",
        "url": "nosuch://host/name",
        "streams": {"accounts": {"table": "t", "columns": {"account_id": "id"}, "primary_key": "id"}},
    }
    company.write("accounts.csv", HEAD + "1,One,2024-01-01,\n")
    tenure = company.tenure
    with warehouse.warehouse(tenure.warehouse_path, temp_directory=tenure.temp_directory) as connection:
        streams = stream_ids(tenure.config)
        ledger.ensure_tables(connection, streams)
        statuses = {}
        for stream in streams:
            source = tenure.config.sources[stream.source]
            opened = open_stream(stream, source, now=company.now, temp_directory=tenure.temp_directory)
            statuses[stream.label] = load_stream(connection, opened, tenure, now=company.now, run_id="r").status
    assert statuses == {"app/accounts": "loaded", "db/accounts": "stopped", "app/usage_events": "stopped"}
