"""A whole training judged: what must not pass, does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core import settings
from core.settings import Config
from ml.dataset import Dataset, assemble
from ml.judge import judge

CONFIG = Path(__file__).parents[2] / "config" / "tenure.yml"


def snapshots(accounts: int = 80, months: int = 11) -> pd.DataFrame:
    """Accounts month by month with one number that matters a little, one that does not, and who leaves."""
    random = np.random.default_rng(11)
    dates = pd.date_range("2023-01-01", periods=months, freq="MS")
    rows = accounts * months
    idle = random.exponential(20, rows)
    return pd.DataFrame(
        {
            "account_id": np.tile([f"a{i}" for i in range(accounts)], months),
            "as_of_date": np.repeat(dates, accounts),
            "days_since_seen": idle,
            "noise": random.normal(size=rows),
            "left": (random.random(rows) < 1 / (1 + np.exp(2.5 - idle / 15))).astype(float),
        }
    )


def data(frame: pd.DataFrame) -> Dataset:
    return assemble(frame, entity="account_id", label="left", as_of="as_of_date")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return settings.load(CONFIG, tmp_path_factory.mktemp("home")).config


@pytest.mark.slow
def test_a_column_copied_from_the_label_is_refused_and_named(config: Config) -> None:
    frame = snapshots()
    frame["cancellation_form"] = frame["left"] * 100 + np.random.default_rng(1).normal(size=len(frame))
    found = judge(data(frame), config, directions={}, champion=None)
    assert found.decision.state == "refused"
    assert "look first at cancellation_form" in " ".join(found.decision.reasons)
