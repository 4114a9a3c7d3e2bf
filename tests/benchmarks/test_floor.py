"""The hand-written script of the benchmarks makes the same marts as the pipeline, faults and all.

Two people who solve one task on their own seldom make the same mistake: this is the widest test of correctness there is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables, tasks
from core import warehouse

SCRIPT = tasks.FLOOR.read_text(encoding="utf-8")


def script(home: Any, out: Path, sql: str = SCRIPT) -> Path:
    """The marts that the script makes of a sandbox company's files."""
    with warehouse.warehouse(out) as connection:
        connection.execute(f"set variable data = {warehouse.literal(str(home.path / 'sandbox' / 'data'))}")
        connection.execute(sql)
    return out


def test_the_script_and_the_pipeline_make_the_same_marts(world: Any, tmp_path: Path) -> None:
    assert world.first["published"]["quarantined"]
    found = tables.compare_marts(world.home.path / "warehouse.duckdb", script(world.home, tmp_path / "floor.duckdb"))
    assert {c.table: c.differing for c in found} == {
        name.removeprefix("marts."): () for name in world.first_rows if name.startswith("marts.")
    }
    assert all(c.is_equal and c.rows > 0 for c in found)


@pytest.mark.parametrize(
    ("written", "meant", "table"),
    [
        ("where event_id not in (select event_id from repeated_events)", "where true", "account_days"),
        ("when delta > 0 then 'expansion'", "when delta > 100 then 'expansion'", "mrr_movements"),
        ("count(user_id) as active_users", "count(user_id)::integer as active_users", "account_days"),
    ],
)
def test_a_script_that_does_something_else_is_told_apart(
    world: Any, tmp_path: Path, written: str, meant: str, table: str
) -> None:
    assert written in SCRIPT
    other = script(world.home, tmp_path / "floor.duckdb", SCRIPT.replace(written, meant))
    found = {c.table: c for c in tables.compare_marts(world.home.path / "warehouse.duckdb", other)}
    assert not found[table].is_equal
