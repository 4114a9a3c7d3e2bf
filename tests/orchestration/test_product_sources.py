"""The sandbox company whose product events come from PostHog, or from Segment's exports: the marts are those of its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sandbox
from sandbox import segment

pytestmark = pytest.mark.slow

SURVEYS = """  surveys:
    connector: files
    path: ${TENURE_HOME}/sandbox/data/product
    account_source: product
    streams:
      survey_responses:
        files: surveys/*.parquet
        columns:
          response_id: id
          account_id: workspace_id
          contact_id: user_id
          kind: kind
          score: score
          responded_at: answered_at
          comment: comment

"""
POSTHOG = """  product:
    connector: posthog
    stand_in: true
    project: 1
    key: ${POSTHOG_KEY:-sandbox}
    page_rows: 50000
    stale_after_days: 7
    streams:
      groups: {columns: {crm_account_id: "properties->>'crm_id'"}}
      members:
      identities:
      events: {columns: {quantity: "properties->>'quantity'", product: "properties->>'product'"}}

"""
SEGMENT = """  product:
    connector: segment
    path: ${TENURE_HOME}/exports
    stale_after_days: 7
    streams:
      groups: {columns: {crm_account_id: "traits->>'crm_id'"}}
      memberships:
      tracks: {columns: {quantity: "properties->>'quantity'", product: "properties->>'product'"}}

"""
COMPARED = (
    "marts.accounts",
    "marts.account_days",
    "marts.account_months",
    "marts.contacts",
    "marts.mrr_movements",
    "marts.subscriptions",
    "marts.tickets",
)
"""Tables that do not say which source told a row: surveys are a source of their own here."""


@pytest.fixture(scope="module", params=["posthog", "segment"])
def home(request: pytest.FixtureRequest, new_home: Callable[..., Any], built_in_source: Callable[[str], str]) -> Any:
    block = {"posthog": POSTHOG, "segment": SEGMENT}[request.param]
    made = new_home(request.param, (built_in_source("product"), block + SURVEYS))
    if request.param == "segment":
        sandbox.generate(made.path, accounts=150, months=8, seed=7)
        assert segment.export(made.path / "sandbox" / "data" / "product", made.path / "exports")
    made.must("run")
    return made


def test_the_marts_are_those_of_the_files(
    world: Any, home: Any, published_rows_of: Callable[[Path], dict[str, tuple[int, str]]]
) -> None:
    found = published_rows_of(home.path / "serving.duckdb")
    assert {name: found[name] for name in COMPARED} == {name: world.first_rows[name] for name in COMPARED}


def test_the_doctor_says_what_each_stream_fills(home: Any) -> None:
    found = home.must("doctor", "--source", "product")
    assert {one["status"] for one in found["streams"]} <= {"ok", "warning"}
    assert {one["entity"] for one in found["streams"]} == {"accounts", "memberships", "usage_events"}


def test_another_day_passes_every_check(home: Any) -> None:
    before = home.ask("select max(activity_date) as day, count(*) as n from marts.account_days")[0]
    home.must("sandbox", "advance", "--days", "3")
    if (home.path / "exports").exists():
        assert len(segment.export(home.path / "sandbox" / "data" / "product", home.path / "exports")) == 3
    home.must("run")
    after = home.ask("select max(activity_date) as day, count(*) as n from marts.account_days")[0]
    assert (after["day"] - before["day"]).days == 3
    assert after["n"] > before["n"]
    loads = home.ask("select * from quality.loads where source = 'product' order by started_at desc limit 4")
    assert {load["status"] for load in loads} <= {"loaded", "unchanged"}
    assert sum(load["rows_inserted"] for load in loads if load["entity"] == "usage_events") > 100
