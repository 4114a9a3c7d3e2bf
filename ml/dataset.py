"""The table that a model learns from: features, whose they are, what came of it, as of when.

Lives here: the frozen `Dataset`, how a frame becomes one (types, order of columns) and what is done to all its columns at
once (a part of the rows, a sample of accounts, a hash of the content). Must not live here: SQL, reading files
(`ml/flat.py`), which feature means what (`ml/features.py`), any learning.

Types are settled once, here: a feature is float32 (NaN = not measured) or a pandas category of texts. Columns are sorted by
name, so that the order in which a query lists them changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Dataset:
    """n rows of f features. Rows of one account share an `entity`; no split and no bootstrap tears them apart.

    Build it with `assemble`, which settles the types.
    """

    features: pd.DataFrame
    """(n, f): float32 columns and `category` columns, sorted by name; NaN = not measured."""
    entity: NDArray[np.object_]
    """(n,): the account's id as text."""
    label: NDArray[np.float64] | None = None
    """(n,): 1.0 left, 0.0 stayed; None when nobody knows yet (scoring)."""
    as_of: NDArray[np.datetime64] | None = None
    """(n,) datetime64[D]: the date as of which the row is known; None for a table without time."""
    amount: NDArray[np.float64] | None = None
    """(n,): MRR in the reporting currency."""
    segment: NDArray[np.object_] | None = None
    """(n,): the part of the business that the account belongs to, for the report by segment."""

    def __len__(self) -> int:
        return len(self.entity)

    @property
    def labels(self) -> NDArray[np.float64]:
        """The labels, which must be there; raises `UserError` otherwise."""
        if self.label is None:
            raise UserError("These rows carry no label, so nothing can be learned from them or tested on them.")
        return self.label

    @property
    def events(self) -> int:
        """How many rows left."""
        return int(self.labels.sum())

    def where(self, rows: NDArray[Any]) -> Dataset:
        """The rows that `rows` picks: a boolean mask (n,) or integer positions. Categories stay as they are."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Dataset(
            features=self.features.take(positions).reset_index(drop=True),
            entity=self.entity[positions],
            label=_pick(self.label, positions),
            as_of=_pick(self.as_of, positions),
            amount=_pick(self.amount, positions),
            segment=_pick(self.segment, positions),
        )

    def without(self, names: Collection[str]) -> Dataset:
        """The same rows without the features `names`."""
        return replace(self, features=self.features[[name for name in self.features.columns if name not in names]])

    def with_label(self, label: NDArray[np.float64]) -> Dataset:
        """The same rows with another label (n,)."""
        return replace(self, label=np.asarray(label, dtype=np.float64))

    def in_canonical_order(self) -> Dataset:
        """The same rows in an order that follows from their content alone: by date, account, content.

        Learning draws rows by position; from here on the order in which a query returned them changes nothing.
        """
        keys: list[NDArray[Any]] = [_row_hashes(self), pd.factorize(self.entity, sort=True)[0]]
        if self.as_of is not None:
            keys.append(self.as_of)
        return self.where(np.lexsort(keys))

    def content_hash(self) -> str:
        """SHA-256 (hex) over names, types, values and labels; neither the order of rows nor of columns matters."""
        digest = hashlib.sha256()
        for name in self.features.columns:
            kind = "category" if isinstance(self.features[name].dtype, pd.CategoricalDtype) else "number"
            digest.update(f"{name}\x1f{kind}\x1e".encode())
        digest.update(np.sort(_row_hashes(self)).tobytes())
        return digest.hexdigest()


def assemble(
    frame: pd.DataFrame,
    *,
    entity: str,
    features: Sequence[str] | None = None,
    label: str | None = None,
    as_of: str | None = None,
    amount: str | None = None,
    segment: str | None = None,
) -> Dataset:
    """`frame` (any order of rows and columns) as a `Dataset`.

    `features` names the columns to learn from (default: all that have no other part to play). Numbers, booleans and
    decimals become float32, infinite values NaN; texts and categories become categories in alphabetical order; a column
    that is NULL throughout becomes a number that is NaN throughout. Raises `UserError` for a missing column, a NULL id, a
    label that is not 0 or 1, and a date or any other type among the features.
    """
    roles = [name for name in (entity, label, as_of, amount, segment) if name is not None]
    names = sorted(set(frame.columns) - set(roles)) if features is None else sorted(features)
    missing = sorted(set(roles + names) - set(frame.columns))
    if missing:
        raise UserError(f"The table lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}.")
    if frame[entity].isna().any():
        raise UserError(f"{int(frame[entity].isna().sum())} rows have no {entity}.", hint="Each row needs an id.")
    return Dataset(
        features=pd.DataFrame({name: feature_column(frame[name]) for name in names}, index=pd.RangeIndex(len(frame))),
        entity=frame[entity].astype(str).to_numpy(dtype=object),
        label=None if label is None else _label(frame[label]),
        as_of=None if as_of is None else frame[as_of].to_numpy().astype("datetime64[D]"),
        amount=None if amount is None else np.nan_to_num(frame[amount].to_numpy(dtype=np.float64, na_value=np.nan)),
        segment=None if segment is None else frame[segment].fillna("(none)").astype(str).to_numpy(dtype=object),
    )


def feature_column(column: pd.Series[Any]) -> pd.Series[Any]:
    """`column` (n,) as a feature: float32, or a category of texts in alphabetical order. Raises `UserError` for dates."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        texts = column.astype(object).where(column.notna())
        return _texts(texts)
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        return _numbers(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if pd.api.types.is_datetime64_any_dtype(column):
        raise UserError(
            f"The feature {column.name} is a date; a model that learns dates learns the calendar.",
            hint="Turn it into days before the as-of date, or leave it out.",
        )
    known = column.dropna()
    if len(known) == 0:
        return _numbers(np.full(len(column), np.nan))
    if not isinstance(known.iloc[0], str):
        try:
            return _numbers(pd.to_numeric(column.map(_number)).to_numpy(dtype=np.float64, na_value=np.nan))
        except (TypeError, ValueError) as error:
            raise UserError(f"The feature {column.name} holds neither numbers nor texts: {error}") from error
    return _texts(column.astype(object))


def sample_accounts(dataset: Dataset, rows: int, *, seed: int) -> Dataset:
    """About `rows` rows: whole accounts, drawn by `seed`; everything when there are not more."""
    if len(dataset) <= rows:
        return dataset
    codes, accounts = pd.factorize(dataset.entity, sort=True)
    drawn = np.random.default_rng(seed).random(len(accounts)) < rows / len(dataset)
    return dataset.where(drawn[codes])


def spaced(dataset: Dataset, rows: int, *, days: int) -> Dataset:
    """The rows of fewer dates, back from the newest, where there are more than `rows`: dates lie at least `days` apart then.

    Everything when there are no more than `rows`, or no dates.
    """
    if dataset.as_of is None or len(dataset) <= rows:
        return dataset
    kept: list[np.datetime64] = []
    for day in np.unique(dataset.as_of)[::-1]:
        if not kept or kept[-1] - day >= np.timedelta64(days, "D"):
            kept.append(day)
    return dataset.where(np.isin(dataset.as_of, kept))


def _number(value: Any) -> float:
    return float("nan") if value is None or value is pd.NA else float(value)


def _numbers(values: NDArray[np.float64]) -> pd.Series[Any]:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return pd.Series(np.where(np.isfinite(narrow), narrow, np.float32(np.nan)))


def _texts(values: pd.Series[Any]) -> pd.Series[Any]:
    texts = values.map(str, na_action="ignore")
    return pd.Series(pd.Categorical(texts, categories=sorted(texts.dropna().unique())))


def _label(column: pd.Series[Any]) -> NDArray[np.float64]:
    try:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise UserError(f"The label {column.name} has to be 0 or 1: {error}") from error
    if not np.isin(values, (0.0, 1.0)).all():
        odd = sorted({str(value) for value in values if value not in (0.0, 1.0)})[:3]
        raise UserError(f"The label {column.name} has to be 0 or 1 in every row; there is {', '.join(odd)}.")
    return values


def _pick(values: NDArray[Any] | None, positions: NDArray[Any]) -> Any:
    return None if values is None else values[positions]


def _row_hashes(dataset: Dataset) -> NDArray[np.uint64]:
    """(n,): one number per row, from its values (a category by its text, not by its code)."""
    parts = pd.DataFrame({"entity": dataset.entity})
    for name in ("label", "as_of", "amount"):
        values = getattr(dataset, name)
        if values is not None:
            parts[name] = values.astype("datetime64[s]") if name == "as_of" else values
    frame = dataset.features.reset_index(drop=True)
    own = pd.util.hash_pandas_object(parts, index=False).to_numpy().astype(np.uint64)
    if not len(frame.columns):
        return own
    rest = pd.util.hash_pandas_object(frame, index=False).to_numpy().astype(np.uint64)
    return own * np.uint64(0x9E3779B97F4A7C15) + rest
