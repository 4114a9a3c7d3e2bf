"""PostHog: events, groups and who belongs to them, by queries and by the files of batch exports."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

import sandbox
from core.source_settings import default_streams
from sandbox import posthog
from sandbox.serve import serving

_ids = (str(uuid.UUID(int=n * 2**96 % 2**128 + n)) for n in range(1, 10**6))


def event(name: str, who: str, at: str, *, taken_in: str | None = None, **properties: Any) -> dict[str, Any]:
    """An event at a day and hour of May 2024."""
    return {
        "uuid": next(_ids),
        "event": name,
        "distinct_id": who,
        "timestamp": f"2024-05-{at}:00:00",
        "created_at": f"2024-05-{taken_in}:00:00" if taken_in else None,
        "properties": properties,
    }


def used(who: str, at: str, group: str | None = None, **more: Any) -> dict[str, Any]:
    return event("used", who, at, **more, **({"$group_0": group} if group else {}))


@pytest.fixture
def standin() -> Any:
    return posthog.PostHogStandIn()


@pytest.fixture
def by_api(company: Any, standin: Any) -> Iterator[Any]:
    with serving(standin) as url:
        block = {"connector": "posthog", "base_url": url, "project": 1, "key": posthog.KEY, "page_rows": 3}
        yield company.sources(product=block)


def uses(company: Any) -> list[tuple[Any, ...]]:
    found = company.query(
        "select strftime(occurred_at, '%d %H'), event_name, user_id, account_id from raw_posthog.usage_events order by all"
    )
    return [tuple(row) for row in found]


STORY = [
    event("$pageview", "v", "01 07"),
    event("$identify", "u", "01 08", **{"$anon_distinct_id": "v"}),
    event(
        "$groupidentify",
        "u",
        "01 08",
        **{"$group_type": "organization", "$group_key": "a", "$group_set": {"name": "A"}},
    ),
    used("u", "01 09", "a"),
    used("u", "01 10"),
    used("w", "01 11"),
    event("$autocapture", "u", "01 12", **{"$group_0": "a"}),
    event("$create_alias", "u", "01 13", alias="old"),
    used("old", "01 14"),
]
TOLD = [
    ("01 07", "$pageview", "u", "a"),
    ("01 09", "used", "u", "a"),
    ("01 10", "used", "u", "a"),
    ("01 14", "used", "u", "a"),
]


def test_an_event_is_of_its_group_or_of_that_of_its_user(by_api: Any, standin: Any) -> None:
    standin.group("a", at="2024-05-01 08:00:00", name="A")
    standin.capture(STORY)
    reports = by_api.load()
    assert {report.message for report in reports.values()} == {None}
    assert uses(by_api) == TOLD
    assert by_api.query("select user_id, _reason from quarantine.usage_events") == [("w", "unknown_user")]
    assert by_api.query("select account_id, name from raw_posthog.accounts") == [("a", "A")]


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_batch_exports_give_the_same(company: Any, standin: Any, format_: str) -> None:
    standin.capture(STORY)
    company.sources(product={"connector": "posthog", "path": str(company.data)})
    standin.export(company.data / "events", format_=format_)
    reports = company.load()
    assert {report.message for report in reports.values()} == {None}
    assert uses(company) == TOLD
    assert company.query("select account_id, name from raw_posthog.accounts") == [("a", "A")]
    assert {report.status for report in company.load().values()} == {"unchanged"}


def test_queries_and_batch_exports_leave_out_the_same_events() -> None:
    assert default_streams("posthog")["events"]["where"] == default_streams("posthog_export")["events"]["where"]


def test_an_event_that_was_taken_in_late_arrives(by_api: Any, standin: Any) -> None:
    standin.group("a", at="2024-05-01 08:00:00")
    standin.capture([used("u", "20 09", "a")])
    by_api.load()
    standin.capture([used("u", "03 09", "a", taken_in="21 00")])
    assert by_api.load()["events"].rows_inserted == 1
    assert [day for day, *_ in uses(by_api)] == ["03 09", "20 09"]


def test_many_events_of_one_moment_are_read_page_by_page(by_api: Any, standin: Any) -> None:
    standin.group("a", at="2024-05-01 08:00:00")
    standin.capture([used("u", "01 09", "a") for _ in range(10)])
    assert by_api.load()["events"].rows_inserted == 10
    assert by_api.load()["events"].rows_inserted == 0


def test_pairs_of_users_and_groups_are_read_page_by_page(by_api: Any, standin: Any) -> None:
    standin.group("a", at="2024-05-01 08:00:00")
    standin.capture([used(f"u{n}", f"0{day} 09", "a") for n in range(8) for day in (3, 2)])
    assert by_api.load()["members"].rows_inserted == 8
    asked = "select count(*), min(since_at)::date::text, max(since_at)::date::text from raw_posthog.memberships"
    assert by_api.query(asked) == [(8, "2024-05-02", "2024-05-02")]
    standin.capture([used("u1", "04 09", "a")])
    assert by_api.load()["members"].rows_updated == 0
    assert by_api.query(asked) == [(8, "2024-05-02", "2024-05-02")]


def test_what_was_taken_in_within_the_last_minute_waits(by_api: Any, standin: Any) -> None:
    standin.group("a", at="2024-05-01 08:00:00")
    soon = by_api.now + timedelta(seconds=30)
    moment = soon.strftime("%Y-%m-%d %H:%M:%S")
    standin.capture([{**used("u", "01 09", "a"), "timestamp": moment, "created_at": moment}])
    assert by_api.load()["events"].rows_read == 0
    by_api.loads += 5
    assert by_api.load()["events"].rows_inserted == 1


def test_the_other_types_of_groups_are_no_accounts(by_api: Any, standin: Any) -> None:
    standin.group("a", at="2024-05-01 08:00:00")
    standin.tables.execute(
        "insert into groups values (1, 'team', timestamp '2024-05-01', timestamp '2024-05-01', '{}')"
    )
    by_api.load()
    assert by_api.query("select account_id from raw_posthog.accounts") == [("a",)]


@pytest.mark.timeout(120)
def test_the_sandbox_product_by_queries_and_by_exports_is_that_of_its_files(
    company: Any, product_files: dict[str, Any]
) -> None:
    sandbox.generate(company.home, accounts=40, months=3)
    product = company.home / "sandbox" / "data" / "product"
    for day in range(2):
        if day:
            sandbox.advance(company.home, days=3)
        standin = posthog.PostHogStandIn(queries=100_000)
        posthog.fill(standin, product)
        exports = company.data / str(day)
        standin.export(exports / "events")
        with serving(standin) as url:
            company.sources(
                api={
                    "connector": "posthog",
                    "base_url": url,
                    "project": 1,
                    "key": posthog.KEY,
                    "queries_per_hour": 100_000,
                },
                exports={
                    "connector": "posthog",
                    "path": str(company.data),
                    "account_source": "api",
                    "streams": ["members", "events"],
                },
                product={
                    "connector": "files",
                    "path": str(product),
                    "streams": product_files,
                },
            )
            company.loads += 60 * 24 * 400
            # The second export repeats the days of the first: copies are reported, and loaded once.
            said = {name: report.message for name, report in company.load().items() if report.message}
            assert all("hold the same" in message for message in said.values())
            assert set(said) <= ({"events", "members"} if day else set())
        asked = "select event_id, account_id, user_id, event_name, occurred_at from raw_{}.usage_events where _source = '{}' order by all"
        as_files = company.query(asked.format("files", "product"))
        assert len(as_files) > 2000
        assert company.query(asked.format("posthog", "api")) == as_files
        assert company.query(asked.format("posthog", "exports")) == as_files
        by_user = "select count(*) from raw_posthog.usage_events where _is_by_user and _source = 'api'"
        assert company.query(by_user)[0][0] > 0.04 * len(as_files)


@pytest.mark.parametrize("most", [1, 2])
def test_an_answer_that_is_cut_below_what_was_asked_for_is_not_the_end(by_api: Any, standin: Any, most: int) -> None:
    standin.group("a", at="2024-05-01 08:00:00", name="A")
    standin.group("b", at="2024-05-01 08:00:00", name="B")
    standin.capture(STORY)
    standin.fail("cut", times=1000, most=most)
    assert {report.message for report in by_api.load().values()} == {None}
    assert uses(by_api) == TOLD
    assert by_api.query("select account_id from raw_posthog.accounts order by 1") == [("a",), ("b",)]


def test_an_answer_that_has_more_and_gives_none_stops_the_stream(by_api: Any, standin: Any) -> None:
    standin.capture(STORY)
    standin.fail("cut", times=1000, most=0)
    assert "there is more, and gives none of it" in by_api.load()["events"].message
