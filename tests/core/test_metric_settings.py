"""`metrics.yml`: what it may say, and the sentence for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import UserError
from core.metric_settings import MetricConfig, read
from core.settings import PROJECT_ROOT, load

GOOD = {"name": "exports", "label": "Exports", "description": "Exports.", "kind": "count"} | {
    "from": "usage_events",
    "window": 28,
}
MODELS = PROJECT_ROOT / "models"


def metrics_of(folder: Path, *definitions: Any) -> tuple[MetricConfig, ...]:
    (folder / "metrics.yml").write_text(yaml.safe_dump({"metrics": list(definitions)}), encoding="utf-8")
    return read(folder / "tenure.yml", MODELS, {})


def test_a_company_without_the_file_has_no_metrics_of_its_own(tmp_path: Path) -> None:
    assert read(tmp_path / "tenure.yml", MODELS, {}) == ()


def test_the_sandbox_company_has_metrics_of_its_own() -> None:
    assert "urgent_tickets_unresolved" in {metric.name for metric in load().config.custom_metrics}


def test_one_value_is_a_list_of_one_and_words_are_compared_without_case(tmp_path: Path) -> None:
    (metric,) = metrics_of(tmp_path, GOOD | {"from": "tickets", "where": {"priority": " Urgent "}})
    assert metric.variable["where"] == {"priority": ["urgent"]}


def test_new_words_for_people_build_nothing_again(tmp_path: Path) -> None:
    (old,), (new,) = metrics_of(tmp_path, GOOD), metrics_of(tmp_path, GOOD | {"label": "Other", "unit": "files"})
    assert old.variable == new.variable


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": -7}, "exports.window: -7 looks into the future.*write 7 for the 7 days before it"),
        ({"window": 0}, "exports.window: 0 is no number of days from 1 to 365"),
        ({"window": None}, "exports: `window` is missing"),
        ({"name": "Exports!"}, "'Exports!' is no name for a column"),
        ({"name": "mrr"}, "mrr is the name of a column that Tenure has"),
        ({"name": "accounts"}, "accounts is the name of a column that Tenure has"),
        ({"colour": "red"}, "exports.colour: is not a known setting"),
        ({"kind": "median"}, "exports.kind: Input should be 'count'"),
        ({"from": "contacts"}, "exports.from: Input should be 'usage_events'"),
        ({"where": {"priority": "high"}}, "`where` names priority; usage_events can be filtered by event_name"),
        ({"where": {"event_name": []}}, "`event_name` needs one value or a list"),
        ({"where": {"event_name": "a\\"}}, "has a backslash"),
        ({"from": "tickets", "kind": "sum"}, "tickets have no number to sum"),
        ({"from": "tickets", "kind": "unique_users"}, "`unique_users` is for usage_events, not for tickets"),
        ({"kind": "share_of_active_users"}, "say which of them are meant"),
        ({"kind": "days_since_last", "compare": "own_level"}, "`compare` is for count"),
        ({"window": 365, "compare": "own_level"}, "reach back more than 730 days"),
    ],
)
def test_a_mistake_is_one_sentence_that_says_where_and_what(tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        metrics_of(tmp_path, GOOD | change)


def test_two_metrics_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two metrics are called exports"):
        metrics_of(tmp_path, GOOD, GOOD)


def test_a_list_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.yml").write_text("- exports\n", encoding="utf-8")
    with pytest.raises(UserError, match="holds no metrics"):
        read(tmp_path / "tenure.yml", MODELS, {})
