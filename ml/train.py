"""Training, when it is due: learn, test forward in time, compare, decide, register, and write down what was decided.

Lives here: the order of things and the record. Must not live here: the recipe (`recipe.py`), metrics (`evaluate.py`), the rules
of promotion (`gate.py`), MLflow (`registry.py`).

Two models come out of one training. The *tested* one learned only what had closed before the test window; its numbers are the
honest ones, and it is compared with the champion's tested model on this window. The *registered* one learns the same way from
everything that has matured, the test window included, so that scores do not lag a horizon behind.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.warehouse import Connection, rows, scalar, transaction
from core.words import counted
from ml import monitor, record, source, tables
from ml.drift import SCORE
from ml.features import RECENCY, catalogue
from ml.judge import judge

if TYPE_CHECKING:
    from core.settings import Config, Tenure
    from ml.dataset import Dataset
    from ml.registry import Key, Version
    from ml.source import Matured

Say = Callable[[str], None]

LEARNING = (
    *(
        "bench.py",
        "capacity.py",
        "dataset.py",
        "judge.py",
        "linear.py",
        "mixing.py",
        "model.py",
        "prune.py",
        "recipe.py",
    ),
    *("source.py", "split.py", "trees.py"),
)
"""The modules that decide what a model is."""


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training came to. `state`: champion, challenger, refused, or unchanged when none was due."""

    state: str
    decision: str
    model_version: str | None
    matured: Matured | None = None
    report: Mapping[str, Any] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """For the asset: the decision, and the test in numbers."""
        facts: dict[str, Any] = {"summary": self.decision, "state": self.state}
        if self.model_version is not None:
            facts["model_version"] = self.model_version
        if self.matured is not None:
            facts |= {"training_rows": self.matured.rows, "churn_events": self.matured.churn_events}
        metrics = self.report.get("test", {}).get("metrics", {})
        named = ("roc_auc", "pr_auc", "log_loss", "ece", "lift_top_decile")
        values = {f"test_{name}": metrics[name]["value"] for name in named if name in metrics}
        return facts | {name: value for name, value in values.items() if value is not None}


def train(
    connection: Connection,
    tenure: Tenure,
    *,
    now: datetime,
    run_id: str,
    git_commit: str | None,
    manifest_hash: str,
    force: bool = False,
    progress: Say = lambda text: None,
) -> TrainingOutcome:
    """Train if it is due (or with `force`) and something has matured since; a refusal is an outcome, not an error.

    Raises `TenureError` when the registry cannot be reached; the tables are left as they were.
    """
    tables.ensure(connection)
    config = tenure.config.model
    if not config.enabled:
        return TrainingOutcome("unchanged", "model.enabled is off: nobody is scored", None)
    as_of: date = scalar(connection, "select cast(as_of_at as date) from ledger.clock")
    last = _last_training(connection)
    due = "asked for" if force else _why_due(connection, last, as_of, config.retrain_every_days)
    if due is None:
        assert last is not None
        return TrainingOutcome("unchanged", f"not due: last trained as of {last['as_of_date']}", last["model_version"])
    found = source.matured(connection)
    data: Dataset | None = None
    data_hash = f"{found.rows} rows"
    if found.churned_accounts >= config.min_churn_events:
        data = source.training_data(connection, catalogue(currency=tenure.config.currency), max_rows=config.max_rows)
        data_hash = data.content_hash()
    if last is not None and not force and last["data_hash"] == data_hash:
        return TrainingOutcome("unchanged", "nothing new has matured since the last training", last["model_version"])
    progress(f"training is due: {due}")
    if data is None:
        outcome = _refuse(_too_few(found, config.min_churn_events), found)
    else:
        outcome = _learn(
            tenure,
            data,
            data_hash,
            found,
            now=now,
            run_id=run_id,
            git_commit=git_commit,
            manifest_hash=manifest_hash,
            progress=progress,
        )
    with transaction(connection):
        _record(connection, outcome, found, data_hash, as_of=as_of, now=now, run_id=run_id, seed=config.seed)
        if outcome.model_version is not None:
            tested = outcome.report.get("backtest", ())
            monitor.write_test(connection, tested, model_version=outcome.model_version, now=now, run_id=run_id)
    return outcome


def _learn(
    tenure: Tenure,
    data: Dataset,
    data_hash: str,
    found: Matured,
    *,
    now: datetime,
    run_id: str,
    git_commit: str | None,
    manifest_hash: str,
    progress: Say,
) -> TrainingOutcome:
    from ml import registry

    config = tenure.config
    store = registry.connect(tenure.home, config.model.tracking_uri)
    key = registry.Key(data_hash, recipe_hash(config), config.model.seed)
    known = store.find(key)
    searched = tenure.home / "search"
    if known is not None:  # an earlier run registered it and was killed before it wrote that down
        shutil.rmtree(searched, ignore_errors=True)
        report = store.load(known).documents.get("report", {})
        return _outcome(known, found, report)
    champion = store.champion()
    features = catalogue(currency=tenure.config.currency)
    try:
        judgement = judge(
            data,
            config,
            directions={feature.name: feature.direction for feature in features},
            recency=RECENCY,
            growing={feature.name for feature in features if feature.grows},
            champion=None if champion is None else (champion.number, store.load_tested(champion)),
            search_storage=_storage(searched, key) if config.model.search_minutes else None,
            progress=progress,
        )
    except UserError as error:
        return _refuse(error.message, found)
    progress("recording the model")
    training = record.training(
        judgement, features, key, config, now=now, git_commit=git_commit, manifest_hash=manifest_hash
    )
    version = store.register(training, now=now, run_id=run_id)
    shutil.rmtree(searched, ignore_errors=True)
    return _outcome(version, found, judgement.document())


def _storage(folder: Path, key: Key) -> str:
    """Where the search of this training keeps its trials until the training is registered."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / f'{key}.db'}"


def recipe_hash(config: Config) -> str:
    """What, beside the data, makes a model what it is: the settings that learning reads, and the code that learns."""
    digest = hashlib.sha256(config.churn.model_dump_json().encode())
    read = config.model.model_dump(
        mode="json", include={"snapshot_every", "test_from", "max_rows", "search_minutes", "gate"}
    )
    digest.update(json.dumps(read, sort_keys=True).encode())
    for name in LEARNING:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()


def _outcome(version: Version, found: Matured, report: Mapping[str, Any]) -> TrainingOutcome:
    reasons = " ".join(version.reasons)
    words = {
        "champion": f"version {version.number} is the champion. {reasons}",
        "challenger": f"version {version.number} stays a challenger. {reasons}",
        "refused": f"version {version.number} is refused, its scores are not used. {reasons}",
    }
    decision = words.get(version.state, f"version {version.number}: {version.state}")
    return TrainingOutcome(version.state, decision, str(version.number), found, report)


def _refuse(sentence: str, found: Matured) -> TrainingOutcome:
    return TrainingOutcome("refused", sentence, None, found)


def _too_few(found: Matured, least: int) -> str:
    return (
        f"no model yet: {counted(found.churned_accounts, 'account')} known to have left, and at least {least} are needed"
        " (model.min_churn_events); every account gets the base rate until then"
    )


def _last_training(connection: Connection) -> dict[str, Any] | None:
    found = rows(connection, "select * exclude (report) from ml.trainings order by trained_at desc limit 1")
    return found[0] if found else None


def _why_due(connection: Connection, last: dict[str, Any] | None, as_of: date, every_days: int) -> str | None:
    """A reason to train, or None. Drift asks once: the training that follows it is newer than the measurement."""
    if last is None or last["model_version"] is None:
        return "there is no model yet"
    age = (as_of - last["as_of_date"]).days
    if age >= every_days:
        return f"the last one is {age} days old"
    drifted = scalar(
        connection,
        "select count(*) from ml.drift where measured_at > ? and state <> 'ok' and feature = ?",
        [last["trained_at"], SCORE],
    )
    if drifted:
        return "the scores have drifted from those of the training"
    changed = scalar(
        connection,
        "select count(*) from ml.watch where measured_at > ? and state <> 'ok' and watch in ('labels', 'outcomes')",
        [last["trained_at"]],
    )
    return "customers leave otherwise than the model learned" if changed else None


def _record(
    connection: Connection,
    outcome: TrainingOutcome,
    found: Matured,
    data_hash: str,
    *,
    as_of: date,
    now: datetime,
    run_id: str,
    seed: int,
) -> None:
    connection.execute(
        "insert into ml.trainings by name select * from (values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) as t (run_id,"
        " trained_at, as_of_date, data_hash, seed, model_version, state, rows, accounts, churn_events, first_as_of_date,"
        " last_as_of_date, base_rate, decision, report)",
        [
            run_id,
            now,
            as_of,
            data_hash,
            seed,
            outcome.model_version,
            outcome.state,
            found.rows,
            found.accounts,
            found.churn_events,
            found.first_as_of_date,
            found.last_as_of_date,
            found.base_rate,
            outcome.decision,
            json.dumps(outcome.report, default=str),
        ],
    )
