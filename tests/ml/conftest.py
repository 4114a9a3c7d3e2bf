"""What the tests of the model share: a small trained model and everything that is recorded about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml import recipe
from ml.dataset import Dataset, assemble
from ml.gate import Check, Decision
from ml.model import ChurnModel
from ml.registry import DataSummary, Key, Training, Trial

PNG = b"\x89PNG\r\n\x1a\n"


def small_dataset(rows: int = 400, seed: int = 3) -> Dataset:
    """Rows with one number that matters, one that does not, and a plan."""
    random = np.random.default_rng(seed)
    idle = random.exponential(20, rows)
    plan = random.choice(["basic", "pro"], rows)
    left = random.random(rows) < 1 / (1 + np.exp(2.5 - idle / 15 - (plan == "basic")))
    frame = pd.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(rows)],
            "days_since_seen": np.where(random.random(rows) < 0.1, np.nan, idle),
            "noise": random.normal(size=rows),
            "plan": plan,
            "left": left.astype(float),
        }
    )
    return assemble(frame, entity="account_id", label="left")


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return small_dataset()


@pytest.fixture(scope="session")
def model(dataset: Dataset) -> ChurnModel:
    return recipe.fit(dataset, embargo_days=0, seed=7, threads=1).model


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    """`small_dataset`, for tests."""
    return small_dataset


@pytest.fixture(scope="session")
def training(dataset: Dataset, model: ChurnModel) -> Callable[..., Training]:
    """Makes a training; the decision's state, the data's hash and any other field can be chosen."""

    def make(state: str = "champion", data_hash: str = "d1", **changes: Any) -> Training:
        return replace(record(dataset, model, state, data_hash), **changes)

    return make


def trained() -> Training:
    """A training, for a process of its own."""
    data = small_dataset()
    return record(data, recipe.fit(data, embargo_days=0, seed=7, threads=1).model)


def record(dataset: Dataset, model: ChurnModel, state: str = "champion", data_hash: str = "d1") -> Training:
    """Everything about a training that never was."""
    reason = f"It was decided: {state}."
    return Training(
        model=model,
        key=Key(data_hash, "r1", 7),
        data=DataSummary("ftr_churn_training", 400, 400, 90, "2024-01-01", "2024-03-01"),
        decision=Decision(state == "champion", state, (reason,), (Check("ranks", True, reason),)),  # type: ignore[arg-type]
        metrics={"roc_auc": {"value": 0.81, "low": 0.75, "high": 0.86}, "ece": {"value": 0.02}, "nothing": None},
        headline={"roc_auc": 0.81, "log_loss": 0.41, "pr_auc": None},
        card=lambda number: f"# Version {number}\n\nWho will leave.\n",
        example=dataset.features.head(5),
        params={"recipe": {"depth": 3, "eta": 0.05}, "capacity": 50},
        plots={"roc": PNG, "lift": PNG},
        documents={"profile": {"rows": 400}, "evaluation": {"roc_auc": np.float64(0.81)}},
        trials=(Trial({"depth": 2}, {"log_loss": 0.42}), Trial({"depth": 5}, {"log_loss": 0.43})),
        git_commit="0123abcd",
        manifest_hash="feed",
    )
