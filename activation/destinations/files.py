"""A folder that receives what changed: each run a folder of its own, with a manifest, visible as a whole or not at all.

Lives here: writing Parquet or CSV and its manifest, and taking erased rows out of what was written. Must not live here: what has
changed, who is erased.

A run writes to a hidden folder beside its place; `finish` writes the manifest, brings all to the disk and renames the folder. A
reader that lists the folder sees complete runs only, and reads them by name, which is their order.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
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


def rows_of(folder: Path, keys: Collection[str]) -> int:
    """How many rows of all runs in a drop folder have one of `keys`."""
    return sum(len(_marked(part, key, keys)) for part, key in _parts_in(folder))


def erase(folder: Path, keys: Collection[str]) -> None:
    """Take the rows of `keys` out of all runs in a drop folder; each file is replaced in one move, and so is its manifest."""
    for part, key in _parts_in(folder):
        marked = _marked(part, key, keys)
        if marked:
            _rewrite(part, key, marked)
    for manifest in _manifests(folder):
        _bring_up_to_date(manifest)


def _manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/manifest.json"))


def _parts_in(folder: Path) -> Iterator[tuple[Path, str]]:
    for manifest in _manifests(folder):
        document = json.loads(manifest.read_text(encoding="utf-8"))
        for part in document["files"]:
            if (manifest.parent / part["file"]).exists():
                yield manifest.parent / part["file"], document["key"]


def _marked(part: Path, key: str, keys: Collection[str]) -> set[str]:
    """Those of `keys` that a part has, as it writes them."""
    if part.suffix == ".csv":
        written = {cell(one) for one in keys}
        with part.open(encoding="utf-8", newline="") as file:
            return {row[key] for row in csv.DictReader(file) if row[key] in written}
    from pyarrow import parquet

    found = parquet.read_table(part, columns=[key]).column(key).to_pylist()
    return {one for one in found if one in keys}


def _rewrite(part: Path, key: str, marked: Collection[str]) -> None:
    fresh = part.with_name(f".{part.name}.erased")
    if part.suffix == ".csv":
        with part.open(encoding="utf-8", newline="") as file, fresh.open("w", encoding="utf-8", newline="") as target:
            reader = csv.reader(file)
            header = next(reader)
            at = header.index(key)
            writer = csv.writer(target)
            writer.writerow(header)
            writer.writerows(row for row in reader if row[at] not in marked)
    else:
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import parquet

        table = parquet.read_table(part)
        is_marked = pc.is_in(table.column(key), value_set=pa.array(sorted(marked), pa.string()))
        parquet.write_table(table.filter(pc.invert(is_marked)), fresh)
    _to_disk(fresh)
    fresh.replace(part)


def _bring_up_to_date(manifest: Path) -> None:
    """Let a manifest say what its files are now, also where a call was killed before it came to this."""
    document = json.loads(manifest.read_text(encoding="utf-8"))
    for part in document["files"]:
        path = manifest.parent / part["file"]
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != part["sha256"]:
            part.update(rows=_rows_in(path), bytes=len(content), sha256=digest)
    document["rows"] = sum(part["rows"] for part in document["files"])
    fresh = manifest.with_name(".manifest.json.erased")
    fresh.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    _to_disk(fresh)
    fresh.replace(manifest)
    _to_disk(manifest.parent)


def _rows_in(part: Path) -> int:
    if part.suffix == ".csv":
        with part.open(encoding="utf-8", newline="") as file:
            return sum(1 for _ in csv.reader(file)) - 1
    from pyarrow import parquet

    return int(parquet.read_metadata(part).num_rows)
