"""The sandbox company through its vendors' APIs: what is published is the same as through its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

HUBSPOT = """  crm:
    connector: hubspot
    stand_in: true
    token: ${HUBSPOT_TOKEN:-sandbox}
    stale_after_days: 7
    streams:
      # What an administrator of the sandbox company has added to HubSpot: a segment, a role, and titles where there are none.
      companies: {columns: {segment: segment}}
      contacts: {columns: {role: role, left_at: left_company_date}}
      emails:
      meetings: {columns: {direction: lower(direction)}}
      calls:
      notes: {columns: {direction: lower(direction), subject: subject}}

"""
BILLING = """  billing:
    connector: stripe
    stand_in: true
    key: ${STRIPE_KEY:-sandbox}
    stale_after_days: 7

"""
SUPPORT = """  support:
    connector: zendesk
    stand_in: true
    email: agent@sandbox.example
    token: ${ZENDESK_TOKEN:-sandbox}
    stale_after_days: 7
    streams:
      organizations:
      # The sandbox company asks for one to five, in a field of its own.
      tickets: {columns: {csat: "custom_field(custom_fields, 360001)"}}
      # The CRM logs what is said, and the product asks for opinions: the support desk has neither.
      comments:
      satisfaction_ratings:

"""


@pytest.fixture(scope="module")
def home(new_home: Callable[..., Any], built_in_source: Callable[[str], str]) -> Any:
    """A company whose CRM is HubSpot, whose billing is Stripe and whose support is Zendesk, after its first run."""
    blocks = {"crm": HUBSPOT, "billing": BILLING, "support": SUPPORT}
    made = new_home("vendors", *((built_in_source(name), text) for name, text in blocks.items()))
    made.must("run")
    return made


def test_crm_billing_and_support_through_apis_give_the_same_marts_as_through_files(
    world: Any, home: Any, published_rows_of: Callable[[Path], dict[str, tuple[int, str]]]
) -> None:
    assert published_rows_of(home.path / "serving.duckdb") == world.first_rows


def test_what_was_asked_of_a_vendor_is_published(home: Any) -> None:
    found = home.ask("select source, stream, requests, quota from quality.loads where source in ('billing', 'support')")
    asked = {f"{row['source']}/{row['stream']}": row for row in found}
    assert asked["billing/subscriptions"]["requests"] >= 4
    assert "requests left this minute" in asked["support/tickets"]["quota"]
    assert home.ask("select * from quality.drift") == []


def test_the_doctor_tries_one_page_of_each_stream_of_a_source(home: Any) -> None:
    found = home.must("doctor", "--source", "billing")
    assert [(one["stream"], one["status"], one["rows_read"]) for one in found["streams"]] == [
        ("customers", "ok", 100),
        ("subscriptions", "ok", 100),
        ("invoices", "warning", 100),
        # The sandbox company bills everything by invoice, and pays nothing back.
        ("charges", "warning", 0),
        ("refunds", "warning", 0),
    ]
    assert "Invoices and Events" in found["streams"][2]["needs"]
    shown = home.run("doctor", "--source", "billing")
    assert "a key that may read Customers and Events" in shown.out
    assert home.run("doctor", "--source", "erp").code == 2


MERGER = (
    HUBSPOT.replace("{columns: {segment: segment}}", "{columns: {segment: segment, country:}}")
    + """  acquired:
    connector: salesforce
    stand_in: true
    client_id: ${SALESFORCE_CLIENT_ID:-sandbox}
    client_secret: ${SALESFORCE_CLIENT_SECRET:-sandbox}
    streams:
      accounts: {columns: {name: upper(Name)}}
      contacts:
      tasks:
      events:

"""
)


def test_two_crms_after_a_merger_are_one_company(
    new_home: Callable[..., Any], built_in_source: Callable[[str], str]
) -> None:
    """Both know the same customers by ids of their own; HubSpot comes first, and knows no countries."""
    home = new_home(
        "merger",
        (built_in_source("crm"), MERGER),
        ("precedence: [crm, billing,", "precedence: [crm, acquired, billing,"),
        accounts=80,
        months=4,
    )
    home.must("run")
    rules = home.ask(
        "select match_rule, count(*) as n, count(distinct account_id) as accounts from marts.account_sources"
        " where source = 'acquired' and not is_merged group by 1"
    )
    matched = sum(row["n"] for row in rules if row["match_rule"] in ("domain", "name"))
    assert matched >= 0.95 * sum(row["n"] for row in rules) > 70
    assert {"domain", "name"} <= {row["match_rule"] for row in rules}
    both = home.ask(
        "select account_name, country, crm_account_id, crm_records, acquired_records from marts.accounts as a"
        " left join (select account_id, count(*) filter (source = 'crm') as crm_records,"
        " count(*) filter (source = 'acquired') as acquired_records from marts.account_sources group by 1) using (account_id)"
        " where crm_records > 0 and acquired_records > 0"
    )
    assert len(both) == matched
    assert all(row["country"] for row in both)
    assert sum(row["account_name"] != row["account_name"].upper() for row in both) > 0.9 * len(both)
    assert all(row["crm_account_id"].isdigit() for row in both)
