"""Whatever is configured builds: one entity alone, two connectors at once, tables that are empty."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

NOTHING: dict[str, list[str]] = {
    "accounts": [],
    "contacts": [],
    "subscriptions": [],
    "invoices": [],
    "usage_events": [],
    "tickets": [],
    "survey_responses": [],
    "interactions": [],
}
INACTIVITY = {
    "definition": "inactivity",
    "active_within_days": 30,
    "lead_days": 0,
    "horizon_days": 30,
    "grace_days": 0,
    "not_churn": [],
    "activity": ["usage_events", "invoices"],
}


@pytest.mark.slow
def test_usage_alone_makes_accounts_and_tells_who_went_silent(
    new_company: Callable[..., Any], new_events: Callable[..., Any]
) -> None:
    staged = {**NOTHING, "usage_events": ["database"]}
    company = new_company(
        "usage",
        {"staged": staged, "identity_precedence": ["app"], "derive_accounts": True, "churn": INACTIVITY},
        connectors=("database",),
    )
    company.insert("usage_events", "app", new_events("alive", datetime(2024, 6, 20, 9)), connector="database")
    company.insert(
        "usage_events",
        "app",
        new_events("silent", datetime(2024, 3, 1, 9), datetime(2024, 3, 2, 9)),
        connector="database",
    )
    company.build()
    found = company.records(
        "select account_id, is_derived, created_at, lifecycle_status, mrr, tickets_open, events_28d from marts.accounts order by 1"
    )
    assert [tuple(row.values()) for row in found] == [
        ("alive", True, datetime(2024, 6, 20, 9), "customer", None, None, 1),
        ("silent", True, datetime(2024, 3, 1, 9), "churned", None, None, 0),
    ]
    assert company.value("select count(*) from marts.mrr_movements") == 0
    features = company.records(
        "select account_id, mrr, tickets_open, events_28d, days_since_last_seen, coverage_pct from features.ftr_churn_scoring"
    )
    assert [tuple(row.values()) for row in features] == [("alive", None, None, 1, 11, round(100 / 7, 6))]
    months = company.records(
        "select active_accounts, end_mrr, invoiced_amount from marts.months order by month_start_date"
    )
    assert [tuple(row.values()) for row in months] == [
        (1, None, None),
        (0, None, None),
        (0, None, None),
        (1, None, None),
    ]


@pytest.mark.slow
def test_two_connectors_are_one_company_and_empty_tables_are_no_zeros(new_company: Callable[..., Any]) -> None:
    both = {entity: ["files", "database"] for entity in NOTHING}
    company = new_company(
        "both",
        {"staged": both, "identity_precedence": ["crm", "app"], "features_enabled": False},
        connectors=("files", "database"),
    )
    company.insert("accounts", "crm", [{"account_id": "1", "domain": "acme.com", "created_at": datetime(2024, 1, 1)}])
    company.insert(
        "accounts",
        "app",
        [{"account_id": "w", "domain": "acme.com", "created_at": datetime(2024, 1, 2)}],
        connector="database",
    )
    company.insert(
        "subscriptions",
        "app",
        [{"subscription_id": "s", "account_id": "w", "mrr": 10, "started_at": datetime(2024, 1, 3)}],
        connector="database",
    )
    company.insert(
        "invoices",
        "crm",
        [{"invoice_id": "i", "account_id": "1", "amount": 10, "issued_at": datetime(2024, 1, 3)}],
    )
    company.build()
    (account,) = company.records("from marts.accounts")
    assert (account["account_id"], account["mrr"], account["invoiced_amount"]) == ("1", 10, 10)
    assert (account["events_28d"], account["tickets_open"], account["contacts"]) == (None, None, None)
    assert account["last_invoice_at"] == datetime(2024, 1, 3)
    assert company.value("select count(*) from information_schema.tables where table_schema = 'features'") == 0
