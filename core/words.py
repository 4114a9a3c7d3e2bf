"""Words that several steps need to speak to people.

Lives here: how a number of things, and a share, is written. Must not live here: sentences of a step.
"""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def percent(share: float, digits: int = 0) -> str:
    """A share of 1 as people read it: 0.294 is `29 %`."""
    return f"{100 * share:.{digits}f} %"
