"""What the model watches about itself, from the tables to the checks: each finding fires, and a healthy model has none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pytest

from core import settings
from core.settings import Tenure, WatchConfig
from core.warehouse import Connection, rows, scratch
from data_quality.run import check_scores
from ml import monitor, tables

CONFIG = Path(__file__).parents[2] / "config" / "tenure.yml"
AS_OF = date(2024, 6, 1)
NOW = datetime(2024, 6, 1, 5)
WATCHED = ("stale", "labels", "outcomes")


@pytest.fixture
def tenure(tmp_path: Path) -> Tenure:
    return settings.load(CONFIG, tmp_path)


@pytest.fixture
def healthy() -> Iterator[Connection]:
    """A warehouse after a scoring by version 4, whose labels, facts and past scores are as its training said."""
    with scratch() as connection:
        tables.ensure(connection)
        for schema in ("features", "marts", "ledger"):
            connection.execute(f"create schema {schema}")
        connection.execute("create table ledger.clock as select timestamp '2024-06-01' as as_of_at, false as is_replay")
        report = json.dumps({"test": {"metrics": {"lift_top_decile": {"value": 4.0}}}})
        connection.execute(
            "insert into ml.trainings by name select 'r1' as run_id, timestamp '2024-05-20' as trained_at, '4' as model_version,"
            " 'champion' as state, 0.10 as base_rate, ? as report",
            [report],
        )
        connection.execute(
            "insert into ml.scorings by name select 'r2' as run_id, timestamp '2024-06-01 04:00' as scored_at,"
            " date '2024-06-01' as as_of_date, '4' as model_version, 1 as accounts, 'h' as features_hash"
        )
        connection.execute(
            "create table features.ftr_churn_training as select range as account_id, date '2024-02-01' as as_of_date,"
            " range % 10 = 0 as has_churned from range(500)"
        )
        connection.execute(
            "create table marts.source_freshness as select * from (values"
            " ('crm', 'accounts', timestamp '2024-01-01'), ('crm', 'interactions', timestamp '2024-05-31'),"
            " ('product', 'survey_responses', timestamp '2024-05-30'), ('product', 'usage_events', timestamp '2024-05-31'))"
            " as t (source, entity, newest_fact_at)"
        )
        past = {
            "as_of_date": date(2024, 2, 1),
            "model_version": "4",
            "scores": 500,
            "events": 50,
            "mean_probability": 0.1,
            "realised_rate": 0.1,
            "roc_auc": 0.8,
            "ece": 0.02,
            "ece_noise_high": 0.03,
            "lift_top_decile": 3.5,
        }
        monitor.write_backtest(connection, [past], kind="scored", now=NOW, run_id="r2")
        yield connection


def failed(connection: Connection, tenure: Tenure) -> dict[str, tuple[str, str]]:
    """Checks of the watch that do not pass: severity and message by name."""
    monitor.measure_watch(connection, tenure, now=NOW, run_id="r3")
    found = check_scores(connection, tenure, "r3", NOW)
    assert {result.name for result in found if result.measured} >= set(WATCHED)
    return {r.name: (r.severity, r.message) for r in found if r.name in WATCHED and not r.passed}


def test_a_healthy_model_has_no_finding(healthy: Connection, tenure: Tenure) -> None:
    assert failed(healthy, tenure) == {}
    assert {row["state"] for row in rows(healthy, "select state from ml.watch")} == {"ok"}


def test_usage_that_stopped_blocks_though_its_source_still_delivers(healthy: Connection, tenure: Tenure) -> None:
    healthy.execute(
        "update marts.source_freshness set newest_fact_at = timestamp '2024-04-20' where entity = 'usage_events'"
    )
    severity, message = failed(healthy, tenure)["stale"]
    assert severity == "critical"
    assert "usage of product: the newest fact is 42 days older than 2024-06-01; at most 28 are allowed." in message


def test_a_source_that_never_says_when_it_is_stale_may_be_of_any_age(healthy: Connection, tenure: Tenure) -> None:
    healthy.execute("update marts.source_freshness set newest_fact_at = timestamp '2020-01-01'")
    sources = {
        name: source.model_copy(update={"stale_after_days": None}) for name, source in tenure.config.sources.items()
    }
    silent = tenure.model_copy(update={"config": tenure.config.model_copy(update={"sources": sources})})
    assert failed(healthy, silent) == {}


def test_labels_that_changed_warn_and_ask_once_for_a_training(healthy: Connection, tenure: Tenure) -> None:
    healthy.execute("update features.ftr_churn_training set has_churned = account_id % 4 = 0")
    severity, message = failed(healthy, tenure)["labels"]
    assert severity == "warning"
    assert "25.0 % of 500 accounts left in the newest matured window; in training it was 10.0 %." in message
    asked = rows(healthy, "select measured_at from ml.watch where watch = 'labels'")
    monitor.measure_watch(healthy, tenure, now=datetime(2024, 6, 2), run_id="r4")
    assert rows(healthy, "select measured_at from ml.watch where watch = 'labels'") == asked


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ece = 0.2, mean_probability = 0.3", "30.0 % were said to leave, 10.0 % did"),
        ("roc_auc = 0.4", "they ranked with a ROC AUC of 0.400"),
        ("lift_top_decile = 0.4", "the lift in the top tenth was 0.4; the test promised 4.0"),
    ],
)
def test_past_scores_that_broke_the_promise_of_the_test_warn(
    healthy: Connection, tenure: Tenure, change: str, words: str
) -> None:
    healthy.execute(f"update ml.churn_backtest set {change}")
    severity, message = failed(healthy, tenure)["outcomes"]
    assert severity == "warning"
    assert words in message


def test_the_limits_are_settings(healthy: Connection, tenure: Tenure) -> None:
    healthy.execute("update features.ftr_churn_training set has_churned = account_id % 4 = 0")
    healthy.execute("update ml.churn_backtest set ece = 0.2, roc_auc = 0.53, lift_top_decile = 0.4")
    healthy.execute("update marts.source_freshness set newest_fact_at = timestamp '2024-04-20'")
    patient = WatchConfig(
        max_stale_days=60, max_label_drift=2, max_ece_above_noise=0.5, min_roc_auc=0.5, min_lift_kept=0
    )
    model = tenure.config.model.model_copy(update={"watch": patient})
    config = tenure.config.model_copy(update={"model": model})
    assert failed(healthy, tenure.model_copy(update={"config": config})) == {}


def test_the_base_rate_is_not_watched(healthy: Connection, tenure: Tenure) -> None:
    healthy.execute("update ml.scorings set model_version = 'base-rate'")
    assert monitor.measure_watch(healthy, tenure, now=NOW, run_id="r3") == {}
    found = [result for result in check_scores(healthy, tenure, "r3", NOW) if result.name in WATCHED]
    assert all(result.passed and not result.measured for result in found)
