"""The gates of scores: each check speaks of the newest scoring, whatever earlier ones said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import clock
from core.settings import Config, Tenure
from core.warehouse import Connection, rows, scratch
from data_quality.run import check_scores
from data_quality.scores import SCORED
from ml import tables

AS_OF = date(2024, 7, 1)
NIGHT = datetime(2024, 7, 1, 5)
STREAMS = {"subscriptions": {"files": "s.csv", "columns": {}}, "accounts": {"files": "a.csv", "columns": {}}}
SOURCES = {"crm": {"connector": "files", "path": "/nowhere", "streams": STREAMS}}


@contextmanager
def empty() -> Iterator[Connection]:
    """The tables that the gates of scores look at."""
    with scratch() as made:
        tables.ensure(made)
        for schema in ("features", "reverse_etl", "marts"):
            made.execute(f"create schema {schema}")
        made.execute("create table features.ftr_churn_scoring (account_id varchar, as_of_date date)")
        made.execute("create table marts.accounts (account_id varchar)")
        (customers,) = (mart for mart in SCORED if mart.name == "customer_scores")
        columns = ", ".join(f"{column.name} {column.sql_type}" for column in customers.rule.columns)
        made.execute(f"create table {customers.table} ({columns})")
        clock.write(made, datetime(2024, 7, 1), is_replay=False)
        yield made


@pytest.fixture
def connection() -> Iterator[Connection]:
    with empty() as made:
        yield made


def scoring(connection: Connection, number: int, accounts: str, as_of: date = AS_OF) -> None:
    """One scoring as the pipeline leaves it: features, scores, reasons, and what destinations receive."""
    at, listed = NIGHT + timedelta(hours=number), sorted(accounts)
    connection.execute("delete from features.ftr_churn_scoring")
    connection.execute("insert into features.ftr_churn_scoring select unnest(?), ?", [listed, as_of])
    connection.execute("delete from marts.accounts")
    connection.execute("insert into marts.accounts select unnest(?)", [listed])
    connection.execute(
        "insert into ml.scorings by name select ? as scored_at, ? as as_of_date, '1' as model_version, ? as accounts",
        [at, as_of, len(listed)],
    )
    connection.execute(
        "insert into ml.churn_scores by name select account_id, ? as as_of_date, 0.3 as probability, 0.2 as base_probability,"
        " 50 as percentile, 'low' as tier, '1' as model_version, false as is_fallback, 100 as coverage_pct, 10 as mrr,"
        " ? as scored_at, 'r' as run_id from features.ftr_churn_scoring",
        [as_of, at],
    )
    connection.execute(
        "delete from ml.churn_reasons where as_of_date = ? and account_id in (from features.ftr_churn_scoring"
        " select account_id)",
        [as_of],
    )
    connection.execute(
        "insert into ml.churn_reasons by name select account_id, as_of_date, '1' as model_version, 'up' as kind,"
        " 0.1 as contribution from features.ftr_churn_scoring"
    )
    connection.execute("delete from reverse_etl.customer_scores")
    connection.execute(
        "insert into reverse_etl.customer_scores by name select account_id, as_of_date, probability as churn_probability,"
        " tier as churn_tier, percentile as churn_percentile, is_fallback, mrr, 3 as mrr_at_risk, coverage_pct as score_coverage_pct,"
        " model_version, scored_at, 'h' as row_hash, scored_at as changed_at from ml.churn_scores where scored_at = ?",
        [at],
    )


def contradictions(connection: Connection) -> list[str]:
    """The sums that do not agree."""
    return [
        identity.name
        for mart in SCORED
        for identity in mart.sums
        for found in rows(connection, identity.sql)
        if abs(float(found["observed"]) - float(found["expected"])) > identity.tolerance
    ]


def blocked(connection: Connection, tmp_path: Path) -> set[str]:
    tenure = Tenure.model_validate(
        {
            "home": tmp_path,
            "config_path": "tenure.yml",
            "config": Config.model_validate({"company": "T", "sources": SOURCES}),
        }
    )
    found = [
        result
        for boundary in ("scores", "activation")
        for result in check_scores(connection, tenure, "run", NIGHT, boundary=boundary)  # type: ignore[arg-type]
    ]
    return {f"{result.table}.{result.name}" for result in found if result.blocks}


runs = st.lists(st.tuples(st.sets(st.sampled_from("abcde")), st.integers(-2, 2)), min_size=1, max_size=6)


@given(runs)
@settings(max_examples=20, deadline=None)
def test_sums_agree_however_often_and_of_whichever_dates_accounts_were_scored(
    runs: list[tuple[set[str], int]],
) -> None:
    with empty() as made:
        for number, (accounts, days) in enumerate(runs):
            scoring(made, number, "".join(accounts), AS_OF + timedelta(days=days))
            assert contradictions(made) == []


def test_an_account_without_a_score_and_one_that_kept_a_withdrawn_score_are_found(connection: Connection) -> None:
    scoring(connection, 1, "abc")
    scoring(connection, 2, "ab")
    connection.execute("update reverse_etl.customer_scores set account_id = 'c' where account_id = 'b'")
    assert contradictions(connection) == ["withdrawn", "withdrawn"]
    scoring(connection, 3, "ab")
    connection.execute("insert into features.ftr_churn_scoring values ('d', ?)", [AS_OF])
    assert contradictions(connection) == ["everybody"]


def test_what_is_wrong_in_the_newest_scoring_blocks_and_what_was_wrong_in_an_earlier_one_does_not(
    connection: Connection, tmp_path: Path
) -> None:
    scoring(connection, 1, "abc")
    scoring(connection, 2, "abc", AS_OF + timedelta(days=3))
    connection.execute("update ml.churn_scores set probability = 7, tier = 'awful' where account_id = 'a'")
    scoring(connection, 3, "ab")
    assert blocked(connection, tmp_path) == set()
    connection.execute("update ml.churn_scores set probability = 7, tier = 'awful' where account_id = 'a'")
    names = {"ranges", "accepted_values", "sums"}
    assert blocked(connection, tmp_path) == {
        *(f"ml.churn_scores.{name}" for name in names),
        "reverse_etl.customer_scores.sums",
    }
