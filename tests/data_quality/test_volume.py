"""How many rows a day should bring."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from data_quality.volume import DAYS_NEEDED, MIN_ROWS, Band, band

DAY = date(2024, 6, 30)
FIRST = DAY - timedelta(days=DAYS_NEEDED)
WEEK = st.lists(st.integers(0, 5_000), min_size=7, max_size=7)


def judge(counts: Mapping[date, int], day: date = DAY, first_day: date = FIRST) -> Band | None:
    return band(counts, day, first_day, min_share=0.3, max_share=3.0)


def weekly(pattern: list[int]) -> dict[date, int]:
    """The same week over and over, the judged day included."""
    return {FIRST + timedelta(days=n): pattern[(FIRST + timedelta(days=n)).weekday()] for n in range(DAYS_NEEDED + 1)}


@given(WEEK)
def test_a_week_that_repeats_is_never_an_alarm(pattern: list[int]) -> None:
    found = judge(weekly(pattern))
    assert found is None or found.holds


@given(WEEK)
def test_a_day_that_brings_nothing_is_an_alarm_where_its_weekday_usually_brings_enough(pattern: list[int]) -> None:
    counts = weekly(pattern)
    usual = counts[DAY]
    found = judge({**counts, DAY: 0})
    if usual >= MIN_ROWS:
        assert found is not None
        assert found.basis == "day"
        assert not found.holds


@given(WEEK, st.integers(0, 20_000), st.integers(0, 20_000))
def test_what_lies_between_an_accepted_count_and_the_usual_one_is_accepted(
    pattern: list[int], count: int, other: int
) -> None:
    counts = weekly(pattern)
    found, nearer = judge({**counts, DAY: count}), judge({**counts, DAY: other})
    if found is None or nearer is None or found.basis != "day":
        return
    is_nearer = min(count, found.usual) <= other <= max(count, found.usual)
    assert not (found.holds and is_nearer) or nearer.holds


@given(WEEK, st.integers(1, 8), st.integers(0, 100_000))
def test_one_odd_day_in_the_past_does_not_turn_a_usual_day_into_an_alarm(
    pattern: list[int], weeks_ago: int, odd: int
) -> None:
    counts = weekly(pattern)
    found = judge({**counts, DAY - timedelta(days=7 * weeks_ago): odd})
    assert found is None or found.holds


@given(WEEK, st.integers(0, 27))
def test_less_than_four_weeks_of_history_is_not_judged(pattern: list[int], days_of_history: int) -> None:
    assert judge(weekly(pattern), first_day=DAY - timedelta(days=days_of_history)) is None


def test_a_low_sunday_is_compared_with_sundays() -> None:
    found = judge(weekly([1000, 1000, 1000, 1000, 1000, 200, 100]))
    assert found is not None
    assert (found.basis, found.rows, found.usual) == ("day", 100, 100)
    assert not judge({**weekly([1000] * 7), DAY: 100}).holds  # type: ignore[union-attr]


def test_small_counts_are_judged_by_the_week() -> None:
    counts = weekly([10] * 7)
    found = judge({**counts, DAY: 0})
    assert found is not None
    assert (found.basis, found.rows, found.usual, found.holds) == ("week", 60, 70, True)
    silent = {day: 0 if day > DAY - timedelta(days=7) else n for day, n in counts.items()}
    assert not judge(silent).holds  # type: ignore[union-attr]


def test_very_small_counts_are_not_judged() -> None:
    assert judge(weekly([1, 0, 2, 0, 1, 0, 0])) is None


def test_bills_on_the_first_of_a_month_have_no_weekly_rhythm() -> None:
    counts = {day: 500 if day.day == 1 else 30 if day.day < 29 else 0 for day in weekly([0] * 7)}
    found = judge(counts)
    assert found is None or found.basis == "week"
    assert found is None or found.holds


def test_an_outage_goes_on_alarming_for_a_week() -> None:
    counts = weekly([1000] * 7)
    for length in range(1, 8):
        counts[DAY - timedelta(days=7 - length)] = 0
        found = judge(counts, day=DAY - timedelta(days=7 - length))
        assert found is not None
        assert not found.holds
