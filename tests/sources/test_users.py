"""Users of the product and their accounts: what events do not say themselves, `group`, `identify` and `alias` calls say."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


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


def test_a_visitor_who_is_another_user_later_keeps_what_was_loaded_before(segment):
    deliver(segment, "d0", *(group(account, "01T00:00:00", anonymousId=f"founder of {account}") for account in "ab"))
    first = call("identify", "02T00:00:00", anonymousId="x", userId="u"), group("a", "02T00:00:00", userId="u")
    deliver(segment, "d1", *first, track("02T01:00:00", anonymousId="x"))
    segment.load()
    second = call("identify", "03T00:00:00", anonymousId="x", userId="w"), group("b", "03T00:00:00", userId="w")
    deliver(segment, "d2", *second, track("03T01:00:00", anonymousId="x"))
    segment.load()
    assert uses(segment) == [("02 01", "u", "a"), ("03 01", "w", "b")]
    segment.load(full=True)
    assert uses(segment) == [("02 01", "w", "b"), ("03 01", "w", "b")]


USERS, VISITORS, ACCOUNTS = ("u", "w"), ("v", "x"), ("a", "b")
_moments = st.integers(0, 20)
_statements = st.one_of(
    st.tuples(st.just("group"), _moments, st.sampled_from((*USERS, *VISITORS)), st.sampled_from(ACCOUNTS)),
    st.tuples(st.just("identify"), _moments, st.sampled_from(VISITORS), st.sampled_from(USERS)),
)
_events = st.tuples(_moments, st.sampled_from((*USERS, *VISITORS)), st.sampled_from((None, None, *ACCOUNTS)))


def _said_once(statement: tuple[str, int, str, str]) -> Any:
    kind, _, who, _ = statement
    return (kind, who) if kind == "identify" else statement


def named(who: str) -> dict[str, str]:
    """A user or visitor as a call names them."""
    return {"userId" if who in USERS else "anonymousId": who}


def expected(statements: list[tuple[int, Any]], events: list[tuple[int, str, str | None]]) -> list[tuple[Any, ...]]:
    """The rule, as a person would follow it."""
    names: dict[str, str] = {}
    for _, (kind, _, visitor, user) in sorted(statements, key=lambda one: (one[1][1], one[1][3])):
        if kind == "identify":
            names[visitor] = user
    belongs: dict[str, dict[int, str]] = {}
    for _, (kind, at, who, account) in statements:
        if kind == "group":
            spans = belongs.setdefault(names.get(who, who), {})
            spans[at] = max(account, spans.get(at, account))
    found = []
    for at, who, account in events:
        person = names.get(who, who)
        spans = belongs.get(person, {})
        if account is None and spans:
            before = [moment for moment in spans if moment <= at]
            account = spans[max(before) if before else min(spans)]
        if account is not None:
            found.append((at, person, account))
    return sorted(found)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_it_is_delivered_every_event_ends_at_the_account_of_its_user(company: Any, data: st.DataObject) -> None:
    # Who is said to be two users, one after the other, is another test: rows that were loaded in between stay.
    statements = list(enumerate(data.draw(st.lists(_statements, min_size=1, max_size=6, unique_by=_said_once))))
    events = data.draw(st.lists(_events, min_size=1, max_size=6))
    calls = [
        group(account, f"{at + 1:02}T12:00:00", **named(who))
        if kind == "group"
        else call("identify", f"{at + 1:02}T12:00:00", anonymousId=who, userId=account)
        for _, (kind, at, who, account) in statements
    ] + [
        track(
            f"{at + 1:02}T12:00:00",
            **named(who),
            context={"groupId": account} if account else {},
        )
        for at, who, account in events
    ]
    # Accounts are there from the beginning: what waits for an account is another test.
    founded = [group(account, "01T00:00:00", anonymousId=f"founder of {account}") for account in ACCOUNTS]
    other = reading_segment(type(company)(Path(tempfile.mkdtemp(dir=company.folder))))
    cut = data.draw(st.integers(0, len(calls)))
    order = data.draw(st.permutations(calls))
    deliver(other, "00", *founded)
    for day, part in enumerate((order[:cut], order[cut:])):
        if part:
            deliver(other, f"d{day}", *part)
            other.load()
    found = other.query(
        "select cast(strftime(occurred_at, '%d') as integer) - 1, user_id, account_id from raw_segment.usage_events order by all"
    )
    assert [tuple(row) for row in found] == expected(statements, events)
