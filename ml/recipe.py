"""The one recipe that trains on all data: find the capacity honestly, then learn from everything that has matured.

Lives here: `fit`, the form that it finds, the final training. Must not live here: the forms of trees (`capacity.py`), what they are
evaluated on (`bench.py`), blend and calibration (`mixing.py`), the split into training and test (`split.py`), metrics for people
(`evaluate.py`), tracking (`registry.py`).

What is chosen, in this order, each step by log loss on rows that did not train:

0. The features: categories that do not help with accounts that were not learned from are left out (`ml/prune.py`).
1. The trees. Forward in time, `SMALL` (200 shallow trees) holds on small and drifting data, and another form replaces it only when it
   is better by more than noise. On a table without time rows are alike: depth, penalties and rounds are those with the lowest log
   loss on folds.
2. A blend with a regularised logistic regression, in log-odds. Its weight is found on some folds and tested on another
   (the later one, when time is known).
3. An affine calibration in log-odds (Platt 1999), found and tested likewise. Forward in time it is mostly not kept: recalibrating on
   one window moves the prior of that window into the next.

"More than noise": the mean difference of the paired losses exceeds `NOISE` of its standard errors, clustered by account.
No class weights and no resampling: they wreck probabilities and buy no ranking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError
from ml import prune
from ml.bench import SELECTION_ROWS_MOST, Bench, bench_of
from ml.capacity import AVERAGED, Choice, choose, search
from ml.linear import fit_linear
from ml.mixing import PENALTIES, blend, calibrate, regressions
from ml.model import ChurnModel
from ml.trees import SMALL, SMALL_ROUNDS, bins_for, columns_of, signs_of, train_boosters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml.dataset import Dataset

    Floats = NDArray[np.float64]

SLOW_ROWS = 100_000
AVERAGED_ROWS = 50_000
"""Up to here the final model is the mean of `AVERAGED` boosters; above, one seed is as good."""


@dataclass(frozen=True)
class Form:
    """What was found: enough to learn again from other rows of the same kind."""

    parameters: Mapping[str, float]
    rounds: int
    is_small: bool
    weight: float
    penalty: float
    intercept: float
    slope: float
    seed: int
    threads: int
    directions: Mapping[str, int]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fitted:
    """A trained model and how its form was found."""

    model: ChurnModel
    selection: dict[str, Any]
    """JSON-able: protocol, folds, every candidate with its validation numbers, the winner and why."""
    form: Form


def fit(
    train: Dataset,
    *,
    embargo_days: int,
    seed: int,
    threads: int = 2,
    directions: Mapping[str, int] | None = None,
    search_minutes: float = 0.0,
    search_storage: str | None = None,
    on_trial: Callable[[Mapping[str, Any]], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Fitted:
    """Train on `train` (labels needed); the same data, seed and threads give the same bytes of predictions.

    `embargo_days` = lead + horizon + grace, for the forward validation inside (unused when `train` knows no time).
    `directions`: +1 when more of a feature never lowers the risk, -1 the opposite. `search_minutes` > 0 adds an Optuna
    search of that length, resumable through `search_storage` (an SQLAlchemy URL): time that was spent there counts. `on_trial`
    gets each trial's parameters and validation numbers, earlier ones included; `progress` gets sentences. Raises `UserError` when
    a class is missing or no feature is there.
    """
    _check(train)
    say = progress or _silent
    data = train.in_canonical_order()
    left_out, hearing = prune.misleading(data, _small(seed, directions or {}), seed=seed, threads=threads)
    if left_out:
        say(f"left out, since they do not help with accounts that were not learned from: {', '.join(left_out)}")
    data = data.without(left_out)
    bench = bench_of(
        data, columns_of(data), embargo_days=embargo_days, seed=seed, threads=threads, directions=directions or {}
    )
    choice = choose(bench, say)
    if search_minutes > 0 and bench.folds:
        choice = search(bench, choice, data, search_minutes, search_storage, on_trial or _silent, say)
    if not _is_sampled(bench, data):
        choice = calibrate(bench, blend(bench, choice, say), say)
    rounds, rate = _final_size(bench, choice, data)
    form = Form(
        parameters={**choice.trees.parameters, "eta": rate},
        rounds=rounds,
        is_small=choice.trees.fixed,
        weight=choice.weight,
        penalty=choice.penalty,
        intercept=choice.intercept,
        slope=choice.slope,
        seed=seed,
        threads=threads,
        directions=directions or {},
        left_out=left_out,
    )
    model = learn(form, data, say=say)
    selection = {
        "protocol": bench.protocol,
        "rows": len(bench.data),
        "folds": [
            {"date": None if fold.date is None else str(fold.date), "train": len(fold.train), "test": len(fold.test)}
            for fold in bench.folds
        ],
        "left_out": hearing["left_out"],
        "worth": hearing.get("worth", {}),
        "winner": choice.trees.name,
        "parameters": dict(form.parameters),
        "rounds": rounds,
        "boosters": len(model.boosters),
        "weight_of_trees": choice.weight,
        "penalty": choice.penalty if model.linear is not None else None,
        "intercept": choice.intercept,
        "slope": choice.slope,
        "tried": list(choice.tried),
    }
    return Fitted(model, selection, form)


def refit(fitted: Fitted, data: Dataset, *, average: bool = True) -> ChurnModel:
    """Learn from `data` in the form that `fitted` found: what was chosen is not chosen anew.

    Without `average` it is one booster, at a third of the cost, where `fit` would take the mean of several.
    """
    _check(data)
    return learn(fitted.form, data.in_canonical_order().without(fitted.form.left_out), average=average)


def learn(form: Form, data: Dataset, *, average: bool = True, say: Callable[[str], None] | None = None) -> ChurnModel:
    """The final training on `data`, which is in canonical order and has no feature that `form` leaves out."""
    columns = columns_of(data)
    matrix = columns.matrix(data.features)
    seeds = [form.seed + index for index in range(AVERAGED if average and len(data) <= AVERAGED_ROWS else 1)]
    (say or _silent)(f"training {len(seeds)} x {form.rounds} trees on {len(data)} rows")
    boosters = train_boosters(
        matrix,
        data.labels,
        columns,
        parameters=form.parameters,
        rounds=form.rounds,
        seeds=seeds,
        threads=form.threads,
        directions=form.directions,
        bins=256 if form.is_small else bins_for(len(data)),
    )
    linear = None
    if form.weight < 1:
        most = 4 * SELECTION_ROWS_MOST
        part = np.arange(len(data)) if len(data) <= most else _every(len(data), most)
        signs = signs_of(columns, form.directions)
        linear = regressions(matrix[part], data.labels[part], columns, signs, (form.penalty,))[0]
    return ChurnModel(
        columns=columns,
        boosters=tuple(boosters),
        linear=linear,
        expected_probability=float(data.labels.mean()),
        weight=form.weight,
        intercept=form.intercept,
        slope=form.slope,
        threads=form.threads,
    )


def _small(seed: int, directions: Mapping[str, int]) -> Callable[[Dataset], ChurnModel]:
    """The small recipe as it stands, on one thread."""
    form = Form(
        parameters=SMALL,
        rounds=SMALL_ROUNDS,
        is_small=True,
        weight=1.0,
        penalty=PENALTIES[0],
        intercept=0.0,
        slope=1.0,
        seed=seed,
        threads=1,
        directions=directions,
    )
    return partial(learn, form, average=False)


def _final_size(bench: Bench, choice: Choice, data: Dataset) -> tuple[int, float]:
    """Trees and learning rate of the final training on all of `data`.

    More rows carry more trees: by the square root of the growth since validation, at most 2.5 times.
    """
    rounds, rate = choice.trees.rounds, float(choice.trees.parameters["eta"])
    if choice.trees.fixed:
        return rounds, rate
    trained = float(np.mean([len(fold.train) for fold in bench.folds]))
    rounds = round(rounds * min(2.5, math.sqrt(len(data) / trained)))
    # Without time, blend and calibration were found on the very trees that are trained now.
    is_halved = bench.protocol != "folds" and len(data) <= SLOW_ROWS
    return (2 * rounds, rate / 2) if is_halved else (rounds, rate)


def _is_sampled(bench: Bench, data: Dataset) -> bool:
    """Whether the final training sees far more rows than validation did.

    Then neither blend nor calibration carries over: trees gain from the further rows, a regression hardly does.
    """
    return bool(bench.folds) and len(data) > 3 * float(np.mean([len(fold.train) for fold in bench.folds]))


def _every(rows: int, wanted: int) -> NDArray[np.intp]:
    """`wanted` positions spread evenly over `rows`."""
    return np.linspace(0, rows - 1, wanted).astype(np.intp)


def _silent(_: Any) -> None:
    return None


def fit_regression(train: Dataset, *, directions: Mapping[str, int] | None = None, threads: int = 2) -> ChurnModel:
    """The baseline: a logistic regression alone (scikit-learn's C = 1), as a model that scores and explains like any other."""
    _check(train)
    data = train.in_canonical_order()
    columns = columns_of(data)
    linear = fit_linear(
        columns.matrix(data.features),
        data.labels,
        kinds=columns.kinds,
        signs=signs_of(columns, directions or {}),
        penalties=(1.0,),
    )[0]
    return ChurnModel(columns, (), linear, float(data.labels.mean()), weight=0.0, threads=threads)


def fit_trees(train: Dataset, parameters: Mapping[str, float], *, seed: int, threads: int = 2) -> ChurnModel:
    """XGBoost alone with `parameters` and their `rounds`, without any selection: for comparisons."""
    _check(train)
    data = train.in_canonical_order()
    columns = columns_of(data)
    boosters = train_boosters(
        columns.matrix(data.features),
        data.labels,
        columns,
        parameters={name: value for name, value in parameters.items() if name != "rounds"},
        rounds=int(parameters["rounds"]),
        seeds=(seed,),
        threads=threads,
        directions={},
    )
    return ChurnModel(columns, tuple(boosters), None, float(data.labels.mean()), threads=threads)


def _check(train: Dataset) -> None:
    labels = train.labels
    if not len(train.features.columns):
        raise UserError("There is no feature to learn from.")
    if not 0 < labels.sum() < len(labels):
        raise UserError(
            f"All {len(labels)} rows have the same label ({labels[0]:g})."
            if len(labels)
            else "There is no row to train on.",
            hint="A model needs customers who left and customers who stayed.",
        )
