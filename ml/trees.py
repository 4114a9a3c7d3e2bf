"""Boosted trees: their forms, and how one is grown.

Lives here: a candidate's parameters, the columns that trees see, XGBoost's settings. Must not live here: which form is taken
(`capacity.py`), what it is evaluated on (`bench.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ml.model import Columns

if TYPE_CHECKING:
    import xgboost
    from numpy.typing import NDArray

    from ml.dataset import Dataset

BINS = ((20_000, 64), (200_000, 128))
"""Histogram bins up to so many rows (256 above): with few rows, fewer bins are faster and no worse (synthetic clusters: AUC
0.8445 with 64, 0.8405 with 256)."""
MIN_CATEGORY_ROWS = 10
"""A category with fewer rows in training is treated like one that was never seen: as missing."""

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
