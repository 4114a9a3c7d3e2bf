"""How many rows a day should bring, judged by the weeks before.

Lives here: the band of one day, as a pure function over counts by day. Must not live here: SQL, thresholds of a company.

Method: the median of the same weekday in the preceding weeks is what is usual (a median, so that one holiday or one
catch-up day does not move it). The configured shares of it are the band, widened by three standard deviations of a
Poisson count, because small counts scatter by themselves. Where a weekday usually brings few rows, or where the flow
has no weekly rhythm (invoices that are all written on the first of a month), the seven days that end on it are judged
against the weeks before instead. Whether there is a rhythm is found by looking back: a band that would have been broken
repeatedly in the month before the last week says nothing about this one. Where even weeks say nothing, nothing is judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median
from typing import Literal

WEEKS = 8
"""How many weeks back are looked at."""

MIN_WEEKS = 4
"""With fewer weeks of history nothing is judged: a first load of two weeks has no pattern yet."""

MIN_ROWS = 20
"""Below this median, counts scatter too much to say anything."""

TRIAL_WEEKS = 4
"""Over how many weeks, from the one before the last, a band must have held to be believed."""

DAYS_NEEDED = 7 * (WEEKS + TRIAL_WEEKS + 2)
"""Days of counts before (and with) the judged day that `band` looks at."""

Basis = Literal["day", "week"]
TRIALS: dict[Basis, int] = {"day": 1, "week": 7}
"""Days from one trial to the next: weeks must not overlap, or one odd day would count seven times."""

MAX_BROKEN = 1


@dataclass(frozen=True)
class Band:
    """The judged count and its limits, both inclusive; `basis` says whether a day or the seven days ending on it count."""

    basis: Basis
    rows: int
    usual: float
    lowest: int
    highest: int

    @property
    def holds(self) -> bool:
        return self.lowest <= self.rows <= self.highest


def band(counts: Mapping[date, int], day: date, first_day: date, *, min_share: float, max_share: float) -> Band | None:
    """The band of `day`, or None where history is too short or too thin.

    `counts` gives rows by day (a day that is not there has none); `first_day` is the first day the source has rows for.
    """
    for basis in TRIALS:
        found = _band(counts, day, first_day, basis, min_share, max_share)
        if found is None:
            continue
        trials = range(7, 7 * (TRIAL_WEEKS + 1), TRIALS[basis])
        past = [_band(counts, day - timedelta(days=b), first_day, basis, min_share, max_share) for b in trials]
        if sum(1 for trial in past if trial is not None and not trial.holds) <= MAX_BROKEN:
            return found
    return None


def _band(
    counts: Mapping[date, int], day: date, first_day: date, basis: Basis, min_share: float, max_share: float
) -> Band | None:
    """The band of one day or week, whether or not it is to be believed."""
    weekdays = [day - timedelta(days=7 * week) for week in range(1, WEEKS + 1)]
    if basis == "day":
        rows, past = counts.get(day, 0), [counts.get(other, 0) for other in weekdays if other >= first_day]
    else:
        rows = _week(counts, day)
        past = [_week(counts, other) for other in weekdays if other - timedelta(days=6) >= first_day]
    if len(past) < MIN_WEEKS or median(past) < MIN_ROWS:
        return None
    usual = median(past)
    low, high = min_share * usual, max_share * usual
    # With a usual count of at least MIN_ROWS, nothing at all is never chance: the lower limit is at least one row.
    lowest = max(1, math.floor(low - 3 * math.sqrt(low))) if min_share > 0 else 0
    return Band(basis, rows, usual, lowest, math.ceil(high + 3 * math.sqrt(high)))


def _week(counts: Mapping[date, int], last_day: date) -> int:
    return sum(counts.get(last_day - timedelta(days=back), 0) for back in range(7))
