"""The model card: all that has to stand in it, well formed, for full and for poor data."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime

import numpy as np
import pytest

from ml import card, evaluate
from ml.card import Facts, FeatureWeight
from ml.dataset import Dataset


@pytest.fixture(scope="module")
def facts(make_dataset: Callable[..., Dataset]) -> Facts:
    data = make_dataset(600, 1)
    segments = np.where(np.arange(600) % 3 == 0, "enter|prise", "small").astype(object)
    data = replace(data, segment=segments, amount=np.full(600, 100.0))
    idle = np.nan_to_num(data.features["days_since_seen"].to_numpy(dtype=np.float64), nan=20.0)
    truth = 1 / (1 + np.exp(2.5 - idle / 15))
    prior = np.full(600, data.labels.mean())
    judged = {
        name: asdict(evaluate.evaluate(data, p, capacity=50, seed=1, resamples=30, ranking_only=name == "recency"))
        for name, p in (("model", truth), ("prior", prior), ("recency", idle), ("logistic_regression", truth * 0.9))
    }
    dates = [{"date": f"2024-0{month}-01", "roc_auc": 0.7 + month / 100} for month in (1, 2, 3, 4)]
    numbers = {"roc_auc": 0.725, "log_loss": 0.41}
    return Facts(
        company="Sandbox Inc.",
        churn="an account with MRR loses all of it within 90 days",
        rows=12_345,
        accounts=2_000,
        events=640,
        first_date="2023-01-01",
        last_date="2024-03-01",
        evaluation=judged["model"],
        decision={"state": "champion", "reasons": ["ROC AUC 0.810 forward in time, above 0.55."]},
        trained_at=datetime(2024, 7, 1, 5, 0),
        seed=7,
        data_hash="ab" * 32,
        recipe_hash="cd" * 8,
        software="tenure 0.1.0, xgboost 3.2.0",
        embargo_days=120,
        split={"train": ["2023-01-01", "2023-08-01"], "validation": ["2023-12-01"], "test": ["2024-04-01"]},
        baselines={name: found for name, found in judged.items() if name != "model"},
        rolling={"dates": dates, "mean": numbers, "worst": numbers, "spread": {"roc_auc": 0.013}},
        random_split_auc=0.871,
        selection={
            "winner": "small",
            "folds": 3,
            "parameters": {"eta": 0.05},
            "tried": [{"name": "small", "log_loss": 0.4123}, {"name": "blend", "kept": True}],
        },
        features=[FeatureWeight(f"Feature {i}", 0.05, "usage") for i in range(19)] + [FeatureWeight("Noise", 0.0)],
        git_commit="0123abcd",
        manifest_hash="feed",
    )


def test_a_card_tells_all_that_it_has_to(facts: Facts) -> None:
    text = card.render(4, facts)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == [
        "What it is for",
        "Data",
        "Test",
        "Can the risks be taken at their word?",
        "Over time",
        "By group",
        "What it looks at",
        "How its form was found",
        "Limits",
        "Reproduce",
    ]
    for words in (
        "# tenure-churn, version 4",
        "It passed the gate",
        "at least 120 days (lead + horizon + grace)",
        "Same risk for all",
        "Logistic regression",
        "Recency rule",
        "On a random split of the rows ROC AUC is **0.871**, forward in time it is **0.",
        "2024-04-01 (ROC AUC 0.740)",
        "5 more features carry 20.0 %",
        "`0123abcd`",
        "- Parameters: eta 0.05",
        "| small | 0.4123   | –    |",
        "tenure 0.1.0, xgboost 3.2.0",
    ):
        assert words in text, words
    groups = text.split("## By group")[1].split("##")[0]
    assert re.search(r"\| enter\S+rise +\| +200 \| +\d+ \| +0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", groups), groups


def test_every_table_is_well_formed(facts: Facts) -> None:
    lines = card.render(4, facts).splitlines()
    for before, line in itertools.pairwise(lines):
        if line.startswith("|") and before.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) == len(re.split(r"(?<!\\)\|", before)), line
            assert len(line) == len(before), "columns are padded"
        if line.startswith("|") and not before.startswith("|"):
            assert before == "", "a table needs an empty line before it"
    assert "enter\\|prise" in "\n".join(lines)


def test_a_card_shows_in_a_terminal(facts: Facts) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(Markdown(card.render(4, facts)))
    shown = console.export_text()
    assert "Can the risks be taken at their word?" in shown
    assert "| ---" not in shown


@pytest.mark.parametrize(
    ("state", "words"), [("refused", "The gate refused it"), ("challenger", "the model in use stays")]
)
def test_a_model_that_is_not_used_says_so_at_the_top(facts: Facts, state: str, words: str) -> None:
    text = card.render(1, replace(facts, decision={"state": state, "reasons": ["It knows nothing."]}))
    assert words in text.split("##")[0]
    assert "- It knows nothing." in text


def test_poor_data_make_a_card_without_holes(facts: Facts, make_dataset: Callable[..., Dataset]) -> None:
    nobody = make_dataset(30, 2).with_label(np.zeros(30))
    found = asdict(evaluate.evaluate(nobody, np.full(30, 0.1), capacity=50, seed=1, resamples=5))
    poor = replace(
        facts,
        evaluation=found,
        baselines={},
        rolling=None,
        random_split_auc=None,
        selection={},
        features=(),
        split={},
        first_date=None,
        last_date=None,
        git_commit=None,
        manifest_hash=None,
    )
    text = card.render(1, poor)
    assert "None" not in text
    assert "nan" not in text
    assert "too few matured dates" in text
    assert "With 0 departures the intervals are wide" in text
