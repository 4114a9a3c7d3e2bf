"""The sandbox company's product through Segment's exports, day by day: the same rows as from its files."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

import sandbox
from sandbox import segment

FILES = {
    "accounts": {
        "files": "workspaces/*.parquet",
        "columns": {
            "account_id": "id",
            "name": "name",
            "domain": "domain",
            "created_at": "created_at",
            "crm_account_id": "crm_id",
        },
    },
    "usage_events": {
        "files": "events/*.parquet",
        "columns": {
            "event_id": "event_id",
            "account_id": "workspace_id",
            "user_id": "user_id",
            "event_name": "event",
            "occurred_at": "timestamp",
            "quantity": "quantity",
            "product": "product",
        },
    },
}


@pytest.mark.timeout(120)
def test_the_sandbox_product_day_by_day(company: Any) -> None:
    sandbox.generate(company.home, accounts=40, months=3)
    product = company.home / "sandbox" / "data" / "product"
    own = {"quantity": "properties->>'quantity'", "product": "properties->>'product'"}
    company.sources(
        segment={
            "connector": "segment",
            "path": str(company.data),
            "streams": {
                "groups": {"columns": {"crm_account_id": "traits->>'crm_id'"}},
                "memberships": None,
                "tracks": {"columns": own},
            },
        },
        product={"connector": "files", "path": str(product), "streams": FILES},
    )
    for day in range(2):
        if day:
            sandbox.advance(company.home, days=3)
        new = segment.export(product, company.data)
        assert len(new) == 3 if day else len(new) > 60
        reports = company.load()
        assert {report.message for report in reports.values()} == {None}
        for entity in ("accounts", "usage_events"):
            names = ", ".join(FILES[entity]["columns"])
            asked = f"select {names} from raw_{{}}.{entity} order by all"
            rows = company.query(asked.format("segment"))
            assert len(rows) >= 40
            assert rows == company.query(asked.format("files")), (day, entity)
        by_user, visitors = company.query(
            "select count(*) filter (_is_by_user), count(*) filter (user_id like 'anon%') from raw_segment.usage_events"
        )[0]
        assert by_user > 0.08 * reports["tracks"].rows_read
        assert visitors == 0
    assert {report.status for report in company.load().values()} == {"unchanged"}
    lines = [json.loads(line) for path in new for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert {line["type"] for line in lines} >= {"track", "group"}
