"""The table that a model learns from: types, hash, samples."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from ml.dataset import assemble, sample_accounts


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["a", "b", "a", "c"],
            "plan": ["pro", None, "basic", "pro"],
            "seats": [1, 2, None, 4],
            "is_trial": [True, False, False, True],
            "mrr": [Decimal("1.5"), None, Decimal("2"), Decimal("3")],
            "nothing": [None] * 4,
            "left": [0, 1, 0, 1],
            "day": pd.to_datetime(["2024-01-01", "2024-01-01", "2024-02-01", "2024-02-01"]),
        }
    )


def test_columns_are_sorted_and_typed() -> None:
    data = assemble(frame(), entity="id", label="left", as_of="day")
    assert list(data.features.columns) == ["is_trial", "mrr", "nothing", "plan", "seats"]
    assert list(data.features["plan"].cat.categories) == ["basic", "pro"]
    assert all(data.features[name].dtype == np.float32 for name in ("is_trial", "mrr", "nothing", "seats"))
    assert data.features["nothing"].isna().all()
    assert np.isnan(data.features["seats"][2])


def test_the_hash_ignores_the_order_of_rows_and_columns_and_sees_any_value() -> None:
    data = assemble(frame(), entity="id", label="left", as_of="day")
    shuffled = assemble(frame().iloc[[2, 0, 3, 1], ::-1], entity="id", label="left", as_of="day")
    other = frame()
    other.loc[0, "seats"] = 9
    assert data.content_hash() == shuffled.content_hash()
    assert data.content_hash() != assemble(other, entity="id", label="left", as_of="day").content_hash()


def test_infinity_is_not_measured() -> None:
    data = assemble(frame().assign(seats=[np.inf, -np.inf, 1e300, 1.0]), entity="id", as_of="day")
    assert data.features["seats"].isna().tolist() == [True, True, True, False]


def test_a_sample_keeps_whole_accounts() -> None:
    rows = pd.DataFrame({"id": np.arange(9000) // 9, "x": np.arange(9000.0)})
    part = sample_accounts(assemble(rows, entity="id"), 3000, seed=1)
    assert set(np.unique(part.entity, return_counts=True)[1]) == {9}
    assert 2400 < len(part) < 3600


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"left": [0, 1, 2, 0]}, "0 or 1"),
        ({"left": ["yes", "no", "no", "no"]}, "0 or 1"),
        ({"left": [0, None, 1, 0]}, "0 or 1"),
        ({"id": ["a", None, "b", "c"]}, "have no id"),
        ({"seats": pd.to_datetime(["2024-01-01"] * 4)}, "is a date"),
    ],
)
def test_what_cannot_be_learned_from_is_named(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        assemble(frame().assign(**change), entity="id", label="left", as_of="day")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(UserError, match="lacks the column gone"):
        assemble(frame(), entity="id", label="gone")
