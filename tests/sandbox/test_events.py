"""Product events: the rhythm of work, features, users and seats."""

from __future__ import annotations

from typing import Any

from sandbox.events import FEATURES

TRUE_EVENTS = (
    "(from events where event_id not in (select key from truth_faults where object = 'events' and kind like 'broken%'"
    " and key is not null) and event_id is not null qualify row_number() over (partition by event_id) = 1)"
)


def test_people_work_on_weekdays(founded: Any) -> None:
    days = founded.rows(
        f"select isodow(timestamp), count(*) from {TRUE_EVENTS} where timestamp < '2023-12-01' group by 1 order by 1"
    )
    count = dict(days)
    assert min(count[day] for day in (1, 2, 3, 4)) > 5 * max(count[6], count[7])
    assert count[5] < min(count[day] for day in (1, 2, 3, 4))


def test_people_rest_on_holidays(founded: Any) -> None:
    days = dict(founded.rows(f"select cast(timestamp as date)::varchar, count(*) from {TRUE_EVENTS} group by 1"))
    assert days["2023-12-25"] < 0.4 * days["2023-12-18"]
    assert days["2024-01-01"] < 0.4 * days["2024-01-08"]


def test_use_grows_with_the_company(founded: Any) -> None:
    months = founded.rows(
        f"select count(*) from {TRUE_EVENTS} where month(timestamp) in (9, 2) group by date_trunc('month', timestamp)"
        " order by date_trunc('month', timestamp)"
    )
    assert months[-1][0] > 1.05 * months[0][0]


def test_about_forty_features_are_used_some_far_more_than_others(founded: Any) -> None:
    counts = dict(founded.rows(f"select event, count(*) from {TRUE_EVENTS} group by 1"))
    assert set(counts) == set(FEATURES)
    assert len(FEATURES) == 40
    assert counts["login"] > 10 * min(counts.values())


def test_accounts_differ_in_the_breadth_of_their_use(founded: Any) -> None:
    low, high = founded.rows(
        "select quantile_cont(n, 0.1), quantile_cont(n, 0.9) from (select count(distinct event) as n"
        f" from {TRUE_EVENTS} where timestamp >= '2024-02-01' group by workspace_id having count(*) > 20)"
    )[0]
    assert high > low + 5


def test_no_account_has_more_active_users_than_seats(founded: Any) -> None:
    over = founded.rows(f"""
        with users as (
            select t.customer_id, count(distinct user_id) as users from {TRUE_EVENTS} e
            join truth_identities t using (workspace_id)
            where timestamp >= '2024-02-01' group by 1
        ), seats as (
            select customer, max(quantity) as seats from true_subscriptions
            where product = 'core' and coalesce("end", 9e9) > epoch(timestamp '2024-02-01') group by 1
        )
        select * from users join seats on customer = customer_id where users > seats
    """)
    assert over == []


def test_an_account_that_left_is_silent(lived: Any) -> None:
    talking = lived.value(f"""
        select count(*) from {TRUE_EVENTS} e join truth_identities t using (workspace_id)
        join (select account_id, max(left_at) as left_at from truth_departures group by 1) d using (account_id)
        where e.timestamp > d.left_at and not exists (from true_subscriptions s
            where s.customer = t.customer_id and s.start > epoch(d.left_at))
    """)
    assert talking == 0


def test_falling_use_shows_in_the_events_before_accounts_leave(founded: Any) -> None:
    """Where the truth names falling use as the main driver, the last whole month has fewer events than the ones before."""
    shares = founded.rows(f"""
        with leavers as (
            select t.workspace_id, date_trunc('month', d.left_at) as month from truth_departures d
            join truth_identities t using (account_id) where d.main_driver = 'falling_usage' and d.left_at > '2023-11-01'
        )
        select count(*) filter (timestamp >= month - interval 1 month) / (count(*) / 3.0) from {TRUE_EVENTS}
        join leavers using (workspace_id) where timestamp >= month - interval 3 month and timestamp < month group by workspace_id
    """)
    assert len(shares) >= 3
    assert sum(share for (share,) in shares) / len(shares) < 0.75
