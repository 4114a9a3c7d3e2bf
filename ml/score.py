"""Scoring: today's accounts through the champion, with reasons, written once per date and version.

Lives here: the order of things, tiers, and what is written. Must not live here: learning, SHAP (`shap.py`), words
(`reasons.py`), the choice of the champion (`registry.py`).

Without a champion (none was trained, or none was good enough) every account gets the base rate of the matured labels, marked
`is_fallback`: a number that claims nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import Fatal
from core.settings import TierConfig
from core.warehouse import Connection, rows, scalar, transaction
from core.words import counted
from ml import reasons, source, tables
from ml.features import Feature, catalogue
from ml.reasons import Points

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from core.settings import Tenure
    from ml.model import ChurnModel
    from ml.registry import Registry

FALLBACK = "base-rate"
OFF = "off"
"""The version of a scoring without scores, where the model was switched off."""
CURRENT = "select * from ml.churn_scores where scored_at = (select max(scored_at) from ml.scorings)"
"""SQL of the scores that count now: those of the newest scoring. An account that it left out has no score any more."""
BATCH = 100_000
"""Accounts explained at once: 100,000 x 60 contributions are 48 MB."""
RECENT_DAYS = 92
"""Reasons of older scores are not kept: model version and as-of date rebuild them."""


@dataclass(frozen=True)
class ScoreOutcome:
    """What was scored. `written` is 0 when the same scores were there already."""

    as_of_date: date
    model_version: str
    scored: int
    written: int
    reasons: int
    high: int

    def metadata(self) -> dict[str, Any]:
        """For the asset: counts, and a sentence."""
        if self.model_version == OFF:
            return {"summary": "nobody is scored: model.enabled is off", "dagster/row_count": 0, "model_version": OFF}
        what = "base rate, no model is good enough" if self.model_version == FALLBACK else f"model {self.model_version}"
        summary = f"{counted(self.scored, 'account')} scored as of {self.as_of_date} ({what})"
        if not self.written and self.scored:
            summary = f"nothing new: {counted(self.scored, 'account')} with scores as of {self.as_of_date} ({what})"
        return {
            "summary": summary,
            "dagster/row_count": self.scored,
            "rows_written": self.written,
            "model_version": self.model_version,
            "as_of_date": str(self.as_of_date),
            "tier_high": self.high,
        }


def score(connection: Connection, tenure: Tenure, *, now: datetime, run_id: str) -> ScoreOutcome:
    """Score the accounts of `features.ftr_churn_scoring` with the champion, and say why and what changed.

    Raises `TenureError` when the registry cannot be reached or the model's files are gone; nothing is written then.
    """
    from ml import registry

    tables.ensure(connection)
    as_of: date = scalar(connection, "select cast(as_of_at as date) from ledger.clock")
    config = tenure.config.model
    if not config.enabled:
        _withdraw_all(connection, as_of, now=now, run_id=run_id)
        return ScoreOutcome(as_of, OFF, 0, 0, 0, 0)
    store = registry.connect(tenure.home, config.tracking_uri)
    champion = store.champion()
    if champion is None:
        _check_registry(connection, store)
    version = FALLBACK if champion is None else str(champion.number)
    features = catalogue(currency=tenure.config.currency)
    features_hash = source.scoring_hash(connection, features)
    tiers = f"{config.tiers.model_dump_json()}, capacity {config.capacity}"
    if _is_done(connection, as_of, version, features_hash, tiers):
        return _outcome(connection, as_of, version, written=0)
    frame = source.scoring_frame(connection, features)
    with transaction(connection):
        _forget_reasons(connection, frame, as_of, version)
        if champion is None:
            scored = _fallback(frame, source.matured(connection).base_rate)
        else:
            model = store.load(champion, threads=tenure.threads).model
            base = _write_reasons(connection, features, frame, model, _Score(as_of, version))
            scored = _scored(frame, model, base, config.tiers, capacity=config.capacity)
        _write_scores(connection, scored, version, is_fallback=champion is None, now=now, run_id=run_id)
        _write_scoring(connection, as_of, version, len(frame), features_hash, tiers, now=now, run_id=run_id)
    return _outcome(connection, as_of, version, written=len(frame))


def _check_registry(connection: Connection, store: Registry) -> None:
    """Raise `Fatal` where the models are gone that this warehouse was trained with: the base rate is for companies without one."""
    from ml.registry import safe

    known = scalar(connection, "select max(try_cast(model_version as int)) from ml.trainings")
    if known is not None and not store.versions():
        raise Fatal(
            f"{safe(store.uri)} holds no model, but this warehouse knows version {known}. The published scores stay as they were.",
            hint="Bring the store back, or train a new model with `tenure run --retrain`.",
        )


def _is_done(connection: Connection, as_of: date, version: str, features_hash: str, tiers: str) -> bool:
    """Whether the current scores are those of this date and version, of these very features and in these tiers."""
    wanted = {"as_of_date": as_of, "model_version": version, "features_hash": features_hash, "tiers": tiers}
    return rows(connection, f"select {', '.join(wanted)} from ml.scorings order by scored_at desc limit 1") == [wanted]


def _withdraw_all(connection: Connection, as_of: date, *, now: datetime, run_id: str) -> None:
    """Where there are scores, let a scoring without any take their place."""
    current = rows(connection, "select model_version from ml.scorings order by scored_at desc limit 1")
    if current and current[0]["model_version"] != OFF:
        _write_scoring(connection, as_of, OFF, 0, "", "", now=now, run_id=run_id)


def _write_scoring(
    connection: Connection,
    as_of: date,
    version: str,
    accounts: int,
    features_hash: str,
    tiers: str,
    *,
    now: datetime,
    run_id: str,
) -> None:
    connection.execute(
        "insert into ml.scorings by name select ? as run_id, ? as scored_at, ? as as_of_date, ? as model_version,"
        " ? as accounts, ? as features_hash, ? as tiers",
        [run_id, now, as_of, version, accounts, features_hash, tiers],
    )


def _forget_reasons(connection: Connection, frame: pd.DataFrame, as_of: date, version: str) -> None:
    """Make room for the reasons of a date that the same model scores again, of features that a late fact changed.

    An account that is no longer scored keeps those of the score that is withdrawn.
    """
    connection.register("scored", frame[["account_id"]])
    connection.execute(
        "delete from ml.churn_reasons where (as_of_date = ? and model_version = ?"
        f" and account_id in (select account_id from scored)) or as_of_date < date '{as_of}' - {RECENT_DAYS}",
        [as_of, version],
    )
    connection.unregister("scored")


def _outcome(connection: Connection, as_of: date, version: str, *, written: int) -> ScoreOutcome:
    """The current scoring, counted."""
    counted = rows(
        connection,
        f"with scored as ({CURRENT}) select count(*) as scored, count(*) filter (tier = 'high') as high,"
        " (select count(*) from ml.churn_reasons join scored using (account_id, as_of_date, model_version)) as reasons from scored",
    )[0]
    return ScoreOutcome(as_of, version, counted["scored"], written, counted["reasons"], counted["high"])


def tiers(probability: NDArray[np.float64], config: TierConfig, *, capacity: int) -> NDArray[np.object_]:
    """(n,) high, medium or low. By capacity: high are the `capacity` riskiest, medium the next twice as many; equals with the
    last of a tier are in it only as far as the places go, in the order given."""
    answer = np.full(len(probability), "low", dtype=object)
    if config.by == "probability":
        answer[probability >= config.medium] = "medium"
        answer[probability >= config.high] = "high"
        return answer
    order = np.argsort(-probability, kind="stable")
    answer[order[: 3 * capacity]] = "medium"
    answer[order[:capacity]] = "high"
    return answer


def percentiles(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) 0 to 100: the share of the accounts that are at most as likely to leave."""
    if not len(probability):
        return probability
    ordered = np.sort(probability)
    answer: NDArray[np.float64] = 100.0 * np.searchsorted(ordered, probability, side="right") / len(ordered)
    return answer


def _fallback(frame: pd.DataFrame, rate: float | None) -> pd.DataFrame:
    """The base rate for everybody; NULL where not even that is known."""
    share = np.nan if rate is None else rate
    return frame[list(source.IDS)].assign(
        probability=share, base_probability=share, percentile=np.nan, tier="unknown", coverage_pct=np.nan
    )


def _scored(frame: pd.DataFrame, model: ChurnModel, base: float, config: TierConfig, *, capacity: int) -> pd.DataFrame:
    probability = model.probability(frame)
    measured = frame[list(model.feature_names)].notna().to_numpy()
    return frame[list(source.IDS)].assign(
        probability=probability,
        base_probability=base,
        percentile=percentiles(probability),
        tier=tiers(probability, config, capacity=capacity),
        coverage_pct=100.0 * measured.mean(axis=1),
    )


def _write_scores(
    connection: Connection, scored: pd.DataFrame, version: str, *, is_fallback: bool, now: datetime, run_id: str
) -> None:
    numbers = {name: name for name in ("probability", "base_probability", "percentile", "coverage_pct")}
    numbers[source.AMOUNT] = "mrr"
    known = ", ".join(f"case when not isnan({given}) then {given} end as {name}" for given, name in numbers.items())
    connection.register("scored", scored)
    connection.execute(
        "insert into ml.churn_scores by name select account_id, cast(as_of_date as date) as as_of_date, tier,"
        f" {known}, cast(? as varchar) as model_version, cast(? as boolean) as is_fallback,"
        " cast(? as timestamp) as scored_at, cast(? as varchar) as run_id from scored",
        [version, is_fallback, now, run_id],
    )
    connection.unregister("scored")


# --- reasons ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Score:
    """A date of scoring and the version of its model."""

    as_of_date: date
    model_version: str


def _previous(connection: Connection, as_of: date) -> _Score | None:
    """The newest earlier date that has scores of a model."""
    found = rows(
        connection,
        "select as_of_date, arg_max(model_version, scored_at) as model_version from ml.churn_scores"
        " where as_of_date < ? and not is_fallback group by as_of_date order by as_of_date desc limit 1",
        [as_of],
    )
    return _Score(**found[0]) if found else None


def _write_reasons(
    connection: Connection, features: tuple[Feature, ...], frame: pd.DataFrame, model: ChurnModel, score: _Score
) -> float:
    """Write why, and what changed since the last score; returns the probability that the reasons start from."""
    wordings = {feature.name: feature.wording for feature in features}
    previous = _previous(connection, score.as_of_date)
    base = float("nan")
    for batch in _batches(frame):
        now = _points(model, batch)
        base = now.base_probability
        why = reasons.reasons(now, source.features_of(batch, model.feature_names), wordings)
        _append(connection, why, batch, score)
        if previous is not None:
            _write_changes(connection, features, batch, now, model, score, previous)
    return base


def _write_changes(
    connection: Connection,
    features: tuple[Feature, ...],
    batch: pd.DataFrame,
    now: Points,
    model: ChurnModel,
    score: _Score,
    previous: _Score,
) -> None:
    """What moved the probabilities of those accounts of `batch` that had one at the previous date."""
    connection.register("batch", batch[["account_id"]])
    before = source.snapshot_frame(connection, features, previous.as_of_date, "batch")
    told = connection.execute(
        "select account_id, arg_max(probability, scored_at) as probability from ml.churn_scores"
        " where as_of_date = ? and account_id in (select account_id from batch) group by account_id",
        [previous.as_of_date],
    ).df()
    connection.unregister("batch")
    before = before.merge(told, on="account_id", how="inner")
    place = {account: row for row, account in enumerate(batch["account_id"])}
    mine = np.array([place[account] for account in before["account_id"]], dtype=np.intp)
    if not len(mine):
        return
    today = batch.iloc[mine].reset_index(drop=True)
    points = Points(now.names, now.base_probability, now.probability[mine], now.points[mine])
    other_model = previous.model_version != score.model_version
    moved = reasons.changes(
        points,
        _points(model, before),
        source.features_of(today, model.feature_names),
        source.features_of(before, model.feature_names),
        {feature.name: feature.wording for feature in features},
        previous=before["probability"].to_numpy() if other_model else None,
    )
    _append(connection, moved, today, score)


def _points(model: ChurnModel, frame: pd.DataFrame) -> Points:
    contributions, base = model.contributions(frame)
    return reasons.probability_points(contributions, base, model.feature_names)


def _append(connection: Connection, found: pa.Table, batch: pd.DataFrame, score: _Score) -> None:
    connection.register("found", found)
    connection.register("batch", batch[["account_id"]].assign(row=np.arange(len(batch))))
    connection.execute(
        "insert into ml.churn_reasons by name select account_id, cast(? as date) as as_of_date,"
        " cast(? as varchar) as model_version, kind, rank, theme, feature, code, text, value, contribution"
        " from found join batch using (row)",
        [score.as_of_date, score.model_version],
    )
    connection.unregister("found")
    connection.unregister("batch")


def _batches(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for start in range(0, len(frame), BATCH):
        yield frame.iloc[start : start + BATCH].reset_index(drop=True)
