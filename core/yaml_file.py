"""Reading a YAML file that people write, with values from the environment.

Lives here: strict parsing (UTF-8, each key once, bounded size) and `${NAME}`. Must not live here: what the document means
(`settings.py`).

`${NAME}` and `${NAME:-default}` are replaced after parsing, inside values. So what the environment holds is text, whatever it
contains: a `#`, a quote or a line break in a password changes nothing else, and no parser error can quote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core.errors import UserError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_UNQUOTED = re.compile(r"[\[{,:]\s*\$\{")
_MOST_VALUES = 100_000
_TOO_DEEP = "is nested too deeply"
_SHORTEST_SECRET = 4
"""Shorter values of the environment are left in messages: replacing every `1` would garble them."""


@dataclass(frozen=True)
class Document:
    """A parsed file. `used` are the variables that it took from the environment, without the public ones."""

    content: Any
    used: Mapping[str, str]

    def without_values(self, text: str) -> str:
        """`text` with the environment's values replaced by the names of their variables."""
        for name, value in sorted(self.used.items(), key=lambda item: -len(item[1])):
            if len(value) >= _SHORTEST_SECRET:
                text = text.replace(value, f"${{{name}}}")
        return text


class _Loader(yaml.SafeLoader):
    """YAML's safe types; a key that stands twice in one mapping is a mistake rather than the last one's."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    lines: dict[Any, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        name = (key.tag, key.value)
        line = key.start_mark.line + 1
        if name in lines:
            said = f"the key {key.value!r} is there twice (first in line {lines[name]})"
            raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
        lines[name] = line
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(path: Path, variables: Mapping[str, str], *, public: Collection[str] = ()) -> Document:
    """Parse the file at `path`. Variables named in `public` are no secrets: messages show their values.

    Raises `UserError`, one sentence with the file and the line, for text that is not UTF-8, is no YAML, repeats a key, is nested
    too deeply or expands to too much, and for variables that are not set.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text.", hint="Save the file as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        content = yaml.load(text, Loader=_Loader)
        size = _size(content, {})
    except RecursionError:
        raise UserError(f"{path} {_TOO_DEEP}.") from None
    except yaml.YAMLError as error:
        raise _said(path, text, error) from None
    if size > _MOST_VALUES:
        raise UserError(f"{path} expands to more than {_MOST_VALUES:,} values.", hint="Repeat fewer anchors.")
    used: dict[str, str] = {}
    missing: set[str] = set()

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = variables.get(name)
        if found is None:
            if default is None:
                missing.add(name)
            return default or ""
        if name not in public:
            used[name] = found
        return found

    content = _replaced(content, lambda given: _VARIABLE.sub(value, given))
    if missing:
        names = sorted(missing)
        needed = f"variable {names[0]}, which is" if len(names) == 1 else f"variables {', '.join(names)}, which are"
        exported = " ".join(f"{name}=…" for name in names)
        raise UserError(f"{path} needs the environment {needed} not set.", hint=f"export {exported}")
    return Document(content, used)


def _size(value: Any, known: dict[int, int]) -> int:
    """How many values `value` stands for: what an anchor repeats counts each time, but is walked once."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_VALUES + 1  # until it is counted: what contains itself has no end
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(item, known) for item in items)
    return known[id(value)]


def _replaced(value: Any, expand: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        expanded = expand(value)
        return None if value and not expanded else expanded  # what is set to nothing is not set
    if isinstance(value, dict):
        return {key: _replaced(item, expand) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, expand) for item in value]
    return value


def _said(path: Path, text: str, error: yaml.YAMLError) -> UserError:
    """What the parser did not like, in one sentence."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.")
    problem = " ".join(str(getattr(error, "problem", "") or getattr(error, "context", "")).split())
    line = mark.line + 1
    lines = text.splitlines()
    unquoted = line <= len(lines) and _UNQUOTED.search(lines[line - 1])
    hint = 'Inside { } and [ ], write "${NAME}" in quotes.' if unquoted else None
    return UserError(f"{path}, line {line}: {problem}.", hint=hint)
