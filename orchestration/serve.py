"""Publishing as assets: the published copy of today, and past days rebuilt from what is known now.

Lives here: the assets and what they report. Must not live here: how a file is replaced (`publish.py`).
"""

# Dagster reads the annotations of an asset's arguments: they must not be postponed.
import json
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from activation.ledger import Ledger
from core import clock, identity, settings
from core.currency import rate_sql
from core.errors import TenureError
from core.settings import Tenure
from core.warehouse import Connection, scalar
from orchestration import dbt, nothing_new, transform
from orchestration.extract import DATA_TEAM, raw_key
from orchestration.instance import WRITERS
from orchestration.publish import Publication, git_commit, publish
from orchestration.resources import Warehouse
from sources.base import stream_ids

PUBLICATION = dg.AssetKey(["serving", "publication"])
REPLAY = dg.AssetKey(["replays", "customer_360"])
DAYS = dg.DailyPartitionsDefinition(start_date="2000-01-01", end_offset=1)
STALE_AFTER = timedelta(hours=26)


def assets(tenure: Tenure, manifest_path: Path) -> list[dg.AssetsDefinition]:
    """The publication and the replays."""
    return [_publication(tenure, manifest_path), _replay(tenure, manifest_path)]


def replay_path(tenure: Tenure, day: str) -> Path:
    """The file of the customer 360 as of the start of `day` (YYYY-MM-DD)."""
    return tenure.home / "replays" / f"{day}.duckdb"


def _publication(tenure: Tenure, manifest_path: Path) -> dg.AssetsDefinition:
    parsed = json.loads(manifest_path.read_text(encoding="utf-8"))
    tables, views = dbt.published_tables(parsed), dbt.published_views(parsed)

    @dg.asset(
        key=PUBLICATION,
        deps=[dg.AssetKey(name.split(".")) for name in sorted(tables)],
        group_name="publish",
        kinds={"duckdb"},
        owners=[DATA_TEAM],
        pool=WRITERS,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=STALE_AFTER),
        description="The file that BI tools read: serving.duckdb, replaced in one move.",
    )
    def publication(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult[Any]:
        with warehouse.open() as connection:
            if scalar(connection, "select is_replay from ledger.clock"):
                raise TenureError("The working warehouse stands at a replayed day.", hint="Run `tenure run` first.")
            made = publication_of(connection, tenure, context.run_id)
            counts = write_copy(connection, tenure, tenure.serving_path, made, tables)
        if tenure.config.publish.postgres_url is not None:
            from orchestration.postgres import copy_to_postgres

            copy_to_postgres(tenure.serving_path, tenure.config.publish.postgres_url.get_secret_value())
        with warehouse.open() as connection:
            nothing_new.note_published(connection, tenure, context.run_id, made.publication_id, made.published_at)
        for name in sorted(views):
            context.log_event(dg.AssetObservation(name.split("."), metadata={"dagster/row_count": counts[name]}))
        rows = {f"rows of {name}": n for name, n in counts.items()}
        return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(str(tenure.serving_path)), **rows})

    return publication


def _replay(tenure: Tenure, manifest_path: Path) -> dg.AssetsDefinition:
    published = dbt.published_tables(json.loads(manifest_path.read_text(encoding="utf-8")))
    tables = {name: node for name, node in published.items() if name.startswith("marts.")}

    @dg.asset(
        key=REPLAY,
        deps=list(dict.fromkeys(raw_key(stream) for stream in stream_ids(tenure.config))),
        partitions_def=DAYS,
        group_name="publish",
        kinds={"duckdb", "dbt"},
        owners=[DATA_TEAM],
        pool=WRITERS,
        description="The customer 360 as of the start of a past day, from what is loaded now; one file a day. "
        "The published copy is not touched.",
    )
    def replay(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult[Any]:
        day = context.partition_key
        with warehouse.open() as connection:
            nothing_new.forget(connection)
            clock.write(connection, datetime.fromisoformat(day), is_replay=True)
            identity.write(connection, tenure.config.identity.shared_domains)
        transform.build_without_assets(tenure)
        with warehouse.open() as connection:
            made = publication_of(connection, tenure, context.run_id)
            counts = write_copy(connection, tenure, replay_path(tenure, day), made, tables)
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(str(replay_path(tenure, day))),
                "dagster/row_count": counts["marts.accounts"],
            }
        )

    return replay


def publication_of(connection: Connection, tenure: Tenure, run_id: str) -> Publication:
    """A publication of the working warehouse as what `run_id` made of it."""
    return Publication(
        publication_id=str(uuid.uuid4()),
        run_id=run_id,
        published_at=settings.utc_now(),
        as_of_at=scalar(connection, "select as_of_at from ledger.clock"),
        git_commit=git_commit(),
        currency=tenure.config.currency,
    )


def _rate_in_quarantine(tenure: Tenure) -> str:
    """SQL of the rate of a subscription in quarantine, whose values are text."""
    config = tenure.config
    return rate_sql("try_cast(started_at as timestamp)", "currency", config.currency, config.exchange_rates)


def write_copy(
    connection: Connection, tenure: Tenure, path: Path, publication: Publication, tables: dict[str, dict[str, Any]]
) -> dict[str, int]:
    """Publish the working warehouse to `path`; the rows of each table."""
    ledger = Ledger(tenure.ledger_url, create=False)
    try:
        return publish(
            connection,
            path,
            publication,
            tables=tables,
            exclude=tenure.config.publish.exclude_columns,
            synced=ledger.tables(),
            storage_version=tenure.config.publish.storage_version,
            rate=_rate_in_quarantine(tenure),
        )
    finally:
        ledger.close()
