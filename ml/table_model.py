"""Bring your own table: learn from one flat file and test honestly.

Lives here: the order of things for a flat file, the protocol of its test, tiers, what its features do. Must not live here: the
recipe (`recipe.py`), metrics (`evaluate.py`): they are the pipeline's own; keeping the model (`table_store.py`) and scoring with it
(`table_score.py`).

The tested models learned from the other folds (or from what came before); the one that is kept learned the same way from all
rows. Tiers are those of the out-of-sample risks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.errors import UserError
from core.words import percent
from ml import evaluate, flat, gate, recipe, split
from ml.dataset import Dataset, sample_accounts
from ml.evaluate import Difference, Evaluation, Interval
from ml.flat import Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.settings import Tenure
    from ml.model import ChurnModel
    from ml.split import Fold

    Floats = NDArray[np.float64]

Say = Callable[[str, int, int], object]
"""What is done, how many steps are done, how many there are."""

FOLDS, REPEATS = 5, 2
ONE_REPEAT_FROM = 5_000
"""Rows from which five folds are gone through once: the interval of an AUC is then below +-0.02, which another way to cut the same
rows hardly narrows, and each training looks for its own form."""
TWO_FOLDS_FROM = 100_000
"""Rows from which two of the five folds are tested: 40,000 rows or more."""
DATES = 5
"""Forward tests, when the rows have a time."""
BLOCKS = (1, 7, 30, 91, 182, 365)
"""Days that one forward test spans: the fewest that leave enough departures in each."""
EXPLAINED = 5_000
"""Rows whose contributions give the order of the features and their directions."""
TOP_SHARE, NEXT_SHARE = 0.10, 0.20
"""Tiers: high is the riskiest tenth of the training's customers, medium the next fifth."""
NEXT_TO_NOTHING = 0.005
"""Share of all contributions below which the direction of a feature is mostly noise."""
OVERLAP = (
    "No --horizon-days: if the label looks further ahead than the next date, training saw part of what the test asks, and the"
    " numbers flatter."
)


@dataclass(frozen=True)
class Effect:
    """What one feature does to the risk."""

    feature: str
    share: float
    """Its part of all contributions, 0 to 1."""
    direction: str
    """In words."""


@dataclass(frozen=True)
class Tested:
    """Rows with the probabilities of models that did not see them; several repeats hold the same rows."""

    data: Dataset
    probability: Floats
    regression: Floats
    prior: Floats


@dataclass(frozen=True)
class TableTraining:
    """A training with everything that is known about it."""

    prepared: Prepared
    model: ChurnModel
    selection: Mapping[str, Any]
    protocol: str
    """How it was tested, in a sentence."""
    folds: tuple[Mapping[str, Any], ...]
    """The test in parts: per repeat, or per date."""
    tested: Tested
    """The first repeat, or all dates: what the pictures show."""
    evaluation: Evaluation
    baselines: Mapping[str, Evaluation]
    against_regression: Mapping[str, Difference]
    random_split_auc: float | None
    effects: tuple[Effect, ...]
    decision: gate.Decision
    verdict: str
    thresholds: tuple[float, float]
    """Probabilities from which a customer is in tier high and medium."""
    quantiles: tuple[float, ...]
    """The 1,001 quantiles of the out-of-sample probabilities, for percentiles."""

    @property
    def form(self) -> str:
        """What the recipe chose, in a sentence."""
        found = self.selection
        depth = found.get("parameters", {}).get("max_depth")
        boosters = found.get("boosters", 1)
        mean = f", the mean of {boosters} that differ in their seed" if boosters > 1 else ""
        words = f"{found.get('rounds', '?')} trees of depth {depth}{mean}"
        weight = found.get("weight_of_trees", 1)
        if weight < 1:
            words += f"; blended with a regression, which has {percent(1 - weight)} of the say"
        return words

    def document(self) -> dict[str, Any]:
        """All of it but rows and models, JSON-able."""
        data = self.prepared.data
        return {
            "rows": {
                "read": self.prepared.rows_read,
                "used": len(data),
                "without_label": self.prepared.rows_without_label,
                "left": data.events,
                "customers": len(set(data.entity)),
            },
            "columns": [asdict(fate) for fate in self.prepared.fates],
            "leak_suspects": [asdict(suspect) for suspect in self.prepared.suspects],
            "notes": list(self.prepared.notes),
            "protocol": self.protocol,
            "test": asdict(self.evaluation),
            "folds": list(self.folds),
            "baselines": {name: asdict(found) for name, found in self.baselines.items()},
            "against_regression": {name: asdict(found) for name, found in self.against_regression.items()},
            "random_split_auc": self.random_split_auc,
            "effects": [asdict(effect) for effect in self.effects],
            "decision": self.decision.document(),
            "verdict": self.verdict,
            "tiers": {"high_from": self.thresholds[0], "medium_from": self.thresholds[1]},
            "form": self.form,
            "selection": self.selection,
        }


def train(
    path: Path,
    *,
    label: str,
    id: str,
    time: str | None = None,
    drop: Collection[str] = (),
    keep: Collection[str] = (),
    horizon_days: int = 0,
    tenure: Tenure,
    progress: Say = lambda what, done, total: None,
) -> TableTraining:
    """Learn from the file at `path` and test. Raises `UserError` with one sentence for what is wrong with the table."""
    seed, threads = tenure.config.model.seed, tenure.threads
    progress("reading the table", 0, 1)
    prepared = flat.prepare(
        path,
        label=label,
        id=id,
        time=time,
        drop=drop,
        keep=keep,
        seed=seed,
        memory_limit=tenure.memory_limit,
        threads=threads,
        temp_directory=tenure.temp_directory,
    )
    if time is not None and not horizon_days:
        prepared = replace(prepared, notes=(*prepared.notes, OVERLAP))
    data = prepared.data.in_canonical_order()
    # Two rows of different dates never share a fold's two sides: a label takes at least a day to settle.
    embargo = max(horizon_days, 1)
    parts = _forward(data, embargo, time) if data.as_of is not None else _repeated(data, seed)
    steps = sum(len(part) for part in parts) + (2 if data.as_of is None else 3)
    done = 0
    tested: list[Tested] = []
    for number, folds in enumerate(parts):
        pieces: list[Tested] = []
        for fold in folds:
            done += 1
            where = f"before {fold.date}" if fold.date is not None else f"fold {len(pieces) + 1} of {len(folds)}"
            repeat = f", repeat {number + 1} of {len(parts)}" if len(parts) > 1 else ""
            progress(f"testing: learning {where}{repeat}", done, steps)
            pieces.append(_one(data, fold, embargo=embargo, seed=seed, threads=threads))
        tested.append(_together(pieces))
    random_auc = None
    if data.as_of is not None:
        done += 1
        progress("testing on a random split, to show what it would claim", done, steps)
        few = sample_accounts(data, 50_000, seed=seed)
        random_auc = evaluate.random_split_auc(few, _learner(embargo, seed, threads), seed=seed)
    progress("learning from all rows", done + 1, steps)
    fitted = recipe.fit(data, embargo_days=embargo, seed=seed, threads=threads)
    progress("measuring", done + 2, steps)
    return _judged(prepared, data, fitted, tested, parts, tenure, random_auc, horizon_days)


def _judged(
    prepared: Prepared,
    data: Dataset,
    fitted: recipe.Fitted,
    tested: Sequence[Tested],
    parts: Sequence[Sequence[Fold]],
    tenure: Tenure,
    random_auc: float | None,
    horizon_days: int,
) -> TableTraining:
    seed = tenure.config.model.seed
    first = tested[0]
    dates = 1 if first.data.as_of is None else len(np.unique(first.data.as_of))
    options: dict[str, Any] = {"capacity": max(1, round(TOP_SHARE * len(first.data) / dates)), "seed": seed}

    def judge(scores: Callable[[Tested], Floats]) -> Evaluation:
        horizon = horizon_days or None
        return _mean([evaluate.evaluate(one.data, scores(one), horizon_days=horizon, **options) for one in tested])

    evaluation = judge(lambda one: one.probability)
    baselines = {"prior": judge(lambda one: one.prior), "logistic_regression": judge(lambda one: one.regression)}
    against = evaluate.compare(first.data, first.probability, first.regression, **options)
    evidence = gate.evidence(
        evaluation,
        prior=baselines["prior"],
        against_regression=against["log_loss"],
        leak_suspects=[one.name for one in prepared.suspects if one.verdict == "kept" and one.auc >= gate.TOO_GOOD],
    )
    decision = gate.judge(evidence, tenure.config.model.gate)
    if first.data.as_of is None:  # the rules speak of the pipeline's tests, which are forward
        still = tuple(reason.replace(" forward in time", "") for reason in decision.reasons)
        decision = replace(decision, reasons=still)
    probability = np.concatenate([one.probability for one in tested])
    return TableTraining(
        prepared=replace(prepared, data=data),
        model=fitted.model,
        selection=fitted.selection,
        protocol=_protocol(first, parts, horizon_days),
        folds=tuple(_folds(tested, parts)),
        tested=first,
        evaluation=evaluation,
        baselines=baselines,
        against_regression=against,
        random_split_auc=random_auc,
        effects=effects(
            fitted.model, data, seed=seed, dates={c.name for c in prepared.plan.columns if c.kind == "date"}
        ),
        decision=decision,
        verdict=_verdict(evaluation, against["log_loss"]),
        thresholds=_thresholds(probability, tenure),
        quantiles=tuple(float(one) for one in np.quantile(probability, np.linspace(0, 1, 1001))),
    )


# --- the test ----------------------------------------------------------------------------------------------------


def _repeated(data: Dataset, seed: int) -> list[list[Fold]]:
    rows = len(data)
    folds = split.stratified_folds(data, folds=FOLDS, repeats=REPEATS if rows < ONE_REPEAT_FROM else 1, seed=seed)
    if rows >= TWO_FOLDS_FROM:
        return [folds[:2]]
    return [folds[start : start + FOLDS] for start in range(0, len(folds), FOLDS)]


def _forward(data: Dataset, embargo: int, time: str | None) -> list[list[Fold]]:
    """Forward tests over blocks of days, the shortest blocks that leave enough departures in at least three of them."""
    assert data.as_of is not None
    best: list[Fold] = []
    for length in BLOCKS:
        found = _blocks(data, embargo, length)
        if len(found) > len(best):
            best = found
        if len(best) >= 3:
            break
    if best:
        return [best]
    dates = np.unique(data.as_of)
    raise UserError(
        f"Too little to test forward in time: {time} has {len(dates):,} date{'s' * (len(dates) > 1)} from {dates[0]} to"
        f" {dates[-1]} with {data.events:,} departures in all, and both what trains and what tests needs"
        f" {split.MIN_EVENTS} after a gap of {embargo} day{'s' * (embargo > 1)}.",
        hint="Bring more dates or a shorter --horizon-days, or leave out --time for a test by customer.",
    )


def _blocks(data: Dataset, embargo: int, length: int) -> list[Fold]:
    assert data.as_of is not None
    start = data.as_of.min()
    block = (data.as_of - start).astype(np.int64) // length
    coarse = start + (block * length).astype("timedelta64[D]")
    folds = []
    for fold in split.rolling_origins(replace(data, as_of=coarse), embargo_days=1, folds=DATES):
        begins = data.as_of[fold.test].min()
        train = fold.train[data.as_of[fold.train] + np.timedelta64(embargo, "D") <= begins]
        left = int(data.labels[train].sum())
        if min(left, len(train) - left) >= split.MIN_EVENTS:
            folds.append(replace(fold, train=train, date=begins))
    return folds


def _one(data: Dataset, fold: Fold, *, embargo: int, seed: int, threads: int) -> Tested:
    train, test = data.where(fold.train), data.where(fold.test)
    model = recipe.fit(train, embargo_days=embargo, seed=seed, threads=threads).model
    others = evaluate.baselines(train, test)
    return Tested(
        data=test,
        probability=model.probability(test.features),
        regression=others["logistic_regression"].score,
        prior=others["prior"].score,
    )


def _learner(embargo: int, seed: int, threads: int) -> Callable[[Dataset], Callable[[Dataset], Floats]]:
    def learn(train: Dataset) -> Callable[[Dataset], Floats]:
        model = recipe.fit(train, embargo_days=embargo, seed=seed, threads=threads).model
        return lambda test: model.probability(test.features)

    return learn


def _together(pieces: Sequence[Tested]) -> Tested:
    datas = [piece.data for piece in pieces]
    as_of = [data.as_of for data in datas if data.as_of is not None]
    data = Dataset(
        features=pd.concat([data.features for data in datas], ignore_index=True),
        entity=np.concatenate([data.entity for data in datas]),
        label=np.concatenate([data.labels for data in datas]),
        as_of=np.concatenate(as_of) if as_of else None,
    )
    prior = np.concatenate([piece.prior for piece in pieces])
    return Tested(
        data,
        np.concatenate([piece.probability for piece in pieces]),
        np.concatenate([piece.regression for piece in pieces]),
        # Folds without time differ in their share by chance only: as different numbers, they would rank.
        prior if as_of else np.full(len(prior), prior.mean()),
    )


def _mean(found: Sequence[Evaluation]) -> Evaluation:
    """The mean over repeats of values and of ends of intervals: repeats judge the same rows, they do not narrow anything."""

    def middle(intervals: Sequence[Interval]) -> Interval:
        ends = [[getattr(one, end) for one in intervals] for end in ("value", "low", "high")]
        return Interval(*(None if None in end else float(np.mean(end)) for end in ends))

    names = found[0].metrics
    return replace(
        found[0],
        metrics={name: middle([one.metrics[name] for one in found]) for name in names},
        ece_floor=middle([one.ece_floor for one in found]),
    )


def _folds(tested: Sequence[Tested], parts: Sequence[Sequence[Fold]]) -> list[dict[str, Any]]:
    """Each part of the test by itself: the dates, or the folds of the repeats."""
    rows = []
    for number, (one, folds) in enumerate(zip(tested, parts, strict=True)):
        begin = 0
        for place, fold in enumerate(folds):
            piece = slice(begin, begin + len(fold.test))
            begin = piece.stop
            label = one.data.labels[piece]
            name = f"from {fold.date}" if fold.date is not None else f"repeat {number + 1}, fold {place + 1}"
            rows.append(
                {
                    "test": name,
                    "rows": len(label),
                    "left": int(label.sum()),
                    "trained_on": len(fold.train),
                    **{
                        key: value
                        for key, value in evaluate.metrics(label, one.probability[piece]).items()
                        if key in ("roc_auc", "log_loss", "lift_top_decile")
                    },
                }
            )
    return rows


def _protocol(first: Tested, parts: Sequence[Sequence[Fold]], horizon_days: int) -> str:
    folds = parts[0]
    if folds[0].date is not None:
        gap = f" with a gap of {horizon_days} days" if horizon_days else ""
        return (
            f"forward in time{gap}: {len(folds)} test{'s' * (len(folds) > 1)}, each on what came after {folds[0].date}"
            f"{' or a later day' if len(folds) > 1 else ''} by a model that learned from what came before"
        )
    if len(folds) < FOLDS:
        return f"{len(folds)} of {FOLDS} stratified folds, {len(first.data):,} rows that the tested model did not see"
    times = {1: "once", 2: "twice"}[len(parts)]
    return f"{FOLDS} stratified folds {times}, each customer judged by models that did not see them"


def _verdict(evaluation: Evaluation, against: Difference) -> str:
    """The test in a sentence or two."""
    found = evaluation.metrics
    auc, hit, base = found["roc_auc"], found["precision_at_capacity"].value, evaluation.base_rate
    if auc.value is None or auc.low is None or hit is None or base is None:
        return "Too little was tested to say anything."
    if auc.low <= 0.5:
        return "No better than chance on rows that it had not seen: do not act on these scores."
    words = f"Of the riskiest tenth, {percent(hit)} left; of all, {percent(base, 1)}."
    if against.low is not None and against.low > 0:
        words += " A logistic regression does better on this table."
    elif against.high is not None and against.high >= 0:
        words += " It is level with a logistic regression on this table."
    return words


def _thresholds(probability: Floats, tenure: Tenure) -> tuple[float, float]:
    tiers = tenure.config.model.tiers
    if tiers.by == "probability":
        return tiers.high, tiers.medium
    high, medium = np.quantile(probability, [1 - TOP_SHARE, 1 - TOP_SHARE - NEXT_SHARE])
    return float(high), float(medium)


# --- what the features do ----------------------------------------------------------------------------------------


def effects(model: ChurnModel, data: Dataset, *, seed: int, dates: Collection[str] = ()) -> tuple[Effect, ...]:
    """The features by their part of all contributions, the largest first, with the direction of each in words.

    `dates` are features that count the days since a date.
    """
    few = sample_accounts(data, EXPLAINED, seed=seed)
    contributions, _ = model.contributions(few.features)
    sizes = np.abs(contributions).mean(axis=0)
    total = float(sizes.sum()) or 1.0
    return tuple(
        Effect(
            model.feature_names[place],
            float(sizes[place] / total),
            direction(
                few.features[model.feature_names[place]],
                contributions[:, place],
                more="the longer ago" if model.feature_names[place] in dates else "the more",
            )
            if sizes[place] / total >= NEXT_TO_NOTHING
            else "next to none",
        )
        for place in np.argsort(-sizes, kind="stable")
    )


def direction(column: pd.Series[Any], contribution: Floats, *, more: str = "the more") -> str:
    """How the risk goes with the column (n,), from its contributions (n,) in log-odds."""
    from ml.reasons import amount, printable

    if float(np.abs(contribution).max(initial=0.0)) < 1e-6:
        return "no effect"
    if isinstance(column.dtype, pd.CategoricalDtype):
        means = pd.Series(contribution).groupby(column.astype(object).fillna("(missing)").to_numpy()).mean()
        top, low = printable(str(means.idxmax())), printable(str(means.idxmin()))
        return f"{top}: higher risk; {low}: lower" if top != low else "no effect"
    values = column.to_numpy(dtype=np.float64)
    known = np.isfinite(values)
    distinct = np.unique(values[known])
    if len(distinct) < 2:
        if known.all() or not known.any():
            return "no effect"
        return (
            "filled: higher risk"
            if contribution[known].mean() > contribution[~known].mean()
            else "missing: higher risk"
        )
    ranks = pd.Series(values[known]).rank().to_numpy()
    pushes = pd.Series(contribution[known]).rank().to_numpy()
    correlation = float(np.corrcoef(ranks, pushes)[0, 1]) if np.ptp(pushes) > 0 else 0.0
    if set(distinct) <= {0.0, 1.0}:
        return "yes: higher risk" if correlation > 0 else "yes: lower risk"
    if abs(correlation) >= 0.6:
        return f"{more}, the {'higher' if correlation > 0 else 'lower'} the risk"
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, 6)))
    place = np.clip(np.searchsorted(edges, values[known], side="right") - 1, 0, len(edges) - 2)
    means = pd.Series(contribution[known]).groupby(place).mean()
    worst, best = int(means.idxmax()), int(means.idxmin())
    between = [f"{amount(float(edges[one]))} to {amount(float(edges[one + 1]))}" for one in (worst, best)]
    return f"highest risk at {between[0]}, lowest at {between[1]}"
