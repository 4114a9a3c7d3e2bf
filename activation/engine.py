"""One sync of one destination: plan, guard, check, send in batches, keep what became of every row.

Lives here: the order of these steps and the counts, which add up at any moment. Must not live here: how each is done
(`plan.py`, `guards.py`, `sending.py`, `ledger.py`), or any vendor.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from activation import guards, plan
from activation.base import Checks, Destination, Field, Finishes, Problem, RowResult
from activation.ledger import Ledger, RunRecord, busy
from activation.mapping import Mapping as FieldMapping
from activation.mapping import resolve
from activation.plan import PlannedChange
from activation.redact import Redact, redactor
from activation.sending import Halted, Sender, Sent, Stop
from activation.target import account_of, refusal, settle, target_of
from core.errors import Fatal, TenureError
from core.locks import RunLock, holder_of
from core.settings import utc_now
from core.sync_settings import SyncConfig
from core.warehouse import Connection, rows, warehouse
from core.words import counted

Status = Literal["done", "partial", "deferred", "guarded", "stopped", "failed", "planned"]
Progress = Callable[[str, int, int], object]
EXHAUSTED_BATCHES = 2
"""So many batches in a row that nobody answered end a run: the rest waits for the next one."""
INVALID_KEPT = 10_000
"""Of so many invalid rows the ledger keeps the reason; all are counted."""
FAILURES_TOLD = 20


@dataclass(frozen=True)
class Request:
    """What to sync, and how this once."""

    destination: str
    config: SyncConfig
    run_id: str
    serving: Path
    locks: Path
    retention_days: int = 90
    full: bool = False
    keys: tuple[str, ...] = ()
    override: bool = False
    dry_run: bool = False
    memory_limit: str = "2GB"
    threads: int = 2

    @property
    def connector(self) -> str:
        return str(getattr(self.config, "connector", "custom"))

    @property
    def options(self) -> dict[str, Any]:
        """What differs from an ordinary run, for the ledger."""
        return {name: value for name, value in (("full", self.full), ("keys", list(self.keys))) if value}


@dataclass(frozen=True)
class World:
    """What a run takes from outside: the time, waiting, chance."""

    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], None] = time.sleep
    rng: random.Random = field(default_factory=random.Random)


@dataclass
class Tally:
    """`source` = `unchanged` + `invalid` + `ok` + `rejected` + `retriable` + `deferred`, from the beginning to the end."""

    source: int = 0
    unchanged: int = 0
    invalid: int = 0
    ok: int = 0
    rejected: int = 0
    retriable: int = 0
    deferred: int = 0
    model_rows: int = 0
    gone_rows: int = 0
    created: int = 0
    updated: int = 0
    retired: int = 0
    parked: int = 0
    calls: int = 0

    @classmethod
    def of(cls, counts: plan.Counts) -> Tally:
        """Nothing is sent yet: all that would be is deferred."""
        return cls(
            source=counts.source,
            unchanged=counts.unchanged,
            invalid=counts.invalid,
            deferred=counts.to_send + counts.parked,
            model_rows=counts.model,
            gone_rows=counts.gone,
            parked=counts.parked,
        )

    def add(self, planned: PlannedChange, result: RowResult) -> None:
        """Count an answer."""
        self.deferred -= 1
        if result.status == "rejected":
            self.rejected += 1
        elif result.status == "retriable":
            self.retriable += 1
        else:
            self.ok += 1
            operation = planned.change.operation
            self.created += operation == "create"
            self.updated += operation == "update"
            self.retired += operation == "retire"

    def revoke(self) -> None:
        """What was taken never became visible."""
        self.deferred += self.ok
        self.ok = self.created = self.updated = self.retired = 0

    @property
    def adds_up(self) -> bool:
        told = self.unchanged + self.invalid + self.ok + self.rejected + self.retriable + self.deferred
        return self.source == told == self.model_rows + self.gone_rows


@dataclass
class SyncReport:
    """What a sync came to."""

    run_id: str
    destination: str
    connector: str
    model: str
    mode: str
    status: Status = "failed"
    counts: Tally = field(default_factory=Tally)
    planned: dict[str, int] = field(default_factory=dict)
    invalid_reasons: dict[str, int] = field(default_factory=dict)
    violations: list[guards.Violation] = field(default_factory=list)
    overrides: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    changes: list[PlannedChange] = field(default_factory=list)
    error: str | None = None
    hint: str | None = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return {"done": 0, "planned": 0, "guarded": 3}.get(self.status, 1)

    @property
    def failed_share(self) -> float:
        """Rows that failed, as a share of those that were answered."""
        failed = self.counts.rejected + self.counts.retriable
        return failed / (failed + self.counts.ok) if failed else 0.0

    @property
    def sentence(self) -> str:
        """The counts in words."""
        return sentence(self.counts)

    def document(self) -> dict[str, Any]:
        """The same as a plain dictionary, for JSON; the changes of a dry run with old and new."""
        found = asdict(self)
        found["changes"] = [
            {
                "key": planned.change.key,
                "operation": planned.change.operation,
                "fields": {name: {"old": old, "new": new} for name, (old, new) in planned.differing.items()},
            }
            for planned in self.changes
        ]
        return {**found, "exit_code": self.exit_code}


def sentence(counts: Tally) -> str:
    """Counts in words: what was done, and what was not."""
    named = (
        (counts.created, "created"),
        (counts.updated, "updated"),
        (counts.retired, "cleared"),
        (counts.unchanged, "unchanged"),
        (counts.rejected, "rejected"),
        (counts.retriable, "to be tried again"),
        (counts.deferred - counts.parked, "deferred"),
        (counts.parked, "parked"),
        (counts.invalid, "invalid"),
    )
    parts = [f"{count:,} {word}" for count, word in named if count]
    return f"{counted(counts.source, 'row')}: " + ", ".join(parts) if parts else "no rows"


Open = Callable[[FieldMapping], Destination | None]
"""Opens the destination for the fields that are mapped; None in a dry run that must not look at it."""


def sync(
    request: Request, ledger: Ledger, open_destination: Open, *, world: World, progress: Progress = lambda *_: None
) -> SyncReport:
    """Bring the destination to what the published copy says; what went wrong there is in the report, not raised.

    A dry run only reads: what would stop the sync at the destination is in `problems`.

    Raises `UserError` for a model, key or column that is not there, and `TenureError` when another run works on the same
    destination, or the ledger cannot be used.
    """
    if request.dry_run:
        return _Run(request, ledger, open_destination, world, progress).execute()
    with _alone(request), ledger.hold(request.destination):
        return _Run(request, ledger, open_destination, world, progress).execute()


@contextmanager
def _alone(request: Request) -> Iterator[None]:
    path = request.locks / f"{request.destination}.lock"
    lock = RunLock(path)
    try:
        lock.acquire(request.run_id, wait_seconds=-1.0, on_wait=lambda holder: None)
    except TenureError:
        raise busy(request.destination, holder_of(path)) from None
    try:
        yield
    finally:
        lock.release()


class _Run:
    """The steps of one run, with what they share."""

    def __init__(
        self, request: Request, ledger: Ledger, open_destination: Open, world: World, progress: Progress
    ) -> None:
        self.request, self.ledger, self.world, self.progress = request, ledger, world, progress
        self.open_destination = open_destination
        self.config = request.config
        self.redact: Redact = redactor(request.config.secrets)
        self.report = SyncReport(
            request.run_id, request.destination, request.connector, self.config.model, self.config.mode
        )
        self.tally = Tally()
        self.began = world.now()
        self._opened: Destination | None = None
        self._asked: str | None = None

    def execute(self) -> SyncReport:
        request = self.request
        with warehouse(
            request.serving, read_only=True, memory_limit=request.memory_limit, threads=request.threads
        ) as connection:
            self.progress(f"{request.destination}: comparing", 0, 0)
            source = _source(connection)
            planned = self._plan(connection)
            last_good = self.ledger.last_good(request.destination)
            self.report.violations = guards.violations(
                self.whole, self.config.guards, source=source, last_good=last_good, now=self.began
            )
            self._announce(planned)
            if request.dry_run:
                self.report.status = "planned"
                self._look_at_target(planned)
                self.report.changes = list(plan.changes(connection, planned, mode=self.config.mode))
                self._look_ahead(planned)
            else:
                self._carry_out(connection, planned, self._record_of(source))
        self.report.counts = self.tally
        self.report.seconds = (self.world.now() - self.began).total_seconds()
        return self.report

    def _plan(self, connection: Connection) -> plan.Plan:
        name = self.request.destination

        def payloads(keys: Sequence[str] | None) -> Any:
            return self.ledger.payloads(name, keys)

        mapping = resolve(connection, self.config)
        self.whole = plan.make(connection, mapping, lambda: self.ledger.acknowledged(name), payloads)
        # Guards judge all rows, also when only some are asked for or all are sent anew.
        planned = plan.resend(connection, self.whole, payloads) if self.request.full else self.whole
        return plan.only(connection, planned, self.request.keys) if self.request.keys else planned

    def _announce(self, planned: plan.Plan) -> None:
        self.tally = Tally.of(planned.counts)
        self.report.planned = asdict(planned.counts)
        self.report.invalid_reasons = planned.reasons

    def _record_of(self, source: guards.Source) -> RunRecord:
        guarded = {violation.guard: None for violation in self.report.violations}
        self.report.overrides = tuple(guarded) if self.request.override else ()
        return RunRecord(
            run_id=self.request.run_id,
            destination=self.request.destination,
            connector=self.request.connector,
            model=self.config.model,
            mode=self.config.mode,
            started_at=self.began,
            source_published_at=source.published_at,
            source_as_of_at=source.as_of_at,
            overrides=self.report.overrides,
            options=self.request.options,
        )

    def _carry_out(self, connection: Connection, planned: plan.Plan, run: RunRecord) -> None:
        self.ledger.begin(run, asdict(self.tally))
        try:
            self._send_if_allowed(connection, planned, run)
        except BaseException as error:
            self.report.status = "failed"
            self.report.error = self.redact(str(error) if isinstance(error, TenureError) else type(error).__name__)
            raise
        finally:
            self.ledger.end(
                run,
                self.report.status,
                asdict(self.tally),
                error=self.report.error,
                now=self.world.now(),
                retention_days=self.request.retention_days,
            )

    def _send_if_allowed(self, connection: Connection, planned: plan.Plan, run: RunRecord) -> None:
        try:
            is_ours = self._settle_target(planned, run)
        except Halted as halted:
            self._end_with(halted.stop)
            return
        except TenureError as error:
            self._end_with(self._stopped(error))
            return
        if not is_ours:
            self.report.status = "guarded"
            return
        if self.report.violations and not self.request.override:
            self.report.status = "guarded"
            self.report.error = " ".join(violation.sentence for violation in self.report.violations)
            self.report.hint = f"Look first; then: tenure sync {run.destination} --override"
            return
        invalid = plan.invalid_rows(connection, limit=INVALID_KEPT)
        self.ledger.note_invalid(run, invalid, now=self.began)
        if not self.request.keys:
            back, gone = plan.settled(connection)
            self.ledger.settle(run.destination, back=back, gone=gone)
            self.ledger.rehash(run.destination, plan.rehashed(connection))
        if planned.counts.to_send == 0:
            self.report.status = "done"
            return
        stop = self._send(connection, planned, run)
        if stop is not None:
            self._end_with(stop)
        elif self.tally.rejected or self.tally.retriable:
            self.report.status = "partial"
        else:
            self.report.status = "done"

    def _settle_target(self, planned: plan.Plan, run: RunRecord) -> bool:
        """Whether the ledger is about what the configuration leads to; keeps what that is, before anything is sent."""
        if not (planned.counts.to_send or self.whole.acknowledged):
            return True
        bound, found = self.ledger.target(run.destination), target_of(self.config)
        settled = settle(bound, found, lambda: self._account(planned))
        if settled is None:
            self.report.error, self.report.hint = refusal(run.destination, bound, found, self._asked)
        elif settled != bound:
            self.ledger.bind(run.destination, settled, now=self.began)
        return settled is not None

    def _look_at_target(self, planned: plan.Plan) -> None:
        """The same for a dry run, which binds nothing, and may not look at the destination."""
        bound, found = self.ledger.target(self.request.destination), target_of(self.config)
        if bound is None:
            return
        try:
            if settle(bound, found, lambda: self._account(planned)) is None:
                self.report.problems.append(Problem(*refusal(self.request.destination, bound, found, self._asked)))
        except TenureError as error:
            self.report.warnings.append(self.redact(f"The destination could not be looked at: {error.message}"))
        except Halted as halted:
            self.report.warnings.append(f"The destination could not be looked at: {halted.stop.sentence}")

    def _end_with(self, stop: Stop) -> None:
        self.report.status, self.report.error, self.report.hint = stop.kind, stop.sentence, stop.hint

    def _account(self, planned: plan.Plan) -> str | None:
        """The account's own id, by asking the destination."""
        destination = self._open(planned)
        if destination is not None:
            self._asked = self._sender(destination).ask(lambda: account_of(destination))
        return self._asked

    def _open(self, planned: plan.Plan) -> Destination | None:
        """The destination, opened once; None in a dry run that must not look at it."""
        if self._opened is None:
            self._opened = self.open_destination(planned.mapping)
        return self._opened

    def _sender(self, destination: Destination) -> Sender:
        retry = self.config.retry.model_copy(update={"tries": 1}) if self.request.dry_run else self.config.retry
        return Sender(destination, retry, sleep=self.world.sleep, rng=self.world.rng, redact=self.redact)

    def _stopped(self, error: TenureError) -> Stop:
        return Stop("stopped", self.redact(error.message), self.redact(error.hint) if error.hint else None)

    def _send(self, connection: Connection, planned: plan.Plan, run: RunRecord) -> Stop | None:
        try:
            destination = self._open(planned)
        except TenureError as error:
            return self._stopped(error)
        if destination is None:
            raise Fatal(f"{run.destination} was not opened.")
        sender = self._sender(destination)
        try:
            self._preflight(destination, sender, planned.mapping.described())
            stop = self._batches(connection, planned, run, destination, sender)
            if stop is None and isinstance(destination, Finishes):
                sender.ask(destination.finish)
        except Halted as halted:
            stop = halted.stop
        if isinstance(destination, Finishes):
            if stop is None:
                self.ledger.conclude(run)
            else:
                self.tally.revoke()
                self.ledger.revoke(run)
        return stop

    def _look_ahead(self, planned: plan.Plan) -> None:
        """What would stop a sync before its first row, as far as one try tells."""
        if planned.counts.to_send == 0 or self.report.problems:
            return
        try:
            destination = self._open(planned)
            if destination is not None:
                self._look(destination, self._sender(destination), planned.mapping.described())
        except TenureError as error:
            self.report.warnings.append(self.redact(f"The destination could not be looked at: {error.message}"))
        except Halted as halted:
            self.report.warnings.append(f"The destination could not be looked at: {halted.stop.sentence}")

    def _look(self, destination: Destination, sender: Sender, fields: Sequence[Field]) -> None:
        if not isinstance(destination, Checks):
            return
        self.progress(f"{self.request.destination}: checking", 0, 0)
        found = sender.ask(lambda: destination.preflight(fields))
        self.report.problems = [Problem(self.redact(problem.what), self.redact(problem.hint)) for problem in found]

    def _preflight(self, destination: Destination, sender: Sender, fields: Sequence[Field]) -> None:
        self._look(destination, sender, fields)
        if self.report.problems:
            first = self.report.problems[0]
            more = f" And {len(self.report.problems) - 1} more." if len(self.report.problems) > 1 else ""
            raise Halted(Stop("stopped", first.what + more, first.hint))

    def _batches(
        self, connection: Connection, planned: plan.Plan, run: RunRecord, destination: Destination, sender: Sender
    ) -> Stop | None:
        """Send everything, at most `concurrency` batches at a time; the ledger is written by this thread alone."""
        total = planned.counts.to_send
        limits = destination.limits(total)
        size = min(limits.batch_rows, self.config.batch_rows or limits.batch_rows)
        waiting = _batched(plan.changes(connection, planned, mode=self.config.mode), size)
        under_way: deque[tuple[list[PlannedChange], Future[Sent]]] = deque()
        stop: Stop | None = None
        exhausted = 0
        with ThreadPoolExecutor(max_workers=limits.concurrency) as pool:
            while True:
                while stop is None and len(under_way) < limits.concurrency and (batch := next(waiting, None)):
                    self.ledger.intend(run, batch)
                    under_way.append((batch, pool.submit(sender.send, [item.change for item in batch])))
                if not under_way:
                    return stop
                batch, answer = under_way.popleft()
                sent = answer.result()
                self.tally.calls = sender.calls
                self._keep(run, batch, sent, keep_doubt=isinstance(destination, Finishes))
                exhausted = exhausted + 1 if sent.is_exhausted else 0
                stop = stop or sent.stop or (_unreachable(sent) if exhausted >= EXHAUSTED_BATCHES else None)
                done = total - self.tally.deferred + self.tally.parked
                self.progress(f"{run.destination}: {self.tally.ok:,} of {total:,} rows taken", done, total)

    def _keep(self, run: RunRecord, batch: Sequence[PlannedChange], sent: Sent, *, keep_doubt: bool) -> None:
        answered = [(item, sent.results[item.change.key]) for item in batch if item.change.key in sent.results]
        for item, result in answered:
            self.tally.add(item, result)
            if result.status != "ok" and len(self.report.failures) < FAILURES_TOLD:
                told = {name: value for name, value in result._asdict().items() if value is not None}
                self.report.failures.append(told)
        if sent.strangers:
            self.report.warnings.append(f"The destination answered about {sent.strangers} rows that were not sent.")
        self.ledger.record(
            run,
            answered,
            asdict(self.tally),
            now=self.world.now(),
            max_attempts=self.config.max_attempts,
            keep_doubt=keep_doubt,
            unsent=[item.change.key for item in batch if item.change.key not in sent.left],
            uncertain=sent.uncertain,
        )


def _source(connection: Connection) -> guards.Source:
    found = rows(connection, "select published_at, as_of_at from publication limit 1")
    return guards.Source(**found[0]) if found else guards.Source(None, None)


def _unreachable(sent: Sent) -> Stop:
    said = next((r.error for r in sent.results.values() if r.error), "Nobody answers.")
    return Stop("deferred", f"{said} The rest waits for the next run.")


def _batched(changes: Iterator[PlannedChange], size: int) -> Iterator[list[PlannedChange]]:
    while batch := list(islice(changes, size)):
        yield batch


def counts_of(row: Mapping[str, Any]) -> Tally:
    """The counts of a run as the ledger keeps them."""
    return Tally(**{name: int(row[name]) for name in Tally.__dataclass_fields__})
