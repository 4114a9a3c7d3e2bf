"""What starts a run and what follows a failure, when Dagster's daemon is up: the schedule, the new-files sensor, the alert.

Lives here: schedules and sensors. Must not live here: what a run does, or how an alert is sent (`alerts.py`).
"""

# Dagster reads the annotations of an asset's arguments: they must not be postponed.
import hashlib
from datetime import datetime
from pathlib import Path

import dagster as dg

from core import settings
from core.errors import TenureError
from core.locks import is_held
from core.settings import Tenure
from core.source_settings import FilesSource
from core.warehouse import rows, table_exists, warehouse
from orchestration import alerts
from sources.base import stream_ids
from sources.file_checks import SETTLE_SECONDS
from sources.places import Found, open_place

STARTED_BY = "tenure/started_by"
"""Tag of runs that the command started; it reports their failure itself."""


def schedules(tenure: Tenure, job: str) -> list[dg.ScheduleDefinition]:
    """The daily run, on while the daemon is up."""
    return [
        dg.ScheduleDefinition(
            name="daily",
            job_name=job,
            cron_schedule=tenure.config.schedule,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="The whole job, every day.",
        )
    ]


def sensors(tenure: Tenure, job: str) -> list[dg.SensorDefinition]:
    """New files start a run; a failed run is told."""

    @dg.sensor(
        name="new_files",
        job_name=job,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run when a configured folder or bucket holds files that the last published run had not read.",
    )
    def new_files(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        unread = unread_files(tenure, settings.utc_now())
        if not unread:
            return dg.SkipReason("Every file has been read.")
        if _is_under_way(tenure, context.instance):
            return dg.SkipReason("A run is under way or waits in the queue, and may be reading them.")
        # The same files ask only once: a broken file that stays is not tried again until it changes.
        return dg.RunRequest(run_key=_fingerprint(unread), tags={"tenure/new_files": str(len(unread))})

    @dg.run_failure_sensor(
        name="failed_run",
        monitor_all_code_locations=True,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people of a failed run, as `alerts` in tenure.yml says.",
    )
    def failed_run(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        if run.tags.get(STARTED_BY) == "command":
            return
        reasons = tuple(_reason(event) for event in context.get_step_failure_events()) or (
            context.failure_event.message or "",
        )
        failure = alerts.Failure(tenure.config.company, run.run_id, run.job_name, reasons)
        for problem in alerts.send(failure, tenure.config.alerts):
            context.log.warning(problem)

    return [new_files, failed_run]


def _is_under_way(tenure: Tenure, instance: dg.DagsterInstance) -> bool:
    """Whether a run works (it holds the home's lock, which dies with its process) or is about to."""
    about_to = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING])
    return is_held(tenure.home / "run.lock") or instance.get_runs_count(about_to) > 0


def _reason(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    cause = error.cause if error and error.cause else error
    return f"{event.step_key}: {cause.message.strip() if cause else event.message}"


def unread_files(tenure: Tenure, now: datetime) -> list[Found]:
    """Files of the configured sources that are new or changed since the last publication and have settled."""
    read = _read_files(tenure.serving_path)
    unread: dict[str, Found] = {}
    for stream in stream_ids(tenure.config):
        source = tenure.config.sources[stream.source]
        if not isinstance(source, FilesSource):
            continue
        try:
            place = open_place(source, temp_directory=tenure.temp_directory)
            found = place.find(source.streams[stream.stream].files, label=stream.label)
        except TenureError:
            continue  # A folder or bucket that is missing or does not answer is told by the run; nothing new is known of it.
        known = read.get((stream.source, stream.stream), set())
        unread |= {file.path: file for file in found if (file.path, file.size, file.mtime_ns) not in known}
    settled = (now - datetime(1970, 1, 1)).total_seconds() - SETTLE_SECONDS
    ready = (file for file in unread.values() if file.appears_whole or file.mtime_ns / 1e9 <= settled)
    return sorted(ready, key=lambda file: file.path)


def _read_files(serving: Path) -> dict[tuple[str, str], set[tuple[str, int, int]]]:
    if not serving.exists():
        return {}
    read: dict[tuple[str, str], set[tuple[str, int, int]]] = {}
    with warehouse(serving, read_only=True) as connection:
        listed = rows(connection, "select * from quality.files") if table_exists(connection, "quality", "files") else []
    for row in listed:
        read.setdefault((row["source"], row["stream"]), set()).add((row["path"], row["size"], row["mtime_ns"]))
    return read


def _fingerprint(files: list[Found]) -> str:
    text = "\n".join(f"{file.path} {file.size} {file.mtime_ns}" for file in files)
    return hashlib.sha256(text.encode()).hexdigest()
