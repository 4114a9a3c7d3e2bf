"""Does the model still see what it learned from, and did its past scores come true?

Lives here: the profile of a training, drift against it, drift of the label, past scores against what came, stale features.
Pure functions over frames. Must not live here: SQL, asset checks, the decision what a finding stops (orchestration).

The population stability index of a feature is sum((now - then) * ln(now / then)) over its bins. By custom, below 0.10 is
nothing, above 0.25 a shift (Siddiqi, Credit Risk Scorecards, 2006, ch. 9). Its size under no drift at all is about
(bins - 1) * (1/n_then + 1/n_now) (Yurdakul 2018: it is a chi-square in disguise), so with few rows luck alone passes 0.25:
`psi_noise` is given beside every value, and what single dates of the training differ by (everybody was last seen on Friday when it
is Monday) comes on top: only what lies above both counts as drift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from core.words import percent
from ml import evaluate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.settings import WatchConfig
    from ml.dataset import Dataset

BINS = 10
MAX_LEVELS = 20
"""Levels of a category that have a share of their own; the rest is one bin."""
SCORE = "(score)"
"""The name under which the score itself is watched."""
MISSING, OTHER = "(missing)", "(other)"
FLOOR = 1e-4
"""Share that an empty bin is taken to have, so that the logarithm exists; the usual choice."""
SWING_ROWS = 200
"""A date with fewer rows says nothing about what dates differ by."""
FORMAT = 1

State = Literal["ok", "warn", "block"]


def profile(dataset: Dataset, probability: NDArray[np.float64]) -> dict[str, Any]:
    """What a training looked like, JSON-able: bins and shares per feature and of the score, rows, and the share that left.

    Number: deciles of the known values and missing as a bin of its own; category: its most frequent levels, the rest, and
    missing. `probability` (n,) are the model's own for these rows. Saved with the model, so that drift needs no old data.
    """
    frame = dataset.features.assign(**{SCORE: np.asarray(probability, dtype=np.float64)})
    columns = {str(name): _profile_of(frame[name]) for name in frame.columns}
    for name, column in columns.items():
        column["swing"] = _swing(frame[name], column, dataset.as_of)
    return {
        "format": FORMAT,
        "rows": len(dataset),
        "accounts": len(set(dataset.entity)),
        "base_rate": None if dataset.label is None else float(dataset.label.mean()),
        "columns": columns,
    }


def _profile_of(column: pd.Series[Any]) -> dict[str, Any]:
    if _is_category(column):
        texts = column.astype(object).where(column.notna(), MISSING).astype(str)
        counts = texts.value_counts()
        levels = sorted(counts.drop(MISSING, errors="ignore").index[:MAX_LEVELS])
        made: dict[str, Any] = {"kind": "category", "levels": [*levels, OTHER, MISSING]}
    else:
        values = _floats(column)
        known = values[np.isfinite(values)]
        edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS)) if len(known) else np.zeros(0)
        made = {"kind": "number", "edges": [float(edge) for edge in edges]}
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
        texts = column.astype(object).where(column.notna(), MISSING).astype(str)
        return np.asarray(texts.map(place).fillna(place[OTHER]), dtype=np.int64), len(levels)
    edges = np.asarray(known["edges"], dtype=np.float64)
    values = _floats(column)
    places: NDArray[np.int64] = np.searchsorted(edges, values)
    places[~np.isfinite(values)] = len(edges) + 1
    return places, len(edges) + 2


def _floats(column: pd.Series[Any]) -> NDArray[np.float64]:
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


def psi_noise(bins: int, rows_then: int, rows_now: int) -> float:
    """What 99 % of samples without any drift stay below. Rows of one account are alike: count accounts, not snapshots."""
    from scipy.stats import chi2

    if bins < 2 or not rows_then or not rows_now:
        return 0.0
    return float(chi2.ppf(0.99, bins - 1)) * (1 / rows_then + 1 / rows_now)


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


def drift(
    known: Mapping[str, Any],
    features: pd.DataFrame,
    probability: NDArray[np.float64] | None,
    config: WatchConfig,
    *,
    labels: Mapping[str, str] | None = None,
) -> list[Drift]:
    """Rows (n, f) that are being scored against the profile of the training, the most drifted first.

    A feature that the rows lack counts as missing throughout. No rows: nothing can be said, and the list is empty.
    """
    rows = len(features)
    if not rows:
        return []
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
        noise = psi_noise(int(used.sum()), int(known["accounts"]), rows) + float(column.get("swing", 0.0))
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
                sentence=_drift_sentence(label, value, noise, float(then[-1]), float(now[-1])),
            )
        )
    return sorted(found, key=lambda one: (-one.psi, one.feature))


def _state(value: float, noise: float, config: WatchConfig) -> State:
    if value <= noise:
        return "ok"
    return "block" if value > config.block_psi else "warn" if value > config.warn_psi else "ok"


def _drift_sentence(label: str, value: float, noise: float, then: float, now: float) -> str:
    sentence = f"{label}: PSI {value:.2f} against training (luck and the day: up to {noise:.2f})"
    if abs(now - then) >= 0.05:
        sentence += f"; not measured for {percent(now)} of accounts, {percent(then)} then"
    return sentence + "."


@dataclass(frozen=True)
class Verdict:
    """What a watch found: whether it warns or blocks, and the sentences."""

    state: State
    sentences: tuple[str, ...]


def judge_drift(found: Sequence[Drift], config: WatchConfig) -> Verdict:
    """Block when the score itself, or more than `max_drifted_share` of the features, drifted beyond `block_psi`.

    One feature that moved far is a warning: trees see a few features at a time, and a price change is no outage.
    """
    features = [one for one in found if one.feature != SCORE]
    score = next((one for one in found if one.feature == SCORE), None)
    moved = [one for one in features if one.state == "block"]
    noticed = [one for one in found if one.state != "ok"]
    share = len(moved) / len(features) if features else 0.0
    told = tuple(one.sentence for one in noticed)
    if score is not None and score.state == "block":
        return Verdict("block", (score.sentence, *(text for text in told if text != score.sentence)))
    if share > config.max_drifted_share:
        sentence = f"{len(moved)} of {len(features)} features are not what the model learned from."
        return Verdict("block", (sentence, *told))
    return Verdict("warn" if noticed else "ok", told)


def judge_labels(base_rate: float, rows: int, left: int, config: WatchConfig) -> Verdict:
    """Drift of the label: the share that left in a newly matured window of `rows` rows against that of the training.

    Warns when they differ by more than `max_label_drift` of the training's share and by more than luck (95 %, binomial).
    """
    if not rows or base_rate <= 0:
        return Verdict("ok", ())
    share = left / rows
    luck = 1.96 * float(np.sqrt(base_rate * (1 - base_rate) / rows))
    if abs(share - base_rate) <= max(config.max_label_drift * base_rate, luck):
        return Verdict("ok", ())
    sentence = (
        f"{percent(share, 1)} of {rows:,} accounts left in the newest matured window;"
        f" in training it was {percent(base_rate, 1)}."
    )
    return Verdict("warn", (sentence,))


def judge_staleness(
    newest: Mapping[str, date | datetime | None], as_of: date, max_days: Mapping[str, float]
) -> Verdict:
    """Block when what features are made of is older than it may be.

    `newest`: per input (an entity or a source) the time of its last fact before `as_of`; None: nothing ever came.
    `max_days`: per input how many days may lie between; an input that is not listed may be of any age.
    """
    end = datetime(as_of.year, as_of.month, as_of.day)
    told = []
    for name, limit in sorted(max_days.items()):
        last = newest.get(name)
        if last is None:
            told.append(f"{name}: nothing has come yet.")
            continue
        moment = last if isinstance(last, datetime) else datetime(last.year, last.month, last.day)
        days = (end - moment).total_seconds() / 86400
        if days > limit:
            told.append(
                f"{name}: the newest fact is {days:.0f} days older than {as_of}; at most {limit:g} are allowed."
            )
    return Verdict("block" if told else "ok", tuple(told))


def backtest(scored: pd.DataFrame, *, capacity: int, seed: int = 0) -> list[dict[str, Any]]:
    """Past scores against what came of them: rows for `ml.churn_backtest`, one per as-of date and model version.

    `scored`: one row per score whose label has matured, with account_id, as_of_date, model_version, probability and
    has_churned (0 or 1; NULL rows are left out). A metric that is not defined (nobody left) is None.
    """
    rows: list[dict[str, Any]] = []
    matured = scored[scored["has_churned"].notna() & scored["probability"].notna()]
    for (as_of, version), group in matured.groupby(["as_of_date", "model_version"], sort=True, dropna=False):
        part = group.sort_values("account_id", kind="stable")
        label = part["has_churned"].to_numpy(dtype=np.float64)
        p = part["probability"].to_numpy(dtype=np.float64)
        found = evaluate.metrics(label, p)
        floor = evaluate.noise_floor(p, seed=seed)
        called = np.argsort(-p, kind="stable")[:capacity]
        rows.append(
            {
                "as_of_date": as_of,
                "model_version": version,
                "scores": len(part),
                "events": int(label.sum()),
                "mean_probability": float(p.mean()),
                "realised_rate": float(label.mean()),
                "roc_auc": found["roc_auc"],
                "log_loss": found["log_loss"],
                "ece": found["ece"],
                "ece_noise": floor.value,
                "ece_noise_high": floor.high,
                "lift_top_decile": found["lift_top_decile"],
                "precision_at_capacity": float(label[called].mean()) if len(called) else None,
                "capacity": capacity,
            }
        )
    return rows


def judge_backtest(
    rows: Sequence[Mapping[str, Any]], config: WatchConfig, *, promised_lift: Mapping[str, float] | None = None
) -> Verdict:
    """Warn when the newest matured scores ranked badly or could not be taken at their word, beyond luck.

    `rows` as `backtest` gives them; `promised_lift` is the lift in the top tenth that each version's test promised.
    """
    if not rows:
        return Verdict("ok", ())
    newest = max(row["as_of_date"] for row in rows)
    told = []
    for row in rows:
        if row["as_of_date"] != newest:
            continue
        who = (
            f"Scores of {str(newest)[:10]} (version {row['model_version']}, {row['events']} of {row['scores']:,} left)"
        )
        ece, high = row["ece"], row["ece_noise_high"]
        if ece is not None and high is not None and ece - high > config.max_ece_above_noise:
            said, came = 100 * row["mean_probability"], 100 * row["realised_rate"]
            told.append(
                f"{who}: {said:.1f} % were said to leave, {came:.1f} % did (ECE {ece:.3f}, luck up to {high:.3f})."
            )
        auc = row["roc_auc"]
        # Standard error under no signal (Hanley and McNeil 1982): what few departures cannot tell from the floor is no alarm.
        if auc is not None and auc + 1.96 * _auc_error(row["events"], row["scores"]) < config.min_roc_auc:
            told.append(f"{who}: they ranked with a ROC AUC of {auc:.3f}; the floor is {config.min_roc_auc:.2f}.")
        promised, lift = (promised_lift or {}).get(str(row["model_version"])), row["lift_top_decile"]
        if promised is not None and lift is not None and _falls_short(row, config.min_lift_kept * promised):
            told.append(f"{who}: the lift in the top tenth was {lift:.1f}; the test promised {promised:.1f}.")
    return Verdict("warn" if told else "ok", tuple(told))


def _falls_short(row: Mapping[str, Any], lift: float) -> bool:
    """Whether fewer of the top tenth left than `lift` stands for, beyond luck (95 %, binomial)."""
    top = max(1.0, row["scores"] / 10)
    wanted = min(lift * row["realised_rate"], 1.0) * top
    came = row["lift_top_decile"] * row["realised_rate"] * top
    return bool(came < wanted - 1.96 * np.sqrt(wanted * (1 - wanted / top)))


def _auc_error(events: int, rows: int) -> float:
    others = rows - events
    return float(np.sqrt((rows + 1) / (12 * events * others))) if events and others else 1.0
