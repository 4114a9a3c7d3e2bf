"""Drift, labels that change, stale inputs, and past scores against what came."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import WatchConfig
from ml import drift, watch
from ml.dataset import Dataset
from ml.model import ChurnModel

CONFIG = WatchConfig()
Known = dict[str, object]


@pytest.fixture(scope="module")
def known(dataset: Dataset, model: ChurnModel) -> Known:
    return json.loads(json.dumps(drift.profile(dataset, model.probability(dataset.features))))


def found(known: Known, data: Dataset, model: ChurnModel) -> dict[str, drift.Drift]:
    return {one.feature: one for one in drift.drift(known, data.features, model.probability(data.features), CONFIG)}


def test_the_training_does_not_drift_from_itself(known: Known, dataset: Dataset, model: ChurnModel) -> None:
    drifts = found(known, dataset, model)
    assert set(drifts) == {"days_since_seen", "noise", "plan", drift.SCORE}
    assert all(one.psi == pytest.approx(0) and one.state == "ok" for one in drifts.values())


def test_other_draws_of_the_same_world_are_no_drift(
    known: Known, make_dataset: Callable[..., Dataset], model: ChurnModel
) -> None:
    draws = [list(found(known, make_dataset(60, seed), model).values()) for seed in range(10, 20)]
    assert sum(one.state != "ok" for draw in draws for one in draw) <= 2, "luck passes the noise once in a hundred"
    assert all(watch.judge_drift(draw, CONFIG).state != "block" for draw in draws)


def test_a_shift_is_found_named_and_the_score_blocks(known: Known, dataset: Dataset, model: ChurnModel) -> None:
    moved = replace(dataset, features=dataset.features.assign(days_since_seen=dataset.features["days_since_seen"] + 80))
    drifts = drift.drift(known, moved.features, model.probability(moved.features), CONFIG, labels={"noise": "Noise"})
    assert {drifts[0].feature, drifts[1].feature} == {"days_since_seen", drift.SCORE}
    assert {one.feature: one.state for one in drifts}["noise"] == "ok"
    verdict = watch.judge_drift(drifts, CONFIG)
    assert verdict.state == "block"
    assert verdict.sentences[0].startswith("The score: PSI ")


def test_a_column_that_is_gone_counts_as_missing(known: Known, dataset: Dataset) -> None:
    drifts = {one.feature: one for one in drift.drift(known, dataset.features.drop(columns="noise"), None, CONFIG)}
    assert drifts["noise"].state == "block"
    assert drifts["noise"].missing_now == 1
    assert "missing in 100 % of the rows, 0 % in training" in drifts["noise"].sentence
    assert watch.judge_drift(list(drifts.values()), CONFIG).state == "warn", "one feature of three warns"


def test_most_features_gone_blocks(known: Known, dataset: Dataset) -> None:
    drifts = drift.drift(known, dataset.features[["plan"]], None, CONFIG)
    verdict = watch.judge_drift(drifts, CONFIG)
    assert (verdict.state, verdict.sentences[0]) == ("block", "2 of 3 features are not what the model learned from.")


def test_a_new_level_of_a_category_is_drift(known: Known, dataset: Dataset) -> None:
    plans = pd.Categorical(["enterprise"] * len(dataset))
    drifts = {one.feature: one for one in drift.drift(known, dataset.features.assign(plan=plans), None, CONFIG)}
    assert drifts["plan"].state == "block"


def test_few_rows_are_not_blamed_for_their_luck(known: Known, dataset: Dataset, model: ChurnModel) -> None:
    drifts = found(known, dataset.where(np.arange(4)), model)
    assert all(one.state == "ok" for one in drifts.values())
    assert drift.drift(known, dataset.features.iloc[:0], None, CONFIG) == []


@given(st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(any), st.integers(0, 1000))
def test_the_index_is_never_negative_and_symmetric(counts: list[int], seed: int) -> None:
    then = np.array(counts) / sum(counts)
    now = np.random.default_rng(seed).dirichlet(np.ones(len(counts)))
    assert drift.psi(then, then) == pytest.approx(0)
    assert drift.psi(then, now) >= 0
    assert drift.psi(then, now) == pytest.approx(drift.psi(now, then))


def test_the_index_of_the_book() -> None:
    # 0.1 -> 0.2 and 0.9 -> 0.8: 0.1 * ln 2 + 0.1 * ln(9/8)
    assert drift.psi([0.1, 0.9], [0.2, 0.8]) == pytest.approx(0.1 * np.log(2) + 0.1 * np.log(9 / 8))


def test_a_profile_holds_no_identifier_and_is_small(known: Known) -> None:
    text = json.dumps(known)
    assert '"a1"' not in text
    assert len(text) < 3000


def test_labels_that_change_warn_beyond_luck() -> None:
    assert watch.judge_labels(0.10, 1000, 110, CONFIG).state == "ok"
    verdict = watch.judge_labels(0.10, 1000, 200, CONFIG)
    assert verdict.state == "warn"
    assert "20.0 % of 1,000 accounts left" in verdict.sentences[0]
    assert watch.judge_labels(0.10, 10, 2, CONFIG).state == "ok", "one of ten more is luck"
    assert watch.judge_labels(0.10, 0, 0, CONFIG).state == "ok"


def test_stale_inputs_block() -> None:
    newest = {"usage_events": date(2024, 3, 1), "invoices": date(2024, 2, 1), "tickets": None}
    limits = {"usage_events": 7, "invoices": 45}
    assert watch.judge_staleness(newest, date(2024, 3, 5), limits).state == "ok"
    verdict = watch.judge_staleness(newest, date(2024, 3, 20), {**limits, "tickets": 3})
    assert verdict.state == "block"
    assert verdict.sentences == (
        "invoices: the newest fact is 48 days older than 2024-03-20; at most 45 are allowed.",
        "tickets: nothing has come yet.",
        "usage_events: the newest fact is 19 days older than 2024-03-20; at most 7 are allowed.",
    )


def scores(rows: int, shift: float = 0.0, day: str = "2024-03-01") -> pd.DataFrame:
    random = np.random.default_rng(5)
    log_odds = random.normal(-2, 1.2, rows)
    return pd.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(rows)],
            "as_of_date": date.fromisoformat(day),
            "model_version": 3,
            "probability": 1 / (1 + np.exp(-log_odds)),
            "has_churned": (random.random(rows) < 1 / (1 + np.exp(-(log_odds + shift)))).astype(float),
        }
    )


def test_past_scores_that_came_true_say_so() -> None:
    rows = watch.backtest(pd.concat([scores(2000), scores(2000, day="2024-03-08")]), capacity=50)
    assert [row["as_of_date"] for row in rows] == [date(2024, 3, 1), date(2024, 3, 8)]
    first = rows[0]
    assert first["scores"] == 2000
    assert first["mean_probability"] == pytest.approx(first["realised_rate"], abs=0.03)
    assert first["ece"] < first["ece_noise_high"] * 1.5
    assert first["precision_at_capacity"] > 3 * first["realised_rate"]
    assert watch.judge_backtest(rows, CONFIG).state == "ok"


def test_past_scores_that_were_wrong_warn() -> None:
    rows = watch.backtest(scores(2000, shift=1.5), capacity=50)
    verdict = watch.judge_backtest(rows, CONFIG)
    assert verdict.state == "warn"
    assert "were said to leave" in verdict.sentences[0]
    flat = watch.judge_backtest(rows, CONFIG, promised_lift={"3": 9.0})
    assert "the test promised 9.0" in " ".join(flat.sentences)
    honest = watch.backtest(scores(2000), capacity=50)
    assert watch.judge_backtest(honest, CONFIG, promised_lift={"3": 1.2 * honest[0]["lift_top_decile"]}).state == "ok"
    upside_down = scores(2000)
    upside_down["probability"] = 1 - upside_down["probability"]
    told = watch.judge_backtest(
        watch.backtest(upside_down, capacity=50), CONFIG.model_copy(update={"max_ece_above_noise": 1.0})
    )
    assert "they ranked with a ROC AUC of" in told.sentences[0]


def test_a_backtest_takes_what_has_matured_and_no_order() -> None:
    open_window = scores(300)
    open_window.loc[:99, "has_churned"] = np.nan
    rows = watch.backtest(open_window, capacity=10)
    assert rows[0]["scores"] == 200
    assert watch.backtest(open_window.sample(frac=1, random_state=1), capacity=10) == rows
    nobody = scores(50).assign(has_churned=0.0)
    assert watch.backtest(nobody, capacity=10)[0]["roc_auc"] is None
    assert watch.backtest(scores(0), capacity=10) == []
    assert watch.judge_backtest([], CONFIG).state == "ok"
