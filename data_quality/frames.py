"""A frame and what is expected of it: what the gates hand to the judge.

Lives here: the small vocabulary of expectations and the frame that carries them, free of Great Expectations so that
everything but `engine.py` can be imported in a moment. Must not live here: how an expectation is evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from data_quality.checks import Boundary, Severity

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["filled", "between", "in_set", "at_least", "equal"]


@dataclass(frozen=True)
class Expect:
    """One expectation on a column of a frame.

    `filled`: not NULL. `between`: within `minimum` and `maximum`, inclusive. `in_set`: one of `values`. `at_least`: no
    less than the column `other` of the same row. `equal`: the same as `other`. NULL passes all but `filled`.
    `check` is the check it belongs to; `says` is the sentence that Data Docs show.
    """

    check: str
    severity: Severity
    kind: Kind
    column: str
    says: str
    other: str | None = None
    minimum: float | str | None = None
    maximum: float | str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Frame:
    """Rows of one table, or measurements of it, with the expectations on them. `part` says which: rows, columns, days …

    `labels` are the columns that tell one row from another; Data Docs show them beside a refused value. They hold no
    personal data.
    """

    boundary: Boundary
    table: str
    part: str
    data: pd.DataFrame
    expectations: tuple[Expect, ...]
    labels: tuple[str, ...]

    @property
    def is_measured(self) -> bool:
        """Whether it holds measurements, which have the same columns for every table, and not the table's own rows."""
        return self.part != "rows"

    @property
    def name(self) -> str:
        """Without dots: the judge would make a folder of each part of a dotted name."""
        return f"{self.table.replace('.', '-')}-{self.part}"


@dataclass(frozen=True)
class Verdict:
    """What one expectation came to. `positions` are the rows of the frame that it refuses, by number from 0."""

    frame: Frame
    expect: Expect
    passed: bool
    positions: tuple[int, ...]
    error: str | None = None
