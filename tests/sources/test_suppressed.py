"""What was erased stays out: rows are counted as suppressed, nothing of them is kept, and what is left adds up."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core import suppression
from core.contract import ACCOUNT_REFERENCES, ENTITIES, PERSON_REFERENCES, STAFF_REFERENCES
from core.errors import UserError

CONTACTS = {
    "files": "contacts*.csv",
    "columns": {"contact_id": "id", "account_id": "account", "email": "email", "is_unsubscribed": "off"},
}
ACCOUNTS = {
    "files": "accounts*.csv",
    "columns": {
        "account_id": "id",
        "name": "name",
        "owner_email": "owner",
        "parent_account_id": "parent",
        "created_at": "created",
    },
}
TICKETS = {
    "files": "tickets*.csv",
    "columns": {
        "ticket_id": "id",
        "account_id": "account",
        "opened_at": "opened",
        "subject": "subject",
        "body": "body",
    },
}
INTERACTIONS = {
    "files": "interactions*.csv",
    "columns": {
        "interaction_id": "id",
        "account_id": "account",
        "contact_id": "contact",
        "occurred_at": "at",
        "body": "body",
    },
}
INVOICES = {
    "files": "invoices*.csv",
    "columns": {"invoice_id": "id", "account_id": "account", "issued_at": "at", "amount": "usd"},
}
DAY = "2024-01-05"


def write_everything(company: Any, suffix: str = "") -> None:
    company.write(
        f"accounts{suffix}.csv",
        "id,name,owner,parent,created\n"
        f"a1,Canary,o@us.com,,{DAY}\na2,Other,Kim@Us.com,a1,{DAY}\na3,Third,o@us.com,a2,{DAY}\n",
    )
    company.write(
        f"contacts{suffix}.csv",
        "id,account,email,off\nc1,a1,one@canary.com,no\nc2,a2,kim@us.com,no\nc3,a2,two@other.com,no\nc4,a2,KIM@us.com ,maybe\n",
    )
    company.write(
        f"tickets{suffix}.csv",
        f"id,account,opened,subject,body\nt1,a1,{DAY},Hi,mine\nt2,a2,{DAY},Hi,Please ask kim@US.com.\n"
        f"t3,a2,{DAY},Hi,Please ask kim@us.com.au\nt4,missing,{DAY},Hi,ask kim@us.com\nt5,missing,{DAY},Hi,plain\n",
    )
    company.write(
        f"interactions{suffix}.csv",
        f"id,account,contact,at,body\ni1,a2,c2,{DAY},I wrote this\ni2,a2,c3,{DAY},I stay\ni3,a1,c3,{DAY},I go\n",
    )
    company.write(f"invoices{suffix}.csv", f"id,account,at,usd\nv1,a1,{DAY},10\nv2,a2,{DAY},20\nv3,a1,{DAY},broken\n")


def suppress(home: Path, *identifiers: tuple[Any, str, str]) -> None:
    empty = suppression.Suppression("pepper")
    erasure = suppression.Erasure("e1", "account", datetime(2024, 6, 1), suppression.hashed(empty, identifiers))
    suppression.add(home, erasure, new_salt="pepper")


@pytest.fixture
def company_of_all(company: Any) -> Any:
    company.streams(accounts=ACCOUNTS, contacts=CONTACTS, tickets=TICKETS, interactions=INTERACTIONS, invoices=INVOICES)
    return company


@pytest.mark.parametrize("is_first", [True, False])
def test_an_erased_account_and_person_stay_out_of_every_table_and_the_counts_add_up(
    company_of_all: Any, is_first: bool
) -> None:
    company = company_of_all
    if not is_first:
        for name, text in (
            ("accounts0.csv", f"id,name,owner,parent,created\na0,Zero,,,{DAY}\n"),
            ("contacts0.csv", "id,account,email,off\nc0,a0,,no\n"),
            ("tickets0.csv", f"id,account,opened,subject,body\nt0,a0,{DAY},,\n"),
            ("interactions0.csv", f"id,account,contact,at,body\ni0,a0,,{DAY},\n"),
            ("invoices0.csv", f"id,account,at,usd\nv0,a0,{DAY},1\n"),
        ):
            company.write(name, text)
        company.load()
    suppress(company.home, ("account", "app", "a1"), ("person", "app", "c2"), ("address", "", "kim@us.com"))
    write_everything(company, "9")
    reports = company.load()
    told = {name: (r.rows_inserted, r.rows_quarantined, r.rows_suppressed) for name, r in reports.items()}
    assert told == {
        "accounts": (2, 0, 1),
        "contacts": (1, 0, 3),
        "tickets": (2, 1, 2),
        "interactions": (2, 0, 1),
        "invoices": (1, 0, 2),
    }
    accounts = (
        "select account_id, owner_email, parent_account_id from raw_files.accounts where account_id <> 'a0' order by 1"
    )
    assert company.query(accounts) == [("a2", None, None), ("a3", "o@us.com", "a2")]
    tickets = "select ticket_id, subject, body from raw_files.tickets where ticket_id <> 't0' order by 1"
    assert company.query(tickets) == [("t2", "Hi", None), ("t3", "Hi", "Please ask kim@us.com.au")]
    interactions = (
        "select interaction_id, contact_id, body from raw_files.interactions where interaction_id <> 'i0' order by 1"
    )
    assert company.query(interactions) == [("i1", None, None), ("i2", "c3", "I stay")]
    kept = [row for entity in ENTITIES for row in company.query(f"from quarantine.{entity}")]
    assert [row[0] for row in kept] == ["t5"]


def test_reading_everything_again_brings_nobody_back(company_of_all: Any) -> None:
    company = company_of_all
    suppress(company.home, ("account", "app", "a1"), ("person", "app", "c2"), ("address", "", "kim@us.com"))
    write_everything(company)
    first, contents = company.load(), company.contents()
    again = company.load(full=True)
    assert {name: r.rows_suppressed for name, r in again.items()} == {
        name: r.rows_suppressed for name, r in first.items()
    }
    assert company.contents() == contents


def test_without_erasures_nothing_is_suppressed(company_of_all: Any) -> None:
    write_everything(company_of_all)
    assert sum(report.rows_suppressed for report in company_of_all.load().values()) == 0


def test_a_suppression_list_that_cannot_be_read_stops_loading(company_of_all: Any) -> None:
    write_everything(company_of_all)
    path = suppression.path_of(company_of_all.home)
    path.parent.mkdir(parents=True)
    path.write_text('{"salt": "pepper"', encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read"):
        company_of_all.load()


def test_every_id_of_the_contract_is_a_key_or_says_whether_it_names_an_account_or_a_person() -> None:
    known = (*ACCOUNT_REFERENCES, *PERSON_REFERENCES, *STAFF_REFERENCES)
    for entity in ENTITIES.values():
        for column in entity.columns:
            if column.type == "id" or column.name.endswith("_id"):
                assert column.name == entity.key or column.name in known


def test_the_list_is_only_for_its_owner_and_holds_no_identifier(tmp_path: Path) -> None:
    suppress(tmp_path, ("address", "", "Kim@Us.com"))
    path = suppression.path_of(tmp_path)
    assert path.stat().st_mode & 0o077 == 0
    assert "kim" not in path.read_text(encoding="utf-8").lower()
    assert suppression.load(tmp_path).matches("address", "", " kim@us.COM")
    assert not suppression.load(tmp_path).matches("address", "", "jim@us.com")
