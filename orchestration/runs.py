"""Running a job from the command: in this process, in the same instance that the UI shows.

Lives here: starting a run, following its events, and what it came to. Must not live here: printing (`console.py`), or
what the assets do.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

from core import settings
from core.errors import TenureError
from core.words import counted
from orchestration import dbt, nothing_new
from orchestration.dbt_process import DbtProcess
from orchestration.instance import PROCESS, WAITING, WHOLE_JOB, end_killed_runs, open_instance

if TYPE_CHECKING:
    from dagster import DagsterEvent, DagsterInstance, DagsterRun, EventLogEntry

    from core.settings import Tenure

DBT_STEPS = (dbt.BUILD, dbt.ACTIVATE)
Status = Literal["done", "stopped", "failed", "refused"]


@dataclass(frozen=True)
class Progress:
    """Something that happened in a run: `kind` says what, `name` where (a step or an asset), `detail` in words."""

    kind: Literal["begin", "step", "asset", "check", "log"]
    name: str
    detail: str = ""
    ok: bool = True
    seconds: float = 0.0
    total: int = 0


@dataclass
class RunOutcome:
    """What a run came to. `done`; `stopped`: published, but a stream was broken; `refused` by a check; `failed`. `nothing_new` says of a
    run that was done since when there was nothing to do."""

    run_id: str
    job: str
    started_at: datetime
    status: Status = "failed"
    seconds: float = 0.0
    checks_passed: int = 0
    checks_failed: int = 0
    warnings_by_kind: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    nothing_new: str | None = None

    @property
    def warnings(self) -> list[str]:
        """All warnings."""
        return [sentence for alike in self.warnings_by_kind.values() for sentence in alike]

    def warn(self, kind: str, *sentences: str) -> None:
        """Note warnings of one kind, such as those of one check on several tables."""
        if sentences:
            self.warnings_by_kind.setdefault(kind, []).extend(sentences)

    @property
    def exit_code(self) -> int:
        return {"done": 0, "stopped": 1, "failed": 1, "refused": 3}[self.status]


def execute(
    tenure: Tenure,
    job: str,
    *,
    full: Collection[str] = (),
    retrain: bool = False,
    rebuild: bool = False,
    partition: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> RunOutcome:
    """Run `job` to its end and tell `on_progress` what happens; a failure is an outcome, not an exception. `full` are the labels of the
    streams of which everything is read again; with `rebuild` the run goes on although nothing is new.

    Raises `TenureError` when the run cannot begin (a mistake in the configuration, models that do not parse).
    """
    begun = settings.utc_now()
    unfinished = _finish_erasures(tenure) if job == WHOLE_JOB else []
    outcome = RunOutcome(run_id=str(uuid.uuid4()), job=job, started_at=begun)
    outcome.warn("erasures", *unfinished)
    watcher = _Watcher(outcome, on_progress)
    with dbt.process(tenure) as dbt_process:
        # dbt parses, and makes itself ready, in processes of its own while the heavy libraries are imported here.
        parsing = Thread(target=_parse_ahead, args=(tenure, dbt_process, job))
        parsing.start()
        _import_ahead(job)
        from orchestration import alerts, triggers
        from orchestration.definitions import Overrides, build_defs

        parsing.join()
        definitions = build_defs(Overrides(tenure=tenure, full=full, retrain=retrain, rebuild=rebuild, dbt=dbt_process))
        logging.getLogger("dagster").setLevel(logging.CRITICAL)
        with open_instance(tenure.home) as instance:
            end_killed_runs(instance)
            instance.add_event_listener(outcome.run_id, watcher.see)
            job_definition = definitions.resolve_job_def(job)
            on_progress(Progress("begin", job, total=watcher.nodes_of(job_definition)))
            with output_to(tenure.home / "logs" / "run.log"):
                result = job_definition.execute_in_process(
                    instance=instance,
                    run_id=outcome.run_id,
                    raise_on_error=False,
                    partition_key=partition,
                    tags={triggers.STARTED_BY: "command", PROCESS: str(os.getpid())},
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                )
    outcome.seconds = (settings.utc_now() - begun).total_seconds()
    if watcher.failed_step in DBT_STEPS:
        outcome.problems = dbt.failures(tenure, watcher.failed_step) or outcome.problems
    outcome.status = watcher.status(succeeded=result.success)
    if outcome.status == "failed" and not outcome.problems:
        outcome.problems.append(watcher.interruption)
    if outcome.status != "done":
        failure = alerts.Failure(tenure.config.company, outcome.run_id, job, tuple(outcome.problems), outcome.status)
        outcome.warn("alerts", *alerts.send(failure, tenure.config.alerts))
    return outcome


def _finish_erasures(tenure: Tenure) -> list[str]:
    """Go on with erasures that were interrupted, before anything is read; a sentence for each that is still not complete."""
    from orchestration.erasure import run as erasure

    done = erasure.resume(tenure, rebuilds=False)
    return [
        f"Erasure {one.erasure_id[:8]} is not complete: {' '.join(one.notes)}" for one in done if not one.is_complete
    ]


def _parse_ahead(tenure: Tenure, process: DbtProcess, job: str) -> None:
    with suppress(TenureError):  # said by the definitions, which ask again
        dbt.manifest(tenure)
        if job == WHOLE_JOB:
            process.start()


def _import_ahead(job: str) -> None:
    import dagster_dbt  # noqa: F401

    if job == WHOLE_JOB:
        from data_quality.engine import preload

        preload()


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """What tools print while the run goes on (dbt does, a lot) goes to a file; Dagster keeps it for the UI as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        yield


class _Watcher:
    """Turns Dagster's events into `Progress` and keeps the sentences that matter at the end."""

    def __init__(self, outcome: RunOutcome, on_progress: Callable[[Progress], None]) -> None:
        self.outcome = outcome
        self.on_progress = on_progress
        self.failed_step: str | None = None
        self.refused = False
        self.stopped = False
        self.waits: str | None = None

    @property
    def interruption(self) -> str:
        """What to say of a run that ended without saying why: a signal ended it."""
        if self.waits is not None:
            return f"Stopped by a signal while it was waiting. {self.waits} This one had begun nothing."
        return "Stopped by a signal before it ended. The next run goes on where this one was."

    def nodes_of(self, job: Any) -> int:
        """How many assets and checks the job has."""
        layer = job.asset_layer
        return len(layer.executable_asset_keys) + len(layer.asset_graph.asset_check_keys)

    def status(self, *, succeeded: bool) -> Status:
        if succeeded:
            return "stopped" if self.stopped else "done"
        return "refused" if self.refused else "failed"

    def see(self, entry: EventLogEntry, cursor: Any = None) -> None:
        event = entry.dagster_event
        if event is None:
            level = int(entry.level)
            if entry.user_message.endswith("Not executing."):
                return  # Dagster's account of what a failure kept from running; the failure itself is told
            if (
                level >= logging.WARNING and entry.step_key not in DBT_STEPS
            ):  # dbt warns of tests that are no asset check
                if entry.user_message.startswith(WAITING):
                    self.waits = entry.user_message
                self.on_progress(Progress("log", entry.step_key or "run", entry.user_message, ok=False))
            elif level == logging.INFO and entry.step_key:
                if entry.user_message.startswith(nothing_new.BEGINS):
                    self.outcome.nothing_new = entry.user_message
                self.on_progress(Progress("log", entry.step_key, entry.user_message))
        elif event.is_step_start:
            self.waits = None
        elif event.is_step_materialization:
            self._materialized(event)
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            self._checked(event)
        elif event.is_step_success:
            seconds = event.step_success_data.duration_ms / 1000
            self.on_progress(Progress("step", str(event.step_key), seconds=seconds))
        elif event.is_step_failure:
            self._failed(event)
        elif event.event_type_value == "STEP_RESTARTED":
            self.on_progress(Progress("log", str(event.step_key), "trying again", ok=False))

    def _materialized(self, event: DagsterEvent) -> None:
        materialization = event.step_materialization_data.materialization
        metadata = {name: value.value for name, value in materialization.metadata.items()}
        if "stopped" in metadata:
            self.stopped = True
            self.outcome.problems.append(str(metadata["stopped"]))
        if "warnings" in metadata:
            self.outcome.warn("streams", str(metadata["warnings"]))
        self.on_progress(
            Progress(
                "asset", "/".join(materialization.asset_key.path), _in_words(metadata), ok="stopped" not in metadata
            )
        )

    def _checked(self, event: DagsterEvent) -> None:
        evaluation = event.asset_check_evaluation_data
        name = f"{'/'.join(evaluation.asset_key.path)}: {evaluation.check_name}"
        if evaluation.passed:
            self.outcome.checks_passed += 1
        else:
            self.outcome.checks_failed += 1
            # The check names the table for its own page; here the name has said it.
            told = (evaluation.description or "failed").removeprefix(f"{'.'.join(evaluation.asset_key.path)}: ")
            said = f"{name}: {told}"
            refuses = _refuses(event)
            self.refused = self.refused or refuses
            # The load itself has told of a stream that stopped, the sync of what kept it.
            if not (self.stopped and evaluation.check_name in ("streams", "sent")):
                if refuses:
                    self.outcome.problems.append(said)
                else:
                    self.outcome.warn(evaluation.check_name, said)
        self.on_progress(Progress("check", name, evaluation.description or "", ok=evaluation.passed))

    def _failed(self, event: DagsterEvent) -> None:
        self.failed_step = self.failed_step or str(event.step_key)
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        message = _sentence(error.message if error else str(event.message))
        # A blocking check that failed fails its step too; its own sentence says more.
        if not (self.refused and "check" in str(event.step_key)):
            self.outcome.problems.append(f"{event.step_key}: {message}")
        self.on_progress(Progress("step", str(event.step_key), message, ok=False))


def _refuses(event: DagsterEvent) -> bool:
    """Whether a check keeps what comes after it from running."""
    evaluation = event.asset_check_evaluation_data
    blocks = evaluation.blocking or str(event.step_key) in DBT_STEPS
    return bool(not evaluation.passed and blocks and evaluation.severity.value == "ERROR")


def _sentence(message: str) -> str:
    """An exception's words without its class."""
    first, _, rest = message.strip().partition(": ")
    return rest if rest and " " not in first else message.strip()


def _in_words(metadata: dict[str, Any]) -> str:
    """Counts of a load as a phrase, or an asset's own summary; empty for assets that have neither."""
    if "summary" in metadata:
        return str(metadata["summary"])
    if "rows_read" not in metadata:
        return ""
    named = (
        ("rows_inserted", "new"),
        ("rows_updated", "updated"),
        ("rows_unchanged", "unchanged"),
        ("rows_superseded", "superseded"),
        ("rows_quarantined", "quarantined"),
        ("rows_suppressed", "suppressed as erased"),
        ("rows_deleted", "deleted"),
        ("rows_released", "released from quarantine"),
        ("rows_reassigned", "moved to another account"),
        ("rows_withdrawn", "back in quarantine"),
    )
    parts = [f"{metadata[key]:,} {word}" for key, word in named if metadata.get(key)]
    if metadata.get("values_unread"):
        parts.append(f"{counted(metadata['values_unread'], 'value')} not read and left empty")
    return f"{counted(metadata['rows_read'], 'row')} read" + (": " + ", ".join(parts) if parts else "")


def last_runs(tenure: Tenure, *, limit: int) -> list[dict[str, Any]]:
    """The newest runs of this home, newest first, whoever started them; `refused_by` says which checks stopped a run."""
    if not (tenure.home / "dagster").exists():
        return []
    found = []
    with open_instance(tenure.home) as instance:
        for record in instance.get_run_records(limit=limit):
            run, start, end = record.dagster_run, record.start_time, record.end_time
            refused_by = _refused_by(instance, run)
            found.append(
                {
                    "run_id": run.run_id,
                    "job": run.job_name,
                    "status": "refused" if refused_by else _status(instance, run),
                    "started_at": datetime.fromtimestamp(start, tz=UTC).replace(tzinfo=None, microsecond=0)
                    if start
                    else None,
                    "seconds": round(end - start, 1) if end and start else None,
                    "started_by": run.tags.get("tenure/started_by", "dagster"),
                    "refused_by": refused_by,
                }
            )
    return found


def _status(instance: DagsterInstance, run: DagsterRun) -> str:
    """What became of a run that no check refused; `stopped`: it published although a stream or a sync was stopped in it."""
    from dagster import DagsterEventType, DagsterRunStatus

    words = {DagsterRunStatus.FAILURE: "failed", DagsterRunStatus.CANCELED: "cancelled"}
    if run.status != DagsterRunStatus.SUCCESS:
        return words.get(run.status, "running")
    events = (entry.dagster_event for entry in instance.all_logs(run.run_id, DagsterEventType.ASSET_MATERIALIZATION))
    made = (event.step_materialization_data.materialization for event in events if event)
    return "stopped" if any("stopped" in one.metadata for one in made) else "done"


def _refused_by(instance: DagsterInstance, run: DagsterRun) -> list[str]:
    """What the checks said that stopped a run; empty for runs that ended well, and for those that broke."""
    from dagster import DagsterEventType, DagsterRunStatus

    if run.status != DagsterRunStatus.FAILURE:
        return []
    events = (entry.dagster_event for entry in instance.all_logs(run.run_id, DagsterEventType.ASSET_CHECK_EVALUATION))
    found = [event.asset_check_evaluation_data for event in events if event is not None and _refuses(event)]
    return [f"{'/'.join(one.asset_key.path)}: {one.check_name}: {one.description or 'failed'}" for one in found]
