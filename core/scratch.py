"""Folders for what must not outlive its owner, such as copies of raw files.

Lives here: making such a folder, and removing those whose owner was killed. Must not live here: what is put in them.

An owner holds a lock on its folder, which the operating system drops when it dies, however it dies: so a left-over is known,
and what another process still uses is left alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

_PREFIX = "fetched-"


@contextmanager
def folder(parent: Path) -> Iterator[Path]:
    """A new folder below `parent`, gone afterwards with all that is in it."""
    parent.mkdir(parents=True, exist_ok=True)
    path, lock = _owned(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def clear(parent: Path) -> None:
    """Remove what owners that were killed left below `parent`."""
    for path in parent.glob(f"{_PREFIX}*"):
        lock = _open(path)
        if lock is None:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def _owned(parent: Path) -> tuple[Path, int]:
    """A new folder and the lock on it. One that was cleared away before it was locked is made anew."""
    while True:
        path = Path(mkdtemp(prefix=_PREFIX, dir=parent))
        lock = _open(path)
        if lock is None:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
