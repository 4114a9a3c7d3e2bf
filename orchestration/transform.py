"""Step 2 as assets: the dbt project, each model an asset, each dbt test a check.

Lives here: the assets and dbt's one call per run. Must not live here: SQL (`models/`), or what a call needs (`dbt.py`).
"""

# Dagster reads the annotations of an asset's arguments: they must not be postponed.
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import dagster as dg

from core.errors import TenureError
from core.settings import Tenure
from core.warehouse import Connection, identifier
from orchestration import dbt as project
from orchestration.dbt_process import DbtProcess
from orchestration.extract import CLOCK
from orchestration.instance import WRITERS
from orchestration.resources import Warehouse


def assets(tenure: Tenure, manifest_path: Path, *, full: bool) -> list[dg.AssetsDefinition]:
    """Two ops that build models, snapshots and data tests, with an asset for each model: up to the features, and what follows
    the scores.

    With `full`, incremental models are built anew, and so are the features of all dates that models learn from.
    """
    from dagster_dbt import DagsterDbtTranslator, dbt_assets

    class Translator(DagsterDbtTranslator):
        """Asset key = schema/table; every staging model also waits for the run's clock."""

        def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
            return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

        def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
            owner = (dbt_resource_props.get("group") or {}).get("owner") or {}
            return [f"team:{owner['name'].lower().replace(' ', '-')}"] if owner else []

        def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
            spec: dg.AssetSpec = super().get_asset_spec(manifest, unique_id, project)
            if spec.key.path[0] != "staging" or CLOCK in {dep.asset_key for dep in spec.deps}:
                return spec
            return spec.replace_attributes(deps=[*spec.deps, dg.AssetDep(CLOCK)])

    views = project.published_views(json.loads(manifest_path.read_text(encoding="utf-8")))

    def built(name: str, select: str, exclude: str) -> dg.AssetsDefinition:
        @dbt_assets(
            manifest=manifest_path,
            dagster_dbt_translator=Translator(),
            select=select,
            exclude=exclude,
            name=name,
            pool=WRITERS,
        )
        def build(
            context: dg.AssetExecutionContext,
            warehouse: dg.ResourceParam[Warehouse],
            dbt: dg.ResourceParam[Any],
        ) -> Iterator[Any]:
            anew = ["--full-refresh"] if full and name == project.BUILD else []
            call = ["build", *anew, "--vars", json.dumps(project.variables(tenure.config))]
            yield from dbt.cli(call, context=context, target_path=project.fresh_run_target(tenure, name)).stream()
            # Published views are counted when they are published.
            counted = [key for key in sorted(context.selected_asset_keys) if ".".join(key.path) not in views]
            with warehouse.open() as connection:
                for key, count in zip(counted, _row_counts(connection, counted), strict=True):
                    yield dg.AssetObservation(key, metadata={"dagster/row_count": count})

        return build

    return [
        built(project.BUILD, select="fqn:*", exclude=project.NOT_BEFORE_SCORES),
        built(project.ACTIVATE, select=project.AFTER_SCORES, exclude=project.NOT_IN_A_RUN),
    ]


def _row_counts(connection: Connection, keys: Sequence[dg.AssetKey]) -> tuple[int, ...]:
    """The rows of models, counted by one statement: views are then made by all threads, and what they share is read once."""
    counts = ", ".join(f"(select count(*) from {'.'.join(map(identifier, key.path))})" for key in keys)
    return connection.execute(f"select {counts}").fetchone() or () if keys else ()


def build_without_assets(tenure: Tenure, *, after_scores: bool = False) -> None:
    """Build all models up to the features for the clock as it stands, or with `after_scores` those that follow the scores,
    leaving the assets' records alone.

    Raises `TenureError` naming what failed.
    """
    step = project.ACTIVATE if after_scores else project.BUILD
    before = ["--exclude", project.NOT_BEFORE_SCORES]
    after = ["--select", project.AFTER_SCORES, "--exclude", project.NOT_IN_A_RUN]
    with project.process(tenure) as process:
        done = Dbt(tenure, process).cli(
            ["build", *(after if after_scores else before), "--vars", json.dumps(project.variables(tenure.config))],
            target_path=project.fresh_run_target(tenure, step),
            raise_on_error=False,
        )
        done.wait()
    if not done.is_successful():
        raise TenureError("dbt failed:\n" + "\n".join(project.failures(tenure, step)))


class Dbt:
    """dbt, as assets call it: in one process, whose events dagster-dbt reads."""

    def __init__(self, tenure: Tenure, process: DbtProcess | None = None) -> None:
        self._process = process or project.process(tenure)

    def cli(
        self,
        arguments: Sequence[str],
        *,
        context: dg.AssetExecutionContext | None = None,
        target_path: Path,
        raise_on_error: bool = True,
    ) -> Any:
        """Call dbt, for what is selected in `context`; a `DbtCliInvocation`, whose events are to be read."""
        from dagster_dbt import DagsterDbtTranslator
        from dagster_dbt.asset_utils import (
            DBT_INDIRECT_SELECTION_ENV,
            get_updated_cli_invocation_params_for_context,
        )
        from dagster_dbt.core.dbt_cli_invocation import DbtCliInvocation
        from packaging.version import Version

        asked = get_updated_cli_invocation_params_for_context(context, {}, DagsterDbtTranslator())
        environment = {
            "DAGSTER_DBT_CLI": "true",
            "DBT_LOG_FORMAT": "json",
            "DBT_TARGET_PATH": str(target_path),
            "DBT_LOG_PATH": str(target_path),
            DBT_INDIRECT_SELECTION_ENV: asked.indirect_selection or "eager",
        }
        target_path.mkdir(parents=True, exist_ok=True)
        return DbtCliInvocation(
            process=self._process.call([*arguments, *asked.selection_args], environment),  # type: ignore[arg-type]
            manifest=asked.manifest,
            dagster_dbt_translator=asked.dagster_dbt_translator,
            project_dir=project.DBT_PROJECT,
            target_path=target_path,
            raise_on_error=raise_on_error,
            cli_version=Version(metadata.version("dbt-core")),
            context=context,
        )
