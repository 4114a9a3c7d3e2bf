"""What was trained, kept in MLflow: runs, the registered model `tenure-churn`, its champion and how it came to be.

Lives here: everything that touches MLflow, and the only import of it. Must not live here: learning, metrics, the decision to
promote (`ml/gate.py`), the words of the card (`ml/card.py`), drawing.

Default store: `$TENURE_HOME/mlflow/mlflow.db` (SQLite) with files under `$TENURE_HOME/mlflow/artifacts`; or any MLflow 3
server or database by URI. Models are UBJ and JSON, never pickle; MLflow loads them through `_load_pyfunc` below.

A registration is several calls and may be killed between any two. So a version counts only with the tag `complete`, which
is set when all else is there; what is half made is ignored, and removed by the next `find` or `register` of the same home.
The aliases follow from the decision in the version's tags and are set last; `recover` catches up on them. The champion's
former one is a tag of the champion, so that moving the alias is the one step that promotes or rolls back.

Measured on 2 cores: importing MLflow 0.8 s beyond pandas, creating the SQLite schema 1.4 s, opening an existing one 0.6 s.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd

from core import telemetry
from core.errors import Refused, TenureError, UserError, says_full
from ml.model import ChurnModel

if TYPE_CHECKING:
    from mlflow.entities import Param
    from mlflow.tracking import MlflowClient
    from pydantic import SecretStr

    from ml.gate import Decision

MODEL = "tenure-churn"
EXPERIMENT = "tenure-churn"
CHAMPION, CHALLENGER, LATEST = "champion", "challenger", "latest"

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
}
"""MLflow's own settings, unless the environment says otherwise: a dead server is known in seconds (MLflow's defaults: about
ten minutes), and nothing but our own document reaches standard output."""

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
DATA = "data/churn"
"""Where MLflow puts our folder `churn` inside the model."""
LOCK_SECONDS = 5
PARAMS_PER_CALL = 100
METRICS_PER_CALL = 1000
TEXT_LIMIT = 4000
"""MLflow's tables hold 5,000 characters of a tag or description."""


@dataclass(frozen=True)
class Key:
    """What makes a training the same training: data, recipe (settings and code that learn) and seed."""

    data_hash: str
    recipe_hash: str
    seed: int

    def __str__(self) -> str:
        return hashlib.sha256(f"{self.data_hash}/{self.recipe_hash}/{self.seed}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class DataSummary:
    """The rows that a model learned from."""

    name: str
    rows: int
    accounts: int
    events: int
    first_date: str | None = None
    """ISO date of the first and last as-of date; None for a table without time."""
    last_date: str | None = None


@dataclass(frozen=True)
class Trial:
    """One candidate of the search: what was tried and how it validated."""

    params: Mapping[str, Any]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """Everything about one training, as plain data. Nested mappings of numbers are flattened with dots."""

    model: ChurnModel
    key: Key
    data: DataSummary
    decision: Decision
    metrics: Mapping[str, Any]
    """All metrics; an interval is a mapping with value, low and high (`roc_auc.low`). None and NaN are left out."""
    headline: Mapping[str, float | None]
    """The few numbers that the list of versions shows."""
    card: Callable[[int], str]
    """The model card (Markdown), given the number of the version."""
    example: pd.DataFrame
    """A few rows of features; identifiers are refused."""
    params: Mapping[str, Any] = field(default_factory=dict)
    plots: Mapping[str, bytes] = field(default_factory=dict)
    """Name to PNG."""
    documents: Mapping[str, Any] = field(default_factory=dict)
    """Name to JSON-able document, saved with the model: `profile`, `evaluation`, `selection`."""
    trials: Sequence[Trial] = ()
    tested: ChurnModel | None = None
    """The model that the test judged, kept for comparisons with later ones; it never saw the test window."""
    git_commit: str | None = None
    manifest_hash: str | None = None


@dataclass(frozen=True)
class Version:
    """A registered version of the model."""

    number: int
    state: str
    """champion, challenger, refused, or retired: neither in use nor waiting."""
    run_id: str
    model_id: str
    trained_at: datetime | None
    data_hash: str
    recipe_hash: str
    seed: int
    reasons: tuple[str, ...]
    headline: Mapping[str, float]
    former_champion: int | None = None
    promoted_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The version as plain data for JSON output."""
        return {
            "version": self.number,
            "state": self.state,
            "trained_at": self.trained_at,
            "promoted_at": self.promoted_at,
            "former_champion": self.former_champion,
            "metrics": dict(self.headline),
            "reasons": list(self.reasons),
            "data_hash": self.data_hash,
            "recipe_hash": self.recipe_hash,
            "seed": self.seed,
            "run_id": self.run_id,
        }


@dataclass(frozen=True)
class Loaded:
    """A version ready to score, with the documents that were saved beside it."""

    version: Version
    model: ChurnModel
    documents: Mapping[str, Any]


@dataclass(frozen=True)
class Registry:
    """The runs and versions of one home in one MLflow. Make it with `connect`.

    Every method raises `TenureError` (MLflow does not answer, is locked or full) or `UserError` (wrong address, unknown
    version), with the address but never its credentials.
    """

    home: Path
    uri: str = field(repr=False)
    name: str = MODEL

    def find(self, key: Key) -> Version | None:
        """The version that was already trained on this very data, recipe and seed. First removes what was left half made."""
        with self._talking("look for a former training"):
            self._recover()
            return next((v for v in self._versions() if v.tags.get("training_key") == str(key)), None)

    def versions(self) -> tuple[Version, ...]:
        """All complete versions, the newest first. Looking makes no store where there is none."""
        if self._is_local and not self._database.exists():
            return ()
        with self._talking("list the versions"):
            return tuple(self._versions())

    def version(self, which: int | str) -> Version:
        """A version by number, or by `champion`, `challenger` or `latest`."""
        found = self.versions()
        word = str(which).strip().lower().removeprefix("v")
        for version in found:
            if word == LATEST or word == str(version.number) or word == version.state in (CHAMPION, CHALLENGER):
                return version
        if not found:
            raise UserError("No model has been trained yet.", hint="Run `tenure run`.")
        if word in (CHAMPION, CHALLENGER):
            raise UserError(f"No version is the {word}.", hint="`tenure model list` shows the versions and why.")
        known = ", ".join(str(version.number) for version in found[:10]) + ("…" if len(found) > 10 else "")
        raise UserError(
            f"There is no version {which}; there are {known}.",
            hint="Name one by its number, or say champion, challenger or latest.",
        )

    def champion(self) -> Version | None:
        """The version whose scores are used; None when no model has passed the gate."""
        return next((version for version in self.versions() if version.state == CHAMPION), None)

    def load(self, version: Version, *, threads: int = 2) -> Loaded:
        """The model of a version, and its documents."""
        with self._talking(f"load version {version.number}"), self._files(version) as folder:
            documents = {
                path.stem: json.loads(path.read_text(encoding="utf-8"))
                for path in sorted((folder / DATA).glob("*.json"))
            }
            return Loaded(version, ChurnModel.load(folder / DATA / "model", threads=threads), documents)

    def load_tested(self, version: Version, *, threads: int = 2) -> ChurnModel:
        """The model of a version that never saw its test window; the model itself where none was kept."""
        with self._talking(f"load version {version.number}"), self._files(version) as folder:
            kept = folder / DATA / "tested"
            return ChurnModel.load(kept if kept.exists() else folder / DATA / "model", threads=threads)

    def card(self, version: Version) -> str:
        """The model card of a version, in Markdown."""
        with self._talking(f"read the card of version {version.number}"), self._files(version) as folder:
            return (folder / "card.md").read_text(encoding="utf-8")

    def plots(self, version: Version) -> dict[str, bytes]:
        """Name to PNG: the pictures of a version."""
        with self._talking(f"read the pictures of version {version.number}"), self._files(version) as folder:
            return {path.stem: path.read_bytes() for path in sorted(folder.glob("plots/*.png"))}

    def register(
        self, training: Training, *, now: datetime, run_id: str = "", on_step: Callable[[str], None] | None = None
    ) -> Version:
        """Record a training and register its version; the same training again returns the version that is there.

        `now` is UTC without a zone; `run_id` is the pipeline's run. `on_step` is told what comes next: run, trials, plots,
        model, version, card, complete, alias.
        """
        tell = on_step or _silent
        known = self.find(training.key)
        if known is not None:
            return known
        with self._talking("record the training"):
            tell("run")
            run = self._start_run(training, now, run_id)
            tell("trials")
            self._log_trials(run, training.trials, now)
            tell("model")
            model_id = self._log_model(run, training, tell)
            tell("version")
            number = self._create_version(run, model_id, training, now, run_id)
            tell("card")
            self._log_card(run, model_id, training.card(number))
            tell("complete")
            self._client.update_run(run, status="FINISHED")
            self._tag(number, complete="true")
            tell("alias")
            self._recover()
            return next(version for version in self._versions() if version.number == number)

    def promote(self, number: int, *, reason: str, now: datetime, force: bool = False) -> Version:
        """Make a version the champion. A refused one needs `force`; raises `Refused` without."""
        version = self.version(number)
        if version.state == CHAMPION:
            return version
        if version.tags.get("decision") == "refused" and not force:
            raise Refused(
                f"The gate refused version {version.number}: {' '.join(version.reasons)}",
                hint=f"tenure model promote {version.number} --force   uses it all the same.",
            )
        with self._talking(f"promote version {version.number}"):
            self._promote(version.number, reason=reason, now=now)
        return self.version(version.number)

    def rollback(self, *, reason: str, now: datetime) -> tuple[Version, Version]:
        """Back to the champion before this one. Returns (the one that goes, the one that is back)."""
        current = self.champion()
        if current is None:
            raise UserError("There is no champion to roll back.", hint="`tenure model list` shows the versions.")
        numbers = {version.number for version in self.versions()}
        if current.former_champion not in numbers:
            raise UserError(
                f"Version {current.number} is the first champion; there is none before it.",
                hint="`tenure model promote NUMBER` chooses another version.",
            )
        with self._talking(f"roll back version {current.number}"):
            self._tag(current.number, rolled_back_at=_stamp(now), rolled_back_reason=reason[:TEXT_LIMIT])
            self._client.set_registered_model_alias(self.name, CHAMPION, str(current.former_champion))
        return self.version(current.number), self.version(str(current.former_champion))

    # -- MLflow -----------------------------------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> MlflowClient:
        _prepare()
        if self._is_local:
            self._open_store()
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @property
    def _is_local(self) -> bool:
        return self.uri.startswith("sqlite:")

    @property
    def _database(self) -> Path:
        return Path(self.uri.partition("///")[2].partition("?")[0])

    @property
    def _artifacts(self) -> Path:
        """Where files go when no server keeps them."""
        return self._database.parent / "artifacts" if self._is_local else self.home / "mlflow" / "artifacts"

    @property
    def _owner(self) -> str:
        return hashlib.sha256(str(self.home).encode()).hexdigest()[:16]

    @property
    def _scratch(self) -> Path:
        return self.home / "tmp" / "mlflow"

    def _open_store(self) -> None:
        """Make the store when there is none, and fail now, in a few seconds, when it is locked or cannot be written.

        The schema is some hundred statements; it is made beside its place and moved there whole, so that a kill leaves
        no half of it.
        """
        self._database.parent.mkdir(parents=True, exist_ok=True)
        if not self._database.exists():
            from mlflow.tracking import MlflowClient

            with tempfile.TemporaryDirectory(dir=self._database.parent, prefix="new-") as scratch:
                draft = Path(scratch) / "mlflow.db"
                MlflowClient(f"sqlite:///{draft}").search_experiments(max_results=1)
                draft.replace(self._database)
        with contextlib.closing(
            sqlite3.connect(self._database, timeout=LOCK_SECONDS, isolation_level=None)
        ) as connection:
            connection.execute("begin immediate")
            connection.execute("rollback")

    @cached_property
    def _experiment(self) -> str:
        """The id of the experiment, made when missing.

        A home that was moved or copied gets an experiment of its own: MLflow keeps absolute paths, and new files must
        not go to the old place.
        """
        keeps_files = self.uri.partition(":")[0].partition("+")[0] in DATABASES
        location = str(self._artifacts) if keeps_files else None
        name = EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        if found is not None and location is not None and found.artifact_location != location:
            name = f"{EXPERIMENT}-{self._owner[:8]}"
            found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, artifact_location=location))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _versions(self) -> Iterator[Version]:
        """Complete versions, the newest first."""
        aliases = self._aliases()
        for raw in self._raw_versions():
            if raw.tags.get("complete") == "true":
                yield _version(raw, aliases)

    def _raw_versions(self) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_model_versions(f"name='{self.name}'", max_results=1000, page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return sorted(found, key=lambda raw: -int(raw.version))

    def _aliases(self) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        try:
            known = self._client.get_registered_model(self.name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {alias: int(number) for alias, number in known.items()}

    def _tag(self, number: int, **tags: str) -> None:
        for name, value in tags.items():
            self._client.set_model_version_tag(self.name, str(number), name, value)

    def _recover(self) -> None:
        """Remove what this home left half made, and set the aliases that complete versions still wait for."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        for raw in sorted(self._raw_versions(), key=lambda raw: int(raw.version)):
            if raw.tags.get("owner") != self._owner:
                continue
            if raw.tags.get("complete") != "true":
                self._client.delete_model_version(self.name, raw.version)
            elif raw.tags.get("settled") != "true":
                self._settle(raw)
        for run in self._client.search_runs(
            [self._experiment], f"tags.owner = '{self._owner}' and attributes.status = 'RUNNING'", max_results=1000
        ):
            self._remove_run(run)

    def _settle(self, raw: Any) -> None:
        """Set the alias that the decision of a complete version asks for."""
        decision, number = raw.tags.get("decision"), int(raw.version)
        if decision == CHAMPION and self._aliases().get(CHAMPION) != number:
            self._promote(number, reason="passed the gate", now=_moment(raw.tags["trained_at"]) or _EPOCH)
        elif decision == CHALLENGER:
            self._client.set_registered_model_alias(self.name, CHALLENGER, str(number))
        self._tag(number, settled="true")

    def _promote(self, number: int, *, reason: str, now: datetime) -> None:
        aliases = self._aliases()
        former = aliases.get(CHAMPION)
        self._tag(number, promoted_at=_stamp(now), promoted_reason=reason[:TEXT_LIMIT])
        if former is not None and former != number:
            self._tag(number, former_champion=str(former))
        self._client.set_registered_model_alias(self.name, CHAMPION, str(number))
        if aliases.get(CHALLENGER, number + 1) <= number:
            self._client.delete_registered_model_alias(self.name, CHALLENGER)

    def _remove_run(self, run: Any) -> None:
        """A run that was killed: marked, hidden, and its files removed where they are ours to remove."""
        from mlflow.exceptions import MlflowException

        outputs = [] if run.outputs is None else run.outputs.model_outputs
        for output in outputs:
            with contextlib.suppress(MlflowException):
                self._client.delete_logged_model(output.model_id)
            self._remove_files(self._artifacts / "models" / output.model_id)
        trials = self._client.search_runs(
            [self._experiment], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'", max_results=1000
        )
        for trial in trials:
            self._client.delete_run(trial.info.run_id)
        self._client.update_run(run.info.run_id, status="KILLED")
        self._client.delete_run(run.info.run_id)
        self._remove_files(self._artifacts / run.info.run_id)

    def _remove_files(self, folder: Path) -> None:
        if self._is_local:
            shutil.rmtree(folder, ignore_errors=True)

    def _start_run(self, training: Training, now: datetime, run_id: str) -> str:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = training.data
        tags = {
            "owner": self._owner,
            "mlflow.runName": f"{MODEL} {now:%Y-%m-%d %H:%M}",
            "mlflow.source.name": "tenure",
            "mlflow.source.type": "JOB",
            "training_key": str(training.key),
            "data_hash": training.key.data_hash,
            "recipe_hash": training.key.recipe_hash,
            "decision": training.decision.state,
            "mlflow.note.content": _summary(training),
        }
        optional = {
            "mlflow.source.git.commit": training.git_commit,
            "dbt_manifest_hash": training.manifest_hash,
            "tenure_run_id": run_id or None,
        }
        tags |= {name: value for name, value in optional.items() if value}
        run = self._client.create_run(self._experiment, start_time=_milliseconds(now), tags=tags).info.run_id
        self._log_numbers(run, {**training.params, "seed": training.key.seed}, training.metrics, now)
        window = {} if data.first_date is None else {"first_date": data.first_date, "last_date": data.last_date}
        profile = {"rows": data.rows, "accounts": data.accounts, "events": data.events, **window}
        known = Dataset(
            name=data.name,
            digest=training.key.data_hash[:32],
            source_type="local",
            source=json.dumps({"uri": data.name}),
            schema=json.dumps({"features": list(training.model.feature_names)}),
            profile=json.dumps(profile),
        )
        self._client.log_inputs(run, [DatasetInput(known, [InputTag("mlflow.data.context", "training")])])
        return str(run)

    def _log_numbers(self, run: str, params: Mapping[str, Any], metrics: Mapping[str, Any], now: datetime) -> None:
        from mlflow.entities import Metric

        stamp = _milliseconds(now)
        known = [Metric(name, value, stamp, 0) for name, value in flatten(metrics).items()]
        said = _params(params)
        for start in range(0, max(len(known), len(said)), PARAMS_PER_CALL):
            part = slice(start, start + PARAMS_PER_CALL)
            self._client.log_batch(run, metrics=known[part], params=said[part])

    def _log_trials(self, parent: str, trials: Sequence[Trial], now: datetime) -> None:
        for number, trial in enumerate(trials):
            tags = {"mlflow.parentRunId": parent, "mlflow.runName": f"trial {number}", "owner": self._owner}
            child = self._client.create_run(self._experiment, start_time=_milliseconds(now), tags=tags).info.run_id
            self._log_numbers(child, trial.params, trial.metrics, now)
            self._client.update_run(child, status="FINISHED")

    def _log_model(self, run: str, training: Training, tell: Callable[[str], None]) -> str:
        from mlflow.entities import LoggedModelOutput

        model_id = str(
            self._client.create_logged_model(
                self._experiment, name=MODEL, source_run_id=run, tags={"owner": self._owner}, model_type="classifier"
            ).model_id
        )
        self._client.log_outputs(run, [LoggedModelOutput(model_id, step=0)])
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch) as scratch:
            folder = Path(scratch) / "model"
            write_model(folder, training, run_id=run, model_id=model_id)
            tell("plots")
            (folder / "plots").mkdir()
            for name, picture in training.plots.items():
                (folder / "plots" / f"{name}.png").write_bytes(picture)
            self._client.log_model_artifacts(model_id, str(folder))
            if training.plots:
                self._client.log_artifacts(run, str(folder / "plots"), "plots")
        self._client.finalize_logged_model(model_id, "READY")
        return model_id

    def _create_version(self, run: str, model_id: str, training: Training, now: datetime, run_id: str) -> int:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self.name, description="Who will leave, and why. Trained by Tenure.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {
            "owner": self._owner,
            "model_id": model_id,
            "training_key": str(training.key),
            "data_hash": training.key.data_hash,
            "recipe_hash": training.key.recipe_hash,
            "seed": str(training.key.seed),
            "trained_at": _stamp(now),
            "decision": training.decision.state,
            "reasons": json.dumps(training.decision.reasons, ensure_ascii=False)[:TEXT_LIMIT],
            "metrics": json.dumps(flatten(training.headline)),
            "git_commit": training.git_commit or "",
            "dbt_manifest_hash": training.manifest_hash or "",
            "tenure_run_id": run_id,
        }
        made = self._client.create_model_version(
            self.name,
            source=self._client.get_logged_model(model_id).artifact_location,
            run_id=run,
            tags={name: value for name, value in tags.items() if value},
            description=_summary(training),
            await_creation_for=10,
            model_id=model_id,
        )
        return int(made.version)

    def _log_card(self, run: str, model_id: str, card: str) -> None:
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch) as scratch:
            path = Path(scratch) / "card.md"
            path.write_text(card, encoding="utf-8")
            self._client.log_model_artifact(model_id, str(path))
            self._client.log_artifact(run, str(path))

    @contextlib.contextmanager
    def _files(self, version: Version) -> Iterator[Path]:
        """The folder of a version's files: in place when they are on this machine, else a copy that is removed."""
        if self._is_local:
            moved = self._artifacts / "models" / version.model_id / "artifacts"
            if moved.is_dir():
                yield moved
                return
        from mlflow.artifacts import download_artifacts

        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch) as scratch:
            location = self._client.get_logged_model(version.model_id).artifact_location
            yield Path(download_artifacts(artifact_uri=location, dst_path=scratch, tracking_uri=self.uri))

    @contextlib.contextmanager
    def _talking(self, doing: str) -> Iterator[None]:
        """Turn whatever MLflow, SQLAlchemy, requests or the disk raise into one sentence that says what to do."""
        try:
            yield
        except TenureError:
            raise
        except Exception as error:
            trouble = _trouble(error, self.uri, doing)
            if trouble is None:
                raise
            raise trouble from None


def connect(home: Path, tracking_uri: SecretStr | None = None, *, name: str = MODEL) -> Registry:
    """The registry of a home. Nothing is opened yet; raises `UserError` for an address that MLflow 3 cannot use."""
    given = tracking_uri.get_secret_value().strip() if tracking_uri is not None else ""
    if not given:
        return Registry(home, f"sqlite:///{home / 'mlflow' / 'mlflow.db'}", name)
    scheme = given.partition(":")[0].partition("+")[0].lower()
    if scheme in ("http", "https"):
        if not urlsplit(given).hostname:
            raise UserError(
                f"model.tracking_uri {safe(given)} names no host.", hint="Such as https://mlflow.example.com."
            )
        return Registry(home, given.rstrip("/"), name)
    if scheme not in DATABASES or "://" not in given:
        raise UserError(
            f"model.tracking_uri {safe(given)} is no address that MLflow 3 can use.",
            hint="Use https://HOST, postgresql://…, sqlite:////PATH/mlflow.db, or leave it out for a store in TENURE_HOME.",
        )
    return Registry(home, given, name)


def safe(uri: str) -> str:
    """An address without its credentials and parameters."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", uri).partition("?")[0]


def write_model(folder: Path, training: Training, *, run_id: str | None = None, model_id: str | None = None) -> None:
    """Write an MLflow model into `folder` (made): flavor python_function, loader `ml.registry`, no pickle.

    Raises `ValueError` when the example holds a column that is not a feature: an identifier does not go into a model.
    """
    import importlib.metadata

    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    model = training.model
    strangers = sorted(set(training.example.columns) - set(model.feature_names))
    if strangers:
        raise ValueError(f"the example holds columns that are not features: {', '.join(strangers)}")
    kinds = {name: DataType.string if name in model.categories else DataType.double for name in model.feature_names}
    example = pd.DataFrame(
        {
            name: training.example[name].astype(object if name in model.categories else np.float64)
            for name in model.feature_names
            if name in training.example.columns
        }
    )
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        data = Path(scratch) / "churn"
        model.save(data / "model")
        if training.tested is not None:
            training.tested.save(data / "tested")
        for name, document in training.documents.items():
            text = json.dumps(document, indent=1, ensure_ascii=False, default=plain)
            (data / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module="ml.registry",
            data_path=str(data),
            mlflow_model=Model(run_id=run_id, model_id=model_id),
            signature=ModelSignature(
                inputs=Schema([ColSpec(kind, name, required=False) for name, kind in kinds.items()]),
                outputs=Schema([ColSpec(DataType.double, "churn_probability")]),
            ),
            input_example=example,
            pip_requirements=[
                f"{name}=={importlib.metadata.version(name)}" for name in ("tenure", "xgboost-cpu", "pandas", "numpy")
            ],
            metadata={"training_key": str(training.key)},
        )


class _Served:
    """What MLflow serves: features in, probability out."""

    def __init__(self, model: ChurnModel) -> None:
        self.model = model

    def predict(self, features: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """(n, any) features to (n, 1) `churn_probability`; columns that are not given count as not measured."""
        del params
        missing = [name for name in self.model.feature_names if name not in features.columns]
        whole = features.assign(**dict.fromkeys(missing, np.nan)) if missing else features
        return pd.DataFrame({"churn_probability": self.model.probability(whole)})


def _load_pyfunc(path: str) -> _Served:
    """Called by MLflow (`mlflow.pyfunc.load_model`, `mlflow models serve`) with the folder `data/churn` of the model."""
    return _Served(ChurnModel.load(Path(path) / "model"))


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers of nested mappings, names joined by dots; `{"roc_auc": {"value": .8, "low": .7}}` gives `roc_auc`
    and `roc_auc.low`. Lists, texts, None and NaN are left out; signs that MLflow does not allow become `_`."""
    flat: dict[str, float] = {}
    for name, value in document.items():
        key = prefix if name == "value" and prefix else f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping):
            flat |= flatten(value, key)
        elif isinstance(value, (bool, int, float, np.number)) and math.isfinite(float(value)):
            flat[re.sub(r"[^\w\-. /]", "_", key)[:250]] = float(value)
    return flat


_EPOCH = datetime(1970, 1, 1)


def _prepare() -> None:
    telemetry.switch_off()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  (sets up its own logging when first imported)

    # MLflow logs each failure with its statement or address; the caller gets one sentence instead.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _version(raw: Any, aliases: Mapping[str, int]) -> Version:
    number, tags = int(raw.version), dict(raw.tags)
    state = next((alias for alias in (CHAMPION, CHALLENGER) if aliases.get(alias) == number), "retired")
    if state == "retired" and tags.get("decision") == "refused" and "promoted_at" not in tags:
        state = "refused"
    former = tags.get("former_champion")
    return Version(
        number=number,
        state=state,
        run_id=str(raw.run_id),
        model_id=tags.get("model_id", ""),
        trained_at=_moment(tags.get("trained_at")),
        data_hash=tags.get("data_hash", ""),
        recipe_hash=tags.get("recipe_hash", ""),
        seed=int(tags.get("seed", 0)),
        reasons=tuple(_json(tags.get("reasons"), [])),
        headline=_json(tags.get("metrics"), {}),
        former_champion=int(former) if former else None,
        promoted_at=_moment(tags.get("promoted_at")),
        tags=tags,
    )


def _json(text: str | None, default: Any) -> Any:
    try:
        return json.loads(text) if text else default
    except ValueError:
        return default


def _summary(training: Training) -> str:
    """The first thing to read of a version or run, in MLflow's own pages."""
    verdict = {"champion": "Passed the gate.", "challenger": "Waits as challenger.", "refused": "Refused by the gate."}
    lines = [verdict[training.decision.state], *(f"- {reason}" for reason in training.decision.reasons)]
    return "\n".join([*lines, "", "The model card is the artifact `card.md`."])[:TEXT_LIMIT]


def _params(params: Mapping[str, Any], prefix: str = "") -> list[Param]:
    from mlflow.entities import Param

    found: list[Param] = []
    for name, value in params.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping):
            found.extend(_params(value, key))
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, default=plain)
            found.append(Param(re.sub(r"[^\w\-. /]", "_", key)[:250], text[:TEXT_LIMIT]))
    return found


def plain(value: Any) -> Any:
    """`value` for JSON where `json` itself does not know how: NumPy's numbers and arrays, all else as text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _milliseconds(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _silent(_: str) -> None:
    return None


def _trouble(error: Exception, uri: str, doing: str) -> TenureError | None:
    """The sentence for an error of MLflow, its database, its server or the disk; None for a mistake of ours."""
    place = safe(uri)
    words = _scrub(" ".join(str(error).split()), uri)
    lower = words.lower()
    here = f"MLflow at {place} could not {doing}"
    if says_full(words):
        return TenureError(
            f"{here}: the disk is full.", hint="Free some space and run again; what was there is unchanged."
        )
    if "database is locked" in lower or "database table is locked" in lower:
        return TenureError(
            f"{here}: another process holds its database.",
            hint="Close what has it open (a second run, `mlflow ui`) and run again.",
        )
    if isinstance(error, OSError) and not uri.startswith(("http:", "https:")):
        return TenureError(
            f"{here}: {error.strerror or words} ({error.filename or place}).",
            hint="The folder has to exist and be writable.",
        )
    if any(sign in lower for sign in ("readonly database", "unable to open database", "not a database", "malformed")):
        return TenureError(f"{here}: {words[:200]}.", hint="Is the file an MLflow database that may be written?")
    if "out-of-date database schema" in lower:
        return TenureError(
            f"{here}: its database belongs to another release of MLflow.",
            hint=f"Back it up, then: mlflow db upgrade {place}",
        )
    if any(
        sign in lower for sign in ("error code 401", "error code 403", "unauthorized", "permission_denied", "forbidden")
    ):
        return UserError(f"{here}: it refused the credentials.", hint="Check user and password in model.tracking_uri.")
    if any(sign in lower for sign in ("error code 404", "not in a valid json", "invalid url", "no host supplied")):
        return UserError(
            f"{here}: there is a server, but it does not answer like MLflow 3.",
            hint="Check model.tracking_uri in tenure.yml.",
        )
    module = type(error).__module__.partition(".")[0]
    if module not in (
        "mlflow",
        "sqlalchemy",
        "requests",
        "urllib3",
        "sqlite3",
        "psycopg",
        "psycopg2",
        "alembic",
    ) and not (isinstance(error, OSError)):
        return None
    if any(sign in lower for sign in ("timeout", "timed out", "max retries", "connection", "refused", "resolve")):
        return TenureError(
            f"{here}: it does not answer.",
            hint="Is it running and reachable? Scores that are published stay as they are.",
        )
    return TenureError(f"{here}: {words[:300]}", hint="Nothing that was registered before is lost; run again.")


def _scrub(text: str, uri: str) -> str:
    """`text` without the credentials of `uri`, whichever way they are written."""
    text = text.replace(uri, safe(uri))
    parts = urlsplit(uri)
    for secret in (parts.password, parts.query):
        if secret:
            for form in {secret, unquote(secret)}:
                text = text.replace(form, "***")
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)
