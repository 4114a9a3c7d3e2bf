"""The clock that follows the data: only what was observed moves it."""

from __future__ import annotations

from datetime import datetime

import pytest

from core import clock
from core.contract import ENTITIES
from core.warehouse import ensure_table, scratch

NOW = datetime(2026, 1, 1, 12)
MAY = datetime(2024, 5, 20, 9)
AHEAD = datetime(2024, 11, 1)


def clock_of(*facts: tuple[str, dict[str, datetime]]) -> datetime:
    with scratch() as connection:
        for name, columns in facts:
            ensure_table(connection, "raw_files", name, {c.name: c.sql_type for c in ENTITIES[name].columns})
            marks = ", ".join("?" for _ in columns)
            connection.execute(
                f"insert into raw_files.{name} ({', '.join(columns)}) values ({marks})", list(columns.values())
            )
        return clock.as_of(connection, clock="data", now=NOW, replay=None)


USED = ("usage_events", {"occurred_at": MAY})


@pytest.mark.parametrize(
    "planned",
    [
        ("subscriptions", {"started_at": AHEAD}),
        ("subscriptions", {"started_at": AHEAD, "updated_at": MAY}),
        ("subscriptions", {"started_at": MAY, "ended_at": AHEAD, "renews_at": AHEAD}),
        ("interactions", {"occurred_at": AHEAD}),
        ("invoices", {"issued_at": MAY, "due_at": AHEAD}),
        ("usage_events", {"occurred_at": datetime(2027, 1, 1)}),
        ("accounts", {"created_at": AHEAD}),
        ("contacts", {"created_at": AHEAD}),
    ],
)
def test_what_lies_ahead_does_not_move_the_clock(planned: tuple[str, dict[str, datetime]]) -> None:
    assert clock_of(USED, planned) == datetime(2024, 5, 21)


@pytest.mark.parametrize(
    "observed",
    [
        ("subscriptions", {"started_at": AHEAD, "updated_at": AHEAD}),
        ("invoices", {"issued_at": AHEAD}),
        ("tickets", {"opened_at": AHEAD}),
        ("survey_responses", {"responded_at": AHEAD}),
    ],
)
def test_what_was_observed_moves_it(observed: tuple[str, dict[str, datetime]]) -> None:
    assert clock_of(USED, observed) == datetime(2024, 11, 2)


def test_contracts_alone_move_it_by_their_start_and_nothing_leaves_it_at_the_wall() -> None:
    assert clock_of(("subscriptions", {"started_at": MAY})) == datetime(2024, 5, 21)
    contract, account = ("subscriptions", {"started_at": MAY}), ("accounts", {"created_at": datetime(2023, 1, 1)})
    assert clock_of(contract, account) == datetime(2024, 5, 21)
    assert clock_of() == datetime(2026, 1, 2)
