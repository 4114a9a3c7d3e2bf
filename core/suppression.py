"""The suppression list: who was erased and must not come back, as salted hashes.

Lives here: the file that keeps them, and the hash, in Python and in SQL. Must not live here: which rows it concerns
(`sources/suppressed.py`), how somebody is erased (`orchestration/erasure/`).

The list is a file of the home rather than a table: a warehouse that is deleted and loaded again must not bring a person back. It
holds no identifier. Its salt is random and lies beside the hashes, so that the list says nothing without the home; who has the
home and an identifier can ask whether it was erased, which is what the list is for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from core.errors import UserError
from core.identity import canonical_id, canonical_id_sql
from core.warehouse import literal

Kind = Literal["account", "person", "address"]
FOLDER = "privacy"
FILE = "suppressed.json"


@dataclass(frozen=True)
class Erasure:
    """One erasure: what was asked for, when, and the hashes of all identifiers that it covers."""

    erasure_id: str
    asked_for: str
    requested_at: datetime
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Suppression:
    """The list of a home. Without erasures it has no salt and suppresses nothing."""

    salt: str = ""
    erasures: tuple[Erasure, ...] = field(default=())

    @cached_property
    def hashes(self) -> frozenset[str]:
        return frozenset(one for erasure in self.erasures for one in erasure.hashes)

    def hash_of(self, kind: Kind, source: str, value: str) -> str:
        """The salted hash of an identifier. Addresses have no source, and no capitals; ids of accounts have one form."""
        compared = value.strip().lower() if kind == "address" else canonical_id(value) if kind == "account" else value
        return self._hash_as_written(kind, source, compared)

    def _hash_as_written(self, kind: Kind, source: str, value: str) -> str:
        return hashlib.sha256(f"{self.salt}|{kind}|{source}|{value}".encode()).hexdigest()

    def matches(self, kind: Kind, source: str, value: str) -> bool:
        """Whether an identifier was erased."""
        return not self.hashes.isdisjoint(
            {self.hash_of(kind, source, value), self._hash_as_written(kind, source, value)}
        )

    def matches_sql(self, kind: Kind, source: str, value: str) -> str:
        """The same of an SQL expression of type text; false for NULL."""
        if not self.erasures:
            return "false"
        # Lists of earlier versions have ids of accounts as they were written.
        forms = {"address": [f"lower(trim({value}))"], "account": [value, canonical_id_sql(value)], "person": [value]}
        listed = ", ".join(literal(one) for one in sorted(self.hashes))
        before = literal(f"{self.salt}|{kind}|{source}|")
        matches = " or ".join(f"sha256({before} || {form}) in ({listed})" for form in forms[kind])
        return f"coalesce({matches}, false)"


def path_of(home: Path) -> Path:
    return home / FOLDER / FILE


def load(home: Path) -> Suppression:
    """The list of a home; an empty one where nobody was erased.

    Raises `UserError` for a file that cannot be read: loading without the list would bring people back.
    """
    path = path_of(home)
    if not path.exists():
        return Suppression()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        erasures = [
            Erasure(
                one["erasure_id"],
                one["asked_for"],
                datetime.fromisoformat(one["requested_at"]),
                tuple(one["hashes"]),
            )
            for one in document["erasures"]
        ]
        return Suppression(document["salt"], tuple(erasures))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"The suppression list {path} cannot be read ({type(error).__name__}), so nothing is loaded.",
            hint="Restore it from a backup: without it, erased people would come back.",
        ) from error


def add(home: Path, erasure: Erasure, *, new_salt: str) -> Suppression:
    """The list with one erasure more, on the disk when this returns. `new_salt` is used when the list is new."""
    before = load(home)
    others = tuple(one for one in before.erasures if one.erasure_id != erasure.erasure_id)
    after = Suppression(before.salt or new_salt, (*others, erasure))
    document = {
        "salt": after.salt,
        "erasures": [
            {
                "erasure_id": one.erasure_id,
                "asked_for": one.asked_for,
                "requested_at": one.requested_at.isoformat(),
                "hashes": sorted(one.hashes),
            }
            for one in after.erasures
        ],
    }
    write_private(path_of(home), json.dumps(document, indent=2) + "\n")
    return after


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read: beside its place, to the disk, then in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring what a folder lists to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hashed(suppression: Suppression, identifiers: Iterable[tuple[Kind, str, str]]) -> tuple[str, ...]:
    """The hashes of kind, source and value, in no order that tells anything."""
    return tuple(sorted({suppression.hash_of(*identifier) for identifier in identifiers}))
