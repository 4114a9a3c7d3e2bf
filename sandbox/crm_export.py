"""The CRM's files of the sandbox company, read back as the CRM itself would know them: the last version of each record.

Lives here: reading `data/crm/<object>/*.csv`. Must not live here: how a vendor shows a record (`hubspot.py`, `salesforce.py`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

DELIVERED = "_delivered"
"""Added to each record: the end of the day of the file that told it last, for objects that do not say when they changed."""
VERSIONS = {"companies": "hs_lastmodifieddate", "contacts": "hs_lastmodifieddate"}
"""What tells which of two versions of a record is the later one; where nothing does, the later delivery counts."""


def exported(data: Path, name: str) -> list[dict[str, str]]:
    """Records of one object, the last version of each, without those that have no id.

    A file may hold a record's first version once more, after a later one: so the version decides, not the order of the files.
    """
    found: dict[str, dict[str, str]] = {}
    version = VERSIONS.get(name)
    for row in _rows(data / "crm" / name):
        before = found.get(row["id"])
        if before is None or version is None or (row.get(version) or "") >= (before.get(version) or ""):
            found[row["id"]] = row
    return list(found.values())


def last_day(data: Path) -> date | None:
    """The day of the CRM's last delivery, None before the first."""
    days = [_day(path) for path in (data / "crm").glob("*/*.csv")]
    return max(days, default=None)


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    for path in sorted(folder.glob("*.csv")):
        delivered = datetime.combine(_day(path) + timedelta(days=1), datetime.min.time()) - timedelta(seconds=1)
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["id"]:
                    yield {**row, DELIVERED: f"{delivered:%Y-%m-%dT%H:%M:%SZ}"}


def _day(path: Path) -> date:
    return date.fromisoformat(path.name[:10])
