"""The webhook destination against a receiver, over HTTP; signatures also by another's library."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from activation.destinations.webhook import Webhook, key_of, signature
from core.errors import BatchRefused, Fatal, Forbidden, Retriable, Unauthorized, UserError
from sandbox.serve import serving
from sandbox.webhook import SECRET, WebhookStandIn

OTHER = "whsec_" + base64.b64encode(b"canary-canary-canary-canary-cana").decode()


@dataclass(frozen=True)
class Receiver:
    standin: WebhookStandIn
    url: str

    def connect(self, *, secrets=(SECRET,), **settings: Any) -> Webhook:
        return Webhook(f"{self.url}/hook", secrets=secrets, allow_hosts=["127.0.0.1"], allow_loopback=True, **settings)

    def sent(self, number: int = -1) -> Any:
        return json.loads(self.standin.messages[number][1])


@pytest.fixture(scope="module")
def served() -> Iterator[Receiver]:
    standin = WebhookStandIn()
    with serving(standin) as url:
        yield Receiver(standin, url)


@pytest.fixture
def receiver(served) -> Receiver:
    served.standin.forget()
    served.standin.store.clear()
    served.standin.messages.clear()
    served.standin.secrets, served.standin.answers = [SECRET], "results"
    return served


def test_rows_arrive_signed_and_each_is_accounted_for(receiver, words):
    rows = [words.change(number, amount=Decimal("12.50"), at=datetime(2026, 3, 1, 12)) for number in range(50)]
    found = words.by_key(receiver.connect().upsert(rows))
    assert {result.status for result in found.values()} == {"ok"}
    assert found["7"].remote_id == "r-7"
    assert receiver.standin.row("7") == {
        "tenure_churn_probability": 0.25,
        "tenure_churn_tier": "high",
        "tenure_is_fallback": False,
        "tenure_as_of_date": "2026-03-01",
        "amount": 12.5,
        "at": "2026-03-01T12:00:00.000Z",
    }


def test_another_library_verifies_what_we_sign_and_signs_as_we_do(receiver, words):
    standard = pytest.importorskip("standardwebhooks")
    receiver.connect().upsert([words.change("é")])
    headers, body = receiver.standin.messages[-1]
    assert standard.Webhook(SECRET).verify(body, headers)["data"]["rows"][0]["key"] == "é"
    with pytest.raises(standard.WebhookVerificationError):
        standard.Webhook(SECRET).verify(body.replace(b"high", b"low"), headers)
    with pytest.raises(standard.WebhookVerificationError):
        standard.Webhook(OTHER).verify(body, headers)
    at = datetime(2026, 3, 1)
    ours = signature(key_of(SECRET), "msg_1", 1772323200, b'{"a":1}')
    assert ours == standard.Webhook(SECRET).sign("msg_1", at, '{"a":1}')


def test_two_live_secrets_give_two_signatures_and_either_verifies(receiver, words):
    standard = pytest.importorskip("standardwebhooks")
    receiver.connect(secrets=[OTHER, SECRET]).upsert([words.change(1)])
    headers, body = receiver.standin.messages[-1]
    assert len(headers["webhook-signature"].split()) == 2
    for secret in (OTHER, SECRET):
        standard.Webhook(secret).verify(body, headers)


def test_a_receiver_with_another_secret_refuses_and_the_run_stops(receiver, words):
    with pytest.raises(Unauthorized) as caught:
        receiver.connect(secrets=[OTHER]).upsert([words.change(1)])
    assert "Y2FuYXJ5" not in f"{caught.value} {caught.value.hint}"


def test_an_old_message_is_refused(receiver, words):
    with pytest.raises(Unauthorized):
        receiver.connect(now=lambda: time.time() - 400).upsert([words.change(1)])


def test_the_same_batch_of_a_run_is_the_same_message_and_is_applied_once(receiver, words):
    destination = receiver.connect(run_id="run-1")
    destination.upsert([words.change(1), words.change(2)])
    destination.upsert([words.change(1), words.change(2)])
    ids = {headers["webhook-id"] for headers, _ in receiver.standin.messages}
    assert len(ids) == 1
    assert len(receiver.standin.store.get("rows", "1")["applied"]) == 1
    destination.upsert([words.change(2)])
    assert (
        receiver.sent()["data"]["rows"][0]["idempotency_key"] == receiver.sent(0)["data"]["rows"][1]["idempotency_key"]
    )
    receiver.connect(run_id="run-2").upsert([words.change(2)])
    assert (
        receiver.sent()["data"]["rows"][0]["idempotency_key"] != receiver.sent(0)["data"]["rows"][1]["idempotency_key"]
    )


def test_a_retired_row_says_so_and_clears(receiver, words):
    destination = receiver.connect()
    destination.upsert([words.change(1, "retire")])
    row = receiver.sent()["data"]["rows"][0]
    assert row["operation"] == "retire"
    assert set(row["values"].values()) == {None}


def test_rows_that_are_rejected_are_told_apart(receiver, words):
    receiver.standin.fail("partial", every=2)
    found = words.by_key(receiver.connect().upsert([words.change(number) for number in range(4)]))
    assert [found[str(number)].status for number in range(4)] == ["rejected", "ok", "rejected", "ok"]
    assert (found["0"].error_code, found["0"].error) == ("told", "told to refuse this row")


def test_results_may_come_in_any_order(receiver, words):
    receiver.standin.fail("shuffle")
    found = words.by_key(receiver.connect().upsert([words.change(number) for number in range(9)]))
    assert all(result.remote_id == f"r-{key}" for key, result in found.items())


def test_a_number_accepts_all_rows_or_none(receiver, words):
    receiver.standin.answers = "accepted"
    assert words.statuses(receiver.connect().upsert([words.change(1), words.change(2)])) == {"1": "ok", "2": "ok"}
    receiver.standin.fail("short")
    results = receiver.connect().upsert([words.change(1), words.change(2)])
    assert words.statuses(results) == {"1": "retriable", "2": "retriable"}
    assert "accepted 1 of 2" in results[0].error


@pytest.mark.parametrize("body", [None, {}, {"ok": True}, {"accepted": True}, {"accepted": "2"}, {"results": []}, [1]])
def test_success_that_accounts_for_nothing_is_a_failure(receiver, words, body):
    receiver.standin.fail("status", status=200, body=body)
    results = receiver.connect().upsert([words.change(1), words.change(2)])
    assert words.statuses(results) == {"1": "retriable", "2": "retriable"}
    assert {result.error_code for result in results} == {"unaccounted"}


def test_an_empty_204_is_a_failure(receiver, words):
    receiver.standin.answers = "silent"
    assert words.statuses(receiver.connect().upsert([words.change(1)])) == {"1": "retriable"}


def test_answers_about_other_rows_and_unknown_words_do_not_count(receiver, words):
    body = {"results": [{"key": "99", "status": "ok"}, {"key": "1", "status": "fine"}, {"status": "ok"}, 7]}
    receiver.standin.fail("status", status=200, body=body)
    assert words.statuses(receiver.connect().upsert([words.change(1)])) == {"1": "retriable"}


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, BatchRefused),
        (401, Unauthorized),
        (403, Forbidden),
        (404, Fatal),
        (410, Fatal),
        (413, BatchRefused),
        (503, Retriable),
    ],
)
def test_refusals_have_their_words(receiver, words, status, word):
    receiver.standin.fail("status", status=status, body={"error": "no"})
    with pytest.raises(word):
        receiver.connect().upsert([words.change(1)])


def test_a_receiver_that_asks_to_wait_is_heard(receiver, words):
    receiver.standin.fail("status", status=429, headers={"Retry-After": "900"})
    with pytest.raises(Retriable) as caught:
        receiver.connect().upsert([words.change(1)])
    assert caught.value.retry_after == 900


@pytest.mark.parametrize("kind", ["hang", "reset"])
def test_a_message_that_was_applied_but_not_answered_is_applied_once(receiver, words, kind):
    destination = receiver.connect(timeout=0.3)
    receiver.standin.fail(kind)
    with pytest.raises(Retriable):
        destination.upsert([words.change(1)])
    assert words.statuses(destination.upsert([words.change(1)])) == {"1": "ok"}
    assert len(receiver.standin.store.get("rows", "1")["applied"]) == 1


def test_redirects_are_refused_and_not_followed(receiver, words):
    receiver.standin.fail("redirect", to=f"{receiver.url}/hook")
    with pytest.raises(Fatal, match="redirect"):
        receiver.connect().upsert([words.change(1)])
    assert receiver.standin.calls() == 1


def test_no_error_holds_a_secret(receiver, words):
    receiver.standin.secrets = [OTHER]
    receiver.standin.fail("echo")
    with pytest.raises(BatchRefused) as caught:
        receiver.connect(secrets=[OTHER]).upsert([words.change(1)])
    assert "Y2FuYXJ5" not in f"{caught.value} {caught.value!r}"
    assert "***" in str(caught.value)


def test_wrong_settings_are_named_without_the_secret():
    for secret in ("canary", "whsec_canary!", "whsec_" + base64.b64encode(b"short").decode()):
        with pytest.raises(UserError) as caught:
            Webhook("https://hooks.example/", secrets=[secret], allow_hosts=["hooks.example"])
        assert "canary" not in str(caught.value)
    with pytest.raises(UserError, match="credentials"):
        Webhook("https://me:pw@hooks.example/", secrets=[SECRET], allow_hosts=["hooks.example"])
    with pytest.raises(UserError, match="secret"):
        Webhook("https://hooks.example/", secrets=[], allow_hosts=["hooks.example"])


def test_preflight_finds_hosts_and_addresses_that_are_not_allowed(words):
    def problems(url: str, address: str) -> str:
        hook = Webhook(url, secrets=[SECRET], allow_hosts=["hooks.example"], resolver=lambda host, port: [address])
        return " ".join(problem.what for problem in hook.preflight(words.fields))

    assert problems("https://hooks.example/x", "93.184.215.14") == ""
    assert "not an allowed host" in problems("https://other.example/x", "93.184.215.14")
    assert "169.254.169.254" in problems("https://hooks.example/x", "169.254.169.254")
    assert "over http" in problems("http://hooks.example/x", "93.184.215.14")


def test_a_name_that_turns_to_an_address_inside_is_not_sent_to(receiver, words):
    addresses = iter(["127.0.0.1", "169.254.169.254"])
    port = receiver.url.rpartition(":")[2]
    hook = Webhook(
        f"http://hooks.example:{port}/hook",
        secrets=[SECRET],
        allow_hosts=["hooks.example"],
        allow_loopback=True,
        resolver=lambda host, port: [next(addresses)],
    )
    assert words.statuses(hook.upsert([words.change(1)])) == {"1": "ok"}
    with pytest.raises(Fatal, match=r"169\.254"):
        hook.upsert([words.change(2)])


def test_dates_and_numbers_are_json(receiver, words):
    receiver.connect().upsert([words.change(1, day=date(2026, 3, 1), tiny=0.00001, none=None)])
    sent = receiver.sent()["data"]["rows"][0]["values"]
    assert (sent["day"], sent["tiny"], sent["none"]) == ("2026-03-01", 0.00001, None)
