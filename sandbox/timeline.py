"""Calendar arithmetic on whole arrays: months, weekdays, holidays, seconds since the epoch.

Lives here: time as numbers. Must not live here: the wall clock (every date is an argument) or anything random.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa

from sandbox.randomness import Floats, Ints

DAY = 86_400
NEVER = np.int64(1 << 60)
"""Seconds since the epoch at which things happen that do not happen."""

PAST_MONTHS = 48
FUTURE_MONTHS = 480

WEEKDAY_WEIGHTS = (1.0, 1.05, 1.05, 1.0, 0.85, 0.15, 0.12)
HOLIDAYS = {(1, 1), (5, 1), (7, 4), (12, 24), (12, 25), (12, 26), (12, 31)}
HOLIDAY_WEIGHT = 0.2
SEASON = {8: 0.9, 12: 0.9}
STANDARD_MONTH = 20.0
"""Working days that a full month of use is scaled to."""


def add_months(day: date, months: int) -> date:
    """The first day of the month so many months after the month of `day`."""
    index = day.year * 12 + day.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


def month_index(start: date, day: date) -> int:
    """In which month of the company a day lies; 0 is the month of `start`."""
    return (day.year - start.year) * 12 + day.month - start.month


def epoch(day: date) -> int:
    """Seconds since 1970-01-01 at the start of a day (UTC)."""
    return (day - date(1970, 1, 1)).days * DAY


def day_of(seconds: int) -> date:
    return date(1970, 1, 1) + timedelta(days=seconds // DAY)


def _weight(day: date) -> float:
    holiday = HOLIDAY_WEIGHT if (day.month, day.day) in HOLIDAYS else 1.0
    return WEEKDAY_WEIGHTS[day.weekday()] * holiday * SEASON.get(day.month, 1.0)


@dataclass(frozen=True)
class Months:
    """The months of a company: where each starts, and how the work of a month spreads over its days."""

    start: date

    @cached_property
    def starts(self) -> Ints:
        """Seconds at which each month starts, from PAST_MONTHS before the company's first month on."""
        return np.array(
            [epoch(add_months(self.start, m)) for m in range(-PAST_MONTHS, FUTURE_MONTHS + 1)], dtype=np.int64
        )

    def begin(self, month: Ints | int) -> Ints:
        """Seconds at which a month starts; months before the company's first are negative."""
        return np.asarray(self.starts[np.asarray(month) + PAST_MONTHS], dtype=np.int64)

    def days(self, month: int) -> int:
        return int(self.begin(month + 1) - self.begin(month)) // DAY

    def work(self, month: int) -> Floats:
        """Cumulative work, in standard working days, at the start of each day of a month and at its end."""
        first = add_months(self.start, month)
        weights = [_weight(first + timedelta(days=d)) for d in range(self.days(month))]
        return np.concatenate([[0.0], np.cumsum(weights)])


def moments(seconds: Ints) -> pa.Array:
    """Timestamps (UTC, no zone) from seconds since the epoch; NEVER becomes NULL."""
    missing = seconds >= NEVER
    return pa.array(np.where(missing, 0, seconds) * 1_000_000, type=pa.timestamp("us"), mask=missing)
