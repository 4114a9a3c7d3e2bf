"""How good a model is, with the width of that answer; beside the noise floor and beside baselines.

Lives here: metrics and their bootstrap intervals by account, the paired comparison of two models, the curves behind the
plots, baselines, rolling test dates. Must not live here: drawing (`ml/plots.py`), the decision to promote (`ml/gate.py`).

All that comes out is a plain dataclass of numbers, texts and lists (`dataclasses.asdict` is JSON-able). A metric that is not
defined (one class only, no amounts) is None.

- ROC AUC: chance that a row that left scores above one that stayed, ties count half.
- PR AUC: average precision, the mean of the precision at each departure (not the trapezoid, which flatters).
- ECE: mean distance of predicted from observed share over 10 bins of equal mass, weighted by their rows. It is never 0: a
  perfectly calibrated model of that size has the `ece_floor` (labels drawn from the model's own probabilities; rows of one
  account share what happens while the windows of both are open, since four dates a week apart are not four times the proof).
- Intervals: percentiles 2.5 and 97.5 over resamples of whole accounts (Efron 1979, cluster form), since rows of one account
  are not independent. A resample repeats rows, which adds noise to every bin: the interval of the ECE is moved down by the
  mean of that excess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ml.split import Fold, never_seen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml.dataset import Dataset

    Floats = NDArray[np.float64]
    Predictor = Callable[[Dataset], NDArray[np.float64]]

BINS = 10
BINNING = f"{BINS} bins of equal mass by predicted probability"
TOP_SHARE = 0.1
GROUPS = 12
"""Segments that are judged by themselves, the largest ones."""
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece"})
METRICS = (
    "roc_auc",
    "pr_auc",
    "log_loss",
    "brier",
    "ece",
    "lift_top_decile",
    "precision_at_capacity",
    "recall_at_capacity",
    "amount_captured",
)
RANKING_METRICS = tuple(name for name in METRICS if name not in LOWER_IS_BETTER)


@dataclass(frozen=True)
class Interval:
    """A metric and its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Group:
    """What one model did on a part of the rows: metrics by the names in `METRICS`."""

    rows: int
    events: int
    metrics: dict[str, Interval]


@dataclass(frozen=True)
class Evaluation:
    """What one model did on one set of rows."""

    rows: int
    accounts: int
    events: int
    base_rate: float | None
    metrics: dict[str, Interval]
    """By the names in `METRICS`. `amount_captured` is the share of the MRR that left which the team's list held."""
    ece_floor: Interval
    """ECE of a perfectly calibrated model with these probabilities and this size: mean, and its 2.5 and 97.5 percentiles."""
    capacity: int
    """Accounts per as-of date that the team can care for."""
    binning: str = BINNING
    by_segment: dict[str, Group] = field(default_factory=dict)
    """The `GROUPS` largest segments, largest first."""
    segments: int = 0
    """How many segments there are."""
    never_seen: Group | None = None
    """Accounts without a row in training; None when there are none or training is not given."""


def evaluate(
    test: Dataset,
    probability: Floats,
    *,
    capacity: int,
    seed: int,
    train: Dataset | None = None,
    horizon_days: int | None = None,
    resamples: int = 200,
    ranking_only: bool = False,
) -> Evaluation:
    """Judge `probability` (n,) on the labelled rows of `test`; `ranking_only` for a score that is no probability.

    `horizon_days` is how long from its date on a row's label is made; it is needed for an honest `ece_floor` of rows with dates.
    """
    label = test.labels
    judge = _Judge(test, probability, capacity, ranking_only)
    luck = None if horizon_days is None else Windows.of(test, horizon_days)
    floor = Interval(None) if ranking_only else noise_floor(probability, seed=seed, windows=luck)
    segment = np.array([], dtype=object) if test.segment is None else test.segment
    largest = _largest_first(segment)
    unseen = None if train is None else never_seen(train, test)

    def group(part: NDArray[np.bool_]) -> Group:
        return _group(test.where(part), probability[part], capacity, ranking_only, resamples, seed)

    return Evaluation(
        rows=len(test),
        accounts=len(set(test.entity)),
        events=int(label.sum()),
        base_rate=float(label.mean()) if len(label) else None,
        metrics=_intervals(judge, test.entity, resamples, seed),
        ece_floor=floor,
        capacity=capacity,
        by_segment={name: group(np.asarray(segment == name)) for name in largest[:GROUPS]},
        segments=len(largest),
        never_seen=None if unseen is None or not unseen.any() else group(unseen),
    )


@dataclass(frozen=True)
class Difference:
    """`difference` = first minus second, its 95 % interval, and the share of resamples in which the first was better
    (a tie counts half)."""

    difference: float | None
    low: float | None
    high: float | None
    share_better: float | None


def compare(
    test: Dataset, first: Floats, second: Floats, *, capacity: int, seed: int, resamples: int = 200
) -> dict[str, Difference]:
    """Two models on the same rows: the same resamples of accounts for both, so what they share cancels out."""
    judges = [_Judge(test, scores, capacity, ranking_only=False) for scores in (first, second)]
    here = [judge.metrics(None) for judge in judges]
    draws = [[judge.metrics(weights) for judge in judges] for weights in _weights(test.entity, resamples, seed)]
    found = {}
    for name in METRICS:
        point = _minus(here[0][name], here[1][name])
        values = [d for a, b in draws if (d := _minus(a[name], b[name])) is not None]
        if point is None or not values:
            found[name] = Difference(None, None, None, None)
            continue
        sign = -1 if name in LOWER_IS_BETTER else 1
        better = np.mean([0.5 + 0.5 * np.sign(sign * value) for value in values])
        low, high = np.quantile(values, [0.025, 0.975])
        found[name] = Difference(point, float(low), float(high), float(better))
    return found


def metrics(label: Floats, probability: Floats, *, ranking_only: bool = False) -> dict[str, float | None]:
    """The metrics that need no capacity and no amount, for rows (n,) that stand for themselves."""
    frame = _Ranked(label, probability)
    return frame.metrics(np.ones(len(label)), ranking_only=ranking_only)


@dataclass(frozen=True)
class Windows:
    """When the label of each of n rows is made: from its date on, `days` long."""

    account: NDArray[np.intp]
    """(n,) a number for the row's account."""
    opens: NDArray[np.int64]
    """(n,) the first day, counted from any day."""
    days: int

    @classmethod
    def of(cls, data: Dataset, days: int) -> Windows | None:
        """Those of `data`; None for a table without time, whose rows stand for themselves."""
        if data.as_of is None:
            return None
        return cls(pd.factorize(data.entity)[0], data.as_of.astype("datetime64[D]").astype(np.int64), days)


def noise_floor(probability: Floats, *, seed: int, draws: int = 200, windows: Windows | None = None) -> Interval:
    """ECE when the labels are drawn from `probability` (n,) itself: mean, and percentiles 2.5 and 97.5 of `draws` draws.

    With `windows`, rows of one account whose windows overlap share what happens there; without, each row is drawn for itself.
    """
    if not len(probability):
        return Interval(None)
    random = np.random.default_rng([seed, 1])
    order = np.argsort(probability, kind="stable")
    ordered = probability[order]
    starts = _bin_starts(len(ordered))
    predicted = np.add.reduceat(ordered, starts)
    shared = None if windows is None else _departures(probability, windows)
    found = np.empty(draws)
    for draw in range(draws):
        left = random.random(len(ordered)) < ordered if shared is None else shared(random)[order]
        found[draw] = np.abs(np.add.reduceat(left.astype(np.float64), starts) - predicted).sum() / len(ordered)
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(found.mean()), float(low), float(high))


def _departures(probability: Floats, windows: Windows) -> Callable[[np.random.Generator], NDArray[np.bool_]]:
    """How to draw labels (n,), each true with its `probability`, of accounts that leave at a moment.

    An account has points in time, each with a size, and a row has left when a point in its window is no larger than the row's
    hazard: a Poisson process that each row thins for itself (Lewis and Shedler 1979). So rows may disagree about the risk and yet
    share the moment. Only the smallest point between two days on which any window opens or closes matters; it is
    exponential.
    """
    opens, place = np.unique(windows.opens, return_inverse=True)
    edges = np.unique(np.concatenate([opens, opens + windows.days]))
    spans = list(zip(np.searchsorted(edges, opens), np.searchsorted(edges, opens + windows.days), strict=True))
    lengths = np.diff(edges)
    accounts = int(windows.account.max()) + 1
    with np.errstate(divide="ignore"):
        hazard = -np.log1p(-probability) / windows.days

    def draw(random: np.random.Generator) -> NDArray[np.bool_]:
        smallest = random.exponential(size=(accounts, len(lengths))) / lengths
        by_window = np.column_stack([smallest[:, first:last].min(axis=1) for first, last in spans])
        left: NDArray[np.bool_] = by_window[windows.account, place] <= hazard
        return left

    return draw


def curves(label: Floats, probability: Floats, *, points: int = 200) -> dict[str, dict[str, list[float]]]:
    """Arrays for plots: `roc`, `pr`, `lift` (at most about `points` points each) and `reliability` (one point a bin).

    Reliability comes with the 95 % interval of Wilson (1927) for the observed share. Empty lists when one class is missing.
    """
    rows = len(label)
    left = float(label.sum())
    if not 0 < left < rows:
        return {
            "roc": {"false_positive_rate": [], "true_positive_rate": []},
            "pr": {"recall": [], "precision": []},
            "lift": {"share": [], "lift": [], "captured": []},
            "reliability": _reliability(label, probability),
        }
    order = np.argsort(-probability, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(probability[order]) != 0, True))
    hits = np.cumsum(label[order])[ends]
    taken = ends + 1.0
    keep = np.unique(np.linspace(0, len(ends) - 1, min(points, len(ends))).astype(np.intp))
    hits, taken = hits[keep], taken[keep]
    captured, share = hits / left, taken / rows
    return {
        "roc": {
            "false_positive_rate": [0.0, *((taken - hits) / (rows - left)).tolist()],
            "true_positive_rate": [0.0, *captured.tolist()],
        },
        "pr": {"recall": captured.tolist(), "precision": (hits / taken).tolist()},
        "lift": {"share": share.tolist(), "lift": (captured / share).tolist(), "captured": captured.tolist()},
        "reliability": _reliability(label, probability),
    }


@dataclass(frozen=True)
class Baseline:
    """What a model has to beat: a score (n of test,), and whether it is a probability."""

    score: Floats
    is_probability: bool


def baselines(
    train: Dataset, test: Dataset, *, recency: str | None = None, directions: Mapping[str, int] | None = None
) -> dict[str, Baseline]:
    """`prior` (the share that left in training), `logistic_regression` on the same features, and `recency`.

    `recency` names the feature by which a rule without learning ranks (the longer unseen, the more at risk; missing counts
    as longest).
    """
    from ml.recipe import fit_regression

    found = {
        "prior": Baseline(np.full(len(test), float(train.labels.mean())), is_probability=True),
        "logistic_regression": Baseline(
            fit_regression(train, directions=directions).probability(test.features), is_probability=True
        ),
    }
    if recency is not None and recency in test.features.columns:
        days = test.features[recency].to_numpy(dtype=np.float64)
        longest = np.nanmax(days) + 1 if np.isfinite(days).any() else 0.0
        found["recency"] = Baseline(np.nan_to_num(days, nan=longest), is_probability=False)
    return found


def rolling(
    dataset: Dataset, folds: list[Fold], learn: Callable[[Dataset], Predictor], *, capacity: int
) -> dict[str, Any]:
    """Train and test anew at each fold: `dates` (metrics per test date), and `mean`, `worst`, `spread` of each metric.

    Each date also has `roc_auc_never_seen`, the AUC on accounts without a row in its training. `spread` is the standard
    deviation over the dates (None for fewer than two).
    """
    dates: list[dict[str, Any]] = []
    for fold in folds:
        train, test = dataset.where(fold.train), dataset.where(fold.test)
        probability = learn(train)(test)
        numbers = _Judge(test, probability, capacity, ranking_only=False).metrics(None)
        unseen = never_seen(train, test)
        dates.append(
            {
                "date": None if fold.date is None else str(fold.date),
                "rows": len(test),
                "events": test.events,
                "train_rows": len(train),
                **numbers,
                "rows_never_seen": int(unseen.sum()),
                "roc_auc_never_seen": metrics(test.labels[unseen], probability[unseen])["roc_auc"],
            }
        )
    answer: dict[str, Any] = {"dates": dates, "mean": {}, "worst": {}, "spread": {}}
    for name in METRICS:
        values = [date[name] for date in dates if date[name] is not None]
        worst = max if name in LOWER_IS_BETTER else min
        answer["mean"][name] = float(np.mean(values)) if values else None
        answer["worst"][name] = float(worst(values)) if values else None
        answer["spread"][name] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return answer


def random_split_auc(dataset: Dataset, learn: Callable[[Dataset], Predictor], *, seed: int) -> float | None:
    """The AUC that a shuffled 80/20 split of rows would claim: the lie that is printed beside the forward number."""
    random = np.random.default_rng([seed, 2])
    data = dataset.in_canonical_order()
    here = random.random(len(data)) < 0.2
    train, test = data.where(~here), data.where(here)
    if not len(test) or not 0 < train.events < len(train):
        return None
    return metrics(test.labels, learn(train)(test))["roc_auc"]


class _Ranked:
    """Rows sorted once by falling score; then any weights (n,) give the metrics in a few passes."""

    def __init__(self, label: Floats, score: Floats) -> None:
        self.order = np.argsort(-score, kind="stable")
        self.label = label[self.order]
        self.score = score[self.order]
        new = np.append(True, np.diff(self.score) != 0) if len(score) else np.array([], dtype=bool)
        self.starts = np.flatnonzero(new)
        self.has_ties = len(self.starts) < len(score)
        self.bins = _bin_starts(len(score))
        safe = np.clip(self.score, 1e-15, 1 - 1e-15)
        self.loss = -(self.label * np.log(safe) + (1 - self.label) * np.log1p(-safe))
        self.squared = (self.score - self.label) ** 2
        self.gap = self.score - self.label

    def metrics(self, weights: Floats, *, ranking_only: bool) -> dict[str, float | None]:
        """`weights` (n,) in the original order of the rows."""
        weight = weights[self.order]
        total = float(weight.sum())
        left = weight * self.label
        events = float(left.sum())
        found: dict[str, float | None] = dict.fromkeys(METRICS[:6])
        if total > 0 and not ranking_only:
            found["log_loss"] = float(weight @ self.loss) / total
            found["brier"] = float(weight @ self.squared) / total
            found["ece"] = float(np.abs(np.add.reduceat(weight * self.gap, self.bins)).sum()) / total
        if not 0 < events < total:
            return found
        if self.has_ties:
            left, weight = np.add.reduceat(left, self.starts), np.add.reduceat(weight, self.starts)
        hits, taken = np.cumsum(left), np.cumsum(weight)
        stayed = weight - left
        below = (total - events) - (taken - hits)
        found["roc_auc"] = float(left @ (below + 0.5 * stayed)) / (events * (total - events))
        found["pr_auc"] = float(left @ (hits / np.maximum(taken, 1e-300))) / events
        found["lift_top_decile"] = float(np.interp(TOP_SHARE * total, taken, hits)) / events / TOP_SHARE
        if TOP_SHARE * total < taken[0]:
            found["lift_top_decile"] = float(hits[0] / taken[0]) / (events / total)
        return found


class _Judge:
    """All metrics of one score on one set of rows, for any weights of the rows."""

    def __init__(self, test: Dataset, score: Floats, capacity: int, ranking_only: bool) -> None:
        self.ranked = _Ranked(test.labels, score)
        self.ranking_only = ranking_only
        self.capacity = capacity
        date = np.zeros(len(test)) if test.as_of is None else test.as_of.astype(np.float64)
        self.order = np.lexsort([pd.factorize(test.entity, sort=True)[0], -score, date])
        self.label = test.labels[self.order]
        self.amount = None if test.amount is None else test.amount[self.order]
        new = np.append(True, np.diff(date[self.order]) != 0) if len(test) else np.array([], dtype=bool)
        self.first = np.flatnonzero(new)
        self.date_of = np.cumsum(new) - 1
        # Rows of one date with one score are one group: whom of them the team calls is a toss, so each counts for its share.
        apart = new | np.append(True, np.diff(score[self.order]) != 0) if len(test) else new
        self.group_first = np.flatnonzero(apart)
        self.group_of = np.cumsum(apart) - 1

    def metrics(self, weights: Floats | None) -> dict[str, float | None]:
        weights = np.ones(len(self.label)) if weights is None else weights
        found = self.ranked.metrics(weights, ranking_only=self.ranking_only)
        found.update(dict.fromkeys(METRICS[6:]))
        if not len(weights):
            return found
        weight = weights[self.order]
        before = np.cumsum(weight) - weight
        left = self.capacity - (before - before[self.first][self.date_of])[self.group_first]
        size = np.add.reduceat(weight, self.group_first)
        share = np.clip(left, 0, size) / np.where(size > 0, size, 1.0)
        taken = weight * share[self.group_of]
        hits, events = float(taken @ self.label), float(weight @ self.label)
        if taken.sum() > 0:
            found["precision_at_capacity"] = hits / float(taken.sum())
        if events > 0:
            found["recall_at_capacity"] = hits / events
        if self.amount is not None and (lost := float(weight @ (self.label * self.amount))) > 0:
            found["amount_captured"] = float(taken @ (self.label * self.amount)) / lost
        return found


def _group(part: Dataset, score: Floats, capacity: int, ranking_only: bool, resamples: int, seed: int) -> Group:
    judge = _Judge(part, score, capacity, ranking_only)
    return Group(len(part), part.events, _intervals(judge, part.entity, resamples, seed))


def _largest_first(segment: NDArray[np.object_]) -> list[str]:
    names, rows = np.unique(segment.astype(str), return_counts=True)
    return [str(name) for name in names[np.argsort(-rows, kind="stable")]]


def _weights(entity: NDArray[np.object_], resamples: int, seed: int) -> list[Floats]:
    """How often each row (n,) is in each resample of whole accounts."""
    codes, accounts = pd.factorize(entity, sort=True)
    random = np.random.default_rng([seed, 0])
    count = len(accounts)
    if not count:
        return []
    return [
        np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)[codes]
        for _ in range(resamples)
    ]


def _intervals(judge: _Judge, entity: NDArray[np.object_], resamples: int, seed: int) -> dict[str, Interval]:
    draws = [judge.metrics(weights) for weights in _weights(entity, resamples, seed)]
    found = {}
    for name, value in judge.metrics(None).items():
        values = [one for draw in draws if (one := draw[name]) is not None]
        if value is None or not values:
            found[name] = Interval(value)
            continue
        low, high = (float(edge) for edge in np.quantile(values, [0.025, 0.975]))
        if name == "ece":
            bias = float(np.mean(values)) - value
            low, high = max(low - bias, 0.0), max(high - bias, 0.0)
        found[name] = Interval(value, low, high)
    return found


def _minus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _bin_starts(rows: int) -> NDArray[np.intp]:
    """Where each of the `BINS` bins of equal mass begins among `rows` sorted rows."""
    return np.unique(np.arange(BINS) * rows // BINS) if rows else np.array([], dtype=np.intp)


def _reliability(label: Floats, probability: Floats) -> dict[str, list[float]]:
    rows = len(label)
    empty: dict[str, list[float]] = {"predicted": [], "observed": [], "low": [], "high": [], "rows": []}
    if not rows:
        return empty
    order = np.argsort(probability, kind="stable")
    starts = _bin_starts(rows)
    counts = np.diff(np.append(starts, rows)).astype(np.float64)
    observed = np.add.reduceat(label[order], starts) / counts
    z = 1.96
    centre = (observed + z * z / (2 * counts)) / (1 + z * z / counts)
    half = z / (1 + z * z / counts) * np.sqrt(observed * (1 - observed) / counts + z * z / (4 * counts**2))
    return {
        "predicted": (np.add.reduceat(probability[order], starts) / counts).tolist(),
        "observed": observed.tolist(),
        "low": np.maximum(centre - half, 0).tolist(),
        "high": np.minimum(centre + half, 1).tolist(),
        "rows": counts.tolist(),
    }
