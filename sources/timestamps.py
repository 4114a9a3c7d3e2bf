"""Timestamps: the SQL that reads them, and which of them are dates at all.

Lives here: formats and units, zones, the values by which systems say "not set", and the plausible range. Must not live here: which
columns are timestamps (`mapping.py`), what follows from one that cannot be read (`faults.py`).

Of a text, only what is unambiguous is read: an offset, `Z`, UTC or GMT, or a zone's Region/City. An abbreviation is none of these:
BST is a summer in London and a year in Dhaka, and DuckDB takes it for Dhaka.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from core.warehouse import literal

EPOCHS = {"epoch": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000, "epoch_ns": 1_000_000_000}
"""Formats of numbers since 1970: how many of the unit make a second."""
EXCEL = "excel"
"""The format of Excel's serial numbers: days since 30 December 1899."""
_EXCEL_1970 = 25_569
LATEST_AHEAD = timedelta(days=2)
"""How far ahead a timestamp may lie of something that has happened: clocks differ."""
LATEST_PLANNED = timedelta(days=365 * 50)
"""How far ahead a timestamp may lie of something that is planned."""
_UNSET = ("1899-12-30", "1900-01-01", "1970-01-01")
"""How systems write that a date is not set: zero in Excel, SQL Server and epochs. So are dates of the year 1 and of 9999."""
_ZERO_DATE = "0000-00-00"
"""MySQL's."""
ZONE = r" ((?i)utc|gmt|z|[a-z_]+/[-a-z0-9_+/]+|(utc|gmt)?[+-][0-9:]+)$"
"""What may follow the time in a text after a space."""
Word = Literal["cast", "try_cast"]


def read(text: str, format_: str | tuple[str, ...] | None, *, word: Word) -> str:
    """SQL of a timestamp that `text` holds in `format_`. With `try_cast`, NULL where it cannot be read."""
    if isinstance(format_, str) and format_ in EPOCHS:
        # Double holds microseconds since 1970 exactly until the year 2255; decimal(18,3) overflows when multiplied.
        return _since_1970(f"{word}({text} as double) * {1_000_000 / EPOCHS[format_]:g}", word)
    if format_ == EXCEL:
        return _since_1970(f"({word}({text} as double) - {_EXCEL_1970}) * 86400000000", word)
    unambiguous = f"case when not ({names_zone(text)}) then {text} end"
    if word == "cast":
        unambiguous = f"coalesce({unambiguous}, case when {text} is not null then 'ambiguous zone' end)"
    if format_ is not None:
        patterns = (format_,) if isinstance(format_, str) else format_
        parse = "strptime" if word == "cast" else "try_strptime"
        given = unambiguous if any("%Z" in pattern for pattern in patterns) else text
        return f"cast({parse}({given}, [{', '.join(literal(pattern) for pattern in patterns)}]) as timestamp)"
    # Straight to TIMESTAMP, DuckDB would read the +02:00 of 10:00+02:00 and ignore it. The session's zone is UTC.
    return f"cast({word}({unambiguous} as timestamptz) as timestamp)"


def _since_1970(microseconds: str, word: Word) -> str:
    return f"make_timestamp({word}(round({microseconds}) as bigint))"


def names_zone(text: str) -> str:
    """SQL: whether a text names its zone otherwise than by an offset, UTC, GMT or Region/City."""
    # What stands behind a space that follows the date and the time is a zone; most texts have none there, and need no pattern.
    return (
        f"strpos(substr({text}, 12), ' ') > 0 and regexp_matches({text}, ' [A-Za-z]')"
        f" and not regexp_matches({text}, {literal(ZONE)})"
    )


def stands_for_none(text: str) -> str:
    """SQL: whether a text that is no date says that there is none."""
    return f"starts_with({text}, {literal(_ZERO_DATE)})"


def is_unset(value: str) -> str:
    """SQL: whether a timestamp says that there is none."""
    days = ", ".join(f"timestamp '{day}'" for day in _UNSET)
    years = " or ".join(
        f"({value} >= timestamp '{year:04}-01-01' and {value} < timestamp '{year + 1:04}-01-01')" for year in (1, 9999)
    )
    return f"({value} in ({days}) or {years})"


def limits(now: datetime, *, earliest: datetime, is_planned: bool) -> tuple[datetime, datetime]:
    """The plausible range of a timestamp that is read at `now`."""
    return earliest, (now + (LATEST_PLANNED if is_planned else LATEST_AHEAD)).replace(microsecond=0)
