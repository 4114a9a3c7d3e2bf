"""Salesforce as a source: what only it does; what all vendors do is in `test_vendor_contract.py`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce

from sandbox.salesforce import CLIENT_ID, CLIENT_SECRET, SalesforceStandIn, record_id
from sandbox.salesforce_export import own_id
from sandbox.serve import serving
from sandbox.standin import Fault

ONE, TWO = record_id(1), record_id(2)
ANN = own_id("Contact", 11)


@pytest.fixture
def org(company: Any) -> Iterator[SalesforceStandIn]:
    """Salesforce with two accounts, a contact, a task, an event and a case, configured as the source `crm`."""
    standin = SalesforceStandIn(now=lambda: company.now.replace(tzinfo=UTC))
    at = "2024-01-01T00:00:00Z"
    standin.put(
        "Account",
        ONE,
        at=at,
        Name="One",
        Website="one.example",
        OwnerId="005",
        Owner={"Name": "Olga", "Email": "olga@us.example"},
    )
    standin.put("Account", TWO, at=at, Name="Two", Tier__c="gold")
    standin.define("Tier__c")
    standin.put("Contact", ANN, at=at, AccountId=ONE, Email="ann@one.example", HasOptedOutOfEmail=True)
    call = {
        "TaskSubtype": "Call",
        "CallType": "Inbound",
        "IsClosed": True,
        "CompletedDateTime": "2024-01-02T12:00:00.000+0000",
    }
    standin.put("Task", own_id("Task", 21), at=at, AccountId=ONE, WhoId=ANN, Subject="Hi", **call)
    standin.put("Task", own_id("Task", 22), at=at, AccountId=ONE, Subject="To do", IsClosed=False)
    standin.put("Event", own_id("Event", 31), at=at, AccountId=TWO, StartDateTime="2024-01-03T12:00:00.000+0000")
    standin.put("Case", own_id("Case", 41), at=at, AccountId=TWO, Subject="Help", Priority="High", Status="New")
    with serving(standin) as url:
        company.sources(
            crm={
                "connector": "salesforce",
                "login_url": url,
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "retry": {"first_seconds": 0.01, "tries": 3},
            },
            product={
                "connector": "files",
                "path": str(company.data),
                "account_source": "crm",
                "streams": {
                    "usage_events": {
                        "files": "*.csv",
                        "columns": {"account_id": "a", "event_name": "e", "occurred_at": "t"},
                    }
                },
            },
        )
        company.write("events.csv", f"a,e,t\n{ONE},login,2024-02-01\n")
        yield standin


def accounts(standin: SalesforceStandIn, *numbers: int, at: str = "2024-01-05T00:00:00Z", **values: Any) -> None:
    for number in numbers:
        standin.put("Account", record_id(number), at=at, Name=f"A{number}", **values)


def test_records_are_read_with_their_owners_and_accounts(company: Any, org: SalesforceStandIn) -> None:
    company.load()
    told = "account_id, name, domain, owner_id, owner_name, owner_email"
    assert company.query(f"select {told} from raw_salesforce.accounts order by 1") == [
        (ONE, "One", "one.example", "005", "Olga", "olga@us.example"),
        (TWO, "Two", None, None, None, None),
    ]
    assert company.query("select contact_id, account_id, email, is_unsubscribed from raw_salesforce.contacts") == [
        (ANN, ONE, "ann@one.example", True)
    ]
    assert company.query(
        "select account_id, contact_id, channel, direction, cast(occurred_at as varchar), subject from raw_salesforce.interactions"
        " order by channel"
    ) == [
        (ONE, ANN, "call", "inbound", "2024-01-02 12:00:00", "Hi"),
        (TWO, None, "meeting", None, "2024-01-03 12:00:00", None),
    ]
    assert company.query(
        "select account_id, cast(opened_at as varchar), solved_at, priority, status, subject from raw_salesforce.tickets"
    ) == [(TWO, "2024-01-01 00:00:00", None, "high", "New", "Help")]


def test_fields_of_ones_own_and_of_parents_are_read_as_soon_as_the_mapping_names_them(
    company: Any, org: SalesforceStandIn
) -> None:
    org.define("Boss__c")
    accounts(org, 3, Boss__r={"Email": "boss@x"}, Boss__c="005")
    columns = {"segment": "upper(Tier__c)", "owner_email": '"Boss__r.Email"'}
    company.document["sources"]["crm"]["streams"] = {"accounts": {"columns": columns}}
    company.load()
    assert company.query("select segment, owner_email from raw_salesforce.accounts order by account_id") == [
        (None, None),
        ("GOLD", None),
        (None, "boss@x"),
    ]


def test_a_field_of_ones_own_that_is_not_there_is_named(company: Any, org: SalesforceStandIn) -> None:
    company.document["sources"]["crm"]["streams"] = {"accounts": {"columns": {"segment": "Teir__c"}}}
    report = company.load()["accounts"]
    assert (report.status, "no field Teir__c" in (report.message or "")) == ("stopped", True)


def test_a_standard_field_that_the_user_may_not_see_is_empty(company: Any, org: SalesforceStandIn) -> None:
    org.hidden.add("Case.Priority")
    company.load()
    assert company.query("select priority, status from raw_salesforce.tickets") == [(None, "New")]


def test_what_changed_is_asked_for_by_its_moment(company: Any, org: SalesforceStandIn) -> None:
    company.load()
    accounts(org, 1, at="2024-02-01T00:00:00Z")
    reports = company.load()
    assert (reports["accounts"].rows_read, reports["accounts"].rows_updated) == (2, 1)
    org.forget()
    reports = company.load()
    assert {name: report.rows_updated + report.rows_inserted for name, report in reports.items()} == dict.fromkeys(
        reports, 0
    )
    assert reports["accounts"].rows_read == 1


def test_pages_are_read_to_their_end_and_a_lost_locator_is_no_end(company: Any, org: SalesforceStandIn) -> None:
    accounts(org, *range(100, 6_100))
    org.fail("status", match="/query/", status=400, code="INVALID_QUERY_LOCATOR")
    report = company.load()["accounts"]
    assert (report.message, report.rows_inserted, report.rows_superseded) == (None, 6_002, 0)
    assert company.query("select count(*), count(distinct account_id) from raw_salesforce.accounts") == [(6_002, 6_002)]


def test_deleted_records_go_and_merged_accounts_lead_to_their_master(company: Any, org: SalesforceStandIn) -> None:
    accounts(org, 3)
    company.load()
    org.delete(record_id(3))
    org.merge(TWO, ONE)
    org.delete(own_id("Task", 21), "Task")
    reports = company.load()
    assert (reports["accounts"].rows_deleted, reports["tasks"].rows_deleted) == (1, 1)
    assert company.query("select account_id, name, merged_into_account_id from raw_salesforce.accounts order by 1") == [
        (ONE, "One", None),
        (TWO, "Two", ONE),
    ]


def test_a_large_result_is_read_as_a_job_in_parts(company: Any, org: SalesforceStandIn) -> None:
    accounts(org, *range(100, 21_100), Owner={"Email": "o@x"}, OwnerId="005", NumberOfEmployees=7)
    org.delete(record_id(100))
    company.document["sources"]["crm"]["bulk_above"] = 10_000
    company.load()
    assert company.query(
        "select count(*), count(distinct account_id), min(employees) from raw_salesforce.accounts"
    ) == [(21_001, 21_001, 7)]
    assert company.query("select owner_email from raw_salesforce.accounts where name = 'A2000'") == [("o@x",)]
    assert (org.calls("/results"), org.calls("/query/0r8"), len(org.jobs)) == (3, 0, 0)
    accounts(org, 3, at="2024-06-01T00:02:00Z")
    assert company.load()["accounts"].rows_inserted == 1


def test_a_job_that_fails_is_tried_again_by_the_next_run(company: Any, org: SalesforceStandIn) -> None:
    accounts(org, *range(100, 200))
    company.document["sources"]["crm"]["bulk_above"] = 50
    org.fail("fail", match="/jobs/query")
    report = company.load()["accounts"]
    assert (report.status, "query job" in (report.message or "")) == ("stopped", True)
    assert company.load()["accounts"].rows_inserted == 102


def test_a_run_goes_on_in_its_job_and_makes_another_where_it_is_gone(company: Any, org: SalesforceStandIn) -> None:
    accounts(org, *range(100, 30_100))
    company.document["sources"]["crm"] |= {"bulk_above": 50, "batch_rows": 1_000}
    # The second part cannot be had in this run.
    org.faults += [Fault("later", 1, "results"), *(Fault("status", 1, "results", {"status": 503}) for _ in range(3))]
    assert company.load()["accounts"].status == "stopped"
    assert company.query("select count(*) from raw_salesforce.accounts") == [(10_000,)]
    org.fail("status", match="results", status=503, times=4)
    org.fail("status", match="results", status=503, times=4)
    assert (company.load()["accounts"].status, len(org.jobs)) == ("stopped", 1)
    org.faults.clear()
    org.jobs.clear()
    report = company.load()["accounts"]
    assert (report.message, report.rows_inserted, report.rows_unchanged) == (None, 20_002, 10_000)


def test_a_token_that_ended_is_renewed_once(company: Any, org: SalesforceStandIn) -> None:
    accounts(org, *range(100, 2_600))
    org.fail("status", match="/query/", status=401, code="INVALID_SESSION_ID")
    assert company.load()["accounts"].rows_inserted == 2_502
    assert org.calls("oauth2/token") == 6


def test_the_limit_of_the_day_stops_and_the_share_that_is_used_is_told(company: Any, org: SalesforceStandIn) -> None:
    assert (company.load()["accounts"].quota or "").endswith("of the calls of 24 hours used")
    org.fail("limit", times=1, match="/queryAll")
    report = company.load()["accounts"]
    assert (report.status, "REQUEST_LIMIT_EXCEEDED" in (report.message or "")) == ("stopped", True)


def test_wrong_credentials_are_named_without_being_told(company: Any, org: SalesforceStandIn) -> None:
    company.document["sources"]["crm"]["client_secret"] = "wrong-canary-secret"
    org.fail("echo", times=20, match="token")
    reports = company.load()
    assert "Check `client_id` and `client_secret`" in (reports["accounts"].message or "")
    assert not any("canary" in (report.message or "") for report in reports.values())


class _Plain(HTTPAdapter):
    """The official-style client speaks TLS only; the stand-in does not."""

    def send(self, request: Any, **given: Any) -> Any:
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, **given)


def test_an_independent_client_reads_the_same_records(company: Any, org: SalesforceStandIn) -> None:
    accounts(org, *range(100, 2_600))
    org.delete(record_id(100))
    company.load()
    address = company.document["sources"]["crm"]["login_url"].removeprefix("http://")
    session = requests.Session()
    session.mount("https://", _Plain())
    form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    token = requests.post(f"http://{address}/services/oauth2/token", data=form, timeout=10).json()["access_token"]
    client = Salesforce(instance=address, session_id=token, version="67.0", session=session)
    told = {
        (record["Id"], record["Name"])
        for record in client.query_all_iter("SELECT Id, Name FROM Account", include_deleted=False)
    }
    assert told == set(company.query("select account_id, name from raw_salesforce.accounts"))
    assert len(told) == 2_501
    names = {field["name"] for field in client.Case.describe()["fields"]}
    assert {"Priority", "Status", "ClosedDate", "SystemModstamp"} <= names


@pytest.mark.parametrize("bulk_above", [20_000, 1])
def test_ids_have_18_characters_whichever_form_salesforce_gives(
    company: Any, org: SalesforceStandIn, bulk_above: int
) -> None:
    org.put("Contact", own_id("Contact", 12), AccountId=ONE[:15], Email="short@one.example")
    company.document["sources"]["crm"]["bulk_above"] = bulk_above
    company.load()
    found = company.query("select distinct account_id from raw_salesforce.contacts")
    assert found == [(ONE,)]


@pytest.mark.parametrize(("bulk_above", "part"), [(20_000, "queryAll"), (1, "results")])
def test_a_part_of_the_records_is_not_taken_for_all_of_them(
    company: Any, org: SalesforceStandIn, bulk_above: int, part: str
) -> None:
    company.document["sources"]["crm"]["bulk_above"] = bulk_above
    org.fail("cut", match=part)
    report = company.load()["accounts"]
    assert (report.status, report.rows_read) == ("stopped", 0)
    assert "and not" in report.message
    assert company.load()["accounts"].rows_inserted == 2
