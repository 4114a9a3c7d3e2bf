"""One run after another: nothing changes without news, late rows restate, the past stays, a replay leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NEXT_LOAD = datetime(2024, 8, 1, 3)
LATER = datetime(2024, 8, 1)

BY_HAND = """
    select m.account_id, cast(e.occurred_at as date) as activity_date, count(*) as events, count(distinct e.user_id) as active_users
    from raw_files.usage_events as e
    join marts.account_sources as m on m.source = e._account_source and m.source_account_id = e.account_id
    where e.occurred_at < (select as_of_at from ledger.clock)
    group by 1, 2
"""


def usage(company: Any) -> set[tuple[Any, ...]]:
    found = company.records("select account_id, activity_date, events, active_users from marts.account_days")
    return {tuple(row.values()) for row in found}


def by_hand(company: Any) -> set[tuple[Any, ...]]:
    return {tuple(row.values()) for row in company.records(BY_HAND)}


@pytest.fixture(scope="module")
def second_run(changing: Any) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """All marts after a first and after a second run on the same input."""
    first = changing.marts()
    changing.build()
    return first, changing.marts()


@pytest.fixture(scope="module")
def third_run(changing: Any, second_run: Any, new_events: Callable[..., Any]) -> Any:
    """A month later: news, late events, a day that lost its only event, a changed owner, an end of contract."""
    w = "w1"
    changing.insert(
        "usage_events", "product", new_events(w, datetime(2024, 7, 9, 9), datetime(2024, 7, 10, 9)), loaded_at=NEXT_LOAD
    )
    changing.insert(
        "usage_events", "product", new_events(w, datetime(2024, 6, 10, 8), user="late"), loaded_at=NEXT_LOAD
    )
    changing.insert(
        "usage_events", "product", new_events(w, datetime(2023, 5, 5, 5), feature="export"), loaded_at=NEXT_LOAD
    )
    changing.execute("delete from raw_files.usage_events where occurred_at = timestamp '2024-05-20 09:00:00'")
    changing.execute(
        "insert into ledger.restated_days values ('product', 'product', 'w1', date '2024-05-20', ?)", [NEXT_LOAD]
    )
    changing.execute(
        "update raw_files.accounts set owner_email = 'new@us.com', _loaded_at = ? where account_id = '1'", [NEXT_LOAD]
    )
    changing.execute(
        "update raw_files.subscriptions set ended_at = timestamp '2024-07-20', end_reason = 'canceled', _loaded_at = ?"
        " where subscription_id = 's2'",
        [NEXT_LOAD],
    )
    changing.set_clock(LATER)
    changing.build()
    return changing


def test_the_same_input_twice_changes_nothing(second_run: tuple[dict[str, list[str]], dict[str, list[str]]]) -> None:
    first, second = second_run
    assert len(first["marts.account_days"]) == 3
    assert len(first["history.accounts_history"]) == 3
    assert len(first["features.ftr_churn_scoring"]) == 1
    assert second == first


def test_months_follow_their_days(third_run: Any) -> None:
    months = third_run.records(
        "select m.account_id, u.month_start_date, sum(u.events) as events from intermediate.int_usage_months_united as u"
        " join marts.account_sources as m on m.source = u.account_source and m.source_account_id = u.source_account_id"
        " group by all order by all"
    )
    days = third_run.records(
        "select account_id, cast(date_trunc('month', activity_date) as date) as month_start_date, sum(events) as events"
        " from marts.account_days group by all order by all"
    )
    assert len(months) == 3
    assert [tuple(row.values()) for row in months] == [tuple(row.values()) for row in days]


def test_late_and_withdrawn_events_restate_their_days(third_run: Any) -> None:
    days = {(account, day): events for account, day, events, _ in usage(third_run)}
    assert days["1", date(2024, 6, 10)] == 2
    assert ("1", date(2024, 5, 20)) not in days
    assert usage(third_run) == by_hand(third_run)


def test_a_late_event_moves_the_first_use_of_its_feature(third_run: Any) -> None:
    first = third_run.value(
        "select event_at from marts.account_timeline where kind = 'feature_first_used' and reference_id = 'export'"
    )
    assert first == datetime(2023, 5, 5, 5)


def test_days_without_news_are_not_written_again(third_run: Any) -> None:
    touched = third_run.records(
        f"select activity_date from intermediate.int_usage_by_account_days where loaded_at >= timestamp '{NEXT_LOAD}' order by 1"
    )
    assert [row["activity_date"] for row in touched] == [
        date(2023, 5, 5),
        date(2024, 5, 20),
        date(2024, 6, 10),
        date(2024, 7, 9),
        date(2024, 7, 10),
    ]


def test_history_keeps_what_was_known_before(third_run: Any) -> None:
    known = third_run.records(
        "select owner_email, dbt_valid_from, dbt_valid_to from history.accounts_history where account_id = '1' order by dbt_valid_from"
    )
    assert [tuple(row.values()) for row in known] == [
        ("ann@us.com", datetime(2024, 7, 1), LATER),
        ("new@us.com", LATER, None),
    ]


def test_a_month_later_the_past_is_what_it_was(second_run: Any, third_run: Any) -> None:
    first, _ = second_run
    for mart in ("marts.mrr_movements", "marts.account_months"):
        assert set(first[mart]) <= set(third_run.marts()[mart])
    (july,) = third_run.records("from marts.months where month_start_date = date '2024-07-01'")
    assert (july["start_mrr"], july["churn_mrr"], july["customers_churned"]) == (150, -150, 1)


def test_feature_rows_are_kept_as_they_were_scored(second_run: Any, third_run: Any) -> None:
    """An event of 10 June came late, and one of 20 May was taken away: nobody knew that when the rows were written."""
    first, _ = second_run
    assert len(first["features.ftr_account_snapshots"]) > 8
    assert set(first["features.ftr_account_snapshots"]) <= set(third_run.marts()["features.ftr_account_snapshots"])


def test_each_run_adds_the_dates_that_are_new(third_run: Any) -> None:
    dates = third_run.records(
        "select as_of_date, bool_or(is_sampled) as is_sampled from features.ftr_account_snapshots group by 1 order by 1"
    )
    assert [f"{row['as_of_date']:%m-%d}" for row in dates if row["is_sampled"]] == [
        *("05-06", "05-14", "05-22", "05-30", "06-07", "06-15", "06-23", "06-24"),
        *("07-02", "07-10", "07-18", "07-26"),
    ]
    assert [f"{row['as_of_date']:%m-%d}" for row in dates if not row["is_sampled"]] == ["07-01", "08-01"]
    assert third_run.records("select distinct as_of_date from features.ftr_churn_scoring") == []


@pytest.mark.slow
def test_a_replay_sees_the_past_and_leaves_no_trace(third_run: Any) -> None:
    before = third_run.marts()
    third_run.set_clock(datetime(2024, 6, 1) + timedelta(hours=5), is_replay=True)
    third_run.build()
    (acme,) = third_run.records("from marts.accounts where account_id = '1'")
    assert (acme["as_of_date"], acme["lifecycle_status"], acme["mrr"]) == (date(2024, 6, 1), "customer", 150)
    assert (acme["has_ticket_data"], acme["tickets_open"]) == (False, None)
    assert usage(third_run) == {row for row in by_hand(third_run) if row[1] < date(2024, 6, 1)}
    after = third_run.marts()
    assert len(before["metrics.met_account_history"]) > 50
    for kept in ("history.accounts_history", "features.ftr_account_snapshots", "metrics.met_account_history"):
        assert after[kept] == before[kept]
    scored = third_run.records("select account_id, as_of_date, mrr from features.ftr_churn_scoring")
    assert [tuple(row.values()) for row in scored] == [("1", date(2024, 6, 1), 150)]
