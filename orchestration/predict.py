"""Step 4 as assets: training, scoring, and the watch over both.

Lives here: the assets and what they report. Must not live here: how anything is learned, scored or judged (`ml/`).
"""

# Dagster reads the annotations of an asset's arguments: they must not be postponed.
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from core import settings
from core.settings import Tenure
from core.warehouse import Connection, scalar
from orchestration.instance import WRITERS
from orchestration.publish import git_commit
from orchestration.resources import Warehouse

SNAPSHOTS = dg.AssetKey(["features", "ftr_account_snapshots"])
LABELS = dg.AssetKey(["features", "ftr_account_labels"])
TRAINING = dg.AssetKey(["features", "ftr_churn_training"])
SCORING = dg.AssetKey(["features", "ftr_churn_scoring"])
ACCOUNTS = dg.AssetKey(["marts", "accounts"])
TRAININGS = dg.AssetKey(["ml", "trainings"])
SCORES = dg.AssetKey(["ml", "churn_scores"])
REASONS = dg.AssetKey(["ml", "churn_reasons"])
SCORINGS = dg.AssetKey(["ml", "scorings"])
BACKTEST = dg.AssetKey(["ml", "churn_backtest"])
DRIFT = dg.AssetKey(["ml", "drift"])
WATCH = dg.AssetKey(["ml", "watch"])
OWNER = "team:data-science"


def assets(tenure: Tenure, manifest_path: Path, *, retrain: bool = False) -> list[dg.AssetsDefinition]:
    """Training (weekly, or when drift says so), scoring (every run), backtest and drift."""
    return [_training(tenure, manifest_path, retrain=retrain), _scoring(tenure), _outcomes(tenure)]


def _named(key: dg.AssetKey) -> dict[str, str]:
    return {"dagster/table_name": ".".join(key.path)}


def _rows(connection: Connection, key: dg.AssetKey) -> dict[str, int]:
    return {"dagster/row_count": int(scalar(connection, f"select count(*) from {'.'.join(key.path)}"))}


def _after(tenure: Tenure, *features: dg.AssetKey) -> list[dg.AssetKey]:
    """What comes first: the features, which are not built when the model is off, and in any case the marts."""
    return [*(features if tenure.config.model.enabled else ()), ACCOUNTS]


def _training(tenure: Tenure, manifest_path: Path, *, retrain: bool) -> dg.AssetsDefinition:
    @dg.asset(
        key=TRAININGS,
        deps=_after(tenure, TRAINING),
        group_name="predict",
        kinds={"xgboost", "mlflow"},
        owners=[OWNER],
        metadata=_named(TRAININGS),
        pool=WRITERS,
        description="Every training of the churn model with its test and what was decided; trains when the last one is "
        "older than model.retrain_every_days, or drift says so.",
    )
    def trainings(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult[Any]:
        from ml.train import train

        with warehouse.open() as connection:
            outcome = train(
                connection,
                tenure,
                now=settings.utc_now(),
                run_id=context.run_id,
                git_commit=git_commit(),
                manifest_hash=hashlib.sha256(manifest_path.read_bytes()).hexdigest(),
                force=retrain,
                progress=context.log.info,
            )
            counted = _rows(connection, TRAININGS)
        return dg.MaterializeResult(metadata={**outcome.metadata(), **counted})

    return trainings


def _scoring(tenure: Tenure) -> dg.AssetsDefinition:
    described = {
        SCORES: "The churn probability of each account, run by run.",
        SCORINGS: "Every scoring: all scores of one date by one version. The newest one counts.",
        REASONS: "Why: what raises and lowers each probability, and what moved it since the last score.",
        DRIFT: "How far today's features and scores lie from those the model was trained on (PSI).",
        WATCH: "What else today's scores stand on: the newest labels, fresh facts, and how past scores came out.",
    }

    @dg.multi_asset(
        specs=[
            dg.AssetSpec(
                key,
                deps=[*_after(tenure, SCORING, SNAPSHOTS), TRAININGS, BACKTEST],
                group_name="predict",
                kinds={"xgboost", "duckdb"},
                owners=[OWNER],
                metadata=_named(key),
                description=description,
            )
            for key, description in described.items()
        ],
        name="score",
        pool=WRITERS,
    )
    def score(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> Iterator[Any]:
        from ml.monitor import measure_drift, measure_watch
        from ml.score import score as score_accounts

        moment: dict[str, Any] = {"now": settings.utc_now(), "run_id": context.run_id}
        with warehouse.open() as connection:
            outcome = score_accounts(connection, tenure, **moment)
            drifted = measure_drift(connection, tenure, **moment)
            found = measure_watch(connection, tenure, **moment)
            counted, watched, scorings = (_rows(connection, key) for key in (DRIFT, WATCH, SCORINGS))
        yield dg.MaterializeResult(asset_key=SCORES, metadata=outcome.metadata())
        yield dg.MaterializeResult(asset_key=SCORINGS, metadata=scorings)
        yield dg.MaterializeResult(asset_key=REASONS, metadata={"dagster/row_count": outcome.reasons})
        yield dg.MaterializeResult(asset_key=DRIFT, metadata={"measurements": len(drifted), **counted})
        states = {name: verdict.state for name, verdict in found.items()}
        yield dg.MaterializeResult(asset_key=WATCH, metadata={**states, **watched})

    return score


def _outcomes(tenure: Tenure) -> dg.AssetsDefinition:
    @dg.asset(
        key=BACKTEST,
        deps=[*_after(tenure, LABELS), TRAININGS],
        group_name="predict",
        kinds={"duckdb"},
        owners=[OWNER],
        metadata=_named(BACKTEST),
        pool=WRITERS,
        description="What became of past scores whose window has closed, beside the tests of the trainings: realised calibration"
        " and lift.",
    )
    def backtest(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult[Any]:
        from ml.monitor import measure_outcomes

        with warehouse.open() as connection:
            dates = measure_outcomes(connection, tenure, now=settings.utc_now(), run_id=context.run_id)
            counted = _rows(connection, BACKTEST)
        return dg.MaterializeResult(metadata={"matured_dates": dates, **counted})

    return backtest
