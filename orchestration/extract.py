"""Step 1 as assets: the sandbox company, one asset per raw table, and the run's clock.

Lives here: which assets extraction has, and the counts they report. Must not live here: how anything is read
(`sources/`) or made up (`sandbox/`).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import dagster as dg

from core import clock, settings
from core.errors import Retriable
from core.warehouse import Connection, rows
from orchestration.resources import Warehouse
from sources import base, ledger
from sources.base import StreamId
from sources.load import load_stream

if TYPE_CHECKING:
    from core.settings import Tenure

WRITERS = "warehouse"
"""The pool of everything that writes to the working warehouse; it has one place."""
SANDBOX = dg.AssetKey(["sandbox", "company"])
CLOCK = dg.AssetKey(["ledger", "clock"])
RESTATED_DAYS = dg.AssetKey(["ledger", "restated_days"])
ATTEMPTS = 4
"""How often a stream is tried that may be there a moment later: at once, then after 2, 4 and 8 seconds."""


def assets(tenure: Tenure, *, full: bool) -> list[dg.AssetsDefinition]:
    """The assets of extraction. With `full`, everything is read anew instead of what is new."""
    streams = base.stream_ids(tenure.config)
    by_table = itertools.groupby(sorted(streams, key=_table_of), key=_table_of)
    tables = [_raw_table(tenure, list(members), streams, full=full) for _, members in by_table]
    company = [_sandbox_company(tenure)] if tenure.config.sandbox else []
    return [*company, *tables, _clock(tenure, streams)]


def raw_key(stream: StreamId) -> dg.AssetKey:
    """The asset of the raw table that a stream fills."""
    return dg.AssetKey([stream.raw_schema, stream.entity_name])


def _table_of(stream: StreamId) -> tuple[str, str]:
    return stream.raw_schema, stream.entity_name


def _sandbox_company(tenure: Tenure) -> dg.AssetsDefinition:
    wanted = tenure.config.sandbox
    assert wanted is not None

    @dg.asset(
        key=SANDBOX, group_name="sandbox", kinds={"python"}, description="The built-in company, as its vendors hold it."
    )
    def company() -> dg.MaterializeResult[Any]:
        import sandbox

        made = sandbox.generate(tenure.home, accounts=wanted.accounts, months=wanted.months, seed=wanted.seed)
        return dg.MaterializeResult(metadata={"accounts": made.accounts, "months": made.months, "seed": made.seed})

    return company


def _raw_table(tenure: Tenure, members: list[StreamId], streams: list[StreamId], *, full: bool) -> dg.AssetsDefinition:
    first = members[0]
    accounts_first = [raw_key(s) for s in streams if s.entity_name == "accounts" and first.entity_name != "accounts"]
    owners = sorted({owner for m in members for owner in [tenure.config.sources[m.source].owner] if owner})

    @dg.asset(
        key=raw_key(first),
        deps=[*dict.fromkeys(accounts_first), *([SANDBOX] if tenure.config.sandbox else [])],
        group_name="extract",
        kinds={"duckdb", first.connector},
        owners=owners or None,
        pool=WRITERS,
        description=f"{first.entity.description}. Filled by {', '.join(m.label for m in members)}.",
    )
    def raw_table(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult[Any]:
        last_attempt = context.retry_number >= ATTEMPTS - 1
        with warehouse.open() as connection:
            ledger.ensure_tables(connection, streams)
            try:
                reports = [
                    load_stream(
                        connection,
                        base.open_stream(
                            m, tenure.config.sources[m.source], now=now, temp_directory=tenure.temp_directory
                        ),
                        tenure,
                        now=now,
                        run_id=context.run_id,
                        full=full,
                        last_attempt=last_attempt,
                    )
                    for m in members
                    for now in [ledger.next_moment(connection, settings.utc_now())]
                ]
            except Retriable as error:
                raise dg.RetryRequested(
                    max_retries=ATTEMPTS - 1, seconds_to_wait=2.0 ** (context.retry_number + 1)
                ) from error
            return dg.MaterializeResult(metadata=_counts(connection, first, reports))

    return raw_table


def _counts(connection: Connection, stream: StreamId, reports: list[ledger.LoadReport]) -> dict[str, Any]:
    table = f"{stream.raw_schema}.{stream.entity_name}"
    total = rows(connection, f"select count(*) as n, max({stream.entity.happened_at}) as newest from {table}")[0]
    counted = (
        "files",
        "rows_read",
        "rows_inserted",
        "rows_updated",
        "rows_unchanged",
        "rows_superseded",
        "rows_quarantined",
    )
    counts: dict[str, Any] = {name: sum(getattr(r, name) for r in reports) for name in (*counted, "rows_released")}
    counts["dagster/row_count"] = total["n"]
    if total["newest"] is not None:
        counts["newest_fact"] = str(total["newest"])
    stopped = [f"**{r.source}/{r.stream}**: {r.message}" for r in reports if r.status == "stopped"]
    if stopped:
        counts["stopped"] = dg.MetadataValue.md("\n\n".join(stopped))
    return counts


def _clock(tenure: Tenure, streams: list[StreamId]) -> dg.AssetsDefinition:
    @dg.multi_asset(
        specs=[
            dg.AssetSpec(
                key,
                deps=list(dict.fromkeys(raw_key(stream) for stream in streams)),
                group_name="extract",
                kinds={"duckdb"},
                description=description,
            )
            for key, description in (
                (CLOCK, "One row: the instant that facts must precede in this run."),
                (RESTATED_DAYS, "Days of usage that lost rows since they were counted."),
            )
        ],
        name="clock",
        pool=WRITERS,
    )
    def set_clock(warehouse: Warehouse) -> Any:
        with warehouse.open() as connection:
            as_of = clock.as_of(connection, clock=tenure.config.clock, now=settings.utc_now(), replay=None)
            clock.write(connection, as_of, is_replay=False)
            restated = rows(connection, "select count(*) as n from ledger.restated_days")[0]["n"]
        yield dg.MaterializeResult(asset_key=CLOCK, metadata={"as_of": str(as_of), "dagster/row_count": 1})
        yield dg.MaterializeResult(asset_key=RESTATED_DAYS, metadata={"dagster/row_count": restated})

    return set_clock
