"""The database destination against a real PostgreSQL."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from activation.base import Change, Field
from activation.destinations.database import Database, copied, word_for
from core.errors import BatchRefused, Fatal, Forbidden, Retriable, Unauthorized, UserError

TABLE = (
    "create table scores (account text primary key, tenure_churn_probability double precision, tenure_churn_tier text,"
    " tenure_is_fallback boolean, tenure_as_of_date date, note text)"
)


@dataclass(frozen=True)
class Server:
    url: str

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    def connect(self, table: str = "scores", key: str = "account", **settings: Any) -> Database:
        return Database(self.url, table=table, key=key, **settings)


@pytest.fixture
def postgres(postgres_url) -> Server:
    server = Server(postgres_url)
    server.run("drop schema public cascade", "drop schema if exists crm cascade", "create schema public", TABLE)
    return server


def test_rows_are_created_updated_and_left_alone(postgres, words):
    destination = postgres.connect()
    assert words.statuses(destination.upsert([words.change(1, "create"), words.change(2, "create")])) == {
        "1": "ok",
        "2": "ok",
    }
    before = postgres.ask("select account, xmin::text from scores order by account")
    destination.upsert([words.change(1), words.change(2, tenure_churn_tier="low")])
    after = postgres.ask("select account, xmin::text from scores order by account")
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    assert postgres.ask("select * from scores order by account") == [
        ("1", 0.25, "high", False, date(2026, 3, 1), None),
        ("2", 0.25, "low", False, date(2026, 3, 1), None),
    ]


def test_a_retired_row_is_cleared_of_our_fields_and_never_created(postgres, words):
    postgres.run("insert into scores values ('1', 0.5, 'low', true, '2026-01-01', 'by hand')")
    found = words.by_key(
        postgres.connect().upsert([words.change(1, "retire"), words.change(2, "retire"), words.change(3)])
    )
    assert [found[key].status for key in "123"] == ["ok", "rejected", "ok"]
    assert found["2"].error_code == "not_found"
    assert postgres.ask("select * from scores where account < '3'") == [("1", None, None, None, None, "by hand")]


def test_rows_called_new_that_are_there_are_updated(postgres, words):
    postgres.run("insert into scores (account, tenure_churn_tier, note) values ('3', 'low', 'by hand')")
    rows = [words.change(number, "create") for number in range(5)]
    assert set(words.statuses(postgres.connect().upsert(rows)).values()) == {"ok"}
    assert postgres.ask("select count(*), count(note), min(tenure_churn_tier) from scores") == [(5, 1, "high")]


def test_a_view_takes_rows_as_its_table_does(postgres, words):
    postgres.run("create view shown as select account, tenure_churn_tier from scores")
    rows = [Change(str(number), "create", {"tenure_churn_tier": "high"}) for number in range(3)]
    assert set(words.statuses(postgres.connect("shown").upsert(rows)).values()) == {"ok"}
    assert postgres.ask("select count(tenure_churn_tier) from scores") == [(3,)]


def test_update_mode_creates_nothing_and_names_what_is_not_there(postgres, words):
    postgres.run("alter table scores drop constraint scores_pkey", "insert into scores (account) values ('1')")
    found = words.by_key(postgres.connect(mode="update").upsert([words.change(1), words.change(2)]))
    assert [found["1"].status, found["2"].error_code] == ["ok", "not_found"]
    assert postgres.ask("select account, tenure_churn_tier from scores") == [("1", "high")]


def test_keys_of_other_types_are_the_tables_own(postgres, words):
    postgres.run("create table numbered (id integer primary key, tier text)", "insert into numbered values (7, null)")
    destination = postgres.connect("numbered", "id", mode="update")
    rows = [Change(key, "update", {"tier": "high"}) for key in ("007", "8")]
    assert words.statuses(destination.upsert(rows)) == {"007": "ok", "8": "rejected"}
    assert dict(destination.read(rows)) == {"007": {"tier": "high"}, "8": None}


def test_rows_with_different_fields_go_in_one_transaction(postgres, words):
    rows = [
        Change("1", "create", {"tenure_churn_tier": "high"}),
        Change("2", "create", {"tenure_churn_probability": 0.5}),
        Change("3", "create", {}),
    ]
    postgres.run("insert into scores (account, tenure_churn_probability) values ('1', 0.9)")
    assert set(words.statuses(postgres.connect().upsert(rows)).values()) == {"ok"}
    assert postgres.ask("select account, tenure_churn_probability, tenure_churn_tier from scores order by 1") == [
        ("1", 0.9, "high"),
        ("2", 0.5, None),
        ("3", None, None),
    ]


def test_texts_arrive_as_they_are(postgres, words):
    texts = [
        "a\tb",
        "line\nbreak",
        "back\\slash",
        "\\N",
        "\\.",
        "",
        "é漢🙂",
        "'; drop table scores; --",
        "\r\n",
        '"quoted"',
    ]
    rows = [words.change(f"k{text}", tenure_churn_tier=text) for text in texts]
    assert set(words.statuses(postgres.connect().upsert(rows)).values()) == {"ok"}
    found = dict(postgres.ask("select account, tenure_churn_tier from scores"))
    assert found == {f"k{text}": text for text in texts}


def test_names_that_need_quotes_and_schemas(postgres, words):
    postgres.run("create schema crm", 'create table crm."Odd Table" ("The Key" text primary key, "select" text)')
    destination = postgres.connect("crm.Odd Table", "The Key")
    assert words.statuses(destination.upsert([Change("1", "create", {"select": "x"})])) == {"1": "ok"}
    assert postgres.ask('select * from crm."Odd Table"') == [("1", "x")]
    assert destination.preflight([Field("select", "text", "", "")]) == []


def test_moments_are_utc_in_columns_with_and_without_a_time_zone(postgres):
    postgres.run(
        "create table moments (id text primary key, w timestamptz, wo timestamp)", "set timezone to 'Asia/Tokyo'"
    )
    naive = datetime(2026, 3, 1, 12, 0)
    aware = datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    destination = postgres.connect("moments", "id")
    destination.upsert(
        [Change("naive", "create", {"w": naive, "wo": naive}), Change("aware", "create", {"w": aware, "wo": aware})]
    )
    rows = postgres.ask("select w at time zone 'UTC', wo from moments")
    assert rows == [(naive, naive), (naive, naive)]
    assert dict(destination.read([Change("naive", "update", {"w": naive, "wo": naive})])) == {
        "naive": {"w": naive, "wo": naive}
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tenure_churn_probability": "much"}, "double precision"),
        ({"tenure_as_of_date": "2026-02-31"}, "date"),
        ({"tenure_churn_tier": "nul\x00"}, "byte sequence"),
        ({"tenure_churn_tier": "\ud800"}, "Unicode"),
        ({"tenure_churn_tier": "never"}, "tier_is_known"),
    ],
)
def test_a_bad_row_refuses_its_batch_and_nothing_of_it_stays(postgres, words, row, said):
    postgres.run("alter table scores add constraint tier_is_known check (tenure_churn_tier <> 'never')")
    destination = postgres.connect()
    with pytest.raises(BatchRefused, match=said):
        destination.upsert([words.change(1), words.change(2, **row)])
    assert postgres.ask("select * from scores") == []
    assert words.statuses(destination.upsert([words.change(1)])) == {"1": "ok"}


def test_the_same_key_twice_refuses_the_batch(postgres, words):
    with pytest.raises(BatchRefused):
        postgres.connect().upsert([words.change(1), words.change(1)])


def test_a_server_that_ends_the_connection_is_tried_again(postgres, words):
    destination = postgres.connect()
    destination.upsert([words.change(1)])
    postgres.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tenure'")
    with pytest.raises(Retriable):
        destination.upsert([words.change(2)])
    assert words.statuses(destination.upsert([words.change(2)])) == {"2": "ok"}


def test_a_row_that_another_holds_is_tried_later(postgres, words):
    destination = postgres.connect()
    destination.upsert([words.change(1)])
    assert destination._kept is not None
    destination._kept.execute("set lock_timeout = '100ms'")
    with psycopg.connect(postgres.url) as other:
        other.execute("select * from scores for update")
        with pytest.raises(Retriable, match="lock"):
            destination.upsert([words.change(1, tenure_churn_tier="low")])
    assert words.statuses(destination.upsert([words.change(1, tenure_churn_tier="low")])) == {"1": "ok"}


def test_a_server_that_is_not_there_is_retriable_without_the_password(words):
    destination = Database("postgresql://me:canary4711@127.0.0.1:1/app", table="scores", key="account")
    with pytest.raises(Retriable) as caught:
        destination.upsert([words.change(1)])
    assert "canary" not in f"{caught.value} {caught.value.hint} {caught.value!r}"


def test_wrong_users_missing_tables_and_missing_rights_have_their_words(postgres, words):
    with pytest.raises(Fatal, match="does not exist"):
        postgres.connect("nowhere").upsert([words.change(1)])
    with pytest.raises(Fatal, match="nothing_like_it"):
        postgres.connect().upsert([Change("1", "create", {"nothing_like_it": 1})])
    postgres.run("drop role if exists reader", "create role reader login", "grant usage on schema public to reader")
    reader = Server(postgres.url.replace("postgres:@", "reader:@"))
    with pytest.raises(Forbidden, match="scores"):
        reader.connect().upsert([words.change(1)])
    with pytest.raises(Unauthorized):
        Server(postgres.url.replace("postgres:@", "nobody:@")).connect().upsert([words.change(1)])
    assert isinstance(word_for(psycopg.errors.InvalidPassword(), "scores"), Unauthorized)
    with pytest.raises(UserError):
        Database("mysql://me@host/app", table="scores", key="account")


def test_preflight_finds_what_is_missing_and_setup_makes_it(postgres, words):
    destination = postgres.connect("fresh")
    (problem,) = destination.preflight(words.fields)
    assert "no table fresh" in problem.what
    said = destination.setup(words.fields)
    assert said[0] == "Created the table fresh."
    assert len(said) == 6
    assert destination.preflight(words.fields) == []
    assert destination.setup(words.fields) == []
    more = [*words.fields, Field("tenure_mrr", "number", "MRR", "It's MRR.")]
    (problem,) = destination.preflight(more)
    assert "no column tenure_mrr" in problem.what
    assert destination.setup(more) == ["Created the column tenure_mrr (double precision)."]
    described = postgres.ask("select col_description('fresh'::regclass, 6)")
    assert described == [("It's MRR.",)]
    assert words.statuses(destination.upsert([words.change("a", "create", tenure_mrr=Decimal("9.50"))])) == {"a": "ok"}


def test_preflight_finds_wrong_types_keys_rights_and_columns_that_need_a_value(postgres, words):
    postgres.run(
        "drop table scores",
        "create table scores (account text, tenure_churn_probability text, tenure_churn_tier text, tenure_is_fallback boolean,"
        " tenure_as_of_date date, made_by text not null)",
        "drop role if exists reader",
        "create role reader login",
        "grant usage on schema public to reader",
        "grant select on scores to reader",
    )
    reader = Server(postgres.url.replace("postgres:@", "reader:@"))
    whats = " ".join(problem.what for problem in reader.connect().preflight(words.fields))
    for said in (
        "tenure_churn_probability of scores is text",
        "no unique constraint on account",
        "may not update",
        "may not insert",
        "made_by",
    ):
        assert said in whats
    assert "may not select" not in whats
    assert "no column key" in " ".join(problem.what for problem in postgres.connect(key="key").preflight(words.fields))


def test_a_partial_index_is_not_a_key(postgres, words):
    postgres.run(
        "alter table scores drop constraint scores_pkey",
        "create unique index on scores (account) where note is null",
    )
    assert any("unique" in problem.what for problem in postgres.connect().preflight(words.fields))


def test_values_are_read_back_in_their_types(postgres, words):
    destination = postgres.connect()
    rows = [words.change(number) for number in range(5)]
    destination.upsert(rows)
    found = dict(destination.read([*rows, words.change("gone")]))
    assert found.pop("gone") is None
    assert found == {row.key: dict(row.values) for row in rows}


def test_values_in_the_format_of_copy():
    row = Change(
        "k",
        "update",
        {"a": None, "b": True, "c": 1e-7, "d": Decimal("1.50"), "e": 3, "f": datetime(2026, 1, 1, tzinfo=UTC)},
    )
    assert copied([row], list("abcdef")) == b"k\t\\N\tt\t1e-07\t1.50\t3\t2026-01-01T00:00:00Z\n"


def test_a_hundred_thousand_rows_take_less_than_five_seconds(postgres, words):
    rows = [words.change(number, "create") for number in range(100_000)]
    destination = postgres.connect()
    size = destination.limits(len(rows)).batch_rows
    began = time.perf_counter()
    ok = sum(
        result.status == "ok"
        for start in range(0, len(rows), size)
        for result in destination.upsert(rows[start : start + size])
    )
    seconds = time.perf_counter() - began
    assert ok == 100_000
    assert seconds < 5
