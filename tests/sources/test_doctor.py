"""What `tenure doctor` finds, before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

ACCOUNTS: dict[str, Any] = {
    "files": "accounts*",
    "columns": {"account_id": "id", "created_at": "created", "name": "name"},
}
EVENTS: dict[str, Any] = {
    "files": "events*",
    "columns": {"account_id": "account", "event_name": "event", "occurred_at": "at", "product": "product"},
}
HEAD = "account,event,at,product\n"


@pytest.fixture
def app(company):
    company.write("accounts.csv", "id,created,name\n1,2024-01-01,One\n2,2024-01-01,\n")
    return company.streams(accounts=ACCOUNTS, usage_events=EVENTS)


def by_name(examination):
    return {finding.stream: finding for finding in examination.streams}


def test_it_says_what_is_filled_what_would_be_quarantined_and_which_accounts_are_known(app):
    app.write(
        "events.csv",
        HEAD + "1,login,2024-02-01,\n1,login,2024-02-31,core\n9,login,2024-02-01,core\n2,login,2024-02-01,core\n",
    )
    examination = app.examine()
    found = by_name(examination)
    accounts, events = found["accounts"], found["usage_events"]
    assert examination.is_healthy
    assert examination.accounts_by_source == {"app": 2}
    assert (accounts.status, accounts.files, accounts.rows_read, accounts.rows_quarantined) == ("ok", 1, 2, 0)
    assert {c.name: c.filled for c in accounts.columns if c.mapping} == {
        "account_id": 1.0,
        "created_at": 1.0,
        "name": 0.5,
    }
    assert events.status == "warning"
    assert (events.rows_read, events.rows_loaded, events.rows_quarantined) == (4, 2, 2)
    assert events.quarantined_by_reason == {"impossible_date": 1, "unknown_account": 1}
    assert [(e.row, e.reason, e.detail) for e in events.examples] == [
        (3, "impossible_date", "occurred_at '2024-02-31' is not a date"),
        (4, "unknown_account", "account_id '9' is not among the accounts of app"),
    ]
    assert {c.name for c in events.columns if c.mapping is None} == {"event_id", "user_id", "quantity", "event_count"}


def test_nothing_is_written(app):
    app.write("events.csv", HEAD + "1,login,2024-02-01,\n")
    app.examine()
    assert not app.home.exists()


def test_a_broken_stream_is_told_and_the_others_are_examined(app):
    app.write("events.csv", "account,event,time\n1,login,2024-02-01\n")
    app.document["sources"]["app"]["streams"]["tickets"] = {"files": "tickets*", "columns": {"ticket_id": "id"}}
    examination = app.examine()
    found = by_name(examination)
    assert not examination.is_healthy
    assert found["accounts"].status == "ok"
    assert found["usage_events"].status == found["tickets"].status == "broken"
    assert "occurred_at ← at" in found["usage_events"].message
    assert "product ← product" in found["usage_events"].message
    assert "The source has account, event, time." in found["usage_events"].message
    assert "no file matches tickets*" in found["tickets"].message


def test_required_columns_that_are_not_mapped_or_never_filled_are_named(app):
    del app.document["sources"]["app"]["streams"]["usage_events"]["columns"]["event_name"]
    app.write("events.csv", HEAD + "1,login,,\n")
    found = by_name(app.examine())["usage_events"]
    assert found.required_missing == ("event_name", "occurred_at")
    assert found.status == "broken"


def test_an_account_that_users_tell_is_not_missing_where_their_memberships_could_not_be_read(app):
    events = app.document["sources"]["app"]["streams"]["usage_events"]["columns"]
    events["user_id"] = events.pop("account_id")
    members = {"files": "members*", "columns": {"user_id": "user", "account_id": "account", "since_at": "since"}}
    app.document["sources"]["app"]["streams"]["memberships"] = members
    app.write("members.csv", "user,account\nu,1\n")
    app.write("events.csv", HEAD + "u,login,2024-02-01,core\n")
    found = by_name(app.examine())
    assert found["memberships"].status == "broken"
    assert (found["usage_events"].judges_accounts, found["usage_events"].required_missing) == (False, ())
    assert found["usage_events"].status == "ok"


def test_large_inputs_are_sampled_from_all_over_and_it_says_so(app):
    for day in range(40):
        app.write(f"events-{day:02d}.csv", HEAD + f"1,day {day},2024-02-01,\n" * 50 + "9,login,2024-02-01,\n")
    found = by_name(app.examine(sample_rows=200))["usage_events"]
    assert found.is_sample
    assert found.files == 40
    assert found.rows_read == 200
    last = by_name(app.examine(sample_rows=2_000))["usage_events"]
    assert (last.is_sample, last.rows_read, last.quarantined_by_reason) == (True, 20 * 51, {"unknown_account": 20})
    assert {example.row for example in last.examples} == {52}


def test_unknown_accounts_are_not_judged_when_the_accounts_could_not_be_read(app):
    app.write("accounts.csv", "id,name\n1,One\n")
    app.write("events.csv", HEAD + "1,login,2024-02-01,\n")
    found = by_name(app.examine())
    assert found["accounts"].status == "broken"
    assert (found["usage_events"].judges_accounts, found["usage_events"].rows_loaded) == (False, 1)
    assert found["usage_events"].quarantined_by_reason == {}


def test_a_stream_of_which_nothing_would_be_loaded_is_broken_and_a_run_is_not_what_comes_next(app):
    app.write("accounts.csv", "id,created,name\n1,soon,One\n2,1970-01-20,Two\n")
    examination = app.examine()
    assert by_name(examination)["accounts"].status == "broken"
    assert not examination.is_healthy
    assert examination.next_step.startswith("A run would fail on app/accounts")
    assert examination.next_step.endswith(": tenure doctor")


def test_more_in_quarantine_than_a_run_lets_pass_is_broken_and_less_is_a_warning(app):
    app.write("events.csv", HEAD + "1,login,2024-02-01,\n" * 3 + "1,login,soon,\n")
    examination = app.examine()
    assert (by_name(examination)["usage_events"].status, examination.is_healthy) == ("warning", True)
    assert examination.next_step.endswith("(without 1 row that would be quarantined): tenure run")
    app.document["quality"] = {"max_quarantined_share": 0.2}
    assert by_name(app.examine())["usage_events"].status == "broken"


def test_values_that_would_be_left_empty_are_counted_with_an_example(app):
    app.document["sources"]["app"]["streams"]["accounts"]["columns"]["employees"] = "size"
    app.write(
        "accounts.csv", "id,created,name,size\n1,2024-01-01,One,10\n2,2024-01-01,Two,ca 50\n3,2024-01-01,Three,many\n"
    )
    app.write("events.csv", HEAD + "1,login,2024-02-01,\n")
    examination = app.examine()
    (unread,) = by_name(examination)["accounts"].unread
    assert (unread.column, unread.reason, unread.values) == ("employees", "wrong_type", 2)
    assert "'ca 50'" in unread.example
    assert examination.is_healthy
    assert "2 values left empty" in examination.next_step


def test_numbers_that_may_be_read_in_two_ways_are_asked_about(app):
    app.document["sources"]["app"]["streams"]["accounts"]["columns"]["employees"] = "size"
    app.write("accounts.csv", "id,created,name,size\n1,2024-01-01,One,4.500\n2,2024-01-01,Two,10\n")
    app.write("events.csv", HEAD + "1,login,2024-02-01,\n")
    examination = app.examine()
    (question,) = by_name(examination)["accounts"].questions
    assert "'4.500'" in question
    assert "set `decimal:" in question
    assert not examination.is_healthy
    assert examination.next_step.startswith("Answer what is asked of app/accounts")
    app.document["sources"]["app"]["streams"]["accounts"]["decimal"] = ","
    assert app.examine().is_healthy


def test_empty_texts_fill_nothing_also_in_rows_that_would_be_quarantined(app):
    app.write("events.csv", HEAD + "1,,2024-02-01,\n1,  ,2024-02-01,\n1,login,2024-02-01,\n1,login,2024-02-01,\n")
    found = by_name(app.examine())["usage_events"]
    assert {c.name: c.filled for c in found.columns if c.mapping}["event_name"] == 0.5
