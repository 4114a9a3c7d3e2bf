"""A folder that receives what changed: each run a folder of its own, with a manifest, visible as a whole or not at all.

Lives here: writing Parquet or CSV and its manifest. Must not live here: what has changed.

A run writes to a hidden folder beside its place; `finish` writes the manifest, brings all to the disk and renames the folder. A
reader that lists the folder sees complete runs only, and reads them by name, which is their order.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from activation.base import Change, Field, Limits, Problem, RowResult, Value
from core.errors import Fatal

if TYPE_CHECKING:
    import pyarrow as pa

OPERATION = "_operation"
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet run a cell (OWASP, CSV injection)."""


class Files:
    """A drop folder. `run_id` and `now` name what this run leaves there."""

    def __init__(
        self,
        path: Path,
        *,
        key: str,
        fields: Sequence[Field],
        run_id: str,
        now: datetime,
        format: Literal["parquet", "csv"] = "parquet",
    ) -> None:
        self._folder, self._key, self._fields, self._format = path, key, tuple(fields), format
        self._run_id, self._now = run_id, now
        self._name = f"{now:%Y%m%dT%H%M%S}-{run_id[:8]}"
        self._hidden = path / f".{self._name}.incoming"
        self._parts: list[dict[str, Any]] = []

    def limits(self, rows: int) -> Limits:
        return Limits(batch_rows=50_000)

    def preflight(self, fields: Sequence[Field]) -> Sequence[Problem]:
        """Whether the folder can be written to."""
        there = next(parent for parent in (self._folder, *self._folder.parents) if parent.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return []
        return [Problem(f"{there} cannot be written to.", "Check the folder's permissions.")]

    def upsert(self, batch: Sequence[Change]) -> Sequence[RowResult]:
        """Write one part; what a repeated call wrote before is replaced."""
        try:
            self._clean_up()
            self._hidden.mkdir(parents=True, exist_ok=True)
            path = self._hidden / f"part-{len(self._parts):05d}.{self._format}"
            self._write(path, batch)
        except OSError as error:
            raise Fatal(f"{self._folder} cannot be written to: {error.strerror}.") from error
        content = path.read_bytes()
        self._parts.append(
            {
                "file": path.name,
                "rows": len(batch),
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
        return [RowResult(change.key, "ok") for change in batch]

    def finish(self) -> None:
        """Make the run visible."""
        if not self._parts:
            return
        manifest = {
            "run_id": self._run_id,
            "written_at": self._now.isoformat(),
            "format": self._format,
            "rows": sum(part["rows"] for part in self._parts),
            "key": self._key,
            "columns": [{"name": OPERATION, "type": "text", "description": "create, update or retire"}]
            + [{"name": self._key, "type": "text", "description": "The row's key"}]
            + [{"name": f.name, "type": f.kind, "description": f.description} for f in self._fields],
            "files": self._parts,
        }
        try:
            (self._hidden / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            for path in (*self._hidden.iterdir(), self._hidden):
                _to_disk(path)
            self._hidden.rename(self._folder / self._name)
            _to_disk(self._folder)
        except OSError as error:
            raise Fatal(f"{self._folder} cannot be written to: {error.strerror}.") from error

    def _clean_up(self) -> None:
        """Remove what a run that was killed left behind; the engine lets one run at a time in here."""
        if self._parts or not self._folder.exists():
            return
        for leftover in self._folder.glob(".*.incoming"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _write(self, path: Path, batch: Sequence[Change]) -> None:
        if self._format == "csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([OPERATION, self._key, *(field.name for field in self._fields)])
                writer.writerows(
                    [change.operation, cell(change.key), *(cell(change.values.get(f.name)) for f in self._fields)]
                    for change in batch
                )
            return
        from pyarrow import parquet

        parquet.write_table(self._table(batch), path)

    def _table(self, batch: Sequence[Change]) -> pa.Table:
        import pyarrow as pa

        kinds = {
            "text": pa.string(),
            "number": pa.float64(),
            "boolean": pa.bool_(),
            "date": pa.date32(),
            "datetime": pa.timestamp("us"),
        }
        columns: dict[str, Any] = {
            OPERATION: pa.array([change.operation for change in batch], pa.string()),
            self._key: pa.array([change.key for change in batch], pa.string()),
        }
        for field in self._fields:
            values = [_plain(change.values.get(field.name)) for change in batch]
            columns[field.name] = pa.array(values, kinds[field.kind])
        return pa.table(columns)


def cell(value: Value) -> str:
    """A value as a CSV cell: text that a spreadsheet would run gets an apostrophe before it, numbers stay as they are."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, str) and value.lstrip(" ").startswith(_DANGEROUS):
        return "'" + value
    return str(value)


def _plain(value: Value) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
