"""The ledger: in SQLite and PostgreSQL, killed in the middle, held by one run, kept for a while; and the counts add up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.errors import BatchRefused, Fatal, Retriable, TenureError, Unauthorized

PROJECT = Path(__file__).parents[2]


def test_a_ledger_in_postgresql_works_as_the_one_in_a_file(sync: Any, kit: Any, postgres_url: str) -> None:
    sync.ledger_url = postgres_url
    sync.destination.always = kit.answering("rejected", "k05")
    sync.published.put(kit.some_rows(7))
    report = sync.run()
    assert (report.status, report.counts.ok, report.counts.rejected) == ("partial", 6, 1)
    sync.destination.always = None
    sync.published.put(kit.some_rows(6, k01=0.9))
    report = sync.run()
    assert (report.counts.updated, report.counts.created, report.counts.retired) == (1, 1, 1)
    assert sync.run().counts.unchanged == 6
    assert sync.kept()["k06"]["state"] == "retired"
    # Elsewhere another run has it.
    ledger = sync.ledger()
    with ledger.hold("shelf"), pytest.raises(TenureError, match="under way"):
        sync.run()
    assert sync.run().counts.unchanged == 6
    ledger.close()


def test_a_second_run_says_so_and_leaves(sync: Any, kit: Any) -> None:
    told = []

    def meanwhile(shelf: Any, batch: Any) -> Any:
        with pytest.raises(TenureError, match="Another sync of shelf is under way") as raised:
            sync.run()
        told.append(raised.value.exit_code)
        return shelf.apply(batch)

    sync.destination.schedule = [meanwhile]
    sync.published.put(kit.some_rows(2))
    assert sync.run().counts.ok == 2
    assert told == [1]
    assert len(sync.table("sync_runs")) == 1


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {project!r})
from activation import engine
from activation.base import Limits, RowResult
from activation.ledger import Ledger
from core.sync_settings import FilesSyncConfig

folder = Path(sys.argv[1])

class Shelf:
    calls = 0
    def limits(self, rows):
        return Limits(batch_rows=3)
    def upsert(self, batch):
        path = folder / "shelf.json"
        rows = json.loads(path.read_text()) if path.exists() else {{}}
        for change in batch:
            rows.setdefault(change.key, []).append(change.values["score"])
        path.write_text(json.dumps(rows))
        Shelf.calls += 1
        if Shelf.calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return [RowResult(change.key, "ok") for change in batch]

config = FilesSyncConfig(connector="files", path=folder, model="scores", key="id", guards={{"max_source_age_hours": None}})
request = engine.Request("shelf", config, sys.argv[3], folder / "serving.duckdb", folder / "locks")
report = engine.sync(request, Ledger("sqlite:///" + str(folder / "sync.db")), lambda mapping: Shelf(), world=engine.World())
print(json.dumps({{"status": report.status, "ok": report.counts.ok, "unchanged": report.counts.unchanged}}))
"""


def test_killed_between_the_answer_and_the_commit_one_batch_is_repeated_and_all_is_right(sync: Any, kit: Any) -> None:
    sync.published.put(kit.some_rows(9))

    def run(kill_at: int, name: str) -> subprocess.CompletedProcess[str]:
        script = KILLED.format(project=str(PROJECT))
        command = [sys.executable, "-c", script, str(sync.folder), str(kill_at), name]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert run(2, "first").returncode == -signal.SIGKILL
    kept = sync.kept()
    assert {key for key, row in kept.items() if row["in_doubt_run_id"]} == {"k03", "k04", "k05"}
    done = run(0, "second")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"status": "done", "ok": 6, "unchanged": 3}
    shelf = json.loads((sync.folder / "shelf.json").read_text())
    assert {key for key, values in shelf.items() if len(values) > 1} == {"k03", "k04", "k05"}
    assert {key: values[-1] for key, values in shelf.items()} == {f"k{n:02d}": n / 100 for n in range(9)}
    assert [row["status"] for row in sync.table("sync_runs")] == ["killed", "done"]
    for row in sync.table("sync_runs"):
        told = sum(row[name] for name in ("unchanged", "invalid", "ok", "rejected", "retriable", "deferred"))
        assert row["source"] == told


def test_rows_of_a_drop_that_never_became_visible_are_sent_again(new_sync: Any, kit: Any, tmp_path: Path) -> None:
    from activation.connect import open_destination
    from core.sync_settings import FilesSyncConfig

    config = FilesSyncConfig.model_validate(
        {"connector": "files", "model": "scores", "key": "id", "path": tmp_path / "drop", "batch_rows": 2}
    )

    def failing(config: Any, occasion: Any) -> Any:
        made = open_destination(config, occasion)

        def finish() -> None:
            raise Fatal("The disk is full.")

        made.finish = finish  # type: ignore[attr-defined]
        return made

    sync = new_sync(tmp_path / "home", failing, config)
    sync.published.put(kit.some_rows(5))
    report = sync.run()
    assert (report.status, report.counts.ok, report.counts.deferred) == ("stopped", 0, 5)
    assert list((tmp_path / "drop").glob("[!.]*")) == []
    sync.destination = open_destination
    assert sync.run().counts.ok == 5
    assert len(list((tmp_path / "drop").iterdir())) == 1
    assert sync.run().counts.unchanged == 5


def test_changes_are_kept_for_as_long_as_configured(sync: Any, kit: Any) -> None:
    sync.published.put(kit.some_rows(2))
    sync.run()
    assert len(sync.table("sync_changes")) == 2
    sync.published.at += timedelta(days=40)
    sync.now += timedelta(days=40)
    sync.published.put(kit.some_rows(2, k01=0.9))
    sync.run(retention_days=30)
    (only,) = sync.table("sync_changes")
    assert (only["key"], json.loads(only["old_values"]), json.loads(only["new_values"])) == (
        "k01",
        {"score": "0.01"},
        {"score": "0.9"},
    )


def test_a_ledger_that_is_not_there_reads_as_empty(sync: Any) -> None:
    ledger = sync.ledger(create=False)
    assert ledger.is_empty
    assert ledger.runs() == ledger.failures() == []
    assert ledger.totals() == {}
    assert [name for name, _ in ledger.tables()] == ["sync_runs", "sync_rows", "sync_changes"]


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_a_ledger_of_an_older_version_gets_the_columns_that_it_lacks(
    sync: Any, kit: Any, postgres_url: str, store: str
) -> None:
    if store == "postgresql":
        sync.ledger_url, sync.name, sync.runs = postgres_url, "older", 100
    sync.published.put(kit.some_rows(4))
    sync.run()
    engine = sa.create_engine(sync.ledger_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text("drop index sync_rows_compared"))
        for gone in (
            "sync_runs drop column parked",
            "sync_runs drop column options",
            "sync_rows drop column parked_at",
        ):
            connection.execute(sa.text(f"alter table {gone}"))
    before = _columns(engine)
    # Who only looks, as a dry run does, sees it as it will be, and leaves it as it is.
    sync.published.put(kit.some_rows(4, k01=0.9))
    report = sync.run(dry_run=True)
    assert [planned.change.key for planned in report.changes] == ["k01"]
    ledger = sync.ledger(create=False)
    assert ledger.totals()[sync.name] == {"rows": 4, "failing": 0, "parked": 0, "in_doubt": 0}
    assert [(run["parked"], run["options"]) for run in ledger.runs(sync.name)] == [(0, None)]
    ledger.close()
    assert _columns(engine) == before
    # The next run brings it up to date, and goes on from what it says.
    report = sync.run()
    assert (report.counts.ok, report.counts.unchanged) == (1, 3)
    lacking = {"sync_runs": {"parked", "options"}, "sync_rows": {"parked_at"}, "sync_changes": set()}
    assert {name: found - before[name] for name, found in _columns(engine).items()} == lacking
    assert "sync_rows_compared" in {index["name"] for index in sa.inspect(engine).get_indexes("sync_rows")}
    assert sync.run().counts.unchanged == 4
    engine.dispose()


def _columns(engine: sa.Engine) -> dict[str, set[str]]:
    tables = ("sync_runs", "sync_rows", "sync_changes")
    return {table: {column["name"] for column in sa.inspect(engine).get_columns(table)} for table in tables}


def test_a_dry_run_leaves_a_ledger_that_is_there_as_it_is(sync: Any, kit: Any) -> None:
    sync.published.put(kit.some_rows(4))
    sync.run()
    before = (sync.folder / "sync.db").read_bytes()
    sync.published.put(kit.some_rows(3, k01=0.9))
    report = sync.run(dry_run=True)
    assert [(p.change.key, p.change.operation, p.differing) for p in report.changes] == [
        ("k01", "update", {"score": ("0.01", "0.9")}),
        (
            "k03",
            "retire",
            {"score": ("0.03", None), "scored_at": ("2026-03-02T05:00:00.000000Z", None), "tier": ("low", None)},
        ),
    ]
    assert (sync.folder / "sync.db").read_bytes() == before
    assert len(sync.table("sync_runs")) == 1


FAULTS = st.lists(
    st.sampled_from(
        [
            "good",
            "good",
            "refused",
            "rejected",
            "retriable",
            "503",
            "applied",
            "long",
            "401",
            "silent",
            "double",
            "fatal",
        ]
    ),
    max_size=12,
)


@given(
    days=st.lists(
        st.tuples(st.dictionaries(st.integers(0, 9), st.integers(0, 4), max_size=9), FAULTS), min_size=1, max_size=3
    ),
    batch_rows=st.integers(1, 5),
    seed=st.integers(0, 3),
)
@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_goes_wrong_counts_add_up_and_in_the_end_the_destination_is_right(
    new_sync: Any, kit: Any, tmp_path_factory: pytest.TempPathFactory, days: Any, batch_rows: int, seed: int
) -> None:
    sync = new_sync(tmp_path_factory.mktemp("faults"))
    sync.config = kit.ShelfConfig(max_attempts=100, retry={"tries": 2}, guards={"min_rows": 1000})
    sync.destination.batch_rows = batch_rows
    faults = _faults(kit, seed)
    rows: list[dict[str, Any]] = []
    for wanted, schedule in days:
        rows = [kit.row(f"k{n}", value / 4) for n, value in wanted.items()]
        sync.published.put(rows)
        sync.destination.schedule = [faults[name] for name in schedule]
        sync.run(override=True)  # asserts that the counts add up
    sync.destination.schedule = []
    assert sync.run(override=True).status == "done"
    there = {key: values["score"] for key, values in sync.destination.rows.items() if values["score"] is not None}
    assert there == {row["id"]: row["score"] for row in rows}
    assert sync.run(override=True).counts.calls == 0


def test_a_rejection_after_a_try_of_unknown_effect_leaves_the_row_in_doubt(sync: Any, kit: Any) -> None:
    sync.destination.schedule = [lambda shelf, batch: shelf.apply(batch) * 2, kit.raising(BatchRefused("400"))]
    sync.published.put(kit.some_rows(1))
    assert sync.run().counts.rejected == 1
    sync.published.put([])
    assert sync.run().counts.retired == 1
    assert sync.destination.rows["k00"]["score"] is None


def _faults(kit: Any, seed: int) -> dict[str, Any]:
    some = [f"k{seed}", f"k{seed + 3}"]
    return {
        "good": None,
        "refused": kit.raising(BatchRefused("400")),
        "rejected": kit.answering("rejected", *some),
        "retriable": kit.answering("retriable", *some),
        "503": kit.raising(Retriable("503")),
        "applied": kit.raising(Retriable("time-out"), applied=True),
        "long": kit.raising(Retriable("429", retry_after=9999)),
        "401": kit.raising(Unauthorized("401")),
        "fatal": kit.raising(Fatal("404")),
        "silent": lambda shelf, batch: [],
        "double": lambda shelf, batch: shelf.apply(batch) * 2,
    }


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_keys_can_be_erased_and_no_other_row_changes(sync: Any, kit: Any, postgres_url: str, store: str) -> None:
    if store == "postgresql":
        sync.ledger_url, sync.name, sync.runs = postgres_url, "erased", 200
    sync.published.put(kit.some_rows(4))
    sync.run()
    sync.run(full=True, keys=("k01", "k02"))
    before = [row for row in sync.table("sync_rows") if row["destination"] == sync.name]
    ledger = sync.ledger()
    assert ledger.states(sync.name, ["k01", "nobody"]) == {"k01": ("acknowledged", False, None)}
    # A row, two changes, and the run that was asked for it.
    assert ledger.mentions(sync.name, ["k01"]) == 4
    ledger.erase(sync.name, ["k01"])
    assert ledger.mentions(sync.name, ["k01"]) == 0
    ledger.erase(sync.name, ["k01"])
    ledger.close()
    after = [row for row in sync.table("sync_rows") if row["destination"] == sync.name]
    assert after == [row for row in before if row["key"] != "k01"]
    options = [row["options"] for row in sync.table("sync_runs") if row["destination"] == sync.name and row["options"]]
    assert [json.loads(text)["keys"] for text in options] == [["k02"]]
