"""Quarantine keeps one record of a row and what is wrong with it, however often it is delivered."""

from __future__ import annotations

from typing import Any

import pytest

ACCOUNTS: dict[str, Any] = {
    "files": "accounts*",
    "columns": {"account_id": "id", "name": "name", "created_at": "created"},
}
EVENTS: dict[str, Any] = {
    "files": "events*",
    "columns": {"account_id": "account", "event_name": "event", "occurred_at": "at"},
}
HEAD = "id,name,created\n"
SEEN = "select account_id, _reason, _times_seen, _times_in_run, _first_seen_at < _last_seen_at from quarantine.accounts order by all"


@pytest.fixture
def app(company):
    company.write("accounts-1.csv", HEAD + "1,One,2024-01-01\n2,Two,2024-02-30\n,Nameless,2024-01-01\n")
    return company.streams(accounts=ACCOUNTS, usage_events=EVENTS)


def test_a_row_that_is_delivered_again_is_one_record_which_counts(app):
    assert app.load()["accounts"].rows_quarantined == 2
    for day in (2, 3):
        app.write(f"accounts-{day}.csv", HEAD + "1,One,2024-01-01\n2,Two,2024-02-30\n,Nameless,2024-01-01\n")
        assert app.load()["accounts"].rows_quarantined == 2
    assert app.query(SEEN) == [("2", "impossible_date", 3, 1, True), (None, "null_key", 3, 1, True)]


def test_a_file_that_changes_and_is_still_wrong_is_seen_again_and_what_it_corrects_goes(app):
    app.load()
    app.write("accounts-1.csv", HEAD + "1,One,2024-01-01\n2,Zwei,2024-02-30\n3,Three,2024-01-01\n")
    report = app.load()["accounts"]
    assert (report.rows_read, report.rows_inserted, report.rows_quarantined) == (3, 1, 1)
    assert app.query(SEEN) == [("2", "impossible_date", 2, 1, True)]
    app.write("accounts-1.csv", HEAD + "1,One,2024-01-01\n2,Two,2024-02-20\n3,Three,2024-01-01\n")
    assert app.load()["accounts"].rows_quarantined == 0
    assert app.query(SEEN) == []


def test_a_row_that_comes_right_in_another_file_is_in_quarantine_no_more(app):
    app.load()
    app.write("accounts-2.csv", HEAD + "2,Two,2024-02-20\n")
    assert app.load()["accounts"].rows_inserted == 1
    assert app.query(SEEN) == [(None, "null_key", 1, 1, False)]


def test_the_same_row_twice_in_a_file_is_one_record_and_two_rows_of_the_run(app):
    app.write("accounts-1.csv", HEAD + "2,Two,2024-02-30\n2,Two,2024-02-30\n,x,\n,x,\n,y,\n")
    report = app.load()["accounts"]
    assert (report.rows_read, report.rows_quarantined) == (5, 5)
    assert [row[:4] for row in app.query(SEEN)] == [
        ("2", "impossible_date", 2, 2),
        (None, "null_key", 1, 1),
        (None, "null_key", 2, 2),
    ]


def test_one_row_that_is_wrong_in_another_way_later_says_so(app):
    app.load()
    app.write("accounts-2.csv", HEAD + "2,Two,\n")
    app.load()
    assert [row[:2] for row in app.query(SEEN)] == [("2", "missing_value"), (None, "null_key")]


def test_events_without_ids_that_wait_are_as_many_as_happened(app):
    app.write("events.csv", "account,event,at\n9,login,2024-02-01\n9,login,2024-02-01\n")
    assert app.load()["usage_events"].rows_quarantined == 2
    app.write("accounts-2.csv", HEAD + "9,Nine,2024-01-01\n")
    assert app.load()["usage_events"].rows_released == 2
    assert app.query("select count(*) from raw_files.usage_events") == [(2,)]


def test_lines_that_cannot_be_read_are_known_by_their_place(app):
    app.write("accounts-2.csv", HEAD + "3,Three,2024-01-01,x\n4,Four,2024-01-01,x\n")
    app.load()
    app.write("accounts-3.csv", HEAD + "3,Three,2024-01-01,x\n")
    assert app.load()["accounts"].rows_quarantined == 1
    assert app.query("select count(*), sum(_times_seen) from quarantine.accounts where _reason = 'malformed_row'") == [
        (3, 3)
    ]
