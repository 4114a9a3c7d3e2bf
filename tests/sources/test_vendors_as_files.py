"""The sandbox company's billing and support day by day: through the vendors' APIs the same rows are loaded as from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import sandbox
from core.contract import ENTITIES
from sandbox import stripe, zendesk

PROJECT = Path(__file__).parents[2]
NOT_COMPARED = ("updated_at",)
"""When a vendor changed a row is told by its event, in a file by a column."""


def rows(company: Any, connector: str, entity: str, source: str) -> list[tuple[Any, ...]]:
    # A domain of Stripe's is that of an e-mail address, which is written in small letters. The exports name no currency.
    same = {"domain": "lower(domain)", "currency": "upper(coalesce(currency, 'USD'))"}
    names = [same.get(name, name) for name in ENTITIES[entity].column_names if name not in NOT_COMPARED]
    found: list[tuple[Any, ...]] = company.query(
        f"select {', '.join(names)} from raw_{connector}.{entity} where _source = '{source}' order by all"
    )
    return found


@pytest.mark.timeout(120)
def test_each_day_ends_in_the_same_rows(tmp_path: Path, company: Any) -> None:
    home = company.home
    sandbox.generate(home, accounts=60, months=4)
    document = yaml.safe_load((PROJECT / "config" / "tenure.yml").read_text(encoding="utf-8"))
    data = str(home / "sandbox" / "data")
    files = {
        name: {**document["sources"][name], "path": f"{data}/{name}", "stale_after_days": None}
        for name in ("billing", "support")
    }
    for day in range(3):
        if day:
            sandbox.advance(home, days=2)
        with stripe.running(home) as billing, zendesk.running(home) as support:
            company.sources(
                **files,
                stripe={"connector": "stripe", "base_url": billing, "key": stripe.KEY, "requests_per_second": 1000},
                zendesk={
                    "connector": "zendesk",
                    "base_url": support,
                    "email": zendesk.EMAIL,
                    "token": zendesk.TOKEN,
                    "exports_per_minute": 6000,
                    "streams": {
                        "organizations": None,
                        "tickets": {"columns": {"csat": "custom_field(custom_fields, 360001)"}},
                    },
                },
            )
            company.load()
        for vendor, source, entities in (
            ("stripe", "billing", ("accounts", "subscriptions", "invoices")),
            ("zendesk", "support", ("accounts", "tickets")),
        ):
            for entity in entities:
                read = rows(company, vendor, entity, vendor)
                assert len(read) > 10
                assert read == rows(company, "files", entity, source), (day, entity)
