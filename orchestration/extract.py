"""Step 1 as assets: the sandbox company, one asset per raw table, and the run's clock.

Lives here: which assets extraction has, and the counts they report. Must not live here: how anything is read
(`sources/`) or made up (`sandbox/`).
"""

# Dagster reads the annotations of an asset's arguments: they must not be postponed.
import secrets
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from core import clock, identity, settings
from core.errors import Retriable
from core.settings import Tenure
from core.warehouse import Connection, merge_parts, rows, side_by_side
from core.words import counted
from orchestration import nothing_new, stand_ins
from orchestration.erasure.receipt import pending
from orchestration.instance import WHOLE_JOB, WRITERS, mark_with_errors
from orchestration.resources import Warehouse
from sources import base, ledger, leftovers
from sources.base import StreamId
from sources.ledger import LoadReport
from sources.leftovers import Leftover
from sources.load import load_stream, prepare

SANDBOX = dg.AssetKey(["sandbox", "company"])
CLOCK = dg.AssetKey(["ledger", "clock"])
RESTATED_DAYS = dg.AssetKey(["ledger", "restated_days"])
IDENTITY_LISTS = dg.AssetKey(["ledger", "identity_lists"])
MAPPED_COLUMNS = dg.AssetKey(["ledger", "mapped_columns"])
OWNER_KEYS = dg.AssetKey(["ledger", "owner_keys"])
DATA_TEAM = "team:data-engineering"
"""Who answers for an asset that has no other owner."""
ATTEMPTS = 4
"""How often a stream is tried that may be there a moment later: at once, then after 2, 4 and 8 seconds."""


def assets(tenure: Tenure, *, full: Collection[str], rebuild: bool) -> list[dg.AssetsDefinition]:
    """The assets of extraction. Of streams whose labels are in `full`, everything is read again instead of what is new. With `rebuild`, the
    run goes on even if nothing is new."""
    streams = base.stream_ids(tenure.config)
    company = [_sandbox_company(tenure)] if tenure.config.sandbox else []
    return [*company, _raw_tables(tenure, streams, full=full), _clock(tenure, streams, rebuild=rebuild)]


def raw_key(stream: StreamId) -> dg.AssetKey:
    """The asset of the raw table that a stream fills."""
    return dg.AssetKey([stream.raw_schema, stream.entity_name])


def _sandbox_company(tenure: Tenure) -> dg.AssetsDefinition:
    wanted = tenure.config.sandbox
    assert wanted is not None

    @dg.asset(
        key=SANDBOX,
        group_name="sandbox",
        kinds={"python"},
        owners=[DATA_TEAM],
        description="The built-in company, as its vendors hold it.",
    )
    def company(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        import sandbox

        delivered = sandbox.generate(
            tenure.home,
            accounts=wanted.accounts,
            months=wanted.months,
            seed=wanted.seed,
            progress=lambda what, done, total: context.log.info(f"{what} ({done} of {total})"),
        )
        made = delivered.company
        return dg.MaterializeResult(
            metadata={"accounts": made.accounts, "last_day": str(made.last_day), "files_written": delivered.files}
        )

    return company


def _raw_tables(tenure: Tenure, streams: list[StreamId], *, full: Collection[str]) -> dg.AssetsDefinition:
    """All raw tables in one op: accounts come first, since the rows of the others are checked against them.

    Dependencies between the assets would say so too, but then a blocking check of the accounts would have to pass before
    the other tables are loaded, and the gate judges all of them together.
    """
    tables: dict[dg.AssetKey, list[StreamId]] = {}
    for stream in streams:
        tables.setdefault(raw_key(stream), []).append(stream)

    @dg.multi_asset(
        specs=[_raw_spec(tenure, key, members) for key, members in tables.items()],
        name="extract",
        can_subset=True,
        pool=WRITERS,
    )
    def extract(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> Iterator[Any]:
        chosen = {key: members for key, members in tables.items() if key in context.selected_asset_keys}
        wanted = [member for members in chosen.values() for member in members]
        last = context.retry_number >= ATTEMPTS - 1

        def load(connection: Connection, stream: StreamId) -> LoadReport | Retriable:
            return _load(
                connection, reached, stream, run_id=context.run_id, full=stream.label in full, last_attempt=last
            )

        settings.note_company(tenure)
        for _ in pending(tenure.home):
            context.log.warning("An erasure is not complete: `tenure erase --resume` goes on with it.")
        with (
            stand_ins.sources_reachable(tenure, {member.source for member in wanted}) as reached,
            warehouse.open() as connection,
        ):
            ledger.ensure_tables(connection, streams)
            ledger.ensure_owner_key(connection, secrets.token_hex(16))
            # Once a week is often enough: it takes a third of what the load of an ordinary day takes.
            merge_parts(connection, wanted=ledger.is_first_of_week(connection, settings.utc_now()))
            found = _load_all(connection, wanted, load)
            for key, members in chosen.items():
                reports = [outcome for m in members for outcome in [found[m]] if isinstance(outcome, LoadReport)]
                for drift in (f"{r.source}/{r.stream} is not what it was: {r.drift}" for r in reports if r.drift):
                    context.log.warning(f"{drift}. Nothing that is mapped was lost.")
                # A table that has to wait is reported when it is whole: by the attempt that loads its last stream.
                if len(reports) == len(members):
                    if any(report.status == "stopped" for report in reports):
                        mark_with_errors(context.instance, context.run_id)
                    yield dg.MaterializeResult(asset_key=key, metadata=_counts(connection, members[0], reports))
        waiting = [outcome for outcome in found.values() if isinstance(outcome, Retriable)]
        for error in waiting:
            context.log.warning(f"{error.message} Trying again.")
        if waiting:
            raise dg.RetryRequested(
                max_retries=ATTEMPTS - 1, seconds_to_wait=2.0 ** (context.retry_number + 1)
            ) from waiting[0]

    return extract


def _load_all(
    connection: Connection,
    streams: list[StreamId],
    load: Callable[[Connection, StreamId], LoadReport | Retriable],
) -> dict[StreamId, LoadReport | Retriable]:
    """Load `streams`, accounts first, then memberships, then all others; what became of each.

    Two at a time, since most are text, which one thread reads: it numbers the records on its way.
    """
    prepare(connection)
    parts = [
        [stream for stream in streams if base.rank(stream) == rank] for rank in sorted(set(map(base.rank, streams)))
    ]
    return {
        stream: outcome
        for part in parts
        for stream, outcome in zip(part, side_by_side(connection, load, part), strict=True)
    }


def _load(
    connection: Connection, tenure: Tenure, stream: StreamId, *, run_id: str, full: bool, last_attempt: bool
) -> LoadReport | Retriable:
    """Load one stream. One that may be there a moment later is not raised but returned, until the last attempt stops it."""
    now = ledger.next_moment(connection, settings.utc_now())
    opened = base.open_stream(
        stream, tenure.config.sources[stream.source], now=now, temp_directory=tenure.temp_directory
    )
    try:
        return load_stream(connection, opened, tenure, now=now, run_id=run_id, full=full, last_attempt=last_attempt)
    except Retriable as error:
        return error


def _raw_spec(tenure: Tenure, key: dg.AssetKey, members: list[StreamId]) -> dg.AssetSpec:
    owners = sorted({owner for m in members for owner in [tenure.config.sources[m.source].owner] if owner})
    return dg.AssetSpec(
        key,
        deps=[SANDBOX] if tenure.config.sandbox else [],
        group_name="extract",
        kinds={"duckdb", members[0].connector},
        owners=owners or [DATA_TEAM],
        metadata={
            "dagster/table_name": members[0].table,
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(c.name, c.sql_type, description=c.description) for c in members[0].entity.columns]
            ),
        },
        description=f"{members[0].entity.description}. Filled by {', '.join(m.label for m in members)}.",
    )


def _counts(connection: Connection, stream: StreamId, reports: list[LoadReport]) -> dict[str, Any]:
    table = stream.table
    total = rows(connection, f"select count(*) as n, max({stream.entity.happened_at}) as newest from {table}")[0]
    counted = (
        "files",
        "rows_read",
        "rows_inserted",
        "rows_updated",
        "rows_unchanged",
        "rows_superseded",
        "rows_quarantined",
        "rows_suppressed",
        "rows_deleted",
        "rows_released",
        "rows_reassigned",
        "rows_withdrawn",
        "values_unread",
        "requests",
    )
    counts: dict[str, Any] = {name: sum(getattr(r, name) for r in reports) for name in counted}
    counts["dagster/row_count"] = total["n"]
    if total["newest"] is not None:
        counts["newest_fact"] = _utc(total["newest"])
    quotas = [f"{report.source}: {report.quota}" for report in reports if report.quota]
    if quotas:
        counts["quota"] = "; ".join(dict.fromkeys(quotas))
    drift = [f"{report.source}/{report.stream}: {report.drift}" for report in reports if report.drift]
    if drift:
        counts["drift"] = dg.MetadataValue.md("\n\n".join(drift))
    warnings = [_labelled(r, r.message) for r in reports if r.status != "stopped" and r.message]
    if warnings:
        counts["warnings"] = dg.MetadataValue.md("\n\n".join(warnings))
    stopped = [_labelled(report, report.message or "stopped") for report in reports if report.status == "stopped"]
    if stopped:
        counts["stopped"] = dg.MetadataValue.md("\n\n".join(stopped))
    return counts


def _labelled(report: LoadReport, sentence: str) -> str:
    label = f"{report.source}/{report.stream}"
    return sentence if sentence.startswith(label) else f"{label}: {sentence}"


def _left(leftover: Leftover) -> str:
    held = f"{counted(leftover.rows, 'row')} and {leftover.quarantined:,} in quarantine"
    return (
        f"{leftover.label} is not in tenure.yml any more, and {held} are still there:"
        f" `tenure sources remove {leftover.label}` takes them out."
    )


def _utc(moment: datetime) -> dg.TimestampMetadataValue:
    return dg.MetadataValue.timestamp(moment.replace(tzinfo=UTC))


def _clock(tenure: Tenure, streams: list[StreamId], *, rebuild: bool) -> dg.AssetsDefinition:
    """The first step after the extraction, which all others wait for. Where nothing is new it makes nothing, and they are skipped."""

    @dg.multi_asset(
        specs=[
            dg.AssetSpec(
                key,
                deps=list(dict.fromkeys(raw_key(stream) for stream in streams)),
                group_name="extract",
                kinds={"duckdb"},
                owners=[DATA_TEAM],
                metadata={"dagster/table_name": ".".join(key.path)},
                description=description,
                skippable=True,
            )
            for key, description in (
                (CLOCK, "One row: the instant that facts must precede in this run."),
                (RESTATED_DAYS, "Days of usage that lost rows since they were counted."),
                (IDENTITY_LISTS, "Texts and domains that identify no company."),
                (MAPPED_COLUMNS, "Columns of the contract that the mappings fill."),
                (OWNER_KEYS, "One row: the key that makes ids of account owners out of their addresses."),
            )
        ],
        name="clock",
        pool=WRITERS,
    )
    def set_clock(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> Iterator[Any]:
        with warehouse.open() as connection:
            as_of = clock.as_of(connection, clock=tenure.config.clock, now=settings.utc_now(), replay=None)
            may_end = context.run.job_name == WHOLE_JOB and not rebuild
            if may_end and (since := nothing_new.since(connection, tenure, as_of, context.run_id)) is not None:
                context.log.info(
                    f"{nothing_new.BEGINS} since {since:%Y-%m-%d %H:%M} UTC: the published tables stay as they are."
                )
                return
            nothing_new.begin(connection, tenure, as_of, context.run_id)
            clock.write(connection, as_of, is_replay=False)
            identity.write(connection, tenure.config.identity.shared_domains)
            kept = (RESTATED_DAYS, IDENTITY_LISTS, MAPPED_COLUMNS, OWNER_KEYS)
            counts = {k: rows(connection, f"select count(*) as n from {'.'.join(k.path)}")[0]["n"] for k in kept}
            left = leftovers.find(connection, tenure.config)
        told = {"warnings": dg.MetadataValue.md("\n\n".join(map(_left, left)))} if left else {}
        yield dg.MaterializeResult(asset_key=CLOCK, metadata={"as_of": _utc(as_of), "dagster/row_count": 1, **told})
        for key, count in counts.items():
            yield dg.MaterializeResult(asset_key=key, metadata={"dagster/row_count": count})

    return set_clock
