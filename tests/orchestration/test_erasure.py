"""Erasing an account or a person from a home: what goes, what stays, kills, unknown ids, and the receipt."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core import settings, suppression
from core.errors import UserError
from core.settings import Tenure
from core.warehouse import rows, warehouse
from orchestration.erasure import receipt, run, stores
from orchestration.erasure.subject import Subject
from orchestration.erasure.texts import Words
from sources import ledger
from sources.base import open_stream, stream_ids
from sources.load import load_stream

PROJECT = Path(__file__).parents[2]
CONFIG = """
company: Small Ltd
sources:
  crm:
    connector: files
    path: ${TENURE_DATA_DIR}
    streams:
      accounts: {files: accounts.csv, columns: {account_id: id, name: name, domain: domain, created_at: at,
        parent_account_id: parent, owner_email: owner}}
      contacts: {files: contacts.csv, columns: {contact_id: id, account_id: account, email: email, left_at: left}}
      tickets: {files: tickets.csv, columns: {ticket_id: id, account_id: account, opened_at: at, subject: subject, body: body}}
      interactions: {files: interactions.csv, columns: {interaction_id: id, account_id: account, contact_id: contact,
        occurred_at: at, body: body}}
      invoices: {files: invoices.csv, columns: {invoice_id: id, account_id: account, issued_at: at, amount: usd}}
  desk:
    connector: files
    path: ${TENURE_DATA_DIR}
    account_source: crm
    streams:
      calls: {entity: interactions, files: calls.csv, columns: {interaction_id: id, account_id: account,
        contact_id: contact, occurred_at: at, body: body}}
"""
DATA = {
    "accounts.csv": "id,name,domain,at,parent,owner\nacc-canary-1,Canary & Söhne GmbH,canary-soehne.example,2024-01-01,,"
    "kim@us.example\nacc-other-22,Other,other.example,2024-01-01,acc-canary-1,kim@us.example\n",
    "contacts.csv": "id,account,email,left\nper-canary-7,acc-canary-1,Ada@canary-soehne.example,\n"
    "per-other-88,acc-other-22,bob@other.example,\nper-broken-99,acc-canary-1,eve@canary-soehne.example,perhaps\n",
    "tickets.csv": "id,account,at,subject,body\ntic-canary-1,acc-canary-1,2024-01-02,Help,It is ada@canary-soehne.example\n"
    "tic-other-02,acc-other-22,2024-01-02,Help,Please copy ada@canary-soehne.example.\n"
    "tic-other-03,acc-other-22,2024-01-03,Help,Nothing of her\n",
    "interactions.csv": "id,account,contact,at,body\nint-other-01,acc-other-22,per-canary-7,2024-01-02,I am the one\n"
    "int-other-02,acc-other-22,per-other-88,2024-01-02,I am another\n",
    "calls.csv": "id,account,contact,at,body\ncal-other-01,acc-other-22,per-canary-7,2024-01-02,I called\n",
    "invoices.csv": "id,account,at,usd\ninv-canary-1,acc-canary-1,2024-01-02,10\ninv-other-01,acc-other-22,2024-01-02,20\n"
    "inv-canary-2,acc-canary-1,2024-01-02,ten\n",
}
CANARY = (
    "acc-canary-1",
    "Canary & Söhne",
    "canary-soehne",
    "per-canary-7",
    "per-broken-99",
    "tic-canary-1",
    "inv-canary-1",
    "inv-canary-2",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tenure:
    """A home with two accounts that were loaded; nothing is modelled or published."""
    data = tmp_path / "data"
    data.mkdir()
    for name, text in DATA.items():
        (data / name).write_text(text, encoding="utf-8")
    (tmp_path / "tenure.yml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("TENURE_DATA_DIR", str(data))
    tenure = settings.load(tmp_path / "tenure.yml", tmp_path / "home")
    load(tenure)
    return tenure


def load(tenure: Tenure, *, full: bool = False, hour: int = 1) -> dict[str, Any]:
    now = datetime(2024, 6, 1, hour)
    reports = {}
    with warehouse(tenure.warehouse_path) as connection:
        ids = stream_ids(tenure.config)
        ledger.ensure_tables(connection, ids)
        for one in ids:
            stream = open_stream(one, tenure.config.sources[one.source], now=now, temp_directory=tenure.temp_directory)
            reports[one.stream] = load_stream(connection, stream, tenure, now=now, run_id=f"run-{hour}", full=full)
            assert reports[one.stream].adds_up
    return reports


def contents(path: Path) -> dict[str, list[dict[str, Any]]]:
    with warehouse(path, read_only=True) as connection:
        tables = rows(connection, "select schema_name || '.' || table_name as name from duckdb_tables() order by 1")
        return {row["name"]: rows(connection, f"select * from {row['name']} order by all") for row in tables}


def erase(tenure: Tenure, asked_for: Any, value: str) -> receipt.Receipt:
    return run.erase(tenure, run.preview(tenure, asked_for, value))


def test_an_account_goes_with_its_people_and_no_other_account_changes(home: Tenure) -> None:
    before = contents(home.warehouse_path)
    done = erase(home, "account", "acc-canary-1")
    after = contents(home.warehouse_path)
    assert done.is_complete
    assert [word for word in CANARY if word in str(after)] == []
    assert {
        (line.found, line.removed, line.remaining) for line in done.stores if "raw_files.accounts" in line.store
    } == {(2, 2, 0)}
    (other,) = after["raw_files.accounts"]
    (known,) = (row for row in before["raw_files.accounts"] if row["account_id"] == "acc-other-22")
    assert other == {**known, "parent_account_id": None}
    assert [row["body"] for row in after["raw_files.tickets"]] == [None, "Nothing of her"]
    # A source without contacts of its own names people by the ids of the source whose accounts it uses.
    assert [(row["contact_id"], row["body"]) for row in after["raw_files.interactions"]] == [
        (None, None),
        (None, None),
        ("per-other-88", "I am another"),
    ]
    assert after["raw_files.invoices"] == [
        row for row in before["raw_files.invoices"] if row["account_id"] == "acc-other-22"
    ]


def test_a_person_goes_and_their_account_stays(home: Tenure) -> None:
    before = contents(home.warehouse_path)
    done = erase(home, "email", "ADA@canary-soehne.example")
    after = contents(home.warehouse_path)
    assert done.is_complete
    assert [word for word in ("per-canary-7", "ada@canary") if word in str(after).lower()] == []
    assert after["raw_files.accounts"] == before["raw_files.accounts"]
    assert after["raw_files.invoices"] == before["raw_files.invoices"]
    assert len(after["raw_files.tickets"]) == 3
    assert len(after["raw_files.interactions"]) == 3
    assert [row["contact_id"] for row in after["raw_files.contacts"]] == ["per-other-88"]
    assert len(after["quarantine.contacts"]) == 1


def test_who_is_with_another_account_too_stays_there_when_an_account_goes(home: Tenure, tmp_path: Path) -> None:
    path = tmp_path / "data" / "contacts.csv"
    path.write_text(
        DATA["contacts.csv"]
        + "per-agency-1,acc-canary-1,sam@agency.example,\nper-agency-2,acc-other-22,Sam@agency.example,\n",
        encoding="utf-8",
    )
    load(home, hour=2)
    erase(home, "account", "acc-canary-1")
    after = contents(home.warehouse_path)
    assert [(row["contact_id"], row["email"]) for row in after["raw_files.contacts"]] == [
        ("per-agency-2", "Sam@agency.example"),
        ("per-other-88", "bob@other.example"),
    ]
    # Whoever is erased in person goes from all accounts.
    erase(home, "email", "sam@agency.example")
    assert [row["contact_id"] for row in contents(home.warehouse_path)["raw_files.contacts"]] == ["per-other-88"]


def test_an_owners_address_is_emptied_and_the_accounts_stay(home: Tenure) -> None:
    erase(home, "email", "kim@us.example")
    after = contents(home.warehouse_path)
    assert [row["owner_email"] for row in after["raw_files.accounts"]] == [None, None]
    assert len(after["raw_files.contacts"]) == 2


def test_what_was_erased_does_not_come_back_however_it_is_read(home: Tenure) -> None:
    erase(home, "contact", "crm:per-canary-7")
    erase(home, "account", "crm:acc-canary-1")
    after = contents(home.warehouse_path)["raw_files.tickets"]
    reports = load(home, full=True, hour=2)
    assert reports["accounts"].rows_suppressed == 1
    assert reports["contacts"].rows_suppressed == 2
    assert reports["invoices"].rows_suppressed == 2
    again = contents(home.warehouse_path)
    assert [word for word in CANARY if word in str(again)] == []
    assert [row["body"] for row in again["raw_files.tickets"]] == [row["body"] for row in after]


def test_the_same_erasure_again_finds_nothing_and_ends_well(home: Tenure) -> None:
    erase(home, "account", "acc-canary-1")
    bytes_before = home.warehouse_path.read_bytes()
    again = erase(home, "account", "acc-canary-1")
    assert again.is_complete
    assert again.stores == ()
    assert home.warehouse_path.read_bytes() == bytes_before
    assert len(suppression.load(home.home).erasures) == 1


@pytest.mark.parametrize(
    ("asked_for", "value", "said"),
    [
        ("account", "acc-canary-2", "knows no account 'acc-canary-2'"),
        ("contact", "nobody", "knows no contact or user 'nobody'"),
        ("email", "nobody@nowhere.example", "knows no e-mail address"),
        ("email", "nobody", "is not an e-mail address"),
        ("account", " ", "needs a value"),
    ],
)
def test_an_unknown_id_is_refused_and_nothing_is_written(home: Tenure, asked_for: Any, value: str, said: str) -> None:
    before = home.warehouse_path.read_bytes()
    with pytest.raises(UserError, match=said):
        run.preview(home, asked_for, value)
    assert home.warehouse_path.read_bytes() == before
    assert not suppression.path_of(home.home).exists()


def test_a_look_changes_nothing_and_says_what_every_store_holds(home: Tenure) -> None:
    before = {path: path.read_bytes() for path in home.home.rglob("*") if path.is_file()}
    found = run.preview(home, "account", "acc-canary-1").found
    assert found["warehouse: raw_files.invoices"] == 1
    assert found["warehouse: quarantine.invoices"] == 1
    assert {path: path.read_bytes() for path in home.home.rglob("*") if path.is_file()} == before


def test_an_erasure_that_was_killed_goes_on_where_it_ended(home: Tenure) -> None:
    found = run.preview(home, "account", "acc-canary-1")
    # As a kill leaves it after the first step: written down, and no store touched.
    begun = receipt.Pending("e-1", datetime(2024, 6, 1), found.subject, found.found)
    begun.save(home.home)
    (done,) = run.resume(home)
    assert done.is_complete
    assert [word for word in CANARY if word in str(contents(home.warehouse_path))] == []
    assert {line.store: line.found for line in done.stores} == dict(found.found)
    assert receipt.pending(home.home) == []
    assert run.resume(home) == []
    left = b"".join(path.read_bytes() for path in (home.home / "privacy").rglob("*.json"))
    assert [word for word in CANARY if word.encode() in left] == []


def command(tenure: Tenure, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "orchestration", "--config", str(tenure.config_path), "erase", *arguments]


def environment(tenure: Tenure) -> dict[str, str]:
    return {**os.environ, "TENURE_HOME": str(tenure.home), "NO_COLOR": "1", "COLUMNS": "200"}


def called(tenure: Tenure, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        command(tenure, *arguments), env=environment(tenure), cwd=PROJECT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_the_command_asks_first_shows_the_receipt_and_says_with_its_exit_code_what_it_came_to(home: Tenure) -> None:
    code, said = called(home, "--account", "acc-canary-2", "--json")
    assert (code, json.loads(said)["error"]) == (2, "This home knows no account 'acc-canary-2'.")
    assert called(home)[0] == called(home, "--account", "a", "--email", "b@c.example")[0] == 2
    code, said = called(home, "--account", "acc-canary-1")
    assert code == 2
    assert "--yes" in said
    code, said = called(home, "--account", "acc-canary-1", "--dry-run")
    assert code == 0
    assert "warehouse: raw_files.invoices" in said
    assert "Canary & Söhne GmbH" in said
    code, said = called(home, "--account", "acc-canary-1", "--yes")
    assert code == 0
    assert "Erased: " in said
    code, said = called(home, "--resume", "--json")
    assert (code, json.loads(said)) == (0, {"status": "erased", "receipts": []})


@pytest.mark.slow
def test_wherever_an_erasure_is_killed_the_next_call_completes_it(home: Tenure) -> None:
    kept = home.home.with_name("kept")
    shutil.copytree(home.home, kept)
    moments = random.Random(20240703)
    dead = 0
    for _ in range(8):
        shutil.rmtree(home.home)
        shutil.copytree(kept, home.home)
        process = subprocess.Popen(
            command(home, "--account", "acc-canary-1", "--yes"),
            env=environment(home),
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        begun = home.home / "privacy"
        # Not before it has begun: a kill then is no kill of an erasure.
        while not begun.exists() and process.poll() is None:
            time.sleep(0.005)
        try:
            process.wait(timeout=moments.uniform(0, 0.6))
        except subprocess.TimeoutExpired:
            process.kill()
            dead += 1
        process.wait()
        rows_left = contents(home.warehouse_path)["raw_files.accounts"]
        assert len(rows_left) in (1, 2)
        done = run.resume(home) or [erase(home, "account", "acc-canary-1")]
        assert done[0].is_complete
        assert [word for word in CANARY if word in str(contents(home.warehouse_path))] == []
        left = b"".join(
            path.read_bytes() for path in home.home.rglob("*") if path.is_file() and path.suffix != ".duckdb"
        )
        assert [word for word in CANARY if word.encode() in left] == []
    assert dead > 0


def test_a_table_that_nobody_told_the_erasure_about_is_covered(home: Tenure) -> None:
    with warehouse(home.warehouse_path) as connection:
        connection.execute("create schema marts")
        connection.execute(
            "create table marts.champions as select 'acc-other-22' as account_id, 'per-canary-7' as contact_id, 'Ada C' as name"
            " union all select 'acc-other-22', 'per-other-88', 'Bob'"
        )
        connection.execute("create table marts.remarks (account_id varchar, remark varchar, colour varchar not null)")
        connection.execute(
            "insert into marts.remarks values ('acc-canary-1', 'gone', 'x'), ('acc-other-22', 'for Ada@Canary-Soehne.example',"
            " 'ada@canary-soehne.example'), ('acc-other-22', 'xada@canary-soehne.example', 'red')"
        )
        connection.execute("create view marts.colours as select colour from marts.remarks")
        connection.execute("comment on table marts.remarks is 'What was said.'")
    erase(home, "account", "acc-canary-1")
    after = contents(home.warehouse_path)
    assert [row["name"] for row in after["marts.champions"]] == ["Bob"]
    assert [(row["remark"], row["colour"]) for row in after["marts.remarks"]] == [
        ("xada@canary-soehne.example", "red"),
        (None, "[erased]"),
    ]
    with warehouse(home.warehouse_path, read_only=True) as connection:
        assert rows(connection, "select colour from marts.colours order by 1")[1] == {"colour": "red"}
        assert rows(connection, "select comment from duckdb_tables() where table_name = 'remarks'") == [
            {"comment": "What was said."}
        ]


def test_logs_pages_and_databases_lose_the_words_and_stay_readable(home: Tenure) -> None:
    log = home.home / "logs" / "run.log"
    log.parent.mkdir(parents=True)
    log.write_text("row tic-canary-1 of acc-canary-1, (acc-canary-10) Canary &amp; Söhne GmbH\n", encoding="utf-8")
    page = home.home / "quality" / "a.json"
    page.parent.mkdir()
    page.write_text(json.dumps({"name": "Canary & Söhne GmbH", "id": ["acc-canary-1"]}), encoding="utf-8")
    path = home.home / "dagster" / "runs.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table events (id integer primary key, event text, packed blob)")
        event = json.dumps({"message": "acc-canary-1 was late", "n": 3})
        connection.execute("insert into events (event, packed) values (?, ?)", [event, b"acc-canary-1"])
        connection.commit()
        connection.execute("insert into events (event) values ('acc-canary-1, and gone')")
        connection.execute("delete from events where id = 2")
        connection.commit()
    done = erase(home, "account", "acc-canary-1")
    assert done.is_complete
    assert log.read_text(encoding="utf-8") == "row [erased] of [erased], (acc-canary-10) [erased]\n"
    assert json.loads(page.read_text(encoding="utf-8")) == {"name": "[erased]", "id": ["[erased]"]}
    with closing(sqlite3.connect(path)) as connection:
        ((event, packed),) = connection.execute("select event, packed from events").fetchall()
    assert json.loads(event) == {"message": "[erased] was late", "n": 3}
    assert packed == b"[erased]"
    left = b"".join(one.read_bytes() for one in path.parent.iterdir())
    assert b"acc-canary-1" not in left


def test_a_cursor_that_names_the_subject_goes_and_its_stream_is_read_from_the_beginning(home: Tenure) -> None:
    with warehouse(home.warehouse_path) as connection:
        connection.execute(
            "insert into ledger.cursors (source, stream, cursor) values"
            """ ('crm', 'a', '["2024-01-01", "acc-canary-1"]'), ('crm', 'b', '["2024-01-01", "acc-other-22"]')"""
        )
    erase(home, "account", "acc-canary-1")
    assert [row["stream"] for row in contents(home.warehouse_path)["ledger.cursors"]] == ["b"]


def test_words_of_the_program_and_short_ids_are_left_alone_in_logs() -> None:
    subject = Subject(
        "account", accounts=("orders", "42"), records=(("crm", "orders"), ("crm", "42"), ("crm", "998877"))
    )
    words = Words(subject, {"orders"})
    assert words.without('{"orders": 42, "id": 998877, "text": "998877."}') == '{"orders": 42, "id": 0, "text": "0."}'


def test_an_id_that_names_two_accounts_has_to_be_named_with_its_source(home: Tenure) -> None:
    with warehouse(home.warehouse_path) as connection:
        connection.execute(
            "insert into raw_files.invoices (invoice_id, account_id, _source, _stream, _account_source)"
            " values ('i', 'acc-canary-1', 'billing', 'invoices', 'billing')"
        )
    with pytest.raises(UserError, match="names 2 accounts") as refused:
        run.preview(home, "account", "acc-canary-1")
    assert "billing:acc-canary-1" in str(refused.value.hint)
    assert run.preview(home, "account", "billing:acc-canary-1").subject.records == (("billing", "acc-canary-1"),)


def test_every_entry_of_a_home_belongs_to_a_store(home: Tenure) -> None:
    for name in ("logs", "anything_new", "dagster"):
        (home.home / name).mkdir(exist_ok=True)
    work = run.work_on(home, Subject("account", accounts=("acc-canary-1",)))
    covered = {store.path.name for store in (*stores.tables(work), *stores.files(work)) if hasattr(store, "path")}
    assert {"warehouse.duckdb", "serving.duckdb", "logs", "anything_new", "dagster"} <= covered
