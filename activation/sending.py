"""One batch on its way: retried, halved when it is refused as a whole, and its answers held to account.

Lives here: what an error or an answer of a destination means for the rows of a batch. Must not live here: batches, the ledger,
or any vendor.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal, TypeVar

from activation.base import Change, Destination, Refreshes, RowResult
from activation.ledger import UNREACHABLE
from activation.redact import Redact
from core.blocks import RetryConfig
from core.errors import BatchRefused, Retriable, TenureError, Unauthorized

T = TypeVar("T")
GIVE_UP_AFTER = 20
"""A batch of which so many rows were refused one by one, and none taken, is wrong as a whole: the run stops."""

StopKind = Literal["stopped", "deferred", "failed"]


@dataclass(frozen=True)
class Stop:
    """Why no further row is sent in this run. `deferred` rows may work in the next one; `stopped` needs somebody; `failed` is a mistake of
    the destination's code."""

    kind: StopKind
    sentence: str
    hint: str | None = None


@dataclass
class Sent:
    """What became of a batch. Rows that are in no result were not sent, or it is not known; `stop` says why."""

    results: dict[str, RowResult] = field(default_factory=dict)
    stop: Stop | None = None
    is_exhausted: bool = False
    """Whether nobody answered, however often it was tried."""
    strangers: int = 0
    """Answers about rows that were not sent."""
    left: set[str] = field(default_factory=set)
    """Keys that were handed to the destination at least once."""
    uncertain: set[str] = field(default_factory=set)
    """Keys of which some try may have been applied without saying so."""


class Halted(Exception):
    """A call that cannot be made in this run."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.sentence)
        self.stop = stop


class Unanswered(Exception):
    """A call that nobody answered after all tries."""

    def __init__(self, error: Retriable) -> None:
        super().__init__(error.message)


class Sender:
    """Sends batches to one destination. Used by several threads where a destination allows it."""

    def __init__(
        self,
        destination: Destination,
        retry: RetryConfig,
        *,
        sleep: Callable[[float], None],
        rng: random.Random,
        redact: Redact,
    ) -> None:
        self._destination, self._retry = destination, retry
        self._sleep, self._rng, self._redact = sleep, rng, redact
        self._credentials = Lock()
        self._refreshed = False
        self.calls = 0

    def send(self, batch: Sequence[Change]) -> Sent:
        """Send `batch` until every row is answered or must not be tried again; never raises for what a destination does."""
        sent = Sent()
        try:
            self._send(list(batch), sent)
        except Halted as halted:
            sent.stop = halted.stop
        return sent

    def ask(self, call: Callable[[], T]) -> T:
        """Any other call of the destination, with the same patience. Raises `Halted`."""
        try:
            return self._call(call)
        except Unanswered as error:
            raise Halted(Stop("deferred", self._redact(str(error)), "The next run tries again.")) from None
        except BatchRefused as error:
            raise Halted(_stop(error, self._redact)) from None

    def _send(self, rows: list[Change], sent: Sent) -> None:
        waiting = rows
        for attempt in range(1, self._retry.tries + 1):
            handed = list(waiting)
            sent.left.update(change.key for change in handed)
            try:
                answers = self._call(lambda handed=handed: self._upsert(handed, sent))  # type: ignore[misc]
            except Unanswered as error:
                sent.is_exhausted = True
                self._all(handed, sent, "retriable", UNREACHABLE, str(error))
                return
            except BatchRefused as error:
                self._halve(handed, sent, error)
                return
            results, strangers = judge(handed, answers, self._redact)
            sent.strangers += strangers
            sent.results |= results
            waiting = [change for change in handed if results[change.key].status == "retriable"]
            sent.uncertain.update(change.key for change in waiting)
            if not waiting:
                return
            if attempt < self._retry.tries:
                self._sleep(self._delay(attempt, None))

    def _upsert(self, rows: Sequence[Change], sent: Sent) -> Sequence[RowResult]:
        self.calls += 1
        try:
            return self._destination.upsert(rows)
        except BatchRefused:
            raise
        except Exception:
            sent.uncertain.update(change.key for change in rows)
            raise

    def _halve(self, rows: list[Change], sent: Sent, error: BatchRefused) -> None:
        if len(rows) == 1:
            self._all(rows, sent, "rejected", "refused", error.message)
            self._give_up_on_hopeless(sent, error)
            return
        middle = len(rows) // 2
        self._send(rows[:middle], sent)
        self._send(rows[middle:], sent)

    def _give_up_on_hopeless(self, sent: Sent, error: BatchRefused) -> None:
        refused = sum(result.error_code == "refused" for result in sent.results.values())
        if refused >= GIVE_UP_AFTER and refused == len(sent.results):
            said = self._redact(error.message)
            raise Halted(
                Stop("stopped", f"{refused} rows were refused one by one, and none was taken: {said}", error.hint)
            )

    def _all(
        self, rows: Sequence[Change], sent: Sent, status: Literal["rejected", "retriable"], code: str, said: str
    ) -> None:
        for change in rows:
            sent.results[change.key] = RowResult(change.key, status, error_code=code, error=self._redact(said))

    def _call(self, call: Callable[[], T]) -> T:
        """`call` with retries and one renewal of credentials; raises `Unanswered`, `BatchRefused` or `Halted`."""
        attempt = 0
        while True:
            try:
                answer = call()
                self._refreshed = False
                return answer
            except Unauthorized as error:
                self._renew(error)
            except BatchRefused:
                raise
            except Retriable as error:
                attempt += 1
                if error.retry_after is not None and error.retry_after > self._retry.max_retry_after_seconds:
                    raise Halted(_deferred(error, self._redact)) from None
                if attempt >= self._retry.tries:
                    raise Unanswered(error) from None
                self._sleep(self._delay(attempt, error.retry_after))
            except TenureError as error:
                raise Halted(_stop(error, self._redact)) from None
            except Exception as error:
                # Its words may hold what was sent or a secret, which nobody has vouched for.
                if os.environ.get("TENURE_DEBUG"):
                    raise
                said = f"The destination's own code failed: {type(error).__name__}."
                raise Halted(Stop("failed", said, "TENURE_DEBUG=1 shows where.")) from None

    def _renew(self, error: Unauthorized) -> None:
        """Renew the credentials, once until something works again; raises `Halted` where that does not help."""
        with self._credentials:
            if not isinstance(self._destination, Refreshes) or self._refreshed:
                raise Halted(_stop(error, self._redact)) from None
            self._refreshed = True
            try:
                self._destination.refresh()
            except TenureError as failed:
                raise Halted(_stop(failed, self._redact)) from None

    def _delay(self, attempt: int, retry_after: float | None) -> float:
        """Seconds until the next try: what the other side asked for, else twice as long each time; with jitter."""
        if retry_after is not None:
            return retry_after + self._rng.uniform(0, min(1.0, self._retry.first_seconds))
        longest = min(self._retry.longest_seconds, self._retry.first_seconds * 2 ** (attempt - 1))
        return self._rng.uniform(longest / 2, longest)


def judge(rows: Sequence[Change], answers: Sequence[RowResult], redact: Redact) -> tuple[dict[str, RowResult], int]:
    """One result for each of `rows`, and how many answers were about others.

    A row that is not answered, or answered twice, has failed, whatever the HTTP status was.
    """
    told: dict[str, list[RowResult]] = {change.key: [] for change in rows}
    strangers = 0
    for answer in answers:
        if answer.key in told:
            told[answer.key].append(answer)
        else:
            strangers += 1
    results = {}
    for key, found in told.items():
        if len(found) == 1:
            (only,) = found
            results[key] = only._replace(error=redact(only.error)) if only.error else only
        elif found:
            results[key] = RowResult(key, "retriable", error_code="answered_twice", error="The row was answered twice.")
        else:
            said = "The destination accepted the request and said nothing about this row."
            results[key] = RowResult(key, "retriable", error_code="no_answer", error=said)
    return results, strangers


def _stop(error: TenureError, redact: Redact) -> Stop:
    return Stop("stopped", redact(error.message), redact(error.hint) if error.hint else None)


def _deferred(error: Retriable, redact: Redact) -> Stop:
    seconds = error.retry_after or 0
    return Stop(
        "deferred",
        f"{redact(error.message)} It asks to come back in {seconds:,.0f} s; the rest waits for the next run.",
        redact(error.hint) if error.hint else None,
    )
