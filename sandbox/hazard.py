"""The hidden law by which accounts leave: a monthly hazard, logistic in what the data show before the month.

Lives here: the drivers, their weights and shapes. Must not live here: the simulation of what the drivers measure, or
anything that ends in a vendor's data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sandbox.randomness import Floats, Ints

BASE_LOGIT = -6.1
NOISE_SD = 0.4
"""Standard deviation of the part of the logit that no data explain."""

WEIGHTS: dict[str, float] = {
    "falling_usage": 3.2,
    "failed_payments": 1.8,
    "unresolved_tickets": 0.9,
    "lost_champion": 2.0,
    "low_seat_use": 2.7,
    "short_tenure": 1.5,
    "bad_nps": 1.4,
    "renewal_due": 1.0,
}
DRIVERS: tuple[str, ...] = tuple(WEIGHTS)

PSEUDO_EVENTS = 8.0
"""Events added to both sides of the usage ratio, so that a handful of events is not read as a trend."""


@dataclass(frozen=True)
class Observed:
    """What the data show of each account before a month starts (arrays over accounts).

    `recent` and `usual` are events a standard month, in the last month and on average over the three before it;
    `seat_use` is the share of seats whose user was active; `tenure` is months since the first paid day; `nps` is the
    last score of the past six months, NaN without one; `renewal` marks yearly contracts whose term ends in the month,
    `bound` yearly contracts whose term does not.
    """

    recent: Floats
    usual: Floats
    failed: Floats
    unresolved: Floats
    lost_champion: Floats
    seat_use: Floats
    tenure: Floats
    nps: Floats
    renewal: Floats
    bound: Floats


def strengths(seen: Observed) -> dict[str, Floats]:
    """How strongly each driver acts, 0 for not at all; about 1 for clearly (renewal: -0.6 inside a yearly term)."""
    fall = np.log((seen.usual + PSEUDO_EVENTS) / (seen.recent + PSEUDO_EVENTS))
    return {
        "falling_usage": np.clip(fall - 0.1, 0.0, 1.5),
        "failed_payments": np.clip(seen.failed, 0.0, 2.0),
        "unresolved_tickets": np.clip(seen.unresolved, 0.0, 4.0),
        "lost_champion": seen.lost_champion,
        "low_seat_use": np.clip(0.6 - seen.seat_use, 0.0, 0.6) / 0.6,
        "short_tenure": np.exp(-seen.tenure / 4.0),
        "bad_nps": np.where(np.isnan(seen.nps), 0.0, np.clip((7.0 - np.nan_to_num(seen.nps)) / 4.0, -0.5, 1.5)),
        "renewal_due": seen.renewal - 0.6 * seen.bound,
    }


def contributions(seen: Observed) -> dict[str, Floats]:
    """What each driver adds to the logit of leaving in the month."""
    return {name: WEIGHTS[name] * strength for name, strength in strengths(seen).items()}


def probability(parts: dict[str, Floats], noise: Floats) -> Floats:
    """The hazard: probability of leaving within the month."""
    logit = BASE_LOGIT + noise
    for part in parts.values():
        logit = logit + part
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float64)


def main_driver(parts: dict[str, Floats], noise: Floats) -> Ints:
    """Which driver adds most (position in DRIVERS); -1 where noise adds more than any driver."""
    stacked = np.stack([parts[name] for name in DRIVERS])
    best = np.argmax(stacked, axis=0)
    return np.where(np.max(stacked, axis=0) > np.maximum(noise, 0.0), best, -1).astype(np.int64)
