"""What columns of a flat file become."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml import columns
from ml.columns import ColumnPlan, LeftOut, infer


def texts(*values: str | None, times: int = 20) -> pd.Series:
    return pd.Series([value for _ in range(times) for value in values], dtype=object)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("1,234.5", 1234.5),
        ("12 %", 12),
        ("$ 12", 12),
        ("-$1,200.50", -1200.5),
        ("(3.5)", -3.5),
        ("5-", -5),
        ("EUR 7", 7),
        ("7 usd", 7),
        ("1 234 567", 1234567),
        ("1'234.5", 1234.5),
        ("1e3", 1000),
        (".5", 0.5),
        ("12,5", math.nan),
        ("1,23,4", math.nan),
        ("382-4657", math.nan),
        ("12 GB", math.nan),
        ("1e999", math.nan),
        ("٣", math.nan),
        ("-", math.nan),
    ],
)
def test_a_number_is_read_as_a_person_would(text: str, value: float) -> None:
    np.testing.assert_equal(columns.numbers([text], "."), [float(value)])


def test_a_decimal_comma_is_found_from_the_whole_column() -> None:
    column = texts("1.234,50", "12,5", "3", "1.000")
    plan = infer("amount", column, has_time=False).plan
    assert plan == ColumnPlan("amount", "number", ",")
    assert columns.feature(column, plan, None).tolist()[:4] == [1234.5, 12.5, 3, 1000]


@pytest.mark.parametrize(
    ("values", "kind", "first"),
    [
        (("Yes", "no", None), "yes_no", [1, 0, math.nan]),
        (("Y", "N"), "yes_no", [1, 0]),
        (("TRUE", "False"), "yes_no", [1, 0]),
        (("1", "0", "yes"), "yes_no", [1, 0, 1]),
        (("1,200", "12 %", None, "none"), "number", [1200, 12, math.nan, math.nan]),
        (("2024-01-05", "2024-01-01T10:00:00Z", None), "date", [0, 4, math.nan]),
        (("2024-01-05 23:59:59", "2024-01-01 00:00:00.123+02:00"), "date", [0, 4]),
        (("31/12/2023", "01/12/2023"), "date", [0, 30]),
        (("12/31/2023", "12/01/2023"), "date", [0, 30]),
        (("01.12.2023", "02.11.2023"), "date", [0, 29]),
        (("Jan 5, 2024", "Jan 1, 2024"), "date", [0, 4]),
        (("5-Jan-2024", "1-Jan-2024"), "date", [0, 4]),
        (("2024-01-05", "9999-12-31", *["2024-01-01"] * 40), "date", [0, math.nan, 4]),
    ],
)
def test_types_are_found_and_become_numbers(values: tuple[str | None, ...], kind: str, first: list[float]) -> None:
    column = texts(*values)
    plan = infer("x", column, has_time=False).plan
    assert isinstance(plan, ColumnPlan)
    assert plan.kind == kind
    np.testing.assert_equal(columns.feature(column, plan, None).to_numpy()[: len(first)], np.array(first, dtype=float))


def test_eight_digits_are_dates_only_where_the_name_says_so() -> None:
    column = pd.Series([20240105.0, 20240101.0] * 10)
    assert infer("signup_date", column, has_time=False).plan == ColumnPlan(
        "signup_date", "date", "digits", "2024-01-05"
    )
    assert infer("amount", column, has_time=False).plan == ColumnPlan("amount", "number", ".")


def test_a_date_counts_back_from_the_rows_own_day_when_there_is_one() -> None:
    column = pd.Series(["2024-01-01", "2024-01-31"] * 10, dtype=object)
    plan = infer("seen", column, has_time=True).plan
    days = columns.feature(column, plan, np.array(["2024-02-01", "2024-02-01"] * 10, dtype="datetime64[D]"))
    assert days.tolist()[:2] == [31, 1]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (texts(None), "is empty in every row"),
        (texts("a"), "has the same value in every row"),
        (pd.Series([3.0] * 9), "has the same value in every row"),
        (texts("01/02/2024", "03/04/2024"), "holds dates of which day and month cannot be told apart"),
        (pd.Series([f"note {i} about" for i in range(100)], dtype=object), "is a text that differs from row to row"),
        (pd.Series([f"city {i % 60}" for i in range(300)], dtype=object), "has 60 different texts, too many"),
    ],
)
def test_what_cannot_be_learned_from_is_left_out_with_a_reason(column: pd.Series, reason: str) -> None:
    plan = infer("x", column, has_time=False).plan
    assert isinstance(plan, LeftOut)
    assert plan.reason.startswith(reason)


def test_a_few_values_that_are_no_numbers_count_as_missing_and_are_told() -> None:
    column = pd.Series([*[str(i) for i in range(99)], "twelve"], dtype=object)
    found = infer("x", column, has_time=False)
    assert isinstance(found.plan, ColumnPlan)
    assert found.plan.kind == "number"
    assert found.note == "1 value ('twelve') is no number and counts as missing"


def test_a_constant_with_gaps_is_kept_for_its_gaps() -> None:
    plan = infer("x", texts("yes", None), has_time=False).plan
    assert isinstance(plan, ColumnPlan)


@given(
    st.lists(st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["1", "yes", "2024-01-02", "-"])), max_size=60)
)
def test_no_column_of_texts_breaks_anything_and_a_value_alone_is_what_it_is_among_others(
    values: list[str | None],
) -> None:
    column = pd.Series(values, dtype=object)
    plan = infer("x", column, has_time=False).plan
    if isinstance(plan, LeftOut):
        return
    together = columns.feature(column, plan, None)
    for place in range(len(values)):
        alone = columns.feature(column.iloc[[place]].reset_index(drop=True), plan, None).iloc[0]
        assert alone == together.iloc[place] or (pd.isna(alone) and pd.isna(together.iloc[place]))
