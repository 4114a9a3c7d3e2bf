"""The model in the daily job: trained when due, scored once, explained, rebuilt, and stopped when it should be."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core import settings, warehouse
from core.errors import Fatal
from core.settings import Tenure
from core.warehouse import Connection, scratch
from ml import registry, source
from ml.features import catalogue
from ml.model import ChurnModel
from ml.score import score
from ml.train import train

pytestmark = pytest.mark.timeout(1200)


def ask(home: Any, sql: str) -> list[dict[str, Any]]:
    """Rows of the working warehouse."""
    with warehouse.warehouse(home.path / "warehouse.duckdb", read_only=True) as connection:
        return warehouse.rows(connection, sql)


@contextmanager
def copied(tenure: Tenure) -> Iterator[Connection]:
    """A warehouse in memory with what a training reads and writes."""
    with scratch() as connection:
        connection.execute(f"attach '{tenure.warehouse_path}' as warehouse (read_only)")
        for name in ("ml", "features", "ledger"):
            connection.execute(f"create schema {name}")
        needed = ("ml.trainings", "ml.churn_backtest", "ml.drift", "ledger.clock")
        for name in (*needed, "features.ftr_churn_training", "features.ftr_churn_scoring"):
            connection.execute(f"create table {name} as select * from warehouse.{name}")
        connection.execute("detach warehouse")
        yield connection


def test_the_first_run_trains_tests_and_scores_every_customer(lived: dict[str, Any]) -> None:
    published = lived["first"]["published"]
    model = published["model"]
    assert model["state"] == "champion", model["decision"]
    assert model["test"]["metrics"]["roc_auc"]["value"] > 0.6
    scores = lived["first_scores"]
    assert len(scores) == published["customers"]
    assert all(0 < row["churn_probability"] < 1 for row in scores)
    # Who is safe may have nothing notable against him.
    assert all(row["reason_1_text"] or row["churn_tier"] == "low" for row in scores)
    assert sum(row["reason_1_text"] is not None for row in scores) > 0.8 * len(scores)
    failed = {check["check_name"] for check in published["failed_checks"] if check["table_name"] == "ml.churn_scores"}
    assert not failed & {"stale", "labels", "outcomes"}
    found = lived["home"].ask("select watch, state from quality.model_watch")
    assert {(row["watch"], row["state"]) for row in found} == {("stale", "ok"), ("labels", "ok"), ("outcomes", "ok")}
    assert sum(row["churn_tier"] == "high" for row in scores) == 50
    worth = published["worth_a_call"]
    assert [row["mrr_at_risk"] for row in worth] == sorted((r["mrr_at_risk"] for r in worth), reverse=True)


def test_nothing_new_trains_nothing_scores_nothing_and_changes_no_row(lived: dict[str, Any]) -> None:
    assert lived["second_scores"] == lived["first_scores"]
    trained = ask(
        lived["home"],
        "select count(*) as n from ml.trainings where as_of_date = (select min(as_of_date) from ml.trainings)",
    )
    assert trained[0]["n"] == 1


def test_the_test_window_of_each_training_is_published_once(lived: dict[str, Any]) -> None:
    home = lived["home"]
    tested = home.ask(
        "select model_version, count(*) as n, count(distinct as_of_date) as dates, sum(scores) as scores from"
        " quality.model_backtest where kind = 'test' group by model_version order by model_version"
    )
    trained = home.ask(
        "select model_version, max(cast(report->>'$.split.test_rows' as bigint)) as scores from quality.model_trainings"
        " group by model_version order by model_version"
    )
    assert [(row["model_version"], row["scores"]) for row in tested] == [
        (row["model_version"], row["scores"]) for row in trained
    ]
    assert all(row["n"] == row["dates"] > 0 for row in tested)


def test_a_training_that_was_killed_before_it_was_written_down_is_written_down_once(lived: dict[str, Any]) -> None:
    home, now = lived["home"], datetime(2025, 1, 9)
    tenure = settings.load(home.config, home.path)
    kept = "select * from ml.churn_backtest where kind = 'test' order by model_version, as_of_date"
    moments = ("measured_at", "run_id")
    with copied(tenure) as connection:
        before = warehouse.rows(connection, kept)
        newest = warehouse.rows(connection, "select max(model_version) as version from ml.trainings")[0]["version"]
        # As a kill between the registration and the record leaves it; then as a kill in the run after that.
        connection.execute("delete from ml.trainings where model_version = ?", [newest])
        connection.execute(
            "delete from ml.churn_backtest where model_version = ? and as_of_date > '2024-01-01'", [newest]
        )
        again: dict[str, Any] = {"now": now, "git_commit": None, "manifest_hash": ""}
        outcomes = [train(connection, tenure, run_id=f"again {n}", force=bool(n), **again) for n in range(2)]
        assert [outcome.model_version for outcome in outcomes] == [newest, newest]
        after = warehouse.rows(connection, kept)
    assert [{k: v for k, v in row.items() if k not in moments} for row in after] == [
        {k: v for k, v in row.items() if k not in moments} for row in before
    ]


@pytest.mark.slow
def test_a_search_is_tracked_trial_by_trial_and_leaves_nothing_behind(lived: dict[str, Any], tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    home = lived["home"]
    tenure = settings.load(home.config, home.path)
    model = tenure.config.model.model_copy(update={"search_minutes": 0.05})
    # Another home's registry: the company's own versions stay as they are.
    elsewhere = tenure.model_copy(
        update={"home": tmp_path, "config": tenure.config.model_copy(update={"model": model})}
    )
    with copied(tenure) as connection:
        outcome = train(
            connection, elsewhere, run_id="r", now=datetime(2025, 1, 9), git_commit=None, manifest_hash="", force=True
        )
    (search,) = [step for step in outcome.report["selection"]["tried"] if step["name"] == "search"]
    store = registry.connect(tmp_path)
    client = MlflowClient(store.uri)
    version = store.version(str(outcome.model_version))
    experiment = client.get_run(version.run_id).info.experiment_id
    nested = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{version.run_id}'")
    assert len(nested) == search["trials"] >= 1
    assert min(run.data.metrics["log_loss"] for run in nested) == pytest.approx(search["log_loss"])
    assert all(run.data.params["max_depth"] for run in nested)
    assert not (tmp_path / "search").exists()


def test_reasons_and_changes_add_up(lived: dict[str, Any]) -> None:
    home = lived["home"]
    off = ask(
        home,
        "select max(abs(s.base_probability + r.total - s.probability)) as off, count(*) as n from ml.churn_scores as s join"
        " (select account_id, as_of_date, model_version, sum(contribution) as total from ml.churn_reasons"
        "  where kind in ('up', 'down', 'other') group by all) as r using (account_id, as_of_date, model_version)",
    )[0]
    assert off["n"] == len(lived["first_scores"]) + len(lived["third_scores"])
    assert off["off"] < 1e-4
    moved = ask(
        home,
        "with dates as (select max(as_of_date) as today, min(as_of_date) as before from ml.churn_scores),"
        " scores as (select account_id, as_of_date, arg_max(probability, scored_at) as p from ml.churn_scores group by all),"
        " moved as (select account_id, sum(contribution) as total from ml.churn_reasons, dates"
        "  where as_of_date = today and kind in ('change', 'change_other', 'model') group by all)"
        " select max(abs(n.p - b.p - m.total)) as off, count(*) as n from moved as m, dates"
        " join scores as n on n.account_id = m.account_id and n.as_of_date = today"
        " join scores as b on b.account_id = m.account_id and b.as_of_date = before",
    )[0]
    assert moved["n"] > 200
    assert moved["off"] < 1e-4


def test_a_week_later_scores_say_what_changed(lived: dict[str, Any]) -> None:
    changed = [row for row in lived["third_scores"] if row["churn_probability_change_7d"] is not None]
    assert len(changed) > 200
    before = {row["account_id"]: row for row in lived["first_scores"]}
    for row in changed:
        was = before[row["account_id"]]["churn_probability"]
        assert row["churn_probability_change_7d"] == pytest.approx(row["churn_probability"] - was, abs=2e-4)
        assert row["change_reason_text"]
    home = lived["home"]
    dates = home.ask("select count(distinct as_of_date) as n from reverse_etl.customer_scores_history")
    assert dates[0]["n"] == 2


def test_any_past_score_is_rebuilt_from_its_version_and_date(lived: dict[str, Any]) -> None:
    home = lived["home"]
    tenure = settings.load(home.config, home.path)
    store = registry.connect(home.path)
    past = ask(home, "select min(as_of_date) as day, any_value(model_version) as version from ml.churn_scores")[0]
    model = store.load(store.version(past["version"])).model
    with warehouse.warehouse(tenure.warehouse_path, read_only=True) as connection:
        given = connection.execute(
            "select account_id, probability from ml.churn_scores where as_of_date = ? order by account_id",
            [past["day"]],
        ).df()
        connection.register("given", given)
        rebuilt = source.snapshot_frame(connection, catalogue(), past["day"], "given")
    assert list(rebuilt["account_id"]) == list(given["account_id"])
    assert np.array_equal(model.probability(rebuilt), given["probability"].to_numpy())
    alone = [float(model.probability(rebuilt.iloc[[row]])[0]) for row in range(0, len(rebuilt), 37)]
    assert alone == [float(value) for value in given["probability"].to_numpy()[::37]]


@pytest.fixture(scope="module")
def in_use(lived: dict[str, Any]) -> tuple[ChurnModel, pd.DataFrame]:
    """The champion, and the rows that it scored last."""
    home = lived["home"]
    store = registry.connect(home.path)
    champion = store.champion()
    assert champion is not None
    with warehouse.warehouse(home.path / "warehouse.duckdb", read_only=True) as connection:
        return store.load(champion).model, source.scoring_frame(connection, catalogue())


def test_the_order_of_rows_and_columns_moves_no_score(in_use: tuple[ChurnModel, pd.DataFrame]) -> None:
    model, frame = in_use
    given = dict(zip(frame["account_id"], model.probability(frame), strict=True))
    shuffled = frame.sample(frac=1, random_state=3)[list(frame.columns[::-1])]
    assert dict(zip(shuffled["account_id"], model.probability(shuffled), strict=True)) == given


def test_an_account_has_the_same_score_and_reasons_alone_and_in_a_batch(
    in_use: tuple[ChurnModel, pd.DataFrame],
) -> None:
    model, frame = in_use
    together, (points, _) = model.probability(frame), model.contributions(frame)
    for row in range(0, len(frame), 29):
        alone = frame.iloc[[row]]
        assert model.probability(alone)[0] == together[row]
        assert np.allclose(model.contributions(alone)[0][0], points[row], atol=1e-6)


def test_what_can_only_raise_the_risk_never_lowers_it(in_use: tuple[ChurnModel, pd.DataFrame]) -> None:
    model, frame = in_use
    directed = [f for f in catalogue() if f.direction and f.name in model.feature_names]
    payments = [feature.name for feature in directed if feature.name.startswith("failed_payments")]
    assert payments, "the model knows of failed payments"
    for feature in directed:
        values = (
            frame[feature.name].quantile([0, 0.25, 0.5, 0.75, 0.95, 1]).to_numpy()
            if feature.name not in payments
            else range(8)
        )
        risks = np.array([model.probability(frame.assign(**{feature.name: float(value)})) for value in values])
        assert (feature.direction * np.diff(risks, axis=0) >= -1e-9).all(), feature.name


def test_the_card_prints_the_random_split_beside_the_forward_test(lived: dict[str, Any]) -> None:
    answer = lived["home"].run("model", "card")
    assert answer.code == 0
    assert "random" in answer.out.lower()
    groups = answer.out.split("## By group")[1].split("##")[0]
    assert {"plan starter", "plan team"} <= {line.split("|")[1].strip() for line in groups.splitlines() if "|" in line}
    listed = lived["home"].must("model", "list")
    assert [version["state"] for version in listed["versions"]].count("champion") == 1


@pytest.mark.slow
def test_a_registry_that_is_down_is_a_clear_error_and_published_scores_stay(lived: dict[str, Any]) -> None:
    home = lived["home"]
    text = home.config.read_text(encoding="utf-8")
    before = (home.path / "serving.duckdb").read_bytes()
    home.config.write_text(text.replace("model: {", "model: {tracking_uri: 'http://127.0.0.1:9', "), encoding="utf-8")
    try:
        answer = home.run("run", "--json")
    finally:
        home.config.write_text(text, encoding="utf-8")
    assert answer.code == 1
    (problem,) = [p for p in answer.document["problems"] if "MLflow" in p]
    assert "127.0.0.1:9" in problem
    assert "does not answer" in problem
    assert (home.path / "serving.duckdb").read_bytes() == before


def test_a_store_that_lost_its_models_is_an_error_and_no_base_rate(lived: dict[str, Any], tmp_path: Path) -> None:
    config = lived["home"].config
    with copied(settings.load(config, lived["home"].path)) as connection:
        with pytest.raises(Fatal, match=r"holds no model, but this warehouse knows version \d+"):
            score(connection, settings.load(config, tmp_path), now=datetime(2026, 1, 1), run_id="later")
        assert warehouse.scalar(connection, "select count(*) from ml.churn_scores") == 0


def test_tiers_that_are_set_anew_hold_from_the_next_run_on(lived: dict[str, Any]) -> None:
    home, now = lived["home"], datetime(2026, 1, 1)
    tenure = settings.load(home.config, home.path)
    tiers = settings.TierConfig(by="probability", high=0.2, medium=0.05)
    model = tenure.config.model.model_copy(update={"tiers": tiers})
    anew = tenure.model_copy(update={"config": tenure.config.model_copy(update={"model": model})})
    with copied(tenure) as connection:
        outcomes = [
            score(connection, one, now=now, run_id=run) for one, run in ((tenure, "1"), (tenure, "2"), (anew, "3"))
        ]
        assert [outcome.written for outcome in outcomes] == [outcomes[0].scored, 0, outcomes[0].scored]
        rows = warehouse.rows(connection, "select probability as p, tier from ml.churn_scores where run_id = '3'")
    assert {row["tier"] for row in rows} == {"high", "medium", "low"}
    assert all(row["tier"] == ("high" if row["p"] >= 0.2 else "medium" if row["p"] >= 0.05 else "low") for row in rows)


@pytest.mark.slow
def test_a_full_disk_is_a_clear_error_and_published_scores_stay(lived: dict[str, Any]) -> None:
    home = lived["home"]
    before = (home.path / "serving.duckdb").read_bytes()
    # No file may grow beyond this: what a full disk looks like to a process.
    limited = ["bash", "-c", 'ulimit -f 2000; exec "$@"', "-", *home.command("run", "--retrain", "--json")]
    done = subprocess.run(
        limited, env=home.environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert "disk" in " ".join([document.get("error", ""), *document.get("problems", [])]).lower()
    assert (home.path / "serving.duckdb").read_bytes() == before


@pytest.mark.slow
def test_a_model_that_no_longer_sees_what_it_learned_is_not_published(lived: dict[str, Any]) -> None:
    home = lived["home"]
    text = home.config.read_text(encoding="utf-8")
    before = (home.path / "serving.duckdb").read_bytes()
    watch = "watch: {warn_psi: 0.0001, block_psi: 0.001, max_drifted_share: 0.01, max_stale_days: 0}, "
    strict = text.replace("model: {", f"model: {{{watch}").replace("stale_after_days: 7", "stale_after_days: 0.001")
    home.must("sandbox", "advance", "--days", "1")
    home.config.write_text(strict, encoding="utf-8")
    try:
        answer = home.run("run", "--json")
    finally:
        home.config.write_text(text, encoding="utf-8")
    assert answer.code == 3, answer.out
    last = home.must("status")["runs"][0]
    assert (last["status"], len(last["refused_by"])) == ("refused", 2)
    told = home.run("status").out
    assert "The last run was refused by a check, as it is meant to be: what was published before stays." in told
    assert "│ refused │" in told
    problems = answer.document["problems"]
    assert any("no longer sees what it was trained on" in problem for problem in problems)
    assert any(
        "the newest fact is" in problem and "Scores of old facts are not published" in problem for problem in problems
    )
    assert (home.path / "serving.duckdb").read_bytes() == before


@pytest.mark.slow
def test_renaming_companies_moves_no_score(lived: dict[str, Any]) -> None:
    home = lived["home"]
    home.must("run")
    before, names = home.scores(), "select account_id, account_name from marts.accounts order by account_id"
    called = {row["account_id"]: row["account_name"] for row in home.ask(names)}
    by_name = {
        row["account_id"]
        for row in ask(home, "select account_id from intermediate.int_accounts_matched where match_rule = 'name'")
    }
    chosen = [row["account_id"] for row in before if row["account_id"] not in by_name][:20]
    files = home.path / "sandbox" / "data" / "crm" / "companies"
    with scratch() as connection:
        connection.execute(
            f"copy (select * replace ('Renamed ' || id as name, '2025-01-09T23:00:00Z' as hs_lastmodifieddate)"
            f" from read_csv('{files}/*.csv', all_varchar = true) where list_contains(?, id)"
            " qualify row_number() over (partition by id order by hs_lastmodifieddate desc) = 1)"
            f" to '{files}/2025-01-09-renamed.csv' (header)",
            [chosen],
        )
    home.must("run")
    now = {row["account_id"]: row["account_name"] for row in home.ask(names)}
    assert {account for account in now if now[account] != called[account]} == set(chosen)
    assert home.scores() == before


@pytest.mark.slow
def test_too_few_departures_give_everybody_the_base_rate_and_say_so(new_home: Callable[..., Any]) -> None:
    home = new_home("young", model=True, accounts=120, months=9)
    document = home.must("run")
    model = document["published"]["model"]
    assert model["state"] == "refused"
    assert "min_churn_events" in model["decision"]
    scores = home.scores()
    assert {row["is_fallback"] for row in scores} == {True}
    assert {row["churn_tier"] for row in scores} == {"unknown"}
    assert len({row["churn_probability"] for row in scores}) == 1
    assert document["published"]["worth_a_call"] == []
    told = home.run("status").out
    assert "There was too little to learn from: the base rate is used." in " ".join(told.split())
    assert "│ done " in told
    replayed = home.must("run", "--as-of", "2024-09-01")
    assert replayed["published"]["path"] != document["published"]["path"]
    assert replayed["published"]["model"] is None
    assert home.scores() == scores
