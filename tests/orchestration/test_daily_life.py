"""A company over some days: the same input again, a new day, late rows, a replay, a broken file, two runs at once."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.locks import RunLock
from orchestration.instance import open_instance

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def days(new_home: Callable[..., Any], published_rows_of: Callable[[Path], Any]) -> dict[str, Any]:
    """A small company that tests may change: a run, and another one three days later."""
    home = new_home("days", accounts=120, months=6)
    serving = home.path / "serving.duckdb"
    told: dict[str, Any] = {"home": home, "first": home.must("run"), "first_rows": published_rows_of(serving)}
    home.must("sandbox", "advance", "--days", "3")
    told["third"], told["third_rows"] = home.must("run"), published_rows_of(serving)
    return told


def test_the_same_input_again_loads_nothing_and_changes_nothing(lived: dict[str, Any]) -> None:
    loads = lived["second"]["published"]["loads"]
    assert len(loads) == 11
    assert all(load["rows_read"] == 0 and load["status"] == "unchanged" for load in loads)
    assert lived["second_rows"] == lived["first_rows"]


def test_a_new_day_reads_the_new_files_only(lived: dict[str, Any]) -> None:
    home = lived["home"]
    written = lived["advanced"]["rows_written"]["product/events"]
    (load,) = [load for load in lived["third"]["published"]["loads"] if load["stream"] == "usage_events"]
    (first,) = [load for load in lived["first"]["published"]["loads"] if load["stream"] == "usage_events"]
    assert 0 < written < first["rows_read"] / 10
    assert load["rows_read"] == written
    (clock,) = home.ask("select max(as_of_date) as day from marts.accounts")
    assert str(clock["day"]) == lived["third"]["published"]["as_of"][:10] > lived["first"]["published"]["as_of"][:10]


def test_late_events_restate_the_days_they_happened_on(lived: dict[str, Any]) -> None:
    assert lived["third_rows"]["marts.account_days"][0] > lived["second_rows"]["marts.account_days"][0]
    home = lived["home"]
    # Days counted one by one from the events as they are loaded now, beside the mart.
    from core import warehouse

    with warehouse.warehouse(home.path / "warehouse.duckdb", read_only=True) as connection:
        wrong = warehouse.rows(
            connection,
            """
            with counted as (
                select s.account_id, cast(e.occurred_at as date) as day, count(*) as events, count(distinct e.user_id) as users
                from raw_files.usage_events as e
                join marts.account_sources as s on s.source = e._account_source and s.source_account_id = e.account_id
                where e.occurred_at < (select as_of_at from ledger.clock)
                group by all
            )
            select count(*) as n from counted as c
            full join marts.account_days as d on d.account_id = c.account_id and d.activity_date = c.day
            where c.events is distinct from d.events or c.users is distinct from d.active_users
            """,
        )
    assert wrong[0]["n"] == 0


def test_a_reader_sees_whole_publications_and_no_error(lived: dict[str, Any]) -> None:
    import json

    out, err = lived["reader"]
    assert err == ""
    report = json.loads(out)
    assert report["mixed"] == []
    assert len(report["seen"]) == 3
    assert report["opens"] > 30


@pytest.mark.slow
def test_a_replay_rebuilds_a_past_day_and_leaves_the_published_copy_alone(
    days: dict[str, Any], published_rows_of: Callable[[Path], Any]
) -> None:
    home = days["home"]
    before = (home.path / "serving.duckdb").read_bytes()
    history = _history(home)
    first_day = days["first"]["published"]["as_of"][:10]
    replayed = home.must("run", "--as-of", first_day)
    rows = published_rows_of(Path(replayed["published"]["path"]))
    # As of the first run's day, with what arrived since: late events fill days, but no account or subscription differs.
    assert rows["marts.accounts"][0] == days["first_rows"]["marts.accounts"][0]
    assert rows["marts.mrr_movements"] == days["first_rows"]["marts.mrr_movements"]
    assert rows["marts.account_days"][0] >= days["first_rows"]["marts.account_days"][0]
    assert (home.path / "serving.duckdb").read_bytes() == before
    assert _history(home) == history
    refused = home.run("publish", "--json")
    assert refused.code == 1
    assert "replay" in refused.document["problems"][0]
    home.must("run")
    assert published_rows_of(home.path / "serving.duckdb") == days["third_rows"]


def _history(home: Any) -> list[Any]:
    from core import warehouse

    with warehouse.warehouse(home.path / "warehouse.duckdb", read_only=True) as connection:
        return warehouse.rows(connection, "select * from history.accounts_history order by all")


@pytest.mark.slow
def test_a_broken_file_stops_its_stream_only_and_the_run_says_so(days: dict[str, Any]) -> None:
    home = days["home"]
    tickets = home.path / "sandbox" / "data" / "support" / "tickets"
    whole = sorted(tickets.iterdir())[-1].read_bytes()
    broken = tickets / "2031-01-01.csv.zst"
    broken.write_bytes(whole[: len(whole) // 2])
    before = home.ask("select count(*) as n from marts.tickets")
    home.must("sandbox", "advance")
    answer = home.run("run", "--json")
    assert answer.code == 1
    assert answer.document["status"] == "stopped"
    assert str(broken) in answer.document["problems"][0]
    statuses = {(load["source"], load["stream"]): load["status"] for load in answer.document["published"]["loads"]}
    assert statuses[("support", "tickets")] == "stopped"
    assert statuses[("product", "usage_events")] == "loaded"
    assert home.ask("select count(*) as n from marts.tickets") == before
    newest = home.run("status", "--json").document["runs"][0]
    assert newest["status"] == "stopped"
    with open_instance(home.path) as instance:
        run = instance.get_run_by_id(newest["run_id"])
        assert run is not None
        assert run.tags["tenure/result"] == "with errors"
    broken.unlink()
    assert home.run("run").code == 0


@pytest.mark.slow
def test_a_second_run_waits_for_the_first(days: dict[str, Any]) -> None:
    home = days["home"]
    one = home.start("run", "--json")
    time.sleep(1.0)
    two = home.start("run", "--json")
    for process in (one, two):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    newest = home.must("status")["runs"][:2]
    assert [run["status"] for run in newest] == ["done", "done"]


@pytest.mark.slow
def test_a_run_that_is_stopped_while_it_waits_says_so(days: dict[str, Any]) -> None:
    home = days["home"]
    lock = RunLock(home.path / "run.lock")
    lock.acquire("the-other-run", wait_seconds=10, on_wait=lambda holder: None)
    try:
        waiting = home.start("run", "--json")
        assert any("Waiting for run the-other-run" in line for line in waiting.stderr)
        waiting.send_signal(signal.SIGTERM)
        out, err = waiting.communicate(timeout=120)
    finally:
        lock.release()
    assert waiting.returncode == 1, err
    assert "Stopped by a signal while it was waiting" in json.loads(out)["problems"][0]
    assert home.must("run")["status"] == "done"
