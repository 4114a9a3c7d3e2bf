"""Metrics against scikit-learn, intervals, curves, and what is not defined."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from ml import evaluate
from ml.dataset import Dataset, assemble
from ml.split import Fold


def scored(rows: int, seed: int = 0, accounts: int | None = None) -> tuple[Dataset, np.ndarray]:
    random = np.random.default_rng(seed)
    odds = random.normal(size=rows) - 1
    probability = 1 / (1 + np.exp(-odds))
    frame = pd.DataFrame(
        {
            "id": random.integers(0, accounts or rows, rows),
            "day": np.datetime64("2024-01-01") + 30 * random.integers(0, 3, rows),
            "x": odds,
            "days_since": -odds,
            "mrr": random.exponential(100, rows),
            "size": random.choice(["big", "small"], rows),
            "left": (random.random(rows) < probability).astype(int),
        }
    )
    data = assemble(
        frame, entity="id", label="left", as_of="day", amount="mrr", segment="size", features=["x", "days_since"]
    )
    return data, probability


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_metrics_are_those_of_scikit_learn_ties_included(digits: int) -> None:
    data, probability = scored(3000)
    rounded = np.clip(probability.round(digits), 0.01, 0.99)
    found = evaluate.metrics(data.labels, rounded)
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(data.labels, rounded))
    assert found["pr_auc"] == pytest.approx(reference.average_precision_score(data.labels, rounded))
    assert found["log_loss"] == pytest.approx(reference.log_loss(data.labels, rounded))
    assert found["brier"] == pytest.approx(reference.brier_score_loss(data.labels, rounded))


def test_an_evaluation_has_intervals_around_its_values_and_is_json() -> None:
    data, probability = scored(4000, accounts=1000)
    found = evaluate.evaluate(data, probability, capacity=50, seed=1, resamples=100)
    for name, interval in found.metrics.items():
        assert interval.value is not None
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low <= interval.high, name
    auc = found.metrics["roc_auc"]
    assert auc.low < auc.value < auc.high  # type: ignore[operator]
    assert set(found.by_segment) == {"big", "small"}
    assert data.segment is not None
    for name, group in found.by_segment.items():
        part = data.segment == name
        inside = evaluate.metrics(data.labels[part], probability[part])["roc_auc"]
        interval = group.metrics["roc_auc"]
        assert (group.rows, interval.value) == (part.sum(), pytest.approx(inside))
        assert interval.low < interval.value < interval.high  # type: ignore[operator]
        assert interval.high - interval.low > auc.high - auc.low, "fewer rows know less"  # type: ignore[operator]
    json.dumps(asdict(found), allow_nan=False)
    assert found == evaluate.evaluate(data, probability, capacity=50, seed=1, resamples=100)


def test_intervals_by_account_are_wider_when_rows_repeat() -> None:
    data, probability = scored(500)
    many = data.where(np.repeat(np.arange(500), 8))
    once = evaluate.evaluate(data, probability, capacity=50, seed=1).metrics["roc_auc"]
    repeated = evaluate.evaluate(many, np.repeat(probability, 8), capacity=50, seed=1).metrics["roc_auc"]
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.25)  # type: ignore[operator]


def test_a_calibrated_model_stays_at_its_noise_floor_and_a_shifted_one_does_not() -> None:
    data, probability = scored(20_000)
    floor = evaluate.noise_floor(probability, seed=1)
    assert floor.low <= evaluate.metrics(data.labels, probability)["ece"] <= floor.high * 1.3  # type: ignore[operator]
    assert evaluate.metrics(data.labels, probability * 0.8)["ece"] > 3 * floor.high  # type: ignore[operator]


def test_dates_whose_windows_overlap_are_not_more_proof() -> None:
    _, probability = scored(1000)
    once = evaluate.noise_floor(probability, seed=1).value
    assert once is not None
    account, four = np.tile(np.arange(1000), 4), np.tile(probability, 4)

    def floor(apart_days: int) -> float:
        opens = np.repeat(np.arange(4) * apart_days, 1000)
        found = evaluate.noise_floor(four, seed=1, windows=evaluate.Windows(account, opens, days=90)).value
        assert found is not None
        return found

    assert floor(0) == pytest.approx(once, rel=0.05)
    assert floor(90) == pytest.approx(evaluate.noise_floor(four, seed=1).value, rel=0.05)
    assert floor(90) < floor(45) < floor(7) < floor(0)


@settings(max_examples=20, deadline=None)
@given(days=st.integers(1, 120), apart=st.integers(1, 60), seed=st.integers(0, 100))
def test_what_luck_draws_has_the_probabilities_that_were_asked_for(days: int, apart: int, seed: int) -> None:
    wanted = np.array([0.0, 0.03, 0.4, 1.0])
    rows, dates = 4000, 3
    probability = np.tile(wanted, rows * dates)
    account = np.repeat(np.arange(rows), len(wanted) * dates)
    opens = np.tile(np.repeat(np.arange(dates) * apart, len(wanted)), rows)
    draw = evaluate._departures(probability, evaluate.Windows(account, opens, days))
    left = draw(np.random.default_rng(seed)).reshape(rows, dates, len(wanted)).mean(axis=(0, 1))
    assert np.allclose(left, wanted, atol=0.04)
    assert (left[0], left[-1]) == (0.0, 1.0)


def test_the_teams_list_is_counted_per_date() -> None:
    frame = pd.DataFrame(
        {
            "id": list("abcdef"),
            "day": ["2024-01-01"] * 3 + ["2024-02-01"] * 3,
            "left": [1, 0, 0, 0, 1, 1],
            "mrr": [10.0, 1, 1, 1, 30, 60],
            "x": 1.0,
        }
    )
    frame["day"] = pd.to_datetime(frame["day"])
    data = assemble(frame, entity="id", label="left", as_of="day", amount="mrr", features=["x"])
    found = evaluate.evaluate(data, np.array([0.9, 0.5, 0.1, 0.2, 0.3, 0.8]), capacity=1, seed=1).metrics
    assert found["precision_at_capacity"].value == 1
    assert found["recall_at_capacity"].value == pytest.approx(2 / 3)
    assert found["amount_captured"].value == pytest.approx(0.7)


def test_a_comparison_is_paired_and_says_who_is_better() -> None:
    data, probability = scored(4000, accounts=1000)
    noisy = np.clip(probability + np.random.default_rng(5).normal(0, 0.15, 4000), 0.01, 0.99)
    found = evaluate.compare(data, probability, noisy, capacity=50, seed=1, resamples=100)
    assert found["roc_auc"].low > 0  # type: ignore[operator]
    assert found["log_loss"].high < 0  # type: ignore[operator]
    assert found["log_loss"].share_better == 1
    same = evaluate.compare(data, probability, probability, capacity=50, seed=1, resamples=20)
    assert same["roc_auc"].difference == 0
    assert same["roc_auc"].share_better == 0.5


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_leaves_ranking_undefined(label: float) -> None:
    data, probability = scored(50)
    data = data.with_label(np.full(50, label))
    found = evaluate.evaluate(data, probability, capacity=5, seed=1, resamples=10, train=data)
    assert found.metrics["roc_auc"].value is None
    assert found.metrics["pr_auc"].value is None
    assert found.metrics["log_loss"].value is not None
    assert evaluate.curves(data.labels, probability)["roc"]["true_positive_rate"] == []
    json.dumps(asdict(found), allow_nan=False)


def test_no_row_at_all_is_no_crash() -> None:
    data, probability = scored(10)
    none = data.where(np.array([], dtype=np.intp))
    found = evaluate.evaluate(none, probability[:0], capacity=5, seed=1)
    assert found.rows == 0
    assert all(interval.value is None for interval in found.metrics.values())


def test_curves_end_where_they_must() -> None:
    data, probability = scored(2000)
    found = evaluate.curves(data.labels, probability, points=100)
    assert found["roc"]["true_positive_rate"][-1] == 1
    assert found["roc"]["false_positive_rate"][-1] == 1
    assert found["pr"]["recall"][-1] == 1
    assert found["lift"]["lift"][-1] == pytest.approx(1)
    assert sum(found["reliability"]["rows"]) == 2000
    assert all(len(curve) <= 101 for curves in found.values() for curve in curves.values())


def test_baselines_stand_beside_the_model() -> None:
    data, _ = scored(2000)
    found = evaluate.baselines(data, data, recency="days_since")
    assert set(found) == {"prior", "logistic_regression", "recency"}
    assert np.ptp(found["prior"].score) == 0
    assert not found["recency"].is_probability
    regression = evaluate.metrics(data.labels, found["logistic_regression"].score)
    assert regression["roc_auc"] > 0.7  # type: ignore[operator]
    assert evaluate.metrics(data.labels, found["recency"].score, ranking_only=True)["log_loss"] is None


def test_rolling_dates_give_mean_worst_and_spread() -> None:
    data, _ = scored(3000, accounts=600)
    assert data.as_of is not None
    dates = np.unique(data.as_of)
    folds = [Fold(np.flatnonzero(data.as_of < date), np.flatnonzero(data.as_of == date), date) for date in dates[1:]]

    def learn(_: Dataset) -> evaluate.Predictor:
        return lambda rows: 1 / (1 + np.exp(-rows.features["x"].to_numpy(dtype=np.float64)))

    found = evaluate.rolling(data, folds, learn, capacity=20)
    aucs = [date["roc_auc"] for date in found["dates"]]
    losses = [date["log_loss"] for date in found["dates"]]
    assert len(aucs) == 2
    assert found["worst"]["roc_auc"] == min(aucs)
    assert found["worst"]["log_loss"] == max(losses)
    assert found["mean"]["roc_auc"] == pytest.approx(np.mean(aucs))
    assert 0.6 < evaluate.random_split_auc(data, learn, seed=1) < 0.9  # type: ignore[operator]
    json.dumps(found, allow_nan=False)


def test_equal_scores_share_the_places_of_the_list() -> None:
    data, probability = scored(400)
    alike = np.full(400, 0.1)
    found = evaluate.evaluate(data, alike, capacity=7, seed=1, resamples=5).metrics
    share = data.labels.mean()
    assert data.as_of is not None
    reached = sum(min(7, (data.as_of == day).sum()) for day in np.unique(data.as_of)) / len(data)
    by_date = [
        data.labels[data.as_of == day].mean() * min(7, (data.as_of == day).sum()) for day in np.unique(data.as_of)
    ]
    assert found["precision_at_capacity"].value == pytest.approx(sum(by_date) / (reached * len(data)))
    assert found["recall_at_capacity"].value == pytest.approx(sum(by_date) / (share * len(data)))
    other = evaluate.evaluate(data, probability, capacity=7, seed=1, resamples=5).metrics
    order = np.lexsort([-probability, data.as_of.astype(np.int64)])
    first = [rows[:7] for rows in np.split(order, np.flatnonzero(np.diff(data.as_of[order].astype(np.int64))) + 1)]
    assert other["precision_at_capacity"].value == pytest.approx(data.labels[np.concatenate(first)].mean())
