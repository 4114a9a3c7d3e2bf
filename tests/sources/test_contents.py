"""Files that come and go under several names: each content counts once."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sources.base import FileVersion
from sources.contents import Contents
from sources.file_checks import content_hash

ACCOUNTS: dict[str, Any] = {
    "files": "accounts.csv",
    "columns": {"account_id": "id", "name": "name", "created_at": "created"},
}
EVENTS: dict[str, Any] = {
    "files": "events*",
    "columns": {"account_id": "account", "event_name": "event", "occurred_at": "at"},
}
DAY = "account,event,at\n1,login,2024-02-01\n1,export,2024-02-01\n"
NEXT = "account,event,at\n1,login,2024-02-02\n"
COUNTED = "select event_name, count(*) from raw_files.usage_events group by all order by all"


def of_one_account(company, **streams):
    company.streams(accounts=ACCOUNTS, **streams)
    company.write("accounts.csv", "id,name,created\n1,One,2024-01-01\n")
    return company


# --- the rule, for all orders of coming and going -------------------------------------------------------------------------

PATHS = st.sampled_from(["a", "b", "c", "d"])
STEP = st.tuples(
    st.sampled_from(["write", "copy", "move", "remove", "swap"]), PATHS, PATHS, st.integers(min_value=1, max_value=3)
)


class Folder:
    """Files by name, and the contents whose rows are loaded, by the file whose they are: rows have no key."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.known: dict[str, FileVersion] = {}
        self.rows: dict[str, str] = {}

    def change(self, what: str, one: str, other: str, content: int) -> None:
        if what == "write":
            self.files[one] = str(content)
        elif one in self.files and what == "copy":
            self.files[other] = self.files[one]
        elif one in self.files and what == "move":
            self.files[other] = self.files.pop(one)
        elif what == "remove":
            self.files.pop(one, None)
        elif what == "swap" and {one, other} <= self.files.keys():
            self.files[one], self.files[other] = self.files[other], self.files[one]

    def load(self) -> None:
        contents = Contents(self.known, self.files, may_return=False)
        changed = [
            FileVersion(path, 1, 1, content=content)
            for path, content in sorted(self.files.items())
            for before in [contents.before(path)]
            if before is None or before.content != content
        ]
        to_read = contents.settle(changed)
        contents.read(to_read)
        for old, new in contents.moves:
            rows = self.rows.pop(old, None)
            self.known.pop(old, None)
            if new is not None and rows is not None:
                assert new not in self.rows
                self.rows[new] = rows
        for version in to_read:
            assert version.path not in self.rows
            self.rows[version.path] = version.content
        self.known |= contents.files


@given(st.lists(st.lists(STEP, min_size=1, max_size=4), max_size=8))
@settings(max_examples=400, deadline=None)
def test_what_files_hold_counts_once_in_whatever_order_they_come_and_go(
    days: list[list[tuple[str, str, str, int]]],
) -> None:
    folder = Folder()
    for day in days:
        for step in day:
            folder.change(*step)
        folder.load()
        assert sorted(folder.rows.values()) == sorted(set(folder.rows.values()))
        assert set(folder.files.values()) <= set(folder.rows.values())
        before = dict(folder.rows)
        folder.load()
        assert folder.rows == before


# --- in a folder ----------------------------------------------------------------------------------------------------------


def test_a_copy_of_a_loaded_file_is_named_and_counts_nothing(company):
    of_one_account(company, usage_events=EVENTS)
    original = company.write("events.csv", DAY)
    company.load()
    shutil.copy(original, company.data / "events (1).csv")
    report = company.load()["usage_events"]
    assert (report.status, report.rows_read) == ("unchanged", 0)
    assert "1 file holds the same as one that is loaded" in report.message
    assert f"{company.data / 'events (1).csv'} as {original}" in report.message
    assert company.load()["usage_events"].message is None
    assert company.query(COUNTED) == [("export", 1), ("login", 1)]


def test_copies_that_are_delivered_at_once_count_once_compressed_or_not(company):
    of_one_account(company, usage_events=EVENTS)
    for name in ("events.csv", "events-1.csv.gz", "events-2.csv.zst", "events-3.csv"):
        company.write(name, DAY)
    report = company.load()["usage_events"]
    assert (report.files, report.rows_inserted) == (1, 2)
    assert "3 files hold the same" in report.message
    assert company.query(COUNTED) == [("export", 1), ("login", 1)]
    assert company.load(full=True)["usage_events"].rows_inserted == 2
    assert company.query(COUNTED) == [("export", 1), ("login", 1)]


def test_events_stay_while_any_file_that_holds_them_is_there(company):
    of_one_account(company, usage_events=EVENTS)
    current = company.write("events-current.csv", DAY)
    company.load()
    shutil.copy(current, company.data / "events-archive.csv")
    company.load()
    # What is current holds another day from now on; the day before is in the archive.
    company.write("events-current.csv", NEXT)
    company.touch(current, 5)
    company.load()
    assert company.query(COUNTED) == [("export", 1), ("login", 2)]
    (company.data / "events-archive.csv").unlink()
    company.load()
    assert company.query(COUNTED) == [("export", 1), ("login", 2)]


def test_an_original_that_goes_leaves_its_events_to_its_copy_which_may_grow(company):
    of_one_account(company, usage_events=EVENTS)
    original = company.write("events.csv", DAY)
    company.load()
    copy = company.write("events-1.csv", DAY)
    company.load()
    original.unlink()
    company.load()
    assert company.query("select distinct _file from raw_files.usage_events") == [(str(copy),)]
    company.write("events-1.csv", DAY + "1,login,2024-02-03\n")
    company.load()
    assert company.query(COUNTED) == [("export", 1), ("login", 2)]


def test_a_copy_that_returns_after_its_original_holds_something_else_is_read(company):
    of_one_account(company, usage_events=EVENTS)
    original = company.write("events.csv", DAY)
    copy = company.data / "events-1.csv"
    shutil.copy2(original, copy)
    company.load()
    kept = company.data / "elsewhere.csv"
    copy.rename(kept)
    company.write("events.csv", NEXT)
    company.touch(original, 5)
    company.load()
    kept.rename(copy)
    company.load()
    assert company.query(COUNTED) == [("export", 1), ("login", 2)]


def test_the_gzip_of_a_loaded_file_is_that_file(company):
    of_one_account(company, usage_events=EVENTS)
    original = company.write("events.csv", DAY)
    company.load()
    company.write("events.csv.gz", DAY)
    original.unlink()
    report = company.load()["usage_events"]
    assert (report.status, report.rows_read, report.message) == ("unchanged", 0, None)
    assert company.query(COUNTED) == [("export", 1), ("login", 1)]


def test_a_state_that_returns_under_the_name_of_another_day_is_read(company):
    seats = {
        "files": "plans*",
        "columns": {"subscription_id": "id", "account_id": "a", "mrr": "m", "started_at": "s"},
    }
    of_one_account(company, usage_events=EVENTS, subscriptions=seats)
    company.write("events.csv", DAY)
    for day, mrr in ((1, 10), (2, 20), (3, 10)):
        path = company.write(f"plans-{day}.csv", f"id,a,m,s\np,1,{mrr},2024-01-01\n")
        company.touch(path, day)
        company.load()
        assert company.query("select mrr from raw_files.subscriptions") == [(mrr,)]
    path.rename(company.data / "plans-archived.csv")
    assert company.load()["subscriptions"].status == "unchanged"


def test_files_that_hold_a_header_alone_are_no_copies(company):
    of_one_account(company, usage_events=EVENTS)
    company.write("events-0.csv", DAY)
    company.write("events-1.csv", "account,event,at\n")
    company.write("events-2.csv", "account,event,at\n")
    assert company.load()["usage_events"].message is None
    for name in ("events-3.csv", "events-4.csv"):
        company.write(name, "account,event,at\n1,login,2024-02-09")
        company.touch(company.data / name, -60)
    assert "1 file holds the same" in company.load()["usage_events"].message


def test_the_hash_is_of_what_is_inside(tmp_path: Path):
    plain, packed = tmp_path / "x.csv", tmp_path / "y.csv.gz"
    plain.write_text(DAY)
    for level in (1, 9):
        packed.write_bytes(gzip.compress(DAY.encode(), level))
        assert content_hash(packed, "csv") == content_hash(plain, "csv")
    packed.write_bytes(packed.read_bytes()[:-9])
    assert content_hash(packed, "csv") is None
    os.utime(plain, (1, 1))
    assert content_hash(plain, "csv") is not None
