"""Extraction in Dagster: a file that is still being written is waited for, and a source that stays away stops only itself."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from core import settings, warehouse
from orchestration.definitions import Overrides, build_defs
from orchestration.instance import open_instance

CONFIG = """
company: Example
sources:
  crm:
    connector: files
    path: {folder}
    streams:
      accounts:
        files: accounts.csv
        columns: {{account_id: id, name: name, created_at: created}}
  product:
    connector: files
    path: {folder}
    account_source: crm
    streams:
      usage_events:
        files: events.csv
        columns: {{account_id: account, event_name: event, occurred_at: at}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    (path / "accounts.csv").write_text("id,name,created\n1,One,2024-01-01\n", encoding="utf-8")
    return path


def extract(tmp_path: Path, folder: Path, on_retry: Callable[[], None] = lambda: None, document: str = CONFIG) -> Any:
    """Materialize the raw tables alone; `on_retry` is called when Dagster says that it will try again."""
    config = tmp_path / "tenure.yml"
    config.write_text(document.format(folder=folder), encoding="utf-8")
    tenure = settings.load(config, tmp_path / "home")
    raw = dg.AssetSelection.groups("extract").without_checks() - dg.AssetSelection.key_prefixes("ledger")
    defs = dg.Definitions.merge(
        build_defs(Overrides(tenure=tenure)), dg.Definitions(jobs=[dg.define_asset_job("only_extract", raw)])
    )
    run_id = str(uuid.uuid4())

    def listen(entry: Any, cursor: Any = None) -> None:
        if entry.dagster_event and entry.dagster_event.is_step_up_for_retry:
            on_retry()

    with open_instance(tenure.home) as instance:
        instance.add_event_listener(run_id, listen)
        job = defs.resolve_job_def("only_extract")
        return job.execute_in_process(instance=instance, run_id=run_id, raise_on_error=False)


def loads(tmp_path: Path) -> list[dict[str, Any]]:
    with warehouse.warehouse(tmp_path / "home" / "warehouse.duckdb", read_only=True) as connection:
        return warehouse.rows(connection, "select * from ledger.loads order by finished_at")


@pytest.mark.slow
def test_a_file_that_is_still_being_written_is_waited_for(tmp_path: Path, folder: Path) -> None:
    events = folder / "events.csv"
    head = "account,event,at\n1,login,2024-02-01 10:00:00\n"
    events.write_text(head + "1,login,2024-0", encoding="utf-8")
    waited = threading.Event()

    def write_on() -> None:
        while not waited.is_set():
            events.touch()
            time.sleep(0.001)  # more often than the load looks at it

    def finish() -> None:
        waited.set()
        writer.join()
        events.write_text(head + "1,login,2024-02-02 10:00:00\n", encoding="utf-8")

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        result = extract(tmp_path, folder, on_retry=finish)
    finally:
        waited.set()
    assert result.success
    assert [event.step_key for event in result.all_events if event.is_step_up_for_retry] == ["extract"]
    (load,) = [load for load in loads(tmp_path) if load["stream"] == "usage_events"]
    assert (load["status"], load["rows_inserted"], load["rows_quarantined"]) == ("loaded", 2, 0)


@pytest.mark.slow
def test_a_source_that_is_missing_stops_its_stream_and_no_other(tmp_path: Path, folder: Path) -> None:
    result = extract(tmp_path, folder)
    assert result.success
    accounts, events = loads(tmp_path)
    assert (accounts["status"], accounts["rows_inserted"]) == ("loaded", 1)
    assert events["status"] == "stopped"
    assert "no file matches events.csv" in events["message"]


MANY = """
company: Example
sources:
  crm:
    connector: files
    path: {folder}
    streams:
      accounts: {{files: accounts.csv, columns: {{account_id: id, name: name, created_at: created}}}}
  product:
    connector: files
    path: {folder}
    account_source: crm
    streams:
      first: &events
        entity: usage_events
        files: first.csv
        columns: {{event_id: id, account_id: account, event_name: event, occurred_at: at}}
      missing: {{<<: *events, files: missing.csv}}
      second: {{<<: *events, files: second.csv}}
      third: {{<<: *events, files: third.csv}}
"""


@pytest.mark.slow
def test_streams_of_one_table_that_are_loaded_side_by_side_are_each_whole(tmp_path: Path, folder: Path) -> None:
    for day, name in enumerate(("first", "second", "third"), start=1):
        lines = [f"{name}-{n},{n % 3},login,2024-02-0{day} 10:00:00" for n in range(3000)]
        (folder / f"{name}.csv").write_text("id,account,event,at\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert extract(tmp_path, folder, document=MANY).success
    by_stream = {load["stream"]: load for load in loads(tmp_path)}
    assert by_stream["missing"]["status"] == "stopped"
    counted = {name: (by_stream[name]["rows_inserted"], by_stream[name]["rows_quarantined"]) for name in by_stream}
    assert counted["first"] == counted["second"] == counted["third"] == (1000, 2000)
    with warehouse.warehouse(tmp_path / "home" / "warehouse.duckdb", read_only=True) as connection:
        found = warehouse.rows(
            connection,
            "select _stream, count(*) as n, count(distinct _loaded_at) as loads from raw_files.usage_events group by all",
        )
    assert sorted((row["_stream"], row["n"], row["loads"]) for row in found) == [
        ("first", 1000, 1),
        ("second", 1000, 1),
        ("third", 1000, 1),
    ]
