"""The built models say the right things about three small companies."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest


@pytest.fixture(scope="module")
def accounts(built: Any) -> dict[str, dict[str, Any]]:
    return {row["account_id"]: row for row in built.records("from marts.accounts")}


def test_records_of_four_sources_become_one_account_each(built: Any, accounts: dict[str, dict[str, Any]]) -> None:
    assert set(accounts) == {"1", "2", "billing:b3"}
    matched = built.records("select source, source_account_id, account_id, match_rule from marts.account_sources")
    assert {(r["source"], r["source_account_id"], r["account_id"], r["match_rule"]) for r in matched} == {
        ("crm", "1", "1", "primary"),
        ("crm", "2", "2", "primary"),
        ("billing", "b1", "1", "id"),
        ("billing", "b2", "2", "name"),
        ("billing", "b3", "billing:b3", "unmatched"),
        ("product", "w1", "1", "domain"),
    }
    assert built.value("select source_account_id from intermediate.int_accounts_unmatched") == "b3"


def test_the_happy_account_has_its_numbers(accounts: dict[str, dict[str, Any]]) -> None:
    acme = accounts["1"]
    assert acme["lifecycle_status"] == "customer"
    assert (acme["plan"], acme["mrr"], acme["arr"]) == ("max", Decimal("150.00"), Decimal("1800.00"))
    assert (acme["customer_since_date"], acme["tenure_days"]) == (date(2023, 1, 10), 538)
    assert (acme["events_28d"], acme["events_prev_28d"], acme["active_users_28d"]) == (3, 1, 2)
    assert (acme["seats"], acme["seat_use_28d_pct"]) == (5, 40.0)
    assert acme["events_trend_28d_pct"] is None  # It has used the product for less than 56 days.
    assert acme["last_seen_at"] == datetime(2024, 6, 28, 10)
    assert (acme["tickets_open"], acme["oldest_open_ticket_days"]) == (1, 11)
    assert (acme["unpaid_amount"], acme["overdue_amount"], acme["failed_payments_90d"]) == (
        Decimal("150.00"),
        Decimal("150.00"),
        2,
    )
    assert acme["has_champion"] is True
    assert acme["sources"] == "billing, crm, product"


def test_what_nobody_measures_is_null_and_said_so(accounts: dict[str, dict[str, Any]]) -> None:
    unknown = accounts["billing:b3"]
    assert (unknown["lifecycle_status"], unknown["mrr"]) == ("trial", Decimal("0.00"))
    assert (unknown["has_usage_data"], unknown["events_28d"], unknown["last_seen_at"]) == (False, None, None)
    assert (unknown["has_ticket_data"], unknown["tickets_open"]) == (False, None)
    assert unknown["coverage_pct"] == pytest.approx(100 * 2 / 7)
    assert (accounts["1"]["has_survey_data"], accounts["1"]["nps_last_score"]) == (False, None)


def test_the_lost_account_is_lost_on_the_day_its_contract_ended(accounts: dict[str, dict[str, Any]]) -> None:
    bolt = accounts["2"]
    assert (bolt["lifecycle_status"], bolt["churned_date"], bolt["mrr"]) == (
        "churned",
        date(2024, 5, 20),
        Decimal("0.00"),
    )


def test_the_months_say_who_stayed(built: Any) -> None:
    (may,) = built.records("from marts.months where month_start_date = date '2024-05-01'")
    assert (may["start_mrr"], may["churn_mrr"], may["end_mrr"]) == (210, -60, 150)
    assert may["nrr_pct"] == may["grr_pct"] == pytest.approx(100 * 150 / 210)
    assert may["logo_churn_pct"] == 50.0


def test_the_timeline_tells_the_journey_in_order(built: Any) -> None:
    told = built.records("select kind from marts.account_timeline where account_id = '1' order by event_at, kind")
    assert [row["kind"] for row in told] == [
        "signup",
        "mrr_movement",
        "subscription_started",
        "contact_joined",
        "mrr_movement",
        "plan_changed",
        "feature_first_used",
        "invoice_issued",
        "payment_failed",
        "invoice_overdue",
        "ticket_opened",
        "feature_first_used",
    ]


def test_the_timeline_tells_each_event_once(built: Any) -> None:
    told = built.records("select kind, count(*) as n from marts.account_timeline group by kind")
    counts = {row["kind"]: row["n"] for row in told}
    starts = (
        "subscription_started",
        "subscription_renewed",
        "plan_changed",
        "seats_changed",
        "trial_started",
        "trial_converted",
    )
    for kinds, mart in (
        (starts, "subscriptions"),
        (("signup",), "accounts"),
        (("mrr_movement",), "mrr_movements"),
        (("invoice_issued", "credit_note_issued"), "invoices"),
        (("ticket_opened",), "tickets"),
        (("contact_joined",), "contacts"),
    ):
        assert sum(counts.get(kind, 0) for kind in kinds) == built.value(f"select count(*) from marts.{mart}")


def test_every_data_test_ran_and_passed(built: Any) -> None:
    tests = {name: status for name, status in built.results().items() if name.startswith("test.")}
    assert {"test.tenure.facts_reconcile", "test.tenure.mrr_reconciles", "test.tenure.waterfall_reconciles"} <= set(
        tests
    )
    assert set(tests.values()) == {"pass"}


def test_every_business_rule_holds_in_its_unit_test(built: Any) -> None:
    built.dbt("test", "--select", "test_type:unit")
    results = built.results()
    assert len(results) >= 35
    assert set(results.values()) == {"pass"}
