"""Values that cannot be read: what breaks a row, what is left empty and counted, and what is never guessed."""

from __future__ import annotations

import json
import tempfile
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ACCOUNTS: dict[str, Any] = {
    "files": "accounts*",
    "columns": {
        "account_id": "id",
        "name": "name",
        "employees": "size",
        "created_at": "created",
        "updated_at": "changed",
    },
}
SUBSCRIPTIONS: dict[str, Any] = {
    "files": "subs*",
    "columns": {
        "subscription_id": "id",
        "account_id": "account",
        "mrr": "mrr",
        "seats": "seats",
        "started_at": "start",
        "ended_at": "end",
        "renews_at": "renews",
    },
}
HEAD = "id,name,size,created,changed\n"
SUBS = "id,account,mrr,seats,start,end,renews\n"
FEW = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def shop(company):
    company.write("accounts.csv", HEAD + "1,One,10,2024-01-01,\n")
    return company.streams(accounts=ACCOUNTS, subscriptions=SUBSCRIPTIONS)


def subscriptions(shop, *rows, **options):
    """Load subscriptions from a CSV file with these lines; what became of them."""
    shop.document["sources"]["app"]["streams"]["subscriptions"] |= options
    shop.write("subs.csv", SUBS + "".join(f"{row}\n" for row in rows))
    report = shop.load()["subscriptions"]
    assert report.status == "loaded", report.message
    return report


# --- optional values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seats", "renews", "detail"),
    [
        ("ca 50", "", "seats 'ca 50' is not of type integer"),
        ("-5", "", "seats '-5' is below 0"),
        ("2.5", "", "seats '2.5' is not of type integer"),
        ("5", "soon", "renews_at 'soon' is not a date"),
        ("5", "1971-01-01", "renews_at '1971-01-01' lies outside 1980-01-01 to 2074-05-20"),
        ("5", "2300-01-01", "renews_at '2300-01-01' lies outside 1980-01-01 to 2074-05-20"),
    ],
)
def test_an_optional_value_that_cannot_be_read_is_empty_and_counted_and_its_row_stays(shop, seats, renews, detail):
    report = subscriptions(shop, f"s1,1,10,{seats},2024-01-01,,{renews}", "s2,1,20,7,2024-01-01,,2025-01-01")
    assert (report.rows_read, report.rows_inserted, report.rows_quarantined, report.values_unread) == (2, 2, 0, 1)
    bad = "seats" if detail.startswith("seats") else "renews_at"
    assert shop.query(f"select mrr, {bad} from raw_files.subscriptions where subscription_id = 's1'") == [
        (Decimal("10.00"), None)
    ]
    assert shop.unread("subscriptions") == [detail]
    again = shop.load()["subscriptions"]
    assert (again.status, again.values_unread) == ("unchanged", 0)
    before = shop.contents()
    assert shop.load(full=True)["subscriptions"].values_unread == 1
    assert shop.contents() == before


def test_every_unread_value_of_a_row_is_noted_and_goes_when_the_source_corrects_it(shop):
    shop.write("accounts-2.csv", HEAD + "2,Two,many,2024-01-01,yesterday\n")
    assert shop.load()["accounts"].values_unread == 2
    assert shop.unread("accounts") == [
        "employees 'many' is not of type integer",
        "updated_at 'yesterday' is not a date",
    ]
    shop.write("accounts-3.csv", HEAD + "2,Two,30,2024-01-01,2024-02-01\n")
    report = shop.load()["accounts"]
    assert (report.rows_updated, report.values_unread) == (1, 0)
    assert shop.unread("accounts") == []
    assert shop.query("select employees from raw_files.accounts where account_id = '2'") == [(30,)]


@pytest.mark.parametrize("end", ["soon", "1971-01-01", "31/12/2024"])
def test_an_end_that_cannot_be_read_breaks_its_row_since_an_empty_one_says_that_it_still_runs(shop, end):
    report = subscriptions(shop, f"s1,1,10,5,2024-01-01,{end},")
    assert (report.rows_inserted, report.rows_quarantined) == (0, 1)
    assert shop.details("subscriptions")[0].startswith(f"ended_at '{end}' ")


def test_a_row_that_waits_for_its_account_keeps_what_could_be_read_and_notes_the_rest(shop):
    assert subscriptions(shop, "s1,2,10,lots,2024-01-01,,1970-01-20").rows_quarantined == 1
    shop.write("accounts-2.csv", HEAD + "2,Two,5,2024-01-01,\n")
    assert shop.load()["subscriptions"].rows_released == 1
    assert shop.query("select mrr, seats, renews_at from raw_files.subscriptions") == [(Decimal("10.00"), None, None)]
    assert len(shop.unread("subscriptions")) == 2


def test_what_a_mapping_computes_is_shown_as_it_was_given(shop):
    columns = shop.document["sources"]["app"]["streams"]["subscriptions"]["columns"]
    columns |= {"mrr": "cents(mrr)", "seats": "cast(seats as integer)"}
    subscriptions(shop, "s1,1,ten,5,2024-01-01,,", "s2,1,1000,a few,2024-01-01,,")
    assert shop.details("subscriptions") == ["mrr 'ten' is not of type money"]
    assert shop.unread("subscriptions") == ["seats 'a few' is not of type integer"]


# --- timestamps ------------------------------------------------------------------------------------------------------

WHEN = datetime(2023, 11, 14, 22, 13, 20)
SECONDS = 1_700_000_000


@pytest.mark.parametrize("form", ["json", "parquet", "csv"])
@pytest.mark.parametrize(
    ("format_", "right", "wrong"),
    [
        ("epoch", SECONDS, [SECONDS * 10**3, SECONDS * 10**6, SECONDS * 10**9, 45_244]),
        ("epoch_ms", SECONDS * 10**3, [SECONDS, SECONDS * 10**6, SECONDS * 10**9, 45_244]),
        ("epoch_us", SECONDS * 10**6, [SECONDS, SECONDS * 10**3, SECONDS * 10**9, 45_244]),
        ("epoch_ns", SECONDS * 10**9, [SECONDS, SECONDS * 10**3, SECONDS * 10**6, 45_244]),
        ("excel", 45_244.925925926, [SECONDS, SECONDS * 10**3, 1]),
    ],
)
def test_a_number_in_another_unit_is_no_date_and_zero_is_none(company, form, format_, right, wrong):
    column = {"sql": "at", "format": format_}
    accounts = {"files": "accounts*", "columns": {"account_id": "id", "created_at": column, "updated_at": column}}
    invoices = {
        "invoice_id": "id",
        "account_id": "'1'",
        "issued_at": "'2024-01-01'",
        "amount": "1",
        "paid_at": column,
    }
    company.streams(accounts=accounts, invoices={"files": "inv*", "columns": invoices})
    rows = [{"id": str(n), "at": at} for n, at in enumerate([right, *wrong, 0], start=1)]
    if form == "parquet":
        content: Any = [{**row, "at": float(row["at"]) if format_ == "excel" else row["at"]} for row in rows]
    elif form == "json":
        content = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        content = "id,at\n" + "".join(f"{row['id']},{row['at']}\n" for row in rows)
    name = {"json": "jsonl"}.get(form, form)
    company.write(f"accounts.{name}", content)
    company.write(f"inv.{name}", content)
    reports = company.load()
    found = company.query("select created_at from raw_files.accounts")
    assert [abs(at - WHEN) < timedelta(seconds=1) for (at,) in found] == [True]
    assert reports["accounts"].rows_quarantined == len(wrong) + 1
    assert reports["invoices"].rows_quarantined == 0
    assert reports["invoices"].values_unread == len(wrong)
    assert company.query("select count(*), count(paid_at) from raw_files.invoices") == [(len(rows), 1)]


@pytest.mark.parametrize(
    "given", ["0000-00-00", "0000-00-00 00:00:00", "0001-01-01", "1970-01-01", "9999-12-31", "1900-01-01"]
)
def test_the_dates_by_which_systems_say_not_set_are_none(shop, given):
    report = subscriptions(shop, f"s1,1,10,5,2024-01-01,{given},{given}")
    assert (report.rows_inserted, report.values_unread) == (1, 0)
    assert shop.query("select ended_at, renews_at from raw_files.subscriptions") == [(None, None)]


def test_the_earliest_plausible_date_is_a_setting(shop):
    assert subscriptions(shop, "s1,1,10,5,1975-06-01,,").rows_quarantined == 1
    shop.document["quality"] = {"earliest_date": "1950-01-01"}
    assert shop.load(full=True)["subscriptions"].rows_quarantined == 0


def test_a_number_without_a_unit_is_no_date_and_the_unit_is_asked_for(shop):
    subscriptions(shop, f"s1,1,10,5,{SECONDS},,")
    assert "set its unit as `format`: epoch, epoch_ms" in shop.details("subscriptions")[0]


ABBREVIATED = ["BST", "IST", "CST", "EST", "EDT", "AST", "NST", "CET", "CEST", "MST7MDT", "Zulu", "EST5EDT", "JST"]


@pytest.mark.parametrize("zone", ABBREVIATED)
def test_a_zone_that_is_an_abbreviation_is_ambiguous(shop, zone):
    subscriptions(shop, f"s1,1,10,5,2024-04-10 10:00:00 {zone},,", f"s2,1,10,5,2024-04-10,,2024-04-10 10:00:00 {zone}")
    (detail,) = shop.details("subscriptions")
    assert detail.startswith(f"started_at '2024-04-10 10:00:00 {zone}' names a zone by an abbreviation")
    assert "Region/City" in detail
    assert [reason for *_, reason in shop.quarantined("subscriptions")] == ["ambiguous_zone"]
    assert len(shop.unread("subscriptions")) == 1


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("2024-04-10 10:00:00 GMT", 10),
        ("2024-04-10 10:00:00 utc", 10),
        ("2024-04-10T10:00:00Z", 10),
        ("2024-04-10T10:00:00+02:00", 8),
        ("2024-04-10 10:00:00 Europe/London", 9),
        ("2024-04-10 10:00:00 America/Port-au-Prince", 14),
        ("2024-04-10 10:00:00 Etc/GMT+5", 15),
    ],
)
def test_offsets_utc_and_names_of_regions_are_read(shop, given, read):
    subscriptions(shop, f"s1,1,10,5,{given},,")
    assert shop.query("select started_at from raw_files.subscriptions") == [(datetime(2024, 4, 10, read),)]


def test_a_pattern_with_a_zone_is_no_more_tolerant(shop):
    columns = shop.document["sources"]["app"]["streams"]["subscriptions"]["columns"]
    columns["started_at"] = {"sql": "start", "format": "%d.%m.%Y %H:%M %Z"}
    subscriptions(shop, "s1,1,10,5,10.04.2024 10:00 UTC,,", "s2,1,10,5,10.04.2024 10:00 BST,,")
    assert shop.query("select started_at from raw_files.subscriptions") == [(datetime(2024, 4, 10, 10),)]
    assert [reason for *_, reason in shop.quarantined("subscriptions")] == ["ambiguous_zone"]


# --- numbers ---------------------------------------------------------------------------------------------------------


def amounts(shop):
    return [str(mrr) for (mrr,) in shop.query("select mrr from raw_files.subscriptions order by subscription_id")]


def priced(*amounts: str) -> list[str]:
    return [f's{n},1,"{amount}",5,2024-01-01,,' for n, amount in enumerate(amounts, start=1)]


@pytest.mark.parametrize(
    ("given", "read", "reasons"),
    [
        # Nothing says what the point means.
        (["4.500", "950"], ["950.00"], ["ambiguous_number"]),
        # Others have a decimal comma: these cannot be read, and 4.500 is not 4.5.
        (["4.500", "1.234,50", "950"], ["950.00"], ["ambiguous_number", "wrong_type"]),
        (["1.234", "12,5"], [], ["ambiguous_number", "wrong_type"]),
        # Others can only have a decimal point.
        (["4.500", "12.50"], ["4.50", "12.50"], []),
        (["4.500", "0.125"], ["4.50", "0.13"], []),
        (["4.500", "1250.000"], ["4.50", "1250.00"], []),
        # Of both kinds: nobody knows.
        (["4.500", "12.50", "1.234,50"], ["12.50"], ["ambiguous_number", "wrong_type"]),
    ],
)
@pytest.mark.parametrize("sql", ["mrr", "number(mrr)", "trim(mrr)"])
def test_a_number_that_may_be_either_is_not_guessed(shop, given, read, reasons, sql):
    shop.document["sources"]["app"]["streams"]["subscriptions"]["columns"]["mrr"] = sql
    report = subscriptions(shop, *priced(*given))
    assert amounts(shop) == read
    assert sorted(reason for *_, reason in shop.quarantined("subscriptions")) == reasons
    assert report.rows_read == len(given)
    if reasons:
        assert any("'4.500'" in detail or "'1.234'" in detail for detail in shop.details("subscriptions"))
        assert any('`decimal: ","`' in detail for detail in shop.details("subscriptions"))


@pytest.mark.parametrize(
    ("options", "given", "read"),
    [
        ({"decimal": ","}, ["4.500", "1.234,50", "12,5", "950", "-1"], ["4500.00", "1234.50", "12.50", "950.00"]),
        ({"decimal": ".", "thousands": ","}, ["4.500", "1,234.50", "1,000"], ["4.50", "1234.50", "1000.00"]),
        (
            {"decimal": ",", "thousands": " "},
            ["1 234,50", "1\u00a0234", "1\u202f234,5"],
            ["1234.50", "1234.00", "1234.50"],
        ),
        ({"decimal": ".", "thousands": "'"}, ["1'234.50", "4.500"], ["1234.50", "4.50"]),
        # What is not written as the stream says is not read.
        ({"decimal": ","}, ["4.5", "1.23", "12.34,5", "1,2,3"], []),
        ({"decimal": ",", "thousands": ""}, ["4.500", "4,5"], ["4.50"]),
    ],
)
@pytest.mark.parametrize("sql", ["mrr", "number(mrr)"])
def test_marks_that_are_set_decide(shop, options, given, read, sql):
    shop.document["sources"]["app"]["streams"]["subscriptions"]["columns"]["mrr"] = sql
    subscriptions(shop, *priced(*given), **options)
    assert amounts(shop) == read


@FEW
@given(st.lists(st.decimals("0.01", "9999999", places=2), min_size=1, max_size=20))
def test_a_column_with_a_decimal_comma_is_read_as_it_was_meant_or_not_at_all(company, values):
    written = [f"{value:,.2f}".replace(",", "_").replace(".", ",").replace("_", ".") for value in values]
    with tempfile.TemporaryDirectory() as folder:
        own = type(company)(Path(folder)).streams(accounts=ACCOUNTS, subscriptions=SUBSCRIPTIONS)
        own.write("accounts.csv", HEAD + "1,One,10,2024-01-01,\n")
        rows = [f's{n:03},1,"{text}",5,2024-01-01,,' for n, text in enumerate(written)]
        assert subscriptions(own, *rows, "s999,1,4.500,5,2024-01-01,,").rows_inserted == 0
        own.document["sources"]["app"]["streams"]["subscriptions"]["decimal"] = ","
        own.load(full=True)
        assert amounts(own) == [*(f"{value:.2f}" for value in values), "4500.00"]


def test_what_a_column_proved_is_remembered_for_the_next_delivery(shop):
    subscriptions(shop, *priced("12.50"))
    shop.write("subs-2.csv", SUBS + "t1,1,4.500,5,2024-01-01,,\n")
    assert shop.load()["subscriptions"].rows_quarantined == 0
    shop.write("subs-3.csv", SUBS + 't2,1,"1.234,50",5,2024-01-01,,\nt3,1,7.500,5,2024-01-01,,\n')
    assert shop.load()["subscriptions"].rows_quarantined == 2


def test_numbers_of_json_have_a_decimal_point_whatever_the_texts_beside_them_have(shop):
    rows = [
        {"id": "a", "mrr": 1.234},
        {"id": "b", "mrr": 12},
        {"id": "c", "mrr": "4.500"},
        {"id": "d", "mrr": "1.234,50"},
    ]
    shared = {"account": "1", "seats": 1, "start": "2024-01-01", "end": None, "renews": None}
    shop.write("subs.jsonl", "".join(json.dumps({**row, **shared}) + "\n" for row in rows[:2]))
    assert shop.load()["subscriptions"].rows_quarantined == 0
    shop.write("subs.jsonl", "".join(json.dumps({**row, **shared}) + "\n" for row in rows))
    shop.document["sources"]["app"]["streams"]["subscriptions"]["decimal"] = ","
    assert shop.load(full=True)["subscriptions"].rows_quarantined == 0
    assert amounts(shop) == ["1.23", "12.00", "4500.00", "1234.50"]


def test_the_marks_of_a_stream_differ(shop):
    shop.document["sources"]["app"]["streams"]["subscriptions"] |= {"decimal": ",", "thousands": ","}
    with pytest.raises(Exception, match="cannot be the same mark"):
        shop.load()
