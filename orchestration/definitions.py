"""The one door to the wiring: `build_defs(overrides)`, for tests, the command and production.

Lives here: putting assets, checks, jobs, schedules, sensors and resources together. Must not live here: any of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from core import settings, telemetry, threads
from orchestration.dbt_process import DbtProcess
from orchestration.instance import WHOLE_JOB

if TYPE_CHECKING:
    from core.settings import Tenure

PUBLISH_JOB = "publish"
REPLAY_JOB = "replay"


@dataclass(frozen=True)
class Overrides:
    """What differs from production: the configuration, streams (by their labels) of which everything is read again, training again, going
    on although nothing is new, or resources by name."""

    tenure: Tenure | None = None
    full: Collection[str] = ()
    retrain: bool = False
    rebuild: bool = False
    dbt: DbtProcess | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)


def build_defs(overrides: Overrides | None = None) -> dg.Definitions:
    """Everything that Dagster runs for one home.

    Without `overrides.tenure`, TENURE_CONFIG and TENURE_HOME say which. Raises `UserError` for a mistake in the
    configuration and `TenureError` when the models do not parse.
    """
    telemetry.switch_off()
    threads.wait_quietly()
    from orchestration import dbt, extract, guard, predict, resources, serve, sync, transform, triggers

    chosen = overrides or Overrides()
    tenure = chosen.tenure or settings.load()
    manifest = dbt.manifest(tenure)
    everything = dg.AssetSelection.all()
    replays = dg.AssetSelection.assets(serve.REPLAY)
    job = dg.define_asset_job(
        WHOLE_JOB, everything - replays, description="The whole job: extract, build, check, predict, publish, sync."
    )
    publish = dg.define_asset_job(
        PUBLISH_JOB,
        dg.AssetSelection.assets(serve.PUBLICATION),
        description="Publish the working warehouse again, for example after a change of `publish.exclude_columns`.",
    )
    replay = dg.define_asset_job(
        REPLAY_JOB, replays, description="Rebuild the customer 360 as of past days, one file a day."
    )
    return dg.Definitions(
        assets=[
            *extract.assets(tenure, full=chosen.full, rebuild=chosen.rebuild or chosen.retrain or bool(chosen.full)),
            *transform.assets(tenure, manifest, full=bool(chosen.full)),
            *predict.assets(tenure, manifest, retrain=chosen.retrain),
            *serve.assets(tenure, manifest),
            *sync.assets(tenure),
        ],
        asset_checks=guard.checks(tenure),
        jobs=[job, publish, replay],
        schedules=triggers.schedules(tenure, WHOLE_JOB),
        sensors=triggers.sensors(tenure, WHOLE_JOB),
        executor=dg.in_process_executor,
        resources={
            "warehouse": resources.warehouse(tenure),
            "dbt": resources.fixed(transform.Dbt(tenure, chosen.dbt)),
            "io_manager": resources.no_values(),
            **chosen.resources,
        },
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev -m orchestration.definitions` loads."""
    return build_defs()
