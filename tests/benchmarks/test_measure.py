"""The stopwatch counts a process with its children, and tells a failure."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks import measure

CHILD = "import time; held = bytearray(200_000_000); held[::4096] = b'x' * len(held[::4096]); time.sleep(0.5)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}]); print('done')"


def test_memory_of_children_counts(tmp_path: Path) -> None:
    done = measure.run([sys.executable, "-c", PARENT], os.environ, scratch=tmp_path)
    assert done.out == "done\n"
    assert 200_000_000 < done.peak_rss_bytes < 400_000_000
    assert 0.5 < done.seconds < 30
    assert done.cpu_seconds > 0


def test_processor_seconds_are_known_line_by_line(tmp_path: Path) -> None:
    work = "import sys, time\nwhile time.process_time() < {}: pass\nprint('{}', file=sys.stderr, flush=True); time.sleep(0.4)"
    done = measure.run(
        [sys.executable, "-c", "\n".join(work.format(*step) for step in ((0.5, "one"), (1.5, "two")))],
        os.environ,
        scratch=tmp_path,
    )
    (one, two) = done.lines
    assert (one.text, two.text) == ("one", "two")
    assert 0.4 < one.cpu_seconds < 1.0
    assert 0.9 < two.cpu_seconds - one.cpu_seconds < 1.3


def test_a_command_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(measure.Failed, match="out of breath"):
        measure.run([sys.executable, "-c", "raise SystemExit('out of breath')"], os.environ, scratch=tmp_path)
