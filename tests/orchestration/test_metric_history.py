"""The metrics of an account over time: what runs added day by day is what one build of everything gives."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from core import settings
from core.warehouse import rows, scalar, warehouse
from orchestration import transform

HISTORY = "metrics.met_account_history"
NOT_COMPARED = ("facts_loaded_at", "is_sampled", "unsubscribed_pct")
"""When the newest fact was loaded, and whether a date was drawn for a training, are matters of the run. That people unsubscribed has no
date: it is known of the days of runs only, and the history keeps it."""


@pytest.fixture(scope="module")
def rebuilt(lived: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the warehouse after all runs, with the history as the runs left it (`kept.history`) and built again as a whole."""
    home = tmp_path_factory.mktemp("rebuilt")
    shutil.copy(lived["home"].path / "warehouse.duckdb", home / "warehouse.duckdb")
    tenure = settings.load(lived["home"].config, home)
    with warehouse(tenure.warehouse_path) as connection:
        connection.execute("create schema kept")
        # A build of everything looks back three years from its own date; what was kept before stays.
        oldest = f"select min(as_of_date) + 8 from {HISTORY}"
        connection.execute(f"create table kept.history as from {HISTORY} where as_of_date >= ({oldest})")
        connection.execute(f"drop table {HISTORY}")
    transform.build_without_assets(tenure)
    return tenure.warehouse_path


def test_what_runs_added_and_restated_equals_one_build_of_everything(rebuilt: Path) -> None:
    columns = f"* exclude ({', '.join(NOT_COMPARED)})"
    with warehouse(rebuilt, read_only=True) as connection:
        counted = [scalar(connection, f"select count(*) from {table}") for table in ("kept.history", HISTORY)]
        names = [row["column_name"] for row in rows(connection, f"describe {HISTORY}")]
        differing = {
            name: n
            for name in names
            if name not in (*NOT_COMPARED, "account_id", "as_of_date")
            for n in [
                scalar(
                    connection,
                    f"select count(*) from kept.history as k join {HISTORY} as h using (account_id, as_of_date)"
                    f" where k.{name} is distinct from h.{name}",
                )
            ]
            if n
        }
        assert differing == {}
        both = f"select {columns} from kept.history intersect select {columns} from {HISTORY}"
        assert counted == [scalar(connection, f"select count(*) from ({both})")] * 2
    assert counted[0] > 10_000


def test_each_of_the_last_days_is_kept_and_before_them_one_date_a_week(rebuilt: Path) -> None:
    with warehouse(rebuilt, read_only=True) as connection:
        found = [row["d"] for row in rows(connection, f"select distinct as_of_date as d from {HISTORY} order by 1")]
        as_of = scalar(connection, "select cast(as_of_at as date) from ledger.clock")
    daily = {as_of - timedelta(days=n) for n in range(90)}
    weekly = {d for n in range(400) for d in [as_of - timedelta(days=n)] if (d - date(1970, 1, 5)).days % 49 % 8 == 0}
    assert {d for d in found if d > as_of - timedelta(days=400)} == daily | weekly
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert max(gaps) <= timedelta(days=8)


def test_the_newest_date_is_what_the_customer_360_shows(lived: dict[str, Any]) -> None:
    with warehouse(lived["home"].path / "warehouse.duckdb", read_only=True) as connection:
        differing = scalar(
            connection,
            "select count(*) from marts.accounts as a join metrics.met_account_history as h on h.account_id = a.account_id"
            " and h.as_of_date = (select cast(as_of_at as date) from ledger.clock)"
            " where a.mrr is distinct from h.mrr or a.events_28d is distinct from h.events_28d"
            " or a.tickets_open is distinct from h.tickets_open",
        )
        assert (
            scalar(
                connection,
                "select count(*) from metrics.met_account_history as h"
                " where as_of_date = (select cast(as_of_at as date) from ledger.clock)",
            )
            > 100
        )
    assert differing == 0
