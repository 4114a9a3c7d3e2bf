"""One dbt process for all calls of a run: it imports dbt and reads the manifest once, while the run does other things.

Lives here: both ends of that process. Must not live here: what dbt is called for (`dbt.py`), assets (`transform.py`).

A process of dbt's own is 2.5 seconds at work before the first model, and a run calls dbt twice. It is a process and no thread, since
dbt's Python and Dagster's then have a core each, and since the warehouse's file belongs to one process at a time: between two calls
this one has let go of it. It ends with the process that started it, in the middle of a build, too.

Calls are lines of JSON on standard input. Each answers with dbt's own lines of JSON, and a line that says how it ended.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import Any

_ENDED = "\x1eended "
"""Begins the line that says how a call ended; no line of JSON begins so."""


class DbtProcess:
    """A process of dbt, started when it is first needed, or ahead by `start`. As a context manager it ends it."""

    def __init__(
        self, project: Path, target: Path, variables: Mapping[str, Any], environment: Mapping[str, str]
    ) -> None:
        self._arguments = [str(project), str(target), json.dumps(variables)]
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def start(self) -> subprocess.Popen[bytes]:
        """The process, which is started unless it is there."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "orchestration.dbt_process", *self._arguments],
                    env={**os.environ, **self._environment, "PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
            return self._process

    def call(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Call:
        """Call dbt. One call has to end before the next."""
        process = self.start()
        assert process.stdin is not None
        document = {"arguments": list(arguments), "environment": dict(environment)}
        process.stdin.write(json.dumps(document).encode() + b"\n")
        process.stdin.flush()
        return Call(process, ["dbt", *arguments])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def __enter__(self) -> DbtProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Call:
    """One call of dbt, as far as dagster-dbt asks of a `subprocess.Popen`; `stdout` are its lines."""

    def __init__(self, process: subprocess.Popen[bytes], args: Sequence[str]) -> None:
        self.args = args
        self.returncode: int | None = None
        self.closed = False
        self._process = process

    @property
    def stdout(self) -> Call:
        return self

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def __iter__(self) -> Iterator[bytes]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_ENDED.encode()):
                self.returncode = int(line.removeprefix(_ENDED.encode()))
                return
            yield line
        self.returncode = self._process.wait() or 1

    def wait(self, timeout: float | None = None) -> int:
        """Read to the end; dbt's exit code, as far as it can tell: 0 or 1. `timeout` is not looked at: dbt ends by a signal, too."""
        while self.returncode is None:
            for _ in self:
                pass
        return self.returncode

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)


def main() -> None:
    """The process itself."""
    project, target, variables = sys.argv[1:]
    gc.set_threshold(50_000, 20, 100)
    calls = queue.SimpleQueue[dict[str, Any]]()
    Thread(target=_read_calls, args=(calls,), daemon=True).start()
    import dbt.adapters.duckdb  # noqa: F401
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    folders = ["--project-dir", project, "--target-path", target, "--log-path", target]
    parse = ["--quiet", "--no-write-json", "parse", *folders, "--vars", variables]
    parsed = dbtRunner().invoke(parse).result
    runner = dbtRunner(manifest=parsed if isinstance(parsed, Manifest) else None)  # without one, the call says why
    while True:
        call = calls.get()
        os.environ.update(call["environment"])
        done = runner.invoke([*call["arguments"], "--project-dir", project])
        _let_go()
        sys.stdout.write(f"{_ENDED}{0 if done.success else 1}\n")
        sys.stdout.flush()


def _read_calls(calls: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        calls.put(json.loads(line))
    # Who started this process is gone, or is done with it. What is being built is rolled back.
    os._exit(0)


def _let_go() -> None:
    """Close the warehouse, which dbt holds open as long as its process lives."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.adapters.factory import reset_adapters

    reset_adapters()  # type: ignore[no-untyped-call]
    held: Any = DuckDBConnectionManager._ENV
    if held is not None:
        held.close()
    DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
    gc.collect()


if __name__ == "__main__":
    main()
