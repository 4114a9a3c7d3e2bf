"""One gate per table: its checks, the frames that are judged for them, and the way from verdicts to results.

Lives here: what every gate has in common. Must not live here: what is measured or said for one kind of table (`raw.py`,
`published.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from data_quality.checks import CheckResult, CheckSpec
from data_quality.frames import Expect, Frame, Verdict


@dataclass(frozen=True)
class Run:
    """The run that is checked: its id, the wall clock, and its clock, the instant that facts must precede."""

    run_id: str
    now: datetime
    as_of: datetime


@dataclass(frozen=True)
class Words:
    """What is said about one refused row of a frame."""

    observed: str
    expected: str
    message: str
    unexpected_count: int = 1
    source: str | None = None
    column: str | None = None
    sample: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """What is said about a check that passes."""

    observed: str
    expected: str
    measured: bool = True


Explain = Callable[[Expect, Sequence[int]], list[Words]]


@dataclass
class Gate:
    """The checks of one table, the frames that decide them, and the words for either outcome."""

    specs: Sequence[CheckSpec]
    frames: list[Frame] = field(default_factory=list)
    explained: dict[str, Explain] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)

    def add(self, frame: Frame, explain: Explain) -> None:
        """Judge `frame`; `explain` puts refused rows of it into words."""
        self.frames.append(frame)
        self.explained[frame.name] = explain

    def note(self, check: str, observed: str, expected: str) -> None:
        """What to show for `check` when it passes."""
        self.notes[check] = Note(observed, expected)

    def skip(self, check: str, why: str, expected: str = "") -> None:
        """Say that `check` has nothing to judge."""
        self.notes[check] = Note(f"not measured: {why}", expected, measured=False)


def results(gates: Sequence[Gate], verdicts: Sequence[Verdict], run: Run) -> list[CheckResult]:
    """The results of all checks of `gates`: each failing row in words, or one line for a check that passes."""
    failed: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        if not verdict.passed:
            failed.setdefault((verdict.frame.table, verdict.expect.check), []).append(verdict)
    found = []
    for gate in gates:
        for spec in gate.specs:
            said = [words for verdict in failed.get((spec.table, spec.name), []) for words in _words(gate, verdict)]
            found += [_failure(spec, words, run) for words in said] or [_success(spec, gate.notes.get(spec.name), run)]
    return found


def _words(gate: Gate, verdict: Verdict) -> list[Words]:
    if verdict.error is None:
        return gate.explained[verdict.frame.name](verdict.expect, verdict.positions)
    return [
        Words(
            observed=verdict.error,
            expected=verdict.expect.says,
            column=verdict.expect.column,
            message=f"{verdict.frame.table}: {verdict.expect.check} cannot be judged: {verdict.error}",
        )
    ]


def _failure(spec: CheckSpec, words: Words, run: Run) -> CheckResult:
    return CheckResult(
        run_id=run.run_id,
        checked_at=run.now,
        boundary=spec.boundary,
        table=spec.table,
        name=spec.name,
        source=words.source,
        column=words.column,
        severity=spec.severity,
        measured=True,
        passed=False,
        observed=words.observed,
        expected=words.expected,
        unexpected_count=words.unexpected_count,
        sample=words.sample,
        message=words.message,
    )


def _success(spec: CheckSpec, note: Note | None, run: Run) -> CheckResult:
    said = note or Note("not measured", spec.description, measured=False)
    return CheckResult(
        run_id=run.run_id,
        checked_at=run.now,
        boundary=spec.boundary,
        table=spec.table,
        name=spec.name,
        source=None,
        column=None,
        severity=spec.severity,
        measured=said.measured,
        passed=True,
        observed=said.observed,
        expected=said.expected or spec.description,
        unexpected_count=0,
        sample=(),
        message=f"{spec.table}: {spec.description} {said.observed[:1].upper()}{said.observed[1:]}.",
    )
