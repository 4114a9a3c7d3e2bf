"""The sandbox company's CRM through the vendors' APIs: what is published is the same as through its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
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


def crm_block() -> str:
    """The CRM's files in the built-in configuration."""
    text = (PROJECT / "config" / "tenure.yml").read_text(encoding="utf-8")
    return text[text.index("  crm:\n") : text.index("  billing:\n")]


@pytest.fixture(scope="module")
def hubspot_home(new_home: Callable[..., Any]) -> Any:
    home = new_home("hubspot", (crm_block(), HUBSPOT))
    return home, home.must("run")


def test_the_crm_through_hubspot_gives_the_same_marts_as_through_its_files(
    world: Any, hubspot_home: Any, published_rows_of: Callable[[Path], dict[str, tuple[int, str]]]
) -> None:
    home, _ = hubspot_home
    found = published_rows_of(home.path / "serving.duckdb")
    assert found == world.first_rows


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


def test_two_crms_after_a_merger_are_one_company(new_home: Callable[..., Any]) -> None:
    """Both know the same customers by ids of their own; HubSpot comes first, and knows no countries."""
    home = new_home(
        "merger",
        (crm_block(), MERGER),
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
