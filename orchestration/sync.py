"""Step 5 as assets: one for each destination, after the publication, with the sync's report as its metadata.

Lives here: the assets, their checks, and one sync as the job and the command run it. Must not live here: what is sent, and
what its answers mean (`activation/`).

Syncs read the published copy, so that what was not published cannot be sent, and the working warehouse stays free.
"""

# Dagster reads the annotations of an asset's arguments: they must not be postponed.
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Names
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from activation import engine, readback
from activation.base import Destination, Erases, Prepares, Reads
from activation.connect import Occasion, open_destination
from activation.engine import Progress, SyncReport
from activation.ledger import Ledger
from activation.mapping import Mapping, resolve
from activation.readback import Drift
from activation.redact import redactor
from activation.target import account_of, refusal, settle, target_of
from core import settings
from core.errors import Refused, TenureError, UserError
from core.settings import Tenure
from core.sync_settings import SyncConfig
from core.warehouse import warehouse
from core.words import percent
from orchestration import alerts
from orchestration.extract import DATA_TEAM
from orchestration.instance import mark_with_errors
from orchestration.publish import publish_ledger
from orchestration.serve import PUBLICATION
from orchestration.stand_ins import reachable
from orchestration.triggers import STARTED_BY

GOOD = ("done", "partial")
CHECKS = {
    "sent": "No guard refused, and nothing stopped the sync.",
    "failed_share": "The share of rows that failed is within max_failed_share.",
    "recent": "A sync went through within max_silence_hours.",
    "recovered": "What went wrong once did not go wrong again: a sync that did not go through is followed by one that does.",
}


def assets(tenure: Tenure) -> list[dg.AssetsDefinition]:
    """An asset for each destination that is switched on."""
    return [_asset(tenure, name, config) for name, config in tenure.config.sync.enabled.items()]


def key_of(destination: str) -> dg.AssetKey:
    return dg.AssetKey(["sync", destination])


def _asset(tenure: Tenure, name: str, config: SyncConfig) -> dg.AssetsDefinition:
    model = dg.AssetKey(["reverse_etl", config.model])

    @dg.asset(
        key=key_of(name),
        deps=[model, PUBLICATION],
        group_name="activation",
        kinds={str(getattr(config, "connector", "custom"))},
        owners=[DATA_TEAM],
        check_specs=[dg.AssetCheckSpec(check, asset=key_of(name), description=CHECKS[check]) for check in CHECKS],
        description=f"{name} has what {config.model} of the published copy says: sent, and acknowledged row by row.",
    )
    def synced(context: dg.AssetExecutionContext) -> Iterator[Any]:
        now = settings.utc_now()
        before = latest(tenure, name)
        report = attempt(tenure, name, run_id=str(uuid.uuid4()), progress=lambda what, *_: context.log.info(what))
        is_ours = context.run.tags.get(STARTED_BY) != "command"
        for problem in tell(tenure, report, before, failures_too=is_ours):
            context.log.warning(problem)
        if report.status not in GOOD:
            mark_with_errors(context.instance, context.run_id)
        yield dg.MaterializeResult(asset_key=key_of(name), metadata=_metadata(report))
        yield from _checks(tenure, name, config, report, before, now)

    return synced


def attempt(tenure: Tenure, name: str, *, run_id: str, **options: Any) -> SyncReport:
    """One sync among others: whatever keeps it from beginning is a report too, and the others go on. Options as of `run`."""
    try:
        return run(tenure, name, run_id=run_id, **options)
    except TenureError as error:
        config = tenure.config.sync.destinations[name]
        connector = str(getattr(config, "connector", "custom"))
        failed = SyncReport(run_id, name, connector, config.model, config.mode)
        failed.error, failed.hint = error.message, error.hint
        return failed


def run(
    tenure: Tenure,
    name: str,
    *,
    run_id: str,
    full: bool = False,
    keys: tuple[str, ...] = (),
    override: bool = False,
    dry_run: bool = False,
    progress: Progress = lambda *_: None,
) -> SyncReport:
    """Sync one destination and bring the published ledger up to date. Raises as `engine.sync`.

    A dry run starts no stand-in, which would write its file, and does not look at it.
    """
    block = config_of(tenure, name)
    require_published(tenure)
    is_out_of_sight = dry_run and block.stand_in
    with nullcontext(block) if is_out_of_sight else reachable(tenure, block) as config:
        request = engine.Request(
            destination=name,
            config=config,
            run_id=run_id,
            serving=tenure.serving_path,
            locks=tenure.home / "sync",
            retention_days=tenure.config.sync.retention_days,
            full=full,
            keys=keys,
            override=override,
            dry_run=dry_run,
            memory_limit=tenure.memory_limit,
            threads=tenure.threads,
        )
        world = engine.World(settings.utc_now, time.sleep, random.Random())
        with ledger_of(tenure, create=not dry_run) as ledger:
            report = engine.sync(
                request,
                ledger,
                lambda mapping: (
                    None
                    if is_out_of_sight
                    else _destination(config, Occasion(mapping.described(), run_id, settings.utc_now()))
                ),
                world=world,
                progress=progress,
            )
            if not dry_run:
                publish_ledger(tenure.serving_path, ledger.tables())
        return report


def _destination(config: SyncConfig, occasion: Occasion) -> Destination:
    """The destination; a stand-in of the sandbox is set up first, as an administrator would have done it once."""
    destination = open_destination(config, occasion)
    if config.stand_in and isinstance(destination, Prepares):
        destination.setup(occasion.fields)
    return destination


def require_published(tenure: Tenure) -> None:
    """Raises `UserError` where nothing was published yet: then there is nothing to send, and nothing is begun."""
    if not tenure.serving_path.exists():
        raise UserError("Nothing is published yet, so there is nothing to send.", hint="Run `tenure run` first.")


def config_of(tenure: Tenure, name: str) -> SyncConfig:
    """The block of a destination. Raises `UserError` when there is none."""
    destinations = tenure.config.sync.destinations
    if name not in destinations:
        known = ", ".join(destinations) or "none"
        raise UserError(f"There is no destination {name!r}.", hint=f"sync.destinations in tenure.yml has {known}.")
    return destinations[name]


def ledger_of(tenure: Tenure, *, create: bool) -> closing[Ledger]:
    """The ledger, closed after the block."""
    return closing(Ledger(tenure.ledger_url, create=create))


def latest(tenure: Tenure, name: str) -> dict[str, Any] | None:
    """The newest run of a destination in the ledger."""
    with ledger_of(tenure, create=False) as ledger:
        found = ledger.runs(name, limit=1)
    return found[0] if found else None


def tell(tenure: Tenure, report: SyncReport, before: Names[str, Any] | None, *, failures_too: bool) -> list[str]:
    """Alert people of a sync that went wrong, or works again; returns what could not be told."""
    was_good = before is None or before["status"] in GOOD
    is_good = report.status in GOOD
    if (is_good and was_good) or not (is_good or failures_too):
        return []
    reasons = (report.sentence,) if is_good else tuple(filter(None, (report.error, report.hint, report.sentence)))
    notice = alerts.SyncNotice(
        tenure.config.company, report.destination, report.run_id, report.status, reasons, has_recovered=is_good
    )
    return alerts.send(notice, tenure.config.alerts)


def _metadata(report: SyncReport) -> dict[str, Any]:
    counts = {f"rows {name}": value for name, value in asdict(report.counts).items()}
    told: dict[str, Any] = {"summary": report.sentence, "status": report.status, "sync_run_id": report.run_id, **counts}
    if report.status not in GOOD:
        # The run goes on and has published; the word makes it tell people, and end with 1.
        told["stopped"] = f"The sync to {report.destination} {_words(report.status)}: {report.error or report.sentence}"
    return told


def _words(status: str) -> str:
    words = {
        "guarded": "was refused by a guard",
        "deferred": "has to go on in the next run",
        "stopped": "was stopped",
        "killed": "was killed",
    }
    return words.get(status, "failed")


def _checks(
    tenure: Tenure,
    name: str,
    config: SyncConfig,
    report: SyncReport,
    before: Names[str, Any] | None,
    now: datetime,
) -> Iterator[Any]:
    recent, when = _is_recent(tenure, name, config, now)
    results: dict[str, tuple[bool, str]] = {
        "sent": (report.status in GOOD, report.error or report.sentence),
        "failed_share": (
            report.failed_share <= config.max_failed_share,
            f"{percent(report.failed_share, 1)} of the rows that were answered failed.",
        ),
        "recent": (recent, when),
        "recovered": _has_recovered(report, before),
    }
    for check, (passed, said) in results.items():
        yield dg.AssetCheckResult(
            passed=passed,
            asset_key=key_of(name),
            check_name=check,
            severity=dg.AssetCheckSeverity.WARN,
            description=said,
        )


def _has_recovered(report: SyncReport, before: Names[str, Any] | None) -> tuple[bool, str]:
    """One bad sync is told by `sent`; this check tells of those that go on."""
    if before is None or before["status"] in GOOD:
        return True, "The sync before went through." if before else "This is the first sync."
    then = f"The sync before, of {before['started_at']:%Y-%m-%d %H:%M} UTC, {_words(before['status'])}"
    if report.status in GOOD:
        return True, f"{then}; this one went through."
    return False, f"{then}, and this one {_words(report.status)} too."


def _is_recent(tenure: Tenure, name: str, config: SyncConfig, now: datetime) -> tuple[bool, str]:
    with ledger_of(tenure, create=False) as ledger:
        good = ledger.last_good(name)
    if good is None:
        return False, "No sync has gone through yet."
    is_recent = now - good.finished_at <= timedelta(hours=config.max_silence_hours)
    return is_recent, f"The last sync that went through ended {good.finished_at:%Y-%m-%d %H:%M} UTC."


def verify(tenure: Tenure, name: str, *, keys: tuple[str, ...], progress: Progress = lambda *_: None) -> Drift:
    """Read a destination's values back. Raises `UserError` when it cannot be read."""
    with _opened(tenure, name) as (destination, mapping), ledger_of(tenure, create=False) as ledger:
        if not isinstance(destination, Reads):
            raise UserError(f"The values of {name} cannot be read back.")
        bound, found = ledger.target(name), target_of(config_of(tenure, name))
        if bound is not None and settle(bound, found, lambda: account_of(destination)) is None:
            said, hint = refusal(name, bound, found)
            raise Refused(said, hint=hint)
        return readback.verify(ledger, name, destination, mapping.fields, keys=keys, progress=progress)


def rebind(tenure: Tenure, name: str, *, keep: bool) -> int:
    """Let the ledger be about what the configuration leads to now: with `keep` its rows stay as they are, else they are forgotten, so
    that the next sync sends everything. Returns how many rows that is."""
    with ledger_of(tenure, create=True) as ledger, ledger.hold(name):
        if not keep:
            count = ledger.unbind(name)
        else:
            with _opened(tenure, name) as (destination, _):
                found = target_of(config_of(tenure, name))
                settled = settle(None, found, lambda: account_of(destination)) or found
            ledger.bind(name, settled, now=settings.utc_now())
            count = ledger.totals().get(name, {}).get("rows", 0)
        if tenure.serving_path.exists():
            publish_ledger(tenure.serving_path, ledger.tables())
    return count


def erase(tenure: Tenure, name: str, keys: Sequence[str]) -> None:
    """Take rows away at a destination of which nothing is left but their keys, where they were only ours."""
    with _opened(tenure, name) as (destination, _):
        if isinstance(destination, Erases):
            destination.erase(keys)


def setup(tenure: Tenure, name: str) -> list[str]:
    """Create our fields at a destination. Raises `UserError` when it has none to create."""
    with _opened(tenure, name) as (destination, mapping):
        if not isinstance(destination, Prepares):
            raise UserError(f"There is nothing to set up at {name}.")
        return list(destination.setup(mapping.described()))


@contextmanager
def _opened(tenure: Tenure, name: str) -> Iterator[tuple[Destination, Mapping]]:
    require_published(tenure)
    with reachable(tenure, config_of(tenure, name)) as config:
        with warehouse(tenure.serving_path, read_only=True) as connection:
            mapping = resolve(connection, config)
        redact = redactor(config.secrets)
        try:
            yield (
                open_destination(config, Occasion(mapping.described(), str(uuid.uuid4()), settings.utc_now())),
                mapping,
            )
        except TenureError as error:
            # A destination's own words may hold what it was given.
            raise type(error)(redact(error.message), hint=redact(error.hint) if error.hint else None) from None
