"""Dagster's records of past runs do not grow for ever."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dagster as dg

from core.settings import utc_now
from orchestration.instance import drop_old_runs, open_instance


@dg.asset(key=["marts", "accounts"])
def accounts() -> None:
    """A table."""


def test_old_runs_leave_nothing_behind_and_the_newest_stay(tmp_path: Path) -> None:
    with open_instance(tmp_path) as instance:
        runs = [dg.materialize([accounts], instance=instance).run_id for _ in range(3)]
        storage = tmp_path / "dagster"
        assert drop_old_runs(instance, before=utc_now() - timedelta(days=30), keep=0) == 0
        assert drop_old_runs(instance, before=utc_now() + timedelta(minutes=1), keep=5) == 0
        assert drop_old_runs(instance, before=utc_now() + timedelta(minutes=1), keep=1) == 2
        assert [run.run_id for run in instance.get_runs()] == [runs[-1]]
        left = [path.name for path in storage.rglob("*") if any(run in path.name for run in runs[:-1])]
        assert left == []
        assert instance.get_latest_materialization_event(dg.AssetKey(["marts", "accounts"])) is not None
        assert drop_old_runs(instance, before=utc_now() + timedelta(minutes=1), keep=1) == 0
