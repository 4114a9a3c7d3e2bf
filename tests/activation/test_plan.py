"""What is sent: the difference by fields, roundings, policies, guards."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from core.errors import UserError

WIDE = {
    "id": "varchar",
    "n": "bigint",
    "d": "double",
    "money": "decimal(18,2)",
    "flag": "boolean",
    "day": "date",
    "at": "timestamp",
    "words": "varchar",
}
VALUES = {
    "n": 3,
    "d": 0.25,
    "money": Decimal("12.50"),
    "flag": True,
    "day": date(2026, 3, 1),
    "at": datetime(2026, 3, 1, 4, 5, 6),
    "words": "it's “fine”, 100 %",
}


def test_values_keep_their_types_and_fields_their_descriptions(sync: Any) -> None:
    sync.published.put([{"id": "a", **VALUES}], WIDE)
    assert sync.run().counts.ok == 1
    ((change,),) = sync.destination.calls
    assert dict(change.values) == VALUES
    assert sync.run().counts.unchanged == 1


def test_a_difference_below_the_rounding_is_none(sync: Any, kit: Any) -> None:
    sync.config = kit.ShelfConfig(rounding={"sco*": 2})
    sync.published.put([kit.row("a", 0.4211), kit.row("b", -0.001)])
    sync.run()
    assert sync.destination.rows["a"]["score"] == 0.42
    sync.published.put([kit.row("a", 0.4249), kit.row("b", 0.001)])
    assert sync.run().counts.unchanged == 2


def test_what_is_no_value_of_its_type_is_never_sent(sync: Any, kit: Any) -> None:
    sync.config = kit.ShelfConfig(fields={"points": {"column": "tier", "type": "number"}, "score": "score"})
    sync.published.put([kit.row("a", tier="7.5"), kit.row("b", tier="seven"), kit.row("c", float("nan"), tier="1")])
    report = sync.run()
    assert (report.counts.ok, report.invalid_reasons) == (1, {"wrong_type:points": 1, "wrong_type:score": 1})
    assert sync.destination.rows == {"a": {"points": 7.5, "score": 0.5}}
    invalid = [row for row in sync.table("sync_changes") if row["status"] == "invalid"]
    assert [(row["key"], row["error"]) for row in invalid] == [("b", "wrong_type:points"), ("c", "wrong_type:score")]


def test_a_change_of_the_mapping_sends_only_rows_that_say_something_else(sync: Any, kit: Any) -> None:
    sync.config = kit.ShelfConfig(fields={"score": "score"})
    sync.published.put([kit.row("a", tier=None), kit.row("b", tier="high")])
    sync.run()
    sync.config = kit.ShelfConfig(fields={"score": "score", "tier": "tier"})
    report = sync.run()
    assert (report.counts.ok, report.counts.unchanged) == (1, 1)
    sync.config = kit.ShelfConfig(fields={"score": "score"})
    assert sync.run().counts.unchanged == 2
    (before,) = {row["hash"] for row in sync.kept().values()}
    assert sync.run().counts.unchanged == 2
    assert {row["hash"] for row in sync.kept().values()} == {before}


def test_a_null_that_is_to_be_skipped_leaves_what_is_there(sync: Any, kit: Any) -> None:
    sync.config = kit.ShelfConfig(fields={"tier": {"column": "tier", "on_null": "skip"}, "score": "score"})
    sync.published.put([kit.row("a", tier="high")])
    sync.run()
    sync.published.put([kit.row("a", tier=None)])
    assert sync.run().counts.unchanged == 1
    sync.published.put([kit.row("a", 0.9, tier=None)])
    assert sync.run().counts.ok == 1
    assert sync.destination.rows["a"] == {"tier": "high", "score": 0.9}
    sync.published.put([kit.row("a", 0.9, tier="high")])
    assert sync.run().counts.unchanged == 1


def test_a_column_that_is_not_mapped_sends_nothing(sync: Any, kit: Any) -> None:
    sync.config = kit.ShelfConfig(fields={"score": "score"})
    sync.published.put([kit.row("a", tier="low")])
    sync.run()
    sync.published.put([kit.row("a", tier="high")])
    assert sync.run().counts.unchanged == 1


def test_mistakes_of_the_mapping_are_told_before_anything_is_done(sync: Any, kit: Any) -> None:
    sync.published.put([kit.row("a")])
    for config, said in (
        (kit.ShelfConfig(key="nobody"), "nobody"),
        (kit.ShelfConfig(fields={"x": "missing"}), "missing"),
        (kit.ShelfConfig(model="not_there"), "not_there"),
    ):
        with pytest.raises(UserError, match=said):
            sync.run(config=config)
    with pytest.raises(UserError, match="zzz"):
        sync.run(keys=("zzz",))
    assert sync.destination.calls == []


# --- guards --------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(sync: Any, kit: Any) -> Any:
    """A destination with forty rows, and a guard for each share."""
    sync.config = kit.ShelfConfig(guards={"max_changed_share": 0.5})
    sync.published.put(kit.some_rows(40))
    assert sync.run().status == "done"
    sync.destination.calls.clear()
    return sync


def _changed(kit: Any) -> list[dict[str, Any]]:
    return [kit.row(f"k{n:02d}", 0.9) for n in range(40)]


def test_a_guard_refuses_says_why_and_is_kept(guarded: Any, kit: Any) -> None:
    rows = {
        "changed": _changed(kit),
        "newly_null": [kit.row(f"k{n:02d}", None if n < 15 else n / 100) for n in range(40)],
        "retired": kit.some_rows(20),
        "empty": [],
    }
    for guard, given in rows.items():
        guarded.published.put(given)
        report = guarded.run()
        assert (report.status, report.exit_code) == ("guarded", 3)
        assert [violation.guard for violation in report.violations] == [guard]
        assert report.counts.ok == 0
    assert guarded.destination.calls == []
    assert [row["status"] for row in guarded.table("sync_runs")] == ["done", *["guarded"] * 4]


def test_an_override_sends_and_is_recorded(guarded: Any, kit: Any) -> None:
    guarded.published.put(_changed(kit))
    report = guarded.run(override=True)
    assert (report.status, report.counts.ok, report.overrides) == ("done", 40, ("changed",))
    assert guarded.table("sync_runs")[-1]["overrides"] == '["changed"]'


def test_old_rows_are_not_sent(guarded: Any, kit: Any) -> None:
    guarded.published.at = kit.START - timedelta(hours=1)
    guarded.published.put(kit.some_rows(40, k01=0.9))
    assert [violation.guard for violation in guarded.run().violations] == ["older"]
    guarded.published.at = kit.START
    guarded.published.put(kit.some_rows(40, k01=0.9), as_of=kit.START - timedelta(days=1))
    assert [violation.guard for violation in guarded.run().violations] == ["older"]
    guarded.published.put(kit.some_rows(40, k01=0.9))
    guarded.now = kit.START + timedelta(hours=72)
    report = guarded.run()
    assert [violation.guard for violation in report.violations] == ["stale"]
    assert "72 hours" in report.error


def test_a_few_keys_and_sending_all_are_judged_by_the_plan_for_all(guarded: Any, kit: Any) -> None:
    assert guarded.run(full=True).counts.ok == 40
    guarded.published.put(_changed(kit))
    assert guarded.run(keys=("k01",)).status == "guarded"


def test_nothing_to_send_and_nothing_there_is_no_reason_to_worry(sync: Any) -> None:
    sync.published.put([])
    assert sync.run().status == "done"
