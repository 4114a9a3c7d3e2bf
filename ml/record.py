"""From a judged training to what the registry keeps: metrics, pictures, documents, the card.

Lives here: which of a judgement's parts go where. Must not live here: MLflow (`registry.py`), drawing (`plots.py`), the card's
words (`card.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ml import card, plots
from ml.dataset import sample_accounts

if TYPE_CHECKING:
    from core.settings import Config
    from ml.evaluate import Difference, Group
    from ml.features import Feature
    from ml.judge import Judgement
    from ml.registry import Key, Training

PICTURED_ROWS = 2_000
"""Rows of the test window whose contributions are drawn."""
EXAMPLES = 5
HEADLINE = ("roc_auc", "pr_auc", "log_loss", "ece", "lift_top_decile")


def training(
    judgement: Judgement,
    features: tuple[Feature, ...],
    key: Key,
    config: Config,
    *,
    now: datetime,
    git_commit: str | None,
    manifest_hash: str,
) -> Training:
    """Everything about one training as the registry takes it."""
    from ml import registry

    evaluation, data = judgement.evaluation, judgement.data
    assert data.as_of is not None
    metrics = {name: asdict(interval) for name, interval in evaluation.metrics.items()}
    told = facts(judgement, features, key, config, now=now, git_commit=git_commit, manifest_hash=manifest_hash)
    return registry.Training(
        model=judgement.model,
        tested=judgement.tested,
        key=key,
        data=registry.DataSummary(
            name="features.ftr_churn_training",
            rows=len(data),
            accounts=len(set(data.entity)),
            events=data.events,
            first_date=str(data.as_of.min()),
            last_date=str(data.as_of.max()),
        ),
        decision=judgement.decision,
        metrics={
            "test": {**metrics, "ece_floor": asdict(evaluation.ece_floor)},
            "never_seen": {} if evaluation.never_seen is None else _group(evaluation.never_seen),
            "segment": {_named(name): _group(found) for name, found in evaluation.by_segment.items()},
            "against_regression": _differences(judgement.against_regression),
            "against_champion": _differences(judgement.against_champion or {}),
            "baseline": {name: _values(found.metrics) for name, found in judgement.baselines.items()},
            "rolling": {part: judgement.rolling[part] for part in ("mean", "worst", "spread")},
            "random_split_auc": judgement.random_split_auc,
        },
        headline={name: evaluation.metrics[name].value for name in HEADLINE},
        card=lambda number: card.render(number, told),
        example=data.features[list(judgement.model.feature_names)].head(EXAMPLES),
        params=_params(config, judgement),
        plots=plots.draw(_pictured(judgement, features, config)),
        documents={"profile": judgement.profile, "report": judgement.document()},
        trials=[
            registry.Trial({**trial["parameters"], "rounds": trial["rounds"]}, {"log_loss": trial["log_loss"]})
            for trial in judgement.trials
        ],
        git_commit=git_commit,
        manifest_hash=manifest_hash,
    )


def facts(
    judgement: Judgement,
    features: tuple[Feature, ...],
    key: Key,
    config: Config,
    *,
    now: datetime,
    git_commit: str | None,
    manifest_hash: str | None,
) -> card.Facts:
    """What the model card tells."""
    data = judgement.data
    assert data.as_of is not None
    known = {feature.name: feature for feature in features}
    total = sum(judgement.importance.values()) or 1.0
    weights = [
        card.FeatureWeight(known[name].label, size / total, known[name].family)
        for name, size in judgement.importance.items()
    ]
    return card.Facts(
        company=config.company,
        churn=config.churn.sentence,
        rows=len(data),
        accounts=len(set(data.entity)),
        events=data.events,
        first_date=str(data.as_of.min()),
        last_date=str(data.as_of.max()),
        evaluation=asdict(judgement.evaluation),
        decision=judgement.decision.document(),
        trained_at=now,
        seed=key.seed,
        data_hash=key.data_hash,
        recipe_hash=key.recipe_hash,
        software=f"tenure {metadata.version('tenure')}, xgboost {metadata.version('xgboost-cpu')}",
        embargo_days=config.churn.window_days,
        split={part: judgement.split[f"{part}_dates"] for part in ("train", "test")},
        baselines={name: asdict(found) for name, found in judgement.baselines.items()},
        rolling=judgement.rolling,
        random_split_auc=judgement.random_split_auc,
        selection=judgement.selection,
        features=weights,
        limits=(
            "The numbers are those of a model that never saw the test window. The model in use learned in the same form from all"
            " that has matured, the test window included.",
        ),
        git_commit=git_commit,
        manifest_hash=manifest_hash,
    )


def _group(group: Group) -> dict[str, Any]:
    return {"rows": group.rows, "events": group.events, **{name: asdict(one) for name, one in group.metrics.items()}}


def _values(metrics: Any) -> dict[str, float | None]:
    return {name: interval.value for name, interval in metrics.items()}


def _differences(found: Mapping[str, Difference]) -> dict[str, float | None]:
    return {name: one.difference for name, one in found.items()}


def _named(segment: str) -> str:
    """A segment's name in signs that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", segment)


_FORM = ("winner", "parameters", "rounds", "boosters", "weight_of_trees", "penalty", "intercept", "slope", "left_out")
"""What of a selection says how the model in use was made; all that was tried stands in the report."""


def _params(config: Config, judgement: Judgement) -> dict[str, Any]:
    return {
        "churn": config.churn.model_dump(mode="json"),
        "split": judgement.split,
        **{name: found for name, found in judgement.selection.items() if name in _FORM},
    }


def _pictured(judgement: Judgement, features: tuple[Feature, ...], config: Config) -> plots.Pictured:
    test = judgement.test
    few = sample_accounts(test, PICTURED_ROWS, seed=config.model.seed)
    model = judgement.tested
    contributions, _ = model.contributions(few.features)
    evaluation = judgement.evaluation
    return plots.Pictured(
        label=test.labels,
        probability=model.probability(test.features),
        features=few.features[list(model.feature_names)],
        contributions=contributions,
        feature_labels={feature.name: feature.label for feature in features},
        baselines={name: found for name, found in judgement.scores.items() if name != "prior"},
        capacity=config.model.capacity,
        as_of=test.as_of,
        ece=evaluation.metrics["ece"].value,
        ece_noise=evaluation.ece_floor.value,
    )
