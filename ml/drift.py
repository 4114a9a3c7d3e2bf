"""How far rows that are scored lie from those that a model learned from, and in what way.

Lives here: the profile of a training, the index of each column against it, and the sentence that says how they differ. Pure functions
over frames, for the company's model and for models of flat files. Must not live here: what a finding stops (`watch.py`), SQL.

The population stability index of a feature is sum((now - then) * ln(now / then)) over its bins. By custom, below 0.10 is
nothing, above 0.25 a shift (Siddiqi, Credit Risk Scorecards, 2006, ch. 9). Its size under no drift at all is about
(bins - 1) * (1/n_then + 1/n_now) (Yurdakul 2018: it is a chi-square in disguise), so with few rows luck alone passes 0.25:
`psi_noise` is given beside every value, and what single dates of the training differ by (everybody was last seen on Friday when it
is Monday) comes on top: only what lies above both counts as drift.

An index says that a column moved, not how. The profile therefore keeps quantiles, known texts and the share missing too: cents for
dollars read "the median is 100 times as high", and a few rows that lie far outside are noticed where their share moves no index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from core.words import counted, percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.settings import WatchConfig
    from ml.dataset import Dataset

    Floats = NDArray[np.float64]

BINS = 10
MAX_LEVELS = 20
"""Levels of a category that have a share of their own; the rest is one bin."""
SCORE = "(score)"
"""The name under which the score itself is watched."""
MISSING, OTHER = "(missing)", "(other)"
FLOOR = 1e-4
"""Share that an empty bin is taken to have, so that the logarithm exists; the usual choice."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
MOST_TEXTS = 1000
"""A category with more texts does not say which ones are new."""
FAR = 10
"""A value is far outside when it lies so many times as far from the training's median as its extreme does: one is enough."""
RARELY = 0.01
"""How often a file without any drift may be warned of, all columns together."""
SWING_ROWS = 200
"""A date with fewer rows says nothing about what dates differ by."""
FORMAT = 1

State = Literal["ok", "warn", "block"]


def profile(dataset: Dataset, probability: Floats) -> dict[str, Any]:
    """What a training looked like, JSON-able: bins and shares per feature and of the score, rows, and the share that left.

    Number: deciles of the known values, missing as a bin of its own, quantiles; category: its most frequent levels, the rest, and
    missing; the texts that there are. `probability` are scores of such rows: of these themselves (n,), or of a test. Saved with the
    model, so that drift needs no old data.
    """
    features = {str(name): dataset.features[name] for name in dataset.features.columns}
    columns = {
        name: {**(known := _profile_of(column)), "swing": _swing(column, known, dataset.as_of)}
        for name, column in features.items()
    }
    score: pd.Series[Any] = pd.Series(np.asarray(probability, dtype=np.float64))
    known = _profile_of(score)
    dates = dataset.as_of if len(score) == len(dataset) else None
    return {
        "format": FORMAT,
        "rows": len(dataset),
        "accounts": len(set(dataset.entity)),
        "base_rate": None if dataset.label is None else float(dataset.label.mean()),
        "columns": {**columns, SCORE: {**known, "swing": _swing(score, known, dates)}},
    }


def _profile_of(column: pd.Series[Any]) -> dict[str, Any]:
    if _is_category(column):
        texts = column.astype(object).where(column.notna(), MISSING).astype(str)
        counts = texts.value_counts().drop(MISSING, errors="ignore")
        levels = sorted(counts.index[:MAX_LEVELS])
        made: dict[str, Any] = {"kind": "category", "levels": [*levels, OTHER, MISSING]}
        if len(counts) <= MOST_TEXTS:
            made["texts"] = sorted(counts.index)
    else:
        values = _floats(column)
        known = values[np.isfinite(values)]
        edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS)) if len(known) else np.zeros(0)
        made = {"kind": "number", "edges": [float(edge) for edge in edges]}
        if len(known):
            made["quantiles"] = [float(value) for value in np.quantile(_numbers(column), QUANTILES)]
        if len(known) and np.isin(known, (0.0, 1.0)).all():
            made["yes_share"] = float(known.mean())
    made["shares"] = [float(share) for share in _shares(column, made)]
    return made


def _swing(column: pd.Series[Any], known: Mapping[str, Any], as_of: NDArray[Any] | None) -> float:
    """The largest index of a single as-of date against all of them: what a Monday or a month's end does by itself."""
    if as_of is None:
        return 0.0
    together = _smoothed(np.asarray(known["shares"], dtype=np.float64), len(column))
    codes, bins = _codes(column, known)
    dates, day = np.unique(as_of, return_inverse=True)
    counts = np.bincount(day * bins + codes, minlength=len(dates) * bins).reshape(len(dates), bins)
    alone = [(found / found.sum(), int(found.sum())) for found in counts if found.sum() >= SWING_ROWS]
    return max([0.0, *(psi(together, _smoothed(shares, rows)) for shares, rows in alone)])


def _is_category(column: pd.Series[Any]) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(column)


def _shares(column: pd.Series[Any], known: Mapping[str, Any]) -> NDArray[np.float64]:
    """(b,) share of the rows in each bin; the last is missing."""
    codes, bins = _codes(column, known)
    return np.bincount(codes, minlength=bins) / max(len(codes), 1)


def _codes(column: pd.Series[Any], known: Mapping[str, Any]) -> tuple[NDArray[np.int64], int]:
    """(n,) bin of each row, and how many bins there are."""
    if known["kind"] == "category":
        levels: list[str] = known["levels"]
        place = {level: index for index, level in enumerate(levels)}
        codes, texts = pd.factorize(column)
        bins = [place.get(str(text), place[OTHER]) for text in texts]
        return np.array([*bins, place[MISSING]], dtype=np.int64)[codes], len(levels)
    edges = np.asarray(known["edges"], dtype=np.float64)
    values = _floats(column)
    places: NDArray[np.int64] = np.searchsorted(edges, values)
    places[~np.isfinite(values)] = len(edges) + 1
    return places, len(edges) + 2


def _numbers(column: pd.Series[Any]) -> Floats:
    """The known numbers of the column."""
    values: Floats = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return values[np.isfinite(values)]


def _floats(column: pd.Series[Any]) -> Floats:
    """(n,) numbers of two digits: a mean gap of 30.4 days that was 30.5 is no drift, and equal values stay in one bin."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    with np.errstate(all="ignore"):
        scale = 10.0 ** (np.floor(np.log10(np.abs(values))) - 1)
        return np.where((values == 0) | ~np.isfinite(values), values, np.round(values / scale) * scale)


def psi(then: Sequence[float] | NDArray[np.float64], now: Sequence[float] | NDArray[np.float64]) -> float:
    """Population stability index of two lists of shares over the same bins; 0 = the same."""
    a, b = np.maximum(np.asarray(then, dtype=np.float64), FLOOR), np.maximum(np.asarray(now, dtype=np.float64), FLOOR)
    return float(((b - a) * np.log(b / a)).sum())


def _smoothed(shares: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """Shares with half a row more in every bin: a bin that few rows leave empty is not infinitely far away."""
    return (shares * rows + 0.5) / (rows + 0.5 * len(shares))


def psi_noise(bins: int, rows_then: int, rows_now: int, *, rarely: float = RARELY) -> float:
    """What all but a share `rarely` of samples without any drift stay below. Rows of one account are alike: count accounts, not
    snapshots."""
    from scipy.stats import chi2

    if bins < 2 or not rows_then or not rows_now:
        return 0.0
    return float(chi2.ppf(1 - rarely, bins - 1)) * (1 / rows_then + 1 / rows_now)


@dataclass(frozen=True)
class Drift:
    """One row of `ml.drift`: a feature, or the score as `(score)`."""

    feature: str
    psi: float
    noise: float
    """What luck (99 %) and the difference between dates stay below."""
    missing_then: float
    missing_now: float
    state: State
    sentence: str
    ways: tuple[str, ...] = ()
    """In what way the column differs, the plainest first."""
    outside: float = 0.0
    """Share of the known values that lie outside of what training saw: beyond its extremes, or a text that it did not have."""
    is_foreign: bool = False
    """Whether some of them lie where no chance puts them, or a further tenth is missing, though that may move no index."""


def drift(
    known: Mapping[str, Any],
    features: pd.DataFrame,
    probability: NDArray[np.float64] | None,
    config: WatchConfig,
    *,
    labels: Mapping[str, str] | None = None,
    together: bool = False,
) -> list[Drift]:
    """Rows (n, f) that are being scored against the profile of the training, the most drifted first.

    A feature that the rows lack counts as missing throughout. No rows: nothing can be said, and the list is empty. With
    `together`, luck is that of all columns together: a file of 30 columns is blamed no more often than one of 3.
    """
    rows = len(features)
    if not rows:
        return []
    rarely = RARELY / (len(known["columns"]) if together else 1)
    found = []
    for name, column in known["columns"].items():
        if name == SCORE:
            if probability is None:
                continue
            values: pd.Series[Any] = pd.Series(np.asarray(probability, dtype=np.float64))
        else:
            values = features[name] if name in features.columns else pd.Series(np.full(rows, np.nan))
        now = _shares(values, column)
        then = np.asarray(column["shares"], dtype=np.float64)
        used = (then > 0) | (now > 0)
        value = psi(_smoothed(then[used], int(known["accounts"])), _smoothed(now[used], rows))
        noise = psi_noise(int(used.sum()), int(known["accounts"]), rows, rarely=rarely) + float(
            column.get("swing", 0.0)
        )
        outside, is_foreign = _outside(values, column, int(known["rows"]), rarely=rarely)
        is_foreign |= _is_missing_otherwise(
            float(then[-1]), float(now[-1]), int(known["accounts"]), rows, rarely=rarely
        )
        ways = _ways(values, column, then, now, outside)
        state = _state(value, noise, config)
        label = "The score" if name == SCORE else (labels or {}).get(name, name.replace("_", " "))
        found.append(
            Drift(
                feature=name,
                psi=value,
                noise=noise,
                missing_then=float(then[-1]),
                missing_now=float(now[-1]),
                state=state,
                sentence=_drift_sentence(label, value, noise, ways if state != "ok" else ()),
                ways=ways,
                outside=outside,
                is_foreign=is_foreign,
            )
        )
    return sorted(found, key=lambda one: (-one.psi, one.feature))


def _state(value: float, noise: float, config: WatchConfig) -> State:
    if value <= noise:
        return "ok"
    return "block" if value > config.block_psi else "warn" if value > config.warn_psi else "ok"


def _drift_sentence(label: str, value: float, noise: float, ways: Sequence[str]) -> str:
    index = f"{label}: PSI {value:.2f} against training (luck and the day: up to {noise:.2f})"
    return "; ".join([index, *ways]) + "."


# --- in what way -----------------------------------------------------------------------------------------------------


def _outside(values: pd.Series[Any], known: Mapping[str, Any], rows_then: int, *, rarely: float) -> tuple[float, bool]:
    """Share of the known values that training did not see the like of, and whether chance does not explain them."""
    if known["kind"] == "category":
        new = sum(_new_texts(values, known).values())
        return new / max(int(values.notna().sum()), 1), new > 0
    if "quantiles" not in known:
        return 0.0, False
    found = _numbers(values)
    lowest, low, _, median, _, high, highest = known["quantiles"]
    if not len(found):
        return 0.0, False
    is_far = (found > median + FAR * (highest - median)) | (found < median - FAR * (median - lowest))
    # A little beyond the extremes lies whoever has been a customer longest.
    margin = (high - low) / 2
    beyond = int(((found > highest + margin) | (found < lowest - margin)).sum())
    outside = float(((found > highest) | (found < lowest)).mean())
    return outside, bool(is_far.any()) or _is_no_luck(beyond, len(found), rows_then, rarely)


def _is_no_luck(count: int, rows: int, rows_then: int, rarely: float) -> bool:
    """Whether more values lie beyond the extremes of `rows_then` others than chance puts there, and more than 1 %."""
    from scipy.stats import binom

    return count > 0.01 * rows and bool(binom.sf(count - 1, rows, 2 / (rows_then + 1)) < rarely)


def _is_missing_otherwise(then: float, now: float, rows_then: int, rows_now: int, *, rarely: float) -> bool:
    """Whether a tenth of the rows more, or less, is missing, and luck does not explain it."""
    from scipy.stats import norm

    share = (then * rows_then + now * rows_now) / (rows_then + rows_now)
    luck = float(np.sqrt(share * (1 - share) * (1 / rows_then + 1 / rows_now)))
    return abs(now - then) >= max(0.1, float(norm.isf(rarely / 2)) * luck)


def _new_texts(values: pd.Series[Any], known: Mapping[str, Any]) -> dict[str, int]:
    """The texts that training did not have, with their rows."""
    if "texts" not in known:
        return {}
    codes, texts = pd.factorize(values)
    seen = set(known["texts"])
    new = np.array([str(text) not in seen for text in texts], dtype=np.bool_)
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    return {str(text): int(count) for text, count, is_new in zip(texts, counts, new, strict=True) if is_new}


def _ways(
    values: pd.Series[Any], known: Mapping[str, Any], then: Floats, now: Floats, outside: float
) -> tuple[str, ...]:
    """In what way a column differs from training: medians, extremes, texts, the share missing."""
    ways = _text_ways(values, known, then, now) if known["kind"] == "category" else _number_ways(values, known, outside)
    if abs(now[-1] - then[-1]) >= 0.05:
        ways.append(f"missing in {percent(float(now[-1]))} of the rows, {percent(float(then[-1]))} in training")
    return tuple(ways)


def _number_ways(values: pd.Series[Any], known: Mapping[str, Any], outside: float) -> list[str]:
    from ml.reasons import amount

    found = _numbers(values)
    if not len(found) or "quantiles" not in known:
        return []
    if "yes_share" in known and np.isin(found, (0.0, 1.0)).all():
        share, before = float(found.mean()), float(known["yes_share"])
        return (
            [f"yes in {percent(share)} of the rows, {percent(before)} in training"]
            if abs(share - before) >= 0.05
            else []
        )
    ways = _median_ways(found, known["quantiles"])
    if outside >= 0.005:
        lowest, highest = amount(known["quantiles"][0]), amount(known["quantiles"][-1])
        ways.append(f"{percent(outside)} of the values lie outside of what training saw ({lowest} to {highest})")
    elif outside:
        lies = [value for value in found if not known["quantiles"][0] <= value <= known["quantiles"][-1]]
        ways.append(f"some values lie outside of what training saw, such as {amount(max(lies, key=abs))}")
    return ways


def _median_ways(found: Floats, quantiles: Sequence[float]) -> list[str]:
    from ml.reasons import amount

    low, before, high = (float(quantiles[place]) for place in (2, 3, 4))
    median = float(np.median(found))
    both = f"({amount(median)}, {amount(before)} in training)"
    if median * before > 0 and not 2 / 3 < median / before < 3 / 2:
        ratio = median / before
        much = f"{amount(ratio)} times as high" if ratio > 1 else f"1/{amount(1 / ratio)} of what it was"
        return [f"the median is {much} {both}"]
    if median != before and abs(median - before) >= (high - low) / 4:
        return [f"the median is another {both}"]
    middle = np.quantile(found, (0.25, 0.75))
    if high > low and not 2 / 3 < float(np.ptp(middle)) / (high - low) < 3 / 2:
        spans = f"{amount(float(middle[0]))} to {amount(float(middle[1]))}"
        return [f"the middle half spans {spans}, {amount(low)} to {amount(high)} in training"]
    return []


def _text_ways(values: pd.Series[Any], known: Mapping[str, Any], then: Floats, now: Floats) -> list[str]:
    from ml.reasons import printable

    ways = []
    new = _new_texts(values, known)
    if new:
        most = sorted(new, key=lambda text: (-new[text], text))
        shown = ", ".join(printable(text) for text in most[:3]) + (", …" if len(new) > 3 else "")
        rows = sum(new.values())
        what = "is a text" if rows == 1 else "are texts"
        ways.append(f"{counted(rows, 'value')} {what} that training did not have ({shown})")
    levels = known["levels"][:-2]
    # Of the rows that have a text: what is missing is said by itself.
    then, now = (shares[:-1] / (1 - shares[-1]) if shares[-1] < 1 else shares[:-1] * np.nan for shares in (then, now))
    moved = np.abs(now - then)[: len(levels)]
    if len(levels) and np.nan_to_num(moved).max() >= 0.05:
        place = int(moved.argmax())
        shares = f"{percent(float(now[place]))} of the values, {percent(float(then[place]))} in training"
        ways.append(f"{printable(levels[place])} is {shares}")
    return ways
