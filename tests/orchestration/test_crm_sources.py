"""The sandbox company's CRM through the vendors' APIs: what is published is the same as through its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
