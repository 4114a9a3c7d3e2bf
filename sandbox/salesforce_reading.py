"""The reading side of the stand-in for Salesforce: SOQL, its pages, and query jobs of Bulk API 2.0.

Lives here: the part of SOQL that a connector needs, query locators, the CSV of a job's results. Must not live here: writing,
tokens and limits of calls (`salesforce.py`), what stand-ins share (`standin.py`).

What it holds to: `query` without deleted records and `queryAll` with them, pages of at most 2,000 records (or `batchSize`, 200 to
2,000), ten open locators for a user of which the oldest is released, unknown fields and objects refused by name, moments
without quotes, parents by `Owner.Email`, addresses of at most 16,384 letters, jobs that have results only when they are complete,
`Sforce-Locator: null` on the last part.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from sandbox.standin import Body

MOST_QUERY, LEAST_QUERY = 2000, 200
MOST_LOCATORS = 10
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {"=": eq, "!=": ne, ">": gt, ">=": ge, "<": lt, "<=": le}
_SELECT = re.compile(
    r"\s*SELECT\s+(?P<names>COUNT\(\s*\)|[\w.,\s]+?)\s+FROM\s+(?P<object>\w+)(?:\s+WHERE\s+(?P<where>.+?))?"
    r"(?:\s+ORDER\s+BY\s+(?P<order>[\w.,\s]+?))?(?:\s+LIMIT\s+(?P<limit>\d+))?\s*\Z",
    re.S | re.I,
)
_TOKENS = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<moment>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d))"
    r"|(?P<sign>!=|>=|<=|=|>|<)|(?P<mark>[(),])|(?P<word>[\w.]+))"
)


class Malformed(Exception):
    """A query that is refused: the error's code, and what is said."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(said)
        self.code, self.said = code, said


Test = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Query:
    """A query that was understood. `names` is empty for a count."""

    object: str
    names: tuple[str, ...]
    test: Test
    order: tuple[tuple[str, bool], ...]
    limit: int | None


@dataclass
class Locators:
    """Results that were not asked for to their end, by locator; the oldest of ten is released for an eleventh."""

    open: dict[str, list[Body]] = field(default_factory=dict)
    given: int = 0

    def keep(self, records: list[Body]) -> str:
        self.given += 1
        key = f"0r8{self.given:015d}"
        while len(self.open) >= MOST_LOCATORS:
            self.open.pop(next(iter(self.open)))
        self.open[key] = records
        return key


def parsed(soql: str, fields: Callable[[str], Mapping[str, Any] | None]) -> Query:
    """A query taken apart. `fields` gives the fields of an object, None for one that there is not. Raises `Malformed`."""
    found = _SELECT.match(soql)
    if found is None:
        raise Malformed("MALFORMED_QUERY", "unexpected token")
    known = fields(found["object"])
    if known is None:
        raise Malformed("INVALID_TYPE", f"sObject type '{found['object']}' is not supported.")

    def checked(name: str) -> str:
        parent = name.partition(".")[0]
        if name not in known and not ("." in name and known.keys() & {f"{parent}Id", parent.removesuffix("r") + "c"}):
            raise Malformed("INVALID_FIELD", f"No such column '{name}' on entity '{found['object']}'.")
        return name

    is_count = found["names"].upper().startswith("COUNT")
    names = () if is_count else tuple(checked(name.strip()) for name in found["names"].split(","))
    order = []
    for part in (found["order"] or "").split(","):
        words = part.split()
        if words:
            order.append((checked(words[0]), words[-1].upper() == "DESC"))
    test = _Conditions(found["where"], checked).test() if found["where"] else lambda record: True
    limit = int(found["limit"]) if found["limit"] else None
    return Query(found["object"], names, test, tuple(order), limit)


class _Conditions:
    """Conditions joined by AND, OR and parentheses."""

    def __init__(self, text: str, checked: Callable[[str], str]) -> None:
        self._tokens = list(_tokens(text))
        self._checked = checked

    def test(self) -> Test:
        found = self._any()
        if self._tokens:
            raise Malformed("MALFORMED_QUERY", f"unexpected token: {self._tokens[0][1]}")
        return found

    def _any(self) -> Test:
        tests = [self._all()]
        while self._next_is("OR"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda record: any(test(record) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._next_is("AND"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda record: all(test(record) for test in tests)

    def _one(self) -> Test:
        if self._next_is("("):
            found = self._any()
            if not self._next_is(")"):
                raise Malformed("MALFORMED_QUERY", "expecting a right parentheses")
            return found
        name = self._checked(self._take("word"))
        if self._next_is("IN"):
            wanted = {full_id(str(value)) if name == "Id" else str(value) for value in self._listed()}
            return lambda record: record.get(name) is not None and str(record[name]) in wanted
        sign, value = _SIGNS[self._take("sign")], self._value()
        if value is None:
            return lambda record: sign(record.get(name), None)
        return lambda record: record.get(name) is not None and sign(record[name], value)

    def _listed(self) -> Iterator[Any]:
        if not self._next_is("("):
            raise Malformed("MALFORMED_QUERY", "expecting a left parentheses")
        while True:
            yield self._value()
            if not self._next_is(","):
                break
        if not self._next_is(")"):
            raise Malformed("MALFORMED_QUERY", "expecting a right parentheses")

    def _value(self) -> Any:
        if not self._tokens:
            raise Malformed("MALFORMED_QUERY", "unexpected end of the query")
        kind, text = self._tokens.pop(0)
        if kind == "text":
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind == "moment":
            return stamp(text)
        words = {"true": True, "false": False, "null": None}
        if text.lower() not in words:
            raise Malformed("MALFORMED_QUERY", f"unexpected token: {text}")
        return words[text.lower()]

    def _take(self, kind: str) -> str:
        if not self._tokens or self._tokens[0][0] != kind:
            raise Malformed("MALFORMED_QUERY", "unexpected token")
        return self._tokens.pop(0)[1]

    def _next_is(self, text: str) -> bool:
        if self._tokens and self._tokens[0][0] in ("mark", "word") and self._tokens[0][1].upper() == text:
            self._tokens.pop(0)
            return True
        return False


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text.rstrip()):
        found = _TOKENS.match(text, place)
        if found is None or found.lastgroup is None:
            raise Malformed("MALFORMED_QUERY", f"unexpected token at {place}")
        yield found.lastgroup, found[found.lastgroup]
        place = found.end()


def results(query: Query, records: Sequence[Mapping[str, Any]]) -> list[Body]:
    """The records that a query finds, with the fields that it names; parents as `{"Owner": {"Email": ...}}`."""
    found = [record for record in records if query.test(record)]
    for name, is_last_first in reversed(query.order):
        found.sort(key=lambda record: (record.get(name) is not None, record.get(name)), reverse=is_last_first)
    found = found[: query.limit]
    return [_told(query, record) for record in found]


def stamp(text: str) -> str:
    """A moment as Salesforce writes it in JSON: `2024-01-31T10:00:00.000+0000`. Texts of one form can be compared."""
    bare = re.sub(r"(Z|[+-]\d\d:?\d\d)\Z", "", text)
    seconds, _, fraction = bare.partition(".")
    return f"{seconds}.{(fraction + '000')[:3]}+0000"


def full_id(key: str) -> str:
    """An id of 18 letters for one of 15: the last three tell which of the others are capitals."""
    if len(key) != 15:
        return key
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
    parts = [key[start : start + 5] for start in (0, 5, 10)]
    return key + "".join(
        letters[sum(1 << place for place, letter in enumerate(part) if letter.isupper())] for part in parts
    )


def page_size(header: str) -> int:
    """The size of a page that `Sforce-Query-Options: batchSize=500` asks for."""
    found = re.search(r"batchSize\s*=\s*(\d+)", header)
    return min(MOST_QUERY, max(LEAST_QUERY, int(found[1]))) if found else MOST_QUERY


def table(names: Sequence[str], records: Sequence[Body]) -> str:
    """Results as the CSV of a job: a parent's field as `Owner.Email`, nothing for NULL, moments that end in Z."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(names)
    for record in records:
        writer.writerow([_cell(record, name) for name in names])
    return out.getvalue()


def _cell(record: Body, name: str) -> str:
    parent, _, own = name.rpartition(".")
    value = (record.get(parent) or {}).get(own) if parent else record.get(own)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text.removesuffix("+0000") + "Z" if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+0000", text) else text


def _told(query: Query, record: Mapping[str, Any]) -> Body:
    told: Body = {"attributes": {"type": query.object, "url": f"/services/data/sobjects/{query.object}/{record['Id']}"}}
    told |= record.get("_beside", {})
    for name in query.names:
        parent, _, own = name.rpartition(".")
        if not parent:
            told[own] = record.get(own)
        elif record.get(name) is None:
            told.setdefault(parent, None)
        else:
            told[parent] = {**(told.get(parent) or {"attributes": {"type": parent}}), own: record[name]}
    return told
