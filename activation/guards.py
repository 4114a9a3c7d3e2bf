"""Whether a plan may be carried out: what looks like a broken pipeline rather than like a day's news is not sent.

Lives here: the judgement, as a pure function of a plan and of the last good run. Must not live here: sending, or overriding.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from activation.ledger import LastGood
from activation.plan import Plan
from core.sync_settings import GuardConfig
from core.words import percent


@dataclass(frozen=True)
class Source:
    """The published state that rows are read from."""

    published_at: datetime | None
    as_of_at: datetime | None


@dataclass(frozen=True)
class Violation:
    """A guard that says no: its name, as `overrides` keeps it, and why."""

    guard: str
    sentence: str


def violations(
    plan: Plan, limits: GuardConfig, *, source: Source, last_good: LastGood | None, now: datetime
) -> list[Violation]:
    """Every guard that refuses to send `plan`; none where it may go."""
    found = [*_of_source(source, limits, last_good, now)]
    counts, has = plan.counts, plan.acknowledged
    if has and counts.model == 0:
        found.append(Violation("empty", f"The model has no row, while the destination has {has:,}."))
        return found
    if has < max(limits.min_rows, 1):
        return found
    for guard, count, limit, words in (
        ("changed", plan.changed, limits.max_changed_share, "would change"),
        ("retired", counts.retire, limits.max_retired_share, "would be cleared"),
    ):
        if count / has > limit:
            found.append(
                Violation(
                    guard,
                    f"{percent(count / has)} of the destination's {has:,} rows {words}; the limit is {percent(limit)}.",
                )
            )
    for name, share in plan.newly_null.items():
        if share > limits.max_newly_null_share:
            limit = limits.max_newly_null_share
            found.append(
                Violation(
                    "newly_null",
                    f"{name} would lose its value in {percent(share)} of rows; the limit is {percent(limit)}.",
                )
            )
    return found


def _of_source(source: Source, limits: GuardConfig, last_good: LastGood | None, now: datetime) -> list[Violation]:
    found = []
    at, oldest = source.published_at, limits.max_source_age_hours
    if at is not None and oldest is not None and now - at > timedelta(hours=oldest):
        hours = (now - at).total_seconds() / 3600
        found.append(Violation("stale", f"The rows were published {hours:,.0f} hours ago; the limit is {oldest:,.0f}."))
    for was, given, words in (
        (last_good.source_published_at if last_good else None, at, "published"),
        (last_good.source_as_of_at if last_good else None, source.as_of_at, "as of"),
    ):
        if was is not None and given is not None and given < was:
            found.append(
                Violation(
                    "older",
                    f"The rows are older than those of the last good sync: {words} {given:%Y-%m-%d %H:%M},"
                    f" then {was:%Y-%m-%d %H:%M}.",
                )
            )
    return found
