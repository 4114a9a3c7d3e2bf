"""Words that several steps need to speak to people.

Lives here: how a number of things is written. Must not live here: sentences of a step.
"""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
