"""`tenure model` as a user types it, on a home with three trainings."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which version 1 was refused, 2 is the champion and 3 a challenger."""
    from ml import registry

    spec = importlib.util.spec_from_file_location("ml_conftest", PROJECT / "tests" / "ml" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    data = helpers.small_dataset()
    model = helpers.trained().model
    home = tmp_path_factory.mktemp("trained")
    for number, state in enumerate(("refused", "champion", "challenger")):
        registry.connect(home).register(
            helpers.record(data, model, state, f"d{number}"), now=datetime(2026, 11, 1 + number)
        )
    return home


@pytest.fixture
def run_on(new_home: Callable[..., Any]) -> Callable[..., Any]:
    """The command on the built-in configuration and a home; `uri` names the MLflow server."""

    def make(home: Path, uri: str | None = None) -> Any:
        changes = [("clock: data", f"clock: data\nmodel: {{tracking_uri: '{uri}'}}")] if uri else []
        return replace(new_home("models", *changes, model=True), path=home)

    return make


@pytest.fixture
def company(trained: Path, tmp_path: Path, run_on: Callable[[Path], Any]) -> Any:
    shutil.copytree(trained, tmp_path / "home")
    return run_on(tmp_path / "home")


def test_the_list_says_which_is_used_and_why(company: Any) -> None:
    document = company.must("model", "list")
    assert [(v["version"], v["state"]) for v in document["versions"]] == [
        (3, "challenger"),
        (2, "champion"),
        (1, "refused"),
    ]
    assert document["versions"][0]["metrics"] == {"roc_auc": 0.81, "log_loss": 0.41}
    assert company.must("model", "card", "challenger")["card"].startswith("# Version 3")
    answer = company.run("model", "list")
    assert answer.code == 0
    assert "It was decided: refused." in answer.out
    assert "Version 3 is a challenger:" in answer.out


@pytest.mark.slow
def test_promoting_and_rolling_back_changes_the_champion_and_counts(company: Any) -> None:
    done = company.must("model", "promote", "challenger", "--reason", "newer")
    assert (done["status"], done["changed"], done["champion"], done["before"]) == ("promoted", 1, 3, 2)
    again = company.must("model", "promote", "3")
    assert (again["status"], again["changed"]) == ("unchanged", 0)
    back = company.must("model", "rollback")
    assert (back["status"], back["champion"], back["before"]) == ("rolled_back", 2, 3)
    answer = company.run("model", "rollback")
    assert (answer.code, answer.out) == (2, "")
    assert "first champion" in answer.err


@pytest.mark.slow
def test_a_refused_version_ends_with_3_unless_forced(company: Any) -> None:
    answer = company.run("model", "promote", "1", "--json")
    assert answer.code == 3
    assert "It was decided: refused." in answer.document["error"]
    assert company.must("model", "promote", "1", "--force")["champion"] == 1


def test_the_card_is_markdown_in_a_pipe_and_an_unknown_one_names_those_that_exist(company: Any) -> None:
    assert company.run("model", "card").out == "# Version 2\n\nWho will leave.\n"
    answer = company.run("model", "card", "9")
    assert answer.code == 2
    assert "There is no version 9; there are 3, 2, 1." in answer.err


def test_before_any_training_it_says_what_to_do(tmp_path: Path, run_on: Callable[[Path], Any]) -> None:
    company = run_on(tmp_path / "new")
    assert company.must("model", "list")["versions"] == []
    assert " run\n" in company.run("model", "list").out
    answer = company.run("model", "card")
    assert answer.code == 2
    assert "No model has been trained yet" in answer.err


def test_a_dead_server_ends_with_1_and_no_credentials(tmp_path: Path, run_on: Callable[..., Any]) -> None:
    company = run_on(tmp_path / "new", "http://robot:hush@127.0.0.1:9")
    begun = time.monotonic()
    answer = company.run("model", "list", "--json")
    assert answer.code == 1
    assert answer.document["error"] == "MLflow at http://127.0.0.1:9 could not list the versions: it does not answer."
    assert "hush" not in answer.out + answer.err
    assert time.monotonic() - begun < 30
