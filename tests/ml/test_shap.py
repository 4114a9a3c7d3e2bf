"""Exact contributions: XGBoost's own `pred_contribs` is the reference, over random trees and columns."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml import recipe, trees
from ml.dataset import assemble
from ml.model import ChurnModel
from ml.shap import Explainer, contributions

CLOSE = 1e-5


def table(seed: int, rows: int, numbers: int, categories: int, missing: float) -> np.ndarray:
    """Numbers (some coarse, one constant) and category codes, with gaps."""
    random = np.random.default_rng(seed)
    columns = [random.normal(size=rows) for _ in range(numbers)]
    columns[0] = np.round(columns[0])
    if numbers > 1:
        columns[1] = np.full(rows, 3.0)
    columns += [random.integers(0, random.integers(2, 40), rows).astype(float) for _ in range(categories)]
    matrix = np.column_stack(columns).astype(np.float32)
    matrix[random.random(matrix.shape) < missing] = np.nan
    return matrix


def trained(matrix: np.ndarray, kinds: list[str], seed: int, rounds: int = 6, **settings: object) -> xgboost.Booster:
    random = np.random.default_rng(seed)
    signal = np.nan_to_num(matrix[:, 0]) + np.isnan(matrix[:, -1]) + (np.nan_to_num(matrix[:, -1]) % 3 == 1)
    label = (signal + random.normal(size=len(matrix)) > 1).astype(float)
    label[0] = 1.0
    return xgboost.train(
        {"objective": "binary:logistic", "tree_method": "hist", "seed": seed, "nthread": 1, "eta": 0.3, **settings},
        xgboost.DMatrix(matrix, label, feature_types=kinds, nthread=1),
        rounds,
    )


def reference(booster: xgboost.Booster, matrix: np.ndarray, kinds: list[str]) -> np.ndarray:
    return booster.predict(xgboost.DMatrix(matrix, feature_types=kinds, nthread=1), pred_contribs=True)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    numbers=st.integers(1, 9),
    categories=st.integers(0, 3),
    missing=st.sampled_from([0.0, 0.05, 0.5, 0.95]),
    depth=st.integers(1, 9),
    lossguide=st.booleans(),
    onehot=st.sampled_from([1, 4, 100]),
    base_score=st.sampled_from([None, 0.02, 0.9]),
)
def test_contributions_are_those_of_xgboost(
    seed: int,
    numbers: int,
    categories: int,
    missing: float,
    depth: int,
    lossguide: bool,
    onehot: int,
    base_score: float | None,
) -> None:
    kinds = ["q"] * numbers + ["c"] * categories
    matrix = table(seed, 400, numbers, categories, missing)
    more: dict[str, object] = {"grow_policy": "lossguide", "max_leaves": 40} if lossguide else {}
    if base_score is not None:
        more["base_score"] = base_score
    booster = trained(matrix, kinds, seed, max_depth=depth, max_cat_to_onehot=onehot, min_child_weight=0.1, **more)
    fresh = table(seed + 1, 60, numbers, categories, missing)
    explainer = Explainer(booster)
    answer = explainer.contributions(fresh)
    expected = reference(booster, fresh, kinds)
    assert explainer.slow_because is None
    assert np.abs(answer - expected[:, :-1]).max() <= CLOSE
    assert abs(explainer.base - expected[0, -1]) <= CLOSE
    margin = booster.predict(xgboost.DMatrix(fresh, feature_types=kinds), output_margin=True)
    assert np.abs(explainer.base + answer.sum(axis=1) - margin).max() <= CLOSE


def test_a_row_has_the_same_values_alone_in_a_batch_and_with_threads() -> None:
    matrix = table(3, 40_000, 6, 2, 0.1)
    kinds = ["q"] * 6 + ["c"] * 2
    explainer = Explainer(trained(matrix[:2000], kinds, 3, rounds=20, max_depth=5))
    batch = explainer.contributions(matrix)
    assert np.array_equal(batch, explainer.contributions(np.asfortranarray(matrix), threads=2))
    backwards = explainer.contributions(matrix[::-1].astype(np.float64), threads=3)[::-1]
    assert np.array_equal(batch, backwards)
    for row in (0, 16_383, 16_384, 39_999):
        assert np.array_equal(batch[row], explainer.contributions(matrix[row : row + 1])[0])
    assert explainer.contributions(matrix[:0]).shape == (0, 8)


def test_codes_never_seen_and_numbers_beyond_all_splits_are_explained_as_xgboost_does() -> None:
    kinds = ["q", "q", "c"]
    matrix = table(5, 500, 2, 1, 0.1)
    matrix[:, 2] %= 5
    booster = trained(matrix, kinds, 5, max_depth=4, max_cat_to_onehot=1)
    odd = np.array([[1e30, -1e30, 4], [0, 3, 9], [0.5, 3, 31], [0.5, 3, 4000], [np.nan] * 3], dtype=np.float32)
    assert np.abs(Explainer(booster).contributions(odd) - reference(booster, odd, kinds)[:, :-1]).max() <= CLOSE


def test_boosters_that_know_different_categories_are_averaged() -> None:
    kinds = ["q", "q", "c"]
    matrix = table(6, 600, 2, 1, 0.1)
    few = matrix.copy()
    few[:, 2] %= 3
    boosters = [trained(few, kinds, 6, max_depth=3), trained(matrix, kinds, 7, max_depth=5)]
    expected = np.mean([reference(one, matrix, kinds) for one in boosters], axis=0)
    assert np.abs(contributions(boosters, matrix, threads=2) - expected).max() <= CLOSE
    assert np.abs(contributions(boosters[::-1], matrix) - expected).max() <= CLOSE


def test_a_booster_without_a_split_gives_everything_to_the_base() -> None:
    matrix = table(8, 100, 3, 0, 0.0)
    booster = trained(matrix, ["q"] * 3, 8, gamma=1e9)
    explainer = Explainer(booster)
    assert not explainer.contributions(matrix).any()
    assert explainer.base == pytest.approx(reference(booster, matrix[:1], ["q"] * 3)[0, -1], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"booster": "dart", "rate_drop": 0.5, "max_depth": 3}, "dart"),
        ({"max_depth": 20, "min_child_weight": 0, "lambda": 0}, "a path has"),
    ],
)
def test_what_has_no_tables_is_explained_by_xgboost(settings: dict[str, object], why: str) -> None:
    kinds = ["q"] * 14
    matrix = table(9, 6000, 14, 0, 0.1)
    booster = trained(matrix, kinds, 9, rounds=3, **settings)
    explainer = Explainer(booster)
    assert why in str(explainer.slow_because)
    fresh = table(10, 50, 14, 0, 0.1)
    assert np.abs(explainer.contributions(fresh) - reference(booster, fresh, kinds)[:, :-1]).max() <= CLOSE


def test_tables_get_smaller_when_they_would_take_too_much_memory() -> None:
    kinds = ["q"] * 8
    matrix = table(11, 3000, 8, 0, 0.1)
    booster = trained(matrix, kinds, 11, max_depth=6)
    explainer = Explainer(booster, most_numbers=20_000)
    assert explainer.slow_because is None
    assert np.abs(explainer.contributions(matrix) - reference(booster, matrix, kinds)[:, :-1]).max() <= CLOSE


def test_a_matrix_of_other_columns_is_refused() -> None:
    booster = trained(table(12, 100, 3, 0, 0.0), ["q"] * 3, 12)
    with pytest.raises(ValueError, match="3 columns"):
        Explainer(booster).contributions(np.zeros((5, 4), dtype=np.float32))


def test_explaining_is_ten_times_faster_than_xgboost_in_processor_seconds() -> None:
    kinds = ["q"] * 20
    matrix = table(13, 20_000, 20, 0, 0.1)
    booster = trained(matrix, kinds, 13, rounds=60, max_depth=5)
    explainer = Explainer(booster)
    begun = time.process_time()
    explainer.contributions(matrix)
    ours = time.process_time() - begun
    begun = time.process_time()
    reference(booster, matrix[:2000], kinds)
    theirs = (time.process_time() - begun) * 10
    assert theirs / ours > 10


def test_a_blended_and_calibrated_model_is_explained_to_its_log_odds_alone_or_in_a_batch() -> None:
    matrix = table(14, 800, 4, 1, 0.1)
    frame = pd.DataFrame(matrix, columns=list("abcde"))
    frame["e"] = pd.Categorical(frame["e"].map(lambda code: None if np.isnan(code) else f"kind {code:.0f}"))
    label = np.where(np.nan_to_num(matrix[:, 0]) + np.random.default_rng(14).normal(size=800) > 0.5, 1.0, 0.0)
    data = assemble(frame.assign(id=np.arange(800), label=label), entity="id", label="label")
    linear = recipe.fit_regression(data)
    boosters = tuple(
        trees.train_boosters(
            linear.columns.matrix(data.features),
            data.labels,
            linear.columns,
            parameters={"max_depth": depth},
            rounds=10,
            seeds=[1],
            threads=1,
            directions={},
        )[0]
        for depth in (2, 5)
    )
    model = ChurnModel(linear.columns, boosters, linear.linear, 0.2, weight=0.6, intercept=0.1, slope=0.9)
    contributions, base = model.contributions(data.features)
    assert np.abs(base + contributions.sum(axis=1) - model.log_odds(data.features)).max() <= CLOSE
    for row in range(20):
        alone, its_base = model.contributions(data.features[row : row + 1])
        assert np.array_equal(alone[0], contributions[row])
        assert its_base == base
