"""Faults of a destination, and what becomes of the rows: retried, halved, stopped, deferred, parked; and the counts add up."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import BatchRefused, Fatal, Forbidden, Retriable, Unauthorized


def test_a_refused_batch_is_halved_until_the_bad_row_is_found(sync: Any, kit: Any) -> None:
    sync.destination.batch_rows = 8
    sync.destination.always = kit.bad_keys("k05")
    sync.published.put(kit.some_rows(8))
    report = sync.run()
    assert (report.status, report.counts.ok, report.counts.rejected) == ("partial", 7, 1)
    assert report.failures[0]["key"] == "k05"
    assert len(sync.destination.calls) == 7  # 8, 4, 4, 2, 1, 1, 2
    assert sync.kept()["k05"]["last_error_code"] == "refused"


def test_a_batch_that_is_wrong_as_a_whole_ends_the_run_instead_of_thousands_of_calls(sync: Any, kit: Any) -> None:
    sync.destination.batch_rows = 100
    sync.destination.always = kit.raising(BatchRefused("the shelf answered 400: no such field."))
    sync.published.put([kit.row(f"k{n:03d}") for n in range(300)])
    report = sync.run()
    assert report.status == "stopped"
    assert "no such field" in report.error
    assert len(sync.destination.calls) < 60
    assert report.counts.deferred > 250


def test_rows_that_fail_leave_the_others_of_their_batch_alone(sync: Any, kit: Any) -> None:
    sync.destination.schedule = [kit.answering("rejected", "k01")]
    sync.published.put(kit.some_rows(3))
    report = sync.run()
    assert (report.counts.ok, report.counts.rejected) == (2, 1)
    assert report.failures == [
        {"key": "k01", "status": "rejected", "http_status": 400, "error_code": "bad_value", "error": "Not this value."}
    ]
    assert sync.run().counts.ok == 1


def test_an_answer_that_accounts_for_nothing_is_a_failure(sync: Any, kit: Any) -> None:
    sync.destination.always = lambda shelf, batch: []
    sync.published.put(kit.some_rows(3))
    report = sync.run()
    assert (report.counts.ok, report.counts.retriable) == (0, 3)
    assert sync.kept()["k00"]["last_error_code"] == "no_answer"


def test_answers_in_any_order_are_matched_by_key(sync: Any, kit: Any) -> None:
    sync.destination.always = lambda shelf, batch: list(reversed(shelf.apply(batch)))
    sync.published.put(kit.some_rows(3))
    assert sync.run().counts.ok == 3
    assert sync.kept()["k02"]["remote_id"] == "r-k02"


def test_double_and_unknown_answers_are_not_taken_for_success(sync: Any, kit: Any) -> None:
    def confused(shelf: Any, batch: Any) -> Any:
        good = shelf.apply(batch)
        stranger = good[0].__class__("nobody", "ok")
        return [good[0], good[0], *good[2:], stranger]

    sync.destination.always = confused
    sync.published.put(kit.some_rows(3))
    report = sync.run()
    assert (report.counts.ok, report.counts.retriable) == (1, 2)
    assert {failure["key"]: failure["error_code"] for failure in report.failures} == {
        "k00": "answered_twice",
        "k01": "no_answer",
    }
    assert report.warnings


def test_what_may_work_a_moment_later_is_tried_again_with_patience(sync: Any, kit: Any) -> None:
    down = kit.raising(Retriable("the shelf answered 503."))
    asked = kit.raising(Retriable("the shelf answered 429.", retry_after=17.0))
    sync.destination.schedule = [down, down, asked]
    sync.published.put(kit.some_rows(2))
    assert sync.run().status == "done"
    first, second, third = sync.waited
    assert 0.5 <= first <= 1.0
    assert 1.0 <= second <= 2.0
    assert 17.0 <= third <= 18.0


def test_a_long_wait_defers_the_rest_to_the_next_run(sync: Any, kit: Any) -> None:
    sync.destination.schedule = [None, kit.raising(Retriable("the daily limit is reached", retry_after=9000.0))]
    sync.published.put(kit.some_rows(9))
    report = sync.run()
    assert (report.status, report.counts.ok, report.counts.deferred) == ("deferred", 3, 6)
    assert "9,000 s" in report.error
    assert sync.waited == []
    assert sync.run().counts.ok == 6


def test_an_outage_defers_the_rest_and_parks_nobody(sync: Any, kit: Any) -> None:
    sync.destination.always = kit.raising(Retriable("the shelf does not answer: ConnectTimeout."))
    sync.published.put(kit.some_rows(20))
    for _ in range(sync.config.max_attempts + 1):
        report = sync.run()
        assert report.status == "deferred"
        assert len(sync.destination.calls) == 2 * sync.config.retry.tries
        sync.destination.calls.clear()
    sync.destination.always = None
    assert sync.run().counts.ok == 20


def test_a_time_out_after_the_write_was_applied_ends_with_the_right_values(sync: Any, kit: Any) -> None:
    sync.destination.schedule = [kit.raising(Retriable("the shelf does not answer: ReadTimeout."), applied=True)]
    sync.published.put(kit.some_rows(3))
    assert sync.run().counts.ok == 3
    assert {key: values["score"] for key, values in sync.destination.rows.items()} == {
        "k00": 0.0,
        "k01": 0.01,
        "k02": 0.02,
    }


def test_a_value_that_went_and_came_back_during_an_outage_is_sent_again(sync: Any, kit: Any) -> None:
    sync.published.put([kit.row("a", 0.1)])
    sync.run()
    sync.published.put([kit.row("a", 0.9)])
    sync.destination.always = kit.raising(Retriable("the shelf does not answer: ReadTimeout."), applied=True)
    sync.run()
    assert sync.destination.rows["a"]["score"] == 0.9
    sync.destination.always = None
    sync.published.put([kit.row("a", 0.1)])
    assert sync.run().counts.ok == 1
    assert sync.destination.rows["a"]["score"] == 0.1


def test_unknown_credentials_are_renewed_once_and_then_stop_the_run(sync: Any, kit: Any) -> None:
    sync.destination = kit.RefreshingShelf()
    stale = kit.raising(Unauthorized("the shelf answered 401."))
    sync.published.put(kit.some_rows(6))
    sync.destination.schedule = [stale]
    assert sync.run().status == "done"
    assert sync.destination.refreshes == 1
    sync.published.put(kit.some_rows(6, k00=0.9, k05=0.8))
    sync.destination.always = stale
    report = sync.run()
    assert (report.status, report.counts.ok, report.counts.deferred) == ("stopped", 0, 2)
    assert sync.destination.refreshes == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unauthorized("the shelf answered 401."), "401"),
        (Forbidden("the scope crm.objects.companies.write is missing."), "crm.objects.companies.write"),
        (Fatal("the shelf answered 404."), "404"),
    ],
)
def test_what_no_patience_mends_stops_the_whole_run_at_once(sync: Any, kit: Any, error: Any, said: str) -> None:
    sync.destination.schedule = [None, kit.raising(error)]
    sync.published.put(kit.some_rows(9))
    report = sync.run()
    assert (report.status, report.counts.ok, report.counts.deferred) == ("stopped", 3, 6)
    assert said in report.error
    assert len(sync.destination.calls) == 2
    assert report.exit_code == 1


def test_what_is_missing_there_is_told_before_the_first_row(sync: Any, kit: Any) -> None:
    from activation.base import Problem

    sync.destination.problems = [Problem("The field tier is missing.", "tenure sync setup shelf")]
    sync.published.put(kit.some_rows(3))
    report = sync.run()
    assert (report.status, report.error) == ("stopped", "The field tier is missing.")
    assert sync.destination.calls == []


def test_rows_that_go_on_failing_are_parked_until_they_are_released(sync: Any, kit: Any) -> None:
    sync.destination.always = kit.answering("rejected", "k01")
    sync.published.put(kit.some_rows(3))
    for attempt in range(1, sync.config.max_attempts + 1):
        assert sync.run().counts.rejected == 1
        assert sync.kept()["k01"]["attempts"] == attempt
    sync.destination.calls.clear()
    report = sync.run()
    assert (report.status, report.counts.deferred, report.counts.parked) == ("done", 1, 1)
    assert sync.destination.calls == []
    sync.destination.always = None
    ledger = sync.ledger()
    assert [row["key"] for row in ledger.failures("shelf")] == ["k01"]
    assert ledger.release("shelf") == 1
    ledger.close()
    assert sync.run().counts.ok == 1
    assert sync.kept()["k01"]["attempts"] == 0


def test_a_failure_is_forgotten_when_the_row_goes_back_to_what_the_destination_has(sync: Any, kit: Any) -> None:
    sync.published.put(kit.some_rows(2))
    sync.run()
    sync.published.put(kit.some_rows(2, k01=0.9))
    sync.destination.always = kit.answering("rejected", "k01")
    assert sync.run().counts.rejected == 1
    sync.published.put(kit.some_rows(2))
    assert sync.run().counts.unchanged == 2
    assert sync.kept()["k01"]["attempts"] == 0


def test_without_creating_a_row_that_is_not_there_is_rejected_and_nothing_is_created(sync: Any, kit: Any) -> None:
    sync.config = kit.ShelfConfig(mode="update")
    sync.destination.creates = False
    sync.destination.rows = {"k00": {}}
    sync.published.put(kit.some_rows(2))
    report = sync.run()
    assert (report.counts.updated, report.counts.created, report.counts.rejected) == (1, 0, 1)
    assert {change.operation for call in sync.destination.calls for change in call} == {"update"}
    assert report.failures[0]["error_code"] == "not_found"


def test_several_batches_may_be_under_way(sync: Any, kit: Any) -> None:
    sync.destination.concurrency = 4
    sync.destination.schedule = [None, kit.raising(Retriable("busy")), None, kit.answering("rejected")]
    sync.published.put(kit.some_rows(30))
    report = sync.run()
    assert report.counts.ok + report.counts.rejected == 30
    assert report.counts.rejected in (1, 2, 3)


def test_no_secret_is_in_a_report_an_error_or_the_ledger(sync: Any, kit: Any) -> None:
    leak = f"the header Authorization: Bearer {kit.SECRET} was wrong"

    def leaking(shelf: Any, batch: Any) -> Any:
        rejected = kit.answering("rejected")(shelf, batch)
        return [result.__class__(result.key, "rejected", error=leak) for result in rejected]

    sync.destination.schedule = [leaking, kit.raising(Forbidden(leak, hint=leak))]
    sync.published.put(kit.some_rows(9))
    report = sync.run()
    assert "***" in report.error
    told = (
        str(report.document())
        + str(sync.table("sync_runs"))
        + str(sync.table("sync_rows"))
        + str(sync.table("sync_changes"))
    )
    assert kit.SECRET not in told
    for path in sync.folder.rglob("*"):
        assert not path.is_file() or kit.SECRET.encode() not in path.read_bytes(), path


def test_an_error_of_the_destination_itself_is_kept_without_its_words(sync: Any, kit: Any) -> None:
    sync.destination.schedule = [None, kit.raising(KeyError(kit.SECRET))]
    sync.published.put(kit.some_rows(6))
    report = sync.run()
    assert (report.status, report.exit_code) == ("failed", 1)
    assert "KeyError" in report.error
    (run,) = sync.table("sync_runs")
    assert (run["status"], run["ok"], run["deferred"]) == ("failed", 3, 3)
    assert kit.SECRET not in str(run) + str(report.document())
    assert sync.run().counts.ok == 3
