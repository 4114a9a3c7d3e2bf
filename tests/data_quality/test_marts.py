"""The gate of the marts, on marts with and without planted faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.warehouse import scratch
from data_quality.checks import CheckResult, blocking_failures, catalogue
from data_quality.marts import MARTS

MODELS = Path(__file__).parents[2] / "models" / "marts" / "_marts__models.yml"


def failures(results: Iterable[CheckResult], key: str) -> list[CheckResult]:
    """The failing results of the check `table.name`."""
    return [result for result in results if f"marts.{key}" == f"{result.table}.{result.name}" and not result.passed]


def results_of(results: Iterable[CheckResult], key: str) -> list[CheckResult]:
    return [result for result in results if f"marts.{key}" == f"{result.table}.{result.name}"]


def said(results: Iterable[CheckResult]) -> str:
    return "\n".join(result.message for result in results)


# --- what is promised ---------------------------------------------------------------------------------------------


def documented() -> dict[str, dict[str, str]]:
    models = yaml.safe_load(MODELS.read_text(encoding="utf-8"))["models"]
    # A company's own metrics are columns that nobody knows before metrics.yml does: none is promised.
    return {
        m["name"]: {c["name"]: c["data_type"].replace("string", "varchar") for c in m["columns"]}
        for m in models
        if m["name"] != "account_metrics"
    }


def test_the_promised_columns_are_those_that_the_models_document() -> None:
    promised = {mart.name: {column.name: column.sql_type for column in mart.rule.columns} for mart in MARTS}
    assert promised == documented()


def test_every_number_has_a_limit_unless_it_may_be_anything() -> None:
    free = {
        f"{mart.name}.{column.name}"
        for mart in MARTS
        for column in mart.rule.columns
        if column.sql_type in ("bigint", "double", "decimal(18,2)") and not column.has_limits
    }
    assert free == {
        "accounts.invoiced_amount",
        "invoices.amount",
        "invoices.original_amount",
        "mrr_movements.mrr_delta",
        "months.invoiced_amount",
        "account_days.quantity",
        "account_timeline.amount",
    }


def test_every_table_that_names_an_account_refers_to_the_accounts() -> None:
    for mart in MARTS:
        names_one = any(column.name == "account_id" for column in mart.rule.columns)
        assert mart.refers_to_accounts == (names_one and mart.name != "accounts")


# --- nothing wrong ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(shared_companies: Any) -> Any:
    company = shared_companies.built(stale_after_days={"product": 3})
    company.results = company.check_marts()
    return company


def test_marts_without_faults_pass_every_check(good: Any) -> None:
    assert said(result for result in good.results if not result.passed) == ""
    assert {f"{result.table}.{result.name}" for result in good.results} == {
        spec.key for spec in catalogue(good.config) if spec.boundary == "marts"
    }


def test_every_sum_is_compared_in_marts_that_have_rows(good: Any) -> None:
    for mart in MARTS:
        if mart.sums:
            observed = results_of(good.results, f"{mart.name}.sums")[0].observed
            assert all(identity.says in observed for identity in mart.sums), observed


def test_marts_of_a_company_that_measures_nothing_pass_as_not_measured(companies: Any) -> None:
    company = companies.unfilled(streams={"shop": ("accounts", "usage_events")})
    company.execute(
        "insert into marts.accounts (account_id, as_of_date, leading_source, account_sources, sources, match_rule, is_derived,"
        " created_at, lifecycle_status, is_customer, coverage_pct, has_contact_data, has_subscription_data, has_invoice_data,"
        " has_usage_data, has_ticket_data, has_survey_data, has_interaction_data) values ('a1', date '2024-07-01', 'shop', 1,"
        " 'shop', 'primary', false, timestamp '2023-01-01', 'prospect', false, 0, false, false, false, false, false, false, false)"
    )
    company.execute("insert into marts.account_sources values ('shop', 'a1', 'a1', 'primary', false, false, true)")
    results = company.check_marts()
    assert said(result for result in results if not result.passed) == ""
    for key in ("subscriptions.ranges", "months.sums", "tickets.complete", "invoices.keys_unique"):
        assert [result.measured for result in results_of(results, key)] == [False], key


# --- one fault each -----------------------------------------------------------------------------------------------

FAULTS = {
    "accounts.required": ("leading_source", "update marts.accounts set leading_source = null where account_id = 'a2'"),
    "accounts.accepted_values": (
        "lifecycle_status",
        "update marts.accounts set lifecycle_status = 'gone' where account_id = 'a2'",
    ),
    "accounts.ranges": ("nps_last_score", "update marts.accounts set nps_last_score = 11 where account_id = 'a2'"),
    "accounts.sums": (None, "update marts.accounts set arr = 1201 where account_id = 'a2'"),
    "accounts.built": (
        "as_of_date",
        "update marts.accounts set as_of_date = date '2024-06-30' where account_id = 'a2'",
    ),
    "accounts.personal": ("industry", "update marts.accounts set industry = 'eve@example.com' where account_id = 'a2'"),
    "account_sources.accepted_values": (
        "match_rule",
        "update marts.account_sources set match_rule = 'guess' where account_id = 'a2'",
    ),
    "contacts.references": ("account_id", "update marts.contacts set account_id = 'nobody'"),
    "subscriptions.ranges": (
        "ended_at",
        "update marts.subscriptions set ended_at = timestamp '2024-08-01' where account_id = 'a2'",
    ),
    "invoices.keys_unique": (
        "invoice_id",
        "insert into marts.invoices select * replace (0 as amount) from marts.invoices where account_id = 'a2'",
    ),
    "tickets.ranges": ("solved_at", "update marts.tickets set solved_at = timestamp '2024-06-01'"),
    "mrr_movements.sums": (None, "update marts.mrr_movements set mrr_delta = 99 where account_id = 'a2'"),
    "account_months.sums": (
        None,
        "update marts.account_months set start_mrr = 90, expansion_mrr = 10"
        " where account_id = 'a2' and month_start_date = date '2024-06-01'",
    ),
    "months.ranges": ("grr_pct", "update marts.months set grr_pct = 101 where start_mrr > 0"),
    "months.sums": (None, "update marts.months set invoiced_amount = 31 where start_mrr > 0"),
    "account_days.required": (
        "events",
        "update marts.account_days set events = null where activity_date = date '2024-06-24'",
    ),
    "account_timeline.accepted_values": ("kind", "update marts.account_timeline set kind = 'rumour'"),
    "source_freshness.freshness": (None, "update marts.source_freshness set newest_fact_days = 9"),
}
"""By check: the column it is about, and what breaks it."""

FOLLOWING = {
    # What breaks with it, because the same number is told in two places.
    "accounts.sums": 3,  # ARR; MRR of the movements; events of the days
    "account_months.sums": 2,  # the chain; the movements
}


@pytest.fixture(scope="module")
def broken(shared_companies: Any) -> Any:
    company = shared_companies.built(stale_after_days={"product": 3})
    for _, statement in FAULTS.values():
        company.execute(statement)
    company.results = company.check_marts()
    return company


@pytest.mark.parametrize("key", FAULTS)
def test_a_planted_fault_is_found_and_told(broken: Any, key: str) -> None:
    column, _ = FAULTS[key]
    found = failures(broken.results, key)
    assert len(found) == FOLLOWING.get(key, 1), said(found)
    for result in found:
        assert result.column == column
        assert result.blocks == (key.rpartition(".")[2] not in ("personal", "freshness"))
        assert result.unexpected_count >= 1
        assert result.observed
        assert result.expected
        assert result.message.startswith(f"marts.{key.partition('.')[0]}")


def test_nothing_but_the_planted_faults_is_found(broken: Any) -> None:
    found = Counter(f"{r.table.removeprefix('marts.')}.{r.name}" for r in broken.results if not r.passed)
    assert found == {key: FOLLOWING.get(key, 1) for key in (*FAULTS, "invoices.complete", "account_days.complete")}


def test_a_failing_sum_names_the_rows_that_are_off(broken: Any) -> None:
    found = failures(broken.results, "accounts.sums")
    assert {result.sample for result in found} == {("a2",), ("a1",)}
    assert any("ARR is twelve times MRR, but 1 of 3 are off, by up to 1.00" in result.message for result in found)


def test_a_missing_column_is_told_and_blocks(companies: Any) -> None:
    company = companies.built()
    company.execute("alter table marts.tickets drop csat")
    company.execute("drop table marts.account_timeline")
    results = company.check_marts()
    assert [(r.column, r.observed) for r in failures(results, "tickets.schema")] == [("csat", "missing")]
    assert len(failures(results, "account_timeline.schema")) == 7
    assert {(r.table, r.name) for r in blocking_failures(results)} == {
        ("marts.tickets", "schema"),
        ("marts.account_timeline", "schema"),
    }


def test_marts_without_accounts_are_refused(companies: Any) -> None:
    results = companies.unfilled().check_marts()
    assert [r.name for r in blocking_failures(results)] == ["not_empty"]


# --- from raw to mart ---------------------------------------------------------------------------------------------


def test_a_mart_that_lost_rows_is_refused(companies: Any) -> None:
    company = companies.built()
    tickets = [
        {"ticket_id": "late", "account_id": "a1", "opened_at": companies.AS_OF - timedelta(seconds=1)},
        {"ticket_id": "tomorrow", "account_id": "a1", "opened_at": companies.AS_OF},
    ]
    company.deliver("support", "tickets", tickets)
    found = failures(company.check_marts(), "tickets.complete")
    assert ["1 facts are missing from the mart: it holds 1" in result.message for result in found] == [True]
    assert found[0].blocks


def test_a_mart_that_doubled_rows_is_refused(companies: Any) -> None:
    company = companies.built()
    company.execute("update marts.account_days set events = 2 where activity_date = date '2024-06-24'")
    found = failures(company.check_marts(), "account_days.complete")
    assert ["1 facts are too many in the mart: it holds 8" in result.message for result in found] == [True]


# --- against the run before ---------------------------------------------------------------------------------------


def shrink(company: Any) -> None:
    for mart in MARTS:
        if mart.refers_to_accounts:
            company.execute(f"delete from {mart.table} where account_id <> 'a3'")
    company.execute("delete from marts.accounts where account_id <> 'a3'")
    company.execute("delete from marts.months")
    for entity in ("contacts", "subscriptions", "invoices", "tickets", "usage_events"):
        company.execute(f"delete from raw_files.{entity} where account_id <> 'a3'")


def test_accounts_that_collapse_are_refused_until_the_fall_is_accepted(companies: Any) -> None:
    company = companies.built()
    day = timedelta(days=1)
    assert blocking_failures(company.check_marts("run1")) == []
    shrink(company)
    for n in (2, 3):
        found = failures(company.check_marts(f"run{n}", companies.NOW + n * day), "accounts.not_collapsed")
        assert [result.column for result in found] == [None, "mrr"]
        assert "fell to 1 from 3" in found[0].message
    usual, company.config = company.config, companies.empty(quality={"min_kept_share": 0}).config
    assert blocking_failures(company.check_marts("run4", companies.NOW + 4 * day)) == []
    company.config = usual
    assert failures(company.check_marts("run5", companies.NOW + 5 * day), "accounts.not_collapsed") == []


def test_a_replay_of_an_earlier_date_is_not_compared_with_a_later_one(companies: Any) -> None:
    company = companies.built()
    company.check_marts("run1")
    shrink(company)
    earlier = companies.AS_OF - timedelta(days=1)
    company.execute("update ledger.clock set as_of_at = ?", earlier)
    company.execute("update marts.accounts set as_of_date = ?", earlier.date())
    compared = results_of(company.check_marts("replay"), "accounts.not_collapsed")
    assert [(result.passed, result.measured) for result in compared] == [(True, False)]


def test_checking_a_run_again_replaces_its_results(companies: Any) -> None:
    company = companies.built()
    first = company.check_marts("run1")
    assert company.check_marts("run1") == first
    assert company.query("select count(*) from quality.checks") == [(len(first),)]
    assert company.query("select count(*) from quality.measures where measure = 'mrr'") == [(1,)]


# --- what is published --------------------------------------------------------------------------------------------


def test_a_personal_column_that_is_not_left_out_is_shown(companies: Any) -> None:
    company = companies.built(publish={"exclude_columns": ["contacts.email", "tickets.subject"]})
    found = [result for result in company.check_marts() if result.name == "personal" and not result.passed]
    assert [(result.table, result.column, result.severity) for result in found] == [
        ("marts.accounts", "owner_email", "warning")
    ]
    assert "Add accounts.owner_email to publish.exclude_columns" in found[0].message


@pytest.mark.parametrize("entry", ["contacts.e_mail", "contact.email", "email"])
def test_a_misspelt_column_to_leave_out_is_refused(companies: Any, entry: str) -> None:
    company = companies.built(publish={"exclude_columns": [entry]})
    blocking = blocking_failures(company.check_marts())
    assert [(result.name, result.observed) for result in blocking] == [("exclusions", entry)]


def test_the_clock_is_cut_to_midnight_as_the_models_cut_it(companies: Any) -> None:
    company = companies.built()
    company.execute("update ledger.clock set as_of_at = as_of_at + interval 9 hour")
    assert failures(company.check_marts(), "accounts.built") == []


def test_every_sum_can_be_asked_of_empty_marts() -> None:
    with scratch() as connection:
        connection.execute("create schema marts")
        for mart in MARTS:
            connection.execute(
                f"create table {mart.table} ({', '.join(f'{c.name} {c.sql_type}' for c in mart.rule.columns)})"
            )
        for mart in MARTS:
            for identity in mart.sums:
                assert connection.execute(identity.sql).fetchall() == []
