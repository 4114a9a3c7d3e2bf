"""From a source's columns to the contract's."""

from __future__ import annotations

from datetime import datetime

import pytest

ACCOUNTS = {"files": "accounts*", "columns": {"account_id": "id", "created_at": "created"}}


def one(company, columns, row, *, entity="invoices", key="invoice_id"):
    """Load one row through a mapping of `columns`; what the contract's columns became, or what could not be read and why."""
    mapped = {key: "id", "account_id": "account", "issued_at": "at", "amount": "0", **columns}
    company.streams(accounts=ACCOUNTS, **{entity: {"files": "rows*", "columns": mapped}})
    company.write("accounts.csv", "id,created\n1,2024-01-01\n")
    row = {"id": "r", "account": "1", "at": "2024-01-01", **row}
    company.write("rows.parquet", [row])
    report = company.load()[entity]
    assert report.status == "loaded", report.message
    names = ", ".join(columns)
    loaded = company.query(f"select {names} from raw_files.{entity}")
    return company.unread(entity) or loaded or company.details(entity)


@pytest.mark.parametrize(
    ("format_", "given", "read"),
    [
        (None, "2024-03-01", datetime(2024, 3, 1)),
        (None, " 2024-03-01 10:20:30 ", datetime(2024, 3, 1, 10, 20, 30)),
        (None, "2024-03-01T10:20:30.5Z", datetime(2024, 3, 1, 10, 20, 30, 500000)),
        (None, "2024-03-01T10:20:30+02:00", datetime(2024, 3, 1, 8, 20, 30)),
        (None, "2024-03-01 10:20:30-0530", datetime(2024, 3, 1, 15, 50, 30)),
        (None, datetime(2024, 3, 1, 10), datetime(2024, 3, 1, 10)),
        (None, datetime(2024, 3, 1).date(), datetime(2024, 3, 1)),
        ("%d-%m-%Y", "01-03-2024", datetime(2024, 3, 1)),
        ("%Y-%m-%d %H:%M %z", "2024-03-01 10:00 +0200", datetime(2024, 3, 1, 8)),
        (["%d.%m.%Y %H:%M", "%d.%m.%Y"], "01.03.2024", datetime(2024, 3, 1)),
        (["%d.%m.%Y %H:%M", "%d.%m.%Y"], "01.03.2024 10:20", datetime(2024, 3, 1, 10, 20)),
        ("epoch", 1709287200, datetime(2024, 3, 1, 10)),
        ("epoch", "1709287200.25", datetime(2024, 3, 1, 10, 0, 0, 250000)),
        ("epoch_ms", 1709287200123, datetime(2024, 3, 1, 10, 0, 0, 123000)),
    ],
)
def test_times_are_read_as_utc(company, format_, given, read):
    column = {"sql": "t", "format": format_} if format_ else "t"
    assert one(company, {"paid_at": column}, {"t": given}) == [(read,)]


@pytest.mark.parametrize("given", ["2024-02-30", "30-02-2024", "today", "2024-01-01 25:00:00"])
def test_what_is_no_date_is_said_to_be_none(company, given):
    assert one(company, {"paid_at": "t"}, {"t": given}) == [f"paid_at '{given}' is not a date"]


@pytest.mark.parametrize(
    ("sql", "given", "read"),
    [
        ("v", "12.3456", "12.35"),
        ("v", 12.5, "12.50"),
        ("v", " 7 ", "7.00"),
        ("v", "-3", "-3.00"),
        ("cents(v)", 1999, "19.99"),
        ("comma_number(v)", "1.234,50", "1234.50"),
        ("number(v) * 2", "1.25", "2.50"),
        ("coalesce(number(text_of(v)), 1)", "  ", "1.00"),
    ],
)
def test_money_is_decimal_with_two_places(company, sql, given, read):
    assert [str(v) for v in one(company, {"amount": sql}, {"v": given})[0]] == [read]


@pytest.mark.parametrize("given", ["1,5", "$5", "NaN", "", None, float("nan")])
def test_what_is_no_money_is_quarantined(company, given):
    assert one(company, {"amount": "v"}, {"v": given})[0].startswith("amount ")


@pytest.mark.parametrize(
    ("given", "read"), [("yes", True), ("N", False), ("true", True), ("0", False), (True, True), (1, True), ("", None)]
)
def test_booleans_are_understood(company, given, read):
    columns = {"is_trial": "v", "mrr": "1", "started_at": "at"}
    mapped = {"subscription_id": "id", "account_id": "account", **columns}
    company.streams(accounts=ACCOUNTS, subscriptions={"files": "rows*", "columns": mapped})
    company.write("accounts.csv", "id,created\n1,2024-01-01\n")
    company.write("rows.parquet", [{"id": "r", "account": "1", "at": "2024-01-01", "v": given}])
    company.load()
    assert company.query("select is_trial from raw_files.subscriptions") == [(read,)]


@pytest.mark.parametrize("name", ["end", "Customer ID", "select", "1st", "naïve"])
def test_a_column_name_needs_no_quotes(company, name):
    assert one(company, {"status": name}, {name: "x"}) == [("x",)]


def test_constants_and_nulls_can_be_mapped(company):
    assert one(company, {"status": "'paid'", "due_at": None, "failed_payments": 0}, {}) == [("paid", None, 0)]


def test_ids_that_a_data_frame_made_floats_are_whole_again(company):
    company.streams(
        accounts=ACCOUNTS,
        usage_events={"files": "x*", "columns": {"account_id": "a", "event_name": "'e'", "occurred_at": "t"}},
    )
    company.write("accounts.csv", "id,created\n17850,2024-01-01\n")
    company.write("x.parquet", [{"a": 17850.0, "t": "2024-01-01"}, {"a": float("nan"), "t": "2024-01-01"}])
    company.load()
    assert company.query("select account_id from raw_files.usage_events") == [("17850",)]
    assert company.details("usage_events") == ["account_id is empty"]


def test_infinite_quantities_are_out_of_range_and_not_a_number_is_empty(company):
    columns = {"account_id": "a", "event_name": "'e'", "occurred_at": "t", "quantity": "q"}
    company.streams(accounts=ACCOUNTS, usage_events={"files": "x*", "columns": columns})
    company.write("accounts.csv", "id,created\n1,2024-01-01\n")
    company.write("x.parquet", [{"a": 1, "t": "2024-01-01", "q": q} for q in (1.5, float("inf"), float("nan"))])
    company.load()
    assert company.query("select quantity from raw_files.usage_events order by 1") == [(1.5,), (None,), (None,)]
    assert company.unread("usage_events") == ["quantity 'inf' is not finite"]


def test_a_subquery_can_be_mapped(company):
    company.write("owners.csv", "email\nkim@us.example\n")
    stream = {
        **ACCOUNTS,
        "lookups": {"owners": "owners.csv"},
        "columns": {**ACCOUNTS["columns"], "owner_email": "(select max(email) from owners)"},
    }
    company.streams(accounts=stream, invoices={"files": "none", "columns": {"invoice_id": "id"}})
    company.write("accounts.csv", "id,created\n1,2024-01-01\n")
    company.load()
    assert company.query("select owner_email from raw_files.accounts") == [("kim@us.example",)]


def test_a_sum_over_text_says_how_to_make_it_a_number(company):
    columns = {"subscription_id": "id", "account_id": "id", "mrr": "cents / 100", "started_at": "started"}
    company.streams(subscriptions={"files": "subs.csv", "columns": columns})
    company.document["identity"] = {"derive_accounts": True}
    company.write("subs.csv", "id,cents,started\n1,100,2024-01-01\n2,abc,2024-01-01\n")
    report = company.load()["subscriptions"]
    assert report.status == "stopped"
    assert "number(column) makes it a number" in (report.message or "")
    assert ".." not in (report.message or "")
    columns["mrr"] = "number(cents) / 100"
    company.document["sources"]["app"]["streams"]["subscriptions"]["columns"] = columns
    report = company.load()["subscriptions"]
    assert (report.rows_inserted, report.rows_quarantined) == (1, 1)


LOOKED_UP = {"lookups": {"extra": "extra.csv"}, "join": "as a left join extra as e on e.account = a.id"}


def looked_up(company, header="account,plan,kind", **stream):
    """Accounts with what a second file says of them."""
    company.write("extra.csv", f"{header}\n1,gold,x\n")
    company.write("accounts.csv", "id,ID,created\n1,A1,2024-01-01\n")
    columns = {"account_id": "a.id", "created_at": "created", **stream.pop("columns", {})}
    company.streams(
        accounts={"files": "accounts*", "columns": columns, **LOOKED_UP, **stream},
        invoices={"files": "none", "columns": {"invoice_id": "id"}},
    )
    return company.load()["accounts"]


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ({"columns": {"segment": "e.PLAN"}}, "extra has no column PLAN, but plan"),
        ({"columns": {"segment": "upper(Plan)"}}, "extra has no column Plan, but plan"),
        ({"columns": {"segment": "(select max(PLAN) from extra)"}}, "extra has no column PLAN, but plan"),
        ({"columns": {"segment": "a.CREATED"}}, "the source has no column CREATED, but created"),
        ({"join": "as a left join extra as e on e.ACCOUNT = a.id"}, "extra has no column ACCOUNT, but account"),
        ({"join": "as a left join extra as e on e.account = a.Id"}, "the source has no column Id, but id"),
        (
            {"join": "as a left join (select account as id, plan, kind from extra where PLAN > '') as e using (id)"},
            "extra has no column PLAN, but plan",
        ),
        (
            {"join": "as a left join (select account as id, plan, kind from extra) as e using (ID)"},
            "`using (ID)` cannot tell",
        ),
    ],
)
def test_names_are_matched_exactly_in_lookups_joins_and_subqueries(company, stream, said):
    report = looked_up(company, **stream)
    assert report.status == "stopped"
    assert said in report.message


def test_a_column_of_the_source_that_differs_in_case_only_can_be_joined_by(company):
    join = "as a left join extra as e on e.account = a.ID"
    company.write("extra.csv", "")
    report = looked_up(company, join=join, columns={"segment": "e.plan", "name": "a.ID", "industry": "ID || kind"})
    assert report.status == "loaded", report.message
    found = company.query("select account_id, segment, name, industry from raw_files.accounts")
    assert found == [("1", None, "A1", None)]
    company.write("extra.csv", "account,plan,kind\nA1,gold,x\n")
    assert company.load(full=True)["accounts"].status == "loaded"
    found = company.query("select account_id, segment, name, industry from raw_files.accounts")
    assert found == [("1", "gold", "A1", "A1x")]


def test_columns_of_a_lookup_that_differ_in_case_only_are_numbered_and_never_confused(company):
    report = looked_up(company, header="account,plan,PLAN", columns={"segment": "e.PLAN"})
    assert "those after the first are numbered" in report.message
    report = looked_up(company, header="account,plan,PLAN", columns={"segment": "e.plan || e.PLAN_1"})
    assert company.query("select segment from raw_files.accounts") == [("goldx",)]
