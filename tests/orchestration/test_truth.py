"""The default company, lived through by the ordinary job, against what its generator alone knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import known_truth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("truth")
    return known_truth.measure(known_truth.live(folder, accounts=2_000, months=24, seed=7))


def test_scores_rank_nearly_as_well_as_the_hazard_that_made_the_data(found: dict[str, Any]) -> None:
    assert found["events"] > 200
    assert found["all_dates"]["ratio"] >= 0.97


def test_risks_can_be_taken_at_their_word(found: dict[str, Any]) -> None:
    assert found["ece"]["above"] <= 0.01


def test_the_driver_of_who_leaves_within_a_month_is_among_the_top_three_reasons(found: dict[str, Any]) -> None:
    assert found["reasons"]["driver_among_top_three"]["left_within_31_days"]["share"] >= 0.8


def test_what_means_nothing_is_hardly_ever_a_reason(found: dict[str, Any]) -> None:
    assert found["reasons"]["rows_with_a_meaningless_reason"] <= 0.05
