"""Dagster's own processes, as `tenure ui` starts them: runs launched from the page, what it shows, switches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
REPOSITORY = {"repositoryLocationName": "orchestration.definitions", "repositoryName": "__repository__"}
ASSETS = """{ assetNodes {
  assetKey { path } groupName description kinds
  owners { ... on TeamAssetOwner { team } ... on UserAssetOwner { email } }
  metadataEntries { label }
  freshnessStatusInfo { freshnessStatus }
  assetMaterializations(limit: 1) { metadataEntries { label } }
  assetObservations(limit: 1) { metadataEntries { label } }
  assetChecksOrError { ... on AssetChecks { checks {
    name description executionForLatestMaterialization { status } } } }
} }"""
LAUNCH = """mutation($p: ExecutionParams!) { launchRun(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } ... on InvalidSubsetError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
BACKFILL = """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""


@dataclass(frozen=True)
class Page:
    """The web server, asked as its own page asks it."""

    port: int
    home: Any

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            document = json.load(answer)
        assert "errors" not in document, document
        return document["data"]

    def is_ready(self) -> bool:
        """Whether the definitions are loaded; fails where they do not load."""
        entries = self.ask(
            "{ workspaceOrError { ... on Workspace { locationEntries {"
            " loadStatus locationOrLoadError { ... on PythonError { message } } } } } }"
        )["workspaceOrError"]["locationEntries"]
        assert [entry for entry in entries if entry["locationOrLoadError"]] == [], entries
        return [entry["loadStatus"] for entry in entries] == ["LOADED"]

    def launch(self, job: str, *assets: str) -> str:
        chosen = {"assetSelection": [{"path": name.split("/")} for name in assets]} if assets else {}
        selector = {**REPOSITORY, "jobName": job, **chosen}
        launched = self.ask(LAUNCH, p={"selector": selector, "mode": "default"})["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def status(self, run_id: str) -> str:
        found = self.ask("query($r: ID!) { runOrError(runId: $r) { ... on Run { status } } }", r=run_id)
        return str(found["runOrError"]["status"])

    def wait(self, *run_ids: str, seconds: float = 240) -> list[str]:
        """The statuses of runs that have ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            statuses = [self.status(run_id) for run_id in run_ids]
            if all(status in ("SUCCESS", "FAILURE", "CANCELED") for status in statuses):
                return statuses
            time.sleep(1)
        raise AssertionError(f"{statuses} after {seconds} seconds")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ended(process: subprocess.Popen[str], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def children(parent: int) -> list[int]:
    """The processes below `parent`, from /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            above = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if above == parent:
            found += [int(status.parent.name), *children(int(status.parent.name))]
    return found


@pytest.fixture(scope="module")
def page(new_home: Callable[..., Any]) -> Iterator[Page]:
    """The page of a small company, ready to answer; its processes end with the tests."""
    home = new_home("ui", accounts=40, months=4)
    port = free_port()
    log = home.config.with_name("ui.log")
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            home.command("ui", "--port", str(port)), env=home.environment, stdout=out, stderr=out, text=True
        )
    page = Page(port, home)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                if page.is_ready():
                    break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, log.read_text(encoding="utf-8")
                assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(1)
        yield page
        process.send_signal(signal.SIGTERM)
        assert ended(process, 60)
    finally:
        for pid in [process.pid, *children(process.pid)] if process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def run_id(page: Page) -> str:
    """The whole job and, queued behind it, another run, both launched from the page."""
    first, second = page.launch("customer_360"), page.launch("publish")
    assert page.wait(first, second) == ["SUCCESS", "SUCCESS"]
    (publication,) = page.home.ask("select run_id from publication")
    assert publication["run_id"] == second
    return first


EVIL = "http://evil.example"
MUTATION = "mutation { reloadWorkspace { __typename } }"


def attack(page: Page, path: str = "/graphql", body: bytes | None = None, **headers: str) -> int:
    """What a request of somebody else's page is answered with."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{page.port}{path}", body, named)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_no_other_page_can_make_the_server_do_anything(page: Page) -> None:
    body = json.dumps({"query": MUTATION}).encode()
    as_json = {"Content_Type": "application/json"}
    assert attack(page, body=body, **as_json) == 200
    assert (
        attack(page, body=body, Origin=f"http://127.0.0.1:{page.port}", Sec_Fetch_Site="same-origin", **as_json) == 200
    )
    assert attack(page, "/graphql?" + urllib.parse.urlencode({"query": MUTATION})) == 405
    assert (
        attack(page, "/graphql?" + urllib.parse.urlencode({"query": MUTATION}), b"", Content_Type="text/plain") == 405
    )
    assert attack(page, body=body, Content_Type="text/plain") == 405
    assert attack(page, body=body, Origin=EVIL, **as_json) == 403
    assert attack(page, body=body, Origin="null", **as_json) == 403
    assert attack(page, body=body, Origin=f"http://127.0.0.1:{page.port + 1}", **as_json) == 403
    assert attack(page, body=body, Sec_Fetch_Site="same-site", **as_json) == 403
    assert attack(page, body=body, Host=f"evil.example:{page.port}", **as_json) == 421
    assert attack(page, "/report_asset_materialization/marts/accounts", b"{}", Origin=EVIL) == 403


def test_a_launched_run_cannot_say_which_program_is_dbt_or_where_files_are(page: Page, tmp_path: Path) -> None:
    for resource, config in [
        ("dbt", {"dbt_executable": "/bin/false"}),
        ("warehouse", {"home": str(tmp_path)}),
        ("io_manager", {"base_dir": str(tmp_path)}),
    ]:
        given = {"resources": {resource: {"config": config}}}
        wanted = {
            "selector": {**REPOSITORY, "jobName": "publish"},
            "mode": "default",
            "runConfigData": json.dumps(given),
        }
        launched = page.ask(LAUNCH, p=wanted)["launchRun"]
        assert launched["__typename"] == "RunConfigValidationInvalid", (resource, launched)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; the requests it would send are tested above")
def test_a_page_of_another_site_in_a_real_browser_starts_nothing(page: Page, tmp_path: Path) -> None:
    before = len(page.home.must("status")["runs"])
    address = f"http://127.0.0.1:{page.port}"
    evil = tmp_path / "evil.html"
    launch = "mutation { reloadWorkspace { __typename } }"
    evil.write_text(
        f"""<img src="{address}/graphql?query={urllib.parse.quote(launch)}">
        <form id=f method=post action="{address}/graphql?query={urllib.parse.quote(launch)}" target=t></form>
        <iframe name=t></iframe><iframe src="{address}/"></iframe><pre id=said></pre>
        <script>f.submit();
        const said = [];
        const note = (what) => (answer) => {{
          said.push(what + " " + answer);
          document.getElementById("said").textContent = said.join("|");
        }};
        fetch("{address}/graphql", {{method: "POST", mode: "no-cors", body: '{{"query": "{launch}"}}'}})
          .then((a) => note("no-cors")(a.type), () => note("no-cors")("refused"));
        fetch("{address}/graphql", {{method: "POST", headers: {{"Content-Type": "application/json"}}, body: "{{}}"}})
          .then(() => note("json")("answered"), () => note("json")("refused"));
        </script>""",
        encoding="utf-8",
    )
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--virtual-time-budget=5000",
    ]
    done = subprocess.run(
        [str(CHROMIUM), *options, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", evil.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "json refused" in done.stdout, done.stderr
    assert len(page.home.must("status")["runs"]) == before


def test_a_run_of_the_page_is_published_and_known_to_the_command(page: Page, run_id: str) -> None:
    runs = page.home.must("status")["runs"]
    assert [(run["job"], run["status"], run["started_by"]) for run in runs] == [
        ("publish", "done", "dagster"),
        ("customer_360", "done", "dagster"),
    ]
    assert runs[1]["run_id"] == run_id


def test_every_asset_is_shown_with_what_an_engineer_looks_for(page: Page, run_id: str) -> None:
    nodes = {"/".join(node["assetKey"]["path"]): node for node in page.ask(ASSETS)["assetNodes"]}
    assert len(nodes) > 40
    for name, node in nodes.items():
        labels = {entry["label"] for entry in node["metadataEntries"]}
        assert node["description"], name
        assert not node["description"].startswith("dbt "), name
        assert node["kinds"], name
        assert node["owners"], name
        assert node["groupName"] != "default", name
        assert "dagster/table_name" in labels or name.split("/")[0] in ("sandbox", "serving", "replays", "sync"), name
        if name == "replays/customer_360" or name.startswith("sync/"):
            continue  # one is materialized by backfills, the other tells of a destination instead of a table
        told = [*node["assetMaterializations"], *node["assetObservations"]]
        shown = {entry["label"] for event in told for entry in event["metadataEntries"]}
        wanted = {"sandbox/company": "accounts", "serving/publication": "rows of marts.accounts"}
        assert wanted.get(name, "dagster/row_count") in shown, name
        for check in node["assetChecksOrError"]["checks"]:
            assert check["description"], (name, check["name"])
            assert check["executionForLatestMaterialization"]["status"] == "SUCCEEDED", (name, check["name"])
    assert {entry["label"] for entry in nodes["raw_files/accounts"]["metadataEntries"]} >= {"dagster/column_schema"}


def test_the_published_copy_is_known_to_be_fresh(page: Page, run_id: str) -> None:
    deadline = time.monotonic() + 180  # the daemon judges freshness on a clock of its own
    while True:
        nodes = {"/".join(node["assetKey"]["path"]): node for node in page.ask(ASSETS)["assetNodes"]}
        status = nodes["serving/publication"]["freshnessStatusInfo"]["freshnessStatus"]
        if status == "HEALTHY":
            return
        assert (status, time.monotonic() < deadline) == ("UNKNOWN", True)
        time.sleep(2)


def test_a_single_asset_can_be_materialized(page: Page, run_id: str) -> None:
    mart = page.launch("__ASSET_JOB", "marts/accounts", "marts/months")
    raw = page.launch("__ASSET_JOB", "raw_files/tickets")
    assert page.wait(mart, raw) == ["SUCCESS", "SUCCESS"]


def test_past_days_are_rebuilt_by_a_backfill(page: Page, run_id: str) -> None:
    days = ["2023-09-01", "2023-09-02"]
    wanted = {"partitionNames": days, "assetSelection": [{"path": ["replays", "customer_360"]}]}
    launched = page.ask(BACKFILL, p=wanted)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    files = [page.home.path / "replays" / f"{day}.duckdb" for day in days]
    deadline = time.monotonic() + 300
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, files
        time.sleep(1)
    (accounts,) = page.home.ask("select max(as_of_date)::varchar as day from marts.accounts", files[1])
    assert accounts["day"] == days[1]


def test_the_schedule_and_the_sensors_are_on_and_can_be_switched(page: Page) -> None:
    schedule = {"s": {**REPOSITORY, "scheduleName": "daily"}}
    found = page.ask(
        "query($s: ScheduleSelector!) { scheduleOrError(scheduleSelector: $s) { ... on Schedule {"
        " cronSchedule scheduleState { id status } } } }",
        **schedule,
    )["scheduleOrError"]
    assert (found["cronSchedule"], found["scheduleState"]["status"]) == ("0 5 * * *", "RUNNING")
    state = "... on ScheduleStateResult { scheduleState { status } }"
    off = page.ask(
        f"mutation($i: String!) {{ stopRunningSchedule(id: $i) {{ {state} }} }}", i=found["scheduleState"]["id"]
    )
    on = page.ask(
        f"mutation($s: ScheduleSelector!) {{ startSchedule(scheduleSelector: $s) {{ {state} }} }}", **schedule
    )
    assert off["stopRunningSchedule"]["scheduleState"]["status"] == "STOPPED"
    assert on["startSchedule"]["scheduleState"]["status"] == "RUNNING"
    for name in ("new_files", "failed_run"):
        sensor = {"s": {**REPOSITORY, "sensorName": name}}
        state = page.ask(
            "query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor { id sensorState { status } } } }",
            **sensor,
        )["sensorOrError"]
        assert state["sensorState"]["status"] == "RUNNING"
        off = page.ask(
            "mutation($i: String!) { stopSensor(id: $i) { ... on StopSensorMutationResult { instigationState { status } } } }",
            i=state["id"],
        )
        assert off["stopSensor"]["instigationState"]["status"] == "STOPPED"
        on = page.ask(
            "mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { ... on Sensor { sensorState { status } } } }",
            **sensor,
        )
        assert on["startSensor"]["sensorState"]["status"] == "RUNNING"
