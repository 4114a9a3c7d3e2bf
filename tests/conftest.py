"""What all tests share: the command as a user runs it, a network that refuses and tells, and one small company.

The company is founded, extracted, built, checked and published once per session, by the ordinary command; tests that only
look share it, tests that change something copy it or make their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from core import settings, telemetry, warehouse
from orchestration import dbt

PROJECT = Path(__file__).parents[1]
SHARED = PROJECT.parent / "shared" / "data"

LONGEST = ("test_scores.py", "test_daily_life.py", "test_reconciliation.py", "test_first_run.py")

REFUSE = """
import os, socket

def refuse(kind, real):
    def refused(*args, **kwargs):
        address = args[-1] if args else kwargs
        # psutil-like tools and Dagster's own processes may talk to themselves through local sockets.
        if isinstance(address, (str, bytes)):
            return real(*args, **kwargs)
        with open(os.environ["REFUSED_LOG"], "a") as log:
            log.write(f"{kind} {args!r}\\n")
        raise OSError("the network is refused")
    return refused

socket.socket.connect = refuse("connect", socket.socket.connect)
socket.socket.connect_ex = refuse("connect_ex", socket.socket.connect_ex)
socket.getaddrinfo = refuse("getaddrinfo", lambda *a, **k: [])
socket.gethostbyname = refuse("gethostbyname", lambda *a, **k: "")
"""


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Home:
    """A folder of state and a configuration, and the command on them."""

    path: Path
    config: Path
    env: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "orchestration", "--config", str(self.config), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("TENURE_", "DBT_", "DAGSTER_"))
        }
        return {**inherited, "TENURE_HOME": str(self.path), "NO_COLOR": "1", "COLUMNS": "200", **self.env}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, running."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout: float = 300) -> Answer:
        """The command, to its end."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def must(self, *arguments: str) -> Any:
        """The command with --json, which has to succeed; its document."""
        answer = self.run(*arguments, "--json")
        assert answer.code == 0, f"{arguments} ended with {answer.code}\n{answer.out}\n{answer.err}"
        return answer.document

    def ask(self, sql: str, path: Path | None = None) -> list[dict[str, Any]]:
        """Rows of the published copy."""
        with warehouse.warehouse(path or self.path / "serving.duckdb", read_only=True) as connection:
            return warehouse.rows(connection, sql)

    def scores(self) -> list[dict[str, Any]]:
        """The published scores, in the order of accounts."""
        return self.ask("select * from reverse_etl.customer_scores order by account_id")


MOMENTS = {
    "marts.source_freshness": ("newest_load_at",),
    "reverse_etl.customer_scores": ("scored_at", "changed_at", "model_version", "row_hash"),
    "reverse_etl.customer_scores_history": ("scored_at", "changed_at", "model_version", "row_hash"),
    "reverse_etl.sync_files_scores": ("scored_at", "score_model_version"),
    "reverse_etl.sync_hubspot_companies": ("tenure_scored_at", "tenure_score_model_version"),
}
"""What the wall clock writes, and the number of the model's version, which goes on counting when a registration is killed."""


def published_rows(path: Path) -> dict[str, tuple[int, str]]:
    """Of each table of marts and scores: how many rows, and a fingerprint that does not depend on their order.

    Moments of the wall clock differ from home to home, and are left out.
    """
    with warehouse.warehouse(path, read_only=True) as connection:
        tables = warehouse.rows(
            connection,
            "select schema_name || '.' || table_name as name from duckdb_tables()"
            " where schema_name in ('marts', 'reverse_etl') order by name",
        )
        found = {}
        for row in tables:
            name = row["name"]
            without = f" exclude ({', '.join(MOMENTS[name])})" if name in MOMENTS else ""
            counted = warehouse.rows(
                connection,
                "select count(*) as n, cast(coalesce(sum(hash(t)), 0) as varchar) as h"
                f" from (select *{without} from {name}) as t",
            )[0]
            found[name] = (counted["n"], counted["h"])
        return found


@pytest.fixture(scope="session", autouse=True)
def no_telemetry() -> None:
    telemetry.switch_off()


@dataclass
class S3:
    """Somebody else's S3 (moto) behind real HTTP, and Amazon's own client to fill it. `bucket` is this test's own."""

    endpoint: str
    client: Any
    bucket: str = ""

    def put(self, key: str, content: bytes, **more: Any) -> str:
        """Write an object; its URL."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content, **more)
        return f"s3://{self.bucket}/{key}"

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def reached(self, **more: Any) -> dict[str, Any]:
        """The settings of a source that reads it."""
        keys = {"access_key_id": "AKIATEST", "secret_access_key": "secret"}
        return {"endpoint": self.endpoint, "region": "us-east-1", **(keys if not more else {}), **more}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """The server, for as long as the tests run."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="secret",
    )
    yield S3(endpoint, client)
    server.stop()


@pytest.fixture
def s3(s3_server: S3) -> S3:
    """The server with a new bucket."""
    bucket = f"company-{uuid.uuid4().hex[:12]}"
    s3_server.client.create_bucket(Bucket=bucket)
    return replace(s3_server, bucket=bucket)


@pytest.fixture(scope="session")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process whose every connection is refused and written to REFUSED_LOG."""
    folder = tmp_path_factory.mktemp("refuse")
    (folder / "sitecustomize.py").write_text(REFUSE, encoding="utf-8")
    log = folder / "refused.log"
    log.touch()
    return {"PYTHONPATH": str(folder), "REFUSED_LOG": str(log)}


NO_MODEL = "model: {enabled: false}\n"
"""Features and scores take a run several seconds: homes of tests that are not about them do without."""


@pytest.fixture(scope="session")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """dbt's target folder after parsing the models for the built-in configuration, with or without the churn model.

    Parsing takes seconds; it is done when first asked for.
    """
    found: dict[bool, Path] = {}

    def parse(with_model: bool) -> Path:
        if with_model not in found:
            folder = tmp_path_factory.mktemp("parsed")
            text = (PROJECT / "config" / "tenure.yml").read_text(encoding="utf-8")
            (folder / "tenure.yml").write_text(text + ("" if with_model else f"\n{NO_MODEL}"), encoding="utf-8")
            found[with_model] = dbt.manifest(settings.load(folder / "tenure.yml", folder / "var")).parent
        return found[with_model]

    return parse


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory, parsed: Callable[[bool], Path]) -> Callable[..., Home]:
    """Makes a home with the built-in configuration for a small company; `changes` are (old, new) texts in it.

    With `model` it has features and scores as well.
    """

    def make(
        name: str,
        *changes: tuple[str, str],
        accounts: int = 150,
        months: int = 8,
        model: bool = False,
        **env: str,
    ) -> Home:
        folder = tmp_path_factory.mktemp(name)
        text = (PROJECT / "config" / "tenure.yml").read_text(encoding="utf-8")
        for old, new in (
            (
                "sandbox: {accounts: 2000, months: 24, seed: 7}",
                f"sandbox: {{accounts: {accounts}, months: {months}, seed: 7}}",
            ),
            *changes,
        ):
            assert old in text, f"{old!r} is not in config/tenure.yml"
            text = text.replace(old, new)
        config = folder / "tenure.yml"
        config.write_text(text if model else f"{text}\n{NO_MODEL}", encoding="utf-8")
        shutil.copytree(parsed(model), folder / "var" / "dbt" / "target")
        return Home(folder / "var", config, env)

    return make


@pytest.fixture(scope="session")
def built_in_source() -> Callable[[str], str]:
    """The block of a source in the built-in configuration, for a home that has another one in its place."""
    text = (PROJECT / "config" / "tenure.yml").read_text(encoding="utf-8")

    def block(name: str) -> str:
        (found,) = re.findall(rf"^  {name}:\n(?:    .*\n|\n)+", text, re.MULTILINE)
        return str(found)

    return block


@dataclass(frozen=True)
class World:
    """The session's company: its home, and what the first run said."""

    home: Home
    first: dict[str, Any]
    first_rows: dict[str, tuple[int, str]]


@pytest.fixture(scope="session")
def world(new_home: Callable[..., Home], refused: dict[str, str]) -> World:
    """A company after its first run, which ran with the network refused. Do not change it."""
    home = new_home("world", **refused)
    first = home.must("run")
    return World(home, first, published_rows(home.path / "serving.duckdb"))


GATE = ("churn:\n", "model: {min_churn_events: 10, gate: {max_ece_above_noise: 0.5}}\n\nchurn:\n")
"""A small company: its test window is too small for the usual demands."""

READER = """
import json, sys, time
import duckdb
path, stop = sys.argv[1], sys.argv[2]
import os
seen, opens, mixed = [], 0, []
while not os.path.exists(stop):
    connection = duckdb.connect(path, read_only=True)
    (publication,) = connection.execute("select publication_id from publication").fetchone()
    runs = connection.execute("select distinct as_of_date from marts.accounts").fetchall()
    days = connection.execute("select as_of_at::date from publication").fetchall()
    again = connection.execute("select publication_id from publication").fetchone()[0]
    if again != publication or runs != days:
        mixed.append([str(publication), str(again), str(runs), str(days)])
    if publication not in seen:
        seen.append(publication)
    opens += 1
    connection.close()
    time.sleep(0.1)
print(json.dumps({"seen": seen, "opens": opens, "mixed": mixed}))
"""


@pytest.fixture(scope="session")
def lived(new_home: Callable[..., Home], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A company with a model through four runs: one, one with nothing new, the same built again, and eight days later; a second
    process reads the published copy all the time. What each run said, what was published, and the scores. Do not change it."""
    home = new_home("lived", GATE, model=True, accounts=400, months=18)
    told: dict[str, Any] = {"home": home}
    stop = tmp_path_factory.mktemp("reader") / "stop"

    def live(name: str, *options: str) -> None:
        told[name] = home.must("run", *options)
        told[f"{name}_rows"] = published_rows(home.path / "serving.duckdb")
        told[f"{name}_scores"] = home.scores()

    live("first")
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(home.path / "serving.duckdb"), str(stop)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        live("again")
        live("second", "--rebuild")
        told["advanced"] = home.must("sandbox", "advance", "--days", "8")
        live("third")
    finally:
        stop.touch()
        told["reader"] = reader.communicate(timeout=60)
    return told


def example_home(name: str, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home on one of the examples; missing data is an error in CI and a skip elsewhere."""
    data = SHARED / name
    if not data.is_dir():
        reason = f"{data} is missing"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    config = PROJECT / "examples" / name / "tenure.yml"
    return Home(tmp_path_factory.mktemp(name), config, {"TENURE_DATA_DIR": str(data)})


@pytest.fixture(scope="session")
def published_rows_of() -> Callable[[Path], dict[str, tuple[int, str]]]:
    """`published_rows`, for tests."""
    return published_rows


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that both workers end at about the same time."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Two workers: the tests of one file stay together, and so do all that share one of the session's companies."""
    shared = [name for name in ("lived", "world") if name in getattr(item, "fixturenames", ())]
    item.add_marker(pytest.mark.xdist_group(shared[0] if shared else str(item.path)))
