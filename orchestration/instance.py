"""Dagster's own state: the instance in `$TENURE_HOME/dagster`, shared by the command, the UI and the daemon.

Lives here: the instance's settings and the end of runs whose process died. Must not live here: assets, jobs, commands.
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance

PROCESS = "tenure/process"
"""Tag of runs that the command started: the id of the process that they live in."""

WHOLE_JOB = "customer_360"
"""The job of an ordinary run."""

WAITING = "Waiting for run"
"""Begins what is logged while another run holds the lock."""

RESULT = "tenure/result"
WITH_ERRORS = "with errors"
"""Tag of runs in which a stream or a sync was stopped: Dagster calls them a success once they have published the rest."""

WRITERS = "warehouse"
"""The pool of everything that writes to the working warehouse; it has one place."""

KEPT_RUNS = 20
"""So many of the newest runs are kept, however old they are."""

SETTINGS = """\
# Written by tenure. Runs queue for the pool of warehouse writers, one at a time.
event_log_storage:
  module: orchestration.event_log
  class: KeptSqliteEventLogStorage
  config:
    base_dir: {history}
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    granularity: run
    default_limit: 1
run_monitoring:
  enabled: true
retention:
  schedule:
    purge_after_days: 30
  sensor:
    purge_after_days:
      skipped: 3
      failure: 30
      success: 30
"""


def home_of(tenure_home: Path) -> Path:
    """The folder of the instance, with its settings file; also becomes `DAGSTER_HOME` of this process and its children."""
    folder = tenure_home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "dagster.yaml"
    wanted = SETTINGS.format(history=json.dumps(str((folder / "history" / "runs").resolve())))
    if not settings.exists() or settings.read_text(encoding="utf-8") != wanted:
        fresh = folder / "dagster.yaml.new"
        fresh.write_text(wanted, encoding="utf-8")
        fresh.replace(settings)
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def open_instance(tenure_home: Path) -> DagsterInstance:
    """The instance; the caller disposes of it (it is a context manager)."""
    from dagster import DagsterInstance

    return DagsterInstance.from_config(str(home_of(tenure_home)))


def prepare(tenure_home: Path) -> None:
    """Make the instance ready for Dagster's own processes.

    The daemon gives a pool its default limit only after it has looked at the queue once: the first two runs of a new home
    would start together.
    """
    with open_instance(tenure_home) as instance:
        instance.event_log_storage.initialize_concurrency_limit_to_default(WRITERS)
        end_killed_runs(instance)


def end_dead_run(instance: DagsterInstance, run_id: str | None) -> bool:
    """Mark a run as failed that held the run lock and never ended; True if there was one."""
    run = instance.get_run_by_id(run_id) if run_id else None
    if run is None or run.is_finished:
        return False
    instance.report_run_failed(
        run, "The process of this run ended before the run did (killed, or the machine went down)."
    )
    return True


def end_killed_runs(instance: DagsterInstance) -> None:
    """Mark runs of the command as failed whose process is gone, also those that never came to hold the run lock."""
    from dagster import DagsterRunStatus, RunsFilter

    unfinished = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED]
    for run in instance.get_runs(RunsFilter(statuses=unfinished)):
        process = run.tags.get(PROCESS)
        if process is not None and not _is_alive(int(process)):
            end_dead_run(instance, run.run_id)


def mark_with_errors(instance: DagsterInstance, run_id: str) -> None:
    """Show in Dagster's list of runs that something was stopped in this one, though the run goes on and publishes."""
    instance.add_run_tags(run_id, {RESULT: WITH_ERRORS})


def drop_old_runs(instance: DagsterInstance, *, before: datetime, keep: int = KEPT_RUNS) -> int:
    """Delete what Dagster keeps of runs that ended before `before` (UTC), but for the `keep` newest of all; returns how many.

    A run leaves about 5 MB: a database of its events, its part of the index, and what was printed. Dagster itself deletes
    only ticks of schedules and sensors.
    """
    records = instance.get_run_records()  # newest first
    old = [
        record.dagster_run
        for record in records[keep:]
        if record.dagster_run.is_finished
        and record.end_time is not None
        and record.end_time < before.replace(tzinfo=UTC).timestamp()
    ]
    root = Path(instance.root_directory)
    for run in old:
        instance.delete_run(run.run_id)
        for leftover in (root / "history" / "runs").glob(f"{run.run_id}.db*"):
            leftover.unlink(missing_ok=True)
        shutil.rmtree(root / "storage" / run.run_id, ignore_errors=True)
    return len(old)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
