"""The HubSpot destination against the stand-in, over HTTP."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from activation.base import Change, Field
from activation.destinations.hubspot import HubSpot, as_text
from core.errors import BatchRefused, Fatal, Forbidden, Retriable, Unauthorized, UserError

WRITES = "/batch/update"


def test_rows_are_written_as_strings_and_each_is_accounted_for(ready_hubspot, words):
    results = ready_hubspot.connect().upsert([words.change(number) for number in range(1, 101)])
    assert len(results) == 100
    assert set(words.statuses(results).values()) == {"ok"}
    assert {result.key for result in results} == {result.remote_id for result in results}
    assert ready_hubspot.company(7) == {
        "name": "Company 7",
        "domain": "c7.example",
        "hs_object_id": "7",
        "tenure_churn_probability": "0.25",
        "tenure_churn_tier": "high",
        "tenure_is_fallback": "false",
        "tenure_as_of_date": "2026-03-01",
    }
    assert ready_hubspot.standin.calls(WRITES) == 1


def test_a_retired_row_is_cleared_of_our_fields_only(ready_hubspot, words):
    destination = ready_hubspot.connect()
    destination.upsert([words.change(1)])
    assert words.statuses(destination.upsert([words.change(1, "retire")])) == {"1": "ok"}
    assert set(ready_hubspot.company(1)) == {"name", "domain", "hs_object_id"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.00001, "0.00001"),
        (1e22, "10000000000000000000000"),
        (Decimal("12.50"), "12.50"),
        (date(2026, 3, 1), "2026-03-01"),
        (datetime(2026, 3, 1, 12, 30), "2026-03-01T12:30:00.000Z"),
        (datetime(2026, 3, 1, 12, 30, tzinfo=UTC), "2026-03-01T12:30:00.000Z"),
        ("as it is", "as it is"),
    ],
)
def test_values_are_the_strings_that_hubspot_documents(value, text):
    assert as_text(value) == text


def test_a_number_that_is_none_is_rejected_and_the_others_are_sent(ready_hubspot, words):
    rows = [words.change(1, tenure_churn_probability=float("nan")), words.change(2)]
    found = words.by_key(ready_hubspot.connect().upsert(rows))
    assert (found["1"].status, found["1"].error_code) == ("rejected", "not_a_number")
    assert found["2"].status == "ok"


def test_errors_of_a_207_are_matched_to_their_rows(ready_hubspot, words):
    ready_hubspot.standin.fail("partial", every=3)
    found = words.by_key(ready_hubspot.connect().upsert([words.change(number) for number in range(1, 10)]))
    rejected = {key for key, result in found.items() if result.status == "rejected"}
    assert rejected == {"1", "4", "7"}
    assert found["4"].http_status == 207
    assert found["4"].error_code == "VALIDATION_ERROR"
    assert found["4"].error == "told to refuse this row"
    assert "tenure_churn_tier" not in ready_hubspot.company(4)
    assert ready_hubspot.company(5)["tenure_churn_tier"] == "high"


def test_a_bad_value_rejects_its_row_only(ready_hubspot, words):
    found = words.by_key(
        ready_hubspot.connect().upsert([words.change(1, tenure_churn_probability="much"), words.change(2)])
    )
    assert (found["1"].status, found["2"].status) == ("rejected", "ok")
    assert "not a valid number" in found["1"].error


def test_companies_that_are_gone_are_rejected_as_not_found(ready_hubspot, words):
    ready_hubspot.standin.archive("2")
    found = words.by_key(ready_hubspot.connect().upsert([words.change(key) for key in (1, 2, 99999)]))
    assert [found[key].status for key in ("1", "2", "99999")] == ["ok", "rejected", "rejected"]
    assert {found[key].error_code for key in ("2", "99999")} == {"not_found"}


def test_a_company_that_was_merged_away_is_written_to_its_survivor(ready_hubspot, words):
    ready_hubspot.standin.seed([{"id": "900", "name": "Old", "merged_into_id": "5"}])
    found = words.by_key(ready_hubspot.connect().upsert([words.change(900)]))
    assert (found["900"].status, found["900"].remote_id) == ("ok", "5")
    assert ready_hubspot.company(5)["tenure_churn_tier"] == "high"


def test_companies_that_were_merged_may_be_in_one_batch(ready_hubspot, words):
    ready_hubspot.standin.seed([{"id": "900", "name": "Old", "merged_into_id": "5"}])
    rows = [Change("900", "update", words.values(), remote_id="5"), words.change(5)]
    assert words.statuses(ready_hubspot.connect().upsert(rows)) == {"900": "ok", "5": "ok"}


def test_a_token_is_not_sent_without_tls():
    for url in ("http://api.hubapi.example", "ftp://127.0.0.1", "api.hubapi.example", ""):
        with pytest.raises(UserError, match="https"):
            HubSpot("token", base_url=url)


def test_success_that_names_no_row_is_a_failure(ready_hubspot, words):
    ready_hubspot.standin.fail("silent")
    results = ready_hubspot.connect().upsert([words.change(1), words.change(2)])
    assert words.statuses(results) == {"1": "retriable", "2": "retriable"}
    assert {result.error_code for result in results} == {"unaccounted"}
    assert all("200" in result.error for result in results)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {"results": None},
        {"status": "COMPLETE"},
        {"results": [1], "errors": ["x"]},
        {"results": {"id": "1"}},
    ],
)
def test_success_with_an_odd_body_is_a_failure(ready_hubspot, words, body):
    ready_hubspot.standin.fail("status", status=200, body=body)
    assert words.statuses(ready_hubspot.connect().upsert([words.change(1)])) == {"1": "retriable"}


def test_an_error_that_names_no_row_is_told_with_every_row(ready_hubspot, words):
    body = {
        "status": "COMPLETE",
        "results": [],
        "errors": [{"category": "INTERNAL_ERROR", "message": "something broke"}],
    }
    ready_hubspot.standin.fail("status", status=207, body=body)
    results = ready_hubspot.connect().upsert([words.change(1), words.change(2)])
    assert words.statuses(results) == {"1": "retriable", "2": "retriable"}
    assert all("something broke" in result.error for result in results)


@pytest.mark.parametrize("kind", ["shuffle", "bare"])
def test_results_are_matched_whatever_their_order_and_with_ids_alone(ready_hubspot, words, kind):
    ready_hubspot.standin.fail(kind)
    keys = [str(number) for number in random.Random(3).sample(range(1, 300), 50)]
    found = words.by_key(ready_hubspot.connect().upsert([words.change(key) for key in [*keys, "88888"]]))
    assert all(found[key].remote_id == key for key in keys)
    assert found["88888"].error_code == "not_found"


def test_the_limit_of_ten_seconds_waits_for_its_window(ready_hubspot, words):
    ready_hubspot.standin.fail("throttle", policy="TEN_SECONDLY_ROLLING")
    with pytest.raises(Retriable) as caught:
        ready_hubspot.connect().upsert([words.change(1)])
    assert caught.value.retry_after == 0.5  # what the stand-in says of its window
    ready_hubspot.standin.fail("status", status=429, body={"policyName": "TEN_SECONDLY_ROLLING"})
    with pytest.raises(Retriable) as caught:
        ready_hubspot.connect().upsert([words.change(1)])
    assert caught.value.retry_after == 10.0
    ready_hubspot.standin.fail("status", status=429, headers={"Retry-After": "3"})
    with pytest.raises(Retriable) as caught:
        ready_hubspot.connect().upsert([words.change(1)])
    assert caught.value.retry_after == 3.0


def test_the_limit_of_the_day_waits_long(ready_hubspot, words):
    ready_hubspot.standin.fail("throttle", policy="DAILY")
    with pytest.raises(Retriable, match="day") as caught:
        ready_hubspot.connect().upsert([words.change(1)])
    assert caught.value.retry_after >= 3600


def test_an_account_that_is_being_moved_is_tried_later(ready_hubspot, words):
    ready_hubspot.standin.fail("status", status=477, headers={"Retry-After": "7200"})
    with pytest.raises(Retriable) as caught:
        ready_hubspot.connect().upsert([words.change(1)])
    assert caught.value.retry_after == 7200


@pytest.mark.parametrize("status", [500, 502, 503, 504, 524])
def test_a_server_that_fails_is_tried_again_and_then_answers(ready_hubspot, words, status):
    destination = ready_hubspot.connect()
    ready_hubspot.standin.fail("status", status=status)
    with pytest.raises(Retriable):
        destination.upsert([words.change(1)])
    assert words.statuses(destination.upsert([words.change(1)])) == {"1": "ok"}


def test_a_token_that_is_not_known_stops(ready_hubspot, words):
    with pytest.raises(Unauthorized):
        ready_hubspot.connect(token="pat-canary-4711").upsert([words.change(1)])


def test_a_missing_scope_is_named(ready_hubspot, words):
    ready_hubspot.standin.tokens["reader"] = ("crm.objects.companies.read", "crm.schemas.companies.read")
    with pytest.raises(Forbidden, match=r"crm\.objects\.companies\.write"):
        ready_hubspot.connect(token="reader").upsert([words.change(1)])


@pytest.mark.parametrize("kind", ["hang", "reset"])
def test_a_write_that_was_applied_but_not_answered_can_be_repeated(ready_hubspot, words, kind):
    destination = ready_hubspot.connect(timeout=0.3)
    ready_hubspot.standin.fail(kind)
    with pytest.raises(Retriable):
        destination.upsert([words.change(1)])
    assert ready_hubspot.company(1)["tenure_churn_tier"] == "high"
    assert words.statuses(destination.upsert([words.change(1)])) == {"1": "ok"}


def test_a_batch_that_is_refused_as_a_whole_says_so(ready_hubspot, words):
    ready_hubspot.standin.fail("refuse")
    with pytest.raises(BatchRefused):
        ready_hubspot.connect().upsert([words.change(1)])
    with pytest.raises(BatchRefused, match="PROPERTY_DOESNT_EXIST"):
        ready_hubspot.connect().upsert([Change("1", "update", {"no_such_property": "x"})])


def test_a_path_that_is_not_there_stops(ready_hubspot, words):
    with pytest.raises(Fatal, match="404"):
        ready_hubspot.connect(object_type="goats").upsert([words.change(1)])


def test_no_error_holds_the_token(ready_hubspot, words):
    for kind, detail in [("echo", {}), ("status", {"status": 503, "body": {"message": "pat-canary-4711 is bad"}})]:
        ready_hubspot.standin.tokens["pat-canary-4711"] = ready_hubspot.standin.tokens["pat-sandbox-0000"]
        ready_hubspot.standin.fail(kind, **detail)
        with pytest.raises((BatchRefused, Retriable)) as caught:
            ready_hubspot.connect(token="pat-canary-4711").upsert([words.change(1)])
        assert "canary" not in f"{caught.value} {caught.value.hint} {caught.value!r}"


# --- upsert by a unique property ----------------------------------------------------------------------------------


def test_upsert_needs_a_property(hubspot):
    with pytest.raises(UserError):
        hubspot.connect(mode="upsert")


def test_upsert_creates_and_updates_by_a_unique_property(ready_hubspot, words):
    ready_hubspot.standin.define("customer_key", unique=True)
    destination = ready_hubspot.connect(mode="upsert", id_property="customer_key")
    first = words.by_key(destination.upsert([words.change("acc-1", "create"), words.change("acc-2", "create")]))
    assert {result.status for result in first.values()} == {"ok"}
    second = words.by_key(destination.upsert([words.change("acc-1", tenure_churn_tier="low")]))
    assert second["acc-1"].remote_id == first["acc-1"].remote_id
    assert ready_hubspot.company(first["acc-1"].remote_id)["tenure_churn_tier"] == "low"
    assert ready_hubspot.standin.state()["companies"] == 302


def test_a_retired_row_never_creates_a_company(ready_hubspot, words):
    ready_hubspot.standin.define("customer_key", unique=True)
    destination = ready_hubspot.connect(mode="upsert", id_property="customer_key")
    destination.upsert([words.change("acc-1", "create")])
    found = words.by_key(
        destination.upsert([words.change("acc-1", "retire"), words.change("acc-9", "retire"), words.change("acc-2")])
    )
    assert [found[key].status for key in ("acc-1", "acc-9", "acc-2")] == ["ok", "rejected", "ok"]
    assert found["acc-9"].error_code == "not_found"
    assert ready_hubspot.standin.state()["companies"] == 302


def test_update_by_a_unique_property_creates_nothing(ready_hubspot, words):
    ready_hubspot.standin.define("customer_key", unique=True)
    ready_hubspot.connect(mode="upsert", id_property="customer_key").upsert([words.change("acc-1", "create")])
    destination = ready_hubspot.connect(id_property="customer_key")
    assert words.statuses(destination.upsert([words.change("acc-1"), words.change("acc-2")])) == {
        "acc-1": "ok",
        "acc-2": "rejected",
    }


# --- before, around and after -------------------------------------------------------------------------------------


def test_preflight_finds_missing_properties_and_setup_makes_them(hubspot, words):
    destination = hubspot.connect()
    missing = destination.preflight(words.fields)
    assert [field.name in problem.what for field, problem in zip(words.fields, missing, strict=True)] == [True] * 4
    said = destination.setup(words.fields)
    assert len(said) == 5
    assert "Created the group" in said[0]
    assert destination.preflight(words.fields) == []
    assert destination.setup(words.fields) == []
    made = hubspot.standin.store.get("properties", "tenure_is_fallback")
    assert (made["type"], made["label"], made["groupName"]) == ("bool", "Is fallback", "tenure")
    assert made["description"] == "True where no model is good enough."


def test_setup_makes_the_unique_property_of_an_upsert(hubspot, words):
    destination = hubspot.connect(mode="upsert", id_property="tenure_customer_key")
    assert any("unique" in problem.what for problem in destination.preflight(words.fields))
    destination.setup(words.fields)
    assert destination.preflight(words.fields) == []
    assert words.statuses(destination.upsert([words.change("acc-1", "create")])) == {"acc-1": "ok"}


def test_preflight_finds_wrong_types_and_properties_that_cannot_be_written(hubspot):
    hubspot.standin.define("tenure_churn_tier", "number")
    problems = hubspot.connect().preflight(
        [Field("tenure_churn_tier", "text", "", ""), Field("createdate", "datetime", "", "")]
    )
    assert ["type number" in problems[0].what, "cannot be written" in problems[1].what] == [True, True]


def test_preflight_names_missing_scopes(ready_hubspot, words):
    ready_hubspot.standin.tokens["reader"] = ("crm.objects.companies.read", "crm.schemas.companies.read")
    problems = ready_hubspot.connect(token="reader").preflight(words.fields)
    assert [problem.what for problem in problems] == ["The token lacks the scope crm.objects.companies.write."]
    ready_hubspot.standin.tokens["narrow"] = ("crm.objects.companies.read",)
    problems = ready_hubspot.connect(token="narrow").preflight(words.fields)
    assert any("crm.schemas.companies.read" in problem.what for problem in problems)


def test_preflight_reports_a_token_that_is_not_known(hubspot, words):
    (problem,) = hubspot.connect(token="pat-canary-4711").preflight(words.fields)
    assert "canary" not in f"{problem}"


def test_values_are_read_back_in_their_types(ready_hubspot, words):
    destination = ready_hubspot.connect()
    changes = [words.change(number) for number in range(1, 251)]
    for start in range(0, 250, 100):
        destination.upsert(changes[start : start + 100])
    ready_hubspot.standin.forget()
    found = dict(destination.read([*changes, words.change(99999)]))
    assert found.pop("99999") is None
    assert found == {change.key: dict(change.values) for change in changes}
    assert ready_hubspot.standin.calls("/batch/read") == 3


def test_a_cleared_field_reads_as_none(ready_hubspot, words):
    destination = ready_hubspot.connect()
    destination.upsert([words.change(1, tenure_churn_tier=None)])
    ((_, found),) = destination.read([words.change(1, tenure_churn_tier=None)])
    assert found["tenure_churn_tier"] is None
    assert found["tenure_churn_probability"] == 0.25


def test_ten_thousand_rows_take_exactly_a_hundred_calls(ready_hubspot, words):
    ready_hubspot.standin.seed({"id": str(number)} for number in range(1, 10_001))
    destination = ready_hubspot.connect()
    size = destination.limits(10_000).batch_rows
    changes = [words.change(number) for number in range(1, 10_001)]
    ok = 0
    for start in range(0, len(changes), size):
        results = destination.upsert(changes[start : start + size])
        ok += sum(result.status == "ok" for result in results)
    assert (ok, ready_hubspot.standin.calls()) == (10_000, 100)


def test_another_dated_version_is_one_setting(ready_hubspot, words):
    ready_hubspot.connect(api_version="2026-09").upsert([words.change(1)])
    assert ready_hubspot.standin.log[-1].path == "/crm/objects/2026-09/companies/batch/update"
