"""Stand-ins that are served over HTTP, and changes to bring to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from activation.base import Change, Field, Operation, RowResult, Value
from activation.destinations.hubspot import HubSpot
from activation.destinations.salesforce import Salesforce
from sandbox.hubspot import TOKEN, HubSpotStandIn
from sandbox.salesforce import CLIENT_ID, CLIENT_SECRET, SalesforceStandIn, record_id
from sandbox.serve import serving

FIELDS = (
    Field("tenure_churn_probability", "number", "Churn probability", "0 to 1."),
    Field("tenure_churn_tier", "text", "Churn tier", "high, medium or low."),
    Field("tenure_is_fallback", "boolean", "Is fallback", "True where no model is good enough."),
    Field("tenure_as_of_date", "date", "As of", "Only facts before this date were used."),
)


def values(number: int = 0) -> dict[str, Value]:
    return {
        "tenure_churn_probability": 0.25 + number / 1000,
        "tenure_churn_tier": "high",
        "tenure_is_fallback": False,
        "tenure_as_of_date": date(2026, 3, 1),
    }


def change(key: object, operation: Operation = "update", **changed: Value) -> Change:
    found = {**values(), **changed}
    return Change(str(key), operation, dict.fromkeys(found) if operation == "retire" else found)


def by_key(results: Sequence[RowResult]) -> dict[str, RowResult]:
    """The results, which name each row once."""
    assert len({result.key for result in results}) == len(results)
    return {result.key: result for result in results}


def statuses(results: Sequence[RowResult]) -> dict[str, str]:
    return {key: result.status for key, result in by_key(results).items()}


@pytest.fixture(scope="session")
def words() -> SimpleNamespace:
    """What tests use to talk about changes and results."""
    return SimpleNamespace(fields=FIELDS, values=values, change=change, by_key=by_key, statuses=statuses)


@dataclass(frozen=True)
class HubSpotAccount:
    """A HubSpot account that is served, with the companies 1 to 300."""

    standin: HubSpotStandIn
    url: str

    def connect(self, token: str = TOKEN, **settings: Any) -> HubSpot:
        return HubSpot(token, base_url=self.url, **settings)

    def company(self, key: object) -> Mapping[str, str]:
        return self.standin.company(str(key))


@pytest.fixture(scope="session")
def served_hubspot() -> Iterator[HubSpotAccount]:
    standin = HubSpotStandIn(seconds=0.5)
    with serving(standin) as url:
        yield HubSpotAccount(standin, url)


@pytest.fixture
def hubspot(served_hubspot: HubSpotAccount) -> HubSpotAccount:
    """The account as new: companies, no properties of ours."""
    standin = served_hubspot.standin
    fresh = HubSpotStandIn(seconds=0.5)
    standin.forget()
    standin.store, standin.window, standin.tokens = fresh.store, fresh.window, fresh.tokens
    standin.seed(
        {"id": str(number), "name": f"Company {number}", "domain": f"c{number}.example"} for number in range(1, 301)
    )
    return served_hubspot


@pytest.fixture
def ready_hubspot(hubspot: HubSpotAccount) -> HubSpotAccount:
    """The same with our properties."""
    hubspot.connect().setup(FIELDS)
    hubspot.standin.forget()
    return hubspot


@dataclass(frozen=True)
class SalesforceOrganisation:
    """A Salesforce organisation that is served, with the accounts 1 to 300."""

    standin: SalesforceStandIn
    url: str

    def connect(self, **settings: Any) -> Salesforce:
        given = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "login_url": self.url, **settings}
        return Salesforce(**given)

    def account(self, number: int) -> Mapping[str, Any]:
        return self.standin.account(record_id(number))


@pytest.fixture(scope="session")
def served_salesforce() -> Iterator[SalesforceOrganisation]:
    standin = SalesforceStandIn()
    with serving(standin) as url:
        yield SalesforceOrganisation(standin, url)


@pytest.fixture
def bare_salesforce(served_salesforce: SalesforceOrganisation) -> SalesforceOrganisation:
    """The organisation as new: accounts, no fields of ours."""
    standin, fresh = served_salesforce.standin, SalesforceStandIn()
    standin.forget()
    standin.store, standin.clients, standin.tokens, standin.jobs = fresh.store, fresh.clients, fresh.tokens, fresh.jobs
    standin.used, standin.daily_calls, standin._external = 0, fresh.daily_calls, {}
    standin.define("Tenure_Key__c", external=True)
    standin.seed(
        {"id": number, "Name": f"Account {number}", "Tenure_Key__c": f"acc-{number}"} for number in range(1, 301)
    )
    return served_salesforce


@pytest.fixture
def salesforce(bare_salesforce: SalesforceOrganisation) -> SalesforceOrganisation:
    """The same with our fields."""
    kinds = {"number": "double", "text": "string"}
    for field in FIELDS:
        bare_salesforce.standin.define(field.name, kinds.get(field.kind, field.kind))
    return bare_salesforce
