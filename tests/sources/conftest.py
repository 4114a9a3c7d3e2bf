"""A company whose sources are files and tables that a test writes, loaded as the job loads them."""

from __future__ import annotations

import copy
import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from core import settings, warehouse
from core.settings import Tenure
from core.warehouse import literal
from sources import ledger
from sources.base import open_stream, stream_ids
from sources.doctor import Examination, examine
from sources.faults import UNREAD
from sources.ledger import LoadReport
from sources.load import load_stream

START = datetime(2024, 6, 1)
WHEN = ("_loaded_at", "_run_id", "_first_seen_at", "_last_seen_at", "_times_in_run")
"""What rows note of when they came, and by which run."""


@dataclass
class Company:
    """Writes deliveries, loads them, and looks at the tables. Each load happens a minute after the one before."""

    folder: Path
    document: dict[str, Any] = field(default_factory=dict)
    loads: int = 0
    start: datetime = START

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def now(self) -> datetime:
        return self.start + timedelta(minutes=self.loads)

    def sources(self, **sources: dict[str, Any]) -> Company:
        self.document = copy.deepcopy({"company": "Test", "sources": sources})
        return self

    def streams(self, **streams: dict[str, Any]) -> Company:
        """One files source called `app`."""
        self.data.mkdir(parents=True, exist_ok=True)
        return self.sources(app={"connector": "files", "path": str(self.data), "streams": streams})

    def write(self, name: str, content: str | bytes | list[dict[str, Any]]) -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            pq.write_table(pa.Table.from_pylist(content), path)
        else:
            data = content.encode() if isinstance(content, str) else content
            if path.suffix == ".gz":
                data = gzip.compress(data, mtime=0)
            if path.suffix == ".zst":
                data = pa.Codec("zstd").compress(data, asbytes=True)
            path.write_bytes(data)
        return path

    @property
    def tenure(self) -> Tenure:
        path = self.folder / "tenure.yml"
        path.write_text(yaml.safe_dump(self.document))
        return settings.load(path, home=self.home)

    def load(self, **options: Any) -> dict[str, LoadReport]:
        """Load every stream; the reports by stream name."""
        self.loads += 1
        tenure = self.tenure
        reports = {}
        with warehouse.warehouse(tenure.warehouse_path, temp_directory=tenure.temp_directory) as connection:
            streams = stream_ids(tenure.config)
            ledger.ensure_tables(connection, streams)
            for stream in streams:
                opened = open_stream(
                    stream, tenure.config.sources[stream.source], now=self.now, temp_directory=tenure.temp_directory
                )
                report = load_stream(connection, opened, tenure, now=self.now, run_id=f"run {self.loads}", **options)
                assert report.adds_up, report
                held = connection.execute(
                    f"select coalesce(sum(_times_in_run), 0) from quarantine.{stream.entity_name}"
                    " where _source = ? and _stream = ? and _run_id = ?",
                    [stream.source, stream.stream, f"run {self.loads}"],
                ).fetchone()[0]
                assert held == report.rows_quarantined + report.rows_withdrawn, (held, report)
                assert min(report.rows_quarantined, report.rows_withdrawn, report.rows_superseded) >= 0, report
                reports[stream.stream] = report
        return reports

    def examine(self, **options: Any) -> Examination:
        return examine(self.tenure, now=self.now, **options)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with warehouse.warehouse(self.tenure.warehouse_path, read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def quarantined(self, entity: str) -> list[tuple[Any, ...]]:
        """File name, row and reason of what is in quarantine."""
        found = self.query(f"select _file, _row, _reason from quarantine.{entity} order by _file, _row, _reason")
        return [(Path(file).name, row, reason) for file, row, reason in found]

    def details(self, entity: str) -> list[str]:
        return [row[0] for row in self.query(f"select _detail from quarantine.{entity} order by _file, _row, _detail")]

    def unread(self, entity: str) -> list[str]:
        """What is said of values of loaded rows that could not be read."""
        found = self.query(
            f"select unnest(from_json(_unread, {literal(UNREAD)})).detail from raw_files.{entity} order by 1"
        )
        return [row[0] for row in found]

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """All loaded and quarantined rows, without when and by which run."""
        with warehouse.warehouse(self.tenure.warehouse_path, read_only=True) as connection:
            tables = connection.execute(
                "select table_schema, table_name from information_schema.tables"
                " where table_schema = 'quarantine' or starts_with(table_schema, 'raw_') order by all"
            ).fetchall()
            return {
                f"{schema}.{table}": connection.execute(
                    f"select columns(c -> c not in {WHEN}) from {schema}.{table} order by all"
                ).fetchall()
                for schema, table in tables
            }

    def touch(self, path: Path, seconds: float) -> None:
        stat = path.stat()
        os.utime(path, (stat.st_atime + seconds, stat.st_mtime + seconds))


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    return Company(tmp_path)


@pytest.fixture
def product_files() -> dict[str, Any]:
    """The streams of the sandbox company's product as it is in files: its workspaces and events."""
    return {
        "accounts": {
            "files": "workspaces/*.parquet",
            "columns": {
                "account_id": "id",
                "name": "name",
                "domain": "domain",
                "created_at": "created_at",
                "crm_account_id": "crm_id",
            },
        },
        "usage_events": {
            "files": "events/*.parquet",
            "columns": {
                "event_id": "event_id",
                "account_id": "workspace_id",
                "user_id": "user_id",
                "event_name": "event",
                "occurred_at": "timestamp",
                "quantity": "quantity",
                "product": "product",
            },
        },
    }
