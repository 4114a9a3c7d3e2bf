"""dbt, as every caller uses it: its variables, its environment, its manifest, and where its artefacts are.

Lives here: what a call of dbt needs, without Dagster, whose import takes seconds. Must not live here: assets
(`transform.py`), SQL (`models/`).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import TenureError
from core.settings import PROJECT_ROOT, Config, Tenure
from orchestration.dbt_process import DbtProcess
from sources.base import entities_by_connector

BUILD, ACTIVATE = "dbt_build", "dbt_activate"
"""The steps of a run that call dbt: up to the features, and what follows the scores."""
DBT_PROJECT = PROJECT_ROOT / "dbt_project"
MODELS = PROJECT_ROOT / "models"
NOT_IN_A_RUN = "test_type:unit"
"""Unit tests prove the SQL, not the data: the test suite runs them, the job does not."""
PUBLISHED_SCHEMAS = ("marts", "reverse_etl")
PUBLISHED_MODELS = ("features.ftr_churn_scoring", "features.ftr_account_labels")
"""Of the features, those of today and what became of past ones; the whole history stays in the working warehouse."""
AFTER_SCORES = "tag:activation"
NOT_BEFORE_SCORES = f"{NOT_IN_A_RUN} {AFTER_SCORES}"
"""What reads the scores is built when they are there."""


def variables(config: Config) -> dict[str, Any]:
    """dbt's vars: constant for a configuration, so that dbt need not parse anew from run to run."""
    return {
        "currency": config.currency,
        "staged": dict(entities_by_connector(config)),
        "identity_precedence": list(config.precedence),
        "identity_rules": list(config.identity.rules),
        "derive_accounts": config.identity.derive_accounts,
        "churn": config.churn.model_dump(mode="json"),
        "inclusive_ends": [list(stream) for stream in config.inclusive_ends],
        "features_enabled": config.model.enabled,
        "custom_metrics": [metric.variable for metric in config.custom_metrics],
        "sync_models": sorted({destination.model for destination in config.sync.enabled.values()}),
        "metrics": {"daily_days": config.metrics.daily_days},
        "snapshots": {
            "every": config.model.snapshot_every,
            "from": config.model.snapshots_from and config.model.snapshots_from.isoformat(),
            "max_accounts": config.model.max_accounts,
        },
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


def process(tenure: Tenure) -> DbtProcess:
    """A process of dbt for a home, which finds the parse of `manifest()` and is spared its own."""
    return DbtProcess(DBT_PROJECT, target_of(tenure), variables(tenure.config), environment(tenure))


def published_tables(parsed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The models that are published, by `schema.table`, from a parsed manifest."""
    nodes = (node for node in parsed["nodes"].values() if node["resource_type"] == "model")
    return {
        f"{n['schema']}.{n['name']}": n
        for n in nodes
        if n["schema"] in PUBLISHED_SCHEMAS or f"{n['schema']}.{n['name']}" in PUBLISHED_MODELS
    }


def published_views(parsed: Mapping[str, Any]) -> set[str]:
    """Those of them that are views in the working warehouse: to count their rows is to make them."""
    tables = published_tables(parsed)
    return {table for table, node in tables.items() if node["config"]["materialized"] == "view"}


def run_target(tenure: Tenure, step: str) -> Path:
    """Where dbt puts the artefacts of the last run of a step; runs come one after the other."""
    return tenure.home / "dbt" / "run" / step


def fresh_run_target(tenure: Tenure, step: str) -> Path:
    """The same folder, without the results of an earlier run, so that they are not taken for those of the next."""
    (run_target(tenure, step) / "run_results.json").unlink(missing_ok=True)
    return run_target(tenure, step)


def failures(tenure: Tenure, step: str) -> list[str]:
    """A sentence for each model or test that failed in dbt's last run of a step; none if dbt did not get that far."""
    path = run_target(tenure, step) / "run_results.json"
    if not path.exists():
        return []
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    failed = [r for r in results if r["status"] in ("error", "fail", "runtime error")]
    return [f"{r['unique_id'].split('.')[2]}: {' '.join((r['message'] or '').split())}" for r in failed]
