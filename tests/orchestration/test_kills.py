"""A run that is killed, at any moment, leaves nothing half-done: the next run ends where an undisturbed one ends."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills_end_in_the_rows_of_an_undisturbed_run(
    new_home: Callable[..., Any], published_rows_of: Callable[..., Any]
) -> None:
    undisturbed, killed = (new_home(name, accounts=80, months=4) for name in ("undisturbed", "killed"))
    begun = time.monotonic()
    undisturbed.must("run")
    whole = time.monotonic() - begun
    moments = random.Random(20240701)
    dead = 0
    for attempt in range(10):
        if attempt == 5:
            # Half of the kills meet a first load, half an increment.
            killed.must("run")
            for home in (undisturbed, killed):
                home.must("sandbox", "advance", "--days", "5")
        process = killed.start("run")
        try:
            process.wait(timeout=moments.uniform(0.1, 1.0) * whole)
        except Exception:
            os.kill(process.pid, signal.SIGKILL)
            dead += 1
        process.communicate()
        serving = killed.path / "serving.duckdb"
        if serving.exists():
            assert killed.ask("select count(*) as n from publication")[0]["n"] == 1
    undisturbed.must("run")
    killed.must("run")
    assert dead >= 5, "the run ended before it could be killed"
    assert published_rows_of(killed.path / "serving.duckdb") == published_rows_of(undisturbed.path / "serving.duckdb")
    statuses = {run["status"] for run in killed.must("status")["runs"]}
    assert "running" not in statuses
