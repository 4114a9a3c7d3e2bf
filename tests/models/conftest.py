"""A small raw warehouse made of dictionaries, and dbt run on it in its own process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import ml.tables
from core import clock, identity
from core.contract import ENTITIES
from core.warehouse import Connection, rows, scratch, warehouse
from sources.base import StreamId
from sources.ledger import ensure_tables, note_columns

PROJECT = Path(__file__).parents[2] / "dbt_project"
FIRST_LOAD = datetime(2024, 7, 1, 3)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Statement:
    """A model as dbt compiled it for a first run."""

    relation: str
    kind: str
    select: str


@dataclass
class Company:
    """One warehouse with the tables that the loader leaves, and dbt with its target beside it."""

    folder: Path
    variables: Mapping[str, Any] = field(default_factory=dict)
    connectors: tuple[str, ...] = ("files",)
    threads: int = 2
    sql: dict[str, Statement] = field(default_factory=dict, repr=False)

    @property
    def path(self) -> Path:
        return self.folder / "warehouse.duckdb"

    @property
    def target(self) -> Path:
        return self.folder / "target"

    def create(self, as_of: datetime) -> None:
        streams = [StreamId("any", e, connector, "any", e) for connector in self.connectors for e in ENTITIES]
        with warehouse(self.path) as connection:
            ensure_tables(connection, streams)
            ml.tables.ensure(connection)
        self.set_clock(as_of)

    def set_clock(self, as_of: datetime, *, is_replay: bool = False) -> None:
        with warehouse(self.path) as connection:
            clock.write(connection, as_of, is_replay=is_replay)
            identity.write(connection)

    def insert(
        self,
        entity: str,
        source: str,
        records: Iterable[Row],
        *,
        account_source: str | None = None,
        loaded_at: datetime = FIRST_LOAD,
        connector: str = "files",
    ) -> None:
        """Insert rows given as dictionaries; columns that a row does not name are NULL."""
        meta = {
            "_source": source,
            "_stream": entity,
            "_account_source": account_source or source,
            "_file": f"{source}.csv",
            "_loaded_at": loaded_at,
            "_run_id": "run",
        }
        with warehouse(self.path) as connection:
            for record in records:
                filled = {**record, **meta}
                marks = ", ".join("?" for _ in filled)
                connection.execute(
                    f"insert into raw_{connector}.{entity} ({', '.join(filled)}) values ({marks})",
                    list(filled.values()),
                )

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        with warehouse(self.path) as connection:
            connection.execute(sql, list(parameters))

    def records(self, sql: str) -> list[dict[str, Any]]:
        with warehouse(self.path, read_only=True) as connection:
            return rows(connection, sql)

    def value(self, sql: str) -> Any:
        (only,) = self.records(sql)
        (value,) = only.values()
        return value

    def marts(self) -> dict[str, list[str]]:
        """Every row of every mart, of the history and of what the churn model reads, as sorted text."""
        names = self.records(
            "select table_schema || '.' || table_name as name from information_schema.tables where table_schema in ('marts', 'history')"
            " or table_name in ('ftr_account_snapshots', 'ftr_account_labels', 'ftr_churn_training', 'ftr_churn_scoring',"
            " 'met_account_history')"
        )
        return {n["name"]: sorted(str(list(r.values())) for r in self.records(f"from {n['name']}")) for n in names}

    def dbt(self, command: str, *arguments: str) -> None:
        """Run dbt, and fail the test with dbt's own words where it fails."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "dbt.cli.main", command, *arguments),
                *("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)),
                *("--target-path", str(self.target), "--log-path", str(self.folder / "logs")),
                *("--vars", json.dumps(self.variables)),
            ],
            env={
                **os.environ,
                "TENURE_WAREHOUSE": str(self.path),
                "TENURE_TEMP_DIR": str(self.folder / "tmp"),
                "TENURE_THREADS": str(self.threads),
                "TENURE_MEMORY_LIMIT": "1GB",
                "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
                "DBT_USE_COLORS": "false",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

    def build(self) -> None:
        self.dbt("build", "--exclude", "test_type:unit")

    def remember_sql(self) -> None:
        """Keep the compiled models in an order in which they can run."""
        nodes = {k: n for k, n in self.manifest()["nodes"].items() if n["resource_type"] in ("model", "snapshot")}
        while nodes:
            ready = [k for k, n in nodes.items() if not nodes.keys() & set(n["depends_on"]["nodes"])]
            for key in ready:
                node = nodes.pop(key)
                if node["resource_type"] == "snapshot":
                    continue
                kind = "view" if node["config"]["materialized"] == "view" else "table"
                self.sql[node["name"]] = Statement(f"{node['schema']}.{node['name']}", kind, node["compiled_code"])

    @contextmanager
    def modelled(
        self,
        facts: Mapping[str, Sequence[Row]],
        as_of: datetime,
        rewrite: Callable[[str, str], str] = lambda name, sql: sql,
        mapped: Mapping[str, Collection[str]] | None = None,
        history: Iterable[tuple[Any, ...]] = (),
    ) -> Iterator[Connection]:
        """An in-memory warehouse with `facts` of one source loaded, and all models built as of `as_of`.

        The SQL that dbt compiled for a first run is executed: half a second where dbt itself takes ten. `rewrite` may change a
        model's SQL, `mapped` says which columns of each entity the source's mapping fills, `history` is what an earlier run
        recorded of accounts; this run adds what it knows itself.
        """
        with scratch(threads=1) as connection:
            connection.execute("attach ':memory:' as warehouse")
            connection.execute("use warehouse")
            ensure_tables(connection, [StreamId("crm", e, "files", "crm", e) for e in ENTITIES])
            clock.write(connection, as_of, is_replay=False)
            identity.write(connection)
            for entity, columns in (mapped or {}).items():
                note_columns(connection, StreamId("crm", entity, "files", "crm", entity), columns)
            for entity, found in facts.items():
                for row in found:
                    columns = ", ".join(row)
                    marks = ", ".join("?" for _ in row)
                    connection.execute(
                        f"insert into raw_files.{entity} ({columns}, _source, _stream, _account_source, _loaded_at)"
                        f" values ({marks}, 'crm', '{entity}', 'crm', timestamp '2024-12-31')",
                        list(row.values()),
                    )
            for schema in ("staging", "intermediate", "metrics", "marts", "history", "features"):
                connection.execute(f"create schema {schema}")
            connection.execute(
                "create table history.accounts_history (account_id varchar, industry varchar, segment varchar, employees bigint,"
                " has_signed_renewal boolean, next_started_at timestamp, signed_renews_at timestamp,"
                " dbt_valid_from timestamp, dbt_valid_to timestamp)"
            )
            for row in history:
                marks = ", ".join("?" for _ in row)
                connection.execute(f"insert into history.accounts_history values ({marks})", [*row[:-1], as_of])
            ready, is_recorded = set[str](), False
            for name, statement in self.sql.items():
                if name.startswith(("stg_ml__", "customer_scores", "sync_")):
                    continue  # what the model wrote is no fact
                select = statement.select.replace(f"{AS_OF:%Y-%m-%d} 00:00:00", f"{as_of:%Y-%m-%d} 00:00:00")
                connection.execute(f"create {statement.kind} {statement.relation} as {rewrite(name, select)}")
                ready.add(name)
                if ready >= {"int_accounts_united", "int_renewals_signed"} and not is_recorded:
                    is_recorded = True
                    connection.execute(
                        "insert into history.accounts_history select a.account_id, null, null, null, s.has_signed_renewal,"
                        " s.next_started_at, case when s.has_signed_renewal then s.next_renews_at end,"
                        f" timestamp '{as_of}', null from intermediate.int_accounts_united as a"
                        " left join intermediate.int_renewals_signed as s using (account_id)"
                    )
            yield connection

    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.target / "manifest.json").read_text()))

    def results(self) -> dict[str, str]:
        """Status by node of the last command, without what runs before its first node."""
        found = json.loads((self.target / "run_results.json").read_text())["results"]
        return {r["unique_id"]: r["status"] for r in found if not r["unique_id"].startswith("operation.")}


def events(account: str, *days: datetime, user: str = "u", feature: str = "report") -> list[Row]:
    """One event per given moment."""
    return [
        {
            "event_id": f"{account}-{user}-{feature}-{at:%Y%m%d%H%M%S}",
            "account_id": account,
            "user_id": user,
            "event_name": feature,
            "occurred_at": at,
            "quantity": 1.0,
        }
        for at in days
    ]


def fill(company: Company) -> None:
    """Three companies seen by four sources, until July 2024: one happy, one that left in May, one that only billing knows."""
    company.insert(
        "accounts",
        "crm",
        [
            {
                "account_id": "1",
                "name": "Acme Inc",
                "domain": "acme.com",
                "owner_email": "ann@us.com",
                "created_at": datetime(2023, 1, 1),
            },
            {
                "account_id": "2",
                "name": "Bolt Ltd",
                "domain": "bolt.io",
                "owner_email": "bob@us.com",
                "created_at": datetime(2023, 2, 1),
            },
        ],
    )
    company.insert(
        "accounts",
        "billing",
        [
            {"account_id": "b1", "name": "Acme", "crm_account_id": "1", "created_at": datetime(2023, 1, 2)},
            {"account_id": "b2", "name": "BOLT", "created_at": datetime(2023, 2, 2)},
            {"account_id": "b3", "name": "Nobody knows", "created_at": datetime(2024, 3, 2)},
        ],
    )
    company.insert(
        "accounts", "product", [{"account_id": "w1", "domain": "www.acme.com", "created_at": datetime(2023, 1, 3)}]
    )
    company.insert(
        "subscriptions",
        "billing",
        [
            {"subscription_id": "s1", "account_id": "b1", "product": "core", "plan": "pro", "seats": 4, "mrr": 100}
            | {"started_at": datetime(2023, 1, 10), "ended_at": datetime(2024, 1, 10), "end_reason": "renewal"},
            {"subscription_id": "s2", "account_id": "b1", "product": "core", "plan": "max", "seats": 5, "mrr": 150}
            | {"started_at": datetime(2024, 1, 10), "renews_at": datetime(2025, 1, 10)},
            {"subscription_id": "s3", "account_id": "b2", "product": "core", "plan": "pro", "seats": 2, "mrr": 60}
            | {"started_at": datetime(2023, 3, 1), "ended_at": datetime(2024, 5, 20), "end_reason": "canceled"},
            {"subscription_id": "s4", "account_id": "b3", "product": "core", "plan": "pro", "seats": 1, "mrr": 30}
            | {"started_at": datetime(2024, 6, 20), "is_trial": True},
        ],
    )
    company.insert(
        "invoices",
        "billing",
        [
            {"invoice_id": "i1", "account_id": "b1", "issued_at": datetime(2024, 6, 1), "due_at": datetime(2024, 6, 15)}
            | {"amount": 150, "status": "open", "failed_payments": 2},
            {"invoice_id": "i2", "account_id": "b2", "issued_at": datetime(2024, 5, 1), "due_at": datetime(2024, 5, 15)}
            | {"amount": 60, "status": "paid", "paid_at": datetime(2024, 5, 10)},
        ],
    )
    company.insert(
        "usage_events",
        "product",
        [
            *events("w1", datetime(2024, 5, 20, 9), datetime(2024, 6, 10, 9), datetime(2024, 6, 28, 9)),
            *events("w1", datetime(2024, 6, 28, 10), user="v", feature="export"),
        ],
    )
    company.insert(
        "tickets",
        "support",
        [
            {
                "ticket_id": "t1",
                "account_id": "1",
                "opened_at": datetime(2024, 6, 20, 8),
                "status": "open",
                "priority": "high",
            }
        ],
        account_source="crm",
    )
    company.insert(
        "contacts",
        "crm",
        [
            {
                "contact_id": "c1",
                "account_id": "1",
                "email": "jo@acme.com",
                "role": "Champion",
                "created_at": datetime(2023, 5, 1),
            }
        ],
    )


AS_OF = datetime(2024, 7, 1)
CHURN = {
    "definition": "contract",
    "horizon_days": 20,
    "lead_days": 3,
    "grace_days": 7,
    "active_within_days": 90,
    "not_churn": ["completed", "migrated"],
    "activity": ["usage_events", "invoices"],
}
VARIABLES = {
    "identity_precedence": ["crm", "billing", "product", "support"],
    "churn": CHURN,
    "snapshots": {"every": "week", "from": "2024-05-06", "max_accounts": None},
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """The three companies, built once; tests that only read share it."""
    company = Company(tmp_path_factory.mktemp("built"), VARIABLES)
    company.create(AS_OF)
    fill(company)
    company.build()
    company.remember_sql()
    return company


@pytest.fixture(scope="session")
def built_for_inactivity(built: Company, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """The same companies, with the SQL of the other definition of churn."""
    folder = tmp_path_factory.mktemp("inactivity")
    shutil.copytree(built.folder, folder, dirs_exist_ok=True)
    company = Company(folder, {**VARIABLES, "churn": {**CHURN, "definition": "inactivity", "active_within_days": 30}})
    company.dbt("compile", "--full-refresh")
    company.remember_sql()
    return company


@pytest.fixture(scope="session")
def changing(built: Company, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """A copy of the built companies; its tests run one after another and change it."""
    folder = tmp_path_factory.mktemp("changing")
    shutil.copytree(built.folder, folder, dirs_exist_ok=True)
    return Company(folder, VARIABLES)


@pytest.fixture(scope="session")
def new_company(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Company]:
    """Makes an empty warehouse for the given dbt variables and connectors."""

    def make(name: str, variables: Mapping[str, Any], connectors: tuple[str, ...] = ("files",)) -> Company:
        company = Company(tmp_path_factory.mktemp(name), variables, connectors)
        company.create(AS_OF)
        return company

    return make


@contextmanager
def part_of(
    built: Company, models: Sequence[str], facts: Mapping[tuple[str, str], Iterable[Row]], as_of: datetime
) -> Iterator[Connection]:
    """An in-memory warehouse with `facts` by source and entity, and all models built that come before those wanted."""
    with scratch(threads=1) as connection:
        connection.execute("attach ':memory:' as warehouse")
        connection.execute("use warehouse")
        ensure_tables(connection, [StreamId("any", e, "files", "any", e) for e in ENTITIES])
        clock.write(connection, as_of, is_replay=False)
        identity.write(connection)
        for (source, entity), found in facts.items():
            for row in found:
                meta = {"_source": source, "_stream": entity, "_account_source": source, "_loaded_at": FIRST_LOAD}
                filled = {**row, **meta}
                marks = ", ".join("?" for _ in filled)
                connection.execute(
                    f"insert into raw_files.{entity} ({', '.join(filled)}) values ({marks})", list(filled.values())
                )
        wanted = set(models)
        for name, statement in built.sql.items():
            if not wanted:
                break
            if name.startswith("stg_ml__") or (name.startswith(("met_", "ftr_")) and name not in wanted):
                continue
            connection.execute(f"create schema if not exists {statement.relation.split('.')[0]}")
            select = statement.select.replace(f"{AS_OF:%Y-%m-%d} 00:00:00", f"{as_of:%Y-%m-%d} 00:00:00")
            connection.execute(f"create {statement.kind} {statement.relation} as {select}")
            wanted.discard(name)
        yield connection


@pytest.fixture(scope="session")
def partly_modelled() -> Callable[..., AbstractContextManager[Connection]]:
    """`part_of`, for tests."""
    return part_of


@pytest.fixture(scope="session")
def new_events() -> Callable[..., list[Row]]:
    """`events`, for tests."""
    return events
