"""In what way rows that are scored differ from a training: units, texts, what is missing; and how seldom luck is blamed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.settings import WatchConfig
from ml import drift
from ml.dataset import Dataset, assemble

CONFIG = WatchConfig()


def table(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "spend": np.exp(random.normal(5, 1.5, rows)),
            "tenure": random.integers(0, 72, rows).astype(float),
            "balance": random.normal(0, 50, rows),
            "auto_pay": (random.random(rows) < 0.4).astype(float),
            "calls": np.where(random.random(rows) < 0.1, np.nan, random.poisson(2, rows)),
            "plan": random.choice(["basic", "plus", "pro"], rows, p=[0.6, 0.3, 0.1]),
            **{f"more_{n}": random.normal(n, 1, rows) for n in range(20)},
        }
    )


def dataset(frame: pd.DataFrame) -> Dataset:
    return assemble(frame.assign(id=[f"c{n}" for n in range(len(frame))]), entity="id", features=list(frame.columns))


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return made(1500)


def made(rows: int) -> dict[str, Any]:
    frame = table(rows, 1)
    risk = 1 / (1 + np.exp(2 + frame["balance"].to_numpy() / 50))
    found: dict[str, Any] = json.loads(json.dumps(drift.profile(dataset(frame), risk)))
    return found


def noticed(known: dict[str, Any], frame: pd.DataFrame) -> dict[str, str]:
    found = drift.drift(known, frame, None, CONFIG, together=True)
    return {one.feature: "; ".join(one.ways) for one in found if one.state != "ok" or one.is_foreign}


@pytest.mark.parametrize("rows", [1, 3, 30, 300, 3000])
def test_files_of_the_same_world_are_seldom_blamed(known: dict[str, Any], rows: int) -> None:
    blamed = [noticed(known, table(rows, seed)) for seed in range(100, 140)]
    assert sum(bool(one) for one in blamed) <= 2, [one for one in blamed if one]


@given(
    st.sampled_from(["spend", "tenure", "balance"]),
    st.sampled_from([0.01, 1 / 12, 12, 60, 100, 1000]),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_another_unit_is_noticed_in_its_column_alone(column: str, factor: float, seed: int) -> None:
    frame = table(400, 1000 + seed)
    found = noticed(KNOWN, frame.assign(**{column: frame[column] * factor}))
    assert set(found) == {column}
    assert found[column]


KNOWN = made(1500)


@pytest.mark.parametrize(("factor", "words"), [(100, "times as high"), (0.01, "of what it was")])
def test_the_median_says_by_how_much(known: dict[str, Any], factor: float, words: str) -> None:
    (said,) = noticed(known, (frame := table(2000, 5)).assign(spend=frame["spend"] * factor)).values()
    assert said.startswith("the median is ")
    assert words in said
    assert "% of the values lie outside of what training saw" in said


@pytest.mark.parametrize("rows", [3, 8])
def test_a_few_rows_in_another_unit_are_noticed_in_a_small_file_and_among_many(
    known: dict[str, Any], rows: int
) -> None:
    small = table(rows, 6)
    assert "tenure" in noticed(known, small.assign(tenure=30.0 * 365))
    frame = table(1000, 7)
    frame.loc[: rows - 1, "tenure"] = 10_000.0
    assert "tenure" in noticed(known, frame)


def test_new_texts_are_named_with_their_rows_and_shares_that_moved_are_said(known: dict[str, Any]) -> None:
    frame = table(500, 8)
    frame.loc[:6, "plan"] = "gold"
    frame.loc[7:9, "plan"] = "platinum"
    assert noticed(known, frame) == {"plan": "10 values are texts that training did not have (gold, platinum)"}
    moved = noticed(known, table(500, 8).assign(plan="pro"))
    assert moved["plan"].startswith("pro is 100 % of the values, ")


def test_what_is_missing_more_often_and_yes_that_turned_are_said(known: dict[str, Any]) -> None:
    frame = table(500, 9)
    frame.loc[::4, "spend"] = np.nan
    assert noticed(known, frame) == {"spend": "missing in 25 % of the rows, 0 % in training"}
    turned = noticed(known, frame.assign(spend=table(500, 9)["spend"], auto_pay=1.0 - (frame["auto_pay"] > 2)))
    assert turned == {"auto_pay": "yes in 100 % of the rows, 39 % in training"}


def test_a_column_that_is_empty_throughout_is_said(known: dict[str, Any]) -> None:
    frame = table(50, 10)
    found = noticed(known, frame.assign(plan=pd.Series([None] * 50, dtype=object), spend=np.nan))
    assert found == dict.fromkeys(("plan", "spend"), "missing in 100 % of the rows, 0 % in training")
