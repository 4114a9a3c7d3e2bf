"""Small warehouses as extraction and the models leave them, to be broken at will."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from core import clock
from core.settings import Config, Tenure
from core.warehouse import Connection, scratch
from data_quality.checks import CheckResult
from data_quality.marts import MARTS
from data_quality.run import check_marts, check_raw
from sources import ledger
from sources.base import stream_ids
from sources.ledger import LoadReport

NOW = datetime(2024, 7, 1, 5)
LAST_DAY = date(2024, 6, 30)
AS_OF = datetime(2024, 7, 1)

STREAMS = {
    "crm": ("accounts", "contacts", "interactions"),
    "billing": ("accounts", "subscriptions", "invoices"),
    "support": ("tickets",),
    "product": ("usage_events", "survey_responses"),
}


def config(**settings: Any) -> Config:
    """Four sources of files; support and product use the account ids of the CRM."""
    limits = settings.pop("stale_after_days", {})
    streams = settings.pop("streams", STREAMS)
    sources = {
        source: {
            "connector": "files",
            "path": "/nowhere",
            "account_source": None if "accounts" in entities or "crm" not in streams else "crm",
            "stale_after_days": limits.get(source),
            "streams": {entity: {"files": f"{entity}.csv", "columns": {}} for entity in entities},
        }
        for source, entities in streams.items()
    }
    return Config.model_validate({"company": "Test", "sources": sources, **settings})


@dataclass
class Company:
    """A home with a warehouse; rows are delivered into raw tables as the loader would."""

    home: Path
    config: Config
    connection: Connection

    @property
    def tenure(self) -> Tenure:
        return Tenure(home=self.home, config_path=self.home / "tenure.yml", config=self.config, memory_limit="1GB")

    def deliver(
        self,
        source: str,
        entity: str,
        rows: Iterable[Mapping[str, Any]],
        run: str = "run1",
        bad: int = 0,
        **counts: Any,
    ) -> None:
        """Insert rows as one load of `run`, and `bad` rows into quarantine; `counts` overrides what the ledger says."""
        delivered = list(rows)
        insert(self.connection, f"raw_files.{entity}", [self._stamped(source, entity, run, row) for row in delivered])
        quarantined = [
            {"_source": source, "_stream": entity, "_account_source": source, "_reason": "null_key", "_run_id": run}
        ] * bad
        insert(self.connection, f"quarantine.{entity}", quarantined)
        report = {
            "run_id": run,
            "source": source,
            "stream": entity,
            "connector": "files",
            "entity": entity,
            "status": "loaded",
            "message": None,
            "files": 1,
            "rows_read": len(delivered) + bad,
            "rows_inserted": len(delivered),
            "rows_updated": 0,
            "rows_unchanged": 0,
            "rows_superseded": 0,
            "rows_quarantined": bad,
            "rows_released": 0,
            "cursor": None,
            "started_at": NOW,
            "finished_at": NOW,
        }
        ledger.record(self.connection, LoadReport(**{**report, **counts}))

    def _stamped(self, source: str, entity: str, run: str, row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "_source": source,
            "_stream": entity,
            "_account_source": self.config.account_source(source),
            "_file": f"{source}/{entity}.csv",
            "_loaded_at": NOW,
            "_run_id": run,
            **row,
        }

    def execute(self, sql: str, *parameters: Any) -> None:
        self.connection.execute(sql, list(parameters))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    def check_raw(self, run: str = "run1", now: datetime = NOW, **options: Any) -> list[CheckResult]:
        return check_raw(self.connection, self.tenure, run, now, **options)

    def check_marts(self, run: str = "run1", now: datetime = NOW) -> list[CheckResult]:
        return check_marts(self.connection, self.tenure, run, now)


def insert(connection: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert dictionaries; columns that a row does not name are NULL."""
    if not rows:
        return
    frame = pd.DataFrame(rows).astype(object)
    connection.register("delivered", frame.where(frame.notna(), None))
    connection.execute(f"insert into {table} by name select * from delivered")
    connection.unregister("delivered")


def days(count: int, last: date = LAST_DAY) -> list[datetime]:
    """Noon of each of the `count` days that end with `last`."""
    return [datetime(last.year, last.month, last.day, 12) - timedelta(days=back) for back in range(count)]


def accounts(*ids: str) -> list[dict[str, Any]]:
    return [{"account_id": id_, "name": f"Secret {id_}", "created_at": datetime(2023, 1, 1)} for id_ in ids]


def deliver_a_good_company(company: Company) -> None:
    """Everything configured, sixteen weeks of history, nothing wrong."""
    company.deliver("crm", "accounts", accounts("a1", "a2"))
    company.deliver("billing", "accounts", accounts("b1"))
    company.deliver("crm", "contacts", [{"contact_id": "c1", "account_id": "a1", "email": "eve@example.com"}])
    company.deliver(
        "crm",
        "interactions",
        [
            {
                "interaction_id": f"i{n}",
                "account_id": "a1",
                "channel": "email",
                "direction": "outbound",
                "occurred_at": at,
                "subject": "Private words",
            }
            for n, at in enumerate(days(5))
        ],
    )
    company.deliver(
        "billing",
        "subscriptions",
        [
            {
                "subscription_id": f"s{n}",
                "account_id": "b1",
                "mrr": 100,
                "seats": 5,
                "started_at": datetime(2024, 1, 1),
                "ended_at": datetime(2024, 2, 1) if n else None,
                "billing_interval": "month",
            }
            for n in range(3)
        ],
    )
    company.deliver(
        "billing",
        "invoices",
        [
            {"invoice_id": f"v{n}", "account_id": "b1", "issued_at": at, "amount": 10, "status": "paid"}
            for n, at in enumerate(days(4))
        ],
    )
    company.deliver(
        "support",
        "tickets",
        [
            {
                "ticket_id": f"t{n}",
                "account_id": "a1",
                "opened_at": at,
                "solved_at": at + timedelta(hours=3),
                "csat": 4,
                "body": "Private words",
            }
            for n, at in enumerate(days(3))
        ],
    )
    company.deliver("product", "usage_events", usage(lambda _: 30))
    company.deliver(
        "product",
        "survey_responses",
        [{"response_id": "r1", "account_id": "a1", "kind": "nps", "score": 9, "responded_at": datetime(2024, 6, 29)}],
    )


def usage(rows_on: Callable[[date], int], weeks: int = 16, last: date = LAST_DAY) -> list[dict[str, Any]]:
    """Events with ids, `rows_on(day)` of them on each day."""
    return [
        {
            "event_id": f"e{at:%Y%m%d}-{n}",
            "account_id": "a1",
            "user_id": "u1",
            "event_name": "login",
            "occurred_at": at,
        }
        for at in days(7 * weeks, last)
        for n in range(rows_on(at.date()))
    ]


def create_marts(company: Company) -> None:
    """Empty marts with the columns that they promise, and the run's clock."""
    connection = company.connection
    connection.execute("create schema if not exists marts")
    for mart in MARTS:
        columns = ", ".join(f"{column.name} {column.sql_type}" for column in mart.rule.columns)
        connection.execute(f"create or replace table {mart.table} ({columns})")
    clock.write(connection, AS_OF, is_replay=False)


def fill_marts(company: Company) -> None:
    """Two customers and a former one whose numbers agree."""
    ids = ("a1", "a2", "a3")
    months = [date(2024, 5, 1), date(2024, 6, 1)]
    steps = ("new", "expansion", "contraction", "churn", "completion", "reactivation")
    none = {f"{step}_mrr": 0 for step in steps}
    connection = company.connection
    insert(
        connection,
        "marts.accounts",
        [
            {
                "account_id": id_,
                "as_of_date": AS_OF.date(),
                "account_name": f"Secret {id_}",
                "owner_email": "eve@example.com",
                "leading_source": "crm",
                "account_sources": 1,
                "sources": "crm",
                "match_rule": "primary",
                "is_derived": False,
                "created_at": datetime(2023, 1, 1),
                "lifecycle_status": "churned" if id_ == "a3" else "customer",
                "is_customer": id_ != "a3",
                "mrr": 0 if id_ == "a3" else 100,
                "arr": 0 if id_ == "a3" else 1200,
                "invoiced_amount": 10,
                "events_28d": 7 if id_ == "a1" else 0,
                "coverage_pct": 50,
                **{
                    f"has_{family}_data": True
                    for family in ("contact", "subscription", "invoice", "usage", "ticket", "survey", "interaction")
                },
            }
            for id_ in ids
        ],
    )
    insert(
        connection,
        "marts.account_sources",
        [
            {
                "source": "crm",
                "source_account_id": id_,
                "account_id": id_,
                "match_rule": "primary",
                "is_merged": False,
                "is_derived": False,
                "is_primary_source": True,
            }
            for id_ in ids
        ],
    )
    insert(
        connection,
        "marts.subscriptions",
        [
            {
                "source": "billing",
                "stream": "subscriptions",
                "subscription_id": f"s-{id_}",
                "account_id": id_,
                "mrr": 100,
                "arr": 1200,
                "original_mrr": 100,
                "currency": "USD",
                "exchange_rate": 1,
                "started_at": datetime(2024, 5, 10),
                "ended_at": datetime(2024, 6, 10) if id_ == "a3" else None,
                "is_running": id_ != "a3",
                "is_trial": False,
            }
            for id_ in ids
        ],
    )
    insert(
        connection,
        "marts.mrr_movements",
        [
            {
                "account_id": id_,
                "movement_date": date(2024, 5, 10),
                "movement": "new",
                "mrr_delta": 100,
                "mrr_before": 0,
                "mrr_after": 100,
            }
            for id_ in ids
        ]
        + [
            {
                "account_id": "a3",
                "movement_date": date(2024, 6, 10),
                "movement": "churn",
                "mrr_delta": -100,
                "mrr_before": 100,
                "mrr_after": 0,
            }
        ],
    )
    flags = {f"is_logo_{word}": False for word in ("new", "reactivated", "churned", "completed")}
    insert(
        connection,
        "marts.account_months",
        [
            {
                **none,
                **flags,
                "account_id": id_,
                "month_start_date": month,
                "start_mrr": 0 if month == months[0] else 100,
                "new_mrr": 100 if month == months[0] else 0,
                "churn_mrr": -100 if (id_, month) == ("a3", months[1]) else 0,
                "end_mrr": 0 if (id_, month) == ("a3", months[1]) else 100,
            }
            for id_ in ids
            for month in months
        ],
    )
    insert(
        connection,
        "marts.months",
        [
            {
                **none,
                "month_start_date": month,
                "is_complete": True,
                "start_mrr": 0 if month == months[0] else 300,
                "new_mrr": 300 if month == months[0] else 0,
                "churn_mrr": 0 if month == months[0] else -100,
                "end_mrr": 300 if month == months[0] else 200,
                "grr_pct": None if month == months[0] else 66.7,
                "invoiced_amount": 0 if month == months[0] else 30,
            }
            for month in months
        ],
    )
    insert(
        connection,
        "marts.invoices",
        [
            {
                "source": "billing",
                "stream": "invoices",
                "invoice_id": f"v-{id_}",
                "account_id": id_,
                "issued_at": datetime(2024, 6, 2),
                "amount": 10,
                "original_amount": 10,
                "currency": "USD",
                "exchange_rate": 1,
                "is_unpaid": False,
                "is_overdue": False,
            }
            for id_ in ids
        ],
    )
    insert(
        connection,
        "marts.tickets",
        [
            {
                "source": "support",
                "stream": "tickets",
                "ticket_id": "t1",
                "account_id": "a1",
                "opened_at": datetime(2024, 6, 3),
                "csat": 4,
                "is_open": True,
                "subject": "Private words",
            }
        ],
    )
    insert(
        connection,
        "marts.contacts",
        [
            {
                "source": "crm",
                "stream": "contacts",
                "contact_id": "c1",
                "account_id": "a1",
                "email": "eve@example.com",
                "role": "champion",
                "is_champion": True,
                "is_active": True,
            }
        ],
    )
    insert(
        connection,
        "marts.account_days",
        [
            {"account_id": "a1", "activity_date": at.date(), "events": 1, "active_users": 1, "last_event_at": at}
            for at in days(7)
        ],
    )
    insert(
        connection,
        "marts.account_timeline",
        [{"account_id": "a1", "event_at": datetime(2023, 1, 1), "kind": "signup", "reference_id": "a1"}],
    )
    insert(
        connection,
        "marts.source_freshness",
        [
            {
                "source": "product",
                "account_source": "crm",
                "entity": "usage_events",
                "facts": 7,
                "newest_fact_at": datetime(2024, 6, 30, 12),
                "newest_load_at": NOW,
                "newest_fact_days": 1,
            }
        ],
    )


def fill_raw(company: Company) -> None:
    """The raw rows behind the marts."""
    at = datetime(2024, 6, 2)
    company.deliver("crm", "contacts", [{"contact_id": "c1", "account_id": "a1"}])
    company.deliver("support", "tickets", [{"ticket_id": "t1", "account_id": "a1", "opened_at": at}])
    company.deliver("product", "usage_events", usage(lambda _: 1, weeks=1))
    for id_ in ("a1", "a2", "a3"):
        subscription = {"subscription_id": f"s-{id_}", "account_id": id_, "mrr": 100, "started_at": at}
        company.deliver("billing", "subscriptions", [subscription])
        invoice = {"invoice_id": f"v-{id_}", "account_id": id_, "amount": 10, "issued_at": at}
        company.deliver("billing", "invoices", [invoice])


class Companies:
    """Makes companies; tests cannot import this module, so what they need hangs here."""

    NOW, AS_OF, LAST_DAY, STREAMS = NOW, AS_OF, LAST_DAY, STREAMS
    days, accounts, usage = staticmethod(days), staticmethod(accounts), staticmethod(usage)

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.folder = folder
        self.opened = opened
        self.made = 0

    def empty(self, **settings: Any) -> Company:
        """Configured, with nothing delivered yet."""
        self.made += 1
        connection = self.opened.enter_context(scratch(memory_limit="1GB"))
        company = Company(self.folder / str(self.made), config(**settings), connection)
        ledger.ensure_tables(connection, stream_ids(company.config))
        return company

    def good(self, **settings: Any) -> Company:
        """With raw tables in which nothing is wrong."""
        company = self.empty(**settings)
        deliver_a_good_company(company)
        return company

    def built(self, **settings: Any) -> Company:
        """With marts in which nothing is wrong."""
        company = self.empty(**settings)
        create_marts(company)
        fill_marts(company)
        fill_raw(company)
        return company

    def unfilled(self, **settings: Any) -> Company:
        """With marts that have no rows."""
        company = self.empty(**settings)
        create_marts(company)
        return company


@pytest.fixture
def companies(tmp_path: Path) -> Iterator[Companies]:
    with ExitStack() as opened:
        yield Companies(tmp_path, opened)


@pytest.fixture(scope="module")
def shared_companies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Companies]:
    """For warehouses that a whole module reads: a check costs half a second."""
    with ExitStack() as opened:
        yield Companies(tmp_path_factory.mktemp("shared"), opened)
