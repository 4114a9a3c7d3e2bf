"""A drop folder: visible as a whole, described, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import hashlib
import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from activation.base import Change, Field
from activation.destinations.files import Files, cell, erase, rows_of

NOW = datetime(2026, 3, 2, 6)


def test_cells_that_a_spreadsheet_would_run_are_defused_and_numbers_left_alone() -> None:
    for text in ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "\r=1", "  =1"):
        assert cell(text) == "'" + text
    for value, said in (
        (-2, "-2"),
        (-0.5, "-0.5"),
        (Decimal("-12.50"), "-12.50"),
        (True, "true"),
        (None, ""),
        ("a-b", "a-b"),
    ):
        assert cell(value) == said
    assert cell(date(2026, 3, 1)) == "2026-03-01"
    assert cell(datetime(2026, 3, 1, 4, 5)) == "2026-03-01T04:05:00"


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_drop_becomes_visible_as_a_whole_with_a_manifest(tmp_path: Path, format: Any) -> None:
    folder = tmp_path / "drop"
    (folder / ".old.incoming").mkdir(parents=True)
    fields = [Field("score", "number", "Score", "How risky."), Field("why", "text", "Why", "")]
    files = Files(folder, key="id", fields=fields, run_id="0123456789", now=NOW, format=format)
    assert files.preflight(fields) == []
    for batch in (["a", "b"], ["c"]):
        files.upsert([Change(key, "create", {"score": 0.5, "why": "=x"}) for key in batch])
        assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == []
    files.finish()
    (drop,) = folder.iterdir()
    assert drop.name == "20260302T060000-01234567"
    manifest = json.loads((drop / "manifest.json").read_text())
    assert (manifest["rows"], manifest["format"], len(manifest["files"])) == (3, format, 2)
    assert {c["name"]: c["description"] for c in manifest["columns"]}["score"] == "How risky."
    for part in manifest["files"]:
        assert hashlib.sha256((drop / part["file"]).read_bytes()).hexdigest() == part["sha256"]
    if format == "csv":
        with (drop / manifest["files"][0]["file"]).open(newline="") as file:
            assert next(csv.DictReader(file)) == {"_operation": "create", "id": "a", "score": "0.5", "why": "'=x"}


def test_a_folder_that_is_a_file_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    files = Files(tmp_path / "file" / "drop", key="id", fields=[], run_id="r", now=NOW)
    (problem,) = files.preflight([])
    assert "cannot be written to" in problem.what


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_rows_can_be_erased_from_every_drop_and_the_manifests_say_so(tmp_path: Path, format: Any) -> None:
    folder = tmp_path / "drop"
    fields = [Field("why", "text", "Why", "")]
    for run_id in ("first", "second"):
        files = Files(folder, key="id", fields=fields, run_id=run_id, now=NOW, format=format)
        files.upsert(
            [Change(key, "create", {"why": f"because of {key}"}) for key in ("canary-1", "=canary-2", "other")]
        )
        files.finish()
    assert rows_of(folder, {"canary-1", "=canary-2"}) == 4
    erase(folder, {"canary-1", "=canary-2", "nobody"})
    assert rows_of(folder, {"canary-1", "=canary-2"}) == 0
    assert rows_of(folder, {"other"}) == 2
    for drop in folder.iterdir():
        manifest = json.loads((drop / "manifest.json").read_text())
        (part,) = manifest["files"]
        content = (drop / part["file"]).read_bytes()
        assert (manifest["rows"], part["rows"], part["bytes"]) == (1, 1, len(content))
        assert hashlib.sha256(content).hexdigest() == part["sha256"]
        assert sorted(path.name for path in drop.iterdir()) == ["manifest.json", part["file"]]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    erase(folder, {"canary-1"})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
