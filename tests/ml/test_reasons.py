"""Reasons: points that sum to the score, sentences for people, and what moved a score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.reasons import Wording, amount, changes, printable, probability_points, reasons

USAGE = Wording(
    "usage_trend",
    "Usage against its own level",
    "%",
    positive="Usage rose {value} % against its own 28-day level",
    negative="Usage fell {value} % against its own 28-day level",
    zero="Usage is at its own 28-day level",
    missing="Too little earlier usage for a level",
)
PAYMENTS = Wording("failed_payments", "Failed payments", positive="{value} failed payments in the last 90 days")


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


def said(values: list[object], wording: Wording | None = None, dtype: str = "float32") -> list[str]:
    """The sentence for each value of one feature that raises every score."""
    features = pd.DataFrame({"x": pd.Series(values, dtype=dtype)})
    points = probability_points(np.full((len(values), 1), 0.5), -1.0, ["x"])
    table = reasons(points, features, {} if wording is None else {"x": wording}).to_pandas()
    return list(table[table["kind"] == "up"]["text"])


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000),
    width=st.integers(1, 15),
    base=st.floats(-6, 6),
    size=st.sampled_from([0.0, 1e-12, 1e-6, 0.1, 3.0]),
    share=st.sampled_from([(0.0,), (0.1,), (0.05, 0.05, 0.1)]),
)
def test_base_and_reasons_sum_to_the_score(
    seed: int, width: int, base: float, size: float, share: Sequence[float]
) -> None:
    random = np.random.default_rng(seed)
    names = [f"f{i}" for i in range(width)]
    contributions = random.normal(size=(20, width)) * size
    contributions[random.random(contributions.shape) < 0.2] = 0.0
    points = probability_points(contributions, base, names)
    assert np.allclose(points.probability, sigmoid(base + contributions.sum(axis=1)), rtol=0, atol=1e-12)
    assert np.allclose(points.base_probability + points.points.sum(axis=1), points.probability, rtol=0, atol=1e-12)
    features = pd.DataFrame(random.normal(size=(20, width)), columns=names)
    table = reasons(points, features, {}, notable=share).to_pandas()
    sums = table.groupby("row")["contribution"].sum()
    assert np.allclose(points.base_probability + sums, points.probability, rtol=0, atol=1e-12)
    for row, mine in table.groupby("row"):
        ups, downs = (mine[mine["kind"] == kind] for kind in ("up", "down"))
        own = points.points[row]
        for told, sizes in ((ups["contribution"], own[own > 0]), (-downs["contribution"], -own[own < 0])):
            least = points.base_probability * np.array([share[min(place, len(share) - 1)] for place in range(5)])
            largest = np.sort(sizes)[::-1][:5]
            assert list(told) == list(largest[largest > least[: len(largest)]])
        assert list(ups["rank"]) == list(range(1, len(ups) + 1))
        assert list(mine["kind"]).count("other") == 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), width=st.integers(1, 12), themes=st.integers(1, 6))
def test_features_of_a_theme_are_one_reason_and_the_one_that_moves_most_speaks(
    seed: int, width: int, themes: int
) -> None:
    random = np.random.default_rng(seed)
    names = [f"f{i}" for i in range(width)]
    theme_of = {name: f"theme {random.integers(themes)}" for name in names}
    wordings = {name: Wording(name, name, theme=theme) for name, theme in theme_of.items()}
    now, then = (probability_points(random.normal(size=(10, width)), -1.0, names) for _ in range(2))
    frame = pd.DataFrame(random.normal(size=(10, width)), columns=names)

    def members(theme: str) -> list[int]:
        return [place for place, name in enumerate(names) if theme_of[name] == theme]

    told = reasons(now, frame, wordings, notable=(0.1,)).to_pandas()
    assert np.allclose(
        now.base_probability + told.groupby("row")["contribution"].sum(), now.probability, rtol=0, atol=1e-12
    )
    for row, mine in told[told["theme"].notna()].groupby("row"):
        assert mine["theme"].is_unique
        own = now.points[row]
        for one in mine.itertuples():
            parts = own[members(one.theme)]
            assert np.isclose(one.contribution, parts.sum(), rtol=0, atol=1e-15)
            assert own[names.index(one.feature)] == (max(parts) if one.kind == "up" else min(parts))
        least = {theme: 0.1 * now.base_probability * np.sqrt(len(members(theme))) for theme in theme_of.values()}
        sums = {theme: own[members(theme)].sum() for theme in theme_of.values()}
        assert set(mine["theme"]) >= set(sorted((t for t in sums if sums[t] > least[t]), key=lambda t: -sums[t])[:5])
        assert all(abs(sums[theme]) > least[theme] for theme in mine["theme"])
    moved = changes(now, then, frame, frame, wordings).to_pandas()
    first = moved[(moved["kind"] == "change") & (moved["rank"] == 1)].reset_index(drop=True)
    by_theme = np.column_stack(
        [(now.points - then.points)[:, members(f"theme {i}")].sum(axis=1) for i in range(themes)]
    )
    assert np.allclose(first["contribution"].abs(), np.abs(by_theme).max(axis=1), rtol=0, atol=1e-15)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), width=st.integers(1, 12), other_model=st.booleans())
def test_what_changed_sums_to_the_difference_of_the_scores(seed: int, width: int, other_model: bool) -> None:
    random = np.random.default_rng(seed)
    names = [f"f{i}" for i in range(width)]
    before, after = (random.normal(size=(10, width)) for _ in range(2))
    then, now = (probability_points(0.3 * values, -1.5, names) for values in (before, after))
    previous = random.random(10) if other_model else then.probability
    frames = [pd.DataFrame(values, columns=names) for values in (after, before)]
    table = changes(now, then, *frames, {}, previous=previous).to_pandas()
    sums = table.groupby("row")["contribution"].sum()
    assert np.allclose(sums, now.probability - previous, rtol=0, atol=1e-12)
    assert ("model" in set(table["kind"])) == other_model
    if other_model:
        model = table[table["kind"] == "model"]["contribution"]
        assert np.allclose(model, then.probability - previous, rtol=0, atol=1e-15)
    first = table[(table["kind"] == "change") & (table["rank"] == 1)]
    assert np.allclose(first["contribution"].abs(), np.abs(now.points - then.points).max(axis=1))


def test_a_score_before_which_there_was_none_of_another_model_has_no_model_item() -> None:
    points = probability_points(np.array([[0.1], [0.2]]), -1.0, ["x"])
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    table = changes(points, points, frame, frame, {}, previous=np.array([np.nan, 0.5])).to_pandas()
    assert list(table[table["kind"] == "model"]["row"]) == [1]
    assert table[table["row"] == 0]["contribution"].tolist() == [0.0]


def test_points_keep_the_order_and_the_signs_of_log_odds() -> None:
    contributions = np.array([[2.0, -0.5, 0.1], [-3.0, 0.2, 0.0], [1.0, -1.0, 0.0]])
    points = probability_points(contributions, -2.0, ["a", "b", "c"]).points
    assert np.array_equal(np.sign(points), np.sign(contributions))
    assert np.array_equal(np.argsort(points), np.argsort(contributions))
    # No way to go: the slope at the base.
    slope = sigmoid(np.array(-2.0)) * (1 - sigmoid(np.array(-2.0)))
    assert points[2, 0] == pytest.approx(slope, rel=1e-9)


def test_sentences_are_those_of_the_wording() -> None:
    assert said([-38.2, 12.0, 0.0, None, -0.4], USAGE) == [
        "Usage fell 38 % against its own 28-day level",
        "Usage rose 12 % against its own 28-day level",
        "Usage is at its own 28-day level",
        "Too little earlier usage for a level",
        "Usage fell 0.4 % against its own 28-day level",
    ]
    assert said([3, 1, 0, None, -2], PAYMENTS) == [
        "3 failed payments in the last 90 days",
        "1 failed payment in the last 90 days",
        "0 failed payments in the last 90 days",
        "Failed payments is not measured",
        "Failed payments: \N{MINUS SIGN}2",
    ]


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("No login for {value} days", "days", "No login for 1 day"),
        ("{value} active users in 28 days", "", "1 active user in 28 days"),
        ("Used on {value} of the last 7 days", "days", "Used on 1 of the last 7 days"),
        ("Silent for {value} times its usual gap", "times", "Silent for 1 times its usual gap"),
        ("{value} % of its seats are in use", "%", "1 % of its seats are in use"),
        ("Changed its plan {value} times in a year", "", "Changed its plan 1 time in a year"),
    ],
)
def test_one_is_singular(text: str, unit: str, expected: str) -> None:
    assert said([1.0], Wording("x", "X", unit, positive=text)) == [expected]


def test_what_is_one_may_have_a_text_of_its_own() -> None:
    wording = Wording("x", "X", positive="{value} tickets wait", one="{value} ticket waits")
    assert said([1.0, 2.0], wording) == ["1 ticket waits", "2 tickets wait"]


def test_text_of_a_source_is_not_repeated_unless_the_wording_allows_it() -> None:
    values = ["Acme\u202e <b>secret</b>", None]
    industry = Wording("industry", "Industry", positive="Industry is {value}", missing="Industry is unknown")
    assert said(values, industry, "category") == ["Industry as recorded", "Industry is unknown"]
    assert said(values, None, "category") == ["x as recorded", "x is not measured"]
    own = Wording("plan", "Plan {x}", repeats_text=True)
    assert said([*values, "y" * 90], own, "category") == [
        "Plan {x} is Acme <b>secret</b>",
        "Plan {x} is not measured",
        f"Plan {{x}} is {'y' * 39}…",
    ]
    table = reasons(
        probability_points(np.full((2, 1), 0.5), 0.0, ["x"]),
        pd.DataFrame({"x": pd.Series(values, dtype="category")}),
        {"x": industry},
    )
    assert "Acme" not in str(table.to_pydict())


def test_a_flag_moves_between_yes_and_no() -> None:
    now, then = (probability_points(np.full((3, 1), size), -1.0, ["f"]) for size in (0.5, 0.1))
    before, after = pd.DataFrame({"f": [1.0, 0.0, None]}), pd.DataFrame({"f": [0.0, 0.0, 1.0]})
    table = changes(now, then, after, before, {"f": Wording("f", "Champion", is_flag=True)}).to_pandas()
    texts = list(table[table["kind"] == "change"]["text"])
    assert texts == ["Champion: yes → no", "Champion: still no", "Champion: not measured → yes"]


def test_movements_say_from_what_to_what() -> None:
    now, then = (probability_points(np.full((4, 3), size), -1.0, ["n", "c", "t"]) for size in (0.5, 0.1))
    before = pd.DataFrame(
        {"n": [-5.2, 3, 7, None], "c": pd.Categorical([*list("aab"), None]), "t": pd.Categorical(list("pppp"))}
    )
    after = pd.DataFrame(
        {"n": [-38, 3.01, None, None], "c": pd.Categorical(list("baaa")), "t": pd.Categorical(list("qpqp"))}
    )
    wordings = {"n": USAGE, "c": Wording("c", "Segment"), "t": Wording("t", "Plan", repeats_text=True)}
    table = changes(now, then, after, before, wordings).to_pandas()
    texts = {feature: list(mine["text"]) for feature, mine in table.dropna(subset="feature").groupby("feature")}
    assert texts == {
        "n": [
            "Usage against its own level: −5.2 % → −38 %",
            "Usage against its own level: still 3 %",
            "Usage against its own level: 7 % → not measured",
            "Usage against its own level: still not measured",
        ],
        "c": ["Segment: changed", "Segment: as before", "Segment: changed", "Segment: not measured → recorded"],
        "t": ["Plan: p → q", "Plan: still p", "Plan: p → q", "Plan: still p"],
    }


def test_the_table_has_its_columns_also_for_no_account_and_for_odd_types() -> None:
    features = pd.DataFrame({"x": pd.array([True, None], dtype="boolean"), "y": pd.array([1, None], dtype="Int64")})
    points = probability_points(np.array([[0.5, -0.5], [0.2, -0.1]]), 0.0, ["x", "y"])
    table = reasons(points, features, {"x": Wording("flag", "Flag", positive="Has it")}, notable=(0.0,))
    assert table.column_names == [*("row", "kind", "rank", "theme", "feature", "code", "text", "value", "contribution")]
    rows = table.to_pylist()
    assert [(r["row"], r["kind"], r["code"], r["value"]) for r in rows] == [
        (0, "up", "flag.positive", 1.0),
        (0, "down", "y.positive", 1.0),
        (0, "other", "other", None),
        (1, "up", "flag.missing", None),
        (1, "down", "y.missing", None),
        (1, "other", "other", None),
    ]
    nobody = reasons(probability_points(np.zeros((0, 2)), 0.0, ["x", "y"]), features[:0], {})
    assert nobody.schema == table.schema
    assert nobody.num_rows == 0


def test_an_account_has_the_same_reasons_alone_or_in_a_batch_and_columns_may_be_shuffled() -> None:
    random = np.random.default_rng(4)
    names = [f"f{i:02}" for i in range(40)]
    contributions = random.normal(size=(50, 40))
    features = pd.DataFrame(random.normal(size=(50, 40)), columns=names)
    wordings = {name: Wording(name, name, theme=str(place % 9)) for place, name in enumerate(names)}
    batch = reasons(probability_points(contributions, -1.0, names), features, wordings).to_pandas()
    mine = batch[batch["row"] == 17].drop(columns="row").reset_index(drop=True)
    shuffled = features[names[::-1]].iloc[17:18]
    alone = reasons(probability_points(contributions[17:18], -1.0, names), shuffled, wordings).to_pandas()
    pd.testing.assert_frame_equal(mine, alone.drop(columns="row"), check_exact=True)


def test_numbers_are_written_for_people() -> None:
    values = [0, 1, 1.04, 0.5, 0.0333, 9.96, 12.4, 9999, 10_000, 1_234_567, -3.2, 1e-12, 100.0, float("nan")]
    assert [amount(value) for value in values] == (
        ["0", "1", "1", "0.5", "0.033", "10", "12", "9999", "10,000", "1,234,567", "−3.2", "0", "100", "not measured"]
    )
    assert printable("a\x00b\n\u200bc") == "abc"
