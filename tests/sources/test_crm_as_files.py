"""The CRM of the sandbox company is the same through HubSpot's and Salesforce's API as through its files, at first and later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import sandbox
from sandbox import hubspot, salesforce

PROJECT = Path(__file__).parents[2]
LEGACY = {"account_id": '"Account.Legacy_Id__c"', "direction": "Direction__c"}
SALESFORCE = {
    "accounts": {
        "columns": {
            "account_id": "Legacy_Id__c",
            "segment": "Segment__c",
            "parent_account_id": '"Parent.Legacy_Id__c"',
            "merged_into_account_id": '"MasterRecord.Legacy_Id__c"',
        }
    },
    "contacts": {
        "columns": {
            "contact_id": "Legacy_Id__c",
            "account_id": '"Account.Legacy_Id__c"',
            "left_at": "Left_Company__c",
        }
    },
    "tasks": {"columns": {"interaction_id": "Legacy_Id__c", "occurred_at": "CompletedDateTime", **LEGACY}},
    "events": {"columns": {"interaction_id": "Legacy_Id__c", **LEGACY}},
}
HUBSPOT = {
    "companies": {"columns": {"segment": "segment"}},
    "contacts": {"columns": {"role": "role", "left_at": "left_company_date"}},
    "emails": None,
    "calls": None,
    "meetings": {"columns": {"direction": "lower(direction)"}},
    "notes": {"columns": {"direction": "lower(direction)", "subject": "subject"}},
}
COLUMNS = {
    "accounts": "account_id, name, domain, industry, segment, country, employees, parent_account_id, owner_name, owner_email, created_at",
    "contacts": "contact_id, {account}, email, role, created_at, is_unsubscribed, left_at, updated_at",
    "interactions": "interaction_id, {account}, channel, direction, occurred_at, subject, body",
}
"""What has to be the same. A company that was merged away has nothing of its own any more in HubSpot."""


@contextmanager
def reached(connector: str, home: Path) -> Iterator[dict[str, Any]]:
    """The stand-in of a home, and the settings of a source that lead to it."""
    if connector == "hubspot":
        with hubspot.running(home, requests=100_000, searches=100_000) as url:
            limits = {"requests": 100_000, "searches": 100_000}
            yield {"base_url": url, "token": hubspot.TOKEN, **limits, "streams": HUBSPOT}
    else:
        with salesforce.running(home) as url:
            secrets = {"client_id": salesforce.CLIENT_ID, "client_secret": salesforce.CLIENT_SECRET}
            yield {"login_url": url, **secrets, "bulk_above": 400, "streams": SALESFORCE}


def rows(company: Any, connector: str, entity: str) -> set[tuple[Any, ...]]:
    account = f"coalesce((select merged_into_account_id from raw_{connector}.accounts as a where a.account_id = e.account_id),"
    columns = COLUMNS[entity].format(account=f"{account} account_id) as account")
    kept = "and merged_into_account_id is null" if entity == "accounts" else ""
    source = "files" if connector == "files" else "crm"
    found = company.query(f"select {columns} from raw_{connector}.{entity} as e where _source = '{source}' {kept}")
    assert len(set(found)) == len(found)
    return set(found)


@pytest.mark.parametrize("connector", ["hubspot", "salesforce"])
def test_the_crm_is_the_same_as_its_files(company: Any, connector: str) -> None:
    sandbox.generate(company.home, accounts=250, months=4, seed=11)
    document = yaml.safe_load((PROJECT / "config" / "tenure.yml").read_text(encoding="utf-8"))
    files = {**document["sources"]["crm"], "path": str(company.home / "sandbox" / "data" / "crm")}
    billing = {**document["sources"]["billing"], "path": str(company.home / "sandbox" / "data" / "billing")}
    for days in (0, 12):
        if days:
            sandbox.advance(company.home, days=days)
        with reached(connector, company.home) as settings:
            company.sources(files=files, crm={"connector": connector, **settings}, billing=billing)
            reports = company.load()
        assert [report.message for report in reports.values() if report.status == "stopped"] == []
        for entity in COLUMNS:
            assert rows(company, connector, entity) == rows(company, "files", entity), (days, entity)
        merged = (
            "select account_id, merged_into_account_id from raw_{}.accounts where merged_into_account_id is not null"
        )
        assert set(company.query(merged.format(connector))) == set(
            company.query(merged.format("files") + " and _source = 'files'")
        )
    assert len(rows(company, connector, "interactions")) > 500
    assert company.query(merged.format(connector))
