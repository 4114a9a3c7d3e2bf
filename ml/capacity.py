"""How large the trees are: depth, penalties, rounds, found by log loss on rows that did not train.

Lives here: the candidates and the choice among them, with and without time, and the long search. Must not live here: folds and
losses (`bench.py`), blend and calibration (`mixing.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.bench import (
    PATIENCE,
    Bench,
    Grown,
    best_rounds,
    best_rounds_together,
    is_better,
    margins_of,
    mean_loss,
    paired,
    train,
)
from ml.mixing import PENALTIES
from ml.trees import SMALL, SMALL_ROUNDS, Candidate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml.dataset import Dataset

    Floats = NDArray[np.float64]

FINALISTS = 2
"""Candidates that are tried on all folds after the first."""
MANY_ROWS = 4_000
"""Up to here the first two folds say which forms go on: one alone has too few departures."""
FEW_ROWS = 1_000
"""Below, the search ends with the best form: finer steps would follow the luck of the folds."""
MOST_ROUNDS = 600
AVERAGED = 3
"""Boosters, different in their seed, of which a final model is the mean."""
SEARCH_RATE = 0.1
"""Learning rate of the search. With dates the final training of up to `SLOW_ROWS` rows takes half of it, with twice the trees."""


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


def _form(name: str, depth: int, child: float, penalty: float, columns: float) -> Candidate:
    return _deeper(name, depth, child, penalty, columns, MOST_ROUNDS)


BASE = Candidate("small", SMALL, SMALL_ROUNDS, fixed=True)
CANDIDATES = (
    _deeper("additive", 2, 20, 5, 0.5, 300),
    _deeper("medium", 4, 2, 10, 0.5, 500),
    _deeper("deep", 6, 1, 10, 0.5, 500),
    _deeper("deepest", 8, 1, 30, 1.0, 500),
)
FORMS = (
    _form("additive", 2, 5, 5, 0.5),
    _form("shallow", 3, 5, 5, 0.5),
    _form("medium", 4, 2, 10, 0.5),
    _form("wary", 5, 20, 30, 0.3),
    _form("deep", 6, 1, 10, 0.5),
    _form("sharp", 6, 1, 1, 1.0),
    _form("deepest", 8, 1, 30, 1.0),
)
"""Tables without time. Light leaves and small penalties pay where boxes of customers leave nearly all (made table of 3,300 rows: log
loss above the truth 0.020 by `sharp`, loosened, where `deep` has 0.030)."""
STEPS: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("lambda", (0.25, 4.0)),
    ("min_child_weight", (0.3, 5.0)),
    ("colsample_bynode", (0.5, 2.0)),
)


@dataclass(frozen=True)
class Choice:
    """The form so far: `margins` holds its log-odds on the test rows of each fold."""

    trees: Candidate
    margins: tuple[Floats, ...]
    weight: float = 1.0
    penalty: float = PENALTIES[0]
    intercept: float = 0.0
    slope: float = 1.0
    tried: tuple[dict[str, Any], ...] = ()


def choose(bench: Bench, say: Callable[[str], None]) -> Choice:
    """The trees, by what the data allow."""
    if not bench.folds:
        return Choice(BASE, ())
    return _best_of(bench, say) if bench.protocol == "folds" else _better_than_small(bench, say)


def _better_than_small(bench: Bench, say: Callable[[str], None]) -> Choice:
    """Small, or the best candidate that beats it by more than noise: the next date is not like the last ones.

    All are tried on one fold (the newest); the `FINALISTS` that beat small there, on all folds.
    """
    order = range(len(bench.folds))
    newest = order[-1:]
    base = {index: booster for (_, index), booster in train(bench, [(BASE, index) for index in order]).items()}
    base_margins = margins_of(bench, base, SMALL_ROUNDS)
    first = train(bench, [(candidate, newest[0]) for candidate in CANDIDATES])
    leads = {}
    for candidate in CANDIDATES:
        booster = first[candidate.name, newest[0]]
        margins = margins_of(bench, {newest[0]: booster}, best_rounds(candidate, [booster]))
        leads[candidate.name] = paired(bench, margins, base_margins, newest)[0]
    ranked = sorted((lead, place) for place, lead in enumerate(leads.values()) if lead < 0)
    finalists = [CANDIDATES[place] for _, place in ranked[:FINALISTS]]
    others = train(bench, [(candidate, index) for candidate in finalists for index in order[:-1]])
    tried: list[dict[str, Any]] = [
        {"name": "small", "rounds": SMALL_ROUNDS, "log_loss": mean_loss(bench, base_margins, order)}
    ]
    tried += [{"name": name, "against_small_on_newest_fold": lead} for name, lead in leads.items()]
    best = (math.inf, BASE, base_margins)
    for candidate in finalists:
        boosters = {index: others[candidate.name, index] for index in order[:-1]}
        boosters[newest[0]] = first[candidate.name, newest[0]]
        rounds = best_rounds(candidate, list(boosters.values()))
        margins = margins_of(bench, boosters, rounds)
        gain, noise = paired(bench, margins, base_margins, order)
        loss = mean_loss(bench, margins, order)
        tried.append(
            {"name": candidate.name, "rounds": rounds, "log_loss": loss, "against_small": gain, "noise": noise}
        )
        say(f"{candidate.name}: log loss {loss:.5f}, {gain:+.5f} against small (noise {noise:.5f})")
        if loss < best[0] and is_better(bench, gain, noise, margins, base_margins):
            best = (loss, replace(candidate, rounds=rounds), margins)
    return Choice(best[1], tuple(best[2][index] for index in order), tried=tuple(tried))


def _best_of(bench: Bench, say: Callable[[str], None]) -> Choice:
    """The form with the lowest log loss: rows without time are alike, and what is best on folds is best on the next rows.

    All of `FORMS` are tried on the first folds, the best three on all; then the best is loosened and tightened, penalty by penalty.
    A step that does not lead on the first folds is not tried on the others. The margins are the mean of as many seeds as the final
    model has, so that blend and calibration are found on what will score.
    """
    order = list(range(len(bench.folds)))
    first = order[:1] if len(bench.data) > MANY_ROWS else order[:2]
    known: dict[tuple[str, int], Grown] = {}
    tried: list[dict[str, Any]] = []

    def on(folds: Sequence[int], candidates: Sequence[Candidate]) -> list[_Found]:
        jobs = [(one, index) for one in candidates for index in folds if (one.name, index) not in known]
        known.update(train(bench, jobs))
        return [_found(bench, one, {index: known[one.name, index] for index in folds}) for one in candidates]

    finalists = sorted(on(first, FORMS), key=lambda one: one.loss)[:3]
    found = on(order, [one.candidate for one in finalists])
    best = min(found, key=lambda one: one.loss)
    for name, factors in STEPS if len(bench.data) >= FEW_ROWS else ():
        start = best.candidate
        steps = [_moved(start, name, factor) for factor in factors]
        to_beat = on(first, [start])[0].loss
        leading = [one.candidate for one in on(first, steps) if one.loss < to_beat]
        more = on(order, leading)
        found += more
        best = min([best, *more], key=lambda one: one.loss)
    for one in found:
        tried.append({"name": one.candidate.name, "rounds": one.candidate.rounds, "log_loss": one.loss})
        say(f"{one.candidate.name}: log loss {one.loss:.5f} with {one.candidate.rounds} trees")
    rounds, margins = _averaged(bench, best.candidate)
    loss = mean_loss(bench, margins, order)
    tried.append({"name": f"{best.candidate.name}, the mean of {AVERAGED}", "rounds": rounds, "log_loss": loss})
    return Choice(replace(best.candidate, rounds=rounds), tuple(margins[index] for index in order), tried=tuple(tried))


def _averaged(bench: Bench, best: Candidate) -> tuple[int, dict[int, Floats]]:
    """The margins of the mean of several boosters, and the trees of each: as a mean errs less, it bears more of them than one."""
    order = range(len(bench.folds))
    longest = replace(best, rounds=best.rounds + PATIENCE, fixed=True)
    grown = [train(bench, [(longest, index) for index in order], further=seed) for seed in range(AVERAGED)]

    def mean(rounds: int) -> dict[int, Floats]:
        alone = [margins_of(bench, {index: one[best.name, index] for index in order}, rounds) for one in grown]
        return {index: np.mean([one[index] for one in alone], axis=0) for index in order}

    tried = {rounds: mean(rounds) for rounds in range(best.rounds, longest.rounds + 1, max(1, PATIENCE // 5))}
    return min(tried.items(), key=lambda one: mean_loss(bench, one[1], order))


@dataclass(frozen=True)
class _Found:
    """A candidate with the number of trees that was best for it."""

    candidate: Candidate
    margins: dict[int, Floats]
    loss: float


def _found(bench: Bench, candidate: Candidate, grown: Mapping[int, Grown]) -> _Found:
    rounds = best_rounds_together(list(grown.values()), [len(bench.folds[index].test) for index in grown])
    margins = margins_of(bench, grown, rounds)
    return _Found(replace(candidate, rounds=rounds), margins, mean_loss(bench, margins, list(grown)))


def _moved(candidate: Candidate, name: str, factor: float) -> Candidate:
    value = candidate.parameters[name] * factor
    parameters = {**candidate.parameters, name: min(value, 1.0) if name.startswith("colsample") else value}
    return Candidate(f"{candidate.name}, {name} {parameters[name]:g}", parameters, MOST_ROUNDS)


def _judge(bench: Bench, candidate: Candidate) -> tuple[int, dict[int, Floats]]:
    """The number of trees (the mean of what early stopping found) and the margins on the test rows of all folds."""
    found = train(bench, [(candidate, index) for index in range(len(bench.folds))])
    grown = {index: one for (_, index), one in found.items()}
    rounds = best_rounds(candidate, list(grown.values()))
    return rounds, margins_of(bench, grown, rounds)


def search(
    bench: Bench,
    choice: Choice,
    data: Dataset,
    minutes: float,
    storage: str | None,
    on_trial: Callable[[Mapping[str, Any]], None],
    say: Callable[[str], None],
) -> Choice:
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
        return mean_loss(bench, margins, order)

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
    gain, noise = paired(bench, margins, now, order)
    kept = is_better(bench, gain, noise, margins, now)
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
