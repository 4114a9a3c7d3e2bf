"""Another flat file, scored with the model that `tenure train --table` made last.

Lives here: batches, tiers and percentiles of a file, its reasons in words, what is written. Must not live here: reading and
preparing the table (`flat.py`), reasons (`reasons.py`), which model is in use (`table_store.py`).

Tiers and percentiles are those of the training's own out-of-sample risks: a customer has the same alone and in a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.errors import TenureError, UserError
from ml import drift, flat
from ml.flat import TablePlan
from ml.table_store import Current, current

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from core.settings import Tenure
    from ml.reasons import Wording
    from ml.table_model import Say

    Floats = NDArray[np.float64]

BATCH = 100_000
_SIDES = (("up", "reason"), ("down", "down"))
OUTPUT = (
    "churn_probability",
    "tier",
    "percentile",
    *(
        f"{side}_{rank}_{what}"
        for _, side in _SIDES
        for rank in range(1, 6)
        for what in ("code", "text", "contribution")
    ),
    "other_contribution",
    "base_probability",
    "coverage_pct",
    "model_version",
    "scored_at",
)
"""The columns of a file of scores, after the id (and the time)."""


@dataclass(frozen=True)
class Scored:
    """What was scored."""

    rows: int
    out: Path
    version: str
    tiers: Mapping[str, int]
    mean_probability: float | None
    warnings: tuple[str, ...]
    drift: tuple[Mapping[str, Any], ...]
    """The columns that are not as in training, the most different first, and in what way."""
    riskiest: tuple[Mapping[str, Any], ...]

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "out": str(self.out)}


def score(
    path: Path,
    *,
    id: str,
    out: Path,
    tenure: Tenure,
    now: datetime,
    progress: Say = lambda what, done, total: None,
) -> Scored:
    """Score the file at `path` into `out` (Parquet or CSV by its ending), which appears whole or not at all."""
    _writable(path, out)
    using = current(tenure)
    progress("reading the table", 0, 1)
    rows = flat.to_score(
        path,
        using.plan,
        id=id,
        memory_limit=tenure.memory_limit,
        threads=tenure.threads,
        temp_directory=tenure.temp_directory,
    )
    warnings = list(rows.warnings)
    if not using.usable:
        warnings.append(f"This model did not pass its test: {using.verdict} {' '.join(using.refused_for)}".rstrip())
    tables, probabilities = [], []
    count = len(rows.features)
    for start in range(0, max(count, 1), BATCH):
        piece = slice(start, min(start + BATCH, count))
        progress("scoring and explaining", piece.stop, count)
        table, probability = _scores(using, rows, piece, id=id, now=now)
        tables.append(table)
        probabilities.append(probability)
    import pyarrow as pa

    whole = pa.concat_tables(tables)
    progress("writing", count, count)
    _write(whole, out)
    probability = np.concatenate(probabilities)
    tiers = whole["tier"].to_pylist()
    worst = np.argsort(-probability, kind="stable")[:5]
    moved = _moved(using, rows.features, probability, tenure)
    warnings += [_sentence(one) for one in moved]
    if using.profile is None:
        warnings.append("This model keeps nothing of its training to hold the file against; train again to have that.")
    first = whole.column_names[0]
    return Scored(
        rows=count,
        out=out,
        version=using.version,
        tiers={name: tiers.count(name) for name in ("high", "medium", "low")},
        mean_probability=float(probability.mean()) if count else None,
        warnings=tuple(warnings),
        drift=tuple(
            {
                "column": one.feature,
                "psi": round(one.psi, 3),
                "outside": round(one.outside, 4),
                "missing": round(one.missing_now, 4),
                "missing_in_training": round(one.missing_then, 4),
                "ways": list(one.ways),
            }
            for one in moved
        ),
        riskiest=tuple(
            {
                "id": str(whole[first][int(place)].as_py()),
                "churn_probability": float(probability[place]),
                "reasons": [
                    text for rank in (1, 2, 3) if (text := whole[f"reason_{rank}_text"][int(place)].as_py()) is not None
                ],
            }
            for place in worst
        ),
    )


def wordings(plan: TablePlan) -> dict[str, Wording]:
    """How each column speaks: by its own name, since nobody knows its unit."""
    from ml.reasons import Wording

    found = {}
    for column in plan.columns:
        name = column.name
        if column.kind == "yes_no":
            found[name] = Wording(
                name,
                name,
                positive=f"{name}: yes",
                one=f"{name}: yes",
                zero=f"{name}: no",
                missing=f"{name} is missing",
            )
        elif column.kind == "date":
            found[name] = Wording(
                name,
                name,
                "days",
                positive=f"{name} was {{value}} days ago",
                one=f"{name} was 1 day ago",
                zero=f"{name} is the same day",
                negative=f"{name} is {{value}} days ahead",
                missing=f"{name} is missing",
            )
        else:
            plain = f"{name} is {{value}}"
            found[name] = Wording(
                name,
                name,
                positive=plain,
                one=f"{name} is 1",
                zero=f"{name} is 0",
                negative=f"{name} is \N{MINUS SIGN}{{value}}",
                missing=f"{name} is missing" + (" or new" if column.kind == "category" else ""),
                repeats_text=True,
            )
    return found


def _scores(using: Current, rows: flat.ToScore, piece: slice, *, id: str, now: datetime) -> tuple[pa.Table, Floats]:
    import pyarrow as pa

    from ml import reasons

    features = rows.features.iloc[piece].reset_index(drop=True)
    for name, texts in using.model.categories.items():
        features[name] = pd.Categorical(features[name], categories=list(texts))
    probability = using.model.probability(features)
    contributions, base = using.model.contributions(features)
    points = reasons.probability_points(contributions, base, using.model.feature_names)
    high, medium = using.thresholds
    tier = np.where(probability >= high, "high", np.where(probability >= medium, "medium", "low"))
    known = features[list(using.model.feature_names)].notna().to_numpy().mean(axis=1) * 100
    made: dict[str, Any] = {}
    given = id if id not in OUTPUT else f"{id}_"
    made[given] = pa.array(rows.ids[piece])
    if rows.times is not None and using.plan.time is not None:
        made[using.plan.time if using.plan.time not in (*OUTPUT, given) else f"{using.plan.time}_"] = pa.array(
            rows.times[piece]
        )
    made["churn_probability"] = probability
    made["tier"] = tier
    made["percentile"] = np.round(100 * np.interp(probability, *_rising(using.quantiles)), 1)
    made |= _wide(reasons.reasons(points, features, wordings(using.plan)), len(features))
    made["base_probability"] = np.full(len(features), points.base_probability)
    made["coverage_pct"] = np.round(known, 1)
    made["model_version"] = pa.array([using.version] * len(features), pa.string())
    made["scored_at"] = pa.array([now] * len(features), pa.timestamp("us"))
    return pa.table(made), probability


def _moved(using: Current, features: pd.DataFrame, probability: Floats, tenure: Tenure) -> list[drift.Drift]:
    """The columns that are not as in training, and the risk itself where it is not what the test found."""
    if using.profile is None:
        return []
    found = drift.drift(using.profile, features, probability, tenure.config.model.watch, together=True)
    return [one for one in found if one.state != "ok" or (one.is_foreign and one.feature != drift.SCORE)]


def _sentence(one: drift.Drift) -> str:
    what = (
        "The risk itself is not what the test found"
        if one.feature == drift.SCORE
        else f"{one.feature} is not as in training"
    )
    return f"{what}: {'; '.join(one.ways) or 'its values are spread otherwise'}."


def _rising(quantiles: Floats) -> tuple[Floats, Floats]:
    """Each distinct quantile with the share of customers at or below it."""
    values, first = np.unique(quantiles[::-1], return_index=True)
    shares: Floats = (len(quantiles) - 1 - first) / (len(quantiles) - 1)
    return values, shares


def _wide(long: pa.Table, count: int) -> dict[str, Any]:
    """One row per customer from the long table of reasons."""
    import pyarrow as pa

    row = long["row"].to_numpy()
    kind, rank = long["kind"].to_numpy(zero_copy_only=False), long["rank"].to_numpy()
    made: dict[str, Any] = {}
    for side, name in _SIDES:
        for place in range(1, 6):
            here = np.flatnonzero((kind == side) & (rank == place))
            where = np.full(count, -1)
            where[row[here]] = here
            taken = pa.array(where, mask=where < 0)
            for what in ("code", "text", "contribution"):
                made[f"{name}_{place}_{what}"] = long[what].take(taken).combine_chunks()
    other = np.zeros(count)
    here = kind == "other"
    other[row[here]] = long["contribution"].to_numpy()[here]
    made["other_contribution"] = other
    return made


def _writable(path: Path, out: Path) -> None:
    if out.suffix.lower() not in (".parquet", ".pq", ".csv"):
        raise UserError(f"--out {out} needs an ending that says what to write.", hint="Use .parquet or .csv.")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}.")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"--out {out} cannot be written.")
    if path.exists() and out.exists() and path.samefile(out):
        raise UserError("--out is the table itself; choose another file.")


def _write(table: pa.Table, out: Path) -> None:
    """Written beside `out`, synced, and moved onto it."""
    making = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        if out.suffix.lower() == ".csv":
            from pyarrow import csv

            csv.write_csv(table, making)
        else:
            from pyarrow import parquet

            parquet.write_table(table, making)
        with making.open("rb") as stream:
            os.fsync(stream.fileno())
        making.replace(out)
    except OSError as error:
        raise TenureError(f"{out} could not be written: {error}", hint="What was there stays as it was.") from None
    finally:
        making.unlink(missing_ok=True)
