"""Columns that know the answer: found by what they do, by when they are filled, and by their names.

Lives here: the tests of one column against the label, and the verdict per column. Must not live here: reading, training.

A column is tested alone: its values (numbers in bins of equal mass) are scored by the share that left among the other folds'
rows, and the ROC AUC of that score is taken. No honest column of a churn table decides alone; the strongest of Telco
(`Contract`) reaches 0.74.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from ml import evaluate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BLATANT_AUC = 0.995
SUSPECT_AUC = 0.95
"""Alone; a whole model of a good churn table is at 0.85."""
NAMED_AUC = 0.9
"""A column that both speaks of the future and ranks this well alone is left out."""
CHANCE = 1e-6
"""How unlikely it must be that a column is filled for leavers only by luck."""
FEW_FILLED = 0.05
"""Share of those who left for whom such a column has to be filled."""
ROWS = 50_000
"""Rows that are looked at: at 50,000 an AUC is known to about 0.005."""
BINS = 64
FOLDS = 5

_FUTURE = re.compile(
    r"churn|cancel|exit|attrit|terminat|unsubscri|offboard|winback|win_back|departure|depart(ed|ure)"
    r"|(^|[^a-z])(left|leaving|leave|quit|closed|lost|refund|cltv|propensity|risk)([^a-z]|$)"
    r"|(^|[^a-z])(close|closing|closure|end|ended|stop|last)[_ ]?(date|reason|day|at)$",
    re.I,
)
_NOT_FUTURE = re.compile(r"last[_ ]?(date|day|at)$", re.I)


@dataclass(frozen=True)
class Suspect:
    """A column that may know the answer."""

    name: str
    verdict: Literal["left out", "kept"]
    reason: str
    """In words that follow the name."""
    auc: float

    @property
    def sentence(self) -> str:
        return f"{self.name} {self.reason}"


def suspects(
    features: pd.DataFrame, label: Floats, entity: NDArray[np.object_], *, keep: frozenset[str], seed: int
) -> tuple[Suspect, ...]:
    """The suspects among `features` (n, f: numbers and categories), the most suspect first. Those in `keep` are kept."""
    rows = np.arange(len(label))
    if len(rows) > ROWS:
        by_account = np.argsort(pd.factorize(entity, sort=True)[0], kind="stable")
        rows = by_account[np.random.default_rng([seed, 11]).permutation(len(rows))[:ROWS]]
    left = label[rows]
    codes, accounts = pd.factorize(entity[rows], sort=True)
    fold = np.random.default_rng([seed, 12]).integers(0, FOLDS, len(accounts))[codes]
    found = []
    for name in features.columns:
        suspect = _judge(str(name), features[name].iloc[rows], left, fold, kept=str(name) in keep)
        if suspect is not None:
            found.append(suspect)
    return tuple(sorted(found, key=lambda one: (one.verdict == "kept", -one.auc)))


def alone(column: pd.Series[Any], label: Floats, fold: NDArray[np.int64]) -> float:
    """ROC AUC of one column's values, each scored by the share that left among the other folds' rows of its bin."""
    bins = _bins(column)
    share = float(label.mean())
    count = int(bins.max()) + 1
    place = bins * FOLDS + fold
    left = np.bincount(place, weights=label, minlength=count * FOLDS).reshape(count, FOLDS)
    rows = np.bincount(place, minlength=count * FOLDS).reshape(count, FOLDS).astype(np.float64)
    others_left = left.sum(axis=1, keepdims=True) - left
    others = rows.sum(axis=1, keepdims=True) - rows
    score = ((others_left + share) / (others + 1))[bins, fold]
    return evaluate.metrics(label, score, ranking_only=True)["roc_auc"] or 0.5


def says_future(name: str) -> bool:
    """Whether the name speaks of what comes when a customer leaves."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return bool(_FUTURE.search(spaced)) and not _NOT_FUTURE.search(spaced)


def _judge(name: str, column: pd.Series[Any], label: Floats, fold: NDArray[np.int64], *, kept: bool) -> Suspect | None:
    filled = column.notna().to_numpy()
    auc = alone(column, label, fold)
    pattern = _pattern(filled, label)
    named = says_future(name)
    if pattern:
        return Suspect(name, "kept" if kept else "left out", pattern, max(auc, 0.5))
    if auc >= BLATANT_AUC:
        return Suspect(name, "kept" if kept else "left out", f"alone decides the label (ROC AUC {auc:.3f})", auc)
    if named and auc >= NAMED_AUC:
        why = f"has a name that speaks of leaving, and alone nearly decides the label (ROC AUC {auc:.3f})"
        return Suspect(name, "kept" if kept else "left out", why, auc)
    if auc >= SUSPECT_AUC:
        return Suspect(name, "kept", f"alone nearly decides the label (ROC AUC {auc:.3f})", auc)
    special = _only_leavers(column, label)
    if special:
        return Suspect(name, "kept", special, auc)
    if named:
        return Suspect(
            name, "kept", f"has a name that may speak of what is known only afterwards (alone: ROC AUC {auc:.3f})", auc
        )
    return None


def _pattern(filled: NDArray[np.bool_], label: Floats) -> str:
    """Filled for those who left and for nobody else, or the other way round, beyond chance."""
    share = float(label.mean())
    for who, here, base in (("left", label == 1, share), ("stayed", label == 0, 1 - share)):
        inside, outside = int(filled[here].sum()), int(filled[~here].sum())
        if outside == 0 and inside >= FEW_FILLED * here.sum() and inside * np.log(max(base, 1e-12)) < np.log(CHANCE):
            return f"is filled only for customers who {who} ({inside:,} of {int(here.sum()):,})"
    return ""


def _only_leavers(column: pd.Series[Any], label: Floats) -> str:
    """One value belongs to leavers alone, and to a good part of them."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        values = column.to_numpy(dtype=np.float64)
        here = np.isfinite(values) & (values != 0)
        if here.all() or not (values[~here] == 0).any():
            return ""
        groups: Mapping[str, NDArray[np.bool_]] = {"a value other than 0": here}
    else:
        groups = {f"the value {text!r}": (column == text).to_numpy() for text in column.cat.categories[:50]}
    total, share = float(label.sum()), float(label.mean())
    for what, here in groups.items():
        inside = int(here.sum())
        if inside >= 0.2 * total and label[here].all() and inside * np.log(max(share, 1e-12)) < np.log(CHANCE):
            return f"has {what} only for customers who left ({inside:,} of {total:,.0f})"
    return ""


def _bins(column: pd.Series[Any]) -> NDArray[np.int64]:
    """(n,) the bin of each value; missing values have one of their own."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy().astype(np.int64) + 1
    values = column.to_numpy(dtype=np.float64)
    known = np.isfinite(values)
    bins = np.zeros(len(values), dtype=np.int64)
    if known.any():
        edges = np.unique(np.quantile(values[known], np.linspace(0, 1, BINS + 1)[1:-1]))
        bins[known] = 1 + np.searchsorted(edges, values[known], side="right")
    return bins
