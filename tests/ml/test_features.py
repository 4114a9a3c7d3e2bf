"""The catalogue of features: complete, in step with the models, and able to say every value in words."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from core.contract import ENTITIES
from ml import features, reasons
from ml.dataset import feature_column
from ml.features import Feature

PROJECT = Path(__file__).parents[2]
NO_FEATURES = ["account_id", "as_of_date", "is_eligible", "is_sampled", "coverage_pct", "feature_set"]


@pytest.fixture(scope="module")
def catalogue() -> tuple[Feature, ...]:
    return features.catalogue(currency="USD")


@pytest.fixture(scope="module")
def columns() -> dict[str, list[str]]:
    models = yaml.safe_load(features.CATALOGUE.read_text(encoding="utf-8"))["models"]
    return {model["name"]: [column["name"] for column in model["columns"]] for model in models}


def test_every_column_of_the_snapshots_is_a_key_or_a_feature(
    catalogue: tuple[Feature, ...], columns: dict[str, list[str]]
) -> None:
    assert columns["ftr_account_snapshots"] == [*NO_FEATURES, *(feature.name for feature in catalogue)]


def test_training_and_scoring_have_the_same_features(columns: dict[str, list[str]]) -> None:
    assert columns["ftr_churn_scoring"] == columns["ftr_account_snapshots"]
    assert columns["ftr_churn_training"] == [
        *columns["ftr_account_snapshots"],
        *("has_churned", "lost_date", "mrr_lost"),
    ]


def test_every_feature_is_explained(catalogue: tuple[Feature, ...]) -> None:
    for feature in catalogue:
        assert feature.family in features.FAMILIES, feature.name
        for need in feature.needs:
            for column in need.split(" or "):
                entity, _, name = column.partition(".")
                assert name == "" or name in ENTITIES[entity].column_names, (feature.name, column)
        assert feature.direction in (-1, 0, 1), feature.name
        assert feature.label, feature.name
        assert feature.theme is None or sum(f.theme == feature.theme for f in catalogue) > 1, feature.name
        assert {"positive", "missing"} <= feature.texts.keys() <= {"positive", "one", "negative", "zero", "missing"}
        assert len({f.label for f in catalogue}) == len(catalogue)


def test_a_feature_that_falls_and_rises_says_so(catalogue: tuple[Feature, ...]) -> None:
    changes = [f for f in catalogue if "trend" in f.name or "change_" in f.name]
    assert len(changes) >= 8
    for feature in changes:
        if feature.name != "days_since_contract_change":
            assert {"negative", "zero"} <= feature.texts.keys(), feature.name


def said(feature: Feature, value: float | str | None) -> str:
    """The sentence that a reason makes of a value."""
    column = feature_column(pd.Series([value], name=feature.name))
    points = reasons.probability_points(np.array([[1.0]]), 0.0, [feature.name])
    found = reasons.reasons(points, column.to_frame(feature.name), {feature.name: feature.wording})
    return str(found.column("text")[0].as_py())


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("events_trend_112d_pct", -38.2, "Usage fell 38 % against its own 28-day level"),
        ("events_trend_112d_pct", 2.5, "Usage rose 2.5 % against its own 28-day level"),
        ("events_trend_112d_pct", 0.0, "Usage is at its own 28-day level"),
        ("events_trend_112d_pct", float("nan"), "Too little earlier usage for a level"),
        ("failed_payments_45d", 1, "1 failed payment in 45 days"),
        ("failed_payments_45d", 3, "3 failed payments in 45 days"),
        ("failed_payments_45d", 0, "No failed payment in 45 days"),
        ("failed_payments_45d", None, "Nobody measures its invoices"),
        ("has_champion", True, "Has a champion"),
        ("has_champion", False, "Has no champion"),
        ("mrr", Decimal("1240.00"), "Pays 1240 USD a month"),
        ("top_user_share_28d_pct", 100.0, "One user makes 100 % of its usage"),
        ("purchase_silence_ratio", 0.04, "Silent for 0.04 times its usual gap between purchases"),
    ],
)
def test_a_value_becomes_a_sentence(catalogue: tuple[Feature, ...], name: str, value: float | None, text: str) -> None:
    (feature,) = (f for f in catalogue if f.name == name)
    assert said(feature, value) == text


def test_a_sentence_never_quotes_a_source(catalogue: tuple[Feature, ...]) -> None:
    for feature in catalogue:
        if feature.kind == "categorical":
            assert "jo@acme.com" not in said(feature, "jo@acme.com")
            assert feature.direction == 0


def test_the_page_of_the_documentation_is_up_to_date() -> None:
    written = (PROJECT / "docs" / "features.md").read_text(encoding="utf-8")
    assert written == features.page(features.catalogue()), "run: python -m ml.features > docs/features.md"
