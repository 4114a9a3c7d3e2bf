"""The company on disk: founding it with its history, letting it live on, telling which one is there.

Lives here: chunks of accounts, the order of months and days, and the promise that a crash leaves either the old state or
the new one. Must not live here: what happens to accounts, how vendors write.

The history is written into a folder beside the final one and renamed. A later day is written aside too, then moved file by
file before `company.json` names it as the last day; a crash in between is mended by the next call, which writes the same
bytes again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from core.errors import UserError
from core.warehouse import Connection, scratch
from sandbox import delivery, events, records
from sandbox.delivery import Outbox, Window
from sandbox.identity import Identity, identify
from sandbox.timeline import Months, add_months, day_of, epoch, month_index
from sandbox.vendors import OWNERS
from sandbox.world import ALREADY_CUSTOMERS, World, simulate

FORMAT = 1
DEFAULT_START = date(2023, 7, 1)
"""The default 24 months end on 2025-06-30: a date in the past, so that days can be added before the wall clock is met."""
CHUNK = 20_000
"""Accounts that are simulated at once: 1.4 GB at 24 months, however many there are in all."""
LATER_COHORTS = 1_000_000
"""Added to a month to number the chunk of accounts that join in it after the history."""
DAYS_AT_ONCE = 2_000_000
"""Account-days of the future that are held in memory at once."""
BEGINNING_OF_TIME = 0
MAX_ACCOUNTS = 1 << 25

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are done, and how many there are."""


@dataclass(frozen=True)
class Company:
    """Which company exists: its knobs and the last day that was delivered."""

    accounts: int
    months: int
    seed: int
    start: date
    density: float
    last_day: date

    @property
    def history_end(self) -> date:
        """The first day after the history."""
        return add_months(self.start, self.months)


@dataclass(frozen=True)
class Delivered:
    """What a call did: the company as it is now, files and rows written by vendor object; nothing if it was there."""

    company: Company
    files: int
    rows: dict[str, int]


@dataclass(frozen=True)
class _Chunk:
    number: int
    first_account: int
    size: int
    first_month: int


def _silent(what: str, done: int, total: int) -> None:
    pass


def folder(home: Path) -> Path:
    """Where the sandbox of a home lives; `data` below it is what vendors deliver, `truth` what the pipeline never reads."""
    return home / "sandbox"


def state(home: Path) -> Company | None:
    """The company that exists in `home`, or None.

    Raises `UserError` when it was written by another version of the generator.
    """
    path = folder(home) / "company.json"
    if not path.exists():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.pop("format", None) != FORMAT:
        raise UserError(
            f"{path} was written by another version of the sandbox.", hint=f"Remove {folder(home)} and generate again."
        )
    for name in ("start", "last_day"):
        document[name] = date.fromisoformat(document[name])
    return Company(**document)


def generate(
    home: Path,
    *,
    accounts: int = 2_000,
    months: int = 24,
    seed: int = 7,
    start: date = DEFAULT_START,
    density: float = 1.0,
    force: bool = False,
    progress: Progress = _silent,
) -> Delivered:
    """Found the company and deliver its history of `months` whole months from `start` (the first of a month).

    `density` scales the events of each user. Does nothing when this company is there already, however far it has lived on.
    Raises `UserError` when another one is there and `force` is not set, or a knob is out of range.
    """
    _check(accounts, months, seed, start, density)
    company = Company(accounts, months, seed, start, density, add_months(start, months) - timedelta(days=1))
    with _lock(home):
        there = None if force else state(home)
        if there is not None:
            if replace(there, last_day=company.last_day) != company:
                raise UserError(
                    f"{folder(home)} holds another company: {_words(there)}; asked for {_words(company)}.",
                    hint="Replace it with --force, or use another TENURE_HOME.",
                )
            return Delivered(there, 0, {})
        new, old = home / ".sandbox-new", home / ".sandbox-old"
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        new.mkdir(parents=True)
        with _database() as connection:
            outbox = Outbox(connection, new)
            _history(company, connection, outbox, progress)
        _write_state(new, company, aside=new)
        _sync(new)
        if folder(home).exists():
            folder(home).rename(old)
        new.rename(folder(home))
        shutil.rmtree(old, ignore_errors=True)
    return Delivered(company, len(outbox.files), _vendor_rows(outbox.rows))


def advance(home: Path, *, days: int, progress: Progress = _silent) -> Delivered:
    """Let the company live on for `days` days: one delivery a day, in new files only.

    Raises `UserError` when there is no company, or `days` is below 1.
    """
    if days < 1:
        raise UserError(f"The company cannot live on for {days} days.", hint="Give a number of days from 1 on.")
    with _lock(home):
        company = state(home)
        if company is None:
            raise UserError(
                f"There is no sandbox company in {home}.",
                hint="Run `tenure run` first, with `sandbox:` in tenure.yml: it founds one.",
            )
        files, rows = 0, Counter[str]()
        at_once = max(1, min(31, DAYS_AT_ONCE // company.accounts))
        for done in range(0, days, at_once):
            count = min(at_once, days - done)
            new = home / ".sandbox-new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            with _database() as connection:
                outbox = Outbox(connection, new)
                _days(company, count, connection, outbox)
            company = _move_in(home, company, outbox.files, count)
            files, rows = files + len(outbox.files), rows + outbox.rows
            progress("delivering days", done + count, days)
    return Delivered(company, files, _vendor_rows(rows))


def _check(accounts: int, months: int, seed: int, start: date, density: float) -> None:
    if not 1 <= accounts <= MAX_ACCOUNTS:
        raise UserError(f"The sandbox cannot have {accounts} accounts.", hint=f"Choose 1 to {MAX_ACCOUNTS}.")
    if not 2 <= months <= 120:
        raise UserError(f"The sandbox cannot have {months} months.", hint="Choose 2 to 120.")
    if seed < 0:
        raise UserError(f"The seed {seed} is negative.", hint="Choose 0 or more.")
    if start.day != 1:
        raise UserError(f"The sandbox cannot start on {start}.", hint="Choose the first day of a month.")
    if not 0 < density <= 100:
        raise UserError(f"The density of events cannot be {density}.", hint="Choose more than 0 and at most 100.")


def _words(company: Company) -> str:
    return (
        f"{company.accounts} accounts, {company.months} months from {company.start}, seed {company.seed},"
        f" density {company.density:g}"
    )


def _vendor_rows(rows: Counter[str]) -> dict[str, int]:
    return {path: count for path, count in sorted(rows.items()) if not path.startswith("truth/")}


# --- what is simulated -------------------------------------------------------------------------------------------------


def _cohort_size(company: Company, month: int) -> int:
    """Accounts that join in a month after the history: as many as in its last months.

    A third of those that join in the first month are created before the history's end and belong to it.
    """
    usual = 1.15 * (1 - ALREADY_CUSTOMERS) * company.accounts / (company.months + 1)
    return max(1, round(usual * (2 / 3 if month == company.months else 1)))


def _chunks(company: Company, last_month: int) -> Iterator[_Chunk]:
    """The accounts of the history, then the cohorts that join up to and including the month `last_month`."""
    for number, first in enumerate(range(0, company.accounts, CHUNK)):
        yield _Chunk(number, first, min(CHUNK, company.accounts - first), 0)
    first = company.accounts
    for month in range(company.months, last_month + 1):
        size = _cohort_size(company, month)
        yield _Chunk(LATER_COHORTS + month, first, size, month)
        first += size


def _simulated(company: Company, chunk: _Chunk, horizon: int) -> tuple[World, Identity]:
    world = simulate(
        Months(company.start),
        seed=company.seed,
        chunk=chunk.number,
        index=np.arange(chunk.first_account, chunk.first_account + chunk.size, dtype=np.int64),
        first_month=chunk.first_month,
        last_arrival=company.months,
        horizon=horizon,
        events_scale=company.density,
    )
    who = identify(world, begin=epoch(company.start), end=epoch(company.history_end), owners=_owners(company))
    return world, who


def _owners(company: Company) -> int:
    return max(4, company.accounts // 100)


@contextmanager
def _database() -> Iterator[Connection]:
    """A scratch database, which keeps the order of rows: files must come out the same each time."""
    with scratch() as connection:
        delivery.prepare(connection)
        yield connection


def _truths(world: World, who: Identity) -> dict[str, pa.Table]:
    return {
        "hazards": records.hazards(world, who),
        "departures": records.departures(world, who),
        "identities": records.identities(world, who),
    }


def _merged(parts: list[dict[str, pa.Table]]) -> dict[str, pa.Table]:
    return {name: pa.concat_tables([part[name] for part in parts]) for name in parts[0]}


# --- the history and the days after it --------------------------------------------------------------------------------


def _history(company: Company, connection: Connection, outbox: Outbox, progress: Progress) -> None:
    """One delivery of all objects on the last day, and one of events on the last day of each month."""
    months, last_day = Months(company.start), company.last_day
    everything = Window(BEGINNING_OF_TIME, epoch(company.history_end), last_day)
    chunks = list(_chunks(company, company.months - 1))
    steps = len(chunks) * (company.months + 1)
    outbox.vendor(OWNERS, last_day, records.owners(_owners(company)))
    for done, chunk in enumerate(chunks):
        world, who = _simulated(company, chunk, company.months)
        delivery.deliver_objects(connection, outbox, records.all_tables(world, who), [everything])
        delivery.deliver_truth(outbox, _truths(world, who), [everything])
        progress("writing the history", done * (company.months + 1) + 1, steps)
        before: list[events.Events] = []
        for month in range(company.months):
            since, until = int(months.begin(month)), int(months.begin(month + 1))
            window = Window(since, until, day_of(until - 1))
            found = events.of_month(world, who, month)
            for part in (*before, found):
                delivery.deliver_events(outbox, part, who.crm_id, window)
            before = [found]
            if chunk is chunks[-1] and window.day != last_day:
                outbox.close(window.day, keep_empty=False)
            progress("writing the history", done * (company.months + 1) + month + 2, steps)
    outbox.close(last_day, keep_empty=True)


def _groups(company: Company, last_month: int) -> Iterator[list[_Chunk]]:
    """Chunks whose rows are delivered together: later cohorts are small, so all of them share a group."""
    chunks = list(_chunks(company, last_month))
    history = [chunk for chunk in chunks if not chunk.first_month]
    if len(history) == 1:
        yield chunks
        return
    yield from ([chunk] for chunk in history)
    if len(history) < len(chunks):
        yield chunks[len(history) :]


def _days(company: Company, count: int, connection: Connection, outbox: Outbox) -> None:
    """The deliveries of the `count` days after the company's last one."""
    windows = [Window.of_day(company.last_day + timedelta(days=n + 1)) for n in range(count)]
    horizon = month_index(company.start, windows[-1].day) + 1
    first = month_index(company.start, windows[0].day - timedelta(days=events.LONGEST_DELAY_DAYS))
    for group in _groups(company, horizon):
        tables, truths = [], []
        for chunk in group:
            world, who = _simulated(company, chunk, horizon)
            tables.append(records.all_tables(world, who))
            truths.append(_truths(world, who))
            for month in range(max(0, first), horizon):
                found = events.of_month(world, who, month)
                for window in windows:
                    delivery.deliver_events(outbox, found, who.crm_id, window)
        delivery.deliver_objects(connection, outbox, _merged(tables), windows)
        delivery.deliver_truth(outbox, _merged(truths), windows)
    for window in windows:
        outbox.close(window.day, keep_empty=False)


# --- the disk ----------------------------------------------------------------------------------------------------------


@contextmanager
def _lock(home: Path) -> Iterator[None]:
    """One generator at a time in a home; the lock dies with its process."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".sandbox.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another process is writing the sandbox of {home}.", hint="Wait for it to end.") from error
        yield


def _write_state(root: Path, company: Company, *, aside: Path) -> None:
    document = {"format": FORMAT, **asdict(company)}
    written = aside / "company.json.new"
    written.write_text(json.dumps(document, default=str, indent=1) + "\n", encoding="utf-8")
    _sync_file(written)
    written.replace(root / "company.json")


def _move_in(home: Path, company: Company, files: list[Path], count: int) -> Company:
    """Move the files of each day to their place, then name the day as the last one."""
    by_day: dict[str, list[Path]] = {}
    for file in files:
        by_day.setdefault(file.name[:10], []).append(file)
    for _ in range(count):
        company = replace(company, last_day=company.last_day + timedelta(days=1))
        for file in by_day.get(company.last_day.isoformat(), []):
            source, target = home / ".sandbox-new" / file, folder(home) / file
            _sync_file(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        _write_state(folder(home), company, aside=home / ".sandbox-new")
    shutil.rmtree(home / ".sandbox-new")
    return company


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file():
            _sync_file(path)
