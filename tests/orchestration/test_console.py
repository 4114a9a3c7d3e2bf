"""Whatever data holds, a terminal is shown text: no escape sequence, no reversed line, no markup, no emoji code."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape
from rich.progress import Progress

from core.errors import UserError
from core.printable import UNSAFE, json_safe, printable
from orchestration import console
from orchestration.runs import RunOutcome

HOSTILE = "\x1b[2J\x1b]52;c;ZXZpbA==\x07Acme\u202eDTL\x9b31m [red]x[/red] [link=file:///x]y[/link] :boom: \\[/]"
STYLES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the two consoles of the command write, on a terminal of 10,000 columns."""
    text = io.StringIO()
    for name in ("OUT", "ERR"):
        made = console.SafeConsole(file=text, force_terminal=True, width=10_000)
        monkeypatch.setattr(console, name, made)
    return text


def only_text(text: str) -> str:
    """What is left of a terminal's input without Rich's own styles."""
    return STYLES.sub("", text)


def test_errors_tables_records_and_facts_show_hostile_text_as_text(shown: io.StringIO) -> None:
    console.print_error(UserError(HOSTILE, hint=HOSTILE))
    console.show_table(HOSTILE, [{HOSTILE: HOSTILE}])
    console.show_rows([{"name": HOSTILE}])
    console.show_facts({"name": HOSTILE})
    console.OUT.print(HOSTILE, markup=False)
    left = only_text(shown.getvalue())
    assert UNSAFE.search(left.replace("\n", "")) is None
    assert left.count("[red]x[/red] [link=file:///x]y[/link] :boom: \\[/]") == 8


def test_progress_shows_names_as_they_are(shown: io.StringIO) -> None:
    with Progress(console._Description(), console=console.ERR) as bar:
        bar.add_task(HOSTILE, total=1)
    left = shown.getvalue()
    assert ":boom:" in left
    assert "[red]x[/red]" in left
    assert "]52;c" in left
    assert "\x1b]52" not in left
    assert "\u202e" not in left


@given(st.text(st.characters(codec=None, exclude_characters="\t")))  # a tab is shown as the blanks up to its stop
def test_any_text_is_shown_as_printable_text(text: str) -> None:
    out = io.StringIO()
    console.SafeConsole(file=out, width=10_000).print(escape(text), soft_wrap=True, end="")
    assert out.getvalue() == printable(text)
    out.getvalue().encode()


@given(
    st.recursive(st.text(st.characters(codec=None)), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_keeps_every_character_and_shows_none_that_is_unsafe(document: object) -> None:
    text = json_safe(json.dumps(document, ensure_ascii=False, indent=2))
    assert UNSAFE.search(text) is None
    assert json.loads(text) == document


def test_ordinary_names_are_left_alone() -> None:
    for name in ("Müller & Söhne KG", "株式会社", "مؤسسة", "नमस्ते", "👩\u200d💻 Ltd", "a\tb\nc", "O'Brien [EU]"):
        assert printable(name) == name


def test_warnings_of_one_kind_are_one_line_with_their_number(shown: io.StringIO) -> None:
    outcome = RunOutcome("run", "customer_360", datetime(2024, 7, 1), status="done")
    outcome.warn("freshness", "a: freshness: old", "b: freshness: older", "c: freshness: oldest")
    outcome.warn("volume", "a: volume: few rows")
    console.show_outcome(outcome, "Test")
    lines = only_text(shown.getvalue()).strip().splitlines()[1:]
    assert [line.strip() for line in lines] == [
        "! freshness: 3 warnings, such as a: freshness: old (all: tenure status)",
        "! a: volume: few rows",
    ]
    assert len(outcome.warnings) == 4


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {"subscriptions": 2, "mrr": 1234.5, "unread": 0, "is_at_least": False},
            "$1,234.50 of MRR stands in quarantine: 2 subscriptions",
        ),
        (
            {"subscriptions": 3, "mrr": 10.0, "unread": 1, "is_at_least": True},
            "at least $10.00 of MRR stands in quarantine: 3 subscriptions, the MRR of 1 of which is not known",
        ),
    ],
)
def test_the_mrr_in_quarantine_is_said_in_a_sentence(found: dict[str, object], said: str) -> None:
    assert console._mrr_in_quarantine(found, "USD") == said


def test_values_left_empty_are_one_line_for_each_reason() -> None:
    values = [
        {
            "source": "crm",
            "stream": s,
            "column_name": c,
            "reason": r,
            "values_unread": n,
            "example": f"{c} 'x' is wrong",
        }
        for s, c, r, n in (
            ("accounts", "employees", "wrong_type", 3),
            ("tickets", "csat", "out_of_range", 2),
            ("tickets", "reopens", "wrong_type", 1),
        )
    ]
    assert console._unread_values(values) == [
        "4 values left empty, wrong type: crm/accounts.employees, crm/tickets.reopens, such as employees 'x' is wrong",
        "2 values left empty, out of range: crm/tickets.csat, such as csat 'x' is wrong",
    ]
