"""The engine against a vendor over real HTTP, when the vendor fails: what the issue's list asks, one sentence a test.

What the engine makes of each error word is in `test_sending.py`; here the words come from answers, and the destination is looked at.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from activation.destinations.hubspot import HubSpot

PROJECT = Path(__file__).parents[2]
WRITES = "/batch/update"


@pytest.fixture
def there(hubspot_stand: Any, kit: Any) -> Any:
    """HubSpot with eight rows to send to it."""
    hubspot_stand.sync.published.put(kit.some_rows(8))
    return hubspot_stand


def scores(stand: Any) -> dict[str, float]:
    return {key: values["score"] for key, values in stand.contents().items() if "score" in values}


def expected(rows: int = 8) -> dict[str, float]:
    return {f"k{n:02d}": n / 100 for n in range(rows)}


def test_a_batch_that_is_refused_as_a_whole_is_halved_until_the_bad_row_is_found(there: Any) -> None:
    there.vendor.fail("refuse", times=4, match=WRITES)
    report = there.sync.run()
    assert (report.status, report.counts.ok, report.counts.rejected) == ("partial", 7, 1)
    assert there.write_calls == 7  # 8, 4, 2, 1 are refused; 1, 2, 4 are not
    assert [failure["key"] for failure in report.failures] == ["k00"]
    assert there.sync.run().counts.ok == 1
    assert scores(there) == expected()


def test_of_a_207_the_rows_that_failed_are_kept_and_ride_again(there: Any) -> None:
    there.vendor.fail("partial", match=WRITES)
    report = there.sync.run()
    assert (report.status, report.counts.ok, report.counts.rejected) == ("partial", 4, 4)
    assert {change["http_status"] for change in there.sync.table("sync_changes")} == {207}
    assert set(scores(there)) == {
        change["key"] for change in there.sync.table("sync_changes") if change["status"] == "ok"
    }
    again = there.sync.run()
    assert (again.counts.ok, again.counts.unchanged) == (4, 4)
    assert scores(there) == expected()


def test_a_success_that_accounts_for_nothing_is_not_believed(there: Any) -> None:
    there.vendor.fail("silent", times=99, match=WRITES)
    report = there.sync.run()
    assert (report.status, report.counts.ok, report.counts.retriable) == ("partial", 0, 8)
    assert there.write_calls == there.config.retry.tries
    assert there.sync.kept()["k00"]["state"] == "failed"


@pytest.mark.parametrize("kind", ["shuffle", "bare"])
def test_answers_in_another_order_are_matched_to_their_rows(there: Any, kind: str) -> None:
    there.vendor.fail(kind, match=WRITES)
    assert there.sync.run().counts.ok == 8
    assert {key: row["remote_id"] for key, row in there.sync.kept().items()} == {key: key for key in expected()}


@pytest.mark.parametrize(
    ("form", "least", "most"),
    [
        ({"kind": "status", "status": 429}, 10, 11),
        ({"kind": "status", "status": 429, "headers": {"Retry-After": "17"}}, 17, 18),
        ({"kind": "throttle", "policy": "TEN_SECONDLY_ROLLING"}, 10, 11),
    ],
)
def test_a_429_is_waited_for_as_long_as_it_asks(there: Any, form: dict[str, Any], least: float, most: float) -> None:
    there.vendor.fail(match=WRITES, **form)
    report = there.sync.run()
    assert (report.status, report.counts.ok) == ("done", 8)
    (waited,) = there.sync.waited
    assert least <= waited <= most


def test_a_429_with_a_date_is_waited_for_until_then(there: Any) -> None:
    at = datetime.now(UTC) + timedelta(seconds=60)
    there.vendor.fail("status", status=429, headers={"Retry-After": format_datetime(at, usegmt=True)}, match=WRITES)
    assert there.sync.run().status == "done"
    (waited,) = there.sync.waited
    assert 50 <= waited <= 61


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "throttle", "policy": "DAILY"},
        {"kind": "status", "status": 429, "headers": {"Retry-After": "86400"}},
        {"kind": "status", "status": 429, "headers": {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}},
    ],
)
def test_a_429_of_the_day_defers_the_rest_to_the_next_run(there: Any, form: dict[str, Any]) -> None:
    there.vendor.fail(match=WRITES, **form)
    report = there.sync.run()
    assert (report.status, report.counts.deferred, report.exit_code) == ("deferred", 8, 1)
    assert there.sync.waited == []
    assert there.write_calls == 1
    assert there.sync.run().counts.ok == 8


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_that_fails_and_then_answers_is_no_failure(there: Any, status: int) -> None:
    there.vendor.fail("status", status=status, times=2, match=WRITES)
    report = there.sync.run()
    assert (report.status, report.counts.ok, report.counts.calls) == ("done", 8, 3)
    assert len(there.sync.waited) == 2
    assert scores(there) == expected()


@pytest.mark.parametrize("kind", ["hang", "reset"])
def test_a_write_that_was_applied_but_not_answered_is_repeated_and_right(there: Any, kind: str) -> None:
    there.sync.destination = lambda config, occasion: HubSpot(
        config.token.get_secret_value(), base_url=config.base_url, timeout=0.3
    )
    there.vendor.fail(kind, match=WRITES)
    report = there.sync.run()
    assert (report.status, report.counts.ok, there.write_calls) == ("done", 8, 2)
    assert scores(there) == expected()
    assert there.sync.run().counts.calls == 0


def test_a_401_stops_the_run_after_one_call(there: Any) -> None:
    there.vendor.fail("status", status=401, times=9, match=WRITES)
    there.sync.config = there.config.model_copy(update={"batch_rows": 2})
    report = there.sync.run()
    assert (report.status, report.counts.deferred, there.write_calls) == ("stopped", 8, 1)


def test_a_403_stops_the_run_and_names_the_scope_that_is_missing(there: Any) -> None:
    there.vendor.fail("status", status=403, scope="crm.objects.companies.write", match=WRITES)
    report = there.sync.run()
    assert (report.status, report.counts.deferred, there.write_calls) == ("stopped", 8, 1)
    assert "crm.objects.companies.write" in report.error


def test_a_field_that_is_missing_there_is_told_before_anything_is_sent(there: Any, kit: Any) -> None:
    columns = {"id": "varchar", "score": "double", "our_new_field": "varchar"}
    there.sync.published.put([{"id": "a", "score": 0.1, "our_new_field": "x"}], columns)
    report = there.sync.run()
    assert (report.status, report.counts.deferred, there.write_calls) == ("stopped", 1, 0)
    assert "our_new_field" in report.error
    assert "tenure sync setup" in report.hint
    assert there.contents() == {}


def test_a_dry_run_tells_what_would_stop_the_sync_and_only_reads(there: Any) -> None:
    columns = {"id": "varchar", "score": "double", "one_new": "varchar", "two_new": "varchar"}
    there.sync.published.put([{"id": "a", "score": 0.1, "one_new": "x", "two_new": "y"}], columns)
    report = there.sync.run(dry_run=True)
    assert (report.status, len(report.changes), there.write_calls) == ("planned", 1, 0)
    assert ["one_new" in problem.what or "two_new" in problem.what for problem in report.problems] == [True, True]
    assert {"one_new", "two_new"}.isdisjoint(there.vendor.store.all("properties"))
    assert not (there.folder / "sync.db").exists()
    # A vendor that cannot be asked is no reason to show nothing.
    there.vendor.fail("status", status=503, times=99)
    report = there.sync.run(dry_run=True)
    assert (report.status, len(report.changes), report.problems) == ("planned", 1, [])
    assert "could not be looked at" in report.warnings[0]
    assert there.sync.waited == []


def test_a_row_that_left_the_model_loses_our_fields_and_nothing_else(there: Any, kit: Any) -> None:
    there.vendor.seed([{"id": "k07", "name": "Seven Ltd"}])
    there.sync.run()
    there.sync.published.put(kit.some_rows(7))
    assert there.sync.run().counts.retired == 1
    assert there.vendor.company("k07") == {"name": "Seven Ltd", "hs_object_id": "k07"}


def test_a_company_that_is_gone_is_parked_after_some_attempts_until_it_is_released(there: Any) -> None:
    there.vendor.archive("k03")
    for _ in range(there.config.max_attempts):
        assert there.sync.run().counts.rejected == 1
    calls = there.write_calls
    report = there.sync.run()
    assert (report.status, report.counts.parked, there.write_calls) == ("done", 1, calls)
    assert there.sync.kept()["k03"]["last_error_code"] == "not_found"
    there.vendor.store.put("companies", {"k03": {**there.vendor.store.get("companies", "k03"), "archived": False}})
    ledger = there.sync.ledger()
    assert ledger.release("shelf", ["k03"]) == 1
    ledger.close()
    assert there.sync.run().counts.ok == 1
    assert scores(there) == expected()


def test_a_vendor_that_repeats_our_token_does_not_bring_it_into_an_error_or_the_ledger(there: Any) -> None:
    canary = "pat-canary-5f1c0d"
    there.vendor.tokens[canary] = there.vendor.tokens[next(iter(there.vendor.tokens))]
    there.sync.config = type(there.config).model_validate(
        {**there.config.model_dump(exclude_unset=True), "token": canary}
    )
    there.vendor.fail("echo", times=4, match=WRITES)
    report = there.sync.run()
    assert report.counts.rejected == 1
    assert "your token is" in report.failures[0]["error"]
    assert canary not in json.dumps(report.document(), default=str)
    for path in there.folder.rglob("*"):
        assert not path.is_file() or canary.encode() not in path.read_bytes(), path


KILLED = """
import os, random, signal, sys
from pathlib import Path
sys.path.insert(0, {project!r})
from activation import engine
from activation.connect import Occasion, open_destination
from activation.ledger import Ledger
from core.settings import utc_now
from core.sync_settings import HubSpotConfig

class Killed(Ledger):
    commits = 0
    def record(self, *arguments, **options):
        Killed.commits += 1
        if Killed.commits == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        super().record(*arguments, **options)

folder = Path(sys.argv[1])
config = HubSpotConfig(connector="hubspot", token={token!r}, base_url=sys.argv[2], model="scores", key="id", batch_rows=3,
    guards={{"max_source_age_hours": None}})
request = engine.Request("shelf", config, "killed", folder / "serving.duckdb", folder / "locks")
engine.sync(request, Killed("sqlite:///" + str(folder / "sync.db")),
    lambda mapping: open_destination(config, Occasion(mapping.described(), "killed", utc_now())), world=engine.World())
"""


def test_killed_between_the_answer_and_the_commit_the_next_run_repeats_one_batch(there: Any) -> None:
    script = KILLED.format(project=str(PROJECT), token=there.config.token.get_secret_value())
    command = [sys.executable, "-c", script, str(there.folder), there.config.base_url]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert set(scores(there)) == {f"k{n:02d}" for n in range(6)}
    assert {key for key, row in there.sync.kept().items() if row["in_doubt_run_id"]} == {"k03", "k04", "k05"}
    there.sync.now = datetime.now(UTC).replace(tzinfo=None)
    there.sync.published.at = there.sync.now
    there.sync.config = there.config.model_copy(
        update={"guards": there.config.guards.model_copy(update={"max_source_age_hours": None})}
    )
    report = there.sync.run()
    assert (report.status, report.counts.ok, report.counts.unchanged) == ("done", 5, 3)
    assert scores(there) == expected()
    assert there.sync.run().counts.calls == 0


@given(
    faults=st.lists(
        st.sampled_from(["refuse", "partial", "silent", "shuffle", "bare", "reset", "throttle", "500", "401", "403"]),
        max_size=6,
    ),
    days=st.lists(st.dictionaries(st.integers(0, 9), st.integers(0, 4), max_size=9), min_size=1, max_size=2),
    batch_rows=st.integers(2, 5),
)
@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_the_vendor_answers_counts_add_up_and_in_the_end_it_has_the_right_values(
    hubspot_stand: Any, kit: Any, faults: list[str], days: Any, batch_rows: int
) -> None:
    stand = hubspot_stand
    stand.vendor.forget()
    stand.sync.config = stand.config.model_copy(
        update={
            "batch_rows": batch_rows,
            "max_attempts": 100,
            "retry": stand.config.retry.model_copy(update={"tries": 2}),
        }
    )
    for kind in faults:
        form = {"kind": "status", "status": int(kind)} if kind.isdigit() else {"kind": kind}
        stand.vendor.fail(match=WRITES, **form)
    rows: list[dict[str, Any]] = []
    for wanted in days:
        rows = [kit.row(f"k{n:02d}", value / 4) for n, value in wanted.items()]
        stand.sync.published.put(rows)
        stand.sync.run(override=True)  # asserts that the counts add up
    stand.vendor.faults.clear()
    assert stand.sync.run(override=True).status == "done"
    assert scores(stand) == {row["id"]: row["score"] for row in rows}
    assert stand.sync.run(override=True).counts.calls == 0
