"""What the doctor says of a company's own metrics, beside the rows that are loaded."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core.metric_settings import MetricConfig
from core.settings import Config, Tenure
from core.warehouse import warehouse
from orchestration.metric_hits import MetricHits, measure
from sources.base import stream_ids
from sources.ledger import ensure_tables


def definition(name: str, entity: str, **where: Any) -> MetricConfig:
    words = {"name": name, "label": name, "description": name}
    return MetricConfig.model_validate({**words, "kind": "count", "from": entity, "where": where, "window": 28})


DEFINITIONS = (
    definition("all_uses", "usage_events"),
    definition("exports", "usage_events", event_name=["export", "share"]),
    definition("misspelt", "usage_events", event_name="exprot"),
    definition("never_at_once", "usage_events", event_name="login", product="insights"),
    definition("urgent", "tickets", priority="Urgent"),
    definition("meetings", "interactions", channel="meeting"),
)


@pytest.fixture
def tenure(tmp_path: Path) -> Tenure:
    columns = {
        "accounts": {"account_id": "id", "created_at": "at"},
        "usage_events": {"account_id": "a", "event_name": "e", "occurred_at": "t", "product": "p"},
        "tickets": {"ticket_id": "i", "account_id": "a", "opened_at": "t", "priority": "p"},
    }
    streams = {entity: {"files": f"{entity}.csv", "columns": found} for entity, found in columns.items()}
    sources = {"crm": {"connector": "files", "path": str(tmp_path), "streams": streams}}
    config = Config.model_validate({"company": "Test", "sources": sources})
    config = config.model_copy(update={"custom_metrics": DEFINITIONS})
    return Tenure(home=tmp_path, config_path=tmp_path / "tenure.yml", config=config)


@pytest.fixture
def loaded(tenure: Tenure) -> Tenure:
    with warehouse(tenure.warehouse_path) as connection:
        ensure_tables(connection, stream_ids(tenure.config))
        for account, event, product in (
            ("1", "login", "core"),
            ("1", "export", "insights"),
            ("2", "share", "core"),
            ("2", "share", None),
        ):
            connection.execute(
                "insert into raw_files.usage_events (account_id, event_name, product, occurred_at, _account_source)"
                " values (?, ?, ?, ?, 'crm')",
                [account, event, product, datetime(2024, 1, 1)],
            )
    return tenure


def test_each_definition_says_how_many_rows_and_accounts_it_finds(loaded: Tenure) -> None:
    found = {hits.name: hits for hits in measure(loaded)}
    assert found["all_uses"] == MetricHits("all_uses", "usage_events", 4, 2)
    assert found["exports"] == MetricHits("exports", "usage_events", 3, 2)


def test_a_definition_that_finds_none_says_why(loaded: Tenure) -> None:
    found = {hits.name: hits for hits in measure(loaded)}
    assert found["misspelt"].rows == 0
    assert found["misspelt"].reason == (
        "no row of usage_events has the event_name exprot; there are share, export, login"
    )
    assert found["never_at_once"].reason == "no row of usage_events has event_name and product as given at once"
    assert found["meetings"].reason == "no source delivers interactions"


def test_what_is_not_loaded_yet_is_no_mistake(tenure: Tenure, loaded: Tenure) -> None:
    assert {hits.name: hits for hits in measure(loaded)}["urgent"] == MetricHits("urgent", "tickets", None, None)


def test_before_the_first_run_nothing_is_counted(tenure: Tenure) -> None:
    assert {(hits.rows, hits.reason) for hits in measure(tenure)} == {(None, None)}
