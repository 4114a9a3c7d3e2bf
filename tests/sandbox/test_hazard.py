"""The hidden law: which way each driver pulls, and that it can be learned from."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from sandbox import hazard, world
from sandbox.timeline import Months

CALM = hazard.Observed(
    recent=np.array([100.0]),
    usual=np.array([100.0]),
    failed=np.array([0.0]),
    unresolved=np.array([0.0]),
    lost_champion=np.array([0.0]),
    seat_use=np.array([0.8]),
    tenure=np.array([30.0]),
    nps=np.array([np.nan]),
    renewal=np.array([0.0]),
    bound=np.array([0.0]),
)
WORSE = {
    "falling_usage": {"recent": 40.0},
    "failed_payments": {"failed": 1.0},
    "unresolved_tickets": {"unresolved": 2.0},
    "lost_champion": {"lost_champion": 1.0},
    "low_seat_use": {"seat_use": 0.2},
    "short_tenure": {"tenure": 1.0},
    "bad_nps": {"nps": 2.0},
    "renewal_due": {"renewal": 1.0},
}


def chance(seen: hazard.Observed) -> float:
    return float(hazard.probability(hazard.contributions(seen), np.zeros(1))[0])


@pytest.fixture(scope="module")
def simulated() -> world.World:
    return world.simulate(
        Months(date(2023, 7, 1)),
        seed=3,
        chunk=0,
        index=np.arange(12_000),
        first_month=0,
        last_arrival=24,
        horizon=24,
        events_scale=1.0,
    )


def auc(score: Any, outcome: Any) -> float:
    """Area under the ROC curve by the rank sum of Mann and Whitney (1947); scores here have no ties that matter."""
    rank = np.argsort(np.argsort(score)) + 1.0
    ones = outcome.sum()
    return float((rank[outcome].sum() - ones * (ones + 1) / 2) / (ones * (len(outcome) - ones)))


def test_every_driver_has_a_case() -> None:
    assert set(WORSE) == set(hazard.DRIVERS)


@pytest.mark.parametrize("driver", hazard.DRIVERS)
def test_a_driver_raises_the_hazard_and_is_named_as_the_main_one(driver: str) -> None:
    seen = replace(CALM, **{name: np.array([value]) for name, value in WORSE[driver].items()})
    assert chance(seen) > 1.5 * chance(CALM)
    assert hazard.DRIVERS[int(hazard.main_driver(hazard.contributions(seen), np.zeros(1))[0])] == driver


def test_growing_usage_and_a_good_score_do_not_raise_it() -> None:
    assert chance(replace(CALM, recent=np.array([200.0]), nps=np.array([9.0]))) <= chance(CALM)


def test_one_to_two_percent_of_the_paying_accounts_leave_in_a_month_as_the_hazard_says(simulated: world.World) -> None:
    h = simulated.hazards
    left, expected = h["left"].sum(), h["hazard"].sum()
    assert 0.010 < left / len(h["left"]) < 0.020
    assert abs(left - expected) < 4 * np.sqrt(expected)


def test_the_true_hazard_tells_who_leaves_but_not_with_certainty(simulated: world.World) -> None:
    h = simulated.hazards
    leaves = np.zeros((simulated.size, 28), dtype=bool)
    leaves[h["account"], h["month"]] = h["left"] == 1
    closed = h["month"] <= 22
    within_90_days = leaves[h["account"], h["month"]] | leaves[h["account"], h["month"] + 1]
    within_90_days |= leaves[h["account"], h["month"] + 2]
    assert 0.85 < auc(h["hazard"], h["left"] == 1) < 0.90
    assert 0.78 < auc(h["hazard"][closed], within_90_days[closed]) < 0.86


@pytest.mark.parametrize("driver", hazard.DRIVERS)
def test_each_driver_alone_is_seen_more_at_accounts_that_leave(simulated: world.World, driver: str) -> None:
    h = simulated.hazards
    leaves = h["left"] == 1
    assert h[driver][leaves].mean() > h[driver][~leaves].mean() + 0.05


@pytest.mark.parametrize("trait", ["industry", "taste", "country", "anchor"])
def test_traits_without_meaning_do_not_tell_who_leaves(simulated: world.World, trait: str) -> None:
    h = simulated.hazards
    values = simulated.accounts[trait][h["account"]] + np.linspace(0, 1e-3, len(h["account"]))
    assert abs(auc(values, h["left"] == 1) - 0.5) < 0.03


def test_simulating_further_ahead_changes_nothing_that_was_before() -> None:
    short, long = (
        world.simulate(
            Months(date(2023, 7, 1)),
            seed=3,
            chunk=0,
            index=np.arange(300),
            first_month=0,
            last_arrival=6,
            horizon=horizon,
            events_scale=1.0,
        )
        for horizon in (6, 12)
    )
    for name in ("hazards", "departures", "invoices", "tickets", "surveys", "engagements"):
        before, after = getattr(short, name), getattr(long, name)
        early = after["month"] <= 6
        for column, values in before.items():
            np.testing.assert_array_equal(after[column][early], values)
    for before_use, after_use in zip(short.usage, long.usage[:7], strict=True):
        np.testing.assert_array_equal(before_use.count, after_use.count)
