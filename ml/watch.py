"""Does the model still see what it learned from, and did its past scores come true?

Lives here: the verdicts on drift, on labels that change, on stale features, and past scores against what came. Pure functions over
frames. Must not live here: how drift is measured (`drift.py`), SQL, asset checks, what a finding stops (orchestration).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.words import percent
from ml import evaluate
from ml.drift import SCORE, Drift, State

if TYPE_CHECKING:
    from core.settings import WatchConfig


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
