"""Deliveries as files: formats, compression, and reading only what is new."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.source_settings import CsvOptions
from sources.file_checks import csv_header
from sources.files import CHUNK_BYTES
from sources.places import Folder

ACCOUNTS: dict[str, Any] = {
    "files": "accounts*",
    "columns": {"account_id": "id", "name": "name", "created_at": "created"},
}
EVENTS: dict[str, Any] = {
    "files": "events*",
    "columns": {"account_id": "account", "event_name": "event", "occurred_at": "at"},
}
CSV = "id,name,created\n1,Ann's,2024-01-01\n2,Böse & Söhne,2024-01-02\n"
JSON = '{"id":1,"name":"Ann\'s","created":"2024-01-01"}\n{"id":2,"name":"Böse & Söhne","created":"2024-01-02"}\n'
TWO = [("1", "Ann's"), ("2", "Böse & Söhne")]
NAMES = "select account_id, name from raw_files.accounts order by account_id"


def accounts_and_events(company):
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n2,Two,2024-01-01\n")
    return company.streams(accounts=ACCOUNTS, usage_events=EVENTS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("accounts.csv", CSV),
        ("accounts.csv.gz", CSV),
        ("accounts.csv.zst", CSV),
        ("accounts.tsv", CSV.replace(",", "\t")),
        ("accounts.txt", CSV.replace(",", ";")),
        ("accounts.jsonl", JSON),
        ("accounts.ndjson.gz", JSON),
        ("accounts.json.zst", JSON),
        (
            "accounts.parquet",
            [
                {"id": 1, "name": "Ann's", "created": "2024-01-01"},
                {"id": 2, "name": "Böse & Söhne", "created": "2024-01-02"},
            ],
        ),
    ],
)
def test_each_format_and_compression_gives_the_same_rows(company, name, content):
    company.streams(accounts=ACCOUNTS, usage_events=EVENTS).write(name, content)
    company.write("events.csv", "account,event,at\n1,login,2024-02-01\n")
    reports = company.load()
    assert (reports["accounts"].rows_inserted, reports["usage_events"].rows_inserted) == (2, 1)
    assert company.query(NAMES) == TWO


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + CSV.encode(),
        CSV.replace("\n", "\r\n").encode(),
        CSV.replace("\n", "\r").encode(),
        CSV.removesuffix("\n").encode(),
        b'"id","name","created"\n"1","Ann\'s","2024-01-01"\n"2","B\xc3\xb6se & S\xc3\xb6hne","2024-01-02"\n',
        CSV.replace("id,name,created", " id , name ,created").encode(),
        CSV.replace("\n1,", "\n 1 ,").encode(),
    ],
    ids=["byte-order mark", "CRLF", "CR", "no last line end", "quoted", "blanks in header", "blanks in values"],
)
def test_csv_dialects_are_read_alike(company, content):
    company.streams(accounts=ACCOUNTS, usage_events=EVENTS).write("accounts.csv", content)
    company.load()
    assert company.query(NAMES) == TWO


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_read_when_named(company, encoding):
    company.streams(accounts={**ACCOUNTS, "csv": {"encoding": encoding}}, usage_events=EVENTS)
    company.write("accounts.csv", CSV.encode(encoding))
    company.load()
    assert company.query(NAMES) == TWO


def test_json_lines_after_a_byte_order_mark_lose_no_line(company):
    company.streams(accounts=ACCOUNTS, usage_events=EVENTS).write("accounts.jsonl", b"\xef\xbb\xbf" + JSON.encode())
    assert company.load()["accounts"].rows_inserted == 2


def test_quoted_line_breaks_and_delimiters_stay_in_their_value(company):
    company.streams(accounts=ACCOUNTS, usage_events=EVENTS)
    company.write("accounts.csv", 'id,name,created\n1,"One,\nwith ""two"" lines",2024-01-01\n')
    company.load()
    assert company.query(NAMES) == [("1", 'One,\nwith "two" lines')]


def test_a_stray_comma_in_a_row_does_not_change_the_delimiter(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,v\n1,a\n2,b,c\n3\n")
    header = csv_header(path, CsvOptions(), name="a.csv")
    assert (header.delimiter, header.columns) == (",", ("id", "v"))


def test_columns_with_one_name_are_told_apart(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,Name,name,,id\n")
    header = csv_header(path, CsvOptions(), name="a.csv")
    assert header.columns == ("id (1)", "Name", "name", "column3", "id (2)")
    assert header.repeated == ("id",)


def test_files_may_order_their_columns_differently_and_have_more_of_them(company):
    company.streams(accounts=ACCOUNTS, usage_events=EVENTS)
    company.write("accounts-1.csv", "id,name,created\n1,One,2024-01-01\n")
    company.write("accounts-2.csv", "created;extra;name;id\n2024-01-01;x;Two;2\n")
    assert company.load()["accounts"].rows_inserted == 2
    assert company.query(NAMES) == [("1", "One"), ("2", "Two")]


def test_parquet_files_may_type_a_column_differently(company):
    company.streams(accounts=ACCOUNTS, usage_events=EVENTS)
    company.write("accounts-1.parquet", [{"id": 1, "name": "One", "created": "2024-01-01"}])
    company.write("accounts-2.parquet", [{"id": "b", "name": None, "created": "2024-01-02"}])
    company.write("accounts-3.parquet", [{"id": 3.0, "name": "Three", "created": "2024-01-03"}])
    assert company.load()["accounts"].rows_inserted == 3
    assert company.query(NAMES) == [("1", "One"), ("3", "Three"), ("b", None)]


def test_nested_json_travels_as_json_text(company):
    columns = {"account_id": "id", "created_at": "created", "name": "metadata->>'crm_id'", "domain": "tags->>0"}
    company.streams(accounts={"files": "accounts*", "columns": columns}, usage_events=EVENTS)
    company.write("accounts.jsonl", '{"id":1,"created":"2024-01-01","metadata":{"crm_id":"c1"},"tags":["a.com","b"]}\n')
    company.load()
    assert company.query("select name, domain from raw_files.accounts") == [("c1", "a.com")]


def test_a_json_key_that_a_later_day_leaves_out_is_null(company):
    company.streams(accounts=ACCOUNTS, usage_events=EVENTS)
    company.write("accounts-1.jsonl", '{"id":1,"name":"One","created":"2024-01-01"}\n')
    company.load()
    company.write("accounts-2.jsonl", '{"id":2,"created":"2024-01-01"}\n')
    assert company.load()["accounts"].rows_inserted == 1
    assert company.query(NAMES) == [("1", "One"), ("2", None)]


def test_only_new_files_are_read(company):
    accounts_and_events(company).write("events-1.csv", "account,event,at\n1,login,2024-02-01\n")
    first = company.load()
    again = company.load()
    company.write("events-2.csv", "account,event,at\n2,login,2024-02-02\n")
    third = company.load()
    assert (first["usage_events"].files, first["usage_events"].rows_inserted) == (1, 1)
    assert [(r.status, r.files, r.rows_read) for r in again.values()] == [("unchanged", 0, 0)] * 2
    assert (third["usage_events"].files, third["usage_events"].rows_read) == (1, 1)
    assert third["accounts"].status == "unchanged"


def test_a_touched_file_with_the_same_content_is_not_read_again_but_remembered(company):
    accounts_and_events(company)
    path = company.write("events.csv", "account,event,at\n1,login,2024-02-01\n")
    company.load()
    company.touch(path, 60)
    assert company.load()["usage_events"].status == "unchanged"
    remembered = company.query("select mtime_ns from ledger.files where stream = 'usage_events'")
    assert remembered == [(path.stat().st_mtime_ns,)]


def test_a_changed_file_replaces_its_own_rows_when_they_have_no_key(company):
    accounts_and_events(company)
    company.write("events-1.csv", "account,event,at\n1,login,2024-02-01\n1,logout,2024-02-01\n9,login,2024-02-01\n")
    company.write("events-2.csv", "account,event,at\n1,export,2024-02-02\n")
    company.load()
    company.write("events-1.csv", "account,event,at\n2,login,2024-02-03\n")
    company.load()
    found = company.query("select account_id, event_name from raw_files.usage_events order by all")
    assert found == [("1", "export"), ("2", "login")]
    assert company.quarantined("usage_events") == []
    restated = company.query("select account_id, cast(activity_date as varchar) from ledger.restated_days")
    assert restated == [("1", "2024-02-01")]


def test_keyed_rows_that_a_changed_file_no_longer_has_stay(company):
    company.streams(accounts=ACCOUNTS, usage_events=EVENTS).write("accounts.csv", CSV)
    company.load()
    company.write("accounts.csv", "id,name,created\n2,Renamed,2024-01-02\n")
    report = company.load()["accounts"]
    assert (report.rows_read, report.rows_updated) == (1, 1)
    assert company.query(NAMES) == [("1", "Ann's"), ("2", "Renamed")]


def test_a_file_that_is_gone_takes_nothing_with_it(company):
    accounts_and_events(company)
    path = company.write("events.csv", "account,event,at\n1,login,2024-02-01\n")
    company.load()
    before = company.contents()
    path.unlink()
    assert company.load()["usage_events"].status == "unchanged"
    assert company.contents() == before


def test_a_file_that_was_moved_is_not_read_again_and_its_rows_follow(company):
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n")
    company.streams(accounts=ACCOUNTS, usage_events={**EVENTS, "files": "**/events*"})
    path = company.write("events.csv", "account,event,at\n1,login,2024-02-01\n9,login,2024-02-01\n")
    company.load()
    archived = company.data / "archive" / "events.csv"
    archived.parent.mkdir()
    shutil.move(path, archived)
    assert company.load()["usage_events"].status == "unchanged"
    assert company.query("select _file from raw_files.usage_events") == [(str(archived),)]
    archived.write_text("account,event,at\n1,export,2024-02-01\n")
    company.load()
    assert company.query("select event_name from raw_files.usage_events") == [("export",)]
    assert company.quarantined("usage_events") == []


def test_a_file_without_rows_is_read_once(company):
    accounts_and_events(company).write("events.csv", "account,event,at\n")
    first, second = company.load()["usage_events"], company.load()["usage_events"]
    assert (first.status, first.files, first.rows_read) == ("loaded", 1, 0)
    assert second.status == "unchanged"


def test_unfinished_and_hidden_files_are_left_alone(company):
    for name in ("a.csv", "b.csv.tmp", "c.csv.part", ".d.csv"):
        company.write(name, "x")
    found = Folder(company.data).find(("*",), label="app/x")
    assert [Path(file.path).name for file in found] == ["a.csv"]


def test_globs_reach_into_folders_and_several_can_be_given(company):
    company.streams(accounts={**ACCOUNTS, "files": ["2024/*/a.csv", "old.csv"]}, usage_events=EVENTS)
    company.write("2024/01/a.csv", "id,name,created\n1,One,2024-01-01\n")
    company.write("2024/02/a.csv", "id,name,created\n2,Two,2024-01-01\n")
    company.write("old.csv", "id,name,created\n3,Three,2024-01-01\n")
    company.write("2024/02/b.csv", "id,name,created\n4,Four,2024-01-01\n")
    assert company.load()["accounts"].rows_inserted == 3


def test_many_files_are_read_in_pieces_of_bounded_size(company, monkeypatch):
    accounts_and_events(company)
    for day in range(1, 10):
        company.write(f"events-{day}.csv", f"account,event,at\n1,login,2024-02-0{day}\n8,login,2024-02-0{day}\n")
    monkeypatch.setattr("sources.files.CHUNK_BYTES", 100)
    assert CHUNK_BYTES > 100
    report = company.load()["usage_events"]
    assert (report.files, report.rows_inserted, report.rows_quarantined) == (9, 9, 9)
    assert [row for _, row, _ in company.quarantined("usage_events")] == [3] * 9


def test_a_lookup_fills_a_column_from_another_file(company):
    company.write("owners.csv", "id,email\n7,kim@us.example\n")
    company.write("accounts.csv", "id,name,created,owner\n1,One,2024-01-01,7\n2,Two,2024-01-01,8\n")
    columns = {**ACCOUNTS["columns"], "account_id": "a.id", "owner_email": "o.email"}
    stream = {
        "files": "accounts*",
        "lookups": {"owners": "owners.csv"},
        "join": "as a left join owners as o on o.id = a.owner",
        "columns": columns,
    }
    company.streams(accounts=stream, usage_events=EVENTS)
    company.load()
    assert company.query("select account_id, owner_email from raw_files.accounts order by 1") == [
        ("1", "kim@us.example"),
        ("2", None),
    ]


@pytest.mark.parametrize(
    ("join", "message"),
    [("join owners on owner_id = owner", "turns 2 rows into 1"), ("cross join owners", "turns 2 rows into 4")],
)
def test_a_join_that_drops_or_doubles_rows_stops_the_stream(company, join, message):
    company.write("owners.csv", "owner_id,email\n7,kim@us.example\n9,lou@us.example\n")
    company.write("accounts.csv", "id,name,created,owner\n1,One,2024-01-01,7\n2,Two,2024-01-01,8\n")
    company.streams(accounts={**ACCOUNTS, "lookups": {"owners": "owners.csv"}, "join": join}, usage_events=EVENTS)
    report = company.load()["accounts"]
    assert report.status == "stopped"
    assert message in report.message


def test_rows_can_be_grouped_into_one(company):
    columns = {
        "invoice_id": "invoice",
        "account_id": "account",
        "issued_at": "min(day)",
        "amount": "total_of(try(number(price)))",
    }
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n")
    company.write(
        "invoices.csv",
        "invoice,account,day,price\nA,1,2024-02-02,1.10\nA,1,2024-02-01,2.20\nB,1,2024-02-03,3\nB,1,2024-02-03,x\n",
    )
    company.streams(
        accounts=ACCOUNTS, invoices={"files": "invoices*", "group_by": ["invoice", "account"], "columns": columns}
    )
    report = company.load()["invoices"]
    assert (report.rows_read, report.rows_inserted, report.rows_quarantined) == (2, 1, 1)
    assert company.query(
        "select invoice_id, cast(amount as varchar), cast(issued_at as varchar) from raw_files.invoices"
    ) == [("A", "3.30", "2024-02-01 00:00:00")]
    assert company.query("select invoice_id, _reason from quarantine.invoices") == [("B", "missing_value")]


def test_a_path_with_a_quote_in_it_is_read(company):
    accounts_and_events(company).write(
        "events of 'May'.csv", "account,event,at\n1,login,2024-02-01\n5,login,2024-02-01\n"
    )
    report = company.load()["usage_events"]
    assert (report.rows_inserted, report.rows_quarantined) == (1, 1)
    assert Path(company.query("select _file from raw_files.usage_events")[0][0]).name == "events of 'May'.csv"


INVOICE_LINES = {
    "invoice_id": "id || '-' || cast(item->>'line' as varchar)",
    "account_id": "account",
    "issued_at": "day",
    "amount": "item->>'price'",
}


@pytest.mark.parametrize("again", [False, True], ids=["first load", "later load"])
def test_each_item_of_a_list_is_a_row(company, again):
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n")
    unnested = {"files": "orders*", "unnest": "json_extract(lines, '$[*]')", "columns": INVOICE_LINES}
    company.streams(accounts=ACCOUNTS, invoices=unnested)
    if again:
        company.write(
            "orders-0.jsonl", '{"id": "Z", "account": 1, "day": "2024-01-01", "lines": [{"line": 1, "price": 9}]}\n'
        )
        company.load()
    orders = [
        {"id": "A", "account": 1, "day": "2024-02-01", "lines": [{"line": 1, "price": 1.5}, {"line": 2, "price": "x"}]},
        {"id": "B", "account": 1, "day": "2024-02-02", "lines": []},
        {"id": "C", "account": 1, "day": "2024-02-03", "lines": [{"line": 1, "price": 4}]},
    ]
    text = "\n".join(json.dumps(order) for order in orders) + '\n["no object"]\n'
    company.write("orders-1.jsonl", text)
    report = company.load()["invoices"]
    assert (report.rows_read, report.rows_inserted, report.rows_quarantined) == (4, 2, 2)
    assert company.query(
        "select invoice_id, cast(amount as varchar) from raw_files.invoices where invoice_id <> 'Z-1' order by all"
    ) == [("A-1", "1.50"), ("C-1", "4.00")]
    assert company.query("select invoice_id, _row, _reason from quarantine.invoices order by _row") == [
        ("A-2", 1, "wrong_type"),
        (None, 4, "malformed_row"),
    ]


def test_items_come_of_a_list_that_a_join_brings(company):
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n2,Two,2024-01-01\n")
    company.write("enrolled.csv", "account,course\n1,maths\n2,maths\n2,arts\n")
    company.write("due.csv", "course,work,day\nmaths,a,2024-02-01\nmaths,b,2024-03-01\narts,a,2024-04-01\n")
    due = "(select course, list({'work': work, 'day': day}) as works from due group by course)"
    company.streams(
        accounts=ACCOUNTS,
        invoices={
            "files": "enrolled*",
            "lookups": {"due": "due.csv"},
            "join": f"left join {due} using (course)",
            "unnest": "works",
            "columns": {
                "invoice_id": "account || course || item.work",
                "account_id": "account",
                "issued_at": "item.day",
                "amount": 1,
            },
        },
    )
    report = company.load()["invoices"]
    assert (report.rows_read, report.rows_inserted) == (5, 5)
    found = company.query("select invoice_id from raw_files.invoices order by 1")
    assert [row[0] for row in found] == ["1mathsa", "1mathsb", "2artsa", "2mathsa", "2mathsb"]


def test_a_piece_whose_lists_are_empty_stops_nothing_where_others_have_items(company, monkeypatch):
    monkeypatch.setattr("sources.files.CHUNK_BYTES", 100)
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n")
    unnested = {"files": "orders*", "unnest": "json_extract(lines, '$[*]')", "columns": INVOICE_LINES}
    company.streams(accounts=ACCOUNTS, invoices=unnested)
    company.write("orders-1.jsonl", '{"id": "A", "account": 1, "day": "2024-02-01", "lines": []}\n')
    company.write(
        "orders-2.jsonl", '{"id": "B", "account": 1, "day": "2024-02-01", "lines": [{"line": 1, "price": 2}]}\n'
    )
    report = company.load()["invoices"]
    assert (report.status, report.rows_read, report.rows_inserted) == ("loaded", 1, 1)


@pytest.mark.parametrize(
    ("unnest", "told"),
    [
        ("name", "`unnest`: name is of type VARCHAR, which is no list; of JSON, write json_extract(name, '$[*]')"),
        ("nam", "`unnest` ← nam: "),
        ("[]::varchar[]", "`unnest` finds no item in any of 1 records: []::varchar[]"),
    ],
)
def test_what_is_no_list_cannot_be_unnested(company, unnest, told):
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n")
    company.streams(accounts={**ACCOUNTS, "unnest": unnest}, usage_events=EVENTS)
    report = company.load()["accounts"]
    assert report.status == "stopped"
    assert told in report.message


def test_a_mapping_that_changed_is_told_until_all_is_read_by_it(company):
    accounts_and_events(company).write("events.csv", "account,event,at\n1,login,2024-02-01\n")
    assert {report.message for report in company.load().values()} == {None}
    shouting = {**ACCOUNTS, "columns": {**ACCOUNTS["columns"], "name": "upper(name)"}}
    company.streams(accounts=shouting, usage_events={**EVENTS, "files": ["events*", "more*"]})
    for _ in range(2):
        reports = company.load()
        assert reports["usage_events"].message is None, "which files there are changes no row that was read"
        assert reports["accounts"].status == "unchanged"
        assert "the mapping of name has changed since rows were loaded" in str(reports["accounts"].message)
    assert company.query(NAMES) == [("1", "One"), ("2", "Two")]
    assert company.load(full=True)["accounts"].message is None
    assert company.query(NAMES) == [("1", "ONE"), ("2", "TWO")]
    assert company.load()["accounts"].message is None
