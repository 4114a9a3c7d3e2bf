"""The registry against a real MLflow: in a folder, killed between any two steps, behind a server, and when nothing works."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from core.errors import Refused, TenureError, UserError
from ml import registry
from ml.dataset import Dataset
from ml.model import ChurnModel
from ml.registry import Key, Registry, Training, connect, flatten, safe

NOW = datetime(2026, 11, 22, 8, 0)
LATER = datetime(2026, 11, 29, 8, 0)
STEPS = ("run", "trials", "model", "plots", "version", "card", "complete", "alias")

MakeTraining = Callable[..., Training]


class Killed(BaseException):
    """Stands for a kill: nothing catches it on its way out."""


@pytest.fixture(scope="module")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose store exists, so that each test need not create the schema."""
    home = tmp_path_factory.mktemp("home")
    connect(home).find(Key("none", "none", 0))
    return home


@pytest.fixture
def home(empty_home: Path, tmp_path: Path) -> Path:
    shutil.copytree(empty_home, tmp_path / "home")
    return tmp_path / "home"


def runs_of(store: Registry) -> list[str]:
    return sorted(run.info.status for run in store._client.search_runs([store._experiment], max_results=100))


def test_a_training_is_recorded_whole(home: Path, training: MakeTraining, model: ChurnModel, dataset: Dataset) -> None:
    store = connect(home)
    version = store.register(training(), now=NOW, run_id="run-1")
    assert (version.number, version.state, version.headline) == (1, "champion", {"roc_auc": 0.81, "log_loss": 0.41})
    run = store._client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"roc_auc": 0.81, "roc_auc.low": 0.75, "roc_auc.high": 0.86, "ece": 0.02}
    assert run.data.params == {"recipe.depth": "3", "recipe.eta": "0.05", "capacity": "50", "seed": "7"}
    assert run.data.tags["mlflow.source.git.commit"] == "0123abcd"
    assert run.data.tags["dbt_manifest_hash"] == "feed"
    assert run.inputs.dataset_inputs[0].dataset.digest == "d1"
    assert '"rows": 400' in run.inputs.dataset_inputs[0].dataset.profile
    children = store._client.search_runs([store._experiment], f"tags.`mlflow.parentRunId` = '{version.run_id}'")
    assert sorted(child.data.metrics["log_loss"] for child in children) == [0.42, 0.43]
    loaded = store.load(version)
    assert np.array_equal(loaded.model.probability(dataset.features), model.probability(dataset.features))
    assert loaded.documents == {"profile": {"rows": 400}, "evaluation": {"roc_auc": 0.81}}
    assert store.card(version).startswith("# Version 1")
    assert sorted(store.plots(version)) == ["lift", "roc"]


def test_no_file_of_a_model_is_a_pickle(home: Path, training: MakeTraining) -> None:
    store = connect(home)
    with store._files(store.register(training(), now=NOW)) as folder:
        kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
        assert kinds <= {"", ".json", ".ubj", ".yaml", ".txt", ".md", ".png"}
        assert "account" not in (folder / "input_example.json").read_text(encoding="utf-8")


def test_mlflow_itself_loads_and_serves_the_model(
    home: Path, training: MakeTraining, model: ChurnModel, dataset: Dataset
) -> None:
    import mlflow.pyfunc

    store = connect(home)
    with store._files(store.register(training(), now=NOW)) as folder:
        served = mlflow.pyfunc.load_model(str(folder))
        rows = dataset.features.astype({"days_since_seen": float, "noise": float, "plan": object})
        answer = served.predict(rows)
    assert np.allclose(answer["churn_probability"], model.probability(dataset.features), atol=1e-12)


def test_identifiers_do_not_get_into_the_example(home: Path, training: MakeTraining, dataset: Dataset) -> None:
    with_id = dataset.features.head(2).assign(account_id=["a", "b"])
    with pytest.raises(ValueError, match="account_id"):
        connect(home).register(training(example=with_id), now=NOW)
    assert connect(home).versions() == ()


def test_the_same_training_is_registered_once(home: Path, training: MakeTraining) -> None:
    store = connect(home)
    first = store.register(training(), now=NOW)
    assert store.register(training(), now=LATER) == first
    assert connect(home).find(Key("d1", "r1", 7)) == first
    assert connect(home).find(Key("d1", "r1", 8)) is None
    assert len(store.versions()) == 1


@pytest.mark.parametrize("step", STEPS)
def test_killed_before_any_step_the_next_run_ends_the_same(home: Path, training: MakeTraining, step: str) -> None:
    def kill(now: str) -> None:
        if now == step:
            raise Killed

    store = connect(home)
    champion = store.register(training(data_hash="d0"), now=NOW)
    with pytest.raises(Killed):
        store.register(training(), now=LATER, on_step=kill)
    after = connect(home)
    current = after.champion()
    assert current is not None
    assert current.number == champion.number, "the champion stays until all is there"
    version = after.register(training(), now=LATER)
    assert (version.state, version.former_champion) == ("champion", champion.number)
    assert len(after.versions()) == 2
    assert set(runs_of(after)) == {"FINISHED"}
    kept = {path.name for path in (home / "mlflow" / "artifacts" / "models").iterdir()}
    assert kept == {champion.model_id, version.model_id}, "nothing half made stays on the disk"
    assert after.register(training(), now=LATER) == version


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_a_store_that_goes_on(home: Path, training: MakeTraining) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from datetime import datetime
from pathlib import Path
import conftest
from ml import registry
made = conftest.trained()
registry.connect(Path({str(home)!r})).register(
    made, now=datetime(2026, 11, 22), on_step=lambda step: os.kill(os.getpid(), 9) if step == "card" else None)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    store = connect(home)
    assert store.versions() == ()
    assert store.register(training(), now=NOW).state == "champion"


def test_refused_and_challenging_models_are_kept_and_the_champion_stays(home: Path, training: MakeTraining) -> None:
    store = connect(home)
    refused = store.register(training("refused", "d0"), now=NOW)
    assert store.champion() is None
    assert (refused.state, refused.reasons) == ("refused", ("It was decided: refused.",))
    store.register(training("champion", "d1"), now=NOW)
    store.register(training("challenger", "d2"), now=NOW)
    assert [(v.number, v.state) for v in store.versions()] == [(3, "challenger"), (2, "champion"), (1, "refused")]
    assert store.version("challenger").number == 3
    assert store.version("v2") == store.version("champion") == store.version(2)
    assert store.version("latest").number == 3


def test_promote_and_roll_back_remember_who_was_champion(home: Path, training: MakeTraining) -> None:
    store = connect(home)
    for number in ("d1", "d2", "d3"):
        store.register(training(data_hash=number), now=NOW)
    gone, back = store.rollback(reason="calls went wrong", now=LATER)
    assert (gone.number, gone.state, back.number, back.state) == (3, "retired", 2, "champion")
    assert gone.tags["rolled_back_reason"] == "calls went wrong"
    assert store.rollback(reason="again", now=LATER)[1].number == 1
    with pytest.raises(UserError, match="first champion"):
        store.rollback(reason="once more", now=LATER)
    assert store.promote(3, reason="it was right", now=LATER).state == "champion"
    assert store.rollback(reason="no", now=LATER)[1].number == 1
    assert connect(home).find(Key("d3", "r1", 7)) is not None
    champion = connect(home).champion()
    assert champion is not None
    assert champion.number == 1, "looking for a training does not undo a rollback"


def test_a_refused_model_is_promoted_only_by_force(home: Path, training: MakeTraining) -> None:
    store = connect(home)
    store.register(training("refused"), now=NOW)
    with pytest.raises(Refused, match="It was decided: refused"):
        store.promote(1, reason="trust me", now=NOW)
    assert store.promote(1, reason="trust me", now=NOW, force=True).state == "champion"


def test_unknown_versions_are_told_with_those_that_exist(home: Path, training: MakeTraining) -> None:
    store = connect(home)
    with pytest.raises(UserError, match="No model has been trained yet"):
        store.version("champion")
    store.register(training("refused"), now=NOW)
    with pytest.raises(UserError, match="There is no version 9; there are 1"):
        store.version(9)
    with pytest.raises(UserError, match="No version is the champion"):
        store.version("champion")


def test_a_home_that_was_copied_writes_only_to_itself(home: Path, tmp_path: Path, training: MakeTraining) -> None:
    connect(home).register(training(), now=NOW)
    before = sorted(path for path in home.rglob("*") if "mlflow.db" not in path.name)
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    shutil.move(home, tmp_path / "gone")
    store = connect(copy)
    assert store.load(store.version(1)).documents["profile"] == {"rows": 400}
    second = store.register(training(data_hash="d2"), now=LATER)
    assert store.load(second).version.number == 2
    assert not home.exists()
    assert before


@pytest.mark.slow
def test_a_new_home_is_made_without_a_connection_and_in_time(
    tmp_path: Path, refused: dict[str, str], training: MakeTraining
) -> None:
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from datetime import datetime
from pathlib import Path
import conftest
from ml import registry
made = conftest.trained()
for hash in ("first", "second"):
    used = resource.getrusage(resource.RUSAGE_SELF)
    registry.connect(Path({str(tmp_path)!r})).register(
        conftest.replace(made, key=registry.Key(hash, "r", 7)), now=datetime(2026, 11, 22))
    done = resource.getrusage(resource.RUSAGE_SELF)
    sys.stderr.write(f"{{done.ru_utime + done.ru_stime - used.ru_utime - used.ru_stime:.2f}}\\n")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**environment, **refused}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert Path(refused["REFUSED_LOG"]).read_text(encoding="utf-8") == ""
    new, existing = (float(line) for line in done.stderr.split()[-2:])
    assert new < 12
    assert existing < 4


def test_looking_makes_no_store_and_making_one_leaves_nothing_beside_it(tmp_path: Path, empty_home: Path) -> None:
    assert connect(tmp_path).versions() == ()
    assert list(tmp_path.iterdir()) == []
    assert [path.name for path in (empty_home / "mlflow").iterdir()] == ["mlflow.db"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("user", ["", "robot:hush%21@"])
def test_a_dead_server_is_one_sentence_in_seconds(tmp_path: Path, user: str) -> None:
    port = free_port()
    begun = time.monotonic()
    with pytest.raises(TenureError, match="does not answer") as caught:
        connect(tmp_path, SecretStr(f"http://{user}127.0.0.1:{port}")).find(Key("d", "r", 7))
    assert time.monotonic() - begun < 15
    told = f"{caught.value.message} {caught.value.hint}"
    assert f"http://127.0.0.1:{port}" in told
    assert "hush" not in told
    assert "robot" not in told


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "ftp://user:hush@host/x", "http://", "sqlite:x.db"])
def test_an_address_that_mlflow_cannot_use_is_refused_at_once(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UserError) as caught:
        connect(tmp_path, SecretStr(uri))
    assert "hush" not in caught.value.message


def test_something_that_is_not_mlflow_is_said_to_be_so(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port := free_port()), "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        with pytest.raises(UserError, match="does not answer like MLflow"):
            connect(tmp_path, SecretStr(f"http://127.0.0.1:{port}")).versions()
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_a_locked_database_is_one_sentence_in_seconds(home: Path) -> None:
    holder = sqlite3.connect(home / "mlflow" / "mlflow.db", isolation_level=None)
    holder.execute("begin immediate")
    begun = time.monotonic()
    with pytest.raises(TenureError, match="another process holds its database"):
        connect(home).find(Key("d", "r", 7))
    assert time.monotonic() - begun < 10
    holder.execute("rollback")
    holder.close()


def test_a_home_that_cannot_hold_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(TenureError, match="could not look for a former training"):
        connect(tmp_path).find(Key("d", "r", 7))


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_text("not a database at all, " * 100, encoding="utf-8")
    with pytest.raises(TenureError, match="not a database"):
        connect(tmp_path).versions()


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_loses_nothing(home: Path, training: MakeTraining) -> None:
    connect(home).register(training(data_hash="d0"), now=NOW)
    size = (home / "mlflow" / "mlflow.db").stat().st_size
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from datetime import datetime
from pathlib import Path
import conftest
from core.errors import TenureError
from ml import registry
made = conftest.trained()
# No file may grow beyond this: what a full disk looks like to a process.
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    registry.connect(Path({str(home)!r})).register(made, now=datetime(2026, 11, 22))
except TenureError as error:
    sys.stderr.write(error.message)
    sys.exit(error.exit_code)
"""
    assert size > 20_000
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    store = connect(home)
    assert [version.number for version in store.versions()] == [1]
    assert store.register(training(), now=LATER).state == "champion"


def wait_for(port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on {port}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server that keeps the files itself."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--workers",
                "1",
                "--backend-store-uri",
                f"sqlite:///{folder}/server.db",
                "--artifacts-destination",
                str(folder / "files"),
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            start_new_session=True,
        )
        try:
            wait_for(port)
            yield f"http://robot:hush@127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 9)
            process.wait()


@pytest.mark.slow
def test_a_server_by_its_address_does_the_same(
    server: str,
    tmp_path: Path,
    training: MakeTraining,
    dataset: Dataset,
    model: ChurnModel,
    capfd: pytest.CaptureFixture[str],
) -> None:
    store = connect(tmp_path, SecretStr(server))
    with pytest.raises(Killed):
        store.register(training(), now=NOW, on_step=lambda step: kill_at(step, "card"))
    version = store.register(training(), now=NOW)
    assert store.register(training(), now=NOW) == version
    loaded = connect(tmp_path / "elsewhere", SecretStr(server)).load(version)
    assert np.array_equal(loaded.model.probability(dataset.features), model.probability(dataset.features))
    store.register(training(data_hash="d2"), now=NOW)
    assert store.rollback(reason="test", now=LATER)[1].number == version.number
    assert store.card(version).startswith("# Version")
    assert "hush" not in repr(store)
    told = capfd.readouterr()
    assert told.out == ""
    assert "hush" not in told.err


def kill_at(now: str, step: str) -> None:
    if now == step:
        raise Killed


def test_nested_numbers_become_flat_names() -> None:
    document = {
        "roc_auc": {"value": 0.8, "low": 0.7},
        "by segment": {"a&b": {"ece": 0.1}},
        "x": None,
        "y": float("nan"),
    }
    assert flatten(document) == {"roc_auc": 0.8, "roc_auc.low": 0.7, "by segment.a_b.ece": 0.1}


def test_credentials_are_cut_out_of_addresses() -> None:
    assert safe("postgresql://u:p@host:5432/db?password=x") == "postgresql://host:5432/db"
    assert registry._scrub("no route to p@ss for u", "http://u:p%40ss@host") == "no route to *** for u"
