"""Running a command and measuring it: seconds, processor seconds, peak memory of all its processes.

Lives here: the stopwatch and the facts of the machine. Must not live here: what is measured.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from core.settings import PROJECT_ROOT

_POLL_SECONDS = 0.05
_POLLS_BETWEEN_SEARCHES = 5
_PROC = Path("/proc")


class Line(NamedTuple):
    """A line that a command wrote, and the processor seconds that its processes had used by then."""

    text: str
    cpu_seconds: float


@dataclass(frozen=True)
class Measured:
    """A command's end. `peak_rss_bytes` is the largest sum over its processes, sampled every 50 ms; without /proc that of its
    largest process. Memory that processes share counts once for each of them. `lines` are those of standard error, with the
    processor seconds that had been used when each was noticed (without /proc: 0)."""

    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    out: str
    err: str
    lines: tuple[Line, ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "peak_rss_bytes": self.peak_rss_bytes,
        }


class Failed(Exception):
    """A measured command ended with an error."""


def run(command: Sequence[str], environment: Mapping[str, str], *, scratch: Path) -> Measured:
    """Run `command` to its end. What it writes goes through files in `scratch`, so that reading it costs nothing.

    Raises `Failed` with the end of what it wrote when its exit code is not 0.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    out, err = scratch / "out.txt", scratch / "err.txt"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with out.open("wb") as out_file, err.open("wb") as err_file:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, env=dict(environment), cwd=PROJECT_ROOT, stdin=subprocess.DEVNULL, stdout=out_file, stderr=err_file
        )
        watcher = _Watcher(process.pid, err)
        watcher.start()
        code = process.wait()
        seconds = time.perf_counter() - begun
        watcher.done.set()
        watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    written = out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
    if code != 0:
        raise Failed(f"{' '.join(command[1:4])} ended with {code}:\n{written[0][-2000:]}\n{written[1][-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(seconds, cpu, watcher.peak or _largest_child(after), *written, tuple(watcher.lines))


def python(*arguments: str) -> list[str]:
    """The command that runs one of the project's modules."""
    return [sys.executable, "-m", *arguments]


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a measured process: that of this one, with a home of its own."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("TENURE_", "DBT_", "DAGSTER_"))
    }
    return {**inherited, "TENURE_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "200", **extra}


def machine() -> dict[str, Any]:
    """Cores, memory and versions: what a number from another machine has to be compared with."""
    return {
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "duckdb": metadata.version("duckdb"),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


class _Watcher(threading.Thread):
    """Samples the memory and the processor time of a process and of all that descend from it, and notes when it writes."""

    def __init__(self, pid: int, err: Path) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.err = err
        self.peak = 0
        self.lines: list[Line] = []
        self.done = threading.Event()
        self._read = 0

    def run(self) -> None:
        samples = 0
        tree = [self.pid]
        while not self.done.wait(_POLL_SECONDS):
            if samples % _POLLS_BETWEEN_SEARCHES == 0:
                tree = _descendants(self.pid)
            samples += 1
            self.peak = max(self.peak, sum(_rss(pid) for pid in tree))
            self._note_lines()

    def _note_lines(self) -> None:
        with self.err.open("rb") as file:
            file.seek(self._read)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        if whole:
            self._read += len(whole)
            cpu = sum(_cpu(pid) for pid in _descendants(self.pid))
            self.lines += [Line(text, cpu) for text in whole.decode(errors="replace").splitlines()]


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in _PROC.glob("[0-9]*"):
        fields = _stat(int(folder.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def _cpu(pid: int) -> float:
    """Processor seconds of a process and of its children that have ended."""
    fields = _stat(pid)
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """What the kernel says about a process, from its state (field 3 of the manual) on; empty when it has ended."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _rss(pid: int) -> int:
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _largest_child(usage: resource.struct_rusage) -> int:
    return int(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
