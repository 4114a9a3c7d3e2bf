"""One training judged: the split, the tested model, what it is compared with, the decision, and the model for use.

Lives here: which evaluations a training gets. Must not live here: metrics (`evaluate.py`), the rules (`gate.py`), the record
(`train.py`, `registry.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.errors import UserError
from ml import drift, evaluate, gate, recipe, split, watch
from ml.dataset import Dataset, sample_accounts, spaced

if TYPE_CHECKING:
    from core.settings import Config, ModelConfig
    from ml.model import ChurnModel
    from ml.recipe import Fitted

Say = Callable[[str], None]

ROLLING_DATES = 4
"""Forward tests beside the test window, where the data allow."""
TEST_DATES = {"week": 4, "month": 2}
"""As-of dates of the test window: about a month of weekly dates, since one week holds few departures."""
EXPLAINED_ROWS = 5_000
"""Rows of the test window whose contributions give the importance of features."""
PROFILED_DAYS = 90
"""Newest days of the training with which rows that are scored are compared."""
SPACED_ROWS, SPACED_DAYS = 20_000, 14
"""With more rows, training dates lie two weeks apart: windows of neighbouring weeks are nearly the same (sandbox, three test
windows: log loss 0.1437, 0.1563, 0.1744 of every second week against 0.1438, 0.1557, 0.1746 of all, in half the time)."""
ROLLING_ROWS = 50_000
"""Rows that each of the further trainings (rolling dates, random split) sees at most."""


@dataclass(frozen=True)
class Judgement:
    """A training with everything that is known about it."""

    model: ChurnModel
    """For use: learned from all that has matured."""
    tested: ChurnModel
    """Learned from what had closed before the test window; every number is this one's."""
    data: Dataset
    test: Dataset
    selection: dict[str, Any]
    split: dict[str, Any]
    evaluation: evaluate.Evaluation
    baselines: dict[str, evaluate.Evaluation]
    against_regression: dict[str, evaluate.Difference]
    against_champion: dict[str, evaluate.Difference] | None
    champion: int | None
    rolling: dict[str, Any]
    random_split_auc: float | None
    scores: dict[str, Any]
    """(n of test,) the baselines' scores, for pictures."""
    importance: dict[str, float]
    profile: dict[str, Any]
    """Bins and shares of features and scores in training, for drift."""
    decision: gate.Decision
    backtest: list[dict[str, Any]]
    """What became of the tested model's probabilities, by date of the test window."""
    trials: tuple[Mapping[str, Any], ...] = ()
    """What the search tried, when there was one."""

    def document(self) -> dict[str, Any]:
        """All of it but rows and models, JSON-able."""
        return {
            "split": self.split,
            "test": {**asdict(self.evaluation), "window": self.split["test"]},
            "baselines": {name: asdict(found) for name, found in self.baselines.items()},
            "against_regression": {name: asdict(found) for name, found in self.against_regression.items()},
            "against_champion": self.against_champion
            and {name: asdict(found) for name, found in self.against_champion.items()},
            "champion": self.champion,
            "rolling": self.rolling,
            "random_split_auc": self.random_split_auc,
            "importance": self.importance,
            "selection": self.selection,
            "decision": self.decision.document(),
            "backtest": self.backtest,
        }


def judge(
    data: Dataset,
    config: Config,
    *,
    directions: Mapping[str, int],
    recency: str | None = None,
    growing: Collection[str] = (),
    champion: tuple[int, ChurnModel] | None,
    search_storage: str | None = None,
    progress: Say = lambda text: None,
) -> Judgement:
    """Learn from `data` and test forward in time; `champion` is the version in use and its tested model, `search_storage`
    where a search that was killed goes on.

    Raises `UserError` when the dates or departures do not suffice for a test.
    """
    model_config, embargo = config.model, config.churn.window_days
    closed, newest = split.forward_test(data, embargo_days=embargo, test_dates=_test_dates(data, config))
    train, test = spaced(data.where(closed), SPACED_ROWS, days=SPACED_DAYS), data.where(newest)
    assert test.as_of is not None
    first_test = test.as_of.min()
    progress(f"learning from {len(train):,} rows, testing on {len(test):,} of {first_test} and later")
    trials: list[Mapping[str, Any]] = []
    fitted = recipe.fit(
        train,
        embargo_days=embargo,
        seed=model_config.seed,
        directions=directions,
        search_minutes=model_config.search_minutes,
        search_storage=search_storage,
        on_trial=trials.append,
        progress=progress,
    )
    probability = fitted.model.probability(test.features)
    options: dict[str, Any] = {"capacity": model_config.capacity, "seed": model_config.seed}
    horizon = config.churn.horizon_days
    evaluation = evaluate.evaluate(test, probability, train=train, horizon_days=horizon, **options)
    baselines = evaluate.baselines(train, test, recency=recency, directions=directions)
    as_a_whole = replace(test, segment=None)
    judged = {
        name: evaluate.evaluate(
            as_a_whole, found.score, horizon_days=horizon, ranking_only=not found.is_probability, **options
        )
        for name, found in baselines.items()
    }
    regression = evaluate.compare(test, probability, baselines["logistic_regression"].score, **options)
    against = _against(champion, test, probability, options)
    importance = _importance(fitted.model, test, seed=model_config.seed)
    progress("testing on earlier dates, and on a random split to show what it would claim")
    learn = _learner(fitted)
    few = sample_accounts(spaced(data, SPACED_ROWS, days=SPACED_DAYS), ROLLING_ROWS, seed=model_config.seed)
    folds = split.rolling_origins(few, embargo_days=embargo, folds=ROLLING_DATES, apart_days=28)
    rolling = evaluate.rolling(few, folds, learn, capacity=model_config.capacity)
    claimed = evaluate.random_split_auc(few, learn, seed=model_config.seed)
    decision = gate.judge(
        gate.evidence(
            evaluation,
            prior=judged["prior"],
            recency=judged.get("recency"),
            against_regression=regression["log_loss"],
            against_champion=None if against is None else against["log_loss"],
            leak_suspects=tuple(importance)[:3],
        ),
        model_config.gate,
    )
    progress("learning from all that has matured")
    final = recipe.refit(fitted, spaced(data, SPACED_ROWS, days=SPACED_DAYS))
    return Judgement(
        model=final,
        tested=fitted.model,
        data=data,
        test=test,
        selection=fitted.selection,
        split=_described(train, test, embargo),
        evaluation=evaluation,
        baselines=judged,
        against_regression=regression,
        against_champion=against,
        champion=None if champion is None else champion[0],
        rolling=rolling,
        random_split_auc=claimed,
        scores={name: found.score for name, found in baselines.items()},
        importance=importance,
        profile=_profile(data, final, growing),
        decision=decision,
        backtest=_backtest(test, probability, model_config),
        trials=tuple(trials),
    )


def _test_dates(data: Dataset, config: Config) -> int:
    if config.model.test_from is None or data.as_of is None:
        return TEST_DATES[config.model.snapshot_every]
    dates = np.unique(data.as_of)
    after = int((dates >= np.datetime64(config.model.test_from)).sum())
    if not after:
        raise UserError(
            f"model.test_from is {config.model.test_from}, but the last matured date is {dates[-1]}.",
            hint="Choose an earlier date.",
        )
    return after


def _against(
    champion: tuple[int, ChurnModel] | None, test: Dataset, probability: Any, options: dict[str, Any]
) -> dict[str, evaluate.Difference] | None:
    """This model less the champion's on the same window; None where there is none, or it asks for features that are gone."""
    if champion is None:
        return None
    try:
        before = champion[1].probability(test.features)
    except UserError:
        return None
    return evaluate.compare(test, probability, before, **options)


def _learner(fitted: Fitted) -> Callable[[Dataset], Callable[[Dataset], Any]]:
    """Learn again as `fitted` was learned, without looking for the recipe's size anew."""

    def learn(train: Dataset) -> Callable[[Dataset], Any]:
        model = recipe.refit(fitted, train, average=False)
        return lambda test: model.probability(test.features)

    return learn


def _importance(model: ChurnModel, test: Dataset, *, seed: int) -> dict[str, float]:
    """Mean size of each feature's contribution in log-odds on the test window, largest first."""
    few = sample_accounts(test, EXPLAINED_ROWS, seed=seed)
    contributions, _ = model.contributions(few.features)
    mean = np.abs(contributions).mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    return {model.feature_names[i]: float(mean[i]) for i in order}


def _profile(data: Dataset, model: ChurnModel, growing: Collection[str]) -> dict[str, Any]:
    """What the model asks for, as it was on the newest dates that it learned from: companies grow, and what grows with them is
    no drift."""
    assert data.as_of is not None
    newest = data.where(data.as_of > data.as_of.max() - np.timedelta64(PROFILED_DAYS, "D"))
    asked = newest.without({*newest.features.columns} - {*model.feature_names})
    return drift.profile(asked.without(growing), model.probability(asked.features))


def _backtest(test: Dataset, probability: Any, config: ModelConfig) -> list[dict[str, Any]]:
    frame = pd.DataFrame(
        {
            "account_id": test.entity,
            "as_of_date": test.as_of,
            "model_version": "tested",
            "probability": probability,
            "has_churned": test.labels,
        }
    )
    found = watch.backtest(frame, capacity=config.capacity, seed=config.seed)
    return [{**row, "as_of_date": str(row["as_of_date"].date())} for row in found]


def _described(train: Dataset, test: Dataset, embargo: int) -> dict[str, Any]:
    assert train.as_of is not None
    assert test.as_of is not None
    learned, tested = ([str(day) for day in np.unique(dates)] for dates in (train.as_of, test.as_of))
    return {
        "train": f"{learned[0]} to {learned[-1]}",
        "test": f"{tested[0]} to {tested[-1]}",
        "train_dates": learned,
        "test_dates": tested,
        "train_rows": len(train),
        "train_events": train.events,
        "test_rows": len(test),
        "test_events": test.events,
        "embargo_days": embargo,
    }
