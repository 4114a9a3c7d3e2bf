"""The models of flat files: registered in MLflow as `tenure-churn-table`, the newest in `$TENURE_HOME/table_model/`.

Lives here: what is registered and written down of a training, which model is in use, when older ones go. Must not live here: how
it was learned and tested (`table_model.py`), scoring (`table_score.py`), MLflow (`registry.py`).

The copy in the folder lets `tenure score` work without a server.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import TenureError, UserError
from ml import drift, flat, registry
from ml.flat import TablePlan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.settings import Tenure
    from ml.model import ChurnModel
    from ml.table_model import Say, TableTraining

REGISTERED = "tenure-churn-table"
KEPT = 3
"""Models that stay in the folder; older ones are in MLflow."""


@dataclass(frozen=True)
class Kept:
    """Where a training was kept."""

    folder: Path
    version: str
    registered: int | None

    @property
    def report(self) -> Path:
        return self.folder / "report.html"


@dataclass(frozen=True)
class Current:
    """The model last trained in a home, ready to score."""

    model: ChurnModel
    plan: TablePlan
    version: str
    trained_at: str
    thresholds: tuple[float, float]
    quantiles: NDArray[np.float64]
    verdict: str
    refused_for: tuple[str, ...]
    """What the gate found wanting."""
    usable: bool
    """Whether the gate let it pass."""
    profile: Mapping[str, Any] | None
    """The distribution of the training's columns, against which other files are held; None where an older version trained."""


def keep(
    training: TableTraining,
    *,
    source: Path,
    tenure: Tenure,
    now: datetime,
    git_commit: str | None = None,
    progress: Say = lambda what, done, total: None,
) -> Kept:
    """Register the training in MLflow, write its report, and make it the model that `tenure score` uses.

    Raises `TenureError` when MLflow does not answer or the disk is full; the model that was in use stays in use.
    """
    from ml import report

    progress("drawing and registering", 0, 1)
    data_hash = training.prepared.data.content_hash()
    profile = drift.profile(training.prepared.data, training.tested.probability)
    plots = report.pictures(training)
    version = _register(training, source.name, data_hash, plots, profile, tenure=tenure, now=now, git_commit=git_commit)
    name = f"{now:%Y%m%d-%H%M%S}-{data_hash[:8]}"
    home = tenure.home / "table_model"
    try:
        home.mkdir(parents=True, exist_ok=True)
        making = home / f".making-{os.getpid()}"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        training.model.save(making / "model")
        label = f"{REGISTERED} {version}"
        document = {
            **training.document(),
            "version": label,
            "trained_at": now.isoformat(timespec="seconds"),
            "table": source.name,
            "data_hash": data_hash,
            "plan": training.prepared.plan.to_json(),
            "quantiles": list(training.quantiles),
            "profile": profile,
        }
        (making / "table.json").write_text(
            json.dumps(document, indent=1, default=registry.plain) + "\n", encoding="utf-8"
        )
        html = report.render(training, plots, source=source.name, version=label, now=now)
        (making / "report.html").write_text(html, encoding="utf-8")
        folder = home / name
        shutil.rmtree(folder, ignore_errors=True)
        making.replace(folder)
        pointer = home / ".current.tmp"
        pointer.write_text(name + "\n", encoding="utf-8")
        pointer.replace(home / "current")
    except OSError as error:
        raise TenureError(
            f"The model could not be kept in {home}: {error}", hint="The model that was in use stays in use."
        ) from None
    _tidy(home, name)
    return Kept(folder, label, version)


def _register(
    training: TableTraining,
    table: str,
    data_hash: str,
    plots: Mapping[str, bytes],
    profile: Mapping[str, Any],
    *,
    tenure: Tenure,
    now: datetime,
    git_commit: str | None,
) -> int:
    from ml import report

    data = training.prepared.data
    first, last = (None, None) if data.as_of is None else (str(data.as_of.min()), str(data.as_of.max()))
    plan = training.prepared.plan
    code = hashlib.sha256(json.dumps(plan.to_json(), sort_keys=True).encode())
    for module in ("recipe", "capacity", "bench", "mixing", "trees", "model", "linear", "dataset", "columns", "flat"):
        code.update((Path(__file__).parent / f"{module}.py").read_bytes())
    metrics = {name: asdict(found) for name, found in training.evaluation.metrics.items()}
    store = registry.connect(tenure.home, tenure.config.model.tracking_uri, name=REGISTERED)
    made = store.register(
        registry.Training(
            model=training.model,
            key=registry.Key(data_hash, code.hexdigest(), tenure.config.model.seed),
            data=registry.DataSummary(table, len(data), len(set(data.entity)), data.events, first, last),
            decision=training.decision,
            metrics={
                "test": metrics,
                **{f"baseline.{name}": asdict(found)["metrics"] for name, found in training.baselines.items()},
            },
            headline={
                name: training.evaluation.metrics[name].value for name in ("roc_auc", "pr_auc", "log_loss", "ece")
            },
            card=lambda number: report.card(training, source=table, version=f"{REGISTERED} {number}", now=now),
            example=data.features[list(training.model.feature_names)].head(5),
            params={
                "label": plan.label,
                "time": plan.time or "",
                "features": len(plan.columns),
                "protocol": training.protocol,
            },
            plots=plots,
            documents={
                "table": {"plan": plan.to_json(), "tiers": training.thresholds, "quantiles": training.quantiles},
                "profile": profile,
            },
            git_commit=git_commit,
        ),
        now=now,
    )
    return made.number


def current(tenure: Tenure) -> Current:
    """The model last trained; raises `UserError` when there is none."""
    from ml.model import ChurnModel

    home = tenure.home / "table_model"
    try:
        folder = home / (home / "current").read_text(encoding="utf-8").strip()
        document = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"No table has been trained on in {tenure.home} yet.",
            hint="tenure train --table FILE --label COLUMN --id COLUMN",
        ) from None
    if document["plan"].get("format") != flat.FORMAT:
        raise UserError("The model was trained by another version of Tenure.", hint="Train again.")
    return Current(
        model=ChurnModel.load(folder / "model", threads=tenure.threads),
        plan=TablePlan.from_json(document["plan"]),
        version=document["version"],
        trained_at=document["trained_at"],
        thresholds=(document["tiers"]["high_from"], document["tiers"]["medium_from"]),
        quantiles=np.array(document["quantiles"]),
        verdict=document["verdict"],
        refused_for=tuple(document["decision"]["reasons"]),
        usable=document["decision"]["state"] != "refused",
        profile=document.get("profile"),
    )


def _tidy(home: Path, current: str) -> None:
    """Keep the newest few; what a killed training left goes too, once it is a day old."""
    folders = sorted(path for path in home.iterdir() if path.is_dir())
    old = [path for path in folders if not path.name.startswith(".") and path.name != current][: -(KEPT - 1)]
    newest = (home / current).stat().st_mtime
    old += [path for path in folders if path.name.startswith(".making-") and newest - path.stat().st_mtime > 86_400]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
