"""A run that is killed, at any moment, leaves nothing half-done: the next run ends where an undisturbed one ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ml import registry


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills_end_in_the_rows_of_an_undisturbed_run(
    new_home: Callable[..., Any], published_rows_of: Callable[..., Any]
) -> None:
    undisturbed, killed = (new_home(name, accounts=80, months=4) for name in ("undisturbed", "killed"))
    begun = time.monotonic()
    undisturbed.must("run")
    whole = time.monotonic() - begun
    moments = random.Random(20240701)
    dead = 0
    for attempt in range(10):
        if attempt == 5:
            # Half of the kills meet a first load, half an increment.
            killed.must("run")
            for home in (undisturbed, killed):
                home.must("sandbox", "advance", "--days", "5")
        process = killed.start("run")
        try:
            process.wait(timeout=moments.uniform(0.1, 1.0) * whole)
        except Exception:
            os.kill(process.pid, signal.SIGKILL)
            dead += 1
        process.communicate()
        serving = killed.path / "serving.duckdb"
        if serving.exists():
            assert killed.ask("select count(*) as n from publication")[0]["n"] == 1
    undisturbed.must("run")
    killed.must("run")
    assert dead >= 5, "the run ended before it could be killed"
    assert published_rows_of(killed.path / "serving.duckdb") == published_rows_of(undisturbed.path / "serving.duckdb")
    statuses = {run["status"] for run in killed.must("status")["runs"]}
    assert "running" not in statuses


GATE = ("churn:\n", "model: {min_churn_events: 10, gate: {max_ece_above_noise: 0.5}}\n\nchurn:\n")
"""A small company: its test window is too small for the usual demands."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_kills_between_the_marts_and_the_end_leave_one_champion_and_the_same_scores(
    new_home: Callable[..., Any], published_rows_of: Callable[..., Any]
) -> None:
    undisturbed, killed = (
        new_home(name, GATE, model=True, accounts=400, months=18) for name in ("whole", "interrupted")
    )
    whole = undisturbed.start("run")
    wait_for_marts(undisturbed.path, whole)
    begun = time.monotonic()
    whole.communicate()
    rest = time.monotonic() - begun
    assert whole.returncode == 0
    moments = random.Random(20240702)
    dead = 0
    # Early moments first: a version that is registered is not trained again, and runs after it are short.
    for share in sorted(moments.uniform(0.02, 0.98) for _ in range(5)):
        process = killed.start("run")
        wait_for_marts(killed.path, process)
        try:
            process.wait(timeout=share * rest)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            dead += 1
        process.communicate()
        serving = killed.path / "serving.duckdb"
        if serving.exists():
            assert killed.ask("select count(*) as n from publication")[0]["n"] == 1
    killed.must("run")
    assert dead >= 3, "the runs ended before they could be killed"
    assert published_rows_of(killed.path / "serving.duckdb") == published_rows_of(undisturbed.path / "serving.duckdb")
    versions = killed.must("model", "list")["versions"]
    assert [version["state"] for version in versions] == ["champion"]
    assert tracked(killed.path) == tracked(undisturbed.path)


def wait_for_marts(home: Path, process: Any) -> None:
    """Until the gate of the marts has built its pages, or the run is over."""
    pages = home / "data_docs" / "index.html"
    before = pages.stat().st_mtime_ns if pages.exists() else 0
    while process.poll() is None and not (pages.exists() and pages.stat().st_mtime_ns > before):
        time.sleep(0.02)


def tracked(home: Path) -> dict[str, Any]:
    """What MLflow holds: versions and whether each is whole, runs by state, and the folders of their files."""
    from mlflow.entities import ViewType
    from mlflow.tracking import MlflowClient

    client = MlflowClient(registry.connect(home).uri)
    runs = client.search_runs([found.experiment_id for found in client.search_experiments()])
    versions = client.search_model_versions("name='tenure-churn'")
    deleted = client.search_runs(
        [found.experiment_id for found in client.search_experiments()], run_view_type=ViewType.DELETED_ONLY
    )
    return {
        "versions": [version.tags.get("complete") for version in versions],
        "runs": sorted(run.info.status for run in runs),
        "removed runs that still run": [run.info.run_id for run in deleted if run.info.status == "RUNNING"],
        "model folders": len(list((home / "mlflow" / "artifacts" / "models").iterdir())),
        "scratch": sorted(path.name for path in home.glob("tmp/mlflow/*")),
    }
