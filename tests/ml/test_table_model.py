"""A model of one flat file: its test, what is kept, and scores that do not depend on the file around a row."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core import settings
from core.errors import UserError
from core.settings import Tenure
from ml import flat, table_model, table_score, table_store

NOW = datetime(2026, 3, 1, 12)


def people(rows: int = 600, *, seed: int = 1, first: int = 0) -> pd.DataFrame:
    """Customers of whom the dear, the new and those on `basic` leave more often."""
    random = np.random.default_rng(seed)
    tenure = random.integers(1, 60, rows)
    price = random.uniform(5, 100, rows)
    plan = random.choice(["basic", "plus", "pro"], rows)
    seen = random.integers(0, 90, rows)
    risk = 1 / (1 + np.exp(0.08 * tenure - 0.03 * price - 1.0 * (plan == "basic") - 0.02 * seen + 1))
    return pd.DataFrame(
        {
            "customer_id": [f"c{i + first:05d}" for i in range(rows)],
            "tenure": tenure,
            "price": [f"$ {value:,.2f}" if value > 8 else "" for value in price],
            "plan": plan,
            "seen": (pd.Timestamp("2026-02-01") - pd.to_timedelta(seen, unit="D")).strftime("%Y-%m-%d"),
            "auto pay": np.where(random.random(rows) < 0.5, "yes", "no"),
            "churned": np.where(random.random(rows) < risk, "yes", "no"),
        }
    )


class Place:
    """A home, a folder of files, and the two verbs on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tenure: Tenure = settings.load(home=folder / "home")

    def write(self, frame: pd.DataFrame, name: str = "t.csv") -> Path:
        path = self.folder / name
        if name.endswith(".parquet"):
            frame.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False)
        return path

    def train(self, frame: pd.DataFrame, **options: Any) -> table_model.TableTraining:
        given = {"label": "churned", "id": "customer_id", "tenure": self.tenure, **options}
        return table_model.train(self.write(frame), **given)

    def keep(self, training: table_model.TableTraining, now: datetime = NOW) -> table_store.Kept:
        return table_store.keep(training, source=Path("customers.csv"), tenure=self.tenure, now=now)

    def score(
        self, frame: pd.DataFrame, name: str = "new.csv", out: str = "scores.parquet", **options: Any
    ) -> pd.DataFrame:
        given = {"id": "customer_id", "tenure": self.tenure, "now": NOW, **options}
        table_score.score(self.write(frame, name), out=self.folder / out, **given)
        return pd.read_parquet(self.folder / out) if out.endswith(".parquet") else pd.read_csv(self.folder / out)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A home with a model. Tests score with it and leave it as it is."""
    made = Place(tmp_path_factory.mktemp("table"))
    made.training = made.train(people())  # type: ignore[attr-defined]
    made.kept = made.keep(made.training)  # type: ignore[attr-defined]
    return made


@pytest.fixture
def new_place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_test_is_out_of_sample_and_finds_what_was_planted(place: Any) -> None:
    training = place.training
    assert 0.7 < training.evaluation.metrics["roc_auc"].value < 0.95
    assert training.baselines["prior"].metrics["roc_auc"].value == 0.5
    assert len(training.tested.data) == 600
    assert sorted(training.tested.data.entity) == sorted(people()["customer_id"])
    directions = {one.feature: one.direction for one in training.effects}
    assert directions["tenure"] == "the more, the lower the risk"
    assert directions["price"] == "the more, the higher the risk"
    assert directions["plan"].startswith("basic: higher risk")
    assert training.verdict.startswith("Of the riskiest tenth,")


def test_the_same_table_in_another_order_is_the_same_data_by_the_same_plan(new_place: Place, place: Any) -> None:
    frame = people()
    shuffled = frame.sample(frac=1, random_state=3)[frame.columns[::-1]]
    again = flat.prepare(new_place.write(shuffled), label="churned", id="customer_id")
    assert again.plan == place.training.prepared.plan
    pd.testing.assert_frame_equal(again.data.in_canonical_order().features, place.training.prepared.data.features)


def test_a_row_scores_the_same_alone_in_a_batch_in_any_order_and_format(place: Any) -> None:
    frame = people(50, seed=9, first=900).drop(columns="churned")
    batch = place.score(frame)
    assert batch["customer_id"].tolist() == frame["customer_id"].tolist()
    for row in (0, 17, 49):
        alone = place.score(frame.iloc[[row]])
        pd.testing.assert_frame_equal(alone, batch.iloc[[row]].reset_index(drop=True))
    turned = place.score(frame[frame.columns[::-1]].iloc[::-1].assign(more=1, tenure_2="x"), "turned.parquet")
    pd.testing.assert_frame_equal(turned.iloc[::-1].reset_index(drop=True), batch)
    pd.testing.assert_frame_equal(
        place.score(frame, out="scores.csv").drop(columns="scored_at"),
        batch.drop(columns="scored_at").fillna(np.nan),
        check_dtype=False,
        rtol=1e-9,
    )


def test_reasons_sum_to_the_score_and_say_why(place: Any) -> None:
    frame = people(30, seed=4)
    scores = place.score(frame)
    parts = [name for name in scores.columns if name.endswith("_contribution")]
    total = scores["base_probability"] + scores[parts].fillna(0).sum(axis=1)
    np.testing.assert_allclose(total, scores["churn_probability"], atol=1e-6)
    assert (scores["reason_1_contribution"].dropna() > 0).all()
    assert (scores["down_1_contribution"].dropna() < 0).all()
    assert set(scores["tier"]) <= {"high", "medium", "low"}
    assert scores["percentile"].between(0, 100).all()
    assert scores["churn_probability"].rank().corr(scores["percentile"].rank()) > 0.99
    texts = set(scores.filter(regex="_text$").stack())
    assert any(re.fullmatch(r"plan is (basic|plus|pro)", text) for text in texts)
    assert any(re.fullmatch(r"seen was \d+ days ago", text) for text in texts)


def test_unknown_categories_and_blanks_score_as_missing(place: Any) -> None:
    frame = people(3, seed=4)
    frame["plan"] = ["platinum", None, "platinum"]
    scores = place.score(frame)
    assert scores["churn_probability"].between(0, 1).all()
    empty = frame.assign(**dict.fromkeys(["tenure", "price", "plan", "seen", "auto pay"], ""))
    assert (place.score(empty)["coverage_pct"] == 0).all()


def test_values_that_cannot_be_read_are_told_and_count_as_missing(place: Any) -> None:
    frame = people(3, seed=4).assign(price=["$ 20", "on request", "$ 30"], seen=["2026-01-03", "2026-01-04", "lately"])
    path = place.write(frame, "unread.csv")
    scored = table_score.score(path, id="customer_id", out=place.folder / "u.csv", tenure=place.tenure, now=NOW)
    assert "1 value of price is no number, such as on request; counted as missing." in scored.warnings
    assert "1 value of seen is no date, such as lately; counted as missing." in scored.warnings


def test_a_file_that_is_not_like_the_training_is_told_in_text_and_as_data(place: Any) -> None:
    frame = people(200, seed=12)

    def scored(changed: pd.DataFrame) -> table_score.Scored:
        path = place.write(changed, "moved.csv")
        return table_score.score(path, id="customer_id", out=place.folder / "m.csv", tenure=place.tenure, now=NOW)

    alike = scored(frame)
    assert alike.drift == ()
    assert not any("is not" in one for one in alike.warnings)
    cents = scored(frame.assign(price=[100 * float(one.strip("$ ") or 5) for one in frame["price"]]))
    assert cents.drift[0]["column"] == "price"
    assert cents.drift[0]["outside"] > 0.9
    (said,) = [one for one in cents.warnings if one.startswith("price is not as in training: the median is ")]
    assert "times as high" in said
    assert any(one.startswith("The risk itself is not what the test found") for one in cents.warnings)
    assert json.loads(json.dumps(cents.document()))["drift"][0]["ways"]


def test_a_date_tells_its_direction_as_time_that_went_by(place: Any) -> None:
    directions = {one.feature: one.direction for one in place.training.effects}
    assert directions["seen"] == "the longer ago, the higher the risk"


def test_missing_columns_are_named_and_nothing_is_written(place: Any) -> None:
    frame = people(5)
    with pytest.raises(UserError, match="lacks 2 columns that the model needs: plan, tenure"):
        place.score(frame.drop(columns=["plan", "tenure", "churned"]), out="never.parquet")
    assert not (place.folder / "never.parquet").exists()


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("no/such/folder/s.parquet", "there is no folder"),
        ("s.txt", "needs an ending"),
        ("new.csv", "is the table itself"),
    ],
)
def test_where_scores_cannot_go_is_told(place: Any, out: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        place.score(people(5), out=out)


def test_ids_have_to_be_there_and_unique_when_scoring(place: Any) -> None:
    with pytest.raises(UserError, match="repeat the customer_id of another row"):
        place.score(people(5).assign(customer_id="x"))
    with pytest.raises(UserError, match="5 rows of 5 have no customer_id"):
        place.score(people(5).assign(customer_id=None))


def test_an_empty_file_of_customers_gives_an_empty_file_of_scores(place: Any) -> None:
    scores = place.score(people(5).head(0))
    assert len(scores) == 0
    assert list(scores.columns)[:3] == ["customer_id", "churn_probability", "tier"]


def test_scoring_before_training_is_told(new_place: Place) -> None:
    with pytest.raises(UserError, match="No table has been trained on"):
        new_place.score(people(5))


def test_dates_newer_than_the_training_are_told(place: Any) -> None:
    path = place.write(people(5).assign(seen="2027-01-01"), "later.csv")
    scored = table_score.score(path, id="customer_id", out=place.folder / "l.csv", tenure=place.tenure, now=NOW)
    assert scored.warnings[0].startswith("5 values of seen are later than 2026-02-01, the newest in training")


def test_the_report_needs_nothing_beside_it_and_escapes_what_it_shows(place: Any) -> None:
    html = place.kept.report.read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 6
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "http" not in re.sub(r"base64,[^\"]+", "", html)
    training = place.training
    fates = tuple(replace(fate, note="<script>alert(1)</script>") for fate in training.prepared.fates)
    from ml import report

    nasty = replace(training, prepared=replace(training.prepared, fates=fates))
    assert "<script>" not in report.render(nasty, {}, source="<script>", version="1", now=NOW)
    assert "<script>" not in report.card(nasty, source="<script>", version="1", now=NOW)


@pytest.mark.slow
def test_the_model_last_trained_scores_and_says_when_it_is_no_good(new_place: Place, place: Any) -> None:
    shutil.copytree(place.tenure.home, new_place.tenure.home)
    frame = people(300)
    frame["churned"] = np.random.default_rng(5).permutation(frame["churned"])
    training = new_place.train(frame)
    assert training.decision.state == "refused"
    kept = new_place.keep(training, now=datetime(2026, 3, 2))
    assert (place.kept.registered, kept.registered) == (1, 2)
    path = new_place.write(people(5))
    out = new_place.folder / "s.parquet"
    scored = table_score.score(path, id="customer_id", out=out, tenure=new_place.tenure, now=NOW)
    assert scored.version == "tenure-churn-table 2"
    assert scored.warnings[0].startswith("This model did not pass its test")


def snapshots(dates: pd.DatetimeIndex, rows: int = 200) -> pd.DataFrame:
    parts = []
    for number, day in enumerate(dates):
        frame = people(rows, seed=100 + number).drop(columns="seen")
        ago = np.random.default_rng(number).integers(0, 300, rows)
        parts.append(
            frame.assign(
                day=day.strftime("%Y-%m-%d"), joined=(day - pd.to_timedelta(ago, unit="D")).strftime("%Y-%m-%d")
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.mark.slow
def test_with_time_every_test_lies_after_its_training_and_leaves_the_horizon_free(new_place: Place) -> None:
    frame = snapshots(pd.date_range("2025-01-01", periods=5, freq="MS"))
    training = new_place.train(frame, time="day", horizon_days=45)
    assert [one["test"] for one in training.folds] == [
        "from 2025-03-01",
        "from 2025-04-01",
        "from 2025-05-01",
    ]
    assert [one["trained_on"] for one in training.folds] == [200, 400, 600]
    assert training.random_split_auc is not None
    assert training.protocol.startswith("forward in time with a gap of 45 days")
    new_place.keep(training)
    scores = new_place.score(frame)
    assert list(scores.columns)[:2] == ["customer_id", "day"]
    with pytest.raises(UserError, match="lacks 1 column that the model needs: day"):
        new_place.score(frame.drop(columns="day"))


@pytest.mark.slow
def test_days_that_are_all_different_are_tested_in_blocks(new_place: Place) -> None:
    frame = people(400).drop(columns="seen")
    frame["day"] = pd.date_range("2025-01-01", periods=400).strftime("%Y-%m-%d")
    training = new_place.train(frame, time="day", horizon_days=10)
    assert len(training.folds) >= 3
    assert training.tested.data.as_of is not None
    assert table_model.OVERLAP not in training.prepared.notes


def test_one_date_is_too_little_to_test_forward(new_place: Place) -> None:
    with pytest.raises(UserError, match="Too little to test forward in time: day has 1 date from"):
        new_place.train(people(200).assign(day="2025-01-01"), time="day")
