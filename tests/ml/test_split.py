"""Splits: no label window crosses, no account is torn apart, and a refusal says why."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UserError
from ml.dataset import Dataset, assemble
from ml.split import never_seen, require_folds, rolling_origins, stratified_folds, time_split


def snapshots(days: list[int], accounts: int, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    start = np.datetime64("2024-01-01")
    frame = pd.DataFrame([(start + day, account) for day in days for account in range(accounts)], columns=["day", "id"])
    frame["x"] = random.normal(size=len(frame))
    frame["left"] = random.integers(0, 2, len(frame))
    return assemble(frame, entity="id", label="left", as_of="day")


DAYS = st.lists(st.integers(0, 400), min_size=1, max_size=12, unique=True)


@settings(max_examples=60, deadline=None)
@given(days=DAYS, embargo=st.integers(1, 120), tests=st.integers(1, 3), seed=st.integers(0, 99))
def test_no_label_window_crosses_a_time_split(days: list[int], embargo: int, tests: int, seed: int) -> None:
    data = snapshots(days, 12, seed)
    try:
        split = time_split(data, embargo_days=embargo, test_dates=tests, min_events=3)
    except UserError:
        return
    assert data.as_of is not None
    gap = np.timedelta64(embargo, "D")
    assert data.as_of[split.train].max() + gap <= data.as_of[split.validation].min()
    assert data.as_of[split.validation].max() + gap <= data.as_of[split.test].min()
    assert data.as_of[split.test].max() == data.as_of.max()
    assert not (split.train & split.validation | split.train & split.test | split.validation & split.test).any()
    for part in (split.train, split.validation, split.test):
        assert data.labels[part].sum() >= 3


@settings(max_examples=60, deadline=None)
@given(days=DAYS, embargo=st.integers(1, 120), apart=st.integers(0, 90), seed=st.integers(0, 99))
def test_no_label_window_crosses_a_rolling_origin(days: list[int], embargo: int, apart: int, seed: int) -> None:
    data = snapshots(days, 12, seed)
    folds = rolling_origins(data, embargo_days=embargo, folds=4, min_events=3, apart_days=apart)
    assert data.as_of is not None
    dates = [fold.date for fold in folds]
    assert dates == sorted(dates, key=str)
    for fold in folds:
        assert data.as_of[fold.train].max() + np.timedelta64(embargo, "D") <= data.as_of[fold.test].min()
        assert set(data.as_of[fold.test]) == {fold.date}
    for earlier, later in pairwise(folds):
        assert earlier.date is not None
        assert later.date is not None
        assert later.date - earlier.date >= np.timedelta64(apart, "D")


@settings(max_examples=40, deadline=None)
@given(
    accounts=st.integers(20, 60),
    rows=st.integers(20, 200),
    folds=st.integers(2, 5),
    repeats=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_two_folds_never_share_an_account(accounts: int, rows: int, folds: int, repeats: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": random.integers(0, accounts, rows), "x": 1.0, "left": random.integers(0, 2, rows)})
    data = assemble(frame, entity="id", label="left")
    try:
        found = stratified_folds(data, folds=folds, repeats=repeats, seed=seed)
    except UserError:
        return
    assert len(found) == folds * repeats
    for repeat in range(repeats):
        tests = [set(data.entity[fold.test]) for fold in found[repeat * folds : (repeat + 1) * folds]]
        assert sum(len(test) for test in tests) == len(set(data.entity))
    for fold in found:
        assert not set(data.entity[fold.train]) & set(data.entity[fold.test])
        assert len(fold.train) + len(fold.test) == rows


def test_folds_are_alike_in_their_share_of_departures() -> None:
    frame = pd.DataFrame({"id": range(1000), "x": 1.0, "left": [1] * 100 + [0] * 900})
    for fold in stratified_folds(assemble(frame, entity="id", label="left"), folds=5, repeats=2, seed=3):
        assert frame["left"].to_numpy()[fold.test].sum() == 20


def test_too_little_time_is_refused_with_what_there_is() -> None:
    data = snapshots([0, 30, 60], 100, 1)
    with pytest.raises(UserError, match=r"3 as-of dates from 2024-01-01 to 2024-03-01 \(60 days\)") as refusal:
        time_split(data, embargo_days=90)
    assert refusal.value.hint is not None
    assert "180 days" in refusal.value.message


def test_too_few_departures_are_refused() -> None:
    data = snapshots([0, 30, 60, 90], 5, 1)
    with pytest.raises(UserError, match="at least 20 departures"):
        time_split(data, embargo_days=30)
    with pytest.raises(UserError, match="departures"):
        require_folds(data, rolling_origins(data, embargo_days=30, folds=3), embargo_days=30)


def test_a_table_without_time_has_no_forward_test() -> None:
    data = assemble(pd.DataFrame({"id": range(9), "x": 1.0, "left": [0, 1, 0] * 3}), entity="id", label="left")
    assert rolling_origins(data, embargo_days=30, folds=3) == []
    with pytest.raises(UserError, match="no row with an as-of date"):
        time_split(data, embargo_days=30)


def test_accounts_never_seen_are_those_without_a_row_in_training() -> None:
    train = assemble(pd.DataFrame({"id": ["a", "b"], "x": 1.0}), entity="id")
    test = assemble(pd.DataFrame({"id": ["b", "c"], "x": 1.0}), entity="id")
    assert never_seen(train, test).tolist() == [False, True]
