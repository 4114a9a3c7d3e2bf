"""What the end of a period means, however a source writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.settings import Config
from core.source_settings import StreamConfig
from core.warehouse import Connection, rows
from data_quality import gaps

MODELS = ("int_mrr_movements_classified", "subscriptions")
AS_OF = datetime(2024, 7, 1)
FIRST = datetime(2024, 1, 1)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


@pytest.fixture(scope="session")
def read(built: Any, partly_modelled: Any) -> Callable[..., Any]:
    """Reads something from a warehouse with the periods of one account."""

    def reading(periods: list[Mapping[str, Any]], what: Callable[[Connection], Any]) -> Any:
        numbered = [{"subscription_id": f"s{n}", "account_id": "1", "mrr": 50, **row} for n, row in enumerate(periods)]
        facts = {
            ("billing", "accounts"): [{"account_id": "1", "created_at": FIRST}],
            ("billing", "subscriptions"): numbered,
        }
        with partly_modelled(built, MODELS, facts, AS_OF) as connection:
            return what(connection)

    return reading


@pytest.fixture(scope="session")
def two_sources() -> Callable[[str | None], Config]:
    """The configuration of the company whose billing says, or does not say, what its ends are."""

    def configured(ends: str | None) -> Config:
        accounts = {"files": "a.csv", "columns": {"account_id": "id", "created_at": "at"}}
        periods = {"subscription_id": "id", "account_id": "a", "mrr": "m", "started_at": "s", "ended_at": "e"}
        streams = {"accounts": accounts, "subscriptions": {"files": "s.csv", "columns": periods, "ends": ends}}
        return Config.model_validate(
            {"company": "Test", "sources": {"billing": {"connector": "files", "path": "data", "streams": streams}}}
        )

    return configured


def movements(connection: Connection) -> list[tuple[Any, ...]]:
    found = rows(connection, "from intermediate.int_mrr_movements_classified order by movement_date")
    return [(f"{row['movement_date']:%m-%d}", row["movement"]) for row in found]


def month_by_month(before_the_end: timedelta) -> list[Mapping[str, Any]]:
    """Periods of a month each, whose ends are written so long before the next one starts."""
    starts = [datetime(2024, month, 1) for month in range(1, 6)]
    ends = [start - before_the_end for start in starts[1:]]
    return [{"started_at": start, "ended_at": end} for start, end in zip(starts, [*ends, None], strict=True)]


@pytest.mark.parametrize("before", [timedelta(0), timedelta(microseconds=1), SECOND, MINUTE])
def test_an_end_in_the_last_minute_of_a_day_is_the_end_of_the_day(read: Any, before: timedelta) -> None:
    assert read(month_by_month(before), movements) == [("01-01", "new")]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spans=st.lists(st.tuples(st.integers(0, 150), st.integers(1, 90)), min_size=1, max_size=4),
    before=st.sampled_from([timedelta(microseconds=1), SECOND, 7 * SECOND, MINUTE]),
)
def test_the_last_minute_of_a_day_reads_as_the_next_midnight(
    read: Any, spans: list[tuple[int, int]], before: timedelta
) -> None:
    def periods(shift: timedelta) -> list[Mapping[str, Any]]:
        starts = [FIRST + day * DAY for day, _ in spans]
        return [
            {"started_at": start, "ended_at": start + length * DAY - shift}
            for start, (_, length) in zip(starts, spans, strict=True)
        ]

    assert read(periods(before), movements) == read(periods(timedelta(0)), movements)


def test_an_end_at_any_other_hour_stays_as_it_is(read: Any) -> None:
    ends = [datetime(2024, 3, 1, hour, minute, 59) for hour, minute in ((0, 0), (22, 59), (23, 58))]
    periods = [{"started_at": FIRST, "ended_at": end} for end in ends]
    found = read(periods, lambda connection: rows(connection, "select ended_at from marts.subscriptions order by all"))
    assert [row["ended_at"] for row in found] == ends


def test_ends_that_are_last_days_are_reported_until_the_stream_says_what_they_mean(read: Any, two_sources: Any) -> None:
    def gaps_if(ends: str | None) -> list[dict[str, Any]]:
        config = two_sources(ends)
        return list(read(month_by_month(DAY), lambda connection: gaps.measure(connection, config)))

    (found,) = gaps_if(None)
    assert (found["source"], found["carried_on"], found["gaps"], found["share"]) == ("billing", 4, 4, 1.0)
    assert found["sample"][0] == "billing/subscriptions/s0"
    assert gaps_if("exclusive") == []


def test_periods_that_follow_each_other_leave_no_gap(read: Any, two_sources: Any) -> None:
    (found,) = read(month_by_month(SECOND), lambda connection: gaps.measure(connection, two_sources(None)))
    assert (found["carried_on"], found["gaps"]) == (4, 0)


def test_only_subscriptions_have_ends() -> None:
    with pytest.raises(ValueError, match="`ends` is for subscriptions, not for accounts"):
        StreamConfig(entity="accounts", columns={"account_id": "id"}, ends="inclusive")
