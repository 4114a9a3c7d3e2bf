"""Ids are written one way, whatever they are kept in, and words that stand for a missing value are none."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import placeholders, suppression
from core.contract import ENTITIES
from sources.texts import id_of, is_inexact

WORDS = placeholders.NULL_IDS
EXACT = 2**53 - 1
EVENTS = {"event_id": "e", "account_id": "a", "user_id": "u", "event_name": "'login'", "occurred_at": "'2024-02-01'"}
UNUSED = {"files": "unused.csv", "columns": EVENTS}
"""A company needs facts, whatever a test looks at."""
LEFT = {"float32": pa.float32(), "float64": pa.float64(), "decimal": pa.decimal128(38, 3), "int64": pa.int64()}


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        yield connection


def written(connection, value, kind):
    sql = f"select {id_of('v', kind, WORDS)} from (select cast($1 as {kind}) as v)"
    return connection.execute(sql, [str(value)]).fetchone()[0]


def refused(connection, value, kind):
    asked = is_inexact(id_of("v", kind, WORDS), "v", kind, WORDS)
    return connection.execute(f"select {asked} from (select cast($1 as {kind}) as v)", [str(value)]).fetchone()[0]


def test_every_column_that_holds_an_id_is_one_in_the_contract():
    named = {
        (entity.name, column.name)
        for entity in ENTITIES.values()
        for column in entity.columns
        if column.name.endswith("_id") or column.name == entity.key or column.name == "known_as"
    }
    marked = {
        (entity.name, column.name) for entity in ENTITIES.values() for column in entity.columns if column.type == "id"
    }
    assert named == marked


@settings(max_examples=60, deadline=None)
@given(number=st.integers(-EXACT, EXACT))
def test_a_whole_number_is_its_digits_in_every_type_and_form(connection, number):
    forms = [(number, "BIGINT"), (number, "DECIMAL(38,3)"), (number, "VARCHAR"), (f"{number}.0", "VARCHAR")]
    forms += [(number, "DOUBLE"), (f" {number}.00 ", "VARCHAR"), (number, "HUGEINT")]
    assert {written(connection, value, kind) for value, kind in forms} == {str(number)}


@settings(max_examples=60, deadline=None)
@given(number=st.integers(EXACT + 1, 10**37))
def test_a_float_beyond_2_to_the_53_is_refused_in_every_form_and_an_exact_number_is_not(connection, number):
    for value, kind in (
        (float(number), "DOUBLE"),
        (repr(float(number)), "VARCHAR"),
        (f"{float(number):.6e}", "VARCHAR"),
        (f"{number}.0", "VARCHAR"),
    ):
        assert written(connection, value, kind) is None
        assert refused(connection, value, kind)
    for kind in ("VARCHAR", "HUGEINT", "DECIMAL(38,0)"):
        assert written(connection, number, kind) == str(number)


@pytest.mark.parametrize(
    "text",
    [
        "00501",
        "12e45",
        "1e16",
        "1.2.0",
        "v5.0",
        "5.10",
        "10.5",
        "a.0",
        "5.0a",
        "0x10",
        "+49 30 1234.0",
        "a+b",
        "-",
        "5 012",
    ],
)
def test_text_that_is_no_float_stays_as_it_is(connection, text):
    assert written(connection, text, "VARCHAR") == (None if text == "-" else text)
    assert not refused(connection, text, "VARCHAR")


@pytest.mark.parametrize(
    ("text", "digits"), [("1.2345678E7", "12345678"), ("5012.0", "5012"), ("007.0", "007"), ("-3.0", "-3")]
)
def test_a_float_as_java_and_python_write_it_is_its_digits(connection, text, digits):
    assert written(connection, text, "VARCHAR") == digits


@pytest.mark.parametrize(
    "text", ["1.23457E+11", "1,23457E+11", "1E+12", "1e+16", "1.836999068e+18", "9007199254740993.0"]
)
def test_text_whose_digits_are_lost_is_refused(connection, text):
    assert written(connection, text, "VARCHAR") is None
    assert refused(connection, text, "VARCHAR")


def test_a_float_of_half_the_size_is_exact_to_2_to_the_24_only(connection):
    assert written(connection, 2**24 - 1, "FLOAT") == str(2**24 - 1)
    assert written(connection, 2**24 + 2, "FLOAT") is None
    assert refused(connection, 2**24 + 2, "FLOAT")


def parquet(folder, ids, kind):
    values = [None if one is None else Decimal(one) if kind == "decimal" else one for one in ids]
    a = pa.array(values, LEFT[kind])
    pq.write_table(pa.table({"e": [f"{kind}{n}" for n in range(len(ids))], "a": a, "u": a}), folder / f"{kind}.parquet")


def test_events_of_one_account_find_it_from_files_and_tables_of_any_type(company):
    """`account` and `user` have an empty cell beside them, which makes floats of a data frame's whole numbers."""
    accounts = {"files": "acc.csv", "columns": {"account_id": "id", "created_at": "'2024-01-01'"}}
    company.streams(
        accounts=accounts,
        typed={"entity": "usage_events", "files": "*.parquet", "columns": EVENTS},
        lines={"entity": "usage_events", "files": "*.jsonl", "columns": EVENTS},
        text={"entity": "usage_events", "files": "ev*.csv", "columns": EVENTS},
    )
    company.document["sources"]["db"] = {
        "connector": "database",
        "url": f"sqlite:///{company.folder / 'db.sqlite'}",
        "account_source": "app",
        "streams": {"usage_events": {"table": "events", "primary_key": "e", "columns": {**EVENTS, "event_id": "e"}}},
    }
    company.write("acc.csv", "id\n5012\n")
    for kind in LEFT:
        parquet(company.data, [5012, None], kind)
    company.write("ev.jsonl", '{"e": "j1", "a": 5012, "u": 5012}\n{"e": "j2", "a": 5012.0, "u": "5012.0"}\n')
    company.write("ev.csv", "e,a,u\nc1,5012,5012\nc2,5012.0,5012.0\nc3,,\n")
    with sqlite3.connect(company.folder / "db.sqlite") as database:
        database.execute("create table events (e text, a real, u numeric)")
        database.executemany("insert into events values (?, ?, ?)", [("d1", 5012.0, 5012), ("d2", 5012.0, None)])
    company.load()
    found = company.query(
        "select event_id, account_id, user_id from raw_files.usage_events union all"
        " select event_id, account_id, user_id from raw_database.usage_events order by 1"
    )
    assert {(account, user) for _, account, user in found} == {("5012", "5012"), ("5012", None)}
    assert len(found) == len(LEFT) + 2 + 2 + 2
    assert set(company.details("usage_events")) == {"account_id is empty"}


def test_two_companies_whose_ids_became_one_float_are_both_quarantined_with_the_value(company):
    company.streams(
        accounts={"files": "acc.parquet", "columns": {"account_id": "id", "name": "n", "created_at": "'2024-01-01'"}},
        usage_events=UNUSED,
    )
    company.write("unused.csv", "e,a,u\n")
    ids = [1836999067930291360.0, 1836999067930291361.0, 1e16]
    company.write("acc.parquet", [{"id": one, "n": f"n{n}"} for n, one in enumerate(ids)])
    report = company.load()["accounts"]
    assert (report.rows_inserted, report.rows_quarantined) == (0, 3)
    assert {reason for *_, reason in company.quarantined("accounts")} == {"inexact_id"}
    found = {row[0] for row in company.query("select account_id from quarantine.accounts")}
    assert found == {"10000000000000000", "1836999067930291456"}
    assert all("is not exact" in detail for detail in company.details("accounts"))


@pytest.mark.parametrize("word", ["NULL", r"\N", "N/A", "nan", "None", "undefined", "#N/A", " na "])
def test_an_id_that_is_a_word_for_nothing_is_quarantined_with_its_reason(company, word):
    company.streams(
        accounts={
            "files": "acc.csv",
            "columns": {
                "account_id": "id",
                "parent_account_id": "parent",
                "domain": "domain",
                "created_at": "'2024-01-01'",
            },
        },
        usage_events=UNUSED,
    )
    company.write("unused.csv", "e,a,u\n")
    company.write("acc.csv", f"id,parent,domain\n1,{word},{word}\n{word},1,a.example\n")
    company.load()
    domain = word if word in ("None", "undefined") else None
    assert company.query("select account_id, parent_account_id, domain from raw_files.accounts") == [
        ("1", None, domain)
    ]
    assert company.quarantined("accounts") == [("acc.csv", 3, "null_key")]
    assert company.details("accounts") == [f"account_id '{word}' stands for a missing value"]


SUBSCRIPTIONS = {
    "subscription_id": "id",
    "account_id": "acc",
    "mrr": "mrr",
    "started_at": "start",
    "ended_at": "ended",
    "seats": "seats",
    "is_trial": "trial",
    "plan": "plan",
}


@pytest.mark.parametrize("word", ["NULL", r"\N", "N/A", "#VALUE!", "-"])
def test_numbers_dates_and_flags_that_are_words_for_nothing_are_null(company, word):
    company.streams(
        accounts={
            "files": "acc.csv",
            "columns": {"account_id": "id", "country": "country", "created_at": "'2024-01-01'"},
        },
        text={"entity": "subscriptions", "files": "sub.csv", "columns": SUBSCRIPTIONS},
        lines={"entity": "subscriptions", "files": "sub.jsonl", "columns": {**SUBSCRIPTIONS, "mrr": "number(mrr)"}},
    )
    company.write("acc.csv", "id,country\n1,NA\n")
    row = {"id": "s2", "acc": 1, "mrr": 5, "start": "2024-01-01"} | dict.fromkeys(
        ("ended", "seats", "trial", "plan"), word
    )
    company.write("sub.csv", ",".join(row) + "\n" + ",".join(map(str, row.values())).replace("s2", "s1") + "\n")
    company.write("sub.jsonl", json.dumps(row) + "\n")
    reports = company.load()
    assert reports["text"].rows_inserted == reports["lines"].rows_inserted == 1, company.details("subscriptions")
    found = company.query("select ended_at, seats, is_trial, plan from raw_files.subscriptions")
    assert found == [(None, None, None, None)] * 2
    assert company.query("select country from raw_files.accounts") == [("NA",)], "Namibia's code"


def test_the_words_for_nothing_are_a_setting_of_the_source_and_of_the_stream(company):
    columns = {"account_id": "id", "segment": "segment", "created_at": "'2024-01-01'"}
    company.streams(
        accounts={"files": "a.csv", "columns": columns},
        others={"entity": "accounts", "files": "b.csv", "columns": columns, "null_words": []},
        usage_events=UNUSED,
    )
    company.write("unused.csv", "e,a,u\n")
    company.document["sources"]["app"]["null_words"] = ["leer"]
    company.write("a.csv", "id,segment\nNULL,Leer\nleer,x\n")
    company.write("b.csv", "id,segment\nnone,leer\n")
    company.load()
    assert company.query("select account_id, segment from raw_files.accounts order by 1") == [
        ("NULL", None),
        ("none", "leer"),
    ]
    assert company.details("accounts") == ["account_id 'leer' stands for a missing value"]


def test_parts_of_a_key_are_written_as_ids_are(company):
    company.sources(
        db={
            "connector": "database",
            "url": f"sqlite:///{company.folder / 'db.sqlite'}",
            "streams": {
                "accounts": {
                    "table": "acc",
                    "columns": {"account_id": "id", "created_at": "'2024-01-01'"},
                    "primary_key": "id",
                },
                "usage_events": {
                    "table": "events",
                    "primary_key": ["a", "n"],
                    "columns": {"account_id": "a", "event_name": "'x'", "occurred_at": "'2024-02-01'"},
                },
            },
        }
    )
    with sqlite3.connect(company.folder / "db.sqlite") as database:
        database.execute("create table acc (id integer)")
        database.execute("insert into acc values (7)")
        database.execute("create table events (a real, n real)")
        database.execute("insert into events values (7, 1)")
    company.load()
    assert company.query("select event_id, account_id from raw_database.usage_events") == [("7-1", "7")]


SHORT, LONG = "001A0000006Vm9r", "001A0000006Vm9rIAC"
GUID = "0a1b2c3d-0000-1111-2222-333344445555"
OF_ACCOUNTS = {"account_id": "id", "created_at": "'2024-01-01'"}


def of_accounts(company):
    company.streams(
        accounts={"files": "accounts*", "columns": OF_ACCOUNTS},
        usage_events={"files": "events*", "columns": EVENTS},
    )
    return company


@pytest.mark.parametrize(("listed", "named"), [(LONG, SHORT), (SHORT, LONG), (GUID, "{" + GUID.upper() + "}")])
@pytest.mark.parametrize("comes_later", [False, True])
def test_a_fact_finds_its_account_by_another_form_of_its_id(company, listed, named, comes_later):
    of_accounts(company)
    company.write("accounts1.csv", "id\nother\n" if comes_later else f"id\n{listed}\n")
    company.write("events.csv", f"e,a,u\n1,{named},x\n2,{listed},y\n3,x{named[:-1]},z\n")
    company.load()
    if comes_later:
        company.write("accounts2.csv", f"id\n{listed}\n")
        assert company.load()["usage_events"].rows_released == 2
    assert company.query("select event_id, account_id from raw_files.usage_events order by 1") == [
        ("1", listed),
        ("2", listed),
    ]
    assert company.quarantined("usage_events") == [("events.csv", 4, "unknown_account")]


def test_two_forms_that_are_listed_as_two_accounts_stay_two(company):
    of_accounts(company)
    company.write("accounts.csv", f"id\n{SHORT}\n{LONG}\n")
    company.write("events.csv", f"e,a,u\n1,{SHORT},x\n2,{LONG},y\n")
    company.load()
    assert company.query("select account_id from raw_files.usage_events order by event_id") == [(SHORT,), (LONG,)]


def test_a_fact_of_an_erased_account_stays_out_in_each_form_of_its_id(company):
    of_accounts(company)
    empty = suppression.Suppression("pepper")
    hashes = suppression.hashed(empty, [("account", "app", SHORT)])
    suppression.add(company.home, suppression.Erasure("e", "account", datetime(2024, 6, 1), hashes), new_salt="pepper")
    company.write("accounts.csv", f"id\n{LONG}\nother\n")
    company.write("events.csv", f"e,a,u\n1,{SHORT},x\n2,{LONG},y\n3,other,z\n")
    reports = company.load()
    assert (reports["accounts"].rows_suppressed, reports["usage_events"].rows_suppressed) == (1, 2)
    assert company.query("select event_id from raw_files.usage_events") == [("3",)]
    assert company.quarantined("usage_events") == []
