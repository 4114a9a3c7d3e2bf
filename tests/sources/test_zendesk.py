"""Zendesk as a source: what only it does; what all vendors do is in `test_vendor_contract.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.serve import serving
from sandbox.zendesk import EMAIL, TOKEN, ZendeskStandIn

ORGANIZATIONS = [
    {
        "id": n,
        "name": f"Org {n}",
        "domain_names": [f"org{n}.example", "x.example"],
        "external_id": None,
        "created_at": "2024-01-01T00:00:00Z",
        "updated_at": f"2024-01-0{n}T00:00:00Z",
    }
    for n in (1, 2, 3)
]


def ticket(number: int, **values: Any) -> dict[str, Any]:
    return {
        "id": number,
        "organization_id": 1,
        "subject": f"Ticket {number}",
        "description": "Help",
        "priority": "high",
        "status": "open",
        "custom_fields": [{"id": 360001, "value": "4"}],
        "satisfaction_rating": {"score": "good"},
        "created_at": "2024-02-01T10:00:00Z",
        "updated_at": f"2024-02-{number:02d}T10:00:00Z",
        "_metrics": {"reply_time_in_minutes": {"calendar": 90}, "reopens": 2, "solved_at": "2024-02-03T10:00:00Z"},
        **values,
    }


@pytest.fixture
def desk(company: Any) -> Iterator[ZendeskStandIn]:
    standin = ZendeskStandIn(exports=10_000)
    standin.put("organizations", ORGANIZATIONS)
    with serving(standin) as url:
        company.sources(
            support={
                "connector": "zendesk",
                "base_url": url,
                "email": EMAIL,
                "token": TOKEN,
                "exports_per_minute": 10_000,
                "retry": {"first_seconds": 0.01, "tries": 3},
            },
            # A configuration needs facts that a support desk does not have.
            product={
                "connector": "files",
                "path": str(company.data),
                "account_source": "support",
                "streams": {
                    "usage_events": {
                        "files": "*.csv",
                        "columns": {"account_id": "a", "event_name": "e", "occurred_at": "t"},
                    }
                },
            },
        )
        company.write("events.csv", "a,e,t\n1,login,2024-02-01\n")
        yield standin


def test_tickets_carry_their_metrics_and_rating(company: Any, desk: ZendeskStandIn) -> None:
    desk.put("tickets", [ticket(1)])
    company.load()
    found = company.query(
        "select ticket_id, account_id, cast(first_response_at as varchar), cast(solved_at as varchar), csat, reopens"
        " from raw_zendesk.tickets"
    )
    assert found == [("1", "1", "2024-02-01 11:30:00", "2024-02-03 10:00:00", 5.0, 2)]
