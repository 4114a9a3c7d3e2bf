"""`tenure sync` as a user runs it, and a destination as an asset: reports, checks, exit codes, alerts."""

from __future__ import annotations

import json
import shlex
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core import settings
from core.warehouse import warehouse
from orchestration import alerts, sync, sync_cli

CONFIG = """
company: Small Ltd
sources:
  crm: {connector: files, path: nowhere, streams: {accounts: {files: a.csv, columns: {account_id: id}},
    invoices: {files: b.csv, columns: {invoice_id: id, account_id: a, issued_at: d, amount: u}}}}
alerts: {webhook_url: "${HOOK:-http://127.0.0.1:9/}"}
sync:
  destinations:
    outbox: {connector: files, path: "${TENURE_HOME}/outbox", guards: {min_rows: 1}}
"""


@pytest.fixture
def small(tmp_path: Path, world: Any) -> Any:
    """A home whose published copy has four scores."""
    config = tmp_path / "tenure.yml"
    config.write_text(CONFIG, encoding="utf-8")
    home = type(world.home)(tmp_path / "var", config)
    publish(home.path, [0.1, 0.2, 0.3, 0.4])
    return home


def publish(home: Path, scores: list[float], *, without_key: int = 0) -> None:
    home.mkdir(exist_ok=True)
    with warehouse(home / "fresh.duckdb") as connection:
        connection.execute("create schema reverse_etl")
        moments = "?::timestamp as published_at, ?::timestamp as as_of_at"
        connection.execute(f"create table publication as select {moments}", [settings.utc_now()] * 2)
        connection.execute("create table reverse_etl.sync_files_scores (account_id varchar, churn_probability double)")
        for n, score in enumerate(scores):
            connection.execute("insert into reverse_etl.sync_files_scores values (?, ?)", [f"a{n}", score])
        for _ in range(without_key):
            connection.execute("insert into reverse_etl.sync_files_scores values (null, 0.5)")
    (home / "fresh.duckdb").replace(home / "serving.duckdb")


@pytest.mark.slow
def test_the_command_shows_sends_and_keeps(small: Any) -> None:
    planned = small.must("sync", "outbox", "--dry-run")["syncs"][0]
    assert planned["status"] == "planned"
    assert planned["changes"][0] == {
        "key": "a0",
        "operation": "create",
        "fields": {"churn_probability": {"old": None, "new": "0.1"}},
    }
    assert sorted(path.name for path in small.path.iterdir()) == ["serving.duckdb"]
    done = small.must("sync")
    assert (done["status"], done["syncs"][0]["counts"]["ok"]) == ("done", 4)
    assert small.ask("select status, ok from sync.sync_runs") == [{"status": "done", "ok": 4}]
    status = small.must("sync", "status")
    assert status["destinations"] == [{"destination": "outbox", "rows": 4, "failing": 0, "parked": 0, "in_doubt": 0}]
    publish(small.path, [0.1, 0.2, 0.3])
    refused = small.run("sync", "outbox")
    assert refused.code == 3
    assert "retired" in refused.out
    assert "--override" in refused.out
    assert small.must("sync", "outbox", "--override")["syncs"][0]["overrides"] == ["retired"]
    changes = small.must("sync", "diff", "outbox")["changes"]
    assert [(change["key"], change["operation"]) for change in changes] == [("a3", "retire")]


def test_wrong_use_is_told_with_what_there_is(small: Any) -> None:
    answer = small.run("sync", "hubspot")
    assert answer.code == 2
    assert "outbox" in answer.err
    for command in (("sync", "setup", "outbox"), ("sync", "verify", "outbox")):
        assert small.run(*command).code == 2


CANARY = "pat-canary-9d21c7"
WRITES = "/batch/update"


@pytest.fixture
def crm(small: Any) -> Iterator[Any]:
    """The stand-in for HubSpot behind real HTTP, which knows the four accounts; `small` sends to it with the canary as token."""
    from sandbox.hubspot import TOKEN, HubSpotStandIn
    from sandbox.serve import serving

    vendor = HubSpotStandIn()
    vendor.seed([{"id": f"a{n}"} for n in range(4)])
    vendor.define("churn_probability", "number")
    vendor.tokens[CANARY] = vendor.tokens[TOKEN]
    with serving(vendor) as url:
        small.env["CRM_TOKEN"] = CANARY
        destination = (
            f"    crm: {{connector: hubspot, token: '${{CRM_TOKEN}}', base_url: '{url}', model: sync_files_scores,"
            " key: account_id}\n"
        )
        small.config.write_text(CONFIG + destination, encoding="utf-8")
        yield vendor


@pytest.mark.slow
def test_of_two_processes_that_sync_at_once_one_says_so_and_leaves(small: Any, crm: Any) -> None:
    crm.fail("hang", match=WRITES, seconds=8)
    first = small.start("sync", "crm", "--json")
    deadline = time.monotonic() + 60
    while not crm.calls(WRITES) and time.monotonic() < deadline:
        time.sleep(0.05)
    second = small.run("sync", "crm")
    assert first.poll() is None, "the first sync was over before the second began"
    assert second.code != 0
    assert "Another sync of crm is under way" in second.err
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert json.loads(out)["syncs"][0]["counts"]["ok"] == 4
    assert crm.calls(WRITES) == 1
    assert [run["status"] for run in small.must("sync", "status")["runs"]] == ["done"]


@pytest.mark.slow
def test_a_secret_is_in_nothing_that_is_said_or_kept(small: Any, crm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    crm.fail("echo", match=WRITES)
    crm.fail("status", match=WRITES, status=401, body={"message": f"{CANARY} is no token"}, times=9)
    said = []
    for command in (("sync", "crm"), ("sync", "crm", "--json"), ("sync", "failures"), ("sync", "status")):
        answer = small.run(*command)
        said.append(answer.out + answer.err)
    monkeypatch.setenv("CRM_TOKEN", CANARY)
    (small.path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(small.path / "dagster")) as instance:
        tenure = settings.load(small.config, small.path)
        dg.materialize(sync.assets(tenure), instance=instance, raise_on_error=False)
    assert any("***" in words for words in said), said
    assert [words for words in said if CANARY in words] == []
    kept = [path for path in small.path.rglob("*") if path.is_file()]
    assert any("dagster" in path.parts for path in kept)
    assert [path for path in kept if CANARY.encode() in path.read_bytes()] == []


@pytest.fixture
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A real HTTP server that keeps what it is told."""
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    thread.join()


def test_an_asset_reports_checks_and_tells_people_of_failure_and_recovery(
    small: Any, told: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, heard = told
    monkeypatch.setenv("HOOK", url)
    tenure = settings.load(small.config, small.path)

    def materialize() -> tuple[dict[str, Any], dict[str, bool]]:
        done = dg.materialize(sync.assets(tenure))
        (event,) = done.get_asset_materialization_events()
        metadata = event.step_materialization_data.materialization.metadata
        checks = {e.check_name: e.passed for e in done.get_asset_check_evaluations()}
        return {name: value.value for name, value in metadata.items()}, checks

    metadata, checks = materialize()
    assert metadata["summary"] == "4 rows: 4 created"
    assert checks == {"sent": True, "failed_share": True, "recent": True, "recovered": True}
    publish(small.path, [])
    metadata, checks = materialize()
    assert "refused by a guard" in metadata["stopped"]
    assert checks == {"sent": False, "failed_share": True, "recent": True, "recovered": True}
    assert materialize()[1]["recovered"] is False
    publish(small.path, [0.1, 0.2, 0.3, 0.5])
    metadata, checks = materialize()
    assert metadata["summary"] == "4 rows: 1 updated, 3 unchanged"
    assert checks == {"sent": True, "failed_share": True, "recent": True, "recovered": True}
    told_of = [(message["status"], message["has_recovered"]) for message in heard]
    assert told_of == [("guarded", False), ("guarded", False), ("done", True)]


@pytest.mark.parametrize(
    ("status", "says", "says_not"),
    [
        ("failed", "stays as it was", "has published"),
        ("refused", "refused by a check. The published data stays as it was", "has published"),
        ("stopped", "has published. This did not go through:", "stays as it was"),
    ],
)
def test_an_alert_says_whether_the_run_has_published(status: str, says: str, says_not: str) -> None:
    reason = "The sync to hubspot was stopped: HubSpot answered 401."
    alert = alerts.Failure("Small Ltd", "run-1", "customer_360", (reason,), status)
    assert says in alert.text
    assert says_not not in alert.text
    assert reason in alert.text
    assert ("only in part" in alert.subject) == (status == "stopped")


@pytest.mark.slow
def test_what_people_see_of_failures_and_drift_is_in_words(small: Any) -> None:
    assert "never synced" in small.run("sync", "diff", "outbox").err
    assert "No row of outbox is parked." in small.run("sync", "release", "outbox").out
    assert sorted(path.name for path in small.path.iterdir()) == ["serving.duckdb"]
    small.must("sync")
    small.must("sync")
    # The last sync did nothing; what is asked for is the one that did.
    assert len(small.must("sync", "diff", "outbox")["changes"]) == 4
    assert "and 3 more" in small.run("sync", "diff", "outbox", "--limit", "1").out
    assert "Every row that was sent was taken" in small.run("sync", "failures").out
    publish(small.path, [0.1, 0.2, 0.3, 0.4], without_key=1)
    small.must("sync")
    assert "null_key" in small.run("sync", "failures").out
    (invalid,) = small.must("sync", "failures", "outbox")
    assert (invalid["last_status"], invalid["key"]) == ("invalid", None)


def test_a_destination_that_leads_elsewhere_is_refused_with_the_two_ways_on(small: Any) -> None:
    small.must("sync")
    small.config.write_text(CONFIG.replace("/outbox", "/elsewhere"), encoding="utf-8")
    refused = small.run("sync")
    assert refused.code == 3
    assert "tenure sync rebind outbox --forget" in refused.out
    assert "tenure sync rebind outbox --keep" in refused.out
    assert not (small.path / "elsewhere").exists()
    assert small.run("sync", "rebind", "outbox").code == 2
    kept = small.must("sync", "rebind", "outbox", "--keep")
    assert (kept["way"], kept["rows"]) == ("keep", 4)
    assert small.must("sync")["syncs"][0]["counts"]["unchanged"] == 4
    small.config.write_text(CONFIG, encoding="utf-8")
    assert small.must("sync", "rebind", "outbox", "--forget")["rows"] == 4
    assert small.must("sync")["syncs"][0]["counts"]["ok"] == 4


def test_a_new_destination_says_which_command_builds_its_model(small: Any) -> None:
    added = '    table: {connector: database, url: "sqlite://", table: scores}\n'
    small.config.write_text(CONFIG + added, encoding="utf-8")
    answer = small.run("sync", "table")
    assert answer.code == 2
    assert "is not in the published copy" in answer.err
    assert "`tenure run`" in answer.err


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), min_size=1, max_size=60, unique=True))
@example([f"{n:018d}" for n in range(10_000)])
@example(["a,b", "c"])
def test_a_command_with_any_number_of_keys_can_be_used_as_it_is_printed(keys: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        printed = sync_cli._named(keys, Path(folder) / "sync" / "hubspot.drifted.txt")
        assert len(printed) < 4_000
        assert sync_cli._split(shlex.split(printed)) == tuple(keys)


def test_without_anything_published_a_sync_begins_nothing(small: Any) -> None:
    (small.path / "serving.duckdb").unlink()
    for command in (("sync",), ("sync", "outbox"), ("sync", "outbox", "--dry-run")):
        answer = small.run(*command)
        assert (answer.code, "Nothing is published yet" in answer.err) == (2, True)
    assert list(small.path.iterdir()) == []


def test_the_daily_run_syncs_what_it_published_and_nothing_else(world: Any) -> None:
    assert world.first["status"] == "done"
    (run,) = world.home.ask("select destination, status, source, ok, rejected, invalid from sync.sync_runs")
    scored = world.home.ask("select count(*) as n from reverse_etl.sync_hubspot_companies")[0]["n"]
    assert (run["destination"], run["status"], run["source"]) == ("hubspot", "done", scored)


def test_an_order_in_the_job_sends_only_after_publishing(world: Any) -> None:
    from orchestration.definitions import Overrides, build_defs

    tenure = settings.load(world.home.config, world.home.path)
    graph = build_defs(Overrides(tenure=tenure)).resolve_asset_graph()
    assert dg.AssetKey(["serving", "publication"]) in graph.get(sync.key_of("hubspot")).parent_keys
