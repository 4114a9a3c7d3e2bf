"""What a measured process does: `python -m benchmarks.tasks NAME ARGUMENTS`, one JSON document on standard output.

Lives here: the work itself, one function a task. Must not live here: stopwatches around a whole process (`measure.py`) or
judgements. Seconds that a task reports are those of the work alone, without starting Python.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import settings, telemetry, threads
from core.warehouse import literal, rows, warehouse

if TYPE_CHECKING:
    from activation.base import Change, Destination, Operation
    from ml.dataset import Dataset
    from ml.model import ChurnModel

EXPLAINED_AT_ONCE = 50_000
FLOOR = Path(__file__).with_name("floor.sql")


def main() -> None:
    telemetry.switch_off()
    threads.wait_quietly()
    name, *arguments = sys.argv[1:]
    sys.stdout.write(json.dumps(TASKS[name](*arguments), default=str) + "\n")


def generate(home: str, accounts: str, months: str) -> dict[str, Any]:
    """Found a sandbox company."""
    import sandbox

    begun = time.perf_counter()
    delivered = sandbox.generate(Path(home), accounts=int(accounts), months=int(months))
    return {"seconds": time.perf_counter() - begun, "rows": delivered.rows}


def advance(home: str, days: str) -> dict[str, Any]:
    """Let a sandbox company live on."""
    import sandbox

    return {"rows": sandbox.advance(Path(home), days=int(days)).rows}


def floor(data: str, out: str, memory_limit: str, threads: str) -> dict[str, Any]:
    """The hand-written script, from the vendors' files to the marts in the file `out`."""
    begun = time.perf_counter()
    path = Path(out)
    with warehouse(
        path, memory_limit=memory_limit, threads=int(threads), temp_directory=path.parent / "tmp"
    ) as connection:
        connection.execute(f"set variable data = {literal(data)}")
        connection.execute(FLOOR.read_text(encoding="utf-8"))
    return {"seconds": time.perf_counter() - begun}


def load(config: str, *streams: str) -> dict[str, Any]:
    """Load streams (`source/stream`) as the job does, into the home's warehouse."""
    from sources import base, ledger
    from sources.load import load_stream

    tenure = settings.load(Path(config))
    reports = {}
    begun = time.perf_counter()
    with warehouse(
        tenure.warehouse_path,
        memory_limit=tenure.memory_limit,
        threads=tenure.threads,
        temp_directory=tenure.temp_directory,
    ) as connection:
        found = {stream.label: stream for stream in base.stream_ids(tenure.config)}
        ledger.ensure_tables(connection, list(found.values()))
        for label in streams:
            stream_begun = time.perf_counter()
            now = ledger.next_moment(connection, settings.utc_now())
            stream = base.open_stream(
                found[label],
                tenure.config.sources[found[label].source],
                now=now,
                temp_directory=tenure.temp_directory,
            )
            report = load_stream(connection, stream, tenure, now=now, run_id="benchmark")
            reports[label] = {
                "seconds": time.perf_counter() - stream_begun,
                "status": report.status,
                "message": report.message,
                "rows_read": report.rows_read,
                "rows_inserted": report.rows_inserted,
                "rows_superseded": report.rows_superseded,
                "rows_quarantined": report.rows_quarantined,
            }
    return {"seconds": time.perf_counter() - begun, "streams": reports}


def load_plainly(pattern: str, out: str, memory_limit: str, threads: str) -> dict[str, Any]:
    """The least that loading events can be: one typed table and a look for keys that come twice."""
    begun = time.perf_counter()
    path = Path(out)
    with warehouse(
        path, memory_limit=memory_limit, threads=int(threads), temp_directory=path.parent / "tmp"
    ) as connection:
        connection.execute(
            "create table events as select cast(event_id as varchar) as event_id, cast(workspace_id as varchar) as account_id,"
            " cast(user_id as varchar) as user_id, cast(event as varchar) as event_name,"
            " cast(timestamp as timestamp) as occurred_at, cast(quantity as double) as quantity,"
            f" cast(product as varchar) as product, filename as _file from read_parquet({literal(pattern)}, filename = true)"
        )
        counted = connection.execute(
            "select count(*) from (select event_id from events group by event_id having count(*) > 1)"
        ).fetchone()
    return {"seconds": time.perf_counter() - begun, "repeated_keys": counted[0] if counted else 0}


def build_features(config: str) -> dict[str, Any]:
    """Features and labels of a company whose marts are built."""
    import subprocess

    from orchestration import dbt

    tenure = settings.load(Path(config))
    environment = {**os.environ, **dbt.environment(tenure), "DBT_TARGET_PATH": str(dbt.manifest(tenure).parent)}
    begun = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "dbt.cli.main", "--quiet", "build", "--project-dir", str(dbt.DBT_PROJECT)),
            *("--select", "accounts_history", "tag:features", "--exclude", dbt.NOT_IN_A_RUN),
            *("--vars", json.dumps(dbt.variables(tenure.config))),
        ],
        env=environment,
        check=True,
    )
    seconds = time.perf_counter() - begun
    with warehouse(tenure.warehouse_path, read_only=True) as connection:
        counts = rows(
            connection,
            "select (select count(*) from features.ftr_account_snapshots) as snapshots,"
            " (select count(distinct as_of_date) from features.ftr_account_snapshots) as dates,"
            " (select count(*) from features.ftr_churn_training) as training_rows,"
            " (select count(*) from features.ftr_churn_training where has_churned) as lost",
        )
    results = json.loads((dbt.target_of(tenure) / "run_results.json").read_text(encoding="utf-8"))["results"]
    models = {
        r["unique_id"].split(".")[2]: round(r["execution_time"], 2) for r in results if "model." in r["unique_id"]
    }
    return {"seconds": seconds, "rows": counts[0], "models_seconds": models}


def copy_plainly(url: str, table: str, out: str) -> dict[str, Any]:
    """The least that reading a table over the network can be: COPY in CSV to a file."""
    import psycopg

    begun = time.perf_counter()
    with (
        psycopg.connect(url) as connection,
        connection.cursor() as cursor,
        cursor.copy(f"copy (select * from {table}) to stdout (format csv)") as copy,
        Path(out).open("wb") as file,
    ):
        for block in copy:
            file.write(block)
    return {"seconds": time.perf_counter() - begun}


def sync_hubspot(rows: str) -> dict[str, Any]:
    """Companies to the stand-in, 100 a call, and the same calls with their bodies ready."""
    from activation.destinations.hubspot import HubSpot
    from core.http import Client
    from sandbox.hubspot import TOKEN, HubSpotStandIn
    from sandbox.serve import serving

    standin = HubSpotStandIn(requests=1_000_000)
    standin.seed({"id": str(number)} for number in range(1, int(rows) + 1))
    for name, kind in (
        ("churn_probability", "number"),
        ("churn_tier", "string"),
        ("as_of_date", "date"),
        ("reason", "string"),
    ):
        standin.define(name, kind)
    changes = _scores(range(1, int(rows) + 1), str)
    with serving(standin) as url:
        destination = HubSpot(TOKEN, base_url=url)
        sent = _sent(destination, changes)
        calls = standin.calls()
        client = Client(url, headers=lambda: {"Authorization": f"Bearer {TOKEN}"})
        bodies = [
            {"inputs": [{"id": c.key, "properties": {n: str(v) for n, v in c.values.items()}} for c in part]}
            for part in _parts(changes, 100)
        ]
        begun = time.perf_counter()
        for body in bodies:
            client.send("POST", "/crm/objects/2026-03/companies/batch/update", json=body)
        bare = time.perf_counter() - begun
    return {**sent, "calls": calls, "bare_seconds": bare}


def sync_salesforce(rows: str) -> dict[str, Any]:
    """Accounts to the stand-in: collections for the first 2,000 rows, jobs for all."""
    from activation.destinations.salesforce import Salesforce
    from sandbox.salesforce import CLIENT_ID, CLIENT_SECRET, SalesforceStandIn, record_id
    from sandbox.serve import serving

    standin = SalesforceStandIn(polls=0)
    standin.seed({"id": number} for number in range(1, int(rows) + 1))
    for name, kind in (
        ("churn_probability", "double"),
        ("churn_tier", "string"),
        ("as_of_date", "date"),
        ("reason", "string"),
    ):
        standin.define(name, kind)
    changes = _scores(range(1, int(rows) + 1), record_id)
    found = {}
    with serving(standin) as url:
        for name, part in (("collections", changes[:2000]), ("jobs", changes)):
            standin.forget()
            destination = Salesforce(client_id=CLIENT_ID, client_secret=CLIENT_SECRET, login_url=url)
            found[name] = {**_sent(destination, part), "calls": standin.calls("/services/data")}
    return found


def sync_postgres(url: str, rows: str) -> dict[str, Any]:
    """Rows into a table: new ones, all changed, none changed; and COPY of the same rows by psycopg. The best of five."""
    import psycopg

    from activation.destinations.database import Database

    columns = (
        "account text primary key, churn_probability double precision, churn_tier text, as_of_date date, reason text"
    )
    new = _scores(range(int(rows)), lambda number: f"acc-{number}", operation="create")
    same = _scores(range(int(rows)), lambda number: f"acc-{number}")
    changed = _scores(range(int(rows)), lambda number: f"acc-{number}", tier="low")
    plain = [(change.key, *change.values.values()) for change in new]
    found: dict[str, list[float]] = {"copy": [], "new": [], "unchanged": [], "changed": []}
    accounted = 0
    for _ in range(5):
        with psycopg.connect(url, autocommit=True) as connection:
            for table in ("plain", "scores"):
                connection.execute(f"drop table if exists {table}")
                connection.execute(f"create table {table} ({columns})")
            begun = time.perf_counter()
            with connection.cursor() as cursor, cursor.copy("copy plain from stdin") as copy:
                for row in plain:
                    copy.write_row(row)
            found["copy"].append(time.perf_counter() - begun)
        for name, changes in (("new", new), ("unchanged", same), ("changed", changed)):
            sent = _sent(Database(url, table="scores", key="account"), changes)
            found[name].append(sent["seconds"])
            accounted = sent["ok"]
    return {"ok": accounted, "seconds": {name: min(seconds) for name, seconds in found.items()}}


def _scores(
    numbers: range, key: Callable[[int], str], *, operation: Operation = "update", tier: str = "high"
) -> list[Change]:
    from activation.base import Change

    return [
        Change(
            key(number),
            operation,
            {
                "churn_probability": number % 1000 / 1000,
                "churn_tier": tier,
                "as_of_date": date(2026, 3, 1),
                "reason": "Usage fell 38 % against its own 90-day level",
            },
        )
        for number in numbers
    ]


def _sent(destination: Destination, changes: Sequence[Change]) -> dict[str, Any]:
    """All changes in batches of the destination's own size."""
    ok = 0
    begun = time.perf_counter()
    for part in _parts(changes, destination.limits(len(changes)).batch_rows):
        ok += sum(result.status == "ok" for result in destination.upsert(part))
    return {"seconds": time.perf_counter() - begun, "rows": len(changes), "ok": ok}


def _parts(changes: Sequence[Change], size: int) -> list[Sequence[Change]]:
    return [changes[start : start + size] for start in range(0, len(changes), size)]


def explain(rows: str, columns: str, trees: str, depth: str, out: str, threads: str) -> dict[str, Any]:
    """Score and explain accounts in batches, reasons in words written to a Parquet file; and some of them by XGBoost itself."""
    import numpy as np
    import pyarrow.parquet as pq
    import xgboost

    from ml import dataset, reasons
    from ml.trees import SMALL

    frame, label = _accounts(int(rows), int(columns), seed=1)
    part = min(len(frame), 50_000)
    data = dataset.assemble(
        frame[:part].assign(account_id=np.arange(part), label=label[:part]), entity="account_id", label="label"
    )
    wanted = {**SMALL, "max_depth": int(depth), "min_child_weight": 5}
    model = _trained(data, wanted, rounds=int(trees), threads=int(threads))
    rose, fell = "Usage rose {value} % against its level", "Usage fell {value} %"
    wordings = {
        name: reasons.Wording(name, name, "%", positive=rose, negative=fell, theme=f"theme {place // 4}")
        for place, name in enumerate(model.feature_names)
    }
    begun, cpu = time.perf_counter(), time.process_time()
    base = model.explainer.base
    spent = {"tables": time.perf_counter() - begun, "score": 0.0, "contributions": 0.0, "reasons": 0.0, "write": 0.0}
    explaining = time.process_time() - cpu
    writer, off, written = None, 0.0, 0
    for start in range(0, len(frame), EXPLAINED_AT_ONCE):
        batch = frame[start : start + EXPLAINED_AT_ONCE]
        marks = [time.perf_counter()]
        scores = model.probability(batch)
        marks.append(time.perf_counter())
        before = time.process_time()
        contributions, base = model.contributions(batch)
        explaining += time.process_time() - before
        marks.append(time.perf_counter())
        points = reasons.probability_points(contributions, base, model.feature_names)
        off = max(off, float(np.abs(points.probability - scores).max()))
        table = reasons.reasons(points, batch, wordings)
        marks.append(time.perf_counter())
        writer = writer or pq.ParquetWriter(out, table.schema)
        writer.write_table(table)
        written += table.num_rows
        marks.append(time.perf_counter())
        for name, first, last in zip(list(spent)[1:], marks[:-1], marks[1:], strict=True):
            spent[name] += last - first
    assert writer is not None
    writer.close()
    whole = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - cpu}

    few = frame[: min(len(frame), 4000)]
    matrix = model.columns.matrix(few)
    before = time.process_time()
    theirs = model.boosters[0].predict(
        xgboost.DMatrix(matrix, feature_types=model.columns.kinds, nthread=int(threads)), pred_contribs=True
    )
    native = time.process_time() - before
    ours, base = model.contributions(few)
    return {
        **whole,
        "parts_seconds": spent,
        "reasons": written,
        "score_off_by": off,
        "explaining_cpu_seconds_per_row": explaining / len(frame),
        "native_cpu_seconds_per_row": native / len(few),
        "largest_difference": float(max(np.abs(ours - theirs[:, :-1]).max(), np.abs(base - theirs[:, -1]).max())),
    }


def train(rows: str, columns: str, times: str, threads: str) -> dict[str, Any]:
    """Our training call and a bare `xgboost.train` with the same parameters on the same matrix, by turns."""
    import numpy as np
    import xgboost

    from ml import dataset, trees

    frame, label = _accounts(int(rows), int(columns), seed=2)
    data = dataset.assemble(
        frame.assign(account_id=np.arange(len(frame)), label=label), entity="account_id", label="label"
    )
    known = trees.columns_of(data)
    matrix = known.matrix(data.features)
    bins = 256
    parameters = trees.xgboost_settings(
        trees.SMALL, known, data.labels, seed=1, threads=int(threads), directions={}, bins=bins
    )

    def ours() -> None:
        _trained(data, trees.SMALL, rounds=trees.SMALL_ROUNDS, threads=int(threads))

    def bare() -> None:
        accounts = xgboost.QuantileDMatrix(
            matrix, data.labels, feature_types=known.kinds, nthread=int(threads), max_bin=bins
        )
        xgboost.train(parameters, accounts, trees.SMALL_ROUNDS)

    found: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    for _ in range(int(times)):
        for name, call in (("ours", ours), ("bare", bare)):
            begun, cpu = time.perf_counter(), time.process_time()
            call()
            found[name].append((time.process_time() - cpu, time.perf_counter() - begun))
    return {
        name: {"cpu_seconds": min(cpu for cpu, _ in runs), "seconds": min(seconds for _, seconds in runs)}
        for name, runs in found.items()
    }


def prepare_sync(folder: str, rows: str, changed: str) -> dict[str, Any]:
    """A published copy of made-up scores, and a ledger that has acknowledged them before some changed."""
    import sqlite3

    from activation import plan
    from activation.ledger import Ledger, RunRecord
    from activation.mapping import resolve

    home, moment = Path(folder), settings.utc_now()
    home.mkdir(parents=True, exist_ok=True)
    with warehouse(home / "serving.duckdb") as connection:
        connection.execute("create schema reverse_etl")
        connection.execute(f"create table reverse_etl.sync_files_scores as {_score_rows(int(rows))}")
        connection.execute("create table before as from reverse_etl.sync_files_scores")
        mapping = resolve(connection, _sync_config())
        ledger = Ledger(f"sqlite:///{home / 'sync.db'}")
        planned = plan.make(
            connection,
            mapping,
            lambda: ledger.acknowledged("files"),
            lambda keys: ledger.payloads("files", keys),
        )
        run = RunRecord("before", "files", "files", mapping.relation, "upsert", moment, moment, moment)
        ledger.begin(run, {"source": planned.counts.source, "ok": planned.counts.source})
        texts = ", ".join(f"{literal(field.name)}, {field.text_sql}" for field in mapping.fields)
        told = connection.execute(
            f"select p.key, p.hash, json_object({texts}) from sync_plan as p"
            f" join {mapping.relation} as s on s.account_id = p.key"
        )
        with sqlite3.connect(home / "sync.db") as database:
            while batch := told.fetchmany(50_000):
                database.executemany(
                    "insert into sync_rows (destination, key, state, hash, payload, attempts, last_status)"
                    " values ('files', ?, 'acknowledged', ?, ?, 0, 'ok')",
                    batch,
                )
        ledger.close()
        connection.execute(
            "update reverse_etl.sync_files_scores set churn_probability = 1 + churn_probability"
            f" where cast(substr(account_id, 9) as integer) % {int(rows) // int(changed)} = 0"
        )
    return {"rows": int(rows), "changed": int(changed)}


def plan_sync(folder: str) -> dict[str, Any]:
    """The plan of a sync: the ledger read, all rows compared, what is to be sent made ready."""
    from activation import plan
    from activation.ledger import Ledger
    from activation.mapping import resolve

    home = Path(folder)
    with warehouse(home / "serving.duckdb", read_only=True, memory_limit="512MB") as connection:
        begun = time.perf_counter()
        ledger = Ledger(f"sqlite:///{home / 'sync.db'}", create=False)
        mapping = resolve(connection, _sync_config())
        planned = plan.make(
            connection,
            mapping,
            lambda: ledger.acknowledged("files"),
            lambda keys: ledger.payloads("files", keys),
        )
        made = time.perf_counter()
        sent = sum(1 for _ in plan.changes(connection, planned, mode="upsert"))
        return {
            "seconds": time.perf_counter() - begun,
            "compare_seconds": made - begun,
            "changes_seconds": time.perf_counter() - made,
            "unchanged": planned.counts.unchanged,
            "to_send": planned.counts.to_send,
            "sent": sent,
        }


def plan_plainly(folder: str) -> dict[str, Any]:
    """The least that a comparison can be: which rows of one table are not in another of the same file."""
    with warehouse(Path(folder) / "serving.duckdb", read_only=True, memory_limit="512MB") as connection:
        begun = time.perf_counter()
        found = rows(
            connection,
            "select count(*) as n from (select * exclude (scored_at) from reverse_etl.sync_files_scores"
            " except select * exclude (scored_at) from before)",
        )
        return {"seconds": time.perf_counter() - begun, "to_send": found[0]["n"]}


def _sync_config() -> Any:
    from core.sync_settings import FilesSyncConfig

    return FilesSyncConfig(connector="files", path=Path("unused"), rounding={"*probability*": 4})


def _score_rows(count: int) -> str:
    """SQL of made-up scores with the columns that a destination receives."""
    return (
        "select 'account-' || n as account_id, (n * 7919 % 10000) / 10000.0 as churn_probability,"
        " ['low', 'medium', 'high'][1 + (n * 7919 + 1) % 3] as churn_tier, round(((n * 7919 + 2) % 1000) / 10.0, 1) as churn_percentile,"
        " case when n % 3 > 0 then ((n * 7919 + 3) % 200 - 100) / 1000.0 end as churn_probability_change_7d, n % 50 = 0 as is_fallback,"
        " 'usage_down_' || n % 40 as reason_1_code, 'Usage fell ' || n % 90 || ' % against its own level' as reason_1_text,"
        " 'payments_' || n % 7 as reason_2_code, n % 7 || ' failed payments in the last 90 days' as reason_2_text,"
        " case when n % 2 = 0 then 'No champion since ' || n % 60 || ' days' end as reason_3_text,"
        " cast(((n * 7919 + 4) % 1000000) / 100.0 as decimal(18, 2)) as mrr,"
        " cast(((n * 7919 + 5) % 100000) / 100.0 as decimal(18, 2)) as mrr_at_risk,"
        " date '2026-01-01' + cast(n % 365 as integer) as renewal_date, round(((n * 7919 + 6) % 1000) / 10.0, 1) as score_coverage_pct,"
        f" timestamp '2026-03-02 05:00:00' as scored_at from range({count}) as t (n)"
    )


def _trained(data: Dataset, parameters: Mapping[str, float], *, rounds: int, threads: int) -> ChurnModel:
    """What the recipe does to train its final model on many rows: one booster."""
    from ml import recipe

    data = data.in_canonical_order()
    form = recipe.Form(parameters, rounds, True, 1.0, 1.0, 0.0, 1.0, seed=1, threads=threads, directions={})
    return recipe.learn(form, data, average=False)


def _accounts(rows: int, columns: int, *, seed: int) -> tuple[Any, Any]:
    """Made-up features (n, f), a tenth of them categories, a tenth of the values missing, and a label that some decide."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    signal = np.zeros(rows, dtype=np.float32)
    for index in range(columns):
        values = random.standard_normal(rows, dtype=np.float32) * 40
        missing = random.random(rows, dtype=np.float32) < 0.1
        if index < 12:
            signal += np.where(missing, 5, values) * (1 if index % 3 else np.sign(signal)) / 40
        if index % 10 == 9:
            codes = np.where(missing, -1, np.clip(values // 10 + 6, 0, 11)).astype(np.int8)
            found[f"f{index:02}"] = pd.Categorical.from_codes(
                codes.tolist(), categories=pd.Index([f"kind {i:02}" for i in range(12)])
            )
        else:
            values[missing] = np.nan
            found[f"f{index:02}"] = np.round(values) if index % 2 else values
    noise = random.standard_normal(rows, dtype=np.float32) * 2
    return pd.DataFrame(found), (signal + noise > 4).astype(np.float64)


TASKS = {
    task.__name__: task
    for task in (
        *(generate, advance, floor, load, load_plainly, copy_plainly, build_features, explain, train),
        *(sync_hubspot, sync_salesforce, sync_postgres, prepare_sync, plan_sync, plan_plainly),
    )
}

if __name__ == "__main__":
    main()
