"""Subscriptions of which a source tells only what they are now: periods that were stay as they were."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ACCOUNTS: dict[str, Any] = {
    "files": "accounts.csv",
    "columns": {"account_id": "id", "name": "name", "created_at": "created"},
}
COLUMNS = {
    "subscription_id": "id",
    "account_id": "account",
    "plan": "plan",
    "mrr": "mrr",
    "started_at": "begins",
    "ended_at": "ends",
    "end_reason": "reason",
    "updated_at": "changed",
}
STATES: dict[str, Any] = {"files": "states.csv", "periods": True, "columns": COLUMNS}
FOUND = (
    "select subscription_id, cast(mrr as integer), strftime(started_at, '%m-%d'), strftime(ended_at, '%m-%d'), end_reason"
    " from raw_files.subscriptions order by split_part(subscription_id, '@', 1), started_at, 1"
)


@pytest.fixture
def told(company):
    """Loads what the source says of subscriptions by now: id, MRR, start, end, reason, time of the change; gives the periods."""
    company.streams(accounts=ACCOUNTS, subscriptions=STATES)
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n")

    def tell(*states: tuple[Any, ...], **options: Any) -> list[tuple[Any, ...]]:
        lines = [
            f"{key},1,team,{mrr},2024-{begins},{f'2024-{ends}' if ends else ''},{reason},2024-{changed}"
            for key, mrr, begins, ends, reason, changed in states
        ]
        path = company.write("states.csv", "\n".join(["id,account,plan,mrr,begins,ends,reason,changed", *lines, ""]))
        company.touch(path, company.loads)
        report = company.load(**options)["subscriptions"]
        assert (report.status, report.rows_quarantined) != ("stopped", 0), report.message
        found = company.query(FOUND)
        assert company.load()["subscriptions"].status == "unchanged"
        assert company.query(FOUND) == found
        return [(key.partition("@")[0], *rest) for key, *rest in found]

    return tell


def test_a_subscription_that_runs_again_begins_a_period_and_keeps_its_end(told):
    told(("r", 40, "01-01", "", "", "01-01"))
    told(("r", 40, "01-01", "03-10", "left", "03-10"))
    first = ("r", 40, "01-01", "03-10", "left")
    assert told(("r", 40, "01-01", "", "", "05-20")) == [first, ("r", 40, "05-20", None, None)]
    assert told(("r", 50, "01-01", "", "", "05-25")) == [
        first,
        ("r", 40, "05-20", "05-25", "changed"),
        ("r", 50, "05-25", None, None),
    ]
    ended = [first, ("r", 40, "05-20", "05-25", "changed"), ("r", 50, "05-25", "05-30", "left again")]
    assert told(("r", 50, "01-01", "05-30", "left again", "05-30")) == ended
    assert told(("r", 50, "01-01", "05-30", "left again", "05-30"), full=True) == ended


def test_a_return_that_comes_while_all_is_read_again_is_one_too(told):
    told(("r", 40, "01-01", "03-10", "left", "03-10"))
    assert told(("r", 40, "01-01", "", "", "05-20"), full=True) == [
        ("r", 40, "01-01", "03-10", "left"),
        ("r", 40, "05-20", None, None),
    ]


def test_a_start_that_the_source_tells_is_that_of_the_return(told):
    told(("r", 40, "01-01", "03-10", "left", "03-10"))
    assert told(("r", 60, "04-01", "05-01", "", "05-20")) == [
        ("r", 40, "01-01", "03-10", "left"),
        ("r", 60, "04-01", "05-01", None),
    ]


def test_an_end_that_lies_ahead_may_be_withdrawn(told):
    told(("r", 40, "01-01", "09-01", "cancelled", "03-10"))
    assert told(("r", 40, "01-01", "", "", "05-20")) == [("r", 40, "01-01", None, None)]


def test_an_end_that_is_entered_afterwards_holds_from_its_own_date(told):
    told(("b", 10, "03-01", "", "", "03-01"))
    told(("b", 30, "03-01", "", "", "03-15"))
    told(("b", 50, "03-01", "", "", "03-20"))
    expected = [("b", 10, "03-01", "03-10", "left")]
    assert told(("b", 50, "03-01", "03-10", "left", "03-25")) == expected
    assert told(("b", 50, "03-01", "03-10", "left", "03-25"), full=True)[0][2:] == expected[0][2:]


def test_an_end_within_the_newest_period_cuts_no_other(told):
    told(("b", 10, "03-01", "", "", "03-01"))
    told(("b", 30, "03-01", "", "", "03-15"))
    assert told(("b", 30, "03-01", "03-18", "left", "03-25")) == [
        ("b", 10, "03-01", "03-15", "changed"),
        ("b", 30, "03-15", "03-18", "left"),
    ]


def test_an_end_in_a_gap_leaves_what_had_ended_before(told):
    told(("r", 40, "01-01", "03-10", "left", "03-10"))
    told(("r", 40, "01-01", "", "", "05-20"))
    assert told(("r", 40, "01-01", "04-15", "never came back", "05-25")) == [("r", 40, "01-01", "03-10", "left")]


def test_an_older_state_that_comes_late_changes_nothing(told):
    told(("r", 40, "01-01", "03-10", "left", "03-10"))
    before = told(("r", 40, "01-01", "", "", "05-20"))
    assert told(("r", 40, "01-01", "03-01", "left", "03-09")) == before


def test_a_change_that_is_stamped_in_the_future_is_one_of_the_load(told):
    told(("r", 40, "01-01", "", "", "06-02"))
    found = told(("r", 50, "01-01", "", "", "06-01 00:02:30"))
    assert [row[:4] for row in found] == [("r", 40, "01-01", "06-01"), ("r", 50, "06-01", None)]


def test_a_corrected_mapping_reads_what_has_ended_too(company, told):
    told(("r", 40, "01-01", "03-10", "left", "03-10"))
    company.streams(accounts=ACCOUNTS, subscriptions={**STATES, "columns": {**COLUMNS, "mrr": "number(mrr) * 2"}})
    company.load(full=True)
    assert company.query(FOUND) == [("r", 80, "01-01", "03-10", "left")]


def test_what_other_versions_complete_is_checked_again(company):
    columns = {name: sql for name, sql in COLUMNS.items() if name not in ("plan", "end_reason")}
    company.streams(accounts=ACCOUNTS, subscriptions={"files": "s*.csv", "partial": True, "columns": columns})
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n")
    company.write("s1.csv", "id,account,mrr,begins,ends,changed\nx,1,10,2024-01-01,2024-02-01,2024-02-01\n")
    company.load()
    # What it leaves out is the end that is known, and that lies before the start that it tells.
    company.write("s2.csv", "id,account,mrr,begins,ends,changed\nx,1,10,2024-03-01,,2024-03-01\n")
    assert company.load()["subscriptions"].rows_quarantined == 1
    assert company.quarantined("subscriptions") == [("s2.csv", None, "end_before_start")]
    assert company.query("select count(*) from raw_files.subscriptions where ended_at < started_at") == [(0,)]
    assert company.query("select count(*) from raw_files.subscriptions") == [(1,)]


DAY = st.integers(min_value=1, max_value=28)


@given(st.lists(st.tuples(st.sampled_from([10, 20, 30]), st.none() | DAY), min_size=2, max_size=7))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_told_periods_are_in_order_and_do_not_overlap(
    company, states: list[tuple[int, int | None]]
) -> None:
    (company.home / "warehouse.duckdb").unlink(missing_ok=True)
    company.streams(accounts=ACCOUNTS, subscriptions=STATES)
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n")
    for day, (mrr, ends) in enumerate(states, start=2):
        end = f"2024-02-{ends:02d}" if ends is not None and ends < 2 * day else ""
        company.write(
            "states.csv",
            f"id,account,plan,mrr,begins,ends,reason,changed\nr,1,team,{mrr},2024-02-01,{end},,2024-02-{2 * day:02d}\n",
        )
        company.touch(company.data / "states.csv", day + company.loads)
        assert company.load()["subscriptions"].status != "stopped"
        periods = company.query("select started_at, ended_at from raw_files.subscriptions order by all")
        assert all(ended is None or ended >= started for started, ended in periods)
        assert all(before[1] is not None and before[1] <= after[0] for before, after in pairwise(periods))
