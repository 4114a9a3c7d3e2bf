"""A regularised logistic regression on the same features: a baseline that must be beaten, and a partner in the blend.

Lives here: how features become columns of a regression (winsorised, log-signed where that is less skewed, standardised,
with an indicator for missing; one column a category), the fit under sign constraints, log-odds and their exact parts per
feature. Must not live here: trees, the choice of the penalty (`ml/recipe.py`).

Every column is centred on its training mean, so that the intercept is the log-odds of the average row and the part of a
feature is what sets the row apart from it (the linear case of Shapley values, Lundberg and Lee 2017, section 4.1).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

WINSOR = 0.005
"""Share of values drawn in at either end: one mistyped amount must not move a coefficient."""
MIN_SHARE = 0.002
"""A column (a category, an indicator of missing) that says the same in all but this share of rows is left out."""


@dataclass(frozen=True)
class Column:
    """One column of the regression, made from one feature. `kind`: value, missing, or category (of that code)."""

    feature: int
    kind: str
    code: int = 0
    low: float = 0.0
    high: float = 0.0
    logged: bool = False
    centre: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Linear:
    """log-odds = intercept + sum of coefficient x column. Values come as a coded matrix (n, f), see `ml/model.py`."""

    columns: tuple[Column, ...]
    coefficients: tuple[float, ...]
    intercept: float

    def log_odds(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) log-odds. Added up column by column, so that a row alone and a row in a batch come out identical."""
        total = np.full(len(matrix), self.intercept)
        for column, coefficient in zip(self.columns, self.coefficients, strict=True):
            if coefficient:
                total += coefficient * _values(matrix[:, column.feature], column)
        return total

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, f): the part of each feature in the log-odds; intercept + row sum = log-odds."""
        parts = np.zeros(matrix.shape)
        for column, coefficient in zip(self.columns, self.coefficients, strict=True):
            if coefficient:
                parts[:, column.feature] += coefficient * _values(matrix[:, column.feature], column)
        return parts

    def to_json(self) -> dict[str, Any]:
        """Plain values; floats survive the round trip to the last bit."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "coefficients": list(self.coefficients),
            "intercept": self.intercept,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Linear:
        """What `to_json` wrote."""
        columns = tuple(Column(**column) for column in document["columns"])
        return cls(columns, tuple(document["coefficients"]), float(document["intercept"]))


def fit_linear(
    matrix: NDArray[np.float32],
    label: NDArray[np.float64],
    *,
    kinds: Sequence[str],
    signs: Sequence[int],
    penalties: Sequence[float],
) -> list[Linear]:
    """One regression per penalty, for the coded `matrix` (n, f); the columns are made once.

    `kinds` says "q" (number) or "c" (category) per feature; `signs` +1: the coefficient may not be negative, -1: not
    positive, 0: free. `penalties` are scikit-learn's 1/C: weight of the squared coefficients against the summed log loss.
    """
    columns = tuple(_columns(matrix, kinds))
    design = np.empty((len(matrix), len(columns)))
    for index, column in enumerate(columns):
        design[:, index] = _values(matrix[:, column.feature], column)
    bounds = [_bounds(signs[column.feature]) if column.kind == "value" else (None, None) for column in columns]
    start: NDArray[np.float64] | None = None
    found = []
    for penalty in sorted(penalties, reverse=True):
        start = _minimise(design, label, penalty, bounds, start)
        found.append((penalty, Linear(columns, tuple(float(value) for value in start[:-1]), float(start[-1]))))
    by_penalty = dict(found)
    return [by_penalty[penalty] for penalty in penalties]


def _minimise(
    design: NDArray[np.float64],
    label: NDArray[np.float64],
    penalty: float,
    bounds: list[tuple[float | None, float | None]],
    start: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Coefficients (p,) and the intercept as the last of (p + 1,), by L-BFGS-B (Byrd et al. 1995)."""
    from scipy.optimize import minimize

    rows = len(label)
    share = min(max(float(label.mean()), 1e-6), 1 - 1e-6)
    if start is None:
        start = np.append(np.zeros(design.shape[1]), np.log(share / (1 - share)))

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = design @ point[:-1] + point[-1]
        residual = 1 / (1 + np.exp(-margin)) - label
        value = float(np.mean(np.logaddexp(0, margin) - label * margin)) + penalty / (2 * rows) * float(
            point[:-1] @ point[:-1]
        )
        gradient = np.append(design.T @ residual / rows + penalty / rows * point[:-1], residual.mean())
        return value, gradient

    answer = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)], options={"maxiter": 100, "ftol": 1e-8}
    )
    return np.asarray(answer.x, dtype=np.float64)


def _bounds(sign: int) -> tuple[float | None, float | None]:
    return (0.0, None) if sign > 0 else (None, 0.0) if sign < 0 else (None, None)


def _columns(matrix: NDArray[np.float32], kinds: Sequence[str]) -> Iterator[Column]:
    """What the features of `matrix` (n, f) become; what is nearly constant is left out."""
    for feature, kind in enumerate(kinds):
        values = matrix[:, feature]
        known = values[~np.isnan(values)].astype(np.float64)
        lacking = 1 - len(known) / max(len(values), 1)
        if MIN_SHARE <= lacking <= 1 - MIN_SHARE:
            yield Column(feature, "missing", centre=lacking)
        if not len(known):
            continue
        if kind == "c":
            counts = np.bincount(known.astype(np.intp))
            for code, count in enumerate(counts):
                share = float(count) / len(values)
                if MIN_SHARE <= share <= 1 - MIN_SHARE:
                    yield Column(feature, "category", code=code, centre=share)
            continue
        low, high = (float(edge) for edge in np.quantile(known, [WINSOR, 1 - WINSOR]))
        if low == high:
            low, high = float(known.min()), float(known.max())
        clipped = np.clip(known, low, high)
        if clipped.std() <= 1e-9 * max(1.0, float(np.abs(clipped).max())):
            continue
        signed = _signed_log(clipped)
        logged = bool(_skew(signed) < _skew(clipped))
        used = signed if logged else clipped
        yield Column(
            feature, "value", low=low, high=high, logged=logged, centre=float(used.mean()), scale=float(used.std())
        )


def _values(values: NDArray[np.float32], column: Column) -> NDArray[np.float64]:
    """(n,): the centred column; a missing number stands at the mean, beside its indicator."""
    if column.kind == "missing":
        lacking: NDArray[np.float64] = np.isnan(values).astype(np.float64)
        return lacking - column.centre
    if column.kind == "category":
        here: NDArray[np.float64] = (values == column.code).astype(np.float64)
        return here - column.centre
    used: NDArray[np.float64] = np.clip(values.astype(np.float64), column.low, column.high)
    if column.logged:
        used = _signed_log(used)
    centred: NDArray[np.float64] = np.nan_to_num((used - column.centre) / column.scale)
    return centred


def _signed_log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.sign(values) * np.log1p(np.abs(values))
    return result


def _skew(values: NDArray[np.float64]) -> float:
    spread = float(values.std())
    return abs(float(np.mean(((values - values.mean()) / spread) ** 3))) if spread > 0 else 0.0
