"""Reading back: what somebody else changed is found, and another spelling of the same value is none."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from activation import readback
from activation.mapping import resolve
from core.errors import UserError
from core.warehouse import warehouse


@pytest.mark.parametrize(
    ("ours", "theirs", "kind"),
    [
        ("0.42", "0.4200", "number"),
        ("12.50", 12.5, "number"),
        ("3.0", 3, "number"),
        ("true", True, "boolean"),
        ("true", "TRUE", "boolean"),
        ("2026-03-01", date(2026, 3, 1), "date"),
        ("2026-03-01", "2026-03-01T00:00:00.000Z", "date"),
        ("2026-03-01T04:05:06.123456Z", "2026-03-01T04:05:06.123+00:00", "datetime"),
        ("2026-03-01T04:05:06.000000Z", datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC), "datetime"),
        (None, "", "text"),
    ],
)
def test_another_spelling_is_the_same_value(ours: Any, theirs: Any, kind: str) -> None:
    assert readback.canonical(ours, kind) == readback.canonical(theirs, kind)


def test_what_somebody_else_changed_is_told_by_row_and_field(sync: Any, kit: Any) -> None:
    sync.published.put(kit.some_rows(5))
    sync.run()
    sync.destination.rows["k01"]["tier"] = "my own word"
    del sync.destination.rows["k03"]
    with warehouse(sync.published.path, read_only=True) as connection:
        fields = resolve(connection, sync.config).fields
    ledger = sync.ledger()
    found = readback.verify(ledger, "shelf", sync.destination, fields)
    assert (found.read, found.missing) == (5, 1)
    assert [(row.key, row.field, row.ours, row.theirs) for row in found.drifted] == [
        ("k01", "tier", "low", "my own word"),
        ("k03", None, "a record", None),
    ]
    with pytest.raises(UserError, match="zzz"):
        readback.verify(ledger, "shelf", sync.destination, fields, keys=("zzz",))
    ledger.close()
    sync.run(full=True, keys=("k01",))
    assert sync.destination.rows["k01"]["tier"] == "low"
