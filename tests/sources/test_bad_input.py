"""Everything that can be wrong with a delivery: what is kept out, what stops, and what is said about it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

ACCOUNTS: dict[str, Any] = {
    "files": "accounts*",
    "columns": {
        "account_id": "id",
        "name": "name",
        "created_at": "created",
        "employees": {"sql": "size", "optional": True},
    },
}
SUBSCRIPTIONS: dict[str, Any] = {
    "files": "subscriptions*",
    "columns": {
        "subscription_id": "id",
        "account_id": "account",
        "mrr": "mrr",
        "started_at": "start",
        "ended_at": "end",
    },
}
GOOD = "s0,1,10.00,2024-01-01,\n"
HEADER = "id,account,mrr,start,end\n"


@pytest.fixture
def shop(company):
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n2,Two,2024-01-01\n")
    return company.streams(accounts=ACCOUNTS, subscriptions=SUBSCRIPTIONS)


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        (",1,5,2024-01-01,", "null_key", "subscription_id is empty"),
        ("  ,1,5,2024-01-01,", "null_key", "subscription_id is empty"),
        ("s1,,5,2024-01-01,", "null_key", "account_id is empty"),
        ("s1,1,,2024-01-01,", "missing_value", "mrr is empty"),
        ("s1,1,5,,", "missing_value", "started_at is empty"),
        ("s1,1,abc,2024-01-01,", "wrong_type", "mrr 'abc' is not of type money"),
        (
            's1,1,"1,50",2024-01-01,',
            "wrong_type",
            "mrr '1,50' is not of type money: if its comma is a decimal one, set `decimal: \",\"` of the stream",
        ),
        ("s1,1,5,2024-02-30,", "impossible_date", "started_at '2024-02-30' is not a date"),
        ("s1,1,5,01.02.2024,", "impossible_date", "started_at '01.02.2024' is not a date"),
        ("s1,1,5,1024-01-01,", "impossible_date", "started_at '1024-01-01' lies outside 1980-01-01 to 2074-05-20"),
        ("s1,1,5,infinity,", "impossible_date", "started_at 'infinity' lies outside 1980-01-01 to 2074-05-20"),
        (
            "s1,1,5,2024-01-01,2099-01-01",
            "impossible_date",
            "ended_at '2099-01-01' lies outside 1980-01-01 to 2074-05-20",
        ),
        ("s1,1,-5,2024-01-01,", "out_of_range", "mrr '-5' is below 0"),
        (
            "s1,1,5,2024-01-02,2024-01-01",
            "end_before_start",
            "ended_at 2024-01-01 00:00:00 is before started_at 2024-01-02 00:00:00",
        ),
        ("s1,9,5,2024-01-01,", "unknown_account", "account_id '9' is not among the accounts of app"),
        ("s1,1,5,2024-01-01,,x", "malformed_row", "too many columns: Expected Number of Columns: 5 Found: 6"),
        ("s1,1,5", "malformed_row", "missing columns: Expected Number of Columns: 5 Found: 3"),
        ('s1,1,"5"x,2024-01-01,', "malformed_row", "unquoted value: Value with unterminated quote found."),
    ],
)
def test_a_broken_row_is_quarantined_with_file_row_and_reason(shop, row, reason, detail):
    shop.write("subscriptions.csv", HEADER + GOOD + row + "\n" + GOOD.replace("s0", "s2"))
    report = shop.load()["subscriptions"]
    assert (report.status, report.rows_read, report.rows_inserted, report.rows_quarantined) == ("loaded", 3, 2, 1)
    assert shop.quarantined("subscriptions") == [("subscriptions.csv", 3, reason)]
    assert shop.details("subscriptions") == [detail]


def test_values_are_kept_as_given_in_quarantine(shop):
    shop.write("subscriptions.csv", HEADER + "s1,1,abc,2024-01-01,soon\n")
    shop.load()
    kept = shop.query(
        "select subscription_id, account_id, mrr, started_at, ended_at, _source, _stream, _run_id from quarantine.subscriptions"
    )
    assert kept == [("s1", "1", "abc", "2024-01-01 00:00:00", "soon", "app", "subscriptions", "run 1")]


def test_personal_values_are_not_repeated_in_the_detail(company):
    company.streams(
        accounts={
            "files": "accounts*",
            "columns": {"account_id": "id", "created_at": "created", "owner_email": "cast(owner as integer)"},
        },
        subscriptions=SUBSCRIPTIONS,
    )
    company.write("accounts.csv", "id,created,owner\n1,2024-01-01,kim@us.example\n")
    company.load()
    assert company.unread("accounts") == ["owner_email is not of type text"]


def test_an_expression_that_fails_on_one_row_breaks_that_row_only(shop):
    shop.document["sources"]["app"]["streams"]["subscriptions"]["columns"]["account_id"] = "cast(account as integer)"
    shop.write("subscriptions.csv", HEADER + GOOD + "s1,one,5,2024-01-01,\n")
    assert shop.load()["subscriptions"].rows_quarantined == 1
    assert shop.details("subscriptions") == ["account_id cannot be read"]


def test_dates_after_the_load_are_impossible_for_what_has_happened_and_fine_for_what_is_planned(shop):
    shop.write("accounts-2.csv", "id,name,created\n3,Soon,2024-06-02\n4,Late,2025-01-01\n")
    shop.write("subscriptions.csv", HEADER + "s1,1,5,2025-01-01,2026-01-01\n")
    reports = shop.load()
    assert (reports["subscriptions"].rows_inserted, reports["accounts"].rows_inserted) == (1, 3)
    assert shop.quarantined("accounts") == [("accounts-2.csv", 3, "impossible_date")]


def test_whole_numbers_are_not_rounded(company):
    company.write(
        "accounts.csv", "id,name,created,size\n1,One,2024-01-01,3.0\n2,Two,2024-01-01,3.7\n3,Three,2024-01-01,1e3\n"
    )
    company.streams(accounts=ACCOUNTS, subscriptions=SUBSCRIPTIONS)
    company.load()
    sizes = company.query("select account_id, employees from raw_files.accounts order by 1")
    assert sizes == [("1", 3), ("2", None), ("3", 1000)]
    assert company.unread("accounts") == ["employees '3.7' is not of type integer"]


def test_broken_encoding_is_kept_out_row_by_row(shop):
    shop.write("accounts-2.csv", b"id,name,created\n3,caf\xe9,2024-01-01\n4,Four,2024-01-01\n5,\xff\xfe,2024-01-01\n")
    report = shop.load()["accounts"]
    assert (report.rows_inserted, report.rows_quarantined) == (3, 2)
    assert shop.quarantined("accounts") == [
        ("accounts-2.csv", 2, "malformed_row"),
        ("accounts-2.csv", 4, "malformed_row"),
    ]
    assert "not utf-8 encoded" in shop.details("accounts")[0]


def test_broken_json_lines_are_kept_out_with_their_numbers(shop):
    good = '{"id":%d,"name":"x","created":"2024-01-01"}'
    lines = [good % 3, '{"id":4,"na', "", '"text"', "[1]", "null", good % 5 + good % 6, good % 7]
    shop.write(
        "accounts-2.jsonl",
        "\n".join(lines).encode() + b'\n{"id":8,"name":"\xff"}\n' + b'{"id":9,"created":"2024-01-01"',
    )
    report = shop.load()["accounts"]
    assert report.rows_inserted == 2 + 2
    assert report.rows_quarantined == 7
    found = shop.quarantined("accounts")
    assert [row for _, row, _ in found] == [2, 4, 5, 6, 7, 9, 10]
    assert {reason for _, _, reason in found} == {"malformed_row"}


def test_record_numbers_count_the_rejected_records_before(shop):
    rows = [
        "s1,1,5,2024-01-01,,x",
        "s2,9,5,2024-01-01,",
        "broken",
        "s3,1,5,2024-01-01,",
        "broken,2",
        "broken",
        "s4,8,5,2024-01-01,",
    ]
    shop.write("subscriptions.csv", HEADER + "\n".join(rows) + "\n")
    assert shop.load()["subscriptions"].rows_read == 7
    assert shop.quarantined("subscriptions") == [
        ("subscriptions.csv", 2, "malformed_row"),
        ("subscriptions.csv", 3, "unknown_account"),
        ("subscriptions.csv", 4, "malformed_row"),
        ("subscriptions.csv", 6, "malformed_row"),
        ("subscriptions.csv", 7, "malformed_row"),
        ("subscriptions.csv", 8, "unknown_account"),
    ]


def test_lines_that_an_open_quote_swallows_are_counted(shop):
    shop.write(
        "subscriptions.csv",
        HEADER + 's1,1,"5,2024-01-01,\ns2,1,5,2024-01-01,\ns3,1,"5",2024-01-01,\ns4,1,5,2024-01-01,\n',
    )
    report = shop.load()["subscriptions"]
    assert (report.rows_read, report.rows_inserted, report.rows_quarantined) == (4, 1, 3)


def test_a_quote_that_swallows_the_file_stops_the_stream(shop):
    rest = "".join(f"t{n},1,5,2024-01-01,\n" for n in range(2_000))
    shop.write("subscriptions.csv", HEADER + GOOD + 's1,1,"5,2024-01-01,\n' + rest)
    report = shop.load()["subscriptions"]
    assert report.status == "stopped"
    assert "subscriptions.csv, record 3: a quote is opened and not closed" in report.message
    assert shop.query("select count(*) from raw_files.subscriptions") == [(0,)]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


LINES = (HEADER + "".join(f"s{n},1,{n}.00,2024-01-01,\n" for n in range(3_000))).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("subscriptions-2.csv", b"", "is empty (0 bytes)"),
        ("subscriptions-2.csv", b"\n", "has no header line"),
        ("subscriptions-2.csv", b"<html>502 Bad Gateway</html>\n", "the mapping does not fit"),
        ("subscriptions-2.csv", b"id,account,start,end\ns1,1,2024-01-01,\n", "mrr ← mrr"),
        ("subscriptions-2.csv.gz", cut(gzip.compress(LINES, mtime=0)), "is not a whole gzip file"),
        ("subscriptions-2.csv.gz", b"not gzip at all", "is not a whole gzip file"),
        ("subscriptions-2.csv.zst", cut(pa.Codec("zstd").compress(LINES, asbytes=True)), "is not a whole zstd file"),
        ("subscriptions-2.parquet", b"PAR1 and then nothing", "is not a whole Parquet file"),
        ("subscriptions-2.parquet", b"PAR1" + b"\x00" * 100 + b"PAR1", "is not a readable Parquet file"),
        ("subscriptions-2.json", b'[{"id":1},\n{"id":2}]\n', "holds one JSON array"),
        ("subscriptions-2.jsonl", b'{"identity":1}\n', "the mapping does not fit"),
        ("subscriptions-2.pdf", b"%PDF", "the name does not tell its format"),
        ("subscriptions-2.xlsx", b"id,account", "is not an Excel workbook"),
        ("subscriptions-2.xlsx", b"PK\x03\x04 and then nothing", "is not a readable Excel workbook"),
        ("subscriptions-2.csv", b"PK\x03\x04 and then nothing", "is not text but an Excel workbook or an archive"),
        ("subscriptions-2.csv", "id,account,start,end,mrr\n".encode("utf-16-le"), "as UTF-16 without a mark"),
        ("subscriptions-2.csv", b"\xff\xfei\x00d\x00,", "is not valid utf-16"),
        ("subscriptions-2.csv", "id,mrr\n".encode("utf-32"), "is encoded in UTF-32"),
        ("subscriptions-2.csv", b'"id,account\n' + b"x" * 5_000_000, "the header is longer than 2,000,000"),
        ("subscriptions-2.csv", b"id,account,start,end,mrr,mrr\n", "more than one column called mrr"),
    ],
)
def test_a_broken_file_stops_its_stream_and_nothing_else(shop, name, content, message):
    shop.write("subscriptions-1.csv", HEADER + GOOD + "s9,9,5,2024-01-01,\n")
    shop.load()
    before = shop.contents()
    (shop.data / name).write_bytes(content)
    shop.write("accounts-2.csv", "id,name,created\n9,Nine,2024-01-01\n")
    shop.write("subscriptions-3.csv", HEADER + GOOD.replace("s0", "s3"))
    reports = shop.load()
    stopped = reports["subscriptions"]
    assert stopped.status == "stopped"
    assert name in stopped.message
    assert message in stopped.message
    assert reports["accounts"].rows_inserted == 1
    after = shop.contents()
    assert after["raw_files.subscriptions"] == before["raw_files.subscriptions"]
    assert after["quarantine.subscriptions"] == before["quarantine.subscriptions"]
    (shop.data / name).unlink()
    healed = shop.load()["subscriptions"]
    assert (healed.rows_inserted, healed.rows_released) == (1, 1)


def test_a_first_load_that_stops_midway_leaves_nothing(shop, monkeypatch):
    monkeypatch.setattr("sources.files.CHUNK_BYTES", 10)
    shop.write("subscriptions-1.csv", HEADER + GOOD + "s1,9,1,2024-01-01,\n")
    shop.write("subscriptions-2.csv", HEADER + 's1,1,"5,2024-01-01,\n' + "x,1,1,2024-01-01,\n" * 2_000)
    assert shop.load()["subscriptions"].status == "stopped"
    assert shop.query("select count(*) from raw_files.subscriptions") == [(0,)]
    assert shop.quarantined("subscriptions") == []
    assert shop.query("select count(*) from ledger.files where stream = 'subscriptions'") == [(0,)]


def test_a_missing_column_is_told_with_what_there_is_and_every_other_mistake(shop):
    shop.document["sources"]["app"]["streams"]["subscriptions"]["columns"] |= {"plan": "tier", "seats": "quantity("}
    shop.write("subscriptions.csv", HEADER + GOOD)
    message = shop.load()["subscriptions"].message
    assert "plan ← tier" in message
    assert "seats ← quantity(" in message
    assert "The source has id, account, mrr, start, end." in message


def test_an_optional_column_may_be_missing(shop):
    columns = shop.document["sources"]["app"]["streams"]["subscriptions"]["columns"]
    columns["plan"] = {"sql": "tier", "optional": True}
    shop.write("subscriptions-1.csv", HEADER + GOOD)
    shop.write("subscriptions-2.csv", "id,account,mrr,start,end,tier\ns1,1,5,2024-01-01,,team\n")
    assert shop.load()["subscriptions"].rows_inserted == 2
    assert shop.query("select plan from raw_files.subscriptions order by 1 nulls first") == [(None,), ("team",)]


@pytest.mark.parametrize(("folder", "message"), [("nowhere", "there is no folder"), ("data", "no file matches")])
def test_missing_folders_and_files_are_told(company, folder, message):
    company.streams(accounts=ACCOUNTS, subscriptions=SUBSCRIPTIONS)
    company.document["sources"]["app"]["path"] = str(company.folder / folder)
    reports = company.load()
    assert {report.status for report in reports.values()} == {"stopped"}
    assert message in reports["accounts"].message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("subscriptions.csv", (HEADER + GOOD + "s1,1,5").encode()),
        ("subscriptions.csv.gz", cut(gzip.compress(LINES, mtime=0))),
        ("subscriptions.parquet", b"PAR1 and more to come"),
    ],
)
def test_a_file_that_is_still_being_written_is_waited_for(shop, name, content):
    path = Path(shop.data / name)
    path.write_bytes(content)
    shop.touch(path, shop.now.timestamp() + 60 - 2 - path.stat().st_mtime)
    report = shop.load()["subscriptions"]
    assert report.status == "stopped"
    assert "may still be being written" in report.message


def test_counts_are_in_the_ledger_and_say_why_a_stream_stopped(shop):
    shop.write("subscriptions.csv", b"")
    shop.load()
    found = shop.query("select stream, status, rows_read, message is null from ledger.loads order by stream")
    assert found == [("accounts", "loaded", 2, True), ("subscriptions", "stopped", 0, False)]
