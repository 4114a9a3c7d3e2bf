"""The Salesforce destination against the stand-in, over HTTP."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime
from decimal import Decimal

import pytest

from activation.base import Change, Field
from activation.destinations.salesforce import Salesforce, cell, table_of
from core.errors import BatchRefused, Fatal, Forbidden, Retriable, Unauthorized, UserError
from core.salesforce import used_share
from sandbox.salesforce import record_id

COLLECTIONS, JOBS = "composite/sobjects", "jobs/ingest"


def accounts(words, *numbers, **changed):
    return [words.change(record_id(number), **changed) for number in numbers]


def test_rows_are_written_and_each_is_accounted_for(salesforce, words):
    results = salesforce.connect().upsert(accounts(words, *range(1, 201)))
    assert len(results) == 200
    assert set(words.statuses(results).values()) == {"ok"}
    assert {result.key for result in results} == {result.remote_id for result in results}
    assert salesforce.account(7) == {
        "Id": record_id(7),
        "Name": "Account 7",
        "Tenure_Key__c": "acc-7",
        "tenure_churn_probability": 0.25,
        "tenure_churn_tier": "high",
        "tenure_is_fallback": False,
        "tenure_as_of_date": "2026-03-01",
    }
    assert salesforce.standin.calls(COLLECTIONS) == 1


def test_ids_of_fifteen_letters_are_the_same_record(salesforce, words):
    rows = [words.change(record_id(number)[:15]) for number in (1, 2)]
    destination = salesforce.connect()
    assert set(words.statuses(destination.upsert(rows)).values()) == {"ok"}
    assert dict(destination.read(rows)) == {row.key: dict(row.values) for row in rows}


def test_a_retired_row_is_cleared_of_our_fields_only(salesforce, words):
    destination = salesforce.connect()
    destination.upsert(accounts(words, 1))
    destination.upsert([words.change(record_id(1), "retire")])
    assert set(salesforce.account(1)) == {"Id", "Name", "Tenure_Key__c"}


def test_errors_of_single_rows_are_told_apart(salesforce, words):
    salesforce.standin.delete(record_id(3))
    rows = accounts(words, 1, 3, 99999) + accounts(words, 4, tenure_churn_tier="x" * 300)
    found = words.by_key(salesforce.connect().upsert(rows))
    assert [found[record_id(number)].error_code for number in (1, 3, 99999, 4)] == [
        None,
        "not_found",
        "not_found",
        "STRING_TOO_LONG",
    ]
    assert [result.status for result in found.values()].count("rejected") == 3


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("UNABLE_TO_LOCK_ROW", "retriable"),
        ("SERVER_UNAVAILABLE", "retriable"),
        ("FIELD_CUSTOM_VALIDATION_EXCEPTION", "rejected"),
        ("REQUIRED_FIELD_MISSING", "rejected"),
    ],
)
@pytest.mark.parametrize("rows", [6, 250])
def test_locked_rows_are_tried_again_and_invalid_ones_are_not(salesforce, words, code, status, rows):
    salesforce.standin.fail("partial", every=3, code=code, match=COLLECTIONS if rows == 6 else "job")
    found = words.by_key(salesforce.connect(sleep=lambda s: None).upsert(accounts(words, *range(1, rows + 1))))
    failed = {key for key, result in found.items() if result.status == status}
    assert failed == {record_id(number) for number in range(1, rows + 1, 3)}
    assert {found[key].error_code for key in failed} == {code}
    assert all("told to refuse" in found[key].error for key in failed)


@pytest.mark.parametrize("kind", ["silent", "short"])
def test_success_that_does_not_fit_the_request_is_a_failure(salesforce, words, kind):
    salesforce.standin.fail(kind, match=COLLECTIONS)
    upserted = salesforce.connect(mode="upsert", external_id="Tenure_Key__c").upsert(
        [words.change("acc-1"), words.change("acc-2")]
    )
    assert words.statuses(upserted) == {"acc-1": "retriable", "acc-2": "retriable"}
    salesforce.standin.fail("silent", match=COLLECTIONS)
    updated = salesforce.connect().upsert(accounts(words, 1, 2))
    assert {result.error_code for result in updated} == {"unaccounted"}


@pytest.mark.parametrize("body", [None, {}, "text", [1, 2], [[], []]])
def test_success_with_an_odd_body_is_a_failure(salesforce, words, body):
    salesforce.standin.fail("status", status=200, body=body, match=COLLECTIONS)
    results = salesforce.connect().upsert(accounts(words, 1, 2))
    assert {result.status for result in words.by_key(results).values()} == {"retriable"}


def test_results_in_another_order_are_matched_by_id_as_far_as_that_is_certain(salesforce, words):
    salesforce.standin.fail("shuffle", match=COLLECTIONS)
    found = words.by_key(salesforce.connect().upsert(accounts(words, 1, 2, 3, 99999, 5)))
    assert all(found[record_id(number)].remote_id == record_id(number) for number in (1, 2, 3, 5))
    assert found[record_id(99999)].status == "retriable"


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_that_fails_is_tried_again_and_then_answers(salesforce, words, status):
    destination = salesforce.connect()
    salesforce.standin.fail("status", status=status, match=COLLECTIONS)
    with pytest.raises(Retriable):
        destination.upsert(accounts(words, 1))
    assert set(words.statuses(destination.upsert(accounts(words, 1))).values()) == {"ok"}


def test_a_call_that_is_refused_as_a_whole_says_so(salesforce, words):
    with pytest.raises(BatchRefused, match="INVALID_FIELD"):
        salesforce.connect().upsert([Change(record_id(1), "update", {"No_Such__c": 1})])
    with pytest.raises(BatchRefused, match="JSON_PARSER_ERROR"):
        salesforce.connect().upsert(accounts(words, 1, tenure_churn_probability="much"))


@pytest.mark.parametrize("kind", ["hang", "reset"])
def test_a_write_that_was_applied_but_not_answered_can_be_repeated(salesforce, words, kind):
    destination = salesforce.connect(timeout=0.3)
    salesforce.standin.fail(kind, match=COLLECTIONS)
    with pytest.raises(Retriable):
        destination.upsert(accounts(words, 1))
    assert salesforce.account(1)["tenure_churn_tier"] == "high"
    assert set(words.statuses(destination.upsert(accounts(words, 1))).values()) == {"ok"}


def test_a_number_that_is_none_is_rejected_and_the_others_are_sent(salesforce, words):
    rows = accounts(words, 1, tenure_churn_probability=float("inf")) + accounts(words, 2)
    assert list(words.statuses(salesforce.connect().upsert(rows)).values()) == ["rejected", "ok"]


# --- tokens and limits --------------------------------------------------------------------------------------------


def test_an_expired_token_is_told_and_a_new_one_is_fetched(salesforce, words):
    destination = salesforce.connect()
    destination.upsert(accounts(words, 1))
    salesforce.standin.expire()
    with pytest.raises(Unauthorized):
        destination.upsert(accounts(words, 1))
    destination.refresh()
    assert set(words.statuses(destination.upsert(accounts(words, 1))).values()) == {"ok"}
    assert salesforce.standin.calls("oauth2/token") == 2


def test_credentials_that_are_not_known_stop(salesforce, words):
    destination = salesforce.connect(client_secret="canary-4711")
    salesforce.standin.fail("echo", match="oauth2")
    with pytest.raises(Unauthorized) as caught:
        destination.upsert(accounts(words, 1))
    assert "canary" not in f"{caught.value} {caught.value.hint} {caught.value!r}"
    assert "***" in str(caught.value)
    with pytest.raises(Unauthorized):
        destination.refresh()


def test_no_error_holds_the_token(salesforce, words):
    salesforce.standin.fail("echo", match=COLLECTIONS)
    with pytest.raises(BatchRefused) as caught:
        salesforce.connect().upsert(accounts(words, 1))
    assert not any(token in f"{caught.value}" for token in salesforce.standin.tokens)
    (token,) = salesforce.standin.tokens
    destination = salesforce.connect()
    destination.preflight(words.fields)
    (mine,) = salesforce.standin.tokens - {token}
    salesforce.standin.fail("partial", every=1, match=COLLECTIONS, message=f"your token {mine} is bad")
    (result,) = destination.upsert(accounts(words, 1))
    assert result.error == "your token *** is bad"


def test_an_instance_without_tls_on_another_host_is_not_given_the_token(salesforce, words):
    body = {"access_token": "t", "instance_url": "http://elsewhere.example"}
    salesforce.standin.fail("status", status=200, body=body, match="oauth2")
    with pytest.raises(Fatal, match="https"):
        salesforce.connect().upsert(accounts(words, 1))


def test_the_limit_of_the_day_waits_long_and_is_not_a_missing_right(salesforce, words):
    salesforce.standin.fail("limit", match=COLLECTIONS)
    with pytest.raises(Retriable, match="REQUEST_LIMIT_EXCEEDED") as caught:
        salesforce.connect().upsert(accounts(words, 1))
    assert caught.value.retry_after >= 3600


def test_the_last_of_the_days_calls_are_left_to_others(salesforce, words):
    salesforce.standin.daily_calls, salesforce.standin.used = 100, 94
    destination = salesforce.connect()
    destination.upsert(accounts(words, 1))
    with pytest.raises(Retriable, match="95 %") as caught:
        destination.upsert(accounts(words, 2))
    assert caught.value.retry_after >= 3600
    assert salesforce.standin.used == 95


def test_the_share_of_used_calls_is_read_from_the_header():
    assert used_share("api-usage=18/5000") == 18 / 5000
    assert used_share("api-usage=25/100; per-app-api-usage=17/250(appName=sample)") == 0.25
    assert used_share("per-app-api-usage=17/250(appName=sample)") is None
    assert used_share("") is None


def test_a_missing_right_stops_the_run(salesforce, words):
    salesforce.standin.fail(
        "status", status=403, code="INSUFFICIENT_ACCESS", message="needs Edit on Account", match=COLLECTIONS
    )
    with pytest.raises(Forbidden, match="Edit on Account"):
        salesforce.connect().upsert(accounts(words, 1))


# --- external ids -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [3, 250])
def test_upsert_creates_and_updates_by_external_id(salesforce, words, rows):
    destination = salesforce.connect(mode="upsert", external_id="Tenure_Key__c", sleep=lambda s: None)
    keys = [f"acc-{number}" for number in range(299, 299 + rows)]
    first = words.by_key(destination.upsert([words.change(key, "create") for key in keys]))
    assert {result.status for result in first.values()} == {"ok"}
    assert first["acc-300"].remote_id == record_id(300)
    assert salesforce.standin.state()["accounts"] == 298 + rows
    second = words.by_key(destination.upsert([words.change(key) for key in keys]))
    assert {key: result.remote_id for key, result in second.items()} == {
        key: result.remote_id for key, result in first.items()
    }


@pytest.mark.parametrize("rows", [2, 250])
def test_a_retired_row_never_creates_an_account(salesforce, words, rows):
    destination = salesforce.connect(mode="upsert", external_id="Tenure_Key__c", sleep=lambda s: None)
    keys = [f"acc-{number}" for number in range(300, 300 + rows)]
    found = words.by_key(destination.upsert([words.change(key, "retire") for key in keys]))
    assert found["acc-300"].status == "ok"
    assert {found[key].error_code for key in keys[1:]} == {"not_found"}
    assert salesforce.standin.state()["accounts"] == 300


def test_update_by_external_id_creates_nothing(salesforce, words):
    destination = salesforce.connect(external_id="Tenure_Key__c")
    found = words.by_key(destination.upsert([words.change(key) for key in ("acc-1", "it's none", "acc-2")]))
    assert [found[key].status for key in ("acc-1", "it's none", "acc-2")] == ["ok", "rejected", "ok"]
    assert salesforce.account(2)["tenure_churn_tier"] == "high"
    known = Change("acc-3", "update", words.values(), remote_id=record_id(3))
    salesforce.standin.forget()
    assert words.statuses(destination.upsert([known])) == {"acc-3": "ok"}
    assert salesforce.standin.calls("query") == 0


def test_a_record_that_was_made_anew_is_found_by_its_external_id(salesforce, words):
    salesforce.standin.delete(record_id(3))
    rows = [Change("acc-3", "update", words.values(), remote_id=record_id(3)), words.change("acc-4")]
    destination = salesforce.connect(external_id="Tenure_Key__c")
    assert words.statuses(destination.upsert(rows)) == {"acc-3": "rejected", "acc-4": "ok"}
    salesforce.standin.seed([{"id": 777, "Tenure_Key__c": "acc-3"}])
    salesforce.standin._external.clear()
    found = words.by_key(destination.upsert(rows))
    assert (found["acc-3"].status, found["acc-3"].remote_id) == ("ok", record_id(777))


def test_long_external_ids_are_asked_for_in_more_than_one_query(salesforce, words):
    keys = [f"{number:03}-" + "ü" * 100 for number in range(60)]
    salesforce.standin.seed({"id": 1000 + number, "Tenure_Key__c": key} for number, key in enumerate(keys))
    destination = salesforce.connect(external_id="Tenure_Key__c")
    assert set(words.statuses(destination.upsert([words.change(key) for key in keys])).values()) == {"ok"}
    assert salesforce.standin.calls("query") == 4


def test_a_secret_is_not_sent_without_tls():
    with pytest.raises(UserError, match="https"):
        Salesforce(client_id="a", client_secret="b", login_url="http://company.my.salesforce.example")


def test_upsert_needs_an_external_id_and_names_are_names(salesforce):
    with pytest.raises(UserError):
        salesforce.connect(mode="upsert")
    with pytest.raises(UserError):
        salesforce.connect(object="Account WHERE Id")


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_more_rows_than_the_threshold_go_through_a_job(salesforce, words):
    destination = salesforce.connect(sleep=lambda s: None)
    assert destination.limits(2000).batch_rows == 200
    size = destination.limits(2001).batch_rows
    assert size == 10_000
    rows = accounts(words, *range(1, 301))
    found = words.by_key(destination.upsert(rows))
    assert {result.status for result in found.values()} == {"ok"}
    assert found[record_id(7)].remote_id == record_id(7)
    assert salesforce.account(300)["tenure_churn_probability"] == 0.25
    assert (salesforce.standin.calls(COLLECTIONS), len(salesforce.standin.jobs)) == (0, 1)


def test_a_job_clears_fields_and_leaves_alone_those_that_a_row_does_not_have(salesforce, words):
    destination = salesforce.connect(sleep=lambda s: None)
    destination.upsert(accounts(words, *range(1, 251)))
    rows = [Change(record_id(number), "update", {"tenure_churn_tier": None}) for number in range(1, 250)]
    destination.upsert([*rows, Change(record_id(250), "update", {"tenure_churn_probability": 0.9})])
    assert "tenure_churn_tier" not in salesforce.account(1)
    assert salesforce.account(1)["tenure_churn_probability"] == 0.25
    assert salesforce.account(250)["tenure_churn_tier"] == "high"


def test_failed_and_unprocessed_rows_of_a_job_are_read(salesforce, words):
    salesforce.standin.fail("break", rows=100, match="job")
    rows = [*accounts(words, 1, tenure_churn_tier="x" * 300), *accounts(words, *range(2, 251))]
    found = list(words.by_key(salesforce.connect(sleep=lambda s: None).upsert(rows)).values())
    assert (found[0].status, found[0].error_code) == ("rejected", "STRING_TOO_LONG")
    assert {result.status for result in found[1:100]} == {"ok"}
    assert {(result.status, result.error_code) for result in found[100:]} == {("retriable", "unprocessed")}
    assert "told to break" in found[100].error


def test_a_row_that_a_job_tells_nothing_about_has_failed(salesforce, words):
    salesforce.standin.fail("lose", match="job")
    found = list(
        words.by_key(salesforce.connect(sleep=lambda s: None).upsert(accounts(words, *range(1, 251)))).values()
    )
    assert (found[0].status, found[0].error_code) == ("retriable", "unaccounted")
    assert {result.status for result in found[1:]} == {"ok"}


def test_a_field_that_a_job_does_not_know_stops_the_run_by_its_name(salesforce, words):
    rows = [Change(record_id(number), "update", {"No_Such__c": 1}) for number in range(1, 251)]
    with pytest.raises(Fatal, match=r"refused the job as a whole: .*No_Such__c") as caught:
        salesforce.connect(sleep=lambda s: None).upsert(rows)
    assert not isinstance(caught.value, BatchRefused)
    assert "permission set" in caught.value.hint


@pytest.mark.parametrize("count", [3, 250])
def test_a_text_that_looks_like_the_word_for_clearing_is_written_as_it_is(salesforce, words, count):
    destination = salesforce.connect(sleep=lambda s: None)
    destination.upsert(accounts(words, *range(1, count + 1)))
    literal = accounts(words, 1, 2, tenure_churn_tier="#N/A")
    others = accounts(words, *range(3, count + 1), tenure_churn_tier="low")
    found = words.by_key(destination.upsert([*others, *literal]))
    assert len(found) == count
    assert {result.status for result in found.values()} == {"ok"}
    assert [salesforce.account(number)["tenure_churn_tier"] for number in (1, 2, 3)] == ["#N/A", "#N/A", "low"]


def test_a_job_that_never_ends_is_aborted(salesforce, words):
    salesforce.standin.fail("stuck", match="job")
    slept = []
    with pytest.raises(Retriable, match="did not end"):
        salesforce.connect(sleep=slept.append, bulk_seconds=20).upsert(accounts(words, *range(1, 251)))
    assert [job["state"] for job in salesforce.standin.jobs.values()] == ["Aborted"]
    assert sum(slept) >= 20
    assert len(slept) < 15


def test_the_table_of_a_job():
    changes = {
        "1": Change(
            "1", "update", {"a": None, "b": True, "c": Decimal("1.50"), "d": date(2026, 3, 1), "e": 'say "x",\nand y'}
        ),
        "2": Change("2", "update", {"f": datetime(2026, 3, 1, 12)}),
    }
    rows = list(csv.reader(io.StringIO(table_of(changes, "Id"))))
    assert rows == [
        ["Id", "a", "b", "c", "d", "e", "f"],
        ["1", "#N/A", "true", "1.50", "2026-03-01", 'say "x",\nand y', ""],
        ["2", "", "", "", "", "", "2026-03-01T12:00:00.000Z"],
    ]
    assert cell(0.00001) == "0.00001"


# --- before and after ---------------------------------------------------------------------------------------------


def test_preflight_finds_missing_fields_wrong_types_and_missing_rights(bare_salesforce, words):
    standin = bare_salesforce.standin
    assert len(bare_salesforce.connect().preflight(words.fields)) == 4
    standin.define("tenure_churn_probability", "double")
    standin.define("tenure_churn_tier", "double")
    standin.define("tenure_is_fallback", "boolean", updateable=False)
    standin.define("tenure_as_of_date", "date")
    whats = [problem.what for problem in bare_salesforce.connect(external_id="Name").preflight(words.fields)]
    assert len(whats) == 3
    for what, said in zip(whats, ("type double", "may not write", "not an external id"), strict=True):
        assert said in what


def test_preflight_of_what_is_right_finds_nothing(salesforce, words):
    assert salesforce.connect(external_id="Tenure_Key__c").preflight(words.fields) == []


def test_preflight_reports_credentials_and_objects_that_are_not_known(salesforce, words):
    (problem,) = salesforce.connect(client_secret="canary").preflight(words.fields)
    assert "no token" in problem.what
    (problem,) = salesforce.connect(object="Goat").preflight([Field("x", "text", "", "")])
    assert "404" in problem.what


def test_values_are_read_back_in_their_types(salesforce, words):
    destination = salesforce.connect()
    rows = accounts(words, *range(1, 251))
    for start in (0, 200):
        destination.upsert(rows[start : start + 200])
    found = dict(destination.read([*rows, words.change(record_id(99999))]))
    assert found.pop(record_id(99999)) is None
    assert found == {row.key: dict(row.values) for row in rows}
    by_key = salesforce.connect(external_id="Tenure_Key__c")
    assert dict(by_key.read([words.change("acc-7")])) == {"acc-7": words.values()}


def test_another_version_of_the_api_is_one_setting(salesforce, words):
    salesforce.standin.forget()
    salesforce.connect(api_version="70.0").upsert(accounts(words, 1))
    assert salesforce.standin.calls("/services/data/v70.0/composite/sobjects") == 1
