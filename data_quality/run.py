"""The gates, run: measure, judge, write down.

Lives here: the order of things at each boundary. Must not live here: rules, words, or Dagster.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from core import clock
from core.settings import Tenure
from core.warehouse import Connection, rows
from data_quality import engine, profile, results
from data_quality.checks import Boundary, CheckResult, RawTable, raw_tables
from data_quality.gate import Gate, Run
from data_quality.gate import results as gate_results
from data_quality.marts import MARTS
from data_quality.published import clock_of, last_measures, mart_gate, measures
from data_quality.raw import ROWS_AT_ONCE, newest_facts, raw_gate, unguarded
from data_quality.scores import SCORED


def store_path(tenure: Tenure) -> Path:
    """Where the judge keeps what it found, for Data Docs."""
    return tenure.home / "quality"


def check_raw(
    connection: Connection,
    tenure: Tenure,
    run_id: str,
    now: datetime,
    *,
    as_of: datetime | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> list[CheckResult]:
    """Judge what was loaded since the last gate that passed, and write the results to `quality.checks`.

    `now` is the wall clock (UTC); `as_of` the run's clock where the run replays a date, else it follows the
    configuration. Up to `rows_at_once` new rows of a table are judged one by one, more by a profile of all of them. A
    second call for the same run replaces what the first one wrote.
    """
    results.ensure_tables(connection)
    config = tenure.config
    instant = as_of or clock.as_of(connection, clock=config.clock, now=now, replay=None)
    run = Run(run_id, now, instant)
    tables = raw_tables(config)
    newest = newest_facts(connection, tables, run)
    gates = [raw_gate(connection, config, table, newest, run, rows_at_once=rows_at_once) for table in tables]
    found = _judge(gates, tenure, run)
    guarded = {table.name: _runs(connection, table, run) for table in tables}
    sizes = [
        results.Measure(table.name, "rows", float(profile.count(connection, table.name, "true")))
        for table in tables
        if profile.shape(connection, table.schema, table.entity.name).types
    ]
    results.record(connection, "raw", run_id, now, instant, found, sizes, guarded)
    return found


def check_marts(connection: Connection, tenure: Tenure, run_id: str, now: datetime) -> list[CheckResult]:
    """Judge the marts as they stand in the working warehouse, and write the results to `quality.checks`.

    `now` is the wall clock (UTC); the run's clock is read from `ledger.clock`, as the models read it. A second call for
    the same run replaces what the first one wrote.
    """
    results.ensure_tables(connection)
    instant = clock_of(connection) or datetime(now.year, now.month, now.day)
    run = Run(run_id, now, instant)
    before = last_measures(connection, run)
    gates = [mart_gate(connection, tenure.config, mart, before.get(mart.table, {}), run) for mart in MARTS]
    found = _judge(gates, tenure, run)
    sizes = [size for mart in MARTS for size in measures(connection, mart)]
    results.record(connection, "marts", run_id, now, instant, found, sizes, {})
    return found


def check_scores(
    connection: Connection, tenure: Tenure, run_id: str, now: datetime, *, boundary: Boundary = "scores"
) -> list[CheckResult]:
    """Judge what the model wrote (`scores`) or what destinations would receive (`activation`); else as `check_marts`."""
    results.ensure_tables(connection)
    instant = clock_of(connection) or datetime(now.year, now.month, now.day)
    run = Run(run_id, now, instant)
    gates = [mart_gate(connection, tenure.config, mart, {}, run) for mart in SCORED if mart.boundary == boundary]
    found = _judge(gates, tenure, run)
    results.record(connection, boundary, run_id, now, instant, found, [], {})
    return found


def build_docs(tenure: Tenure) -> Path:
    """Build Data Docs from the results of the last runs; returns the index page, `$TENURE_HOME/data_docs/index.html`."""
    from data_quality import docs

    return docs.build(store_path(tenure), tenure.home / "data_docs")


def _judge(gates: list[Gate], tenure: Tenure, run: Run) -> list[CheckResult]:
    frames = [frame for gate in gates for frame in gate.frames]
    verdicts = engine.evaluate(frames, run_id=run.run_id, run_at=run.now, store=store_path(tenure))
    return gate_results(gates, verdicts, run)


def _runs(connection: Connection, table: RawTable, run: Run) -> list[str]:
    """The runs whose rows in this table no gate had passed before this one."""
    ledger = (
        f"select run_id from ledger.loads where connector = '{table.connector}' and entity = '{table.entity.name}'"
        f" and {unguarded(table.name, run, 'run_id')}"
    )
    raw = ""
    if "_run_id" in profile.shape(connection, table.schema, table.entity.name).types:
        raw = f" union select _run_id from {table.name} where {unguarded(table.name, run)}"
    found = rows(connection, f"select distinct run_id from ({ledger}{raw}) where run_id is not null order by run_id")
    return sorted({row["run_id"] for row in found} | {run.run_id})
