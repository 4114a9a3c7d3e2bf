"""Files as programs write them: names that look alike, encodings, line ends, workbooks."""

from __future__ import annotations

import gzip
import zipfile
from datetime import date, datetime
from pathlib import Path
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import warehouse
from sources import names, readers

ACCOUNTS = {"account_id": "id", "name": "name", "created_at": "created"}
UNUSED = {
    "files": "unused.csv",
    "columns": {"account_id": "a", "event_name": "'x'", "occurred_at": "'2024-02-01'"},
}
"""A company needs facts, whatever a test looks at."""
FOUND = "select account_id, name from raw_files.accounts order by 1"
ROWS = "id,name,created\n1,Aster,2024-01-01\n2,Brïar,2024-01-01\n"


@pytest.fixture
def shop(company):
    return with_accounts(company, files="acc*")


def with_accounts(company, **accounts):
    company.streams(accounts={"columns": ACCOUNTS, **accounts}, usage_events=UNUSED)
    company.write("unused.csv", "a\n")
    return company


def loaded(shop):
    report = shop.load()["accounts"]
    assert report.status == "loaded", report.message
    assert report.rows_quarantined == 0, shop.details("accounts")
    return shop.query(FOUND)


# --- names ---------------------------------------------------------------------------------------------------------

LOOK_ALIKE = {
    "acc.jsonl": '{"ID": "old", "id": 1, "Name": "no", "name": "Aster", "created": "2024-01-01", "_file": "f", "": "x"}\n',
    "acc.csv": "ID,id,Name,name,created,_file,\nold,1,no,Aster,2024-01-01,f,x\n",
}


@pytest.mark.parametrize("name", [*LOOK_ALIKE, "acc.parquet"])
def test_names_that_differ_in_case_are_different_columns_in_every_format(shop, name):
    columns = {**ACCOUNTS, "industry": "ID || '/' || Name", "segment": "_file", "country": "upper(name)"}
    shop.document["sources"]["app"]["streams"]["accounts"]["columns"] = columns
    if name in LOOK_ALIKE:
        shop.write(name, LOOK_ALIKE[name])
    else:
        given = ["ID", "id", "Name", "name", "created", "_file", ""]
        values = ["old", "1", "no", "Aster", "2024-01-01", "f", "x"]
        pq.write_table(pa.table([[value] for value in values], names=given), shop.data / name)
    assert loaded(shop) == [("1", "Aster")]
    found = shop.query("select industry, segment, country from raw_files.accounts")
    assert found == [("old/no", "f", "ASTER")]


@pytest.mark.parametrize("sql", ["ID", "lower(ID)", "coalesce(name, ID)", '"Id"'])
@pytest.mark.parametrize("name", ["acc.jsonl", "acc.csv", "acc.parquet"])
def test_a_name_in_another_case_is_a_mistake_that_is_named(shop, name, sql):
    shop.document["sources"]["app"]["streams"]["accounts"]["columns"] = {**ACCOUNTS, "industry": sql}
    row = {"id": "1", "name": "Aster", "created": "2024-01-01"}
    contents = {
        "acc.jsonl": str(row).replace("'", '"'),
        "acc.csv": ",".join(row) + "\n" + ",".join(row.values()) + "\n",
    }
    shop.write(name, contents.get(name, [row]))
    report = shop.load()["accounts"]
    assert report.status == "stopped"
    assert (
        f"the source has no column {sql.strip(chr(34)) if sql != 'ID' and sql.startswith(chr(34)) else 'ID'}, but id"
        in report.message
    )
    assert "names are matched exactly" in report.message


def test_of_a_key_that_an_object_has_twice_the_last_value_holds(shop):
    shop.write(
        "acc.jsonl",
        '{"id": 7, "name": "old", "created": "2024-01-01", "id": 18369990679302913600000, "name": "new"}\n'
        '{"id": 2, "name": "Two", "created": "2024-01-01"}\n',
    )
    assert loaded(shop) == [("18369990679302913600000", "new"), ("2", "Two")]


KEYS = st.lists(st.text(st.characters(codec="utf-8"), max_size=4), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=KEYS)
def test_any_keys_that_json_allows_can_be_read_each_by_its_own_name(keys):
    import json

    line = "{" + ", ".join(f"{json.dumps(key)}: {json.dumps(str(n))}" for n, key in enumerate(keys)) + "}"
    last = {key: str(n) for n, key in enumerate(keys)}
    known = names.sql_names(list(last))
    relation = f"(select 'f' as _file, {warehouse.literal(line)} as line)"
    read = readers.objects(relation, known, numbered=False, with_comma=(), has_repeated_keys=len(last) < len(keys))
    with warehouse.scratch() as connection:
        row = warehouse.rows(connection, f"select * from {read}")[0]
        for key, sql in known.items():
            assert row[sql] == last[key]
            assert names.Names(connection, known).exact(key)[0] == warehouse.identifier(sql) or key != key.strip()
    assert row["_malformed"] is False


def test_a_header_with_a_name_twice_is_loaded_where_no_mapping_reads_that_name(shop):
    shop.write("acc.csv", "id,note,name,note,created\n1,a,Aster,b,2024-01-01\n")
    assert loaded(shop) == [("1", "Aster")]


def test_a_name_that_stands_twice_says_how_to_choose_and_can_be_chosen(shop):
    columns = shop.document["sources"]["app"]["streams"]["accounts"]["columns"]
    shop.write("acc.csv", "id,name,created,name\n1,Aster,2024-01-01,Briar\n")
    report = shop.load()["accounts"]
    assert report.status == "stopped"
    assert "acc.csv has more than one column called name, which the mapping reads" in report.message
    assert "`name (1)` for the first" in report.message
    shop.document["sources"]["app"]["streams"]["accounts"]["columns"] = {**columns, "name": "name (2)"}
    assert loaded(shop) == [("1", "Briar")]


# --- text ----------------------------------------------------------------------------------------------------------

WIDE = "id,name,created," + ",".join(f"custom_field_{n:05d}" for n in range(4000)) + "\n"
SHAPES = {
    "utf-16, little end first": ROWS.encode("utf-16"),
    "utf-16, big end first": b"\xfe\xff" + ROWS.encode("utf-16-be"),
    "utf-16 with mixed line ends": ROWS.replace("\n", "\r\n", 1).encode("utf-16"),
    "mark of utf-8": b"\xef\xbb\xbf" + ROWS.encode(),
    "first line ends otherwise": ROWS.replace("\n", "\r\n", 1).encode(),
    "second line ends otherwise": ROWS.replace("01\n", "01\r\n", 1).encode(),
    "one line ends in a carriage return": ROWS.replace("01\n", "01\r", 1).encode(),
    "old Macintosh": ROWS.replace("\n", "\r").encode(),
    "sep": b"sep=;\r\n" + ROWS.replace(",", ";").replace("\n", "\r\n").encode(),
    "sep in quotes, utf-16": b"\xff\xfe"
    + ('"sep=\t"\r\n' + ROWS.replace(",", "\t").replace("\n", "\r\n")).encode("utf-16-le"),
    "sep of a rare kind": b"sep=:\n" + ROWS.replace(",", ":").encode(),
    "4,003 columns": WIDE.encode() + b"".join(line.encode() + b",0" * 4000 + b"\n" for line in ROWS.splitlines()[1:]),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_csv_file_of_any_usual_shape_is_loaded(shop, shape, packed):
    shop.write("acc.csv.gz" if packed else "acc.csv", SHAPES[shape])
    assert loaded(shop) == [("1", "Aster"), ("2", "Brïar")]


def test_lines_of_json_may_be_utf_16_and_end_in_more_than_one_way(shop):
    lines = [
        '{"id": 1, "name": "Aster", "created": "2024-01-01"}',
        '{"id": 2, "name": "Brïar", "created": "2024-01-01"}',
    ]
    shop.write("acc-1.jsonl", f"{lines[0]}\r\n{lines[1]}\n".encode())
    shop.write("acc-2.jsonl", f"{lines[1]}\n".encode("utf-16"))
    report = shop.load()["accounts"]
    assert (report.rows_inserted, report.rows_superseded) == (2, 1)


def test_line_ends_within_quotes_stay_and_messages_name_the_file_and_the_record(shop):
    text = 'id,name,created\r\n1,"a\r\nb",2024-01-01\n2,"5"" c",2024-01-01\r\n,"d\ne",2024-01-01\n4,5" f,2024-01-01\r\n'
    path = shop.write("acc.csv", text)
    report = shop.load()["accounts"]
    assert shop.query(FOUND)[:2] == [("1", "a\r\nb"), ("2", '5" c')]
    assert ("acc.csv", 4, "null_key") in shop.quarantined("accounts")
    assert report.rows_read == 4
    assert shop.query("select distinct _file from raw_files.accounts") == [(str(path),)]


def test_records_after_a_line_that_names_the_separator_are_counted_as_an_editor_does(shop):
    shop.write("acc.csv", "sep=;\nid;name;created\n1;Aster;2024-01-01\n;x;2024-01-01\n3;y;2024-01-01;more\n")
    shop.load()
    assert shop.quarantined("accounts") == [("acc.csv", 4, "null_key"), ("acc.csv", 5, "malformed_row")]


def test_no_copy_is_left_behind(shop):
    shop.write("acc.csv", ROWS.encode("utf-16"))
    shop.load()
    assert [path for path in shop.home.rglob("*") if path.name == "acc.csv"] == []


# --- bytes ---------------------------------------------------------------------------------------------------------


def test_text_without_a_mark_in_parquet_is_decoded_and_what_is_no_text_is_quarantined(shop):
    table = {
        "id": [b"A1", "Kö1".encode(), b"A3", None],
        "name": ["Café".encode(), None, b"\xc3\x28", b"x"],
        "unread": [b"\xff"] * 4,
        "created": [datetime(2024, 1, 1)] * 4,
    }
    pq.write_table(pa.table(table), shop.data / "acc.parquet")
    report = shop.load()["accounts"]
    assert (report.rows_read, report.values_unread) == (4, 1), report.message
    assert shop.query(FOUND) == [("A1", "Café"), ("A3", None), ("Kö1", None)]
    assert shop.unread("accounts") == ["name cannot be read"]
    assert shop.quarantined("accounts") == [("acc.parquet", 4, "null_key")]
    assert shop.details("accounts") == ["account_id is empty"]


def test_bytes_break_their_row_where_it_cannot_do_without_them_and_are_never_a_default(shop):
    columns = {**ACCOUNTS, "name": "coalesce(name, 'nobody')", "owner_email": "mail", "segment": "size"}
    shop = with_accounts(shop, files="acc*", columns=columns, where="size is distinct from 'none'")
    bad = b"\xc3\x28"
    table = {
        "id": [b"1", b"2", b"3", bad],
        "name": [bad, b"Two", b"Three", b"Four"],
        "mail": [b"a@x.com", bad, b"c@x.com", b"d@x.com"],
        "size": [b"small", b"small", bad, b"small"],
        "created": [datetime(2024, 1, 1)] * 4,
    }
    pq.write_table(pa.table(table), shop.data / "acc.parquet")
    report = shop.load()["accounts"]
    assert (report.rows_inserted, report.rows_quarantined, report.values_unread) == (2, 2, 2), report.message
    found = shop.query("select account_id, name, owner_email from raw_files.accounts order by 1")
    assert found == [("1", None, "a@x.com"), ("2", "Two", None)]
    assert shop.unread("accounts") == ["name cannot be read", "owner_email cannot be read"]
    assert shop.details("accounts") == ["size is not text but bytes: C328", "id is not text but bytes: C328"]


# --- workbooks -----------------------------------------------------------------------------------------------------


def workbook(path: Path, sheets: dict[str, list[list[object]]]) -> None:
    """A workbook as Excel writes it, reduced to what cells need. Dates are numbers with a style."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"

    def cell(value: object) -> str:
        if isinstance(value, date):
            return f'<c s="1"><v>{(value - date(1899, 12, 30)).days}</v></c>'
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        return "<c/>" if value is None else f"<c><v>{value!r}</v></c>"

    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "[Content_Types].xml", '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
        )
        file.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}"><Relationship Id="r1" Type="{relations}/officeDocument"'
            ' Target="xl/workbook.xml"/></Relationships>',
        )
        listed = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
        file.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>{listed}</sheets></workbook>'
        )
        targets = "".join(
            f'<Relationship Id="r{n}" Type="{relations}/worksheet" Target="worksheets/sheet{n}.xml"/>'
            for n in range(1, len(sheets) + 1)
        )
        file.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}">{targets}<Relationship Id="s" Type="{relations}/styles" Target="styles.xml"/>'
            "</Relationships>",
        )
        file.writestr(
            "xl/styles.xml",
            f'<styleSheet xmlns="{main}"><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>',
        )
        for n, rows in enumerate(sheets.values(), 1):
            body = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
            file.writestr(
                f"xl/worksheets/sheet{n}.xml", f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>'
            )


SHEET = [
    ["id", "name", "created"],
    [5012, "Aster, Ltd", date(2024, 1, 1)],
    [None, None, None],
    ["007", 'Br"ïar', date(2024, 1, 2)],
]


def test_a_workbook_is_read_as_a_csv_file_is(company):
    shop = with_accounts(company, files="acc*.xlsx")
    workbook(company.data / "acc.xlsx", {"Companies": SHEET, "Notes": []})
    assert loaded(shop) == [("007", 'Br"ïar'), ("5012", "Aster, Ltd")]
    assert shop.query("select cast(max(created_at) as varchar) from raw_files.accounts") == [("2024-01-02 00:00:00",)]


def test_of_more_than_one_sheet_the_setting_chooses(company):
    shop = with_accounts(company, files="acc*.xlsx")
    workbook(company.data / "acc.xlsx", {"Old": [["id"], [1]], "New": SHEET})
    report = shop.load()["accounts"]
    assert "has more than one sheet: Old, New. Set `sheet` on the stream." in report.message
    shop.document["sources"]["app"]["streams"]["accounts"]["sheet"] = "Nwe"
    assert "has no sheet 'Nwe'. It has Old, New." in shop.load()["accounts"].message
    shop.document["sources"]["app"]["streams"]["accounts"]["sheet"] = "New"
    assert len(loaded(shop)) == 2


def test_an_id_that_excel_keeps_no_more_exactly_is_refused(company):
    shop = with_accounts(company, files="acc*.xlsx")
    rows = [[1836999067930291300, "a", date(2024, 1, 1)], [123456789012345, "b", date(2024, 1, 1)]]
    workbook(company.data / "acc.xlsx", {"S": [SHEET[0], *rows]})
    shop.load()
    assert shop.query(FOUND) == [("123456789012345", "b")]
    assert shop.quarantined("accounts") == [("acc.xlsx", 2, "inexact_id")]


def test_a_workbook_may_be_looked_up_in(company):
    shop = with_accounts(
        company, files="acc.csv", lookups={"regions": "regions.xlsx"}, join="left join regions on regions.account = id"
    )
    company.document["sources"]["app"]["streams"]["accounts"]["columns"] = {**ACCOUNTS, "segment": "region"}
    company.write("acc.csv", ROWS)
    workbook(company.data / "regions.xlsx", {"S": [["account", "region"], [1, "north"]]})
    shop.load()
    assert shop.query("select account_id, segment from raw_files.accounts order by 1") == [("1", "north"), ("2", None)]


def test_compressed_files_of_every_shape_name_themselves_in_messages(shop):
    path = shop.data / "acc.csv.gz"
    path.write_bytes(gzip.compress(b"\xff\xfe" + "id,name,created\n,x,2024-01-01\n".encode("utf-16-le")))
    shop.load()
    assert shop.quarantined("accounts") == [("acc.csv.gz", 2, "null_key")]
