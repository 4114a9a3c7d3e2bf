"""The churn model as it scores: boosted trees, perhaps blended with a regression, perhaps calibrated; never changed.

Lives here: `ChurnModel`, its log-odds, probabilities and exact contributions per feature, and its files. Must not live
here: learning (`ml/recipe.py`), metrics, words for reasons.

    log_odds = a + b * (w * mean margin of the boosters + (1 - w) * log-odds of the regression)

Every term is a sum over features, so contributions add up to the score whatever was blended or calibrated; that is why the
calibration is affine in log-odds (Platt 1999) and not isotonic. Files are UBJ (XGBoost's own) and JSON: loading a model
runs no code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.errors import UserError
from ml.linear import Linear
from ml.shap import Explainer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import xgboost
    from numpy.typing import NDArray

FORMAT = 1


@dataclass(frozen=True)
class Columns:
    """The features that a model knows: names in order, and for each category feature its texts in order of their codes.

    A text that is not listed (new, or too rare when training) is treated as missing.
    """

    names: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]

    @property
    def kinds(self) -> list[str]:
        """Per feature, in XGBoost's words: "q" a number, "c" a category."""
        return ["c" if name in self.categories else "q" for name in self.names]

    def matrix(self, features: pd.DataFrame) -> NDArray[np.float32]:
        """`features` (n, any columns in any order) as (n, f) float32 in column-major order; a category is its code.

        Raises `UserError` that names the columns that are missing.
        """
        missing = sorted(set(self.names) - set(features.columns))
        if missing:
            raise UserError(
                f"The model needs {len(missing)} feature{'s' * (len(missing) > 1)} that the table lacks: "
                f"{', '.join(missing[:10])}{'…' * (len(missing) > 10)}.",
                hint="Score with the table that the model was trained on, or train again.",
            )
        matrix = np.empty((len(features), len(self.names)), dtype=np.float32, order="F")
        for index, name in enumerate(self.names):
            column = features[name]
            matrix[:, index] = _codes(column, self.categories[name]) if name in self.categories else _floats(column)
        return matrix


@dataclass(frozen=True)
class ChurnModel:
    """Immutable; compare two by their scores. `threads` is how many a scoring call may use."""

    columns: Columns
    boosters: tuple[xgboost.Booster, ...]
    linear: Linear | None
    expected_probability: float
    """The share that left in training: what a score falls back to when the model may not speak."""
    weight: float = 1.0
    intercept: float = 0.0
    slope: float = 1.0
    threads: int = 2

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The f features, in the order of the columns of `contributions`."""
        return self.columns.names

    @property
    def categories(self) -> Mapping[str, tuple[str, ...]]:
        """The texts that the model knows, for each category feature."""
        return self.columns.categories

    def log_odds(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """(n,) log-odds of leaving. Raises `UserError` when a feature is missing; other columns are ignored."""
        matrix = self.columns.matrix(features)
        mixed = np.zeros(len(matrix))
        if self.boosters and self.weight:
            mixed += self.weight * self.margin(matrix)
        if self.linear is not None and self.weight < 1:
            mixed += (1 - self.weight) * self.linear.log_odds(matrix)
        result: NDArray[np.float64] = self.intercept + self.slope * mixed
        return result

    def probability(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """(n,) probability of leaving."""
        return sigmoid(self.log_odds(features))

    def contributions(self, features: pd.DataFrame) -> tuple[NDArray[np.float64], float]:
        """(n, f) log-odds per feature, and the base: base + row sum = `log_odds` (to 1e-4).

        For the trees these are exact path-dependent Shapley values (Lundberg et al. 2020), for the regression the
        deviation from the average row.
        """
        matrix = self.columns.matrix(features)
        parts = np.zeros(matrix.shape)
        base = 0.0
        if self.boosters and self.weight:
            parts += self.weight * self.explainer.contributions(matrix, threads=self.threads)
            base += self.weight * self.explainer.base
        if self.linear is not None and self.weight < 1:
            parts += (1 - self.weight) * self.linear.contributions(matrix)
            base += (1 - self.weight) * self.linear.intercept
        parts *= self.slope
        return parts, self.intercept + self.slope * base

    def margin(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) mean margin of the boosters for a coded matrix (n, f)."""
        total = np.zeros(len(matrix))
        for booster in self.boosters:
            total += tree_margin(booster, matrix, self.columns.kinds, threads=self.threads)
        return total / len(self.boosters)

    @cached_property
    def explainer(self) -> Explainer:
        """The tables from which the boosters are explained, built when first asked for."""
        return Explainer(self.boosters)

    def save(self, folder: Path) -> None:
        """Write `model.json` and `booster_<i>.ubj` into `folder` (made when missing)."""
        folder.mkdir(parents=True, exist_ok=True)
        for index, booster in enumerate(self.boosters):
            booster.save_model(str(folder / f"booster_{index}.ubj"))
        document = {
            "format": FORMAT,
            "names": list(self.columns.names),
            "categories": {name: list(texts) for name, texts in self.columns.categories.items()},
            "boosters": len(self.boosters),
            "linear": None if self.linear is None else self.linear.to_json(),
            "expected_probability": self.expected_probability,
            "weight": self.weight,
            "intercept": self.intercept,
            "slope": self.slope,
        }
        (folder / "model.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, threads: int = 2) -> ChurnModel:
        """What `save` wrote; scores are identical. Raises `UserError` when it is not a model of this format."""
        path = folder / "model.json"
        if not path.exists():
            raise UserError(f"There is no model in {folder}.", hint="Train one first: `tenure train`.")
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document.get("format") != FORMAT:
            raise UserError(
                f"The model in {folder} has format {document.get('format')}; this version reads {FORMAT}.",
                hint="Train again.",
            )
        return cls(
            columns=Columns(
                names=tuple(document["names"]),
                categories={name: tuple(texts) for name, texts in document["categories"].items()},
            ),
            boosters=tuple(_load_booster(folder / f"booster_{i}.ubj") for i in range(document["boosters"])),
            linear=None if document["linear"] is None else Linear.from_json(document["linear"]),
            expected_probability=float(document["expected_probability"]),
            weight=float(document["weight"]),
            intercept=float(document["intercept"]),
            slope=float(document["slope"]),
            threads=threads,
        )


def sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) probabilities, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(log_odds, dtype=np.float64)))


def tree_margin(
    booster: xgboost.Booster, matrix: NDArray[np.float32], kinds: Sequence[str], *, threads: int
) -> NDArray[np.float64]:
    """(n,) margin of one booster for a coded matrix (n, f)."""
    answer = booster.predict(_dmatrix(matrix, kinds, threads), output_margin=True)
    return np.asarray(answer, dtype=np.float64)


def _dmatrix(matrix: NDArray[np.float32], kinds: Sequence[str], threads: int) -> xgboost.DMatrix:
    import xgboost

    return xgboost.DMatrix(matrix, feature_types=list(kinds), nthread=threads)


def _load_booster(path: Path) -> xgboost.Booster:
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(str(path))
    return booster


def _codes(column: pd.Series[Any], categories: tuple[str, ...]) -> NDArray[np.float32]:
    """(n,) the code of each text; NaN for missing and unknown ones."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        place = {text: code for code, text in enumerate(categories)}
        code_of = np.array([place.get(str(text), -1) for text in column.cat.categories] + [-1], dtype=np.float32)
        codes = code_of[column.cat.codes.to_numpy()]
    else:
        texts = column.map(str, na_action="ignore")
        codes = pd.Categorical(texts, categories=list(categories)).codes.astype(np.float32)
    codes[codes < 0] = np.nan
    return codes


def _floats(column: pd.Series[Any]) -> NDArray[np.float32]:
    """(n,) numbers; what is no number is missing."""
    if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
        column = pd.to_numeric(column.astype(object), errors="coerce")
    with np.errstate(over="ignore"):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    return values
