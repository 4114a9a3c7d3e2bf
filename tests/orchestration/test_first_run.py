"""The first run of the built-in company: what it publishes, beside the truth that the pipeline never reads."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core import warehouse


@pytest.fixture(scope="module")
def truth(world: Any) -> Any:
    """Asks SQL over the sandbox's truth: `{name}` is the list of Parquet files of that name."""

    def ask(sql: str) -> list[dict[str, Any]]:
        folder = world.home.path / "sandbox" / "truth"
        paths = {name: f"read_parquet('{folder / name}/*.parquet')" for name in ("faults", "identities", "departures")}
        with warehouse.scratch() as connection:
            return warehouse.rows(connection, sql.format(**paths))

    return ask


def test_the_run_says_that_it_is_done_and_where_the_copy_is(world: Any) -> None:
    assert (world.first["status"], world.first["exit_code"], world.first["problems"]) == ("done", 0, [])
    assert Path(world.first["published"]["path"]).exists()
    assert world.first["published"]["accounts"] > 100


def test_nothing_connects_to_anything(world: Any, refused: dict[str, str]) -> None:
    assert Path(refused["REFUSED_LOG"]).read_text(encoding="utf-8") == ""


def test_the_refusing_network_does_refuse(world: Any, refused: dict[str, str], tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    log = tmp_path / "log"
    code = "import urllib.request as u; u.urlopen('http://192.0.2.1/')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **refused, "REFUSED_LOG": str(log)}, capture_output=True
    )
    assert done.returncode != 0
    assert "192.0.2.1" in log.read_text(encoding="utf-8")


def test_every_account_of_the_truth_is_one_row_whatever_vendors_call_it(world: Any, truth: Any) -> None:
    known = {row["account_id"] for row in truth("select account_id from {identities}")}
    found = {row["account_id"]: row for row in world.home.ask("select account_id, match_rule from marts.accounts")}
    assert known <= set(found)
    # What is left over are organizations that the truth says cannot be matched.
    assert {row["match_rule"] for key, row in found.items() if key not in known} <= {"unmatched"}


def test_vendors_ids_end_at_the_account_that_the_truth_names(world: Any, truth: Any) -> None:
    # A company is in the CRM up to three weeks before the other vendors hear of it.
    identities = truth("select * from {identities}")
    settled = max(row["created_at"] for row in identities) - timedelta(days=21)
    expected = {
        (source, row[column]): row["account_id"]
        for row in identities
        if row["created_at"] < settled
        for source, column in (("billing", "customer_id"), ("support", "organization_id"), ("product", "workspace_id"))
        if row[column] is not None and row[f"{source}_match"] in ("id", "domain", "name")
    }
    found = {
        (row["source"], row["source_account_id"]): row["account_id"]
        for row in world.home.ask("select source, source_account_id, account_id from marts.account_sources")
    }
    wrong = {key: (account, found.get(key)) for key, account in expected.items() if found.get(key) != account}
    assert len(expected) > 300
    assert wrong == {}


def test_exactly_the_planted_broken_rows_are_in_quarantine(world: Any, truth: Any) -> None:
    planted = truth("select vendor, reason, count(*) as n from {faults} where kind like 'broken%' group by all")
    found = world.home.ask(
        "select source, reason, sum(rows_quarantined)::bigint as n from quality.quarantined group by all"
    )
    assert {(r["source"], r["reason"]): r["n"] for r in found} == {(r["vendor"], r["reason"]): r["n"] for r in planted}


def test_read_equals_loaded_plus_quarantined_in_every_stream(world: Any) -> None:
    loads = world.home.ask("select * from quality.loads")
    assert len(loads) == 11
    for load in loads:
        parts = ("inserted", "updated", "unchanged", "superseded", "quarantined")
        assert load["rows_read"] == sum(load[f"rows_{part}"] for part in parts), load


def test_the_accounts_that_left_are_churned_and_pay_nothing(world: Any, truth: Any) -> None:
    last = world.home.ask("select as_of_at from publication")[0]["as_of_at"]
    left = truth(
        "select account_id, max(left_at) as left_at from {departures} where reason in ('canceled', 'payment_failed')"
        f" and left_at < timestamp '{last}' group by account_id"
    )
    rows = {
        r["account_id"]: r
        for r in world.home.ask("select account_id, lifecycle_status, mrr, churned_date from marts.accounts")
    }
    gone = [row for row in left if rows[row["account_id"]]["lifecycle_status"] == "churned"]
    back = [row for row in left if rows[row["account_id"]]["lifecycle_status"] == "customer"]
    assert gone
    assert len(gone) + len(back) == len(left)
    assert all(rows[row["account_id"]]["mrr"] == 0 for row in gone)
    assert all(rows[row["account_id"]]["churned_date"] == row["left_at"].date() for row in gone)


def test_personal_columns_are_left_out_and_descriptions_are_published(world: Any) -> None:
    columns = world.home.ask(
        "select table_name, column_name, comment from duckdb_columns() where schema_name = 'marts'"
    )
    names = {(row["table_name"], row["column_name"]) for row in columns}
    assert ("accounts", "mrr") in names
    assert not names & {("accounts", "owner_email"), ("contacts", "email"), ("tickets", "subject"), ("tickets", "body")}
    assert all(row["comment"] for row in columns), [row for row in columns if not row["comment"]]


def test_the_publication_names_its_run_and_moment(world: Any) -> None:
    (row,) = world.home.ask("select * from publication")
    assert row["run_id"] == world.first["run_id"]
    assert row["publication_id"]
    assert f"{row['as_of_at']:%Y-%m-%d}" == world.first["published"]["as_of"][:10]


def test_the_checks_of_all_gates_were_recorded(world: Any) -> None:
    found = world.home.ask(
        "select boundary, count(*) as n, count(*) filter (not passed and severity = 'critical') as bad"
        " from quality.checks group by boundary"
    )
    assert {row["boundary"] for row in found} == {"raw", "marts", "scores", "activation"}
    assert all(row["n"] >= 8 and row["bad"] == 0 for row in found)
    assert (world.home.path / "data_docs" / "index.html").exists()


def test_the_run_appears_in_dagsters_instance(world: Any) -> None:
    (run,) = [r for r in world.home.must("status")["runs"] if r["run_id"] == world.first["run_id"]]
    assert (run["job"], run["status"], run["started_by"]) == ("customer_360", "done", "command")


def test_a_wide_table_is_not_squeezed(world: Any) -> None:
    answer = world.home.run("query", "select * from marts.accounts limit 2")
    header = answer.out.splitlines()[0]
    assert header.startswith("account_id ")
    assert len(header) > 400
    assert "employees" in header


def test_quarantine_can_be_asked_for_in_the_working_warehouse(world: Any) -> None:
    found = world.home.must("query", "--warehouse", "select _row, _reason, _detail from quarantine.tickets")
    assert {row["_reason"] for row in found} >= {"null_key", "unknown_account"}
    assert world.home.run("query", "select * from quarantine.tickets").code == 2


def test_a_query_reads_nothing_but_its_database(world: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter22", encoding="utf-8")
    for where in ((), ("--warehouse",)):
        answer = world.home.run("query", *where, f"from read_text('{secret}')")
        assert (answer.code, "hunter22" in answer.out + answer.err) == (2, False)
        assert "disabled" in answer.err


def test_two_statements_are_refused_and_numbers_that_json_lacks_are_null(world: Any) -> None:
    answer = world.home.run("query", "select 1; select 2")
    assert answer.code == 2
    assert "More than one statement" in answer.err
    assert world.home.must("query", "select 'nan'::double as n, 1e308 * 10 as i, 1.5::double as x") == [
        {"n": None, "i": None, "x": 1.5}
    ]
