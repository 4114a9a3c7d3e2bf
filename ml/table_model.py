"""Bring your own table: learn from one flat file, test honestly, keep the model; score another file with it.

Lives here: the order of things for a flat file, the protocol of its test, tiers, what is written. Must not live here: the recipe
(`recipe.py`), metrics (`evaluate.py`), reasons (`reasons.py`), MLflow (`registry.py`): they are the pipeline's own.

The tested models learned from the other folds (or from what came before); the one that is kept learned the same way from all
rows. It is registered in MLflow as `tenure-churn-table`, and copied to `$TENURE_HOME/table_model/`, so that scoring needs no
server. Tiers and percentiles are those of the training's own out-of-sample risks: a customer has the same alone and in a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.errors import TenureError, UserError
from core.words import percent
from ml import evaluate, flat, gate, recipe, registry, split
from ml.dataset import Dataset, sample_accounts
from ml.evaluate import Difference, Evaluation, Interval
from ml.flat import Prepared, TablePlan

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from core.settings import Tenure
    from ml.model import ChurnModel
    from ml.reasons import Wording
    from ml.split import Fold

    Floats = NDArray[np.float64]

Say = Callable[[str, int, int], object]
"""What is done, how many steps are done, how many there are."""

REGISTERED = "tenure-churn-table"
FOLDS, REPEATS = 5, 2
ONE_REPEAT_FROM = 30_000
"""Rows from which five folds are gone through once: the interval of an AUC is then below +-0.007."""
TWO_FOLDS_FROM = 100_000
"""Rows from which two of the five folds are tested: 40,000 rows or more."""
DATES = 5
"""Forward tests, when the rows have a time."""
BLOCKS = (1, 7, 30, 91, 182, 365)
"""Days that one forward test spans: the fewest that leave enough departures in each."""
EXPLAINED = 5_000
"""Rows whose contributions give the order of the features and their directions."""
TOP_SHARE, NEXT_SHARE = 0.10, 0.20
"""Tiers: high is the riskiest tenth of the training's customers, medium the next fifth."""
KEPT = 3
"""Models that stay in the folder; older ones are in MLflow."""
NEXT_TO_NOTHING = 0.005
"""Share of all contributions below which the direction of a feature is mostly noise."""
OVERLAP = (
    "No --horizon-days: if the label looks further ahead than the next date, training saw part of what the test asks, and the"
    " numbers flatter."
)
BATCH = 100_000


@dataclass(frozen=True)
class Effect:
    """What one feature does to the risk."""

    feature: str
    share: float
    """Its part of all contributions, 0 to 1."""
    direction: str
    """In words."""


@dataclass(frozen=True)
class Tested:
    """Rows with the probabilities of models that did not see them; several repeats hold the same rows."""

    data: Dataset
    probability: Floats
    regression: Floats
    prior: Floats


@dataclass(frozen=True)
class TableTraining:
    """A training with everything that is known about it."""

    prepared: Prepared
    model: ChurnModel
    selection: Mapping[str, Any]
    protocol: str
    """How it was tested, in a sentence."""
    folds: tuple[Mapping[str, Any], ...]
    """The test in parts: per repeat, or per date."""
    tested: Tested
    """The first repeat, or all dates: what the pictures show."""
    evaluation: Evaluation
    baselines: Mapping[str, Evaluation]
    against_regression: Mapping[str, Difference]
    random_split_auc: float | None
    effects: tuple[Effect, ...]
    decision: gate.Decision
    verdict: str
    thresholds: tuple[float, float]
    """Probabilities from which a customer is in tier high and medium."""
    quantiles: tuple[float, ...]
    """The 1,001 quantiles of the out-of-sample probabilities, for percentiles."""
    seconds: float = 0.0

    @property
    def form(self) -> str:
        """What the recipe chose, in a sentence."""
        found = self.selection
        depth = found.get("parameters", {}).get("max_depth")
        boosters = found.get("boosters", 1)
        mean = f", the mean of {boosters} that differ in their seed" if boosters > 1 else ""
        words = f"{found.get('rounds', '?')} trees of depth {depth}{mean}"
        weight = found.get("weight_of_trees", 1)
        if weight < 1:
            words += f"; blended with a regression, which has {percent(1 - weight)} of the say"
        return words

    def document(self) -> dict[str, Any]:
        """All of it but rows and models, JSON-able."""
        data = self.prepared.data
        return {
            "rows": {
                "read": self.prepared.rows_read,
                "used": len(data),
                "without_label": self.prepared.rows_without_label,
                "left": data.events,
                "customers": len(set(data.entity)),
            },
            "columns": [asdict(fate) for fate in self.prepared.fates],
            "leak_suspects": [asdict(suspect) for suspect in self.prepared.suspects],
            "notes": list(self.prepared.notes),
            "protocol": self.protocol,
            "test": asdict(self.evaluation),
            "folds": list(self.folds),
            "baselines": {name: asdict(found) for name, found in self.baselines.items()},
            "against_regression": {name: asdict(found) for name, found in self.against_regression.items()},
            "random_split_auc": self.random_split_auc,
            "effects": [asdict(effect) for effect in self.effects],
            "decision": self.decision.document(),
            "verdict": self.verdict,
            "tiers": {"high_from": self.thresholds[0], "medium_from": self.thresholds[1]},
            "form": self.form,
            "selection": self.selection,
        }


@dataclass(frozen=True)
class Kept:
    """Where a training was kept."""

    folder: Path
    version: str
    registered: int | None

    @property
    def report(self) -> Path:
        return self.folder / "report.html"


def train(
    path: Path,
    *,
    label: str,
    id: str,
    time: str | None = None,
    drop: Collection[str] = (),
    keep: Collection[str] = (),
    horizon_days: int = 0,
    tenure: Tenure,
    progress: Say = lambda what, done, total: None,
) -> TableTraining:
    """Learn from the file at `path` and test. Raises `UserError` with one sentence for what is wrong with the table."""
    seed, threads = tenure.config.model.seed, tenure.threads
    progress("reading the table", 0, 1)
    prepared = flat.prepare(
        path,
        label=label,
        id=id,
        time=time,
        drop=drop,
        keep=keep,
        seed=seed,
        memory_limit=tenure.memory_limit,
        threads=threads,
        temp_directory=tenure.temp_directory,
    )
    if time is not None and not horizon_days:
        prepared = replace(prepared, notes=(*prepared.notes, OVERLAP))
    data = prepared.data.in_canonical_order()
    # Two rows of different dates never share a fold's two sides: a label takes at least a day to settle.
    embargo = max(horizon_days, 1)
    parts = _forward(data, embargo, time) if data.as_of is not None else _repeated(data, seed)
    steps = sum(len(part) for part in parts) + (2 if data.as_of is None else 3)
    done = 0
    tested: list[Tested] = []
    for number, folds in enumerate(parts):
        pieces: list[Tested] = []
        for fold in folds:
            done += 1
            where = f"before {fold.date}" if fold.date is not None else f"fold {len(pieces) + 1} of {len(folds)}"
            repeat = f", repeat {number + 1} of {len(parts)}" if len(parts) > 1 else ""
            progress(f"testing: learning {where}{repeat}", done, steps)
            pieces.append(_one(data, fold, embargo=embargo, seed=seed, threads=threads))
        tested.append(_together(pieces))
    random_auc = None
    if data.as_of is not None:
        done += 1
        progress("testing on a random split, to show what it would claim", done, steps)
        few = sample_accounts(data, 50_000, seed=seed)
        random_auc = evaluate.random_split_auc(few, _learner(embargo, seed, threads), seed=seed)
    progress("learning from all rows", done + 1, steps)
    fitted = recipe.fit(data, embargo_days=embargo, seed=seed, threads=threads)
    progress("measuring", done + 2, steps)
    return _judged(prepared, data, fitted, tested, parts, tenure, random_auc, horizon_days)


def _judged(
    prepared: Prepared,
    data: Dataset,
    fitted: recipe.Fitted,
    tested: Sequence[Tested],
    parts: Sequence[Sequence[Fold]],
    tenure: Tenure,
    random_auc: float | None,
    horizon_days: int,
) -> TableTraining:
    seed = tenure.config.model.seed
    first = tested[0]
    dates = 1 if first.data.as_of is None else len(np.unique(first.data.as_of))
    options: dict[str, Any] = {"capacity": max(1, round(TOP_SHARE * len(first.data) / dates)), "seed": seed}

    def judge(scores: Callable[[Tested], Floats]) -> Evaluation:
        horizon = horizon_days or None
        return _mean([evaluate.evaluate(one.data, scores(one), horizon_days=horizon, **options) for one in tested])

    evaluation = judge(lambda one: one.probability)
    baselines = {"prior": judge(lambda one: one.prior), "logistic_regression": judge(lambda one: one.regression)}
    against = evaluate.compare(first.data, first.probability, first.regression, **options)
    evidence = gate.evidence(
        evaluation,
        prior=baselines["prior"],
        against_regression=against["log_loss"],
        leak_suspects=[one.name for one in prepared.suspects if one.verdict == "kept" and one.auc >= gate.TOO_GOOD],
    )
    decision = gate.judge(evidence, tenure.config.model.gate)
    if first.data.as_of is None:  # the rules speak of the pipeline's tests, which are forward
        still = tuple(reason.replace(" forward in time", "") for reason in decision.reasons)
        decision = replace(decision, reasons=still)
    probability = np.concatenate([one.probability for one in tested])
    return TableTraining(
        prepared=replace(prepared, data=data),
        model=fitted.model,
        selection=fitted.selection,
        protocol=_protocol(first, parts, horizon_days),
        folds=tuple(_folds(tested, parts)),
        tested=first,
        evaluation=evaluation,
        baselines=baselines,
        against_regression=against,
        random_split_auc=random_auc,
        effects=effects(fitted.model, data, seed=seed),
        decision=decision,
        verdict=_verdict(evaluation, against["log_loss"]),
        thresholds=_thresholds(probability, tenure),
        quantiles=tuple(float(one) for one in np.quantile(probability, np.linspace(0, 1, 1001))),
    )


# --- the test ----------------------------------------------------------------------------------------------------


def _repeated(data: Dataset, seed: int) -> list[list[Fold]]:
    rows = len(data)
    folds = split.stratified_folds(data, folds=FOLDS, repeats=REPEATS if rows < ONE_REPEAT_FROM else 1, seed=seed)
    if rows >= TWO_FOLDS_FROM:
        return [folds[:2]]
    return [folds[start : start + FOLDS] for start in range(0, len(folds), FOLDS)]


def _forward(data: Dataset, embargo: int, time: str | None) -> list[list[Fold]]:
    """Forward tests over blocks of days, the shortest blocks that leave enough departures in at least three of them."""
    assert data.as_of is not None
    best: list[Fold] = []
    for length in BLOCKS:
        found = _blocks(data, embargo, length)
        if len(found) > len(best):
            best = found
        if len(best) >= 3:
            break
    if best:
        return [best]
    dates = np.unique(data.as_of)
    raise UserError(
        f"Too little to test forward in time: {time} has {len(dates):,} date{'s' * (len(dates) > 1)} from {dates[0]} to"
        f" {dates[-1]} with {data.events:,} departures in all, and both what trains and what tests needs"
        f" {split.MIN_EVENTS} after a gap of {embargo} day{'s' * (embargo > 1)}.",
        hint="Bring more dates or a shorter --horizon-days, or leave out --time for a test by customer.",
    )


def _blocks(data: Dataset, embargo: int, length: int) -> list[Fold]:
    assert data.as_of is not None
    start = data.as_of.min()
    block = (data.as_of - start).astype(np.int64) // length
    coarse = start + (block * length).astype("timedelta64[D]")
    folds = []
    for fold in split.rolling_origins(replace(data, as_of=coarse), embargo_days=1, folds=DATES):
        begins = data.as_of[fold.test].min()
        train = fold.train[data.as_of[fold.train] + np.timedelta64(embargo, "D") <= begins]
        left = int(data.labels[train].sum())
        if min(left, len(train) - left) >= split.MIN_EVENTS:
            folds.append(replace(fold, train=train, date=begins))
    return folds


def _one(data: Dataset, fold: Fold, *, embargo: int, seed: int, threads: int) -> Tested:
    train, test = data.where(fold.train), data.where(fold.test)
    model = recipe.fit(train, embargo_days=embargo, seed=seed, threads=threads).model
    others = evaluate.baselines(train, test)
    return Tested(
        data=test,
        probability=model.probability(test.features),
        regression=others["logistic_regression"].score,
        prior=others["prior"].score,
    )


def _learner(embargo: int, seed: int, threads: int) -> Callable[[Dataset], Callable[[Dataset], Floats]]:
    def learn(train: Dataset) -> Callable[[Dataset], Floats]:
        model = recipe.fit(train, embargo_days=embargo, seed=seed, threads=threads).model
        return lambda test: model.probability(test.features)

    return learn


def _together(pieces: Sequence[Tested]) -> Tested:
    datas = [piece.data for piece in pieces]
    as_of = [data.as_of for data in datas if data.as_of is not None]
    data = Dataset(
        features=pd.concat([data.features for data in datas], ignore_index=True),
        entity=np.concatenate([data.entity for data in datas]),
        label=np.concatenate([data.labels for data in datas]),
        as_of=np.concatenate(as_of) if as_of else None,
    )
    prior = np.concatenate([piece.prior for piece in pieces])
    return Tested(
        data,
        np.concatenate([piece.probability for piece in pieces]),
        np.concatenate([piece.regression for piece in pieces]),
        # Folds without time differ in their share by chance only: as different numbers, they would rank.
        prior if as_of else np.full(len(prior), prior.mean()),
    )


def _mean(found: Sequence[Evaluation]) -> Evaluation:
    """The mean over repeats of values and of ends of intervals: repeats judge the same rows, they do not narrow anything."""

    def middle(intervals: Sequence[Interval]) -> Interval:
        ends = [[getattr(one, end) for one in intervals] for end in ("value", "low", "high")]
        return Interval(*(None if None in end else float(np.mean(end)) for end in ends))

    names = found[0].metrics
    return replace(
        found[0],
        metrics={name: middle([one.metrics[name] for one in found]) for name in names},
        ece_floor=middle([one.ece_floor for one in found]),
    )


def _folds(tested: Sequence[Tested], parts: Sequence[Sequence[Fold]]) -> list[dict[str, Any]]:
    """Each part of the test by itself: the dates, or the folds of the repeats."""
    rows = []
    for number, (one, folds) in enumerate(zip(tested, parts, strict=True)):
        begin = 0
        for place, fold in enumerate(folds):
            piece = slice(begin, begin + len(fold.test))
            begin = piece.stop
            label = one.data.labels[piece]
            name = f"from {fold.date}" if fold.date is not None else f"repeat {number + 1}, fold {place + 1}"
            rows.append(
                {
                    "test": name,
                    "rows": len(label),
                    "left": int(label.sum()),
                    "trained_on": len(fold.train),
                    **{
                        key: value
                        for key, value in evaluate.metrics(label, one.probability[piece]).items()
                        if key in ("roc_auc", "log_loss", "lift_top_decile")
                    },
                }
            )
    return rows


def _protocol(first: Tested, parts: Sequence[Sequence[Fold]], horizon_days: int) -> str:
    folds = parts[0]
    if folds[0].date is not None:
        gap = f" with a gap of {horizon_days} days" if horizon_days else ""
        return (
            f"forward in time{gap}: {len(folds)} test{'s' * (len(folds) > 1)}, each on what came after {folds[0].date}"
            f"{' or a later day' if len(folds) > 1 else ''} by a model that learned from what came before"
        )
    if len(folds) < FOLDS:
        return f"{len(folds)} of {FOLDS} stratified folds, {len(first.data):,} rows that the tested model did not see"
    times = {1: "once", 2: "twice"}[len(parts)]
    return f"{FOLDS} stratified folds {times}, each customer judged by models that did not see them"


def _verdict(evaluation: Evaluation, against: Difference) -> str:
    """The test in a sentence or two."""
    found = evaluation.metrics
    auc, hit, base = found["roc_auc"], found["precision_at_capacity"].value, evaluation.base_rate
    if auc.value is None or auc.low is None or hit is None or base is None:
        return "Too little was tested to say anything."
    if auc.low <= 0.5:
        return "No better than chance on rows that it had not seen: do not act on these scores."
    words = f"Of the riskiest tenth, {percent(hit)} left; of all, {percent(base, 1)}."
    if against.low is not None and against.low > 0:
        words += " A logistic regression does better on this table."
    elif against.high is not None and against.high >= 0:
        words += " It is level with a logistic regression on this table."
    return words


def _thresholds(probability: Floats, tenure: Tenure) -> tuple[float, float]:
    tiers = tenure.config.model.tiers
    if tiers.by == "probability":
        return tiers.high, tiers.medium
    high, medium = np.quantile(probability, [1 - TOP_SHARE, 1 - TOP_SHARE - NEXT_SHARE])
    return float(high), float(medium)


# --- what the features do ----------------------------------------------------------------------------------------


def effects(model: ChurnModel, data: Dataset, *, seed: int) -> tuple[Effect, ...]:
    """The features by their part of all contributions, the largest first, with the direction of each in words."""
    few = sample_accounts(data, EXPLAINED, seed=seed)
    contributions, _ = model.contributions(few.features)
    sizes = np.abs(contributions).mean(axis=0)
    total = float(sizes.sum()) or 1.0
    return tuple(
        Effect(
            model.feature_names[place],
            float(sizes[place] / total),
            direction(few.features[model.feature_names[place]], contributions[:, place])
            if sizes[place] / total >= NEXT_TO_NOTHING
            else "next to none",
        )
        for place in np.argsort(-sizes, kind="stable")
    )


def direction(column: pd.Series[Any], contribution: Floats) -> str:
    """How the risk goes with the column (n,), from its contributions (n,) in log-odds."""
    from ml.reasons import amount, printable

    if float(np.abs(contribution).max(initial=0.0)) < 1e-6:
        return "no effect"
    if isinstance(column.dtype, pd.CategoricalDtype):
        means = pd.Series(contribution).groupby(column.astype(object).fillna("(missing)").to_numpy()).mean()
        top, low = printable(str(means.idxmax())), printable(str(means.idxmin()))
        return f"{top}: higher risk; {low}: lower" if top != low else "no effect"
    values = column.to_numpy(dtype=np.float64)
    known = np.isfinite(values)
    distinct = np.unique(values[known])
    if len(distinct) < 2:
        if known.all() or not known.any():
            return "no effect"
        return (
            "filled: higher risk"
            if contribution[known].mean() > contribution[~known].mean()
            else "missing: higher risk"
        )
    ranks = pd.Series(values[known]).rank().to_numpy()
    pushes = pd.Series(contribution[known]).rank().to_numpy()
    correlation = float(np.corrcoef(ranks, pushes)[0, 1]) if np.ptp(pushes) > 0 else 0.0
    if set(distinct) <= {0.0, 1.0}:
        return "yes: higher risk" if correlation > 0 else "yes: lower risk"
    if abs(correlation) >= 0.6:
        return "the more, the higher the risk" if correlation > 0 else "the more, the lower the risk"
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, 6)))
    place = np.clip(np.searchsorted(edges, values[known], side="right") - 1, 0, len(edges) - 2)
    means = pd.Series(contribution[known]).groupby(place).mean()
    worst, best = int(means.idxmax()), int(means.idxmin())
    between = [f"{amount(float(edges[one]))} to {amount(float(edges[one + 1]))}" for one in (worst, best)]
    return f"highest risk at {between[0]}, lowest at {between[1]}"


# --- keeping -----------------------------------------------------------------------------------------------------


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
    plots = report.pictures(training)
    version = _register(training, source.name, data_hash, plots, tenure=tenure, now=now, git_commit=git_commit)
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
    for module in ("recipe", "model", "linear", "dataset", "columns", "flat"):
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
                "table": {"plan": plan.to_json(), "tiers": training.thresholds, "quantiles": training.quantiles}
            },
            git_commit=git_commit,
        ),
        now=now,
    )
    return made.number


def _tidy(home: Path, current: str) -> None:
    """Keep the newest few; what a killed training left goes too, once it is a day old."""
    folders = sorted(path for path in home.iterdir() if path.is_dir())
    old = [path for path in folders if not path.name.startswith(".") and path.name != current][: -(KEPT - 1)]
    newest = (home / current).stat().st_mtime
    old += [path for path in folders if path.name.startswith(".making-") and newest - path.stat().st_mtime > 86_400]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)


# --- scoring -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Current:
    """The model last trained in a home, ready to score."""

    model: ChurnModel
    plan: TablePlan
    version: str
    trained_at: str
    thresholds: tuple[float, float]
    quantiles: Floats
    verdict: str
    usable: bool
    """Whether the gate let it pass."""


@dataclass(frozen=True)
class Scored:
    """What was scored."""

    rows: int
    out: Path
    version: str
    tiers: Mapping[str, int]
    mean_probability: float | None
    warnings: tuple[str, ...]
    riskiest: tuple[Mapping[str, Any], ...]

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "out": str(self.out)}


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
        usable=document["decision"]["state"] != "refused",
    )


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
        warnings.append(f"This model did not pass its test: {using.verdict}")
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
    first = whole.column_names[0]
    return Scored(
        rows=count,
        out=out,
        version=using.version,
        tiers={name: tiers.count(name) for name in ("high", "medium", "low")},
        mean_probability=float(probability.mean()) if count else None,
        warnings=tuple(warnings),
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
