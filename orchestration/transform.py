"""Step 2 as assets: the dbt project, each model an asset, each dbt test a check.

Lives here: dbt's variables, its manifest and its one call per run. Must not live here: SQL (`models/`), or what the
configuration means.
"""

# Dagster reads the annotations of an asset's arguments: they must not be postponed.
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import dagster as dg

from core.errors import TenureError
from core.settings import PROJECT_ROOT, Config, Tenure
from core.warehouse import rows
from orchestration.extract import CLOCK, WRITERS
from orchestration.resources import Warehouse
from sources.base import entities_by_connector

DBT_PROJECT = PROJECT_ROOT / "dbt_project"
MODELS = PROJECT_ROOT / "models"
NOT_IN_A_RUN = "test_type:unit"
"""Unit tests prove the SQL, not the data: the test suite runs them, the job does not."""


def variables(config: Config) -> dict[str, Any]:
    """dbt's vars: constant for a configuration, so that dbt need not parse anew from run to run."""
    return {
        "staged": dict(entities_by_connector(config)),
        "identity_precedence": list(config.precedence),
        "identity_rules": list(config.identity.rules),
        "derive_accounts": config.identity.derive_accounts,
        "churn": config.churn.model_dump(mode="json"),
    }


def environment(tenure: Tenure) -> dict[str, str]:
    """What dbt's profile reads from the environment."""
    return {
        "TENURE_WAREHOUSE": str(tenure.warehouse_path),
        "TENURE_THREADS": str(tenure.threads),
        "TENURE_MEMORY_LIMIT": tenure.memory_limit,
        "TENURE_TEMP_DIR": str(tenure.temp_directory),
        "DBT_PROFILES_DIR": str(DBT_PROJECT),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def target_of(tenure: Tenure) -> Path:
    """dbt's target folder of this home: the manifest, the partial parse and the run results."""
    return tenure.home / "dbt" / "target"


def manifest(tenure: Tenure) -> Path:
    """The path of an up-to-date `manifest.json`; dbt parses only if the models, macros or variables changed.

    Raises `TenureError` with dbt's own words when the project does not parse.
    """
    target = target_of(tenure)
    path, mark = target / "manifest.json", target / "parsed.sha256"
    wanted = _fingerprint(tenure)
    if path.exists() and mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return path
    target.mkdir(parents=True, exist_ok=True)
    dbt = [sys.executable, "-m", "dbt.cli.main"]
    options = ["--project-dir", str(DBT_PROJECT), "--target-path", str(target), "--log-path", str(target)]
    done = subprocess.run(
        [*dbt, "--quiet", "parse", *options, "--vars", json.dumps(variables(tenure.config))],
        env={**os.environ, **environment(tenure)},
        cwd=DBT_PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TenureError(f"dbt cannot parse the models:\n{done.stdout.strip()}\n{done.stderr.strip()}".strip())
    mark.write_text(wanted, encoding="utf-8")
    return path


def _fingerprint(tenure: Tenure) -> str:
    digest = hashlib.sha256(json.dumps(variables(tenure.config), sort_keys=True).encode())
    files = (p for folder in (MODELS, DBT_PROJECT) for p in folder.rglob("*") if p.suffix in (".sql", ".yml", ".md"))
    for path in sorted(files):
        digest.update(str(path.relative_to(PROJECT_ROOT)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def published_tables(parsed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The models of schema `marts` by table name, from a parsed manifest."""
    nodes = parsed["nodes"].values()
    return {n["name"]: n for n in nodes if n["resource_type"] == "model" and n["schema"] == "marts"}


def assets(tenure: Tenure, manifest_path: Path) -> list[dg.AssetsDefinition]:
    """One op that builds all models, snapshots and data tests, with an asset for each model."""
    from dagster_dbt import DagsterDbtTranslator, DbtCliResource, dbt_assets

    class Translator(DagsterDbtTranslator):
        """Asset key = schema/table; every staging model also waits for the run's clock."""

        def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
            return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

        def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
            spec: dg.AssetSpec = super().get_asset_spec(manifest, unique_id, project)
            if spec.key.path[0] != "staging" or CLOCK in {dep.asset_key for dep in spec.deps}:
                return spec
            return spec.replace_attributes(deps=[*spec.deps, dg.AssetDep(CLOCK)])

    @dbt_assets(
        manifest=manifest_path,
        dagster_dbt_translator=Translator(),
        exclude=NOT_IN_A_RUN,
        name="dbt_build",
        pool=WRITERS,
    )
    def dbt_build(context: dg.AssetExecutionContext, warehouse: Warehouse, dbt: DbtCliResource) -> Iterator[Any]:
        call = ["build", "--vars", json.dumps(variables(tenure.config))]
        yield from dbt.cli(call, context=context, target_path=run_target(tenure)).stream()
        with warehouse.open() as connection:
            counts = rows(
                connection,
                "select schema_name, table_name, estimated_size as n from duckdb_tables() where not internal",
            )
        for row in counts:
            key = dg.AssetKey([row["schema_name"], row["table_name"]])
            if key in context.selected_asset_keys:
                yield dg.AssetObservation(key, metadata={"dagster/row_count": row["n"]})

    return [dbt_build]


def build_without_assets(tenure: Tenure) -> None:
    """Build all models for the clock as it stands, leaving the assets' records alone.

    Raises `TenureError` naming what failed.
    """
    done = resource(tenure).cli(
        ["build", "--exclude", NOT_IN_A_RUN, "--vars", json.dumps(variables(tenure.config))],
        target_path=run_target(tenure),
        raise_on_error=False,
    )
    done.wait()
    if not done.is_successful():
        raise TenureError("dbt failed:\n" + "\n".join(failures(tenure)))


def failures(tenure: Tenure) -> list[str]:
    """A sentence for each model or test that failed in dbt's last run."""
    results = json.loads((run_target(tenure) / "run_results.json").read_text(encoding="utf-8"))["results"]
    failed = [r for r in results if r["status"] in ("error", "fail", "runtime error")]
    return [f"{r['unique_id'].split('.')[2]}: {' '.join((r['message'] or '').split())}" for r in failed]


def run_target(tenure: Tenure) -> Path:
    """Where dbt puts the artefacts of the last run; runs come one after the other."""
    return tenure.home / "dbt" / "run"


def resource(tenure: Tenure) -> Any:
    """dbt, as dagster-dbt calls it."""
    from dagster_dbt import DbtCliResource
    from packaging.version import Version

    class Dbt(DbtCliResource):
        """Without `dbt --version`, which takes seconds and asks the package index for news, and without an adapter of our own."""

        @property
        def _cli_version(self) -> Version:
            return Version(metadata.version("dbt-core"))

        def _initialize_dbt_core_adapter(self, args: Any) -> Any:
            return None

    # The parse of `manifest()` is found there and spares the run its own.
    os.environ.update({**environment(tenure), "DBT_TARGET_PATH": str(target_of(tenure))})
    return Dbt(project_dir=str(DBT_PROJECT), profiles_dir=str(DBT_PROJECT), dbt_executable=_executable())


def _executable() -> str:
    beside = Path(sys.executable).with_name("dbt")
    return str(beside) if beside.exists() else "dbt"
