"""HubSpot as a source: what only it does; what all vendors do is in `test_vendor_contract.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any

import pytest
from hubspot import HubSpot
from hubspot.crm.associations.v4 import BatchInputPublicFetchAssociationsBatchRequest
from hubspot.crm.contacts import PublicObjectSearchRequest

from sandbox.hubspot import TOKEN, HubSpotStandIn
from sandbox.serve import serving

PRODUCT = {
    "usage_events": {
        "files": "*.csv",
        "columns": {"account_id": "a", "event_name": "e", "occurred_at": "t"},
    }
}
"""A configuration needs facts that a CRM does not have."""


@pytest.fixture
def crm(company: Any) -> Iterator[HubSpotStandIn]:
    """HubSpot with two companies, a contact and a note, configured as the source `crm`."""
    standin = HubSpotStandIn(requests=10_000, searches=10_000, now=lambda: company.now.replace(tzinfo=UTC))
    standin.own("7", "olga@us.example", first_name="Olga", last_name="Berg")
    standin.own("8", "left@us.example", archived=True)
    standin.put("companies", "1", at="2024-01-01T00:00:00Z", name="One", domain="one.example", hubspot_owner_id="7")
    standin.put("companies", "2", at="2024-01-02T00:00:00Z", name="Two", hubspot_owner_id="8", tier="gold")
    standin.put(
        "contacts", "11", at="2024-01-03T00:00:00Z", email="ann@one.example", associatedcompanyid="1", jobtitle="Chief"
    )
    standin.put(
        "notes",
        "21",
        at="2024-01-04T00:00:00Z",
        associations={"companies": ["1"], "contacts": ["11"]},
        hs_timestamp="2024-01-03T12:00:00Z",
        hs_note_body="Met",
    )
    with serving(standin) as url:
        company.sources(
            crm={
                "connector": "hubspot",
                "base_url": url,
                "token": TOKEN,
                "requests": 10_000,
                "searches": 10_000,
                "retry": {"first_seconds": 0.01, "tries": 3},
            },
            product={
                "connector": "files",
                "path": str(company.data),
                "account_source": "crm",
                "streams": PRODUCT,
            },
        )
        company.write("events.csv", "a,e,t\n1,login,2024-02-01\n")
        yield standin


def test_records_are_read_with_their_owners_and_associations(company: Any, crm: HubSpotStandIn) -> None:
    company.load()
    told = "account_id, name, domain, owner_id, owner_name, owner_email"
    assert company.query(f"select {told} from raw_hubspot.accounts order by 1") == [
        ("1", "One", "one.example", "7", "Olga Berg", "olga@us.example"),
        ("2", "Two", None, "8", None, "left@us.example"),
    ]
    assert company.query("select contact_id, account_id, email, role from raw_hubspot.contacts") == [
        ("11", "1", "ann@one.example", "Chief")
    ]
    assert company.query(
        "select interaction_id, account_id, contact_id, channel, cast(occurred_at as varchar), body from raw_hubspot.interactions"
    ) == [("21", "1", "11", "note", "2024-01-03 12:00:00", "Met")]


def test_activities_of_every_kind_have_a_channel_and_a_direction(company: Any, crm: HubSpotStandIn) -> None:
    belongs = {"companies": ["1"]}
    at = "2024-01-05T00:00:00Z"
    for number, direction in enumerate(("INCOMING_EMAIL", "EMAIL", "FORWARDED_EMAIL")):
        crm.put("emails", f"3{number}", at=at, associations=belongs, hs_timestamp=at, hs_email_direction=direction)
    crm.put(
        "calls", "41", at=at, associations=belongs, hs_timestamp=at, hs_call_direction="INBOUND", hs_call_title="Hi"
    )
    crm.put("meetings", "51", at=at, associations=belongs, hs_timestamp=at, hs_meeting_title="Review")
    company.load()
    assert company.query(
        "select interaction_id, channel, direction, subject from raw_hubspot.interactions where channel <> 'note' order by 1"
    ) == [
        ("30", "email", "inbound", None),
        ("31", "email", "outbound", None),
        ("32", "email", "outbound", None),
        ("41", "call", "inbound", "Hi"),
        ("51", "meeting", None, "Review"),
    ]


def test_tickets_are_read_with_their_company(company: Any, crm: HubSpotStandIn) -> None:
    crm.put(
        "tickets",
        "61",
        at="2024-01-05T00:00:00Z",
        associations={"companies": ["2"]},
        subject="Help",
        content="It is broken",
        hs_ticket_priority="HIGH",
        hs_pipeline_stage="4",
        first_agent_reply_date="2024-01-05T01:00:00Z",
        closed_date="2024-01-06T00:00:00Z",
    )
    company.load()
    assert company.query(
        "select account_id, cast(opened_at as varchar), cast(first_response_at as varchar), cast(solved_at as varchar), priority,"
        " status, subject, body from raw_hubspot.tickets"
    ) == [
        ("2", "2024-01-05 00:00:00", "2024-01-05 01:00:00", "2024-01-06 00:00:00", "high", "4", "Help", "It is broken")
    ]


def test_a_property_of_ones_own_is_read_as_soon_as_the_mapping_names_it(company: Any, crm: HubSpotStandIn) -> None:
    company.document["sources"]["crm"]["streams"] = {
        "companies": {"columns": {"segment": "upper(coalesce(tier, 'none'))"}}
    }
    company.load()
    assert company.query("select segment from raw_hubspot.accounts order by 1") == [("GOLD",), ("NONE",)]


def test_what_changed_is_searched_for_and_the_rest_is_not_read_again(company: Any, crm: HubSpotStandIn) -> None:
    company.load()
    crm.forget()
    crm.put("companies", "1", at="2024-02-01T00:00:00Z", name="Uno")
    reports = company.load()
    assert (reports["companies"].rows_updated, reports["companies"].rows_read) == (1, 2)
    assert company.query("select name from raw_hubspot.accounts order by 1") == [("Two",), ("Uno",)]
    assert crm.calls("/crm/objects/2026-03/companies/search") == 1
    crm.forget()
    reports = company.load()
    assert {name: report.rows_updated + report.rows_inserted for name, report in reports.items()} == dict.fromkeys(
        reports, 0
    )


def test_more_records_than_a_search_tells_may_share_one_moment(company: Any, crm: HubSpotStandIn) -> None:
    company.document["sources"]["crm"]["streams"] = ["companies", "contacts"]
    company.load()
    for number in range(1000, 11_300):
        crm.put("contacts", str(number), at="2024-03-01T00:00:00Z", email=f"{number}@x", associatedcompanyid="1")
    reports = company.load()
    assert reports["contacts"].rows_inserted == 10_300
    assert company.query("select count(*) from raw_hubspot.contacts") == [(10_301,)]


def test_a_change_that_the_search_does_not_know_yet_is_found_by_the_next_run(company: Any, crm: HubSpotStandIn) -> None:
    company.load()
    crm.put("companies", "1", at="2024-02-01T00:00:00Z", name="Uno")
    crm.put("companies", "2", at="2024-02-01T00:01:00Z", name="Due")
    crm.unindexed.add("1")
    company.load()
    assert company.query("select name from raw_hubspot.accounts order by 1") == [("Due",), ("One",)]
    crm.unindexed.clear()
    company.load()
    assert company.query("select name from raw_hubspot.accounts order by 1") == [("Due",), ("Uno",)]


def test_what_changes_while_the_lists_are_read_is_read_again(company: Any, crm: HubSpotStandIn) -> None:
    """The list's last page tells of a change after the run began: what changed on its first pages may be missing."""
    crm.put("companies", "2", at="2024-06-01T12:00:00Z", name="Two")
    company.load()
    crm.put("companies", "1", at="2024-06-01T11:00:00Z", name="Uno")
    company.load()
    assert company.query("select name from raw_hubspot.accounts order by 1") == [("Two",), ("Uno",)]


def test_archived_records_go_unless_something_happened_to_them(company: Any, crm: HubSpotStandIn) -> None:
    company.load()
    crm.archive("1")
    crm.archive("2")
    crm.archive("11", "contacts")
    crm.archive("21", "notes")
    reports = company.load()
    assert [reports[name].rows_deleted for name in ("companies", "contacts", "notes")] == [1, 1, 1]
    assert company.query("select account_id from raw_hubspot.accounts") == [("1",)]
    assert company.query("select left_at is not null from raw_hubspot.contacts") == [(True,)]
    assert company.query("select count(*) from raw_hubspot.interactions") == [(0,)]
    assert sum(report.rows_deleted for report in company.load().values()) == 0


def test_a_merged_company_leads_to_its_survivor(company: Any, crm: HubSpotStandIn) -> None:
    company.load()
    crm.merge("2", "1")
    company.load()
    merged = "select account_id, merged_into_account_id from raw_hubspot.accounts order by 1"
    assert company.query(merged) == [("1", None), ("2", "1")]
    company.load(full=True)
    assert company.query(merged) == [("1", None), ("2", "1")]
    assert company.quarantined("accounts") == []


def test_a_planned_meeting_is_kept_until_it_happens(company: Any, crm: HubSpotStandIn) -> None:
    crm.put("meetings", "51", associations={"companies": ["1"]}, hs_timestamp="2025-01-01T00:00:00Z")
    company.load()
    assert company.quarantined("interactions") == []
    assert company.query("select year(occurred_at) from raw_hubspot.interactions where channel = 'meeting'") == [
        (2025,)
    ]


def test_the_primary_company_counts_among_several(company: Any, crm: HubSpotStandIn) -> None:
    for number in range(600):
        crm.put("companies", str(100 + number), at="2024-01-01T00:00:00Z", name="N")
    every = [str(100 + number) for number in range(600)]
    crm.put(
        "notes", "22", at="2024-01-05T00:00:00Z", associations={"companies": ["2", *every]}, hs_timestamp="2024-01-05"
    )
    company.load()
    assert company.query("select account_id from raw_hubspot.interactions where interaction_id = '22'") == [("2",)]
    assert crm.calls("/associations/2026-03/notes/companies") == 2


def test_a_first_load_of_what_happens_may_begin_at_a_day(company: Any, crm: HubSpotStandIn) -> None:
    crm.put("notes", "22", at="2024-01-06T00:00:00Z", associations={"companies": ["1"]}, hs_timestamp="2024-01-06")
    company.document["sources"]["crm"]["since"] = "2024-01-05"
    company.load()
    assert company.query("select interaction_id from raw_hubspot.interactions") == [("22",)]
    assert company.query("select count(*) from raw_hubspot.accounts") == [(2,)]


@pytest.mark.parametrize(
    ("policy", "status", "said"),
    [("SECONDLY", "loaded", None), ("DAILY", "stopped", "The calls that HubSpot allows in a day are used up")],
)
def test_the_limits_of_seconds_are_waited_for_and_that_of_a_day_stops(
    company: Any, crm: HubSpotStandIn, policy: str, status: str, said: str | None
) -> None:
    crm.window.seconds = 0.05
    crm.fail("throttle", match="/companies", policy="TEN_SECONDLY_ROLLING" if policy == "SECONDLY" else policy)
    report = company.load()["companies"]
    assert (report.status, (report.message or "").partition(": ")[2][:50] or None) == (status, said and said[:50])


def test_a_missing_scope_is_named_and_stops_only_its_stream(company: Any, crm: HubSpotStandIn) -> None:
    crm.tokens[TOKEN] = tuple(scope for scope in crm.tokens[TOKEN] if scope != "tickets")
    reports = company.load()
    assert [name for name, report in reports.items() if report.status == "stopped"] == ["tickets"]
    assert "Missing: tickets" in (reports["tickets"].message or "")


def test_the_quota_of_the_day_is_told(company: Any, crm: HubSpotStandIn) -> None:
    reports = company.load()
    assert (reports["companies"].quota or "").endswith("of 650,000 calls of the day left")


@pytest.mark.parametrize("faulty", ["/companies", "/owners", "/associations"])
def test_a_reset_in_any_of_the_calls_of_a_page_loses_nothing(company: Any, crm: HubSpotStandIn, faulty: str) -> None:
    crm.fail("reset", match=faulty)
    crm.fail("status", match=faulty, status=503)
    company.load()
    assert company.query("select count(*) from raw_hubspot.accounts where owner_email is not null") == [(2,)]
    assert company.query("select account_id from raw_hubspot.interactions") == [("1",)]


def test_the_official_client_reads_the_same_records(
    company: Any, crm: HubSpotStandIn, served_url: Callable[[], str]
) -> None:
    for number in range(100, 400):
        crm.put(
            "contacts", str(number), at="2024-01-05T00:00:00Z", email=f"{number}@x.example", associatedcompanyid="1"
        )
    company.load()
    client = HubSpot(access_token=TOKEN, host=served_url())
    contacts = client.crm.contacts.get_all(properties=["email", "associatedcompanyid"])
    told = {(one.id, one.properties["associatedcompanyid"], one.properties["email"]) for one in contacts}
    ours = company.query("select contact_id, account_id, email from raw_hubspot.contacts")
    assert (told, len(told)) == (set(ours), 301)
    search = PublicObjectSearchRequest(
        filter_groups=[
            {"filters": [{"propertyName": "lastmodifieddate", "operator": "GTE", "value": "1704412800000"}]}
        ],
        limit=200,
        properties=[],
        sorts=[],
    )
    assert client.crm.contacts.search_api.do_search(public_object_search_request=search).total == 300
    asked = BatchInputPublicFetchAssociationsBatchRequest(inputs=[{"id": "21"}])
    pairs = client.crm.associations.v4.batch_api.get_page(
        from_object_type="notes", to_object_type="companies", batch_input_public_fetch_associations_batch_request=asked
    )
    [pair] = pairs.results
    assert company.query(
        f"select account_id from raw_hubspot.interactions where interaction_id = '{pair._from.id}'"
    ) == [(str(pair.to[0].to_object_id),)]
    emails = {owner.id: owner.email for owner in client.crm.owners.get_all()}
    assert company.query("select owner_email from raw_hubspot.accounts where account_id = '1'") == [(emails["7"],)]


@pytest.fixture
def served_url(company: Any) -> Callable[[], str]:
    return lambda: str(company.document["sources"]["crm"]["base_url"])


def test_a_record_whose_account_hubspot_could_not_tell_is_not_one_of_nobody(company: Any, crm: HubSpotStandIn) -> None:
    crm.fail("cut", match="associations")
    report = company.load()["notes"]
    assert (report.status, report.rows_read) == ("stopped", 0)
    assert "did not say what some notes belong to: told to lose these" in report.message
    assert company.load()["notes"].rows_inserted == 1
