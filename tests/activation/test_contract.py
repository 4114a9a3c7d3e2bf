"""What the engine and a destination must do together, whatever the destination is: one line in `STANDS` adds another."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from activation import readback
from activation.base import Reads
from activation.mapping import resolve
from core.sync_settings import FieldConfig
from core.warehouse import warehouse


def test_the_first_sync_sends_all_and_the_second_sends_nothing(stand: Any, kit: Any) -> None:
    stand.sync.published.put(kit.some_rows(7))
    first = stand.sync.run()
    assert (first.status, first.counts.ok, first.counts.source) == ("done", 7, 7)
    assert {key: values["score"] for key, values in stand.contents().items()} == {
        f"k{n:02d}": n / 100 for n in range(7)
    }
    calls = stand.write_calls
    assert calls > 0
    second = stand.sync.run()
    assert (second.status, second.counts.unchanged, second.counts.calls) == ("done", 7, 0)
    assert stand.write_calls == calls


def test_one_change_sends_one_row(stand: Any, kit: Any) -> None:
    stand.sync.published.put(kit.some_rows(7))
    stand.sync.run()
    stand.sync.published.put(kit.some_rows(7, k03=0.99))
    report = stand.sync.run()
    assert (report.counts.ok, report.counts.unchanged) == (1, 6)
    assert stand.contents()["k03"]["score"] == 0.99
    assert stand.contents()["k04"]["score"] == 0.04


def test_a_change_that_is_not_mapped_sends_nothing(stand: Any, kit: Any) -> None:
    stand.sync.config = stand.config.model_copy(update={"fields": {"score": FieldConfig()}})
    stand.sync.published.put([kit.row("a", tier="low")])
    stand.sync.run()
    calls = stand.write_calls
    stand.sync.published.put([kit.row("a", tier="high")])
    assert stand.sync.run().counts.unchanged == 1
    assert stand.write_calls == calls
    assert "tier" not in stand.contents()["a"]


def test_a_volatile_field_alone_sends_nothing(stand: Any, kit: Any) -> None:
    stand.sync.published.put([kit.row("a")])
    stand.sync.run()
    stand.sync.published.put([kit.row("a", scored_at=kit.START + timedelta(days=1))])
    assert stand.sync.run().counts.unchanged == 1


def test_null_and_duplicate_keys_are_never_sent_and_the_others_are(stand: Any, kit: Any) -> None:
    keys = ["a", "b", "b", None, "", "c"]
    stand.sync.published.put([kit.row(key) for key in keys])
    report = stand.sync.run()
    assert (report.counts.source, report.counts.ok, report.counts.invalid) == (6, 2, 4)
    assert report.invalid_reasons == {"duplicate_key": 2, "null_key": 2}
    assert set(stand.contents()) == {"a", "c"}


def test_a_row_that_left_the_model_is_cleared_once(stand: Any, kit: Any) -> None:
    stand.sync.published.put(kit.some_rows(3))
    stand.sync.run()
    stand.sync.published.put(kit.some_rows(2))
    report = stand.sync.run()
    assert (report.counts.retired, report.counts.gone_rows, report.counts.source) == (1, 1, 3)
    assert stand.contents()["k02"] == {}
    assert stand.sync.run().counts.source == 2
    stand.sync.published.put(kit.some_rows(3))
    assert stand.sync.run().counts.ok == 1
    assert stand.contents()["k02"]["score"] == 0.02


def test_a_null_clears_the_field(stand: Any, kit: Any) -> None:
    stand.sync.published.put([kit.row("a", tier="high")])
    stand.sync.run()
    stand.sync.published.put([kit.row("a", tier=None)])
    assert stand.sync.run().counts.ok == 1
    assert "tier" not in stand.contents()["a"]


def test_a_dry_run_writes_nothing_anywhere(stand: Any, kit: Any) -> None:
    stand.sync.published.put(kit.some_rows(3))
    before = sorted(stand.folder.rglob("*"))
    report = stand.sync.run(dry_run=True)
    assert report.status == "planned"
    assert [planned.change.key for planned in report.changes] == ["k00", "k01", "k02"]
    assert report.document()["changes"][1]["fields"]["score"] == {"old": None, "new": "0.01"}
    assert sorted(stand.folder.rglob("*")) == before
    assert stand.contents() == {}
    assert stand.write_calls == 0


def test_everything_is_sent_again_when_asked(stand: Any, kit: Any) -> None:
    stand.sync.published.put(kit.some_rows(4))
    stand.sync.run()
    report = stand.sync.run(full=True)
    assert (report.counts.ok, report.counts.unchanged) == (4, 0)
    assert stand.sync.run(full=True, keys=("k01",)).counts.source == 1
    assert stand.sync.run().counts.unchanged == 4


def test_what_was_sent_reads_back_as_the_same(stand: Any, kit: Any) -> None:
    stand.sync.published.put([*kit.some_rows(4), kit.row("a", 1 / 3, tier=None)])
    stand.sync.run()
    with warehouse(stand.sync.published.path, read_only=True) as connection:
        mapping = resolve(connection, stand.config)
    destination = stand.sync.open(mapping)
    if not isinstance(destination, Reads):
        pytest.skip("cannot be read back")
    with closing(stand.sync.ledger()) as ledger:
        found = readback.verify(ledger, stand.sync.name, destination, mapping.fields)
    assert (found.read, found.missing, found.drifted) == (5, 0, [])
