"""Folders that do not outlive their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core import scratch

OWNER = """
import sys, time
from pathlib import Path
from core import scratch
with scratch.folder(Path(sys.argv[1])) as path:
    (path / "rows.csv").write_text("private")
    print(path, flush=True)
    time.sleep(60)
"""


def owner(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a folder with a file in it."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(parent)], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_gone_when_its_owner_is_done_or_fails(tmp_path: Path) -> None:
    with scratch.folder(tmp_path / "tmp") as path:
        (path / "a").write_text("x")
    with pytest.raises(FileNotFoundError), scratch.folder(tmp_path / "tmp") as other:
        other.rename(other / "into itself" / "and further")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_only_what_a_killed_owner_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "duckdb_temp_storage-0.tmp").write_text("of somebody else")
    living, used = owner(tmp_path)
    killed, left = owner(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert (left / "rows.csv").exists()
    with scratch.folder(tmp_path) as own:
        scratch.clear(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            ["duckdb_temp_storage-0.tmp", used.name, own.name]
        )
    living.kill()
    living.wait()
    scratch.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["duckdb_temp_storage-0.tmp"]
    scratch.clear(tmp_path / "which is not there")
