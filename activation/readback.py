"""What a destination really has, against what it acknowledged: where somebody else changed our fields.

Lives here: the comparison, by values rather than by spelling (a CRM gives `0.420` or `"0.42"` back for 0.42). Must not live here:
reading, which is the destination's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

from activation.base import Change, Reads, Value
from activation.ledger import Ledger
from activation.mapping import MappedField
from core.errors import UserError

_READ_AT_ONCE = 100


@dataclass(frozen=True)
class DriftedField:
    """A field whose value is not the one that was acknowledged; `field` is None where the record is not there."""

    key: str
    field: str | None
    ours: str | None
    theirs: str | None

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Drift:
    """What was read and what differs."""

    read: int = 0
    missing: int = 0
    drifted: list[DriftedField] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return {"read": self.read, "missing": self.missing, "drifted": [row.document() for row in self.drifted]}


def verify(
    ledger: Ledger,
    destination: str,
    reader: Reads,
    fields: Sequence[MappedField],
    *,
    keys: Sequence[str] = (),
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> Drift:
    """Read every acknowledged row (or those of `keys`) back. Volatile fields are compared too: they were acknowledged as well."""
    kept = [row for row in ledger.payloads(destination, keys or None).to_pylist() if row["payload"]]
    unknown = set(keys) - {row["key"] for row in kept}
    if unknown:
        raise UserError(f"{destination} was never sent {', '.join(sorted(unknown)[:10])}, or did not take it.")
    kinds: dict[str, str] = {one.name: one.kind for one in fields}
    found = Drift()
    rows = iter(sorted(kept, key=lambda row: str(row["key"])))
    while batch := list(islice(rows, _READ_AT_ONCE)):
        expected = {row["key"]: json.loads(row["payload"]) for row in batch}
        asked = [Change(row["key"], "update", dict.fromkeys(kinds, None), row["remote_id"]) for row in batch]
        for key, values in reader.read(asked):
            found.read += 1
            if values is None:
                found.missing += 1
                found.drifted.append(DriftedField(key, None, "a record", None))
            else:
                found.drifted += _differences(key, expected[key], values, kinds)
        progress(f"{destination}: reading back", found.read, len(kept))
    return found


def _differences(key: str, ours: dict[str, str | None], theirs: Any, kinds: dict[str, str]) -> Iterator[DriftedField]:
    for name, kind in kinds.items():
        if name in ours and name in theirs and canonical(ours[name], kind) != canonical(theirs[name], kind):
            yield DriftedField(key, name, ours[name], None if theirs[name] is None else str(theirs[name]))


def canonical(value: Value, kind: str) -> Any:
    """A value in the one form that it is compared in; what is no value of its kind stays as it is written."""
    if value is None or value == "":
        return None
    text = str(value)
    try:
        if kind == "number":
            return Decimal(text).normalize()
        if kind == "boolean":
            return text.lower() in ("true", "1", "yes")
        if kind == "date":
            return value if type(value) is date else datetime.fromisoformat(text.replace("Z", "+00:00")).date()
        if kind == "datetime":
            at = value if isinstance(value, datetime) else datetime.fromisoformat(text.replace("Z", "+00:00"))
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
            # CRMs keep milliseconds.
            return at.replace(microsecond=at.microsecond // 1000 * 1000)
    except (InvalidOperation, ValueError):
        return text
    return text
