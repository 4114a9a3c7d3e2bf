"""The recipe and the model it makes: what may not matter does not, what must hold does, odd tables do not break it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from benchmarks import made_tables
from core.errors import UserError
from ml import evaluate, recipe, trees
from ml.dataset import Dataset, assemble
from ml.model import ChurnModel
from ml.recipe import Fitted

ROWS = 900


def customers(rows: int = ROWS, seed: int = 0, dates: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": [f"c{number}" for number in range(rows)],
            "failed": random.poisson(0.5, rows).astype(float),
            "usage": random.normal(size=rows),
            "seats": np.where(random.random(rows) < 0.3, np.nan, random.exponential(20, rows)),
            "plan": random.choice(["basic", "pro", "max"], rows),
            "noise": random.normal(size=rows),
        }
    )
    odds = 0.8 * frame["failed"] - frame["usage"] + (frame["plan"] == "basic") - 1.3
    frame["left"] = (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(int)
    if dates:
        frame["day"] = np.datetime64("2024-01-01") + 30 * (np.arange(rows) % dates)
        frame["id"] = [f"c{number // dates}" for number in range(rows)]
    return frame


def dataset(frame: pd.DataFrame) -> Dataset:
    return assemble(frame, entity="id", label="left", as_of="day" if "day" in frame else None)


@pytest.fixture(scope="module")
def blended() -> Fitted:
    """A fit whose form has all terms: trees, regression, calibration."""
    fitted = recipe.fit(dataset(customers()), embargo_days=0, seed=1, directions={"failed": 1, "usage": -1})
    model = fitted.model
    linear = recipe.fit_regression(dataset(customers()), directions={"failed": 1, "usage": -1}).linear
    whole = ChurnModel(
        model.columns, model.boosters, linear, model.expected_probability, weight=0.6, intercept=0.1, slope=1.2
    )
    return Fitted(whole, fitted.selection, fitted.form)


def scores(model: ChurnModel, frame: pd.DataFrame) -> NDArray[np.float64]:
    return model.log_odds(frame)


def test_the_order_of_rows_and_columns_changes_nothing() -> None:
    frame = customers(400)
    order = np.random.default_rng(3).permutation(len(frame))
    first = recipe.fit(dataset(frame), embargo_days=0, seed=1)
    second = recipe.fit(dataset(frame.iloc[order, ::-1].reset_index(drop=True)), embargo_days=0, seed=1)
    assert scores(first.model, frame).tobytes() == scores(second.model, frame.iloc[:, ::-1]).tobytes()
    assert first.selection == second.selection


def test_the_same_seed_gives_the_same_bytes_forward_in_time() -> None:
    frame = customers(1200, dates=8)
    fits = [recipe.fit(dataset(frame), embargo_days=60, seed=1) for _ in range(2)]
    assert fits[0].selection["protocol"] == "forward"
    assert scores(fits[0].model, frame).tobytes() == scores(fits[1].model, frame).tobytes()


def test_a_score_alone_is_the_score_in_a_batch(blended: Fitted) -> None:
    frame = customers(300, seed=9)
    batch = scores(blended.model, frame)
    alone = np.concatenate([scores(blended.model, frame.iloc[[row]]) for row in range(100)])
    assert alone.tobytes() == batch[:100].tobytes()
    assert len(scores(blended.model, frame.iloc[:0])) == 0


def test_save_and_load_change_no_bit(blended: Fitted, tmp_path: Path) -> None:
    frame = customers(300, seed=9)
    blended.model.save(tmp_path / "model")
    loaded = ChurnModel.load(tmp_path / "model")
    assert scores(loaded, frame).tobytes() == scores(blended.model, frame).tobytes()
    parts, base = loaded.contributions(frame)
    assert parts.tobytes() == blended.model.contributions(frame)[0].tobytes()
    assert base == blended.model.contributions(frame)[1]
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".json", ".ubj"}
    with pytest.raises(UserError, match="no model"):
        ChurnModel.load(tmp_path / "elsewhere")


def test_contributions_sum_to_the_score(blended: Fitted) -> None:
    frame = customers(300, seed=9)
    frame.loc[:20, "plan"] = None
    parts, base = blended.model.contributions(frame)
    assert parts.shape == (300, len(blended.model.feature_names))
    assert np.abs(base + parts.sum(axis=1) - scores(blended.model, frame)).max() < 1e-4


def test_stated_directions_hold_for_every_customer(blended: Fitted) -> None:
    frame = customers(300, seed=9)
    last = scores(blended.model, frame.assign(failed=0.0))
    for failed in range(1, 8):
        now = scores(blended.model, frame.assign(failed=float(failed)))
        assert (now >= last - 1e-6).all()
        last = now
    assert (
        scores(blended.model, frame.assign(usage=2.0)) <= scores(blended.model, frame.assign(usage=-2.0)) + 1e-6
    ).all()


def test_an_unknown_category_is_a_missing_one(blended: Fitted) -> None:
    frame = customers(50, seed=9)
    unknown = scores(blended.model, frame.assign(plan="platinum"))
    assert unknown.tobytes() == scores(blended.model, frame.assign(plan=None)).tobytes()


def test_a_missing_column_is_named_and_a_further_one_ignored(blended: Fitted) -> None:
    frame = customers(50, seed=9)
    assert scores(blended.model, frame.assign(more=1.0)).tobytes() == scores(blended.model, frame).tobytes()
    with pytest.raises(UserError, match="seats"):
        scores(blended.model, frame.drop(columns="seats"))


def test_shuffled_labels_teach_nothing() -> None:
    random = np.random.default_rng(4)
    frame = customers(6000, seed=2)
    frame["left"] = random.permutation(frame["left"].to_numpy())
    data = dataset(frame)
    test = np.arange(6000) < 3500
    model = recipe.fit(data.where(~test), embargo_days=0, seed=1).model
    auc = evaluate.metrics(data.labels[test], model.probability(data.features[test]))["roc_auc"]
    assert auc == pytest.approx(0.5, abs=0.03)


def test_strong_interactions_find_their_depth_and_the_small_recipe_does_not() -> None:
    random = np.random.default_rng(5)
    values = random.uniform(-1, 1, size=(7000, 10))
    odds = 6 * values[:, 0] * values[:, 1] + 5 * values[:, 2] * values[:, 3] - 0.5
    frame = pd.DataFrame(values).add_prefix("x").assign(id=range(7000))
    frame["left"] = (random.random(7000) < 1 / (1 + np.exp(-odds))).astype(int)
    data = dataset(frame)
    train, test = data.where(np.arange(7000) < 3000), data.where(np.arange(7000) >= 3000)
    found = recipe.fit(train, embargo_days=0, seed=1)
    small = recipe.fit_trees(train, {**trees.SMALL, "rounds": trees.SMALL_ROUNDS}, seed=1)
    assert found.selection["winner"] != "small"
    ours, theirs = (
        evaluate.metrics(test.labels, model.probability(test.features))["roc_auc"] for model in (found.model, small)
    )
    assert ours > theirs + 0.015  # type: ignore[operator]


@pytest.mark.parametrize(("table", "most"), [("boxes", 0.045), ("additive", 0.015)])
def test_probabilities_are_near_the_truth_and_not_timid(table: str, most: float) -> None:
    found = made_tables.measure(table, 1000, seed=0)
    assert found["above_truth"] < most, found
    assert 0.8 < found["slope"] < 1.25, found


def test_what_was_chosen_had_the_lowest_loss_of_all_that_were_tried_on_every_fold() -> None:
    selection = recipe.fit(dataset(customers(800)), embargo_days=0, seed=1).selection
    assert selection["protocol"] == "folds"
    alone = [one for one in selection["tried"] if "rounds" in one and "the mean of" not in one["name"]]
    assert min(alone, key=lambda one: one["log_loss"])["name"] == selection["winner"]


def test_where_the_truth_is_linear_the_search_does_no_harm() -> None:
    frame = customers(6000, seed=6)
    data = dataset(frame)
    train, test = data.where(np.arange(6000) < 2000), data.where(np.arange(6000) >= 2000)
    found = recipe.fit(train, embargo_days=0, seed=1).model
    small = recipe.fit_trees(train, {**trees.SMALL, "rounds": trees.SMALL_ROUNDS}, seed=1)
    ours, theirs = (
        evaluate.metrics(test.labels, model.probability(test.features))["log_loss"] for model in (found, small)
    )
    assert ours < theirs + 0.002  # type: ignore[operator]


def test_a_short_history_is_judged_on_other_accounts_at_a_later_date() -> None:
    selection = recipe.fit(dataset(customers(1200, dates=3)), embargo_days=90, seed=1).selection
    assert selection["protocol"] == "later"
    assert {fold["date"] for fold in selection["folds"]} == {"2024-03-01"}


@pytest.mark.parametrize("rows", [12, 30, 60])
def test_a_handful_of_rows_trains_and_scores(rows: int) -> None:
    frame = customers(rows)
    frame.loc[0, "left"], frame.loc[1, "left"] = 1, 0
    model = recipe.fit(dataset(frame), embargo_days=0, seed=1).model
    assert np.isfinite(model.log_odds(frame)).all()


def test_empty_constant_and_odd_columns_are_no_crash() -> None:
    frame = customers(600).assign(
        nothing=np.nan,
        constant=1.0,
        one_text="same",
        no_text=pd.Series([None] * 600, dtype=object),
        each_its_own=[f"t{number}" for number in range(600)],
        nearly=[1.0] + [0.0] * 599,
        huge=1e30,
    )
    model = recipe.fit(dataset(frame), embargo_days=0, seed=1).model
    found = model.log_odds(frame)
    parts, base = model.contributions(frame)
    assert np.isfinite(found).all()
    assert np.abs(base + parts.sum(axis=1) - found).max() < 1e-4
    nothing = frame.assign(**dict.fromkeys(model.feature_names, np.nan))
    assert np.isfinite(model.log_odds(nothing)).all()


def test_one_class_and_no_feature_are_refused() -> None:
    with pytest.raises(UserError, match="same label"):
        recipe.fit(dataset(customers(50).assign(left=1)), embargo_days=0, seed=1)
    with pytest.raises(UserError, match="no feature"):
        recipe.fit(dataset(customers(50)[["id", "left"]]), embargo_days=0, seed=1)


@pytest.mark.slow
def test_a_search_reports_its_trials_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    trials: list[Mapping[str, Any]] = []
    data = dataset(customers(300))
    storage = f"sqlite:///{tmp_path / 'search.db'}"

    def search(minutes: float) -> int:
        trials.clear()
        fitted = recipe.fit(
            data, embargo_days=0, seed=1, search_minutes=minutes, search_storage=storage, on_trial=trials.append
        )
        return next(int(step["trials"]) for step in fitted.selection["tried"] if step["name"] == "search")

    first = search(0.005)
    assert 1 <= first == len(trials)
    tried = list(trials)
    assert search(0.005) == first, "the time is spent"
    assert trials == tried
    assert search(0.03) > first
    assert trials[:first] == tried
    assert len({str(trial["parameters"]) for trial in trials}) == len(trials), "no point is drawn twice"
