"""The one recipe that trains on all data: find the capacity honestly, then learn from everything that has matured.

Lives here: `fit`, the candidates, how they are judged inside the training data, the final training. Must not live here:
the split into training and test (`ml/split.py`), metrics for people (`ml/evaluate.py`), tracking (`ml/registry.py`).

What is chosen, in this order, each step judged by log loss on rows that did not train (protocols in `_protocol`):

0. The features: categories that do not help with accounts that were not learned from are left out (`ml/prune.py`).
1. The trees. `SMALL` (200 shallow trees) holds on small and drifting data; the others of `CANDIDATES` are deeper, with the
   number of trees found by early stopping. One replaces `SMALL` only when it is better by more than noise.
2. A blend with a regularised logistic regression, in log-odds. Its weight is found on some folds and tested on another
   (the later one, when time is known).
3. An affine calibration in log-odds (Platt 1999), found and tested likewise. Mostly it is not kept: recalibrating on one
   window moves the prior of that window into the next.

"More than noise": the mean difference of the paired losses exceeds `NOISE` of its standard errors, clustered by account.
No class weights and no resampling: they wreck probabilities and buy no ranking.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.errors import UserError
from ml import prune
from ml.dataset import sample_accounts, spaced
from ml.linear import Linear, fit_linear
from ml.model import ChurnModel, Columns, sigmoid
from ml.split import Fold, rolling_origins, stratified_folds

if TYPE_CHECKING:
    import xgboost
    from numpy.typing import NDArray

    from ml.dataset import Dataset

    Floats = NDArray[np.float64]

NOISE = 1.64
"""One-sided 95 %: what a change has to exceed, in standard errors of the paired difference."""
LEAN = 0.5
"""The same for the blend on a table without time: averaging two models costs little when it does not help, and on 400 rows
nothing that helps exceeds 1.64 errors. Forward in time, where few dates tell what the next one brings, it is `NOISE`."""
FINALISTS = 2
"""Candidates that are tried on all folds after the first."""
BINS = ((20_000, 64), (200_000, 128))
"""Histogram bins up to so many rows (256 above): with few rows, fewer bins are faster and no worse (synthetic clusters: AUC
0.8445 with 64, 0.8405 with 256)."""
MIN_CATEGORY_ROWS = 10
"""A category with fewer rows in training is treated like one that was never seen: as missing."""
SELECTION_ROWS = 16_000
"""Rows on which the form is found; a quarter of the rows when that is more, up to `SELECTION_ROWS_MOST`."""
SELECTION_ROWS_MOST = 60_000
MONTH = 28
SEARCH_RATE = 0.1
"""Learning rate while judging; half of it, with twice the trees, in the final training of up to `SLOW_ROWS` rows."""
SLOW_ROWS = 100_000
PATIENCE = 25
AVERAGED_ROWS = 50_000
"""Up to here the final model is the mean of `AVERAGED` boosters that differ in their seed; above, one seed is as good."""
AVERAGED = 3
PENALTIES = (1.0, 10.0, 100.0)
WEIGHTS = (0.75, 0.5, 0.25)
"""Shares of the trees in a blend that are tried."""

SMALL: Mapping[str, float] = {
    "max_depth": 3,
    "eta": 0.05,
    "min_child_weight": 20,
    "subsample": 0.8,
    "colsample_bytree": 0.6,
    "lambda": 5,
}
SMALL_ROUNDS = 200


@dataclass(frozen=True)
class Candidate:
    """A form of trees: XGBoost's parameters, and how many trees at most (exactly, when `fixed`)."""

    name: str
    parameters: Mapping[str, float]
    rounds: int
    fixed: bool = False


def _deeper(name: str, depth: int, child: float, penalty: float, columns: float, rounds: int) -> Candidate:
    # Columns are drawn anew at each split: beside few columns a tree, that kept more of an interaction on synthetic pairs
    # (AUC 0.864 against 0.851); a strong penalty on leaves with light children beat heavy children (0.871 against 0.864).
    # A product of three features is found when all columns are in sight (0.925 against 0.900).
    parameters = {
        "max_depth": depth,
        "eta": SEARCH_RATE,
        "min_child_weight": child,
        "subsample": 0.8,
        "colsample_bynode": columns,
        "lambda": penalty,
    }
    return Candidate(name, parameters, rounds)


BASE = Candidate("small", SMALL, SMALL_ROUNDS, fixed=True)
CANDIDATES = (
    _deeper("additive", 2, 20, 5, 0.5, 300),
    _deeper("medium", 4, 2, 10, 0.5, 500),
    _deeper("deep", 6, 1, 10, 0.5, 500),
    _deeper("deepest", 8, 1, 30, 1.0, 500),
)


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
    bench = _bench(
        data, columns_of(data), embargo_days=embargo_days, seed=seed, threads=threads, directions=directions or {}
    )
    choice = _choose(bench, say)
    if search_minutes > 0 and bench.folds:
        choice = _search(bench, choice, data, search_minutes, search_storage, on_trial or _silent, say)
    if not _is_sampled(bench, data):
        choice = _calibrate(bench, _blend(bench, choice, say), say)
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
        linear = _regressions(matrix[part], data.labels[part], columns, signs, (form.penalty,))[0]
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


@dataclass(frozen=True)
class _Bench:
    """What every candidate is judged on: rows, folds, and the matrices of each fold, quantised once."""

    data: Dataset
    columns: Columns
    matrix: NDArray[np.float32]
    folds: tuple[Fold, ...]
    protocol: str
    seed: int
    threads: int
    directions: Mapping[str, int]
    bins: int
    quantised: tuple[tuple[xgboost.QuantileDMatrix, xgboost.QuantileDMatrix], ...]

    @property
    def signs(self) -> Sequence[int]:
        return signs_of(self.columns, self.directions)

    @property
    def is_forward(self) -> bool:
        return self.protocol == "forward"


@dataclass(frozen=True)
class _Choice:
    """The form so far: `margins` holds its log-odds on the test rows of each fold."""

    trees: Candidate
    margins: tuple[Floats, ...]
    weight: float = 1.0
    penalty: float = PENALTIES[0]
    intercept: float = 0.0
    slope: float = 1.0
    tried: tuple[dict[str, Any], ...] = ()


def _bench(
    data: Dataset, columns: Columns, *, embargo_days: int, seed: int, threads: int, directions: Mapping[str, int]
) -> _Bench:
    import xgboost

    rows = max(SELECTION_ROWS, min(len(data) // 4, SELECTION_ROWS_MOST))
    # Windows of neighbouring dates overlap: fewer dates of all accounts tell more than all dates of few accounts, and leave
    # each date enough departures to be a test.
    part = sample_accounts(spaced(data, rows, days=MONTH), rows, seed=seed)
    protocol, folds = _protocol(part, embargo_days, seed)
    matrix = columns.matrix(part.features)
    bins = bins_for(len(part))
    quantised = []
    for fold in folds:
        train = xgboost.QuantileDMatrix(
            matrix[fold.train], part.labels[fold.train], feature_types=columns.kinds, nthread=threads, max_bin=bins
        )
        test = xgboost.QuantileDMatrix(
            matrix[fold.test],
            part.labels[fold.test],
            feature_types=columns.kinds,
            nthread=threads,
            max_bin=bins,
            ref=train,
        )
        quantised.append((train, test))
    return _Bench(part, columns, matrix, tuple(folds), protocol, seed, threads, directions, bins, tuple(quantised))


def _protocol(data: Dataset, embargo_days: int, seed: int) -> tuple[str, list[Fold]]:
    """How the form is judged, by what the data allow.

    - `forward`: up to three rolling origins with the embargo.
    - `later`: time is known, but too short for an embargo inside. Other accounts at the newest date, trained on the dates
      before: no account is on both sides and the date moves on, though windows overlap.
    - `folds`: no time; stratified folds of whole accounts, more of them when there are few rows.
    - `none`: too few departures to tell anything apart; the small recipe stays.
    """
    least = min(data.events, len(data) - data.events)
    if data.as_of is not None:
        forward = rolling_origins(data, embargo_days=embargo_days, folds=3, apart_days=max(embargo_days // 3, 28))
        if forward:
            return "forward", forward
    if least < 25:
        return "none", []
    count, repeats = (5, 2) if len(data) <= 1500 else (5, 1) if len(data) <= 3000 else (3, 1)
    try:
        folds = stratified_folds(data, folds=count, repeats=repeats, seed=seed)
    except UserError:
        return "none", []
    if data.as_of is None or len(np.unique(data.as_of)) == 1:
        return "folds", folds
    newest = data.as_of == data.as_of.max()
    later = [Fold(fold.train[~newest[fold.train]], fold.test[newest[fold.test]], data.as_of.max()) for fold in folds]
    if all(_has_both(data.labels[fold.train]) and len(fold.test) for fold in later):
        return "later", later
    return "folds", folds


def _choose(bench: _Bench, say: Callable[[str], None]) -> _Choice:
    """Small, or the best candidate that beats it by more than noise.

    All are tried on one fold (the newest); the `FINALISTS` that beat small there, on all folds.
    """
    if not bench.folds:
        return _Choice(BASE, ())
    order = range(len(bench.folds))
    newest = order[-1:]
    base = {index: booster for (_, index), booster in _train(bench, [(BASE, index) for index in order]).items()}
    base_margins = _margins(bench, base, SMALL_ROUNDS)
    first = _train(bench, [(candidate, newest[0]) for candidate in CANDIDATES])
    leads = {}
    for candidate in CANDIDATES:
        booster = first[candidate.name, newest[0]]
        margins = _margins(bench, {newest[0]: booster}, _best_rounds(candidate, [booster]))
        leads[candidate.name] = _paired(bench, margins, base_margins, newest)[0]
    ranked = sorted((lead, place) for place, lead in enumerate(leads.values()) if lead < 0)
    finalists = [CANDIDATES[place] for _, place in ranked[:FINALISTS]]
    others = _train(bench, [(candidate, index) for candidate in finalists for index in order[:-1]])
    tried: list[dict[str, Any]] = [
        {"name": "small", "rounds": SMALL_ROUNDS, "log_loss": _loss(bench, base_margins, order)}
    ]
    tried += [{"name": name, "against_small_on_newest_fold": lead} for name, lead in leads.items()]
    best = (math.inf, BASE, base_margins)
    for candidate in finalists:
        boosters = {index: others[candidate.name, index] for index in order[:-1]}
        boosters[newest[0]] = first[candidate.name, newest[0]]
        rounds = _best_rounds(candidate, list(boosters.values()))
        margins = _margins(bench, boosters, rounds)
        gain, noise = _paired(bench, margins, base_margins, order)
        loss = _loss(bench, margins, order)
        tried.append(
            {"name": candidate.name, "rounds": rounds, "log_loss": loss, "against_small": gain, "noise": noise}
        )
        say(f"{candidate.name}: log loss {loss:.5f}, {gain:+.5f} against small (noise {noise:.5f})")
        if loss < best[0] and _is_better(bench, gain, noise, margins, base_margins):
            best = (loss, replace(candidate, rounds=rounds), margins)
    return _Choice(best[1], tuple(best[2][index] for index in order), tried=tuple(tried))


def _judge(bench: _Bench, candidate: Candidate) -> tuple[int, dict[int, Floats]]:
    """The number of trees (the mean of what early stopping found) and the margins on the test rows of all folds."""
    found = _train(bench, [(candidate, index) for index in range(len(bench.folds))])
    boosters = {index: booster for (_, index), booster in found.items()}
    rounds = _best_rounds(candidate, list(boosters.values()))
    return rounds, _margins(bench, boosters, rounds)


def _train(bench: _Bench, jobs: Sequence[tuple[Candidate, int]]) -> dict[tuple[str, int], xgboost.Booster]:
    """One booster per candidate and fold; side by side, each on one thread, since few rows do not keep two threads busy."""
    import xgboost

    def one(job: tuple[Candidate, int]) -> xgboost.Booster:
        candidate, index = job
        train, test = bench.quantised[index]
        settings = _settings(bench, candidate.parameters, bench.data.labels[bench.folds[index].train])
        if candidate.fixed:
            return xgboost.train(settings, train, candidate.rounds)
        return xgboost.train(
            settings,
            train,
            candidate.rounds,
            evals=[(test, "test")],
            early_stopping_rounds=PATIENCE,
            verbose_eval=False,
        )

    with ThreadPoolExecutor(bench.threads) as pool:
        boosters = list(pool.map(one, jobs))
    return {(candidate.name, index): booster for (candidate, index), booster in zip(jobs, boosters, strict=True)}


def _best_rounds(candidate: Candidate, boosters: Sequence[xgboost.Booster]) -> int:
    if candidate.fixed:
        return candidate.rounds
    return max(1, round(float(np.mean([booster.best_iteration + 1 for booster in boosters]))))


def _margins(bench: _Bench, boosters: Mapping[int, xgboost.Booster], rounds: int) -> dict[int, Floats]:
    """Log-odds of the first `rounds` trees on the test rows of each fold."""
    found = {}
    for index, booster in boosters.items():
        upto = min(rounds, booster.num_boosted_rounds())
        answer = booster.predict(bench.quantised[index][1], output_margin=True, iteration_range=(0, upto))
        found[index] = np.asarray(answer, dtype=np.float64)
    return found


def _settings(bench: _Bench, parameters: Mapping[str, float], label: Floats) -> dict[str, Any]:
    return xgboost_settings(
        parameters, bench.columns, label, seed=bench.seed, threads=1, directions=bench.directions, bins=bench.bins
    )


def _blend(bench: _Bench, choice: _Choice, say: Callable[[str], None]) -> _Choice:
    """Join the regression when a weight that was found on other folds pays on the fold at hand."""
    if len(bench.folds) < 2:
        return choice
    by_penalty: list[list[Floats]] = [[] for _ in PENALTIES]
    for fold in bench.folds:
        models = _regressions(
            bench.matrix[fold.train], bench.data.labels[fold.train], bench.columns, bench.signs, PENALTIES
        )
        for margins, model in zip(by_penalty, models, strict=True):
            margins.append(model.log_odds(bench.matrix[fold.test]))
    forms = [(weight, place) for weight in WEIGHTS for place in range(len(PENALTIES))]
    blended = [
        [weight * trees + (1 - weight) * other for trees, other in zip(choice.margins, by_penalty[place], strict=True)]
        for weight, place in forms
    ]
    forms, blended = [(1.0, 0), *forms], [list(choice.margins), *blended]

    def pick(folds: Sequence[int]) -> int:
        losses = [_loss(bench, dict(enumerate(margins)), folds) for margins in blended]
        return int(np.argmin(losses))

    honest: dict[int, Floats] = {}
    for index, others in _tests(bench):
        honest[index] = blended[pick(others)][index]
    tested = sorted(honest)
    gain, noise = _paired(bench, honest, dict(enumerate(choice.margins)), tested)
    weight, place = forms[pick(range(len(bench.folds)))]
    kept = gain < -(NOISE if bench.is_forward else LEAN) * noise and weight < 1
    record = {"name": "blend", "weight_of_trees": weight, "against_trees": gain, "noise": noise, "kept": kept}
    say(f"blend with a regression: {gain:+.5f} (noise {noise:.5f}), {'kept' if kept else 'not kept'}")
    if not kept:
        return replace(choice, tried=(*choice.tried, record))
    margins = blended[forms.index((weight, place))]
    return replace(
        choice, margins=tuple(margins), weight=weight, penalty=PENALTIES[place], tried=(*choice.tried, record)
    )


def _calibrate(bench: _Bench, choice: _Choice, say: Callable[[str], None]) -> _Choice:
    """Keep an affine map of the log-odds only when one that was found on other folds pays on the fold at hand."""
    if len(bench.folds) < 2:
        return choice
    honest: dict[int, Floats] = {}
    for index, others in _tests(bench):
        intercept, slope = _affine(bench, choice.margins, others)
        honest[index] = intercept + slope * choice.margins[index]
    gain, noise = _paired(bench, honest, dict(enumerate(choice.margins)), sorted(honest))
    kept = gain < -NOISE * noise
    intercept, slope = _affine(bench, choice.margins, range(len(bench.folds))) if kept else (0.0, 1.0)
    record = {"name": "calibration", "against_none": gain, "noise": noise, "kept": kept}
    say(f"calibration: {gain:+.5f} (noise {noise:.5f}), {'kept' if kept else 'not kept'}")
    return replace(choice, intercept=intercept, slope=slope, tried=(*choice.tried, record))


def _tests(bench: _Bench) -> list[tuple[int, list[int]]]:
    """Pairs of the fold that tests and those on which the thing tested may be found: only earlier ones when time is known."""
    count = len(bench.folds)
    if bench.is_forward:
        return [(index, list(range(index))) for index in range(1, count)]
    return [(index, [other for other in range(count) if other != index]) for index in range(count)]


def _affine(bench: _Bench, margins: Sequence[Floats], folds: Sequence[int]) -> tuple[float, float]:
    """Intercept and slope of the logistic regression of the labels on one column, the log-odds (Newton's method)."""
    x = np.concatenate([margins[index] for index in folds])
    y = np.concatenate([bench.data.labels[bench.folds[index].test] for index in folds])
    point = np.array([0.0, 1.0])
    design = np.column_stack([np.ones(len(x)), x])
    for _ in range(25):
        probability = sigmoid(design @ point)
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (probability - y))
        point -= step
        if np.abs(step).max() < 1e-8:
            break
    if not np.isfinite(point).all() or not 0.2 < point[1] < 5 or abs(point[0]) > 5:
        return 0.0, 1.0
    return float(point[0]), float(point[1])


def _search(
    bench: _Bench,
    choice: _Choice,
    data: Dataset,
    minutes: float,
    storage: str | None,
    on_trial: Callable[[Mapping[str, Any]], None],
    say: Callable[[str], None],
) -> _Choice:
    """Tree-structured Parzen search (Bergstra et al. 2011, by Optuna) around the candidates; its best has to beat the choice.

    The study carries the hash of the data in its name: with a `storage` it goes on where it stopped, on the same data only.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    order = range(len(bench.folds))

    def parameters_of(trial: optuna.Trial) -> dict[str, float]:
        return {
            "max_depth": trial.suggest_int("max_depth", 2, 10),
            "eta": SEARCH_RATE,
            "min_child_weight": trial.suggest_float("min_child_weight", 0.5, 60, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "colsample_bynode": trial.suggest_float("colsample_bynode", 0.2, 1.0),
            "lambda": trial.suggest_float("lambda", 0.5, 60, log=True),
        }

    def objective(trial: optuna.Trial) -> float:
        candidate = Candidate("search", parameters_of(trial), 500)
        rounds, margins = _judge(bench, candidate)
        trial.set_user_attr("rounds", rounds)
        return _loss(bench, margins, order)

    def tell(trial: optuna.trial.FrozenTrial) -> None:
        found = {"parameters": {**trial.params, "eta": SEARCH_RATE}, "rounds": trial.user_attrs["rounds"]}
        on_trial({"number": trial.number, **found, "log_loss": trial.value})

    def completed() -> list[optuna.trial.FrozenTrial]:
        return study.get_trials(states=[optuna.trial.TrialState.COMPLETE])

    study = optuna.create_study(
        study_name=f"tenure-{data.content_hash()[:16]}-{bench.seed}",
        storage=storage,
        load_if_exists=True,
    )
    earlier = completed()
    # Another seed than the last time: the first points are drawn at random, and would be the same ones again.
    study.sampler = optuna.samplers.TPESampler(seed=bench.seed + len(data) % 1000 + len(study.trials))
    for trial in earlier:
        tell(trial)
    # The one number that ends a search is also the one that is kept: a search that ended has no time left over.
    spent, started = float(study.user_attrs.get("spent_seconds", 0.0)), time.monotonic()

    def end_of_trial(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        tell(trial)
        seconds = spent + time.monotonic() - started
        study.set_user_attr("spent_seconds", seconds)
        if seconds >= minutes * 60:
            study.stop()

    if spent < minutes * 60:
        study.optimize(objective, callbacks=[end_of_trial])
    best = study.best_trial
    candidate = Candidate("search", {**best.params, "eta": SEARCH_RATE}, int(best.user_attrs["rounds"]))
    rounds, margins = _judge(bench, replace(candidate, rounds=500))
    now = dict(enumerate(choice.margins))
    gain, noise = _paired(bench, margins, now, order)
    kept = _is_better(bench, gain, noise, margins, now)
    record = {
        "name": "search",
        "trials": len(completed()),
        "parameters": dict(candidate.parameters),
        "rounds": rounds,
        "log_loss": float(best.value or 0.0),
        "against_choice": gain,
        "noise": noise,
        "kept": kept,
    }
    say(f"search: {len(completed())} trials, {gain:+.5f} (noise {noise:.5f}), {'kept' if kept else 'not kept'}")
    if not kept:
        return replace(choice, tried=(*choice.tried, record))
    return replace(
        choice,
        trees=replace(candidate, rounds=rounds),
        margins=tuple(margins[index] for index in range(len(bench.folds))),
        tried=(*choice.tried, record),
    )


def _final_size(bench: _Bench, choice: _Choice, data: Dataset) -> tuple[int, float]:
    """Trees and learning rate of the final training on all of `data`.

    More rows carry more trees: by the square root of the growth since validation, at most 2.5 times.
    """
    rounds, rate = choice.trees.rounds, float(choice.trees.parameters["eta"])
    if choice.trees.fixed:
        return rounds, rate
    trained = float(np.mean([len(fold.train) for fold in bench.folds]))
    rounds = round(rounds * min(2.5, math.sqrt(len(data) / trained)))
    return (2 * rounds, rate / 2) if len(data) <= SLOW_ROWS else (rounds, rate)


def _is_sampled(bench: _Bench, data: Dataset) -> bool:
    """Whether the final training sees far more rows than validation did.

    Then neither blend nor calibration carries over: trees gain from the further rows, a regression hardly does.
    """
    return bool(bench.folds) and len(data) > 3 * float(np.mean([len(fold.train) for fold in bench.folds]))


def _regressions(
    matrix: NDArray[np.float32], label: Floats, columns: Columns, signs: Sequence[int], penalties: Sequence[float]
) -> list[Linear]:
    return fit_linear(matrix, label, kinds=columns.kinds, signs=signs, penalties=penalties)


def _losses(bench: _Bench, margins: Mapping[int, Floats], folds: Sequence[int]) -> Floats:
    """Log loss of every test row of `folds`, one after the other."""
    parts = []
    for index in folds:
        label = bench.data.labels[bench.folds[index].test]
        parts.append(np.logaddexp(0, margins[index]) - label * margins[index])
    return np.concatenate(parts)


def _loss(bench: _Bench, margins: Mapping[int, Floats], folds: Sequence[int]) -> float:
    return float(_losses(bench, margins, folds).mean())


def _paired(
    bench: _Bench, first: Mapping[int, Floats], second: Mapping[int, Floats], folds: Sequence[int]
) -> tuple[float, float]:
    """Mean log loss of `first` minus `second`, and its standard error with accounts as clusters."""
    difference = _losses(bench, first, folds) - _losses(bench, second, folds)
    entity = np.concatenate([bench.data.entity[bench.folds[index].test] for index in folds])
    codes, accounts = pd.factorize(entity)
    mean = float(difference.mean())
    sums = np.bincount(codes, weights=difference - mean, minlength=len(accounts))
    return mean, float(np.sqrt((sums**2).sum())) / len(difference)


def _is_better(
    bench: _Bench, gain: float, noise: float, first: Mapping[int, Floats], second: Mapping[int, Floats]
) -> bool:
    """Better by more than noise, and on most of the folds."""
    if not gain < -NOISE * noise:
        return False
    ahead = [_loss(bench, first, [index]) < _loss(bench, second, [index]) for index in range(len(bench.folds))]
    return sum(ahead) * 2 > len(ahead)


def _has_both(label: Floats) -> bool:
    return bool(0 < label.sum() < len(label))


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


def columns_of(data: Dataset) -> Columns:
    """The features of `data` with the categories that have enough rows to be learned."""
    categories: dict[str, tuple[str, ...]] = {}
    for name in data.features.columns:
        column = data.features[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            counts = np.bincount(column.cat.codes.to_numpy() + 1, minlength=len(column.cat.categories) + 1)[1:]
            kept = zip(column.cat.categories, counts, strict=True)
            categories[name] = tuple(str(text) for text, count in kept if count >= MIN_CATEGORY_ROWS)
    return Columns(tuple(str(name) for name in data.features.columns), categories)


def train_boosters(
    matrix: NDArray[np.float32],
    label: NDArray[np.float64],
    columns: Columns,
    *,
    parameters: Mapping[str, float],
    rounds: int,
    seeds: Sequence[int],
    threads: int,
    directions: Mapping[str, int],
    bins: int = 256,
) -> list[xgboost.Booster]:
    """One booster per seed on a coded `matrix` (n, f) that is quantised once; `parameters` as XGBoost names them."""
    import xgboost

    quantised = xgboost.QuantileDMatrix(matrix, label, feature_types=columns.kinds, nthread=threads, max_bin=bins)
    settings = xgboost_settings(parameters, columns, label, seed=0, threads=threads, directions=directions, bins=bins)
    return [xgboost.train({**settings, "seed": seed}, quantised, rounds) for seed in seeds]


def xgboost_settings(
    parameters: Mapping[str, float],
    columns: Columns,
    label: NDArray[np.float64],
    *,
    seed: int,
    threads: int,
    directions: Mapping[str, int],
    bins: int = 256,
) -> dict[str, Any]:
    """The full parameters of XGBoost: `parameters` and what never changes (logistic loss, prior as start, no weights)."""
    share = min(max(float(label.mean()), 1e-6), 1 - 1e-6)
    settings: dict[str, Any] = {
        **parameters,
        "objective": "binary:logistic",
        "tree_method": "hist",
        "base_score": share,
        "seed": seed,
        "nthread": threads,
        "max_bin": bins,
        "verbosity": 0,
    }
    for whole in ("max_depth", "max_bin", "max_leaves", "max_cat_to_onehot", "max_cat_threshold"):
        if whole in settings:
            settings[whole] = int(settings[whole])
    signs = signs_of(columns, directions)
    if any(signs):
        settings["monotone_constraints"] = "(" + ",".join(str(sign) for sign in signs) + ")"
    return settings


def bins_for(rows: int) -> int:
    """How finely a number is cut, by the rows that there are."""
    return next((bins for most, bins in BINS if rows <= most), 256)


def signs_of(columns: Columns, directions: Mapping[str, int]) -> Sequence[int]:
    """Per feature -1, 0 or 1; a category has no direction."""
    return [0 if name in columns.categories else int(np.sign(directions.get(name, 0))) for name in columns.names]


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
