"""The sandbox company's product through Segment's exports, day by day: the same rows as from its files."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

import sandbox
from core.errors import UserError
from sandbox import segment


@pytest.mark.timeout(120)
def test_the_sandbox_product_day_by_day(company: Any, product_files: dict[str, Any]) -> None:
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
        product={"connector": "files", "path": str(product), "streams": product_files},
    )
    for day in range(2):
        if day:
            sandbox.advance(company.home, days=3)
        new = segment.export(product, company.data)
        assert len(new) == 3 if day else len(new) > 60
        reports = company.load()
        assert {report.message for report in reports.values()} == {None}
        for entity in ("accounts", "usage_events"):
            names = ", ".join(product_files[entity]["columns"])
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


def test_a_condition_that_does_not_fit_is_named_and_stops_its_stream_alone(company: Any) -> None:
    line = {
        "type": "track",
        "messageId": "m",
        "userId": "u",
        "event": "e",
        "timestamp": "2024-05-01T00:00:00Z",
        "context": {},
    }
    path = company.write("1.gz", json.dumps(line) + "\n")
    company.touch(path, -60)
    streams = {"groups": None, "memberships": None, "tracks": {"where": "typ = 'track'"}}
    company.sources(product={"connector": "segment", "path": str(company.data), "streams": streams})
    reports = company.load()
    assert {name: report.status for name, report in reports.items() if name != "tracks"} == {
        "groups": "loaded",
        "memberships": "loaded",
    }
    assert "`where` does not fit. typ = 'track': Referenced column" in reports["tracks"].message
    assert "The source has anonymousId, context, event" in reports["tracks"].message


def test_the_doctor_of_one_source_knows_the_accounts_of_another(company: Any) -> None:
    calls = [
        {"type": "group", "messageId": "g", "userId": "u", "groupId": "a", "timestamp": "2024-05-01T00:00:00Z"},
        {
            "type": "track",
            "messageId": "1",
            "userId": "u",
            "event": "e",
            "timestamp": "2024-05-02T00:00:00Z",
            "context": {},
        },
        {
            "type": "track",
            "messageId": "2",
            "userId": "w",
            "event": "e",
            "timestamp": "2024-05-02T00:00:00Z",
            "context": {},
        },
    ]
    company.touch(company.write("calls/1.gz", "".join(json.dumps(call) + "\n" for call in calls)), -60)
    company.touch(company.write("crm/1.csv", "id,made\na,2024-01-01\n"), -60)
    accounts = {"files": "*.csv", "columns": {"account_id": "id", "created_at": "made"}}
    company.sources(
        crm={"connector": "files", "path": str(company.data / "crm"), "streams": {"accounts": accounts}},
        product={
            "connector": "segment",
            "path": str(company.data / "calls"),
            "account_source": "crm",
            "streams": ["memberships", "tracks"],
        },
    )
    found = company.examine(source="product")
    assert [(one.stream, one.quarantined_by_reason) for one in found.streams] == [
        ("memberships", {}),
        ("tracks", {"unknown_user": 1}),
    ]
    assert all(one.judges_accounts for one in found.streams)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"connector": "segment", "account_source": "crm"}, "name the streams without `groups`"),
        ({"connector": "posthog", "project": 1, "key": "k"}, "either `path`, for exports, or `project` and `key`"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(company: Any, block: dict[str, Any], words: str) -> None:
    crm = {
        "connector": "files",
        "path": "crm",
        "streams": {"accounts": {"files": "*", "columns": {"account_id": "id"}}},
    }
    company.folder.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=words):
        _ = company.sources(crm=crm, product={**block, "path": str(company.data)}).tenure
