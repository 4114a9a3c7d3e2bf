"""What holds for every vendor that is read through its API: one line in `VENDORS` and its `Case` put a new one under it.

Over real HTTP, against the stand-ins; where a process is killed, it is a real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandbox import hubspot, posthog, salesforce, stripe, zendesk
from sandbox.serve import serving
from sandbox.standin import StandIn

PATIENT = {"tries": 4, "first_seconds": 0.01, "longest_seconds": 0.05, "max_retry_after_seconds": 5}


@dataclass
class Case:
    """How one vendor's stand-in is filled. Records have numbers from 1; each change happens later than all before it."""

    name: str
    stream: str
    table: str
    key: str
    secret: str
    scope: str
    path: str
    refused: str = "401"
    """What is said of credentials that are wrong."""
    tells_deletions: bool = True
    moments: Iterator[datetime] = field(default_factory=lambda: _moments())

    def start(self) -> StandIn:
        """An account without records of the stream, which gives two records a page."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """The source's block of tenure.yml, without its address."""
        raise NotImplementedError

    def put(self, standin: Any, *numbers: int, **fields: Any) -> None:
        """Make records, or change them; `fields` beyond those that a record has may be new ones."""
        raise NotImplementedError

    def without(self, standin: Any, *numbers: int) -> str:
        """Make records that lack a field that every record had; returns the field."""
        raise NotImplementedError

    def delete(self, standin: Any, number: int) -> None:
        raise NotImplementedError

    def forbid(self, standin: Any) -> None:
        """Take the right to read the stream from the credentials."""
        raise NotImplementedError


def _moments(moment: datetime = datetime(2024, 3, 1)) -> Iterator[datetime]:
    while True:
        moment += timedelta(minutes=1)
        yield moment


class Zendesk(Case):
    def __init__(self) -> None:
        super().__init__(
            "zendesk", "tickets", "raw_zendesk.tickets", "ticket_id", zendesk.TOKEN, "tickets:read", "tickets/cursor"
        )

    def start(self) -> StandIn:
        standin = zendesk.ZendeskStandIn(exports=10_000)
        standin.page_rows = 2
        standin.put("organizations", [{"id": 1, "name": "One", "created_at": self.at(), "updated_at": self.at()}])
        return standin

    def settings(self) -> dict[str, Any]:
        return {
            "connector": "zendesk",
            "email": zendesk.EMAIL,
            "token": zendesk.TOKEN,
            "exports_per_minute": 10_000,
            "streams": ["organizations", "tickets"],
        }

    def at(self) -> str:
        return next(self.moments).strftime("%Y-%m-%dT%H:%M:%SZ")

    def put(self, standin: Any, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            at = self.at()
            standin.put(
                "tickets",
                [
                    {
                        "id": number,
                        "organization_id": 1,
                        "subject": f"Ticket {number} of {at}",
                        "priority": "high",
                        "status": "open",
                        "created_at": "2024-02-01T10:00:00Z",
                        "updated_at": at,
                        **fields,
                    }
                ],
            )

    def without(self, standin: Any, *numbers: int) -> str:
        for number in numbers:
            at = self.at()
            standin.put("tickets", [{"id": number, "organization_id": 1, "created_at": at, "updated_at": at}])
        return "priority"

    def delete(self, standin: Any, number: int) -> None:
        standin.delete("tickets", str(number), at=self.at())

    def forbid(self, standin: Any) -> None:
        standin.credentials = dict.fromkeys(standin.credentials, ("organizations", "users"))


class ZendeskComments(Zendesk):
    def __init__(self) -> None:
        super().__init__()
        self.stream, self.path = "comments", "ticket_events"
        self.table, self.key = "raw_zendesk.interactions", "interaction_id"

    def start(self) -> StandIn:
        standin: Any = super().start()
        # A page by time repeats the last record of the one before it.
        standin.page_rows = 3
        super().put(standin, 100)
        standin.put("users", [{"id": 7, "role": "end-user", "updated_at": self.at()}])
        return standin

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "streams": ["organizations", "comments"]}

    def put(self, standin: Any, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            self.say(standin, number, plain_body=f"Comment {number} of {next(self.moments)}", metadata={}, **fields)

    def say(self, standin: Any, number: int, **fields: Any) -> None:
        standin.say(100, {"id": number, "author_id": 7, **fields}, at=self.at())

    def without(self, standin: Any, *numbers: int) -> str:
        for number in numbers:
            self.say(standin, number)
        return "plain_body"

    def delete(self, standin: Any, number: int) -> None:
        """What was public becomes a private note."""
        standin.hide(100, number, at=self.at())

    def forbid(self, standin: Any) -> None:
        standin.credentials = dict.fromkeys(standin.credentials, ("organizations", "users"))


class ZendeskRatings(Zendesk):
    def __init__(self) -> None:
        super().__init__()
        self.stream, self.path, self.scope = "satisfaction_ratings", "satisfaction_ratings", "satisfaction_ratings:read"
        self.table, self.key = "raw_zendesk.survey_responses", "response_id"

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "streams": ["organizations", "satisfaction_ratings"]}

    def put(self, standin: Any, *numbers: int, **fields: Any) -> None:
        self.rate(standin, *numbers, comment=f"Rated at {next(self.moments)}", **fields)

    def rate(self, standin: Any, *numbers: int, **fields: Any) -> None:
        """Each of a ticket of its own."""
        for number in numbers:
            at = self.at()
            super().put(standin, number)
            told = {"id": number, "ticket_id": number, "requester_id": 7, "score": "good", "updated_at": at}
            standin.put("satisfaction_ratings", [{**told, "created_at": at, **fields}])

    def without(self, standin: Any, *numbers: int) -> str:
        # Ratings of four weeks are looked at again.
        for _ in range(60 * 24 * 29):
            next(self.moments)
        self.rate(standin, *numbers)
        return "comment"

    def forbid(self, standin: Any) -> None:
        standin.credentials = dict.fromkeys(standin.credentials, ("organizations", "tickets"))


class Stripe(Case):
    def __init__(self) -> None:
        super().__init__(
            "stripe", "customers", "raw_stripe.accounts", "account_id", stripe.KEY, "Customers", "customers"
        )

    def start(self) -> StandIn:
        standin = stripe.StripeStandIn(requests=10_000)
        standin.page_rows = 2
        return standin

    def settings(self) -> dict[str, Any]:
        return {"connector": "stripe", "key": stripe.KEY, "requests_per_second": 10_000, "streams": ["customers"]}

    def at(self) -> int:
        return int((next(self.moments) - datetime(1970, 1, 1)).total_seconds())

    def put(self, standin: Any, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            at = self.at()
            before = standin.store.get("customers", f"cus_{number}") or {}
            standin.change(
                "customers",
                {
                    "id": f"cus_{number}",
                    "name": f"Customer {number} of {at}",
                    "email": None,
                    "metadata": {},
                    "created": before.get("created", at),
                    **fields,
                },
                at=at,
            )

    def without(self, standin: Any, *numbers: int) -> str:
        for number in numbers:
            at = self.at()
            standin.change("customers", {"id": f"cus_{number}", "created": at}, at=at)
        return "metadata"

    def delete(self, standin: Any, number: int) -> None:
        standin.delete("customers", f"cus_{number}", at=self.at())

    def forbid(self, standin: Any) -> None:
        standin.keys = dict.fromkeys(standin.keys, ("events",))


class StripeMoney(Stripe):
    """What charges and refunds have in common: one customer, and objects that are theirs."""

    prefix: str
    """How ids begin."""
    made: str
    """The event of a new one."""

    def __init__(self, stream: str) -> None:
        super().__init__()
        self.stream, self.path = stream, f"/v1/{stream}"
        self.table, self.key, self.scope = "raw_stripe.invoices", "invoice_id", "Charges and Refunds"

    def start(self) -> StandIn:
        standin: Any = super().start()
        standin.put("customers", [{"id": "cus_1", "name": "One", "created": self.at()}])
        standin.put("charges", [{"id": "ch_0", "customer": "cus_1", "created": self.at(), "captured": True}])
        return standin

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "streams": ["customers", self.stream]}

    def put(self, standin: Any, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            self.change(standin, number, status="succeeded", description=self.at(), **fields)

    def change(self, standin: Any, number: int, word: str | None = None, **fields: Any) -> None:
        at, key = self.at(), f"{self.prefix}_{number}"
        before = standin.store.get(self.stream, key) or {}
        word = word or (None if before else self.made)
        told = {"id": key, "amount": at, "currency": "usd", "created": before.get("created", at), **fields}
        standin.change(self.stream, {**told, **self.of()}, at=at, word=word)

    def of(self) -> dict[str, Any]:
        """Whose it is."""
        raise NotImplementedError

    def without(self, standin: Any, *numbers: int) -> str:
        for number in numbers:
            self.change(standin, number)
        return "status"

    def forbid(self, standin: Any) -> None:
        standin.keys = dict.fromkeys(standin.keys, ("customers", "events"))


class StripeCharges(StripeMoney):
    prefix, made = "ch", "succeeded"

    def __init__(self) -> None:
        super().__init__("charges")

    def start(self) -> StandIn:
        standin: Any = super().start()
        standin.remove("charges", "ch_0")
        return standin

    def of(self) -> dict[str, Any]:
        return {"customer": "cus_1", "captured": True}

    def put(self, standin: Any, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            super().put(standin, number, payment_intent=f"pi_{number}", **fields)
            if standin.store.get("invoice_payments", f"inpay_{number}"):
                standin.remove("invoice_payments", f"inpay_{number}")

    def delete(self, standin: Any, number: int) -> None:
        """Charges are never deleted: it becomes the payment of an invoice."""
        how = {"type": "payment_intent", "payment_intent": f"pi_{number}"}
        standin.put("invoice_payments", [{"id": f"inpay_{number}", "created": 0, "payment": how}])
        self.change(standin, number, status="succeeded", payment_intent=f"pi_{number}")


class StripeRefunds(StripeMoney):
    prefix, made = "re", "created"

    def __init__(self) -> None:
        super().__init__("refunds")

    def of(self) -> dict[str, Any]:
        return {"charge": "ch_0"}

    def delete(self, standin: Any, number: int) -> None:
        """Refunds are never deleted: it fails."""
        self.change(standin, number, word="failed", status="failed")


class HubSpot(Case):
    def __init__(self) -> None:
        super().__init__(
            "hubspot",
            "tickets",
            "raw_hubspot.tickets",
            "ticket_id",
            hubspot.TOKEN,
            "tickets",
            "objects/2026-03/tickets",
        )

    def start(self) -> StandIn:
        standin = hubspot.HubSpotStandIn(requests=10_000, searches=10_000)
        standin.page_rows = 2
        standin.put("companies", "1", at=self.at(), name="One")
        return standin

    def settings(self) -> dict[str, Any]:
        return {
            "connector": "hubspot",
            "token": hubspot.TOKEN,
            "requests": 10_000,
            "searches": 10_000,
            "streams": ["companies", "tickets"],
        }

    def at(self) -> str:
        return next(self.moments).strftime("%Y-%m-%dT%H:%M:%SZ")

    def put(self, standin: Any, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            at = self.at()
            told = {"subject": f"Ticket {number} of {at}", "content": "Help", "createdate": "2024-02-01T10:00:00Z"}
            belongs = {"companies": ["1"]}
            standin.put("tickets", str(number), at=at, associations=belongs, beside=fields, **told)

    def without(self, standin: Any, *numbers: int) -> str:
        standin.unknown.add("content")
        self.put(standin, *numbers)
        return "content"

    def delete(self, standin: Any, number: int) -> None:
        standin.archive(str(number), "tickets", at=self.at())

    def forbid(self, standin: Any) -> None:
        standin.tokens = {hubspot.TOKEN: ("crm.objects.companies.read", "crm.objects.owners.read")}


class Salesforce(Case):
    def __init__(self) -> None:
        super().__init__(
            "salesforce",
            "accounts",
            "raw_salesforce.accounts",
            "account_id",
            salesforce.CLIENT_SECRET,
            "read Account",
            "/services/data/",
            refused="gives no token",
        )

    def start(self) -> StandIn:
        standin = salesforce.SalesforceStandIn()
        standin.page_rows = 2
        return standin

    def settings(self) -> dict[str, Any]:
        return {
            "connector": "salesforce",
            "client_id": salesforce.CLIENT_ID,
            "client_secret": salesforce.CLIENT_SECRET,
            "streams": ["accounts"],
        }

    def at(self) -> str:
        return next(self.moments).strftime("%Y-%m-%dT%H:%M:%SZ")

    def put(self, standin: Any, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            at = self.at()
            told = {
                "Name": f"Account {number} of {at}",
                "Industry": "Software",
                "CreatedDate": "2024-02-01T10:00:00.000+0000",
            }
            standin.put("Account", salesforce.record_id(number), at=at, beside=fields, **told)

    def without(self, standin: Any, *numbers: int) -> str:
        standin.hidden.add("Account.Industry")
        self.put(standin, *numbers)
        return "Industry"

    def delete(self, standin: Any, number: int) -> None:
        standin.delete(salesforce.record_id(number), at=self.at())

    def forbid(self, standin: Any) -> None:
        standin.forbidden.add("Account")


class PostHog(Case):
    def __init__(self) -> None:
        super().__init__(
            "posthog",
            "groups",
            "raw_posthog.accounts",
            "account_id",
            posthog.KEY,
            "query:read",
            "/query/",
            tells_deletions=False,
        )

    def start(self) -> StandIn:
        return posthog.PostHogStandIn(queries=10_000)

    def settings(self) -> dict[str, Any]:
        return {
            "connector": "posthog",
            "project": posthog.PROJECT,
            "key": posthog.KEY,
            "queries_per_hour": 100_000,
            "page_rows": 2,
            "streams": ["groups"],
        }

    def at(self) -> str:
        return next(self.moments).strftime("%Y-%m-%d %H:%M:%S")

    def put(self, standin: Any, *numbers: int, **fields: Any) -> None:
        for number in numbers:
            at = self.at()
            standin.group(f"g{number}", at=at, name=f"Group {number} of {at}", industry="Software", **fields)

    def without(self, standin: Any, *numbers: int) -> str:
        for number in numbers:
            standin.group(f"g{number}", at=self.at(), name="Plain")
        return "industry"

    def delete(self, standin: Any, number: int) -> None:
        standin.forget_group(f"g{number}")

    def forbid(self, standin: Any) -> None:
        standin.keys = {posthog.KEY: ("insight:read",)}


VENDORS = [
    *(Zendesk, Stripe, PostHog),
    # The others hold to the same, which takes as long again.
    *(
        pytest.param(case, marks=pytest.mark.slow)
        for case in (HubSpot, Salesforce, ZendeskComments, ZendeskRatings, StripeCharges, StripeRefunds)
    ),
]


@dataclass
class Account:
    """A vendor's account as a source of the company."""

    case: Any
    standin: Any
    company: Any

    def load(self, **options: Any) -> Any:
        return self.company.load(**options)[self.case.stream]

    def keys(self) -> list[str]:
        found = self.company.query(f"select {self.case.key} from {self.case.table} order by length({self.case.key}), 1")
        return [key for (key,) in found]

    def put(self, *numbers: int, **fields: Any) -> None:
        self.case.put(self.standin, *numbers, **fields)

    def configure(self, **settings: Any) -> None:
        self.company.document["sources"]["vendor"].update(settings)


@pytest.fixture(params=VENDORS, ids=lambda vendor: vendor.__name__.lower())
def account(request: pytest.FixtureRequest, company: Any) -> Iterator[Account]:
    case = request.param()
    standin = case.start()
    with serving(standin) as url:
        block = {"base_url": url, "retry": PATIENT, "batch_rows": 2, "timeout_seconds": 0.5, **case.settings()}
        # Facts that some vendors do not have, and a configuration has to.
        facts = {
            "connector": "files",
            "path": str(company.data),
            "account_source": "vendor",
            "streams": {
                "usage_events": {
                    "files": "*.csv",
                    "columns": {"account_id": "a", "event_name": "e", "occurred_at": "t"},
                }
            },
        }
        company.write("events.csv", "a,e,t\n")
        company.sources(vendor=block, product=facts)
        yield Account(case, standin, company)


def counts(report: Any) -> tuple[int, ...]:
    return (report.rows_inserted, report.rows_updated, report.rows_deleted, report.rows_quarantined)


def test_an_answer_without_measure_or_end_stops_the_stream_with_what_to_do(account: Account) -> None:
    account.put(1, 2, 3)
    for fault, said, limits in (
        ("bomb", "answered with more than 5 MB (unpacked)", {"max_body_mb": 5}),
        ("trickle", "not answered in full within 0.3 s", {"deadline_seconds": 0.3}),
    ):
        account.configure(http=limits, retry={**PATIENT, "tries": 2})
        account.standin.fail(fault, times=2, match=account.case.path)
        report = account.load()
        account.standin.forget()
        assert (report.status, account.keys()) == ("stopped", [])
        assert said in report.message
        assert "raise `http: {" in report.message
    account.configure(http={})
    assert account.load().rows_inserted == 3


def test_pages_end_and_a_second_run_loads_nothing_new(account: Account) -> None:
    account.put(*range(1, 8))
    first = account.load()
    assert (first.status, first.rows_inserted, first.rows_quarantined) == ("loaded", 7, 0)
    assert first.requests >= 4
    assert len(account.keys()) == 7
    before = account.company.contents()
    assert counts(account.load()) == (0, 0, 0, 0)
    assert account.company.contents() == before


def test_a_changed_record_is_updated_once(account: Account) -> None:
    account.put(1, 2, 3)
    account.load()
    account.put(2)
    account.put(4)
    assert counts(account.load()) == (1, 1, 0, 0)
    assert counts(account.load()) == (0, 0, 0, 0)


def test_a_record_of_the_future_hides_nothing_that_changes_after_it(account: Account) -> None:
    """PostHog stamps records itself, and leaves out what its own clock has not reached."""
    account.put(1, 2)
    present, account.case.moments = account.case.moments, _moments(datetime(2024, 6, 2))
    account.put(3)
    account.case.moments = present
    report = account.load()
    assert "posthog" in account.case.name or "1 row is stamped in the future" in str(report.message)
    there = len(account.keys())
    for number in (1, 2):
        account.put(number, 3 + number)
        report = account.load()
        # The record of the future may be told anew once: by its event, after the list.
        assert report.rows_updated in (1, 2)
        assert (report.rows_inserted, report.rows_quarantined) == (1, 0)
    assert len(account.keys()) == there + 2
    before = account.company.contents()
    assert counts(account.load()) == (0, 0, 0, 0)
    assert account.company.contents() == before


def test_a_deleted_record_goes_once_and_may_come_back(account: Account) -> None:
    account.put(1, 2, 3)
    account.load()
    gone = account.keys()[1]
    account.case.delete(account.standin, 2)
    if not account.case.tells_deletions:
        assert counts(account.load()) == (0, 0, 0, 0)
        assert gone in set(account.keys())
        assert account.load(full=True).rows_inserted == 2
        assert gone not in set(account.keys())
        return
    assert counts(account.load()) == (0, 0, 1, 0)
    assert gone not in set(account.keys())
    assert counts(account.load()) == (0, 0, 0, 0)
    account.put(2)
    assert counts(account.load()) == (1, 0, 0, 0)
    account.put(5)
    account.case.delete(account.standin, 5)
    assert counts(account.load())[:2] == (0, 0)
    assert len(account.keys()) == 3


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "headers": {"Retry-After": "0"}},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 200, "body": "not an object"},
        {"kind": "status", "status": 200, "body": {}},
        {"kind": "reset"},
        {"kind": "hang", "seconds": 2},
    ],
    ids=["429", "503", "nonsense", "nothing", "reset", "time-out"],
)
def test_what_passes_is_waited_for(account: Account, fault: dict[str, Any]) -> None:
    account.put(*range(1, 6))
    account.standin.fail(**fault, match=account.case.path, times=2, after=1)
    report = account.load()
    assert (report.status, report.rows_inserted) == ("loaded", 5)
    assert len(account.keys()) == 5


def test_what_does_not_pass_stops_the_stream_and_keeps_its_stretches(account: Account) -> None:
    account.put(*range(1, 8))
    account.standin.fail("status", status=503, match=account.case.path, times=4, after=2)
    report = account.load()
    assert (report.status, report.rows_inserted) == ("stopped", len(account.keys()))
    assert 0 < report.rows_inserted < 7
    assert "It was tried 4 times." in report.message
    assert account.load().status == "loaded"
    assert len(account.keys()) == 7


def test_a_vendor_that_asks_for_much_patience_is_not_asked_again(account: Account) -> None:
    account.put(*range(1, 8))
    account.standin.fail("status", status=429, headers={"Retry-After": "3600"}, match=account.case.path, after=2)
    report = account.load(last_attempt=False)
    assert report.status == "stopped"
    assert "It asks to come back in 3,600 s." in report.message
    assert account.standin.calls(account.case.path) == 3
    account.load()
    assert len(account.keys()) == 7


def test_credentials_that_are_refused_are_named(account: Account) -> None:
    account.put(1)
    secret = next(name for name, value in account.case.settings().items() if value == account.case.secret)
    account.configure(**{secret: "wrong-0000"})
    report = account.load()
    assert report.status == "stopped"
    assert account.case.refused in report.message
    assert f"`{secret}`" in report.message
    assert "wrong-0000" not in report.message


def test_a_scope_that_is_missing_is_named(account: Account) -> None:
    account.put(1)
    account.case.forbid(account.standin)
    report = account.load()
    assert report.status == "stopped"
    assert account.case.scope in report.message
    assert account.standin.calls(account.case.path) == 1


def test_pages_that_lead_in_a_circle_stop_the_stream(account: Account) -> None:
    account.put(*range(1, 8))
    account.standin.fail("circle", match=account.case.path, times=1000, after=1)
    report = account.load()
    assert report.status == "stopped"
    assert "lead in a circle" in report.message


def test_a_killed_run_loses_one_stretch_and_the_next_goes_on(account: Account, tmp_path: Path) -> None:
    account.put(*range(1, 13))
    account.configure(timeout_seconds=30)
    account.standin.fail("hang", match=account.case.path, after=3, seconds=60)
    assert account.company.tenure
    company = account.company
    streams = [f"vendor/{stream}" for stream in company.tenure.config.sources["vendor"].streams]
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.tasks", "load", str(company.folder / "tenure.yml"), *streams],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TENURE_HOME": str(company.home)},
    )
    try:
        deadline = time.monotonic() + 60
        while account.standin.calls(account.case.path) < 4 and time.monotonic() < deadline:
            assert child.poll() is None
            time.sleep(0.01)
    finally:
        os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    loaded = len(account.keys())
    assert 0 < loaded < 12
    asked = account.standin.calls(account.case.path)
    report = account.load()
    assert counts(report) == (12 - loaded, 0, 0, 0)
    assert len(account.keys()) == 12
    assert account.standin.calls(account.case.path) - asked <= 6, "it began anew"
    assert account.company.query("select max(n) from (select count(*) as n from ledger.cursors group by stream)") == [
        (1,)
    ]


def test_an_account_without_records_works_and_those_that_come_are_read(account: Account) -> None:
    report = account.load()
    assert (report.status, report.rows_read) == ("unchanged", 0)
    account.put(1)
    assert counts(account.load()) == (1, 0, 0, 0)


def test_fields_that_change_their_shape_are_told_once_and_break_nothing(account: Account) -> None:
    account.put(1, 2, 3, colour="red")
    assert account.load().drift is None
    account.put(4, colour=["red", "blue"], size=7)
    report = account.load()
    assert (report.status, report.rows_inserted) == ("loaded", 1)
    assert report.drift == "colour was text and is now also list; size (number) appeared"
    account.put(5, colour="red", size=None)
    assert account.load().drift is None
    for _ in range(10):
        next(account.case.moments)
    field = account.case.without(account.standin, 6, 7)
    report = account.load()
    assert report.rows_inserted == 2
    # Where a run looks back, it still sees records that have the field, and the next one does not.
    assert f"{field} " in f"{report.drift} {account.load().drift}"
    assert account.load().drift is None
    told = account.company.query("select field, change from ledger.drift where stream <> 'organizations'")
    assert {("colour", "type"), ("size", "appeared"), (field, "vanished")} <= set(told)


def test_no_secret_is_in_a_message_or_in_the_warehouse(account: Account) -> None:
    account.put(*range(1, 5))
    account.standin.fail("echo", match=account.case.path, after=1)
    report = account.load()
    assert report.status == "stopped"
    assert "***" in report.message
    account.load()
    for path in account.company.home.rglob("*"):
        assert not path.is_file() or account.case.secret.encode() not in path.read_bytes(), path


def test_reading_all_anew_ends_in_the_same_rows(account: Account) -> None:
    account.put(*range(1, 6))
    account.load()
    account.put(2, 6)
    account.load()
    before = account.keys()
    report = account.load(full=True)
    assert (report.rows_inserted, report.rows_updated) == (6, 0)
    assert account.keys() == before


def test_a_first_load_reads_no_further_back_than_it_is_told(account: Account) -> None:
    account.put(1, 2)
    account.configure(since="2024-03-05")
    for _ in range(60 * 24 * 5):
        next(account.case.moments)
    account.put(3)
    # Accounts are read whole: facts of old ones would be of unknown accounts.
    assert account.load().rows_inserted == (3 if account.case.table.endswith(".accounts") else 1)
