"""Zendesk as a source: what only it does; what all vendors do is in `test_vendor_contract.py`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from sandbox.serve import serving
from sandbox.zendesk import EMAIL, TOKEN, ZendeskStandIn

ORGANIZATIONS = [
    {
        "id": n,
        "name": f"Org {n}",
        "domain_names": [f"org{n}.example", "x.example"],
        "external_id": None,
        "created_at": "2024-01-01T00:00:00Z",
        "updated_at": f"2024-01-0{n}T00:00:00Z",
    }
    for n in (1, 2, 3)
]


def ticket(number: int, **values: Any) -> dict[str, Any]:
    return {
        "id": number,
        "organization_id": 1,
        "subject": f"Ticket {number}",
        "description": "Help",
        "priority": "high",
        "status": "open",
        "custom_fields": [{"id": 360001, "value": "4"}],
        "satisfaction_rating": {"score": "good"},
        "created_at": "2024-02-01T10:00:00Z",
        "updated_at": f"2024-02-{number:02d}T10:00:00Z",
        "_metrics": {"reply_time_in_minutes": {"calendar": 90}, "reopens": 2, "solved_at": "2024-02-03T10:00:00Z"},
        **values,
    }


@pytest.fixture
def desk(company: Any) -> Iterator[ZendeskStandIn]:
    standin = ZendeskStandIn(exports=10_000)
    standin.put("organizations", ORGANIZATIONS)
    with serving(standin) as url:
        company.sources(
            support={
                "connector": "zendesk",
                "base_url": url,
                "email": EMAIL,
                "token": TOKEN,
                "exports_per_minute": 10_000,
                "retry": {"first_seconds": 0.01, "tries": 3},
            },
            # A configuration needs facts that a support desk does not have.
            product={
                "connector": "files",
                "path": str(company.data),
                "account_source": "support",
                "streams": {
                    "usage_events": {
                        "files": "*.csv",
                        "columns": {"account_id": "a", "event_name": "e", "occurred_at": "t"},
                    }
                },
            },
        )
        company.write("events.csv", "a,e,t\n1,login,2024-02-01\n")
        yield standin


def test_tickets_carry_their_metrics_and_rating(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("tickets", [ticket(1)])
    company.load()
    found = company.query(
        "select ticket_id, account_id, cast(first_response_at as varchar), cast(solved_at as varchar), csat, reopens"
        " from raw_zendesk.tickets"
    )
    assert found == [("1", "1", "2024-02-01 11:30:00", "2024-02-03 10:00:00", 5.0, 2)]


def user(number: int, **values: Any) -> dict[str, Any]:
    return {
        "id": number,
        "organization_id": 1,
        "email": f"user{number}@one.example",
        "role": "end-user",
        "active": True,
        "created_at": "2024-02-01T10:00:00Z",
        "updated_at": f"2024-02-{number:02d}T10:00:00Z",
        **values,
    }


def test_end_users_of_an_organization_are_contacts_and_all_others_are_counted(
    company: Any, desk: ZendeskStandIn
) -> None:
    desk.put("users", [user(1), user(2, role="agent"), user(3, organization_id=None), user(4, active=False), user(5)])
    report = company.load()["users"]
    assert (report.rows_read, report.rows_inserted, report.rows_unchanged) == (5, 2, 3)
    assert company.query("select contact_id, email from raw_zendesk.contacts order by 1") == [
        ("1", "user1@one.example"),
        ("5", "user5@one.example"),
    ]


def test_a_contact_that_is_deleted_has_left(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("users", [user(1), user(2)])
    company.load()
    desk.delete("users", "1", at="2024-03-01T12:00:00Z")
    assert company.load()["users"].rows_deleted == 1
    left = "select contact_id, cast(left_at as varchar) from raw_zendesk.contacts order by 1"
    assert company.query(left) == [("1", "2024-03-01 12:00:00"), ("2", None)]
    company.load()
    assert company.query(left) == [("1", "2024-03-01 12:00:00"), ("2", None)]


def test_an_organization_that_is_deleted_goes_unless_facts_name_it(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("tickets", [ticket(1)])
    company.load()
    for key in ("1", "2"):
        desk.delete("organizations", key, at="2024-03-01T12:00:00Z")
    assert company.load()["organizations"].rows_deleted == 1
    assert company.query("select account_id from raw_zendesk.accounts order by 1") == [("1",), ("3",)]


def test_organizations_that_changed_in_one_second_are_read_whole_over_pages(company: Any, desk: ZendeskStandIn) -> None:
    desk.page_rows = 2
    same = [{**ORGANIZATIONS[0], "id": number, "updated_at": "2024-01-05T00:00:00Z"} for number in range(10, 15)]
    desk.put("organizations", same)
    report = company.load()["organizations"]
    assert report.rows_inserted == 8
    assert company.load()["organizations"].rows_inserted == 0


def test_what_changed_within_the_last_minute_comes_with_the_next_run(company: Any, desk: ZendeskStandIn) -> None:
    desk.now = datetime(2024, 3, 1, 12)
    desk.put("tickets", [ticket(1), ticket(2, updated_at="2024-03-01T11:59:40Z")])
    assert company.load()["tickets"].rows_inserted == 1
    desk.now += timedelta(minutes=1)
    assert company.load()["tickets"].rows_inserted == 1


def test_the_limit_of_exports_is_kept_for_all_streams_together(company: Any, desk: ZendeskStandIn) -> None:
    desk.window.requests, desk.window.seconds = 6, 1.0
    desk.page_rows = 1
    desk.put("tickets", [ticket(number) for number in range(1, 9)])
    company.document["sources"]["support"]["retry"] = {"tries": 50, "first_seconds": 0.01}
    assert company.load()["tickets"].rows_inserted == 8
    # The stand-in asks for whole seconds: what it refused was asked for again when it had said so.
    refused = [call for call in desk.log if call.status == 429]
    assert 0 < len(refused) <= 4


def test_a_rating_of_ones_own_is_found_in_the_custom_fields(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("tickets", [ticket(1), ticket(2, custom_fields=[{"id": 7, "value": None}]), ticket(3, custom_fields=None)])
    company.document["sources"]["support"]["streams"] = {
        "organizations": None,
        "tickets": {"columns": {"csat": "custom_field(custom_fields, 360001)", "subject": None}},
    }
    company.load()
    found = company.query("select ticket_id, csat, subject from raw_zendesk.tickets order by 1")
    assert found == [("1", 4.0, None), ("2", None, None), ("3", None, None)]


def with_streams(company: Any, *streams: str) -> None:
    company.document["sources"]["support"]["streams"] = ["organizations", *streams]


def people(desk: ZendeskStandIn) -> None:
    desk.put("users", [user(7), user(8, role="agent"), user(9, role="admin")])


TOUCHES = (
    "select interaction_id, account_id, contact_id, channel, direction, strftime(occurred_at, '%d.%m. %H:%M'), subject, body"
    " from raw_zendesk.interactions order by occurred_at"
)


def test_what_is_said_in_a_ticket_is_a_touch_with_its_organization(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("tickets", [ticket(1, requester_id=7)])
    people(desk)
    desk.say(1, {"id": 11, "author_id": 7, "body": "*It* fails", "plain_body": "It fails"}, at="2024-02-01T10:00:00Z")
    desk.say(1, {"id": 12, "author_id": 8, "body": "Not any more"}, at="2024-02-01T11:00:00Z")
    called = {"id": 13, "author_id": 9, "body": "Call", "type": "VoiceComment", "event_type": "VoiceComment"}
    desk.say(1, called, at="2024-02-02T09:00:00Z")
    with_streams(company, "comments")
    company.load()
    assert company.query(TOUCHES) == [
        ("11", "1", "7", "email", "inbound", "01.02. 10:00", "Ticket 1", "It fails"),
        # Support answers the one who asked.
        ("12", "1", "7", "email", "outbound", "01.02. 11:00", "Ticket 1", "Not any more"),
        ("13", "1", "7", "call", "outbound", "02.02. 09:00", "Ticket 1", "Call"),
    ]


def test_a_private_note_is_no_touch_nor_is_what_zendesk_itself_says(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("tickets", [ticket(1, requester_id=7)])
    people(desk)
    desk.say(1, {"id": 11, "author_id": 8, "public": False}, at="2024-02-01T10:00:00Z")
    desk.say(1, {"id": 12, "author_id": -1}, at="2024-02-01T10:01:00Z")
    desk.say(1, {"id": 13, "author_id": 8}, at="2024-02-01T10:02:00Z")
    with_streams(company, "comments")
    report = company.load()["comments"]
    assert (report.rows_read, report.rows_inserted, report.rows_unchanged) == (3, 1, 2)
    desk.hide(1, 13, at="2024-02-01T10:03:00Z")
    assert company.load()["comments"].rows_deleted == 1
    assert company.query(TOUCHES) == []


def test_a_comment_of_a_ticket_that_is_deleted_is_none_and_one_of_no_organization_waits(
    company: Any, desk: ZendeskStandIn
) -> None:
    desk.put("tickets", [ticket(1, requester_id=7), ticket(2, requester_id=7, organization_id=None)])
    desk.delete("tickets", "1", at="2024-02-05T10:00:00Z")
    people(desk)
    for number in (1, 2):
        desk.say(number, {"id": number, "author_id": 7}, at=f"2024-02-0{number}T10:00:00Z")
    with_streams(company, "comments")
    report = company.load()["comments"]
    assert (report.rows_unchanged, report.rows_quarantined) == (1, 1)
    assert company.query("select interaction_id, _reason from quarantine.interactions") == [("2", "null_key")]


def test_who_is_deleted_for_good_leaves_the_direction_open(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("tickets", [ticket(1, requester_id=7)])
    desk.say(1, {"id": 11, "author_id": 6}, at="2024-02-01T10:00:00Z")
    with_streams(company, "comments")
    company.load()
    assert [row[2:5] for row in company.query(TOUCHES)] == [("6", "email", None)]


def test_tickets_and_people_are_asked_for_by_the_hundred_and_people_once(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("tickets", [ticket(1, id=number, requester_id=7) for number in range(1, 151)])
    people(desk)
    for number in range(1, 151):
        desk.say(number, {"id": number, "author_id": 7}, at=f"2024-02-01T10:{number // 60:02d}:{number % 60:02d}Z")
    desk.page_rows = 120
    with_streams(company, "comments")
    assert company.load()["comments"].rows_inserted == 150
    assert desk.calls("ticket_events") == 2
    assert desk.calls("tickets/show_many") == 3
    assert desk.calls("users/show_many") == 1


def rating(number: int, **values: Any) -> dict[str, Any]:
    return {
        "id": number,
        "ticket_id": 1,
        "requester_id": 7,
        "score": "good",
        "comment": "Thanks",
        "created_at": "2024-02-03T10:00:00Z",
        "updated_at": "2024-02-04T10:00:00Z",
        **values,
    }


ANSWERS = (
    "select response_id, account_id, contact_id, kind, score, cast(responded_at as varchar), comment"
    " from raw_zendesk.survey_responses order by 1"
)


def test_ratings_are_answers_on_the_scale_of_tickets_and_leave_those_as_they_are(
    company: Any, desk: ZendeskStandIn
) -> None:
    desk.put("tickets", [ticket(1, satisfaction_rating={"score": "bad"})])
    desk.put(
        "satisfaction_ratings",
        [
            rating(1),
            rating(2, score="bad", comment=None),
            rating(3, score="offered"),
            rating(4, ticket_id=9),
        ],
    )
    with_streams(company, "tickets", "satisfaction_ratings")
    report = company.load()["satisfaction_ratings"]
    # One that was only offered is not asked for, and one of a ticket that is gone is counted.
    assert (report.rows_read, report.rows_inserted, report.rows_unchanged) == (3, 2, 1)
    assert company.query(ANSWERS) == [
        ("1", "1", "7", "csat", 5.0, "2024-02-04 10:00:00", "Thanks"),
        ("2", "1", "7", "csat", 1.0, "2024-02-04 10:00:00", None),
    ]
    assert company.query("select ticket_id, csat from raw_zendesk.tickets") == [("1", 1.0)]


def test_a_rating_that_is_changed_within_four_weeks_is_seen(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("tickets", [ticket(1)])
    desk.put("satisfaction_ratings", [rating(1), rating(2, updated_at="2024-03-03T10:00:00Z")])
    with_streams(company, "satisfaction_ratings")
    company.load()
    desk.put("satisfaction_ratings", [rating(1, score="bad", updated_at="2024-02-20T10:00:00Z")])
    report = company.load()["satisfaction_ratings"]
    assert (report.rows_updated, report.rows_unchanged) == (1, 1)
    assert [row[4] for row in company.query(ANSWERS)] == [1.0, 5.0]


def test_comments_and_ratings_are_read_only_where_they_are_named(company: Any, desk: ZendeskStandIn) -> None:
    assert list(company.tenure.config.sources["support"].streams) == ["organizations", "users", "tickets"]
    company.load()
    assert desk.calls("ticket_events") == desk.calls("satisfaction_ratings") == 0


def test_ratings_that_go_on_without_saying_where_are_not_all(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("tickets", [ticket(1)])
    desk.put("satisfaction_ratings", [rating(number) for number in (1, 2, 3)])
    desk.page_rows = 2
    with_streams(company, "satisfaction_ratings")
    desk.fail("cut", match="satisfaction_ratings")
    report = company.load()["satisfaction_ratings"]
    assert (report.status, report.rows_read) == ("stopped", 0)
    assert company.load()["satisfaction_ratings"].rows_inserted == 3
