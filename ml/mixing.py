"""What is added to the trees: a regression blended in, an affine calibration.

Lives here: both, found on some folds and kept only where they pay on others. Must not live here: trees (`capacity.py`), the folds
(`bench.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ml.bench import NOISE, Bench, mean_loss, paired, tests
from ml.linear import Linear, fit_linear
from ml.model import Columns, sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml.capacity import Choice

    Floats = NDArray[np.float64]

LEAN = 0.5
"""The same for the blend on a table without time: averaging two models costs little when it does not help, and on 400 rows
nothing that helps exceeds 1.64 errors. Forward in time, where few dates tell what the next one brings, it is `NOISE`."""
PENALTIES = (1.0, 10.0, 100.0)
WEIGHTS = (0.75, 0.5, 0.25)
"""Shares of the trees in a blend that are tried."""


def blend(bench: Bench, choice: Choice, say: Callable[[str], None]) -> Choice:
    """Join the regression when a weight that was found on other folds pays on the fold at hand."""
    if len(bench.folds) < 2:
        return choice
    by_penalty: list[list[Floats]] = [[] for _ in PENALTIES]
    for fold in bench.folds:
        models = regressions(
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
        losses = [mean_loss(bench, dict(enumerate(margins)), folds) for margins in blended]
        return int(np.argmin(losses))

    honest: dict[int, Floats] = {}
    for index, others in tests(bench):
        honest[index] = blended[pick(others)][index]
    tested = sorted(honest)
    gain, noise = paired(bench, honest, dict(enumerate(choice.margins)), tested)
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


def calibrate(bench: Bench, choice: Choice, say: Callable[[str], None]) -> Choice:
    """Keep an affine map of the log-odds only when one that was found on other folds pays on the fold at hand."""
    if len(bench.folds) < 2:
        return choice
    honest: dict[int, Floats] = {}
    for index, others in tests(bench):
        intercept, slope = _affine(bench, choice.margins, others)
        honest[index] = intercept + slope * choice.margins[index]
    gain, noise = paired(bench, honest, dict(enumerate(choice.margins)), sorted(honest))
    kept = gain < -(LEAN if bench.protocol == "folds" else NOISE) * noise
    intercept, slope = _affine(bench, choice.margins, range(len(bench.folds))) if kept else (0.0, 1.0)
    record = {"name": "calibration", "against_none": gain, "noise": noise, "kept": kept}
    say(f"calibration: {gain:+.5f} (noise {noise:.5f}), {'kept' if kept else 'not kept'}")
    return replace(choice, intercept=intercept, slope=slope, tried=(*choice.tried, record))


def _affine(bench: Bench, margins: Sequence[Floats], folds: Sequence[int]) -> tuple[float, float]:
    """Intercept and slope found on the test rows of `folds`."""
    x = np.concatenate([margins[index] for index in folds])
    return affine(x, np.concatenate([bench.data.labels[bench.folds[index].test] for index in folds]))


def affine(margin: Floats, label: Floats) -> tuple[float, float]:
    """Intercept and slope of the logistic regression of the labels (or probabilities) on one column, the log-odds (Newton's method)."""
    point = np.array([0.0, 1.0])
    design = np.column_stack([np.ones(len(margin)), margin])
    for _ in range(25):
        probability = sigmoid(design @ point)
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (probability - label))
        point -= step
        if np.abs(step).max() < 1e-8:
            break
    if not np.isfinite(point).all() or not 0.2 < point[1] < 5 or abs(point[0]) > 5:
        return 0.0, 1.0
    return float(point[0]), float(point[1])


def regressions(
    matrix: NDArray[np.float32], label: Floats, columns: Columns, signs: Sequence[int], penalties: Sequence[float]
) -> list[Linear]:
    return fit_linear(matrix, label, kinds=columns.kinds, signs=signs, penalties=penalties)
