"""What an erasure came to: the receipt, and what is kept of one that is not finished.

Lives here: their files and their shape. Must not live here: how anything is erased or shown.

A receipt names nobody: it says how many rows each store held, and how many it holds now. A pending erasure has to know whom it is
about, and is deleted when the erasure is complete. Both can be read by their owner only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core.errors import TenureError
from core.suppression import FOLDER, write_private
from orchestration.erasure.subject import Subject


@dataclass(frozen=True)
class StoreReceipt:
    """A store: rows (or files) that named the subject, how many do no more, and how many still do."""

    store: str
    found: int
    removed: int
    remaining: int

    @property
    def is_verified(self) -> bool:
        return self.remaining == 0


@dataclass(frozen=True)
class Receipt:
    """One erasure. `notes` say what a person has to know or to do."""

    erasure_id: str
    asked_for: str
    requested_at: datetime
    finished_at: datetime
    stores: tuple[StoreReceipt, ...]
    notes: tuple[str, ...]
    is_complete: bool

    def document(self) -> dict[str, Any]:
        """The same as JSON."""
        stores = [{**asdict(store), "verified": store.is_verified} for store in self.stores]
        dates = {"requested_at": self.requested_at.isoformat(), "finished_at": self.finished_at.isoformat()}
        return {**asdict(self), **dates, "stores": stores, "notes": list(self.notes)}


@dataclass(frozen=True)
class Pending:
    """An erasure that has begun; `found` are the rows of each store before anything was removed."""

    erasure_id: str
    requested_at: datetime
    subject: Subject
    found: Mapping[str, int]
    is_rebuilt: bool = False

    def path(self, home: Path) -> Path:
        return _pending_folder(home) / f"{self.erasure_id}.json"

    def save(self, home: Path) -> None:
        document = {
            "erasure_id": self.erasure_id,
            "requested_at": self.requested_at.isoformat(),
            "subject": self.subject.document(),
            "found": dict(self.found),
            "is_rebuilt": self.is_rebuilt,
        }
        write_private(self.path(home), json.dumps(document) + "\n")

    def discard(self, home: Path) -> None:
        self.path(home).unlink(missing_ok=True)


def pending(home: Path) -> list[Pending]:
    """Erasures that were begun and are not complete, oldest first. Raises `TenureError` for a file that cannot be read."""
    found = []
    for path in _pending_folder(home).glob("*.json"):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            requested_at = datetime.fromisoformat(document["requested_at"])
            subject = Subject.of(document["subject"])
            found.append(
                Pending(document["erasure_id"], requested_at, subject, document["found"], document["is_rebuilt"])
            )
        except (ValueError, KeyError, TypeError) as error:
            raise TenureError(
                f"The pending erasure {path} cannot be read ({type(error).__name__}).",
                hint="Ask for the erasure again, then delete the file.",
            ) from error
    return sorted(found, key=lambda one: one.requested_at)


def write(home: Path, receipt: Receipt) -> Path:
    """Keep a receipt; its path."""
    path = home / FOLDER / "receipts" / f"{receipt.requested_at:%Y%m%dT%H%M%S}-{receipt.erasure_id[:8]}.json"
    write_private(path, json.dumps(receipt.document(), indent=2) + "\n")
    return path


def _pending_folder(home: Path) -> Path:
    return home / FOLDER / "pending"
