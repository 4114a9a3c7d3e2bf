"""Which as-of dates a model learns from when there are more rows than it may take."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ml.source import thinned


@given(st.integers(1, 200), st.integers(1, 3_000_000), st.integers(1, 1_000_000))
def test_dates_are_thinned_evenly_from_the_first_on(count: int, rows: int, max_rows: int) -> None:
    dates = [date(2025, 1, 1) - timedelta(days=7 * place) for place in range(count)]
    kept = thinned(dates, rows=rows, max_rows=max_rows)
    if rows <= max_rows:
        assert kept == dates
        return
    assert kept[0] == dates[0]
    assert kept == sorted(set(kept), reverse=True)
    assert (len(kept) - 1) * rows < count * max_rows <= len(kept) * rows
    places = [dates.index(day) for day in kept]
    steps = {after - before for before, after in pairwise(places)}
    assert not steps or max(steps) - min(steps) <= 1


def test_a_share_that_floating_point_cannot_hold_keeps_to_the_dates() -> None:
    dates = [date(2025, 1, 1) - timedelta(days=place) for place in range(120)]
    for rows in range(2, 130):
        for max_rows in range(1, min(rows, 60)):
            for count in range(1, 121):
                assert thinned(dates[:count], rows=rows, max_rows=max_rows)[0] == dates[0]
