"""What every form is evaluated on, inside the training data: rows, folds, matrices, losses.

Lives here: the choice of rows and folds, boosters on folds, log loss and its noise. Must not live here: which form is taken
(`capacity.py`, `mixing.py`), the split into training and test (`split.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from core.errors import UserError
from ml.dataset import sample_accounts, spaced
from ml.split import Fold, rolling_origins, stratified_folds
from ml.trees import Candidate, bins_for, signs_of, xgboost_settings

if TYPE_CHECKING:
    import xgboost
    from numpy.typing import NDArray

    from ml.dataset import Dataset
    from ml.model import Columns

    Floats = NDArray[np.float64]

NOISE = 1.64
"""One-sided 95 %: what a change has to exceed, in standard errors of the paired difference."""
SELECTION_ROWS = 16_000
"""Rows on which the form is found; a quarter of the rows when that is more, up to `SELECTION_ROWS_MOST`."""
SELECTION_ROWS_MOST = 60_000
MONTH = 28
PATIENCE = 25


@dataclass(frozen=True)
class Bench:
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


def bench_of(
    data: Dataset, columns: Columns, *, embargo_days: int, seed: int, threads: int, directions: Mapping[str, int]
) -> Bench:
    import xgboost

    rows = max(SELECTION_ROWS, min(len(data) // 4, SELECTION_ROWS_MOST))
    # Windows of neighbouring dates overlap: fewer dates of all accounts tell more than all dates of few accounts, and leave
    # each date enough departures to be a test.
    part = sample_accounts(spaced(data, rows, days=MONTH), rows, seed=seed)
    protocol, folds = protocol_of(part, embargo_days, seed)
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
    return Bench(part, columns, matrix, tuple(folds), protocol, seed, threads, directions, bins, tuple(quantised))


def protocol_of(data: Dataset, embargo_days: int, seed: int) -> tuple[str, list[Fold]]:
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
    # Twice only with dates: without, more forms are tried on each fold.
    count, repeats = (5, 2 if data.as_of is not None and len(data) <= 1500 else 1) if len(data) <= 3000 else (3, 1)
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


@dataclass(frozen=True)
class Grown:
    """A booster of one fold."""

    booster: xgboost.Booster
    curve: Floats
    """(r,) log loss on the fold's test rows after each tree; empty where the number of trees is fixed."""


def train(bench: Bench, jobs: Sequence[tuple[Candidate, int]], *, further: int = 0) -> dict[tuple[str, int], Grown]:
    """One booster per candidate and fold; side by side, each on one thread, since few rows do not keep two threads busy.

    `further` is added to the seed.
    """
    import xgboost

    def one(job: tuple[Candidate, int]) -> Grown:
        candidate, index = job
        train, test = bench.quantised[index]
        label = bench.data.labels[bench.folds[index].train]
        settings = xgboost_settings(
            candidate.parameters,
            bench.columns,
            label,
            seed=bench.seed + further,
            threads=1,
            directions=bench.directions,
            bins=bench.bins,
        )
        if candidate.fixed:
            return Grown(xgboost.train(settings, train, candidate.rounds), np.zeros(0))
        losses: dict[str, dict[str, list[float]]] = {}
        booster = xgboost.train(
            settings,
            train,
            candidate.rounds,
            evals=[(test, "test")],
            early_stopping_rounds=PATIENCE,
            verbose_eval=False,
            evals_result=losses,
        )
        return Grown(booster, np.array(losses["test"]["logloss"]))

    with ThreadPoolExecutor(bench.threads) as pool:
        grown = list(pool.map(one, jobs))
    return {(candidate.name, index): one for (candidate, index), one in zip(jobs, grown, strict=True)}


def best_rounds(candidate: Candidate, grown: Sequence[Grown]) -> int:
    """The mean of what early stopping found."""
    if candidate.fixed:
        return candidate.rounds
    return max(1, round(float(np.mean([one.booster.best_iteration + 1 for one in grown]))))


def best_rounds_together(grown: Sequence[Grown], weights: Sequence[int]) -> int:
    """Where the mean of the folds' curves is lowest; a curve that was stopped stays where it stopped."""
    most = max(len(one.curve) for one in grown)
    curves = [np.concatenate([one.curve, np.full(most - len(one.curve), one.curve[-1])]) for one in grown]
    return int(np.average(curves, axis=0, weights=weights).argmin()) + 1


def margins_of(bench: Bench, grown: Mapping[int, Grown], rounds: int) -> dict[int, Floats]:
    """Log-odds of the first `rounds` trees on the test rows of each fold."""
    found = {}
    for index, one in grown.items():
        upto = min(rounds, one.booster.num_boosted_rounds())
        answer = one.booster.predict(bench.quantised[index][1], output_margin=True, iteration_range=(0, upto))
        found[index] = np.asarray(answer, dtype=np.float64)
    return found


def tests(bench: Bench) -> list[tuple[int, list[int]]]:
    """Pairs of the fold that tests and those on which the thing tested may be found: only earlier ones when time is known."""
    count = len(bench.folds)
    if bench.is_forward:
        return [(index, list(range(index))) for index in range(1, count)]
    return [(index, [other for other in range(count) if other != index]) for index in range(count)]


def _losses(bench: Bench, margins: Mapping[int, Floats], folds: Sequence[int]) -> Floats:
    """Log loss of every test row of `folds`, one after the other."""
    parts = []
    for index in folds:
        label = bench.data.labels[bench.folds[index].test]
        parts.append(np.logaddexp(0, margins[index]) - label * margins[index])
    return np.concatenate(parts)


def mean_loss(bench: Bench, margins: Mapping[int, Floats], folds: Sequence[int]) -> float:
    return float(_losses(bench, margins, folds).mean())


def paired(
    bench: Bench, first: Mapping[int, Floats], second: Mapping[int, Floats], folds: Sequence[int]
) -> tuple[float, float]:
    """Mean log loss of `first` minus `second`, and its standard error with accounts as clusters."""
    difference = _losses(bench, first, folds) - _losses(bench, second, folds)
    entity = np.concatenate([bench.data.entity[bench.folds[index].test] for index in folds])
    codes, accounts = pd.factorize(entity)
    mean = float(difference.mean())
    sums = np.bincount(codes, weights=difference - mean, minlength=len(accounts))
    return mean, float(np.sqrt((sums**2).sum())) / len(difference)


def is_better(
    bench: Bench, gain: float, noise: float, first: Mapping[int, Floats], second: Mapping[int, Floats]
) -> bool:
    """Better by more than noise, and on most of the folds."""
    if not gain < -NOISE * noise:
        return False
    ahead = [mean_loss(bench, first, [index]) < mean_loss(bench, second, [index]) for index in range(len(bench.folds))]
    return sum(ahead) * 2 > len(ahead)


def _has_both(label: Floats) -> bool:
    return bool(0 < label.sum() < len(label))
