"""The watch over scores, run after run: how far today lies from the training, and what became of past scores.

Lives here: what is read and written for it. Must not live here: the measures and their limits (`drift.py`, `watch.py`), what a finding
stops (the gate of scores).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from core.warehouse import Connection, rows, scalar, transaction
from ml import drift, source, watch
from ml.features import catalogue
from ml.score import FALLBACK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.settings import Config, Tenure, WatchConfig


def measure_drift(connection: Connection, tenure: Tenure, *, now: datetime, run_id: str) -> Sequence[drift.Drift]:
    """How far the newest scores and their features lie from the training; nothing where that is known already."""
    if not tenure.config.model.enabled:
        return ()
    with transaction(connection):
        return _drift(connection, tenure, now=now, run_id=run_id)


def measure_outcomes(connection: Connection, tenure: Tenure, *, now: datetime, run_id: str) -> int:
    """What became of past scores whose window has closed since the last look; returns how many dates."""
    if not tenure.config.model.enabled:
        return 0
    with transaction(connection):
        return _backtest(connection, tenure, now=now, run_id=run_id)


def measure_watch(connection: Connection, tenure: Tenure, *, now: datetime, run_id: str) -> Mapping[str, watch.Verdict]:
    """What else the newest scores stand on: labels, fresh facts, and how past scores came out; none for a base rate."""
    if not tenure.config.model.enabled:
        return {}
    newest = rows(connection, "select * from ml.scorings order by scored_at desc limit 1")
    if not newest or newest[0]["model_version"] == FALLBACK:
        return {}
    scoring, config = newest[0], tenure.config
    found = {
        "labels": _labels(connection, scoring["model_version"], config.model.watch),
        "stale": _staleness(connection, scoring["as_of_date"], config),
        "outcomes": _outcomes(connection, config.model.watch),
    }
    with transaction(connection):
        for name, verdict in found.items():
            key = {"as_of_date": scoring["as_of_date"], "model_version": scoring["model_version"], "watch": name}
            said = {"state": verdict.state, "sentence": " ".join(verdict.sentences)}
            _remember(connection, key, said, now=now, run_id=run_id)
    return found


def _remember(
    connection: Connection, key: Mapping[str, Any], said: Mapping[str, Any], *, now: datetime, run_id: str
) -> None:
    """Write a finding; one that is known already keeps its moment, so that it asks for a training once."""
    where = " and ".join(f"{name} = ?" for name in key)
    known = rows(connection, f"select state, sentence from ml.watch where {where}", list(key.values()))
    if known == [said]:
        return
    connection.execute(f"delete from ml.watch where {where}", list(key.values()))
    _insert(connection, "ml.watch", [{**key, **said, "measured_at": now, "run_id": run_id}])


def _labels(connection: Connection, version: str, config: WatchConfig) -> watch.Verdict:
    """The newest matured date against everything that the version learned from."""
    learned = scalar(
        connection, "select arg_max(base_rate, trained_at) from ml.trainings where model_version = ?", [version]
    )
    newest = rows(
        connection,
        "select count(*) as n, count(*) filter (has_churned) as n_left from features.ftr_churn_training"
        " where as_of_date = (select max(as_of_date) from features.ftr_churn_training)",
    )[0]
    return watch.judge_labels(learned or 0.0, newest["n"], newest["n_left"], config)


def _staleness(connection: Connection, as_of: date, config: Config) -> watch.Verdict:
    """Each source that says when it is stale, as a whole, and its usage by itself: other flows may rest for weeks."""
    limits = {
        name: max(source.stale_after_days, config.model.watch.max_stale_days)
        for name, source in config.sources.items()
        if source.stale_after_days is not None
    }
    found = rows(
        connection,
        "select source, max(newest_fact_at) as newest, max(newest_fact_at) filter (entity = 'usage_events') as usage"
        " from marts.source_freshness where newest_fact_at is not null group by source",
    )
    facts = {row["source"]: row["newest"] for row in found}
    usage = {f"usage of {row['source']}": row["usage"] for row in found if row["usage"] is not None}
    most = {name: limits[name] for name in facts if name in limits}
    most |= {f"usage of {name}": limit for name, limit in limits.items() if f"usage of {name}" in usage}
    return watch.judge_staleness(facts | usage, as_of, most)


def _outcomes(connection: Connection, config: WatchConfig) -> watch.Verdict:
    """The newest past scores that have matured, against what the tests of their versions promised."""
    found = rows(
        connection,
        "select * from ml.churn_backtest where kind = 'scored' and as_of_date ="
        " (select max(as_of_date) from ml.churn_backtest where kind = 'scored') order by model_version",
    )
    promised = rows(
        connection,
        "select model_version, cast(arg_max(report->>'$.test.metrics.lift_top_decile.value', trained_at) as double) as lift"
        " from ml.trainings where model_version is not null group by model_version",
    )
    lifts = {row["model_version"]: row["lift"] for row in promised if row["lift"] is not None}
    return watch.judge_backtest(found, config, promised_lift=lifts)


def _drift(connection: Connection, tenure: Tenure, *, now: datetime, run_id: str) -> Sequence[drift.Drift]:
    newest = rows(connection, "select * from ml.scorings order by scored_at desc limit 1")
    if not newest or newest[0]["model_version"] == FALLBACK:
        return ()
    scoring = newest[0]
    known = [scoring["as_of_date"], scoring["model_version"]]
    measured_at = scalar(
        connection, "select max(measured_at) from ml.drift where as_of_date = ? and model_version = ?", known
    )
    if measured_at is not None and measured_at >= scoring["scored_at"]:
        return ()
    from ml import registry

    store = registry.connect(tenure.home, tenure.config.model.tracking_uri)
    loaded = store.load(store.version(scoring["model_version"]))
    features = catalogue(currency=tenure.config.currency)
    frame = source.scoring_frame(connection, features)
    found = drift.drift(
        loaded.documents["profile"],
        source.features_of(frame, loaded.model.feature_names),
        loaded.model.probability(frame),
        tenure.config.model.watch,
        labels={feature.name: feature.label for feature in features},
    )
    connection.execute("delete from ml.drift where as_of_date = ? and model_version = ?", known)
    stamps = {"as_of_date": known[0], "model_version": known[1], "measured_at": now, "run_id": run_id}
    _insert(connection, "ml.drift", [{**asdict(one), **stamps} for one in found])
    return found


def _backtest(connection: Connection, tenure: Tenure, *, now: datetime, run_id: str) -> int:
    """Past scores that have matured since the last look; how many dates."""
    scored = connection.execute(
        "select s.account_id, s.as_of_date, s.model_version, s.probability, cast(l.has_churned as int) as has_churned,"
        " cast(s.mrr as double) as mrr from ml.churn_scores as s"
        " join (select as_of_date, model_version, max(scored_at) as scored_at from ml.scorings group by all)"
        " using (as_of_date, model_version, scored_at)"
        " join features.ftr_account_labels as l using (account_id, as_of_date)"
        " where not s.is_fallback and (s.as_of_date, s.model_version) not in (select (as_of_date, model_version)"
        " from ml.churn_backtest where kind = 'scored')"
    ).df()
    found = watch.backtest(scored, capacity=tenure.config.model.capacity, seed=tenure.config.model.seed)
    write_backtest(connection, found, kind="scored", now=now, run_id=run_id)
    return len({row["as_of_date"] for row in found})


def write_backtest(
    connection: Connection, found: Sequence[Mapping[str, Any]], *, kind: str, now: datetime, run_id: str
) -> None:
    """Add rows of `watch.backtest`: `scored` are past scores, `test` those of a training's test window."""
    _insert(
        connection, "ml.churn_backtest", [{**row, "kind": kind, "measured_at": now, "run_id": run_id} for row in found]
    )


def write_test(
    connection: Connection, found: Sequence[Mapping[str, Any]], *, model_version: str, now: datetime, run_id: str
) -> None:
    """What became of the test window of a version, in place of what was known of it: each date is there once."""
    connection.execute("delete from ml.churn_backtest where kind = 'test' and model_version = ?", [model_version])
    named = [{**row, "model_version": model_version} for row in found]
    write_backtest(connection, named, kind="test", now=now, run_id=run_id)


def _insert(connection: Connection, table: str, records: Sequence[Mapping[str, Any]]) -> None:
    if not records:
        return
    schema, name = table.split(".")
    columns = [
        row["column_name"]
        for row in rows(
            connection,
            "select column_name from duckdb_columns() where schema_name = ? and table_name = ? order by column_index",
            [schema, name],
        )
    ]
    connection.executemany(
        f"insert into {table} ({', '.join(columns)}) values ({', '.join('?' for _ in columns)})",
        [[record.get(column) for column in columns] for record in records],
    )
