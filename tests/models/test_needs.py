"""What cannot be measured is NULL, in every mart and every metric: 0 is a measurement.

Each metric says in the `meta` of its column what the sources of an account must deliver (`needs`). Here each of these is taken away from
a company that has everything: no metric that needs it may be a number, and all others stay as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
import yaml

from core.contract import ENTITIES
from core.settings import PROJECT_ROOT
from core.warehouse import rows

AS_OF = datetime(2024, 7, 1)
Facts = dict[str, list[dict[str, Any]]]


def ago(days: float) -> datetime:
    return AS_OF - timedelta(days=days)


def _needs() -> dict[tuple[str, str], tuple[frozenset[str], ...]]:
    """What each metric needs, by table and column: of each group of columns one is enough."""
    found = {}
    for step, only in (("marts", None), ("metrics", "met_accounts")):
        document = yaml.safe_load((PROJECT_ROOT / "models" / step / f"_{step}__models.yml").read_text(encoding="utf-8"))
        for model in document["models"]:
            for column in model["columns"] if only in (None, model["name"]) else ():
                needs = column.get("config", {}).get("meta", {}).get("needs", ())
                if needs:
                    groups = tuple(frozenset(need.split(" or ")) for need in needs)
                    found[f"{step}.{model['name']}", column["name"]] = groups
    return found


NEEDS = _needs()
COLUMNS = sorted({"|".join(sorted(group)) for groups in NEEDS.values() for group in groups if "." in "".join(group)})
FAMILIES = sorted(set(ENTITIES) - {"accounts", "memberships"})
QUICK = {
    "usage_events.user_id",
    "tickets.solved_at|tickets.status",
    "invoices.due_at",
    "interactions.direction",
    "contacts.role",
    "survey_responses.kind",
}
UNSEEN = {"next_started_at", "next_mrr", "churned_date"}
"""The next contract, which no account here has signed, and the day of a loss, which none had."""
INFLUENCE = {
    # How long a subscription runs decides what MRR there is, and what it pays at any time.
    "subscriptions.ended_at": {"subscriptions"},
    # Without a date nobody has left.
    "contacts.left_at": {"contacts"},
    # Which invoices are void is a matter of the status, and a ticket may be closed without a date.
    "invoices.paid_at": {"invoices"},
    "tickets.solved_at": {"tickets"},
}
"""Columns that also shape metrics which can be measured without them: the entities whose metrics may differ."""


def company() -> Facts:
    """One company with two accounts, of which every column of every entity is filled; nothing is simultaneous."""
    facts: Facts = {entity: [] for entity in FAMILIES} | {"accounts": []}
    for n, account in enumerate(("1", "2")):
        facts["accounts"].append(
            {"account_id": account, "name": f"Company {account}", "created_at": ago(400), "owner_email": "ann@us.com"}
            | {"country": "NO", "industry": "fish", "segment": "SMB", "employees": 9}
        )
        for key, role, left in (("a", "Champion", None), ("b", "Champion", 40 + n), ("c", "user", 20 + n)):
            facts["contacts"].append(
                {"contact_id": f"{account}{key}", "account_id": account, "email": f"{key}@{account}.com", "role": role}
                | {"created_at": ago(390), "is_unsubscribed": key == "a", "left_at": left and ago(left)}
            )
        for key, begin, end, plan, seats, mrr in (
            ("p", 380, 300, "basic", 3, 30),
            ("q", 300, 60, "pro", 5, 80),
            ("r", 60, None, "basic", 4, 50),
        ):
            facts["subscriptions"].append(
                {"subscription_id": account + key, "account_id": account, "product": "core", "plan": plan}
                | {"seats": seats + n, "mrr": mrr, "started_at": ago(begin), "ended_at": end and ago(end)}
                | {"end_reason": "renewal", "renews_at": ago(-300), "term_ends_at": ago(-300), "is_trial": False}
                | {"billing_interval": "year", "discount_ends_at": ago(-30 if key == "r" else begin - 30)}
            )
        for days in range(0, 380, 30):
            is_open = days in (30, 60)
            facts["invoices"].append(
                {"invoice_id": f"{account}-{days}", "account_id": account, "issued_at": ago(days + 5)}
                | {"due_at": ago(days - 9), "paid_at": None if is_open else ago(max(days - 12, 1))}
                | {"amount": 50, "status": "open" if is_open else "paid", "failed_payments": 1 if is_open else 0}
            )
        for days in range(1, 200):
            facts["usage_events"].append(
                {"event_id": f"{account}-{days}", "account_id": account, "user_id": "uv"[days % 2] + account}
                | {"event_name": ("login", "export")[days % 3 == 0], "occurred_at": ago(days - 0.4)}
                | {"quantity": 2.0 + days % 4, "event_count": 1.0, "product": "core"}
            )
        for key, opened, solved, priority in (("x", 70, 66, "high"), ("y", 50, 45, "urgent"), ("z", 20, None, "low")):
            facts["tickets"].append(
                {"ticket_id": account + key, "account_id": account, "opened_at": ago(opened), "priority": priority}
                | {"first_response_at": ago(opened - 0.5), "solved_at": solved and ago(solved), "reopens": 1}
                | {"status": "solved" if solved else "open", "csat": 4 if solved else None, "subject": "s", "body": "b"}
            )
        for days, score in ((90, 9), (40, 6)):
            facts["survey_responses"].append(
                {"response_id": f"{account}-{days}", "account_id": account, "contact_id": "c", "kind": "nps"}
                | {"score": score, "responded_at": ago(days), "comment": "good"}
            )
        for days, channel, direction in ((50, "meeting", "outbound"), (30, "email", "inbound")):
            facts["interactions"].append(
                {"interaction_id": f"{account}-{days}", "account_id": account, "channel": channel, "subject": "s"}
                | {"direction": direction, "occurred_at": ago(days), "contact_id": "c", "body": "b"}
            )
    return facts


def without(facts: Facts, *columns: str) -> Facts:
    """The same facts from a source that does not deliver some columns (`tickets.csat`) or entities (`tickets`)."""
    kept = {entity: found for entity, found in facts.items() if entity not in columns}
    return {
        entity: [{name: value for name, value in row.items() if f"{entity}.{name}" not in columns} for row in found]
        for entity, found in kept.items()
    }


Measured = Mapping[tuple[str, str], list[Any]]


def measured(built: Any, facts: Facts) -> Measured:
    """The values of each metric, by table and column, in the order of its rows."""
    mapped = {entity: sorted({name for row in found for name in row}) for entity, found in facts.items()}
    found = {}
    with built.modelled(facts, AS_OF, mapped=mapped) as connection:
        for table in sorted({table for table, _ in NEEDS}):
            read = rows(connection, f"from {table} order by all")
            for name in (column for at, column in NEEDS if at == table):
                found[table, name] = sorted((row[name] for row in read), key=repr)
    return found


@pytest.fixture(scope="module")
def everything(built: Any) -> Measured:
    return measured(built, company())


def test_a_company_that_delivers_everything_has_every_metric(everything: Measured) -> None:
    empty = {key for key, values in everything.items() if all(value is None for value in values)}
    # Purchases are measured where churn is inactivity.
    assert {name for _, name in empty if "purchase" not in name} <= UNSEEN


def test_every_number_says_what_it_needs(built: Any) -> None:
    numbers = ("bigint", "double", "decimal(18,2)")
    of_no_source = {"tenure_days", "account_sources", "employees", "coverage_pct"}
    nodes = {node["name"]: node for node in built.manifest()["nodes"].values() if node["resource_type"] == "model"}
    for step, table in (("marts", "accounts"), ("marts", "months"), ("metrics", "met_accounts")):
        columns = nodes[table]["columns"].values()
        given = {c["name"] for c in columns if c["data_type"] in numbers} - of_no_source
        assert given - {name for at, name in NEEDS if at == f"{step}.{table}"} == set(), table


@pytest.mark.parametrize("removed", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in COLUMNS])
def test_without_a_column_what_needs_it_is_null_and_all_else_is_as_it_was(
    built: Any, everything: Measured, removed: str
) -> None:
    columns = removed.split("|")
    found = measured(built, without(company(), *columns))
    wrong = {}
    shaped = {entity for column in columns for entity in INFLUENCE.get(column, ())}
    for key, groups in NEEDS.items():
        mentioned = {column for group in groups for column in group}
        if any(group <= set(columns) for group in groups):
            if any(value is not None for value in found[key]):
                wrong[key] = "a number that nobody measured"
        elif mentioned & set(columns) or {column.split(".")[0] for column in mentioned} & shaped:
            continue
        elif found[key] != everything[key]:
            wrong[key] = "another number"
    assert wrong == {}


@pytest.mark.parametrize(
    "removed", [pytest.param(e, marks=() if e in ("usage_events", "tickets") else pytest.mark.slow) for e in FAMILIES]
)
def test_without_an_entity_all_that_needs_it_is_null(built: Any, removed: str) -> None:
    found = measured(built, without(company(), removed))
    wrong = {
        key
        for key, groups in NEEDS.items()
        if any({column.split(".")[0] for column in group} == {removed} for group in groups)
        and any(value is not None for value in found[key])
    }
    assert wrong == set()


def test_a_user_column_that_is_always_empty_names_no_user(built: Any) -> None:
    facts = company()
    for row in facts["usage_events"]:
        row["user_id"] = None
    found = measured(built, facts)
    for key, groups in NEEDS.items():
        if frozenset({"usage_events.user_id"}) in groups:
            assert all(value is None for value in found[key]), key


def test_a_date_that_is_mapped_and_still_empty_says_that_nothing_happened(built: Any) -> None:
    """A company whose contacts have all stayed has a measured 0, not a NULL."""
    facts = company()
    for row in facts["contacts"]:
        row["left_at"] = None
    found = measured(built, facts)["metrics.met_accounts", "contacts_left_90d"]
    assert {value for value in found if value is not None} == {0}
    assert 0 in found
