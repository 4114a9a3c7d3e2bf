"""What the models say about a day does not depend on what happened later.

The SQL that dbt compiled for a first run is executed on many small made-up companies in memory: a property is then checked in
half a second where dbt itself takes ten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import clock
from core.contract import ENTITIES
from core.warehouse import Connection, rows, scratch
from sources.base import StreamId
from sources.ledger import ensure_tables

AS_OF = datetime(2024, 7, 1)
LATER = AS_OF + timedelta(days=45)

Facts = dict[str, list[dict[str, Any]]]

# Days from the as-of date at which things happen: most before, some after, some exactly at midnight.
moments = st.builds(
    lambda day, hour: AS_OF + timedelta(days=day, hours=hour), st.integers(-120, 40), st.sampled_from([0, 9, 23])
)
accounts = st.sampled_from(["1", "2"])
spans = st.none() | st.integers(0, 90).map(lambda days: timedelta(days=days))
money = st.sampled_from([0, 50, 50, 120])


def facts_of(entity: str, **columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    def numbered(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{ENTITIES[entity].key: f"{entity}-{n}", **row} for n, row in enumerate(found)]

    return st.lists(st.fixed_dictionaries({"account_id": accounts, **columns}), max_size=5).map(numbered)


companies = st.fixed_dictionaries(
    {
        "subscriptions": facts_of(
            "subscriptions",
            started_at=moments,
            span=spans,
            mrr_usd=money,
            plan=st.sampled_from(["a", "b"]),
            is_trial=st.sampled_from([None, True, False]),
            end_reason=st.sampled_from(["canceled", "completed", "renewal"]),
        ),
        "invoices": facts_of("invoices", issued_at=moments, span=spans, amount_usd=money),
        "usage_events": facts_of(
            "usage_events",
            occurred_at=moments,
            user_id=st.sampled_from(["u", "v"]),
            event_name=st.sampled_from(["x", "y"]),
        ),
        "tickets": facts_of("tickets", opened_at=moments, span=spans, csat=st.sampled_from([None, 1, 5])),
        "survey_responses": facts_of(
            "survey_responses", responded_at=moments, kind=st.just("nps"), score=st.integers(0, 10)
        ),
        "interactions": facts_of("interactions", occurred_at=moments, channel=st.just("email")),
        "contacts": facts_of("contacts", created_at=moments, span=spans, role=st.sampled_from(["champion", "user"])),
    }
)

ENDS = {"subscriptions": "ended_at", "invoices": "paid_at", "tickets": "solved_at", "contacts": "left_at"}
KNOWN_WITH_THE_END = {"subscriptions": "end_reason", "tickets": "csat"}


def as_loaded_at(company: Facts, now: datetime) -> Facts:
    """What the sources would have delivered up to `now`: facts before it, without what happened to them afterwards."""
    loaded: Facts = {"accounts": [{"account_id": i, "created_at": datetime(2024, 1, 1)} for i in ("1", "2")]}
    for entity, facts in company.items():
        loaded[entity] = []
        for fact in facts:
            row = dict(fact)
            begun = row[ENTITIES[entity].happened_at]
            if begun >= now:
                continue
            if entity in ENDS:
                span = row.pop("span")
                end = None if span is None else begun + span
                known = end is not None and end < now
                row[ENDS[entity]] = end if known else None
                if entity in KNOWN_WITH_THE_END and not known:
                    row[KNOWN_WITH_THE_END[entity]] = None
                if entity == "invoices":
                    row["status"] = "paid" if known else "open"
                if entity == "tickets":
                    row["status"] = "solved" if known else "open"
            loaded[entity].append(row)
    return loaded


@contextmanager
def modelled(built: Any, facts: Facts, as_of: datetime) -> Iterator[Connection]:
    """An in-memory warehouse with `facts` loaded and all models built as of `as_of`."""
    with scratch(threads=1) as connection:
        connection.execute("attach ':memory:' as warehouse")
        connection.execute("use warehouse")
        ensure_tables(connection, [StreamId("crm", e, "files", "crm", e) for e in ENTITIES])
        clock.write(connection, as_of, is_replay=False)
        for entity, found in facts.items():
            for row in found:
                columns = ", ".join(row)
                marks = ", ".join("?" for _ in row)
                connection.execute(
                    f"insert into raw_files.{entity} ({columns}, _source, _stream, _account_source, _loaded_at)"
                    f" values ({marks}, 'crm', '{entity}', 'crm', timestamp '2024-12-31')",
                    list(row.values()),
                )
        for schema in ("staging", "intermediate", "marts"):
            connection.execute(f"create schema {schema}")
        for statement in built.sql.values():
            select = statement.select.replace(f"{AS_OF:%Y-%m-%d} 00:00:00", f"{as_of:%Y-%m-%d} 00:00:00")
            connection.execute(f"create {statement.kind} {statement.relation} as {select}")
        yield connection


def marts(connection: Connection, **conditions: str) -> Mapping[str, list[str]]:
    """The rows of the marts, as sorted text; `conditions` choose marts and rows."""
    names = [
        row["table_name"] for row in rows(connection, "from information_schema.tables where table_schema = 'marts'")
    ]
    return {
        name: sorted(str(row) for row in rows(connection, f"from marts.{name} where {conditions.get(name, 'true')}"))
        for name in names
        if not conditions or name in conditions
    }


few = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@few
@given(company=companies)
def test_facts_of_the_future_change_no_row_of_the_past(built: Any, company: Facts) -> None:
    with modelled(built, as_loaded_at(company, AS_OF), AS_OF) as then:
        known_then = marts(then)
    with modelled(built, as_loaded_at(company, LATER), AS_OF) as later:
        assert marts(later) == known_then


@few
@given(company=companies)
def test_what_happened_before_a_date_reads_the_same_from_any_later_date(built: Any, company: Facts) -> None:
    past = f"timestamp '{AS_OF}'"
    conditions = {
        "account_days": f"activity_date < {past}",
        "mrr_movements": f"movement_date < {past}",
        "account_months": f"month_start_date < date_trunc('month', {past})",
        "account_timeline": f"event_at < {past} and kind not in ('invoice_issued', 'invoice_overdue')",
    }
    facts = as_loaded_at(company, LATER)
    with modelled(built, facts, AS_OF) as then:
        before = marts(then, **conditions)
    with modelled(built, facts, LATER) as later:
        assert marts(later, **conditions) == before


def test_a_company_without_a_single_row_builds(built: Any) -> None:
    with modelled(built, {}, AS_OF) as connection:
        assert {name: found for name, found in marts(connection).items() if found} == {}


def test_the_property_would_notice_a_model_that_looks_ahead(built: Any) -> None:
    """The harness itself: with a clock that is a month late, the future does show."""
    company: Facts = {
        "usage_events": [
            {
                "event_id": "e",
                "account_id": "1",
                "user_id": "u",
                "event_name": "x",
                "occurred_at": AS_OF + timedelta(days=1),
            }
        ]
    }
    with modelled(built, as_loaded_at(company, LATER), LATER) as connection:
        assert len(marts(connection)["account_days"]) == 1
    with modelled(built, as_loaded_at(company, LATER), AS_OF) as connection:
        assert marts(connection)["account_days"] == []
