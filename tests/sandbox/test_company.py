"""Founding a company, letting it live on, and what a crash leaves behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

import sandbox
from core.errors import UserError
from core.settings import PROJECT_ROOT

Digests = Callable[[Path], dict[str, str]]
KNOBS = {"accounts": 40, "months": 3, "seed": 5}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("small")
    sandbox.generate(home, **KNOBS)
    return home


def copy_of(home: Path, target: Path) -> Path:
    shutil.copytree(home / "sandbox", target / "sandbox")
    return target


def child(code: str, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(home)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=PROJECT_ROOT,
    )


def test_the_same_seed_gives_the_same_bytes(small: Path, tmp_path: Path, digests: Digests) -> None:
    sandbox.generate(tmp_path, **KNOBS)
    assert digests(tmp_path) == digests(small)


def test_another_seed_gives_other_rows_in_every_file(small: Path, tmp_path: Path, digests: Digests) -> None:
    sandbox.generate(tmp_path, **{**KNOBS, "seed": 6})
    ours, theirs = digests(small), digests(tmp_path)
    data = [path for path in ours if path.startswith("data/") and "/owners/" not in path]
    assert len(data) > 10
    assert all(ours[path] != theirs[path] for path in data)


def test_the_state_names_the_company_and_its_last_day(small: Path, tmp_path: Path) -> None:
    assert sandbox.state(tmp_path) is None
    company = sandbox.state(small)
    assert company is not None
    assert (company.accounts, company.months, company.seed) == (40, 3, 5)
    assert (company.start, company.last_day) == (date(2023, 7, 1), date(2023, 9, 30))


def test_generating_what_is_there_changes_nothing_even_after_it_lived_on(
    small: Path, tmp_path: Path, digests: Digests
) -> None:
    home = copy_of(small, tmp_path)
    sandbox.advance(home, days=1)
    before = digests(home)
    done = sandbox.generate(home, **KNOBS)
    assert (done.files, done.rows) == (0, {})
    assert digests(home) == before


def test_another_company_in_the_same_home_is_refused_in_words_and_replaced_by_force(
    small: Path, tmp_path: Path
) -> None:
    home = copy_of(small, tmp_path)
    with pytest.raises(UserError, match=r"another company: 40 accounts.*seed 5.*asked for 41 accounts") as refused:
        sandbox.generate(home, accounts=41, months=3, seed=5)
    assert "--force" in str(refused.value.hint)
    sandbox.generate(home, accounts=41, months=3, seed=5, force=True)
    company = sandbox.state(home)
    assert company is not None
    assert company.accounts == 41


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"accounts": 0}, "0 accounts"),
        ({"months": 1}, "1 months"),
        ({"seed": -1}, "seed -1"),
        ({"start": date(2024, 1, 2)}, "2024-01-02"),
        ({"density": 0.0}, "density"),
    ],
)
def test_knobs_out_of_range_are_refused(tmp_path: Path, knobs: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        sandbox.generate(tmp_path, **knobs)  # type: ignore[arg-type]
    assert not (tmp_path / "sandbox").exists()


def test_living_on_without_a_company_or_for_no_day_is_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sandbox company"):
        sandbox.advance(tmp_path, days=1)
    with pytest.raises(UserError, match="0 days"):
        sandbox.advance(small, days=0)


def test_a_company_of_another_version_is_refused(small: Path, tmp_path: Path) -> None:
    home = copy_of(small, tmp_path)
    path = home / "sandbox" / "company.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
    with pytest.raises(UserError, match="another version"):
        sandbox.state(home)


def test_days_in_one_go_are_the_days_one_by_one(small: Path, tmp_path: Path, digests: Digests) -> None:
    days = 33  # past a month's end, so that events arrive late across it and new accounts join
    at_once, one_by_one = copy_of(small, tmp_path / "once"), copy_of(small, tmp_path / "each")
    sandbox.advance(at_once, days=days)
    for step in (1, 1, 26, 1, 1, 1, 1, 1):
        sandbox.advance(one_by_one, days=step)
    assert digests(at_once) == digests(one_by_one)


def test_living_on_adds_files_dated_by_their_day_and_touches_no_other(
    small: Path, tmp_path: Path, digests: Digests
) -> None:
    home = copy_of(small, tmp_path)
    before = digests(home)
    done = sandbox.advance(home, days=3)
    after = digests(home)
    added = {path for path in after if path not in before}
    assert {path for path in before if after[path] != before[path]} == {"company.json"}
    assert len(added) == done.files
    assert {Path(path).name[:10] for path in added} == {"2023-10-01", "2023-10-02", "2023-10-03"}
    assert any(path.startswith("data/product/events/") for path in added)


def test_progress_ends_with_all_steps_done(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    sandbox.generate(tmp_path, accounts=5, months=2, progress=lambda what, done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_a_company_of_one_account_can_be_founded_and_lives_on(tmp_path: Path) -> None:
    done = sandbox.generate(tmp_path, accounts=1, months=2)
    assert done.rows["crm/companies"] >= 1
    assert sandbox.advance(tmp_path, days=40).company.last_day == date(2023, 10, 10)


def test_importing_the_sandbox_loads_nothing_heavy() -> None:
    code = "import sys, sandbox; print([m for m in ('numpy', 'pyarrow', 'duckdb', 'pandas') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    assert shown.stdout.strip() == "[]"


def test_two_writers_in_one_home_are_told_apart(small: Path) -> None:
    with (small / ".sandbox.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="Another process"):
            sandbox.generate(small, **KNOBS)


def test_a_process_killed_while_founding_leaves_no_company(small: Path, tmp_path: Path, digests: Digests) -> None:
    code = (
        "import sys, pathlib, sandbox\n"
        "def step(what, done, total):\n"
        "    print(done, flush=True)\n"
        "    if done == 3: sys.stdin.read()\n"
        f"sandbox.generate(pathlib.Path(sys.argv[1]), **{KNOBS}, progress=step)"
    )
    process = child(code, tmp_path)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "3":
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert sandbox.state(tmp_path) is None
    assert not (tmp_path / "sandbox").exists()
    sandbox.generate(tmp_path, **KNOBS)
    assert digests(tmp_path) == digests(small)


@pytest.mark.parametrize("files_before_the_kill", [1, 25])
def test_a_process_killed_while_living_on_is_mended_by_the_next_call(
    small: Path, tmp_path: Path, digests: Digests, files_before_the_kill: int
) -> None:
    days = 6
    undisturbed = copy_of(small, tmp_path / "undisturbed")
    sandbox.advance(undisturbed, days=days)
    home = copy_of(small, tmp_path / "killed")
    begun = sum(1 for _ in (home / "sandbox").rglob("*"))
    process = child(f"import sys, pathlib, sandbox; sandbox.advance(pathlib.Path(sys.argv[1]), days={days})", home)
    while sum(1 for _ in (home / "sandbox").rglob("*")) < begun + files_before_the_kill and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    company = sandbox.state(home)
    assert company is not None
    whole, complete = digests(home), digests(undisturbed)
    tomorrow = (company.last_day + timedelta(days=1)).isoformat()
    for path, digest in complete.items():
        day = Path(path).name[:10]
        if path != "company.json" and day < tomorrow:
            assert whole.get(path) == digest
    assert all(Path(path).name[:10] <= tomorrow for path in whole if path != "company.json")

    left = (date(2023, 9, 30) + timedelta(days=days) - company.last_day).days
    if left:
        sandbox.advance(home, days=left)
    assert digests(home) == complete
