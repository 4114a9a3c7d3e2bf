"""What the assets work with: the warehouse, opened by one run at a time.

Lives here: Dagster resources. Must not live here: what is read or written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from core import warehouse as duck
from core.locks import RunLock
from orchestration.instance import end_dead_run


class Warehouse(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The working warehouse. A run holds the home's lock from its first step to its end, so that no other run mixes in."""

    home: str
    memory_limit: str = "4GB"
    threads: int = 2
    wait_seconds: float = 3600.0
    _lock: RunLock | None = PrivateAttr(default=None)

    @property
    def path(self) -> Path:
        return Path(self.home) / "warehouse.duckdb"

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Take the lock; a run that held it and died is marked as failed."""
        run_id = context.run_id or "unknown"
        log = context.log
        lock = RunLock(Path(self.home) / "run.lock")
        before = lock.acquire(
            run_id,
            wait_seconds=self.wait_seconds,
            on_wait=lambda holder: log.warning(f"Waiting for run {holder} to end.") if log else None,
        )
        self._lock = lock
        if context.instance is not None and before != run_id:
            end_dead_run(context.instance, before)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.release()

    @contextmanager
    def open(self) -> Iterator[duck.Connection]:
        """A connection that may write; waits for a process that a killed run left behind."""
        with duck.warehouse(
            self.path,
            memory_limit=self.memory_limit,
            threads=self.threads,
            temp_directory=Path(self.home) / "tmp",
            wait_seconds=self.wait_seconds,
        ) as connection:
            yield connection
