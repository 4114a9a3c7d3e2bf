"""`tenure train --table` and `tenure score --table`, as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Answer]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command runs, with a table of 300 customers in it."""
    path = tmp_path_factory.mktemp("table_cli")
    random = np.random.default_rng(2)
    months = random.integers(1, 60, 300)
    left = random.random(300) < 1 / (1 + np.exp(0.1 * (months - 20)))
    table = pd.DataFrame(
        {"customer_id": np.arange(300), "months": months, "fee": random.uniform(1, 9, 300), "churned": left.astype(int)}
    )
    table["cancel_reason"] = np.where(left, "price", None)
    table.to_parquet(path / "customers.parquet", index=False)
    table.drop(columns="churned").head(20).to_csv(path / "new.csv", index=False)
    table.head(10).to_csv(path / "ten.csv", index=False)
    return path


@pytest.fixture(scope="module")
def tenure(folder: Path, refused: dict[str, str]) -> Command:
    """The command, with the network refused."""

    def run(*arguments: str, home: str = "home") -> Answer:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TENURE_")}
        env = {**inherited, **refused, "TENURE_HOME": str(folder / home), "NO_COLOR": "1", "COLUMNS": "160"}
        env["PYTHONPATH"] = os.pathsep.join([refused["PYTHONPATH"], str(PROJECT)])
        done = subprocess.run(
            [sys.executable, "-m", "orchestration", *arguments],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.mark.slow
def test_a_table_is_trained_on_and_another_is_scored(tenure: Command, folder: Path, refused: dict[str, str]) -> None:
    trained = tenure("train", "--table", "customers.parquet", "--label", "churned", "--id", "customer_id")
    assert trained.code == 0, trained.err
    for words in ("ROC AUC", "logistic regression", "months", "Left out as a leak: cancel_reason is filled only for"):
        assert words in trained.out
    assert "tenure score --table NEW_FILE --id customer_id --out scores.parquet" in trained.out
    assert "learning from all rows" in trained.err
    scored = tenure("score", "--table", "new.csv", "--id", "customer_id", "--out", "scores.parquet", "--json")
    assert scored.code == 0, scored.err
    assert scored.document["rows"] == 20
    scores = pd.read_parquet(folder / "scores.parquet")
    assert scores["churn_probability"].between(0, 1).all()
    assert list(folder.glob(".scores*")) == []
    assert "cancel_reason" not in " ".join(scores["reason_1_text"].dropna())
    assert Path(refused["REFUSED_LOG"]).read_text(encoding="utf-8") == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "--table", "none.csv", "--label", "a", "--id", "b"), "There is no file none.csv."),
        (
            ("train", "--table", "ten.csv", "--label", "churned", "--id", "customer_id"),
            "ten.csv has 10 rows with a label",
        ),
        (("score", "--table", "new.csv", "--id", "customer_id", "--out", "s.csv"), "No table has been trained on in"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(tenure: Command, arguments: tuple[str, ...], sentence: str) -> None:
    answer = tenure(*arguments, "--json", home="empty")
    assert answer.code == 2
    assert answer.document["status"] == "error"
    assert answer.document["error"].startswith(sentence)
    assert "Traceback" not in answer.err
