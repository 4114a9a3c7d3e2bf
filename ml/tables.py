"""The tables of schema `ml`: what the model wrote, and what was decided about it.

Lives here: their definitions. Must not live here: how they are filled (`score.py`, `train.py`, `watch.py`).
Rows are only added: a score, once given, stays, and is withdrawn by a later scoring of the date that leaves the account out.
"""

from __future__ import annotations

from core.warehouse import Connection, ensure_table

SCHEMA = "ml"

TABLES: dict[str, dict[str, str]] = {
    "trainings": {
        "run_id": "varchar",
        "trained_at": "timestamp",
        "as_of_date": "date",
        "data_hash": "varchar",
        "recipe_hash": "varchar",
        "seed": "integer",
        "model_version": "varchar",
        "state": "varchar",
        "rows": "bigint",
        "accounts": "bigint",
        "churn_events": "bigint",
        "first_as_of_date": "date",
        "last_as_of_date": "date",
        "base_rate": "double",
        "decision": "varchar",
        "report": "varchar",
    },
    "scorings": {
        "run_id": "varchar",
        "scored_at": "timestamp",
        "as_of_date": "date",
        "model_version": "varchar",
        "accounts": "bigint",
        "features_hash": "varchar",
        "tiers": "varchar",
    },
    "churn_scores": {
        "account_id": "varchar",
        "as_of_date": "date",
        "probability": "double",
        "base_probability": "double",
        "percentile": "double",
        "tier": "varchar",
        "model_version": "varchar",
        "is_fallback": "boolean",
        "coverage_pct": "double",
        "mrr": "decimal(18,2)",
        "scored_at": "timestamp",
        "run_id": "varchar",
    },
    "churn_reasons": {
        "account_id": "varchar",
        "as_of_date": "date",
        "model_version": "varchar",
        "kind": "varchar",
        "rank": "integer",
        "theme": "varchar",
        "feature": "varchar",
        "code": "varchar",
        "text": "varchar",
        "value": "double",
        "contribution": "double",
    },
    "churn_backtest": {
        "as_of_date": "date",
        "model_version": "varchar",
        "kind": "varchar",
        "scores": "bigint",
        "events": "bigint",
        "mean_probability": "double",
        "realised_rate": "double",
        "roc_auc": "double",
        "log_loss": "double",
        "ece": "double",
        "ece_noise": "double",
        "ece_noise_high": "double",
        "lift_top_decile": "double",
        "precision_at_capacity": "double",
        "capacity": "bigint",
        "measured_at": "timestamp",
        "run_id": "varchar",
    },
    "drift": {
        "as_of_date": "date",
        "model_version": "varchar",
        "feature": "varchar",
        "psi": "double",
        "noise": "double",
        "missing_then": "double",
        "missing_now": "double",
        "state": "varchar",
        "sentence": "varchar",
        "measured_at": "timestamp",
        "run_id": "varchar",
    },
    "watch": {
        "as_of_date": "date",
        "model_version": "varchar",
        "watch": "varchar",
        "state": "varchar",
        "sentence": "varchar",
        "measured_at": "timestamp",
        "run_id": "varchar",
    },
}
"""Columns by table. A scoring is the scores of one date by one version; `features_hash` says of which features, `tiers` where they
began.
`trainings.report` is JSON: the evaluation, the selection and the decision in full. `watch` is one of `labels`, `stale`, `outcomes`."""


def ensure(connection: Connection) -> None:
    """Create whatever is missing, or complete the tables of an older version."""
    for name, columns in TABLES.items():
        ensure_table(connection, SCHEMA, name, columns)
