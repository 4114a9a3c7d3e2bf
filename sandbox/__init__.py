"""The sandbox: a seeded fake company with known truth, written as its vendors would deliver it.

Lives here: the three calls that others use. Must not live here: anything heavy at import time; NumPy, Arrow and DuckDB are
loaded by the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.company import Company, Delivered

__all__ = ["advance", "generate", "state"]

Progress = Callable[[str, int, int], None]


def generate(
    home: Path,
    *,
    accounts: int = 2_000,
    months: int = 24,
    seed: int = 7,
    start: date | None = None,
    density: float = 1.0,
    force: bool = False,
    progress: Progress | None = None,
) -> Delivered:
    """Found the company and deliver its history below `home/sandbox`; nothing happens when it is there already.

    `start` is the first of a month (2023-07-01 if None); `density` scales the number of events; `force` replaces another
    company. `progress` is called with what is being done, steps done, and steps in all.
    Raises `UserError` when another company is there, or a knob is out of range.
    """
    from sandbox import company

    given: dict[str, Any] = {"start": start, "progress": progress}
    return company.generate(
        home,
        accounts=accounts,
        months=months,
        seed=seed,
        density=density,
        force=force,
        **{name: value for name, value in given.items() if value is not None},
    )


def advance(home: Path, *, days: int, progress: Progress | None = None) -> Delivered:
    """Let the company live on: one delivery a day, in new files only.

    Raises `UserError` when there is no company in `home`, or `days` is below 1.
    """
    from sandbox import company

    if progress is None:
        return company.advance(home, days=days)
    return company.advance(home, days=days, progress=progress)


def state(home: Path) -> Company | None:
    """The company in `home` (accounts, months, seed, start, last_day), or None."""
    from sandbox import company

    return company.state(home)
