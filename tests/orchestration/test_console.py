"""Whatever data holds, a terminal is shown text: no escape sequence, no reversed line, no markup, no emoji code."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape
from rich.progress import Progress

from core.errors import UserError
from core.printable import UNSAFE, json_safe, printable
from orchestration import console

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
