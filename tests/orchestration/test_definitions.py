"""The wiring as Dagster sees it: lineage, groups, pool, schedule, sensors."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import dagster as dg
import pytest

from core import settings
from core.locks import RunLock
from orchestration import dbt, triggers
from orchestration.definitions import Overrides, build_defs
from orchestration.instance import WHOLE_JOB, WRITERS


@pytest.fixture(scope="module")
def tenure(world: Any) -> settings.Tenure:
    return settings.load(world.home.config, world.home.path)


@pytest.fixture(scope="module")
def defs(tenure: settings.Tenure) -> dg.Definitions:
    return build_defs(Overrides(tenure=tenure))


@pytest.fixture(scope="module")
def graph(defs: dg.Definitions) -> Any:
    return defs.resolve_asset_graph()


def test_one_lineage_leads_from_every_source_to_the_publication(graph: Any) -> None:
    publication = dg.AssetKey(["serving", "publication"])
    upstream = dg.AssetSelection.assets(publication).upstream().resolve(graph)
    raw = {key for key in graph.get_all_asset_keys() if key.path[0].startswith("raw_")}
    assert len(raw) == 8
    assert raw <= upstream
    assert dg.AssetKey(["sandbox", "company"]) in upstream
    assert dg.AssetKey(["ledger", "clock"]) in upstream


def test_assets_are_called_schema_and_table_and_say_what_they_are(graph: Any) -> None:
    for key in graph.executable_asset_keys:
        node = graph.get(key)
        assert len(key.path) == 2, key
        assert node.description, key
        assert node.kinds, key
    groups = {graph.get(key).group_name for key in graph.executable_asset_keys}
    assert groups == {
        *("sandbox", "extract", "staging", "intermediate", "metrics", "marts"),
        *("predict", "activation", "publish"),
    }


def test_everything_that_writes_to_the_warehouse_is_in_one_pool(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def(WHOLE_JOB)
    pools = {node.name: node.definition.pools for node in job.graph.nodes}
    assert pools.pop("sandbox__company") == set()
    assert pools.pop("sync__hubspot") == set()  # reads the published copy
    assert pools
    assert all(pool == {WRITERS} for pool in pools.values()), pools


def test_the_marts_are_guarded_before_they_are_published(graph: Any) -> None:
    checks = {key for key in graph.asset_check_keys if key.asset_key.path[0] == "marts"}
    blocking = {key.asset_key for key in checks if graph.get(key).blocking}
    assert dg.AssetKey(["marts", "accounts"]) in blocking
    assert dg.AssetKey(["marts", "months"]) in blocking


def test_every_dbt_test_is_a_blocking_check_that_says_what_holds(tenure: settings.Tenure, graph: Any) -> None:
    parsed = json.loads(dbt.manifest(tenure).read_text(encoding="utf-8"))
    nodes = parsed["nodes"]
    built = {name for name, node in nodes.items() if node["resource_type"] != "test"}
    # The model is off here: tests of features are there, their models are not.
    tests = {
        node["name"]
        for node in nodes.values()
        if node["resource_type"] == "test" and built & set(node["depends_on"]["nodes"])
    }
    checks = {key.name: graph.get(key) for key in graph.asset_check_keys if key.name in tests}
    assert len(tests) >= 17
    assert set(checks) == tests
    assert all(check.blocking and check.description for check in checks.values())
    assert checks["facts_reconcile"].key.asset_key == dg.AssetKey(["marts", "subscriptions"])


def test_the_daily_run_is_scheduled(defs: dg.Definitions) -> None:
    (schedule,) = defs.schedules or []
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 5 * * *", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_replays_are_partitioned_by_day(graph: Any) -> None:
    replay = graph.get(dg.AssetKey(["replays", "customer_360"]))
    assert replay.partitions_def.has_partition_key("2024-03-01")
    assert datetime.now().astimezone().date().isoformat() >= replay.partitions_def.get_first_partition_key()


@pytest.fixture
def touched(tenure: settings.Tenure) -> Iterator[Callable[[float], Any]]:
    """Puts a new ticket file beside the others, so many seconds old; takes it away afterwards."""
    folder = tenure.home / "sandbox" / "data" / "support" / "tickets"
    new = folder / "2031-01-01.csv.zst"

    def put(age: float) -> Any:
        shutil.copy(next(path for path in folder.iterdir() if path != new), new)
        moment = time.time() - age
        os.utime(new, (moment, moment))
        return new

    yield put
    new.unlink(missing_ok=True)


def test_the_sensor_sees_a_new_file_once_it_has_settled(
    defs: dg.Definitions, tenure: settings.Tenure, touched: Callable[[float], Any]
) -> None:
    sensor = next(s for s in defs.sensors or [] if s.name == "new_files")
    instance = dg.DagsterInstance.ephemeral()

    def tick() -> Any:
        return sensor.evaluate_tick(dg.build_sensor_context(instance=instance))

    assert tick().skip_message == "Every file has been read."
    touched(0)
    assert triggers.unread_files(tenure, settings.utc_now()) == []
    path = touched(60)
    assert [file.path for file in triggers.unread_files(tenure, settings.utc_now())] == [str(path)]
    (first,) = tick().run_requests or []
    (again,) = tick().run_requests or []
    assert first.run_key == again.run_key
    lock = RunLock(tenure.home / "run.lock")
    lock.acquire("run-1", wait_seconds=1, on_wait=lambda holder: None)
    try:
        assert "under way" in tick().skip_message
    finally:
        lock.release()
    assert tick().run_requests
