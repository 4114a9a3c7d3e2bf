"""What every destination holds to. A new one is one line in `DESTINATIONS`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activation.base import Change, Checks, Destination, Prepares, Reads
from activation.destinations.database import Database
from activation.destinations.webhook import Webhook
from core.blocks import HttpConfig
from core.errors import BatchRefused, Fatal, Retriable, Unauthorized
from sandbox.salesforce import record_id
from sandbox.serve import serving
from sandbox.standin import StandIn
from sandbox.webhook import SECRET, WebhookStandIn

HTTP = HttpConfig(deadline_seconds=1, max_body_mb=5)


@dataclass
class Case:
    """A destination, as a run opens it; how it names its nth row, what that row says now, and the stand-in that can be told to
    fail."""

    open: Callable[[], Destination]
    key: Callable[[int], str]
    stored: Callable[[int], Mapping[str, Any]]
    standin: StandIn | None
    match: str = ""

    @cached_property
    def destination(self) -> Destination:
        return self.open()


def hubspot_case(request) -> Case:
    account = request.getfixturevalue("ready_hubspot")
    return Case(lambda: account.connect(timeout=0.5, http=HTTP), str, account.company, account.standin)


def salesforce_case(request) -> Case:
    organisation = request.getfixturevalue("salesforce")
    return Case(
        lambda: organisation.connect(timeout=0.5, http=HTTP),
        record_id,
        organisation.account,
        organisation.standin,
        "composite/sobjects",
    )


def webhook_case(request) -> Case:
    standin, url = request.getfixturevalue("receiver")

    def opened() -> Webhook:
        return Webhook(
            f"{url}/hook", secrets=[SECRET], allow_hosts=["127.0.0.1"], allow_loopback=True, timeout=0.5, http=HTTP
        )

    return Case(opened, str, lambda number: standin.row(str(number)) or {}, standin)


def database_case(request) -> Case:
    url = request.getfixturevalue("scores_database")

    def stored(number: int) -> Mapping[str, Any]:
        with psycopg.connect(url) as connection:
            cursor = connection.execute("select * from scores where account = %s", (str(number),))
            row = cursor.fetchone()
            return (
                {}
                if row is None
                else {c.name: v for c, v in zip(cursor.description, row, strict=True) if v is not None}
            )

    return Case(lambda: Database(url, table="scores", key="account"), str, stored, None)


DESTINATIONS = {
    "hubspot": hubspot_case,
    "salesforce": salesforce_case,
    "webhook": webhook_case,
    "database": database_case,
}


@pytest.fixture(scope="module")
def served_receiver() -> Iterator[tuple[WebhookStandIn, str]]:
    standin = WebhookStandIn()
    with serving(standin) as url:
        yield standin, url


@pytest.fixture
def receiver(served_receiver) -> tuple[WebhookStandIn, str]:
    standin, _ = served_receiver
    standin.forget()
    standin.store.clear()
    return served_receiver


@pytest.fixture
def scores_database(postgres_url, words) -> str:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("drop table if exists scores")
    Database(postgres_url, table="scores", key="account").setup(words.fields)
    return postgres_url


@pytest.fixture(params=DESTINATIONS)
def case(request) -> Case:
    return DESTINATIONS[request.param](request)


@pytest.fixture
def failing(case) -> Case:
    if case.standin is None:
        pytest.skip("its failures are a server's own, and are tested with it")
    return case


def batch(case: Case, words, numbers, **changed) -> list[Change]:
    return [words.change(case.key(number), **changed) for number in numbers]


def test_every_row_of_a_full_batch_is_accounted_for_once(case, words):
    size = min(case.destination.limits(50).batch_rows, 100)
    results = case.destination.upsert(batch(case, words, range(1, size + 1)))
    assert set(words.statuses(results)) == {case.key(number) for number in range(1, size + 1)}
    assert {result.status for result in results} == {"ok"}


def test_an_empty_batch_is_nothing(case):
    assert list(case.destination.upsert([])) == []


def test_the_same_batch_again_changes_nothing(case, words):
    rows = batch(case, words, range(1, 4))
    case.destination.upsert(rows)
    before = case.stored(2)
    assert {result.status for result in case.destination.upsert(rows)} == {"ok"}
    assert case.stored(2) == before
    assert before["tenure_churn_tier"] == "high"


def test_a_text_that_is_none_is_rejected_or_refuses_its_batch(case, words):
    rows = [*batch(case, words, [1], tenure_churn_tier="\ud800"), *batch(case, words, [2])]
    try:
        found = words.by_key(case.destination.upsert(rows))
    except BatchRefused:
        assert case.standin is None
    else:
        assert [found[case.key(number)].status for number in (1, 2)] == ["rejected", "ok"]
        assert found[case.key(1)].error_code == "not_text"


def test_a_retired_row_is_cleared_of_our_fields(case, words):
    case.destination.upsert(batch(case, words, [1, 2]))
    case.destination.upsert([words.change(case.key(1), "retire"), words.change(case.key(2))])
    ours = set(words.values())
    assert not {name for name, value in case.stored(1).items() if value is not None} & ours
    assert ours <= set(case.stored(2))


def test_values_are_read_back_as_they_were_sent(case, words):
    if not isinstance(case.destination, Reads):
        pytest.skip("cannot be read")
    rows = batch(case, words, range(1, 4))
    case.destination.upsert(rows)
    assert dict(case.destination.read(rows)) == {row.key: dict(row.values) for row in rows}


def test_what_was_made_ready_has_no_problems(case, words):
    assert isinstance(case.destination, Checks)
    assert list(case.destination.preflight(words.fields)) == []
    if isinstance(case.destination, Prepares):
        assert list(case.destination.setup(words.fields)) == []


@pytest.mark.parametrize(
    ("kind", "detail", "word"),
    [
        ("status", {"status": 500}, Retriable),
        ("status", {"status": 502}, Retriable),
        ("status", {"status": 503}, Retriable),
        ("status", {"status": 429}, Retriable),
        ("status", {"status": 401}, Unauthorized),
        ("status", {"status": 413}, BatchRefused),
        ("refuse", {}, BatchRefused),
        ("reset", {}, Retriable),
        ("hang", {}, Retriable),
        ("trickle", {}, Retriable),
        ("bomb", {"megabytes": 6}, Fatal),
    ],
)
def test_a_batch_that_fails_as_a_whole_has_its_word_and_the_next_one_goes_through(failing, words, kind, detail, word):
    rows = batch(failing, words, [1, 2])
    failing.standin.fail(kind, match=failing.match, **detail)
    with pytest.raises(word):
        failing.destination.upsert(rows)
    assert {result.status for result in failing.destination.upsert(rows)} == {"ok"}
    assert failing.stored(1)["tenure_churn_tier"] == "high"


def test_the_wait_that_is_asked_for_is_passed_on(failing, words):
    for header, least, most in [("7", 7, 7), ("Wed, 21 Oct 2099 07:28:00 GMT", 86_400, 1e10)]:
        failing.standin.fail("status", status=429, headers={"Retry-After": header}, match=failing.match)
        with pytest.raises(Retriable) as caught:
            failing.destination.upsert(batch(failing, words, [1]))
        assert least <= caught.value.retry_after <= most


@pytest.mark.parametrize("kind", ["partial", "silent", "shuffle"])
def test_whatever_the_answer_says_every_row_is_accounted_for_once(failing, words, kind):
    failing.standin.fail(kind, match=failing.match)
    numbers = random.Random(1).sample(range(1, 300), 20)
    results = failing.destination.upsert(batch(failing, words, numbers))
    assert set(words.statuses(results)) == {failing.key(number) for number in numbers}
    if kind == "silent":
        assert "ok" not in {result.status for result in results}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.integers(1, 400), min_size=1, max_size=12, unique=True),
    tiers=st.data(),
    fault=st.sampled_from(["", "partial", "silent", "shuffle", "short", "bare"]),
)
def test_no_row_is_lost_or_told_twice_and_ok_means_written(failing, words, numbers, tiers, fault):
    failing.standin.forget()
    if fault:
        failing.standin.fail(fault, match=failing.match)
    tier = tiers.draw(st.sampled_from(["a", "b", "c", "d"]))
    results = words.by_key(failing.open().upsert(batch(failing, words, numbers, tenure_churn_tier=tier)))
    assert set(results) == {failing.key(number) for number in numbers}
    for number in numbers:
        if results[failing.key(number)].status == "ok":
            assert failing.stored(number)["tenure_churn_tier"] == tier
