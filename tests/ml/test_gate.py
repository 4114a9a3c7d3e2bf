"""The gate: each rule alone, and what becomes of a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from core.settings import GateConfig
from ml import evaluate, gate
from ml.dataset import Dataset
from ml.gate import Evidence, Gap, judge

GOOD = Evidence(
    events=120,
    roc_auc=0.81,
    roc_auc_low=0.77,
    log_loss=0.40,
    prior_log_loss=0.47,
    ece=0.021,
    ece_noise=0.015,
    regression=Gap(-0.006, -0.011, -0.002),
    recency_roc_auc=0.70,
)


def test_a_good_model_becomes_champion_and_says_why() -> None:
    decision = judge(GOOD, GateConfig())
    assert (decision.promoted, decision.state) == (True, "champion")
    assert "ROC AUC 0.810 (at least 0.770 with 97.5 % confidence) forward in time, above 0.55." in decision.reasons
    assert json.loads(json.dumps(decision.document()))["promoted"] is True


@pytest.mark.parametrize(
    ("change", "rule", "words"),
    [
        ({"roc_auc": 0.53, "roc_auc_low": 0.48, "recency_roc_auc": None}, "ranks", "below the floor of 0.55"),
        ({"roc_auc": 0.58, "roc_auc_low": 0.47, "recency_roc_auc": None}, "ranks", "may be luck"),
        ({"roc_auc": 0.996, "leak_suspects": ("ended_at", "plan")}, "believable", "look first at ended_at, plan"),
        ({"log_loss": 0.48}, "beats_prior", "no more than the overall share"),
        ({"ece": 0.09}, "calibrated", "0.0750 above the 0.0150 that luck alone makes"),
        ({"regression": Gap(0.004, 0.001, 0.008)}, "beats_regression", "+0.0040 (+0.0010 to +0.0080)"),
        ({"regression": Gap(0.03, -0.001, 0.06)}, "beats_regression", "does not beat a plain model"),
        ({"regression": Gap(0.0, -0.003, 0.003)}, "beats_regression", "does not beat a plain model"),
        ({"recency_roc_auc": 0.82}, "beats_recency", "no better than the simplest rule"),
        ({"roc_auc": None, "log_loss": None}, "measured", "nothing could be measured"),
    ],
)
def test_each_floor_refuses_alone(change: dict[str, object], rule: str, words: str) -> None:
    decision = judge(replace(GOOD, **change), GateConfig())  # type: ignore[arg-type]
    assert (decision.promoted, decision.state) == (False, "refused")
    assert [check.rule for check in decision.checks if not check.passed] == [rule]
    assert len(decision.reasons) == 1
    assert words in decision.reasons[0]


def test_a_challenger_that_is_worse_than_the_champion_waits() -> None:
    decision = judge(replace(GOOD, champion=Gap(0.01, 0.004, 0.016)), GateConfig())
    assert (decision.promoted, decision.state) == (False, "challenger")
    assert decision.reasons == (
        "Worse than the model in use: log loss +0.0100 (+0.0040 to +0.0160) against the champion on the same newest "
        "matured window.",
    )


def test_a_challenger_within_luck_of_the_champion_takes_over() -> None:
    assert judge(replace(GOOD, champion=Gap(0.001, -0.002, 0.004)), GateConfig()).state == "champion"


def test_limits_come_from_the_settings() -> None:
    assert judge(GOOD, GateConfig(min_roc_auc=0.82)).state == "refused"
    assert judge(GOOD, GateConfig(min_log_loss_gain=0.1)).state == "refused"
    assert judge(GOOD, GateConfig(max_ece_above_noise=0.005)).state == "refused"


@pytest.mark.parametrize("seed", range(5))
def test_scores_that_mean_nothing_are_refused(make_dataset: Callable[..., Dataset], seed: int) -> None:
    data = make_dataset(600, seed)
    random = np.random.default_rng(seed)
    chance = 1 / (1 + np.exp(-random.normal(-1.5, 0.5, len(data))))
    prior = np.full(len(data), data.labels.mean())
    judged = [evaluate.evaluate(data, p, capacity=50, seed=1, resamples=50) for p in (chance, prior)]
    assert judge(gate.evidence(judged[0], prior=judged[1]), GateConfig()).state == "refused"


def test_evidence_is_taken_from_evaluations(make_dataset: Callable[..., Dataset]) -> None:
    data = make_dataset(600, 1)
    idle = np.nan_to_num(data.features["days_since_seen"].to_numpy(dtype=np.float64), nan=20.0)
    basic = (data.features["plan"] == "basic").to_numpy(dtype=np.float64)
    truth = 1 / (1 + np.exp(2.5 - idle / 15 - basic))
    prior = np.full(len(data), data.labels.mean())
    judged = [evaluate.evaluate(data, p, capacity=50, seed=1, resamples=50) for p in (truth, prior)]
    gap = evaluate.compare(data, truth, prior, capacity=50, seed=1, resamples=50)["log_loss"]
    found = gate.evidence(judged[0], prior=judged[1], against_regression=gap)
    assert found.regression is not None
    assert found.regression.value < 0
    assert judge(found, GateConfig()).promoted
