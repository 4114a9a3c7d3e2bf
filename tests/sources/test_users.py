"""Users of the product and their accounts: what events do not say themselves, `group`, `identify` and `alias` calls say."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import warehouse


def reading_segment(company: Any) -> Any:
    """The company, with a product that is read from Segment's exports."""
    company.data.mkdir(parents=True)
    return company.sources(product={"connector": "segment", "path": str(company.data)})


@pytest.fixture
def segment(company: Any) -> Any:
    return reading_segment(company)


_number = iter(range(1, 1_000_000))


def call(kind: str, at: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "messageId": f"m{next(_number)}", "timestamp": f"2024-05-{at}Z", "context": {}, **fields}


def deliver(company: Any, day: str, *calls: dict[str, Any]) -> None:
    path = company.write(f"segment-logs/src/{day}/1.gz", "".join(json.dumps(one) + "\n" for one in calls))
    company.touch(path, -60)


def uses(company: Any) -> list[tuple[Any, ...]]:
    """Day and hour, user and account of every event that is loaded."""
    found = company.query(
        "select strftime(occurred_at, '%d %H'), user_id, account_id from raw_segment.usage_events order by occurred_at, 2"
    )
    return [tuple(row) for row in found]


def group(account: str, at: str, **who: str) -> dict[str, Any]:
    return call("group", at, groupId=account, traits={"name": account.upper()}, **who)


def track(at: str, **fields: Any) -> dict[str, Any]:
    return call("track", at, event="Used", **fields)


def test_an_event_names_its_account_or_its_user_does(segment: Any) -> None:
    deliver(
        segment,
        "01",
        group("a", "01T08:00:00", userId="u1"),
        group("b", "01T08:00:00", userId="u2"),
        track("01T09:00:00", userId="u1"),
        track("01T10:00:00", userId="u2", context={"groupId": "a"}),
        track("01T11:00:00", userId="u2"),
    )
    reports = segment.load()
    assert uses(segment) == [("01 09", "u1", "a"), ("01 10", "u2", "a"), ("01 11", "u2", "b")]
    assert (reports["tracks"].rows_read, reports["groups"].rows_read, reports["memberships"].rows_read) == (3, 2, 2)
    assert segment.load()["tracks"].status == "unchanged"


def test_a_user_who_changes_the_account_takes_only_what_comes_after(segment: Any) -> None:
    deliver(
        segment,
        "01",
        group("a", "02T00:00:00", userId="u"),
        group("b", "10T00:00:00", userId="u"),
        track("01T00:00:00", userId="u"),
        track("09T23:00:00", userId="u"),
        track("10T00:00:00", userId="u"),
    )
    segment.load()
    assert [account for _, _, account in uses(segment)] == ["a", "a", "b"]


def test_events_of_a_user_nobody_knows_wait_and_are_released(segment: Any) -> None:
    deliver(segment, "01", group("a", "01T00:00:00", userId="other"), track("01T09:00:00", userId="u"))
    assert segment.load()["tracks"].rows_quarantined == 1
    assert segment.query("select _reason, _row from quarantine.usage_events") == [("unknown_user", 2)]
    assert uses(segment) == []
    deliver(segment, "02", group("a", "02T00:00:00", userId="u"))
    assert segment.load()["tracks"].rows_released == 1
    assert uses(segment) == [("01 09", "u", "a")]
    assert segment.query("select count(*) from quarantine.usage_events") == [(0,)]


def test_a_visitor_who_tells_who_they_are_was_that_user_all_along(segment: Any) -> None:
    deliver(
        segment,
        "01",
        group("a", "01T00:00:00", userId="u"),
        track("01T08:00:00", anonymousId="v", context={"groupId": "a"}),
        track("01T09:00:00", anonymousId="v"),
        track("01T10:00:00", userId="u"),
    )
    segment.load()
    assert uses(segment) == [("01 08", "v", "a"), ("01 10", "u", "a")]
    deliver(
        segment, "02", call("identify", "01T09:30:00", userId="u", anonymousId="v", traits={"email": "u@a.example"})
    )
    report = (reports := segment.load())["tracks"]
    assert {one.message for one in reports.values()} == {None}
    assert (report.rows_released, report.rows_reassigned) == (1, 1)
    assert uses(segment) == [("01 08", "u", "a"), ("01 09", "u", "a"), ("01 10", "u", "a")]


def test_a_chain_of_aliases_ends_at_the_last_id(segment: Any) -> None:
    deliver(
        segment,
        "01",
        group("a", "01T00:00:00", userId="new"),
        call("identify", "01T01:00:00", userId="old", anonymousId="v"),
        call("alias", "01T02:00:00", userId="new", previousId="old"),
        *(track(f"01T0{hour}:00:00", **who) for hour, who in ((3, {"anonymousId": "v"}), (4, {"userId": "old"}))),
    )
    segment.load()
    assert uses(segment) == [("01 03", "new", "a"), ("01 04", "new", "a")]


def test_of_two_ids_that_name_each_other_the_later_statement_holds(segment: Any) -> None:
    deliver(
        segment,
        "01",
        group("a", "01T00:00:00", userId="x"),
        call("alias", "01T01:00:00", userId="x", previousId="y"),
        call("alias", "01T02:00:00", userId="y", previousId="x"),
        track("01T03:00:00", userId="x"),
        track("01T04:00:00", userId="y"),
    )
    segment.load()
    assert uses(segment) == [("01 03", "y", "a"), ("01 04", "y", "a")]
    deliver(segment, "02", group("b", "02T00:00:00", userId="w"))
    assert segment.load()["tracks"].rows_reassigned == 0
    assert uses(segment) == [("01 03", "y", "a"), ("01 04", "y", "a")]


def test_a_late_group_call_moves_what_was_loaded_and_has_its_days_counted_anew(segment: Any) -> None:
    deliver(
        segment,
        "01",
        group("a", "01T00:00:00", userId="u"),
        group("b", "20T00:00:00", userId="w"),
        track("03T08:00:00", userId="u"),
        track("06T08:00:00", userId="u"),
        track("06T09:00:00", userId="u", context={"groupId": "a"}),
    )
    segment.load()
    deliver(segment, "09", group("b", "05T00:00:00", userId="u"))
    report = (reports := segment.load())["tracks"]
    assert {one.message for one in reports.values()} == {None}
    assert report.rows_reassigned == 1
    assert [account for _, _, account in uses(segment)] == ["a", "b", "a"]
    assert segment.query("select account_id, strftime(activity_date, '%d') from ledger.restated_days") == [("a", "06")]
    assert segment.query("select account_id from raw_segment.usage_events where _run_id = 'run 2'") == [("b",)]
    assert segment.load()["tracks"].status == "unchanged"


def test_the_order_of_deliveries_does_not_matter(segment: Any, tmp_path: Any) -> None:
    days = [
        [group("a", "01T00:00:00", userId="u"), track("01T08:00:00", anonymousId="v")],
        [track("02T08:00:00", userId="u"), group("b", "04T00:00:00", userId="u")],
        [call("identify", "03T00:00:00", userId="u", anonymousId="v"), track("05T08:00:00", anonymousId="v")],
        [track("05T09:00:00", userId="u"), group("a", "06T00:00:00", userId="w"), track("06T01:00:00", userId="w")],
    ]
    found = []
    for order in ((0, 1, 2, 3), (3, 2, 1, 0)):
        other = reading_segment(type(segment)(tmp_path / str(order)))
        for turn, number in enumerate(order):
            deliver(other, f"{turn:02}", *days[number])
            other.load()
        found.append(uses(other))
    assert found[0] == found[1]
    assert [account for _, _, account in found[0]] == ["a", "a", "b", "b", "a"]


def test_contacts_are_of_the_account_that_their_user_belongs_to_now(segment: Any) -> None:
    told = {"email": "u@a.example", "title": "Admin", "createdAt": "2024-01-05T00:00:00Z"}
    deliver(
        segment,
        "01",
        group("a", "01T00:00:00", userId="u"),
        call("identify", "01T00:00:01", userId="u", traits=told),
        track("01T01:00:00", userId="u"),
    )
    segment.load()
    asked = "select contact_id, account_id, email, role, created_at::date::text from raw_segment.contacts"
    assert segment.query(asked) == [("u", "a", "u@a.example", "Admin", "2024-01-05")]
    deliver(segment, "02", group("b", "09T00:00:00", userId="u"))
    assert segment.load()["users"].rows_reassigned == 1
    assert segment.query(asked) == [("u", "b", "u@a.example", "Admin", "2024-01-05")]


def test_an_account_is_as_old_as_the_first_call_about_it(segment: Any) -> None:
    deliver(segment, "01", group("a", "09T00:00:00", userId="u"), group("a", "08T00:00:00", userId="w"))
    segment.load()
    asked = "select created_at::date::text, updated_at::date::text from raw_segment.accounts"
    assert segment.query(asked) == [("2024-05-08", "2024-05-09")]
    deliver(segment, "02", group("a", "12T00:00:00", userId="u"))
    segment.load()
    assert segment.query(asked) == [("2024-05-08", "2024-05-12")]
    deliver(segment, "03", group("a", "02T00:00:00", userId="u"))
    segment.load()
    assert segment.query(asked) == [("2024-05-02", "2024-05-12")]


def test_a_call_that_tells_less_takes_nothing_away(segment: Any) -> None:
    def told(at: str, **traits: Any) -> dict[str, Any]:
        return call("group", at, groupId="a", userId="u", traits=traits)

    deliver(segment, "01", told("02T00:00:00", name="A", industry="Retail"), told("03T00:00:00", name="AA"))
    segment.load()
    asked = "select name, industry, employees from raw_segment.accounts"
    assert segment.query(asked) == [("AA", "Retail", None)]
    deliver(segment, "02", told("05T00:00:00", industry="Food"), told("04T00:00:00"))
    segment.load()
    assert segment.query(asked) == [("AA", "Food", None)]
    deliver(segment, "03", told("01T00:00:00", name="old", employees=5))
    segment.load()
    assert segment.query(asked) == [("AA", "Food", 5)]


def test_a_group_that_no_account_has_waits_with_its_user_and_their_events(segment: Any) -> None:
    segment.sources(
        crm={
            "connector": "files",
            "path": str(segment.data),
            "streams": {"accounts": {"files": "crm/*.csv", "columns": {"account_id": "id", "created_at": "made"}}},
        },
        product={
            "connector": "segment",
            "path": str(segment.data / "segment-logs"),
            "account_source": "crm",
            "streams": ["memberships", "tracks"],
        },
    )
    segment.write("crm/1.csv", "id,made\na,2024-01-01\n")
    deliver(segment, "01", group("z", "01T00:00:00", userId="u"), track("01T01:00:00", userId="u"))
    reports = segment.load()
    assert (reports["memberships"].rows_quarantined, reports["tracks"].rows_quarantined) == (1, 1)
    segment.write("crm/2.csv", "id,made\nz,2024-01-01\n")
    reports = segment.load()
    assert (reports["memberships"].rows_released, reports["tracks"].rows_released) == (1, 1)
    assert uses(segment) == [("01 01", "u", "z")]


def waiting(company: Any, entity: str = "usage_events") -> list[tuple[Any, ...]]:
    """Reason, user and account of every row in quarantine."""
    user = "contact_id" if entity == "contacts" else "user_id"
    found = company.query(f"select _reason, {user}, account_id from quarantine.{entity} order by all")
    return [tuple(row) for row in found]


def found_accounts(company: Any) -> None:
    """Two accounts that are there from the beginning."""
    deliver(company, "d0", *(group(account, "01T00:00:00", anonymousId=f"founder of {account}") for account in "ab"))


def test_a_visitor_who_is_another_user_later_takes_along_what_was_loaded_before(segment: Any) -> None:
    found_accounts(segment)
    first = call("identify", "02T00:00:00", anonymousId="x", userId="u"), group("a", "02T00:00:00", userId="u")
    deliver(segment, "d1", *first, track("02T01:00:00", anonymousId="x"), track("02T02:00:00", userId="u"))
    segment.load()
    assert uses(segment) == [("02 01", "u", "a"), ("02 02", "u", "a")]
    second = call("identify", "03T00:00:00", anonymousId="x", userId="w"), group("b", "03T00:00:00", userId="w")
    deliver(segment, "d2", *second, track("03T01:00:00", anonymousId="x"))
    assert segment.load()["tracks"].rows_reassigned == 1
    assert uses(segment) == [("02 01", "w", "b"), ("02 02", "u", "a"), ("03 01", "w", "b")]
    assert segment.load()["tracks"].status == "unchanged"
    before = segment.contents()
    segment.load(full=True)
    assert segment.contents() == before


def test_a_chain_of_aliases_whose_end_changes_takes_all_of_it_along(segment: Any) -> None:
    found_accounts(segment)
    deliver(
        segment,
        "d1",
        group("a", "01T00:00:00", userId="new"),
        group("b", "01T00:00:00", userId="other"),
        call("identify", "01T01:00:00", userId="old", anonymousId="v"),
        call("alias", "01T02:00:00", userId="new", previousId="old"),
        *(track(f"01T0{hour}:00:00", **who) for hour, who in ((3, {"anonymousId": "v"}), (4, {"userId": "old"}))),
        track("01T05:00:00", userId="new"),
    )
    segment.load()
    assert uses(segment) == [("01 03", "new", "a"), ("01 04", "new", "a"), ("01 05", "new", "a")]
    deliver(segment, "d2", call("alias", "02T00:00:00", userId="other", previousId="old"))
    assert segment.load()["tracks"].rows_reassigned == 2
    assert uses(segment) == [("01 03", "other", "b"), ("01 04", "other", "b"), ("01 05", "new", "a")]


def test_an_id_may_turn_out_to_be_another_one_again_and_again(segment: Any) -> None:
    found_accounts(segment)
    deliver(segment, "d1", group("a", "01T00:00:00", anonymousId="x"), track("01T01:00:00", anonymousId="x"))
    segment.load()
    assert uses(segment) == [("01 01", "x", "a")]
    for day, user in (("02", "u"), ("03", "w"), ("04", "u")):
        deliver(segment, f"d{day}", call("identify", f"{day}T00:00:00", anonymousId="x", userId=user))
        assert segment.load()["tracks"].rows_reassigned == 1
        assert uses(segment) == [("01 01", user, "a")]
    assert segment.query("select _user_as_given from raw_segment.usage_events") == [("x",)]


def test_what_a_visitor_said_goes_with_them(segment: Any) -> None:
    found_accounts(segment)
    first = call("identify", "02T00:00:00", anonymousId="x", userId="u"), group("a", "02T00:00:00", anonymousId="x")
    deliver(segment, "d1", *first, track("02T01:00:00", userId="u"))
    segment.load()
    assert uses(segment) == [("02 01", "u", "a")]
    deliver(
        segment, "d2", call("identify", "03T00:00:00", anonymousId="x", userId="w"), track("03T00:00:00", userId="w")
    )
    assert segment.load()["tracks"].rows_withdrawn == 1
    assert uses(segment) == [("03 00", "w", "a")]
    assert waiting(segment) == [("unknown_user", "u", None)]


def test_what_is_nobodys_any_more_goes_back_to_quarantine_and_is_released_again(segment: Any) -> None:
    found_accounts(segment)
    deliver(
        segment,
        "d1",
        call("identify", "02T00:00:00", anonymousId="x", userId="u"),
        group("a", "02T00:00:00", userId="u"),
        track("02T01:00:00", anonymousId="x", messageId="lost", context={"app": {"name": "web"}}),
        track("02T02:00:00", anonymousId="x", context={"groupId": "a"}),
    )
    segment.load()
    kept = (
        "select columns(c -> c not in ('_loaded_at', '_run_id')) from raw_segment.usage_events where event_id = 'lost'"
    )
    before = segment.query(kept)
    deliver(segment, "d2", call("identify", "03T00:00:00", anonymousId="x", userId="w"))
    report = segment.load()["tracks"]
    assert (report.rows_read, report.rows_quarantined) == (0, 0)
    assert (report.rows_withdrawn, report.rows_reassigned) == (1, 1)
    assert uses(segment) == [("02 02", "w", "a")]
    assert waiting(segment) == [("unknown_user", "x", None)]
    told = "select event_id, event_name, occurred_at, product, _detail, _run_id, _loaded_at < _last_seen_at"
    detail = "nothing says which account the user belongs to (user_id)"
    assert segment.query(f"{told} from quarantine.usage_events") == [
        ("lost", "Used", "2024-05-02 01:00:00", "web", detail, "run 2", True)
    ]
    days = "select distinct account_id, strftime(activity_date, '%d') from ledger.restated_days"
    assert segment.query(days) == [("a", "02")]
    assert segment.load()["tracks"].status == "unchanged"
    deliver(segment, "d3", call("identify", "04T00:00:00", anonymousId="x", userId="u"))
    report = segment.load()["tracks"]
    assert (report.rows_released, report.rows_reassigned, report.rows_withdrawn) == (1, 1, 0)
    assert uses(segment) == [("02 01", "u", "a"), ("02 02", "u", "a")]
    assert waiting(segment) == []
    assert segment.query(kept) == before


def test_an_event_waits_under_the_id_that_it_came_with(segment: Any) -> None:
    found_accounts(segment)
    first = call("identify", "02T00:00:00", anonymousId="x", userId="u")
    deliver(segment, "d1", first, track("02T01:00:00", anonymousId="x"))
    segment.load()
    assert waiting(segment) == [("unknown_user", "x", None)]
    second = call("identify", "03T00:00:00", anonymousId="x", userId="w"), group("b", "03T00:00:00", userId="w")
    deliver(segment, "d2", *second)
    segment.load()
    assert uses(segment) == [("02 01", "w", "b")]


@pytest.mark.parametrize("has_waited", [False, True])
def test_an_event_that_comes_again_has_the_user_that_it_comes_with(segment: Any, has_waited: bool) -> None:
    found_accounts(segment)
    first = call("identify", "02T00:00:00", anonymousId="x", userId="u"), group("a", "02T00:00:00", userId="u")
    deliver(segment, "d1", *first, track("02T01:00:00", anonymousId="x", messageId="e"))
    segment.load()
    if has_waited:
        deliver(segment, "d2", call("identify", "03T00:00:00", anonymousId="x", userId="w"))
        assert segment.load()["tracks"].rows_withdrawn == 1
    deliver(segment, "d3", track("02T01:00:00", userId="u", messageId="e"))
    segment.load()
    assert uses(segment) == [("02 01", "u", "a")]
    assert waiting(segment) == []
    deliver(segment, "d4", call("identify", "04T00:00:00", anonymousId="x", userId="w"))
    segment.load()
    assert uses(segment) == [("02 01", "u", "a")]


def test_a_contact_who_is_nobodys_any_more_waits_with_all_that_was_told(segment: Any) -> None:
    found_accounts(segment)
    deliver(
        segment,
        "d1",
        group("a", "02T00:00:00", anonymousId="x"),
        call("identify", "02T00:00:00", anonymousId="x", userId="u", traits={"email": "u@a.example"}),
    )
    second = call("identify", "03T00:00:00", anonymousId="x", userId="u", traits={"title": "Admin"})
    deliver(segment, "d2", second)
    segment.load()
    asked = "select contact_id, account_id, email, role, updated_at::date::text from raw_segment.contacts"
    assert segment.query(asked) == [("u", "a", "u@a.example", "Admin", "2024-05-03")]
    deliver(segment, "d3", call("identify", "04T00:00:00", anonymousId="x", userId="w"))
    assert segment.load()["users"].rows_withdrawn == 1
    assert segment.query(asked) == [("w", "a", None, None, "2024-05-04")]
    assert waiting(segment, "contacts") == [("unknown_user", "u", None)]
    # The file in which the contact was last told of comes again, longer: what other files told of them is still there.
    deliver(segment, "d2", second, call("identify", "03T01:00:00", userId="u", traits={"title": "Owner"}))
    segment.load()
    deliver(segment, "d4", group("b", "05T00:00:00", userId="u"))
    segment.load()
    assert segment.query(f"{asked} where contact_id = 'u'") == [("u", "b", "u@a.example", "Owner", "2024-05-03")]
    assert waiting(segment, "contacts") == []


def test_a_row_of_a_table_that_comes_again_takes_the_place_of_the_one_that_went_back(
    company: Any, tmp_path: Any
) -> None:
    path = tmp_path / "app.sqlite"

    def run(*statements: str) -> None:
        with sqlite3.connect(path) as connection:
            for statement in statements:
                connection.execute(statement)

    run(
        "create table accounts (id text, made timestamp)",
        "create table said (id integer, who text, account text, known text, at timestamp)",
        "create table events (id integer, who text, at timestamp, n integer)",
        "insert into accounts values ('a', '2024-01-01 00:00:00'), ('b', '2024-01-01 00:00:00')",
        "insert into said values (1, 'x', null, 'u', '2024-05-01 00:00:00'), (2, 'u', 'a', null, '2024-05-01 00:00:00')",
        "insert into events values (1, 'x', '2024-05-02 00:00:00', 1)",
    )
    names = {"user_id": "who", "account_id": "account", "known_as": "known", "since_at": "at"}
    used = {"user_id": "who", "event_name": "'used'", "occurred_at": "at", "quantity": "n"}
    company.sources(
        app={
            "connector": "database",
            "url": f"sqlite:///{path}",
            "streams": {
                "accounts": {"table": "accounts", "columns": {"account_id": "id", "created_at": "made"}},
                "memberships": {"table": "said", "primary_key": "id", "columns": names},
                "usage_events": {"table": "events", "primary_key": "id", "columns": used},
            },
        }
    )
    loaded = "select event_id, user_id, account_id, quantity from raw_database.usage_events"
    waits = "select event_id, user_id, account_id, quantity from quarantine.usage_events"
    company.load()
    assert company.query(loaded) == [("1", "u", "a", 1)]
    run("insert into said values (3, 'x', null, 'w', '2024-05-03 00:00:00')", "update events set n = 2")
    report = company.load()["usage_events"]
    assert (report.rows_quarantined, report.rows_withdrawn) == (1, 0)
    assert company.query(loaded) == []
    assert company.query(waits) == [("1", "x", None, "2.0")]
    run("insert into said values (4, 'w', 'b', null, '2024-05-03 00:00:00')")
    company.load()
    assert company.query(loaded) == [("1", "w", "b", 2)]
    assert company.query(waits) == []


def test_a_version_that_leaves_the_user_out_keeps_the_id_that_was_given(company: Any) -> None:
    said = {"user_id": "who", "account_id": "account", "known_as": "known", "since_at": "at", "membership_id": "id"}
    used = {"event_id": "id", "user_id": "who", "account_id": "account", "event_name": "what", "occurred_at": "at"}
    company.streams(
        accounts={"files": "accounts*", "columns": {"account_id": "id", "created_at": "made"}},
        memberships={"files": "said*", "columns": said},
        usage_events={"files": "events*", "partial": True, "columns": used},
    )
    company.write("accounts.csv", "id,made\na,2024-01-01\n")
    company.write("said1.csv", "id,who,account,known,at\n1,x,,u,2024-05-01\n2,u,a,,2024-05-01\n")
    company.write("events1.csv", "id,who,account,what,at\n1,x,,used,2024-05-02\n")
    company.load()
    company.write("events2.csv", "id,who,account,what,at\n1,,a,used,2024-05-02\n")
    company.load()
    company.write("said2.csv", "id,who,account,known,at\n3,x,,w,2024-05-03\n")
    company.load()
    loaded = "select user_id, _user_as_given, account_id, _is_by_user from raw_files.usage_events"
    assert company.query(loaded) == [("w", "x", "a", False)]


def test_rows_of_an_older_version_stay_with_the_user_whom_they_were_given_to(segment: Any) -> None:
    found_accounts(segment)
    first = call("identify", "02T00:00:00", anonymousId="x", userId="u"), group("a", "02T00:00:00", userId="u")
    deliver(segment, "d1", *first, track("02T01:00:00", anonymousId="x"))
    segment.load()
    with warehouse.warehouse(segment.tenure.warehouse_path) as connection:
        connection.execute("alter table raw_segment.usage_events drop column _user_as_given")
        connection.execute("alter table quarantine.usage_events drop column _loaded_at")
        connection.execute("alter table ledger.loads drop column rows_withdrawn")
    second = call("identify", "03T00:00:00", anonymousId="x", userId="w"), group("b", "03T00:00:00", userId="w")
    deliver(segment, "d2", *second, track("03T01:00:00", anonymousId="x"))
    segment.load()
    assert uses(segment) == [("02 01", "u", "a"), ("03 01", "w", "b")]
    segment.load(full=True)
    assert uses(segment) == [("02 01", "w", "b"), ("03 01", "w", "b")]


USERS, VISITORS, ACCOUNTS = ("s", "t", "u", "w"), ("v", "x"), ("a", "b")
IDS = (*USERS, *VISITORS)
_moments = st.integers(0, 4)
_statements = st.one_of(
    st.tuples(st.just("group"), _moments, st.sampled_from(IDS), st.sampled_from(ACCOUNTS)),
    st.tuples(st.just("identify"), _moments, st.sampled_from(VISITORS), st.sampled_from(USERS)),
    # To a later id only: of two that name each other is another test.
    st.builds(
        lambda at, ids: ("alias", at, *sorted(ids)),
        _moments,
        st.lists(st.sampled_from(USERS), min_size=2, max_size=2, unique=True),
    ),
)
_own_accounts = st.sampled_from((None, None, None, *ACCOUNTS))
_deliveries = st.tuples(
    st.lists(_statements, min_size=2, max_size=4),
    st.tuples(*(st.tuples(_moments, st.just(who), _own_accounts) for who in IDS)),
)


def named(who: str) -> dict[str, str]:
    """A user or visitor as a call names them."""
    return {"userId" if who in USERS else "anonymousId": who}


def said(statement: tuple[str, int, str, str]) -> dict[str, Any]:
    """A statement as a call."""
    kind, at, who, what = statement
    moment = f"{at + 1:02}T12:00:00"
    if kind == "group":
        return group(what, moment, **named(who))
    return call(kind, moment, userId=what, **{"anonymousId" if kind == "identify" else "previousId": who})


def expected(
    statements: list[tuple[str, int, str, str]], events: list[tuple[int, str, str | None]]
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The rule, as a person would follow it: what is loaded, and what waits."""
    names: dict[str, str] = {}
    for kind, _, who, user in sorted(statements, key=lambda one: (one[1], one[3])):
        if kind != "group":
            names[who] = user

    def person(who: str) -> str:
        return person(names[who]) if who in names else who

    belongs: dict[str, dict[int, str]] = {}
    for kind, at, who, account in statements:
        if kind == "group":
            spans = belongs.setdefault(person(who), {})
            spans[at] = max(account, spans.get(at, account))
    loaded, waits = [], []
    for at, who, account in events:
        spans = belongs.get(person(who), {})
        if account is None and spans:
            before = [moment for moment in spans if moment <= at]
            account = spans[max(before) if before else min(spans)]
        if account is None:
            waits.append((at, who))
        else:
            loaded.append((at, person(who), account))
    return sorted(loaded), sorted(waits)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries=st.lists(_deliveries, min_size=3, max_size=4))
def test_however_it_is_delivered_every_event_ends_at_the_account_of_its_user(company: Any, deliveries: Any) -> None:
    other = reading_segment(type(company)(Path(tempfile.mkdtemp(dir=company.folder))))
    # Accounts are there from the beginning: what waits for an account is another test.
    found_accounts(other)
    for day, (statements, events) in enumerate(deliveries):
        tracked = (
            track(f"{at + 1:02}T12:00:00", **named(who), context={"groupId": account} if account else {})
            for at, who, account in events
        )
        deliver(other, f"{day}", *map(said, statements), *tracked)
        other.load()
    day_of = "cast(strftime(cast(occurred_at as timestamp), '%d') as integer) - 1"
    loaded = other.query(f"select {day_of}, user_id, account_id from raw_segment.usage_events order by all")
    waits = other.query(f"select {day_of}, user_id from quarantine.usage_events order by all")
    assert (loaded, waits) == expected(
        [one for statements, _ in deliveries for one in statements], [one for _, events in deliveries for one in events]
    )
