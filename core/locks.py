"""One run at a time on one home: a lock that the operating system drops when its holder dies, however it dies.

Lives here: the run lock and who holds it. Must not live here: what a run does.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from core.errors import TenureError


class RunLock:
    """The exclusive lock of a home (`run.lock`). The file keeps the id of the last run that held it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, run_id: str, *, wait_seconds: float, on_wait: Callable[[str], None]) -> str | None:
        """Take the lock for `run_id` and return the id of the run that held it before, or None.

        `on_wait` is told the holder once if the lock is held. Raises `TenureError` after `wait_seconds`.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+", encoding="utf-8")
        deadline = time.monotonic() + wait_seconds
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = holder_of(self.path) or "unknown"
                if not told:
                    on_wait(holder)
                    told = True
                if time.monotonic() > deadline:
                    file.close()
                    raise TenureError(
                        f"Run {holder} is still working on {self.path.parent}.",
                        hint="Wait for it to end, then run again.",
                    ) from None
                time.sleep(0.2)
        before = holder_of(self.path)
        file.seek(0)
        file.truncate()
        file.write(run_id)
        file.flush()
        self._file = file
        return before

    def release(self) -> None:
        """Give the lock back; without effect if it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock."""
    if not path.exists():
        return False
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def holder_of(path: Path) -> str | None:
    """The id of the run that holds the lock, or held it last."""
    return path.read_text(encoding="utf-8").strip() or None if path.exists() else None
