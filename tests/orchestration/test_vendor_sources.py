"""The sandbox company's billing and support through the vendors' APIs: what is published is the same as through its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
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

"""


def block(name: str, following: str) -> str:
    """A source of the built-in configuration."""
    text = (PROJECT / "config" / "tenure.yml").read_text(encoding="utf-8")
    return text[text.index(f"  {name}:\n    connector") : text.index(f"  {following}:\n    connector")]


@pytest.fixture(scope="module")
def home(new_home: Callable[..., Any]) -> Any:
    """A company whose billing is Stripe and whose support is Zendesk, after its first run."""
    made = new_home("vendors", (block("billing", "support"), BILLING), (block("support", "product"), SUPPORT))
    made.must("run")
    return made


def test_billing_and_support_through_apis_give_the_same_marts_as_through_files(
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
    ]
    assert "Invoices and Events" in found["streams"][2]["needs"]
    shown = home.run("doctor", "--source", "billing")
    assert "a key that may read Customers and Events" in shown.out
    assert home.run("doctor", "--source", "erp").code == 2
