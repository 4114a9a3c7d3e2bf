"""A published copy made of dictionaries, destinations that really keep what they are given, and time that a test moves.

`Shelf` is a destination in this process: it applies what it is sent and fails as its schedule says, before or after applying.
`Stand` is what the contract asks of a destination under test; a new one is added to `STANDS` in one line.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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
from core.settings import FilesSyncConfig, SyncConfig
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

    @property
    def vendor(self) -> Any:
        """The stand-in behind the destination, where there is one."""
        return self.destination.vendor

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

    def run(self, **options: Any) -> engine.SyncReport:
        request = self.request(**options)

        def opened(mapping: FieldMapping) -> Destination:
            if isinstance(self.destination, Shelf):
                return self.destination
            occasion = Occasion(mapping.described(), request.run_id, self.now)
            made: Destination = self.destination(request.config, occasion)
            return made

        ledger = self.ledger(create=not request.dry_run)
        try:
            report = engine.sync(
                request, ledger, opened, world=engine.World(lambda: self.now, self.sleep, random.Random(7))
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
    """A destination under contract: how it is configured and opened, and what it holds."""

    folder: Path
    sync: Sync

    def contents(self) -> dict[str, dict[str, Any]]:
        """Key -> fields that have a value."""
        raise NotImplementedError

    @property
    def write_calls(self) -> int:
        raise NotImplementedError


class ShelfStand(Stand):
    def contents(self) -> dict[str, dict[str, Any]]:
        return {
            key: {name: value for name, value in values.items() if value is not None}
            for key, values in self.sync.destination.rows.items()
        }

    @property
    def write_calls(self) -> int:
        return len(self.sync.destination.calls)


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


def _shelf(folder: Path) -> tuple[type[Stand], Any, SyncConfig]:
    return ShelfStand, Shelf(), ShelfConfig()


def _files(folder: Path, format: str) -> tuple[type[Stand], Any, SyncConfig]:
    config = FilesSyncConfig.model_validate(
        {"connector": "files", "model": "scores", "key": "id", "path": folder / "drop", "format": format}
    )
    return FilesStand, open_destination, config


class HubSpotStand(Stand):
    """HubSpot's stand-in, served; its companies have the keys of these tests."""

    def contents(self) -> dict[str, dict[str, Any]]:
        ours = {key: self.sync.vendor.company(key) for key in self.sync.vendor.store.all("companies")}
        found = {
            key: {
                name: float(values[name]) if name == "score" else values[name]
                for name in ("score", "tier")
                if name in values
            }
            for key, values in ours.items()
        }
        written = {row["key"] for row in self.sync.table("sync_rows")} if (self.folder / "sync.db").exists() else set()
        return {key: values for key, values in found.items() if values or key in written}

    @property
    def write_calls(self) -> int:
        return int(self.sync.vendor.calls("/batch/update"))


def _hubspot(folder: Path) -> tuple[type[Stand], Any, SyncConfig]:
    from activation.base import Prepares
    from core.settings import HubSpotConfig
    from sandbox.hubspot import TOKEN, HubSpotStandIn
    from sandbox.serve import serving

    vendor = HubSpotStandIn()
    vendor.seed([{"id": key} for key in ("a", "b", "c", *(f"k{n:02d}" for n in range(30)))])
    server = serving(vendor)
    config = HubSpotConfig.model_validate(
        {"connector": "hubspot", "token": TOKEN, "base_url": server.__enter__(), "model": "scores", "key": "id"}
    )

    def opened(config: SyncConfig, occasion: Occasion) -> Destination:
        destination = open_destination(config, occasion)
        assert isinstance(destination, Prepares)
        destination.setup(occasion.fields)
        return destination

    opened.vendor, opened.server = vendor, server  # type: ignore[attr-defined]
    return HubSpotStand, opened, config


STANDS: dict[str, Callable[[Path], tuple[type[Stand], Any, SyncConfig]]] = {
    "shelf": _shelf,
    "parquet": lambda folder: _files(folder, "parquet"),
    "csv": lambda folder: _files(folder, "csv"),
    "hubspot": _hubspot,
}
"""Each destination under contract; a stand-in of a vendor is one line more."""


@pytest.fixture(params=list(STANDS))
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    kind, destination, config = STANDS[request.param](tmp_path)
    yield kind(tmp_path, _sync(tmp_path, destination, config))
    if hasattr(destination, "server"):
        destination.server.__exit__(None, None, None)


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
