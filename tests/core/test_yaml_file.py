"""A settings file is parsed first and filled from the environment afterwards, and its mistakes are one sentence without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from core import settings, yaml_file
from core.errors import UserError


def read(folder: Path, text: str | bytes, **variables: str) -> yaml_file.Document:
    path = folder / "tenure.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return yaml_file.read(path, variables)


@given(secret=st.text(min_size=1))
def test_whatever_the_environment_holds_is_text(tmp_path_factory: pytest.TempPathFactory, secret: str) -> None:
    folder = tmp_path_factory.mktemp("yaml")
    found = read(folder, "token: ${TOKEN}\nurl: https://x/${TOKEN}/y  # ${NOT_SET}\nlist: ['${TOKEN}']\n", TOKEN=secret)
    assert found.content == {"token": secret, "url": f"https://x/{secret}/y", "list": [secret]}


def test_a_default_stands_in_and_nothing_is_null(tmp_path: Path) -> None:
    found = read(tmp_path, "a: '${A:-x: y # z}'\nb: ${B:-}\nc: ${C}\nd: ''", C="")
    assert found.content == {"a": "x: y # z", "b": None, "c": None, "d": ""}


def test_numbers_from_the_environment_still_fit_numeric_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "company: 'X'\nmodel: {capacity: '${CAPACITY}'}\nsources:\n  crm:\n    connector: files\n    path: data\n    streams:\n"
        "      accounts: {files: a.csv, columns: {account_id: id}}\n"
        "      subscriptions: {files: s.csv, columns: {subscription_id: id, account_id: a}}\n"
    )
    (tmp_path / "tenure.yml").write_text(text)
    monkeypatch.setenv("CAPACITY", "12")
    assert settings.load(tmp_path / "tenure.yml", home=tmp_path / "home").config.model.capacity == 12
    monkeypatch.setenv("CAPACITY", "p4ssword#1")
    with pytest.raises(UserError, match="capacity") as error:
        settings.load(tmp_path / "tenure.yml", home=tmp_path / "home")
    assert "p4ssword" not in str(error.value)


def test_a_secret_that_a_message_would_quote_is_shown_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tenure.yml").write_text("company: X\nsources: {crm: {connector: '${SECRET}'}}")
    monkeypatch.setenv("SECRET", "hunter22")
    with pytest.raises(UserError, match="no connector is called") as error:
        settings.load(tmp_path / "tenure.yml", home=tmp_path / "home")
    assert "hunter22" not in error.value.message
    assert "${SECRET}" in error.value.message


REPEATED = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
MISTAKES = {
    "a key twice": ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is there twice (first in line 1)"),
    "a nested key twice": ("x:\n  streams: {a: 1, a: 2}\n", "line 2: the key 'a' is there twice"),
    "latin-1": (b"company: M\xfcller\n", "line 1: not UTF-8 text"),
    "utf-16": ("company: x\n".encode("utf-16"), "line 1: not UTF-8 text"),
    "open brackets": ("a: " + "[" * 20_000, "nested too deeply"),
    "deep mappings": ("a: " + "{b: " * 3_000 + "1" + "}" * 3_000, "nested too deeply"),
    "anchors of anchors": (REPEATED, "expands to more than 100,000 values"),
    "an anchor in itself": ("a: &a [*a]\n", "recursive"),
    "an open quote": ("a: 'x\nb: 1\n", "line"),
    "an unquoted variable": ("a: [${X}]\n", "line 1"),
    "a list as a key": ("? [a, b]\n: 1\n", "a key must be a word"),
    "a Python object": ("a: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_plain_sentence(tmp_path: Path, name: str) -> None:
    text, words = MISTAKES[name]
    with pytest.raises(UserError) as error:
        read(tmp_path, text, X="secret")
    assert words in error.value.message
    assert "\n" not in error.value.message
    assert str(tmp_path / "tenure.yml") in error.value.message


def test_a_variable_in_a_flow_sequence_gets_the_advice_to_quote_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, "a: {token: ${X}}\n", X="secret")
    assert error.value.hint == 'Inside { } and [ ], write "${NAME}" in quotes.'


def test_missing_variables_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="variables A, B, which are not set") as error:
        read(tmp_path, "x: ${B}\ny: ${A}${B}\n# ${C}\n")
    assert error.value.hint == "export A=… B=…"


def test_anchors_and_merges_still_work(tmp_path: Path) -> None:
    text = "base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}\n"
    assert read(tmp_path, text).content == yaml.safe_load(text)


def test_a_folder_is_filled_in_and_may_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "tenure.yml"
    path.write_text("path: ${TENURE_HOME}/data")
    found = yaml_file.read(path, {"TENURE_HOME": "/srv/tenure"}, public=("TENURE_HOME",))
    assert found.content == {"path": "/srv/tenure/data"}
    assert found.without_values("/srv/tenure/data is missing") == "/srv/tenure/data is missing"
