"""What the assets work with: the warehouse, opened by one run at a time, and dbt.

Lives here: Dagster resources. Must not live here: what is read or written.

None of them takes run configuration. A launched run brings its configuration along, so that whatever it could set (the path of a
file, the dbt executable) would be set by whoever can launch a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from core import warehouse as duck
from core.locks import RunLock
from core.settings import Tenure, utc_now
from orchestration.instance import WAITING, drop_old_runs, end_dead_run


@dataclass(frozen=True)
class Warehouse:
    """The working warehouse. A run holds the home's lock from its first step to its end, so that no other run mixes in."""

    home: Path
    memory_limit: str = "4GB"
    threads: int = 2
    wait_seconds: float = 3600.0
    keep_run_days: int = 30

    @property
    def path(self) -> Path:
        return self.home / "warehouse.duckdb"

    @contextmanager
    def held_by(self, context: dg.InitResourceContext) -> Iterator[Warehouse]:
        """Hold the lock for the run of `context`; a run that held it and died is marked as failed."""
        run_id = context.run_id or "unknown"
        log = context.log
        lock = RunLock(self.home / "run.lock")
        before = lock.acquire(
            run_id,
            wait_seconds=self.wait_seconds,
            on_wait=lambda holder: log.warning(f"{WAITING} {holder} to end.") if log else None,
        )
        try:
            if context.instance is not None:
                if before != run_id:
                    end_dead_run(context.instance, before)
                drop_old_runs(context.instance, before=utc_now() - timedelta(days=self.keep_run_days))
            yield self
        finally:
            lock.release()

    @contextmanager
    def open(self) -> Iterator[duck.Connection]:
        """A connection that may write; waits for a process that a killed run left behind."""
        with duck.warehouse(
            self.path,
            memory_limit=self.memory_limit,
            threads=self.threads,
            temp_directory=self.home / "tmp",
            wait_seconds=self.wait_seconds,
        ) as connection:
            yield connection


def warehouse(tenure: Tenure) -> dg.ResourceDefinition:
    """The working warehouse of a home, locked for the run."""
    kept = tenure.config.runs.keep_days
    held = Warehouse(tenure.home, tenure.memory_limit, tenure.threads, keep_run_days=kept)
    return _without_configuration(lambda context: held.held_by(context))


def fixed(value: Any) -> dg.ResourceDefinition:
    """A resource that is what it is, whatever a run asks for."""

    @contextmanager
    def given(context: dg.InitResourceContext) -> Iterator[Any]:
        yield value

    return _without_configuration(given)


def _without_configuration(
    make: Callable[[dg.InitResourceContext], AbstractContextManager[Any]],
) -> dg.ResourceDefinition:
    def resource(context: dg.InitResourceContext) -> Iterator[Any]:
        with make(context) as value:
            yield value

    return dg.ResourceDefinition(contextmanager(resource), config_schema={})


class NoValues(dg.IOManager):
    """Steps meet in tables: no asset hands a value on. Dagster's default would read and write pickles wherever a run says."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Raises `TypeError` for anything but nothing."""
        if obj is not None:
            raise TypeError(f"{context.asset_key.to_user_string()} returned a value; assets write tables.")

    def load_input(self, context: dg.InputContext) -> Any:
        """Raises `TypeError`: there is nothing to hand on."""
        raise TypeError(f"{context.asset_key.to_user_string()} is a table; ask the warehouse for it.")


def no_values() -> dg.IOManagerDefinition:
    """The way in which assets do not hand on values."""
    return dg.IOManagerDefinition(lambda _: NoValues(), config_schema={})
