"""Numbers that are written as text: which mark is the decimal one, and which only groups digits.

Lives here: the SQL that reads such a number by a stream's `decimal` and `thousands`, and the look at a whole column that says
what its marks mean where the stream does not. Must not live here: which columns are numbers (`mapping.py`), what follows from a
number that cannot be read (`faults.py`).

`4.500` is 4.5 in one country and 4500 in another. It is never guessed: where `decimal` is not set, it is read as 4.5 only when
other values of its column cannot be anything but numbers with a decimal point (`12.50`, `0.125`, `1234.567`), and none has a
decimal comma (`1.234,50`, `12,5`). What a column proved is remembered for later deliveries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.contract import Entity
from core.source_settings import StreamConfig
from core.warehouse import Connection, literal

NUMBERS = ("integer", "double", "money")
"""Types of the contract's columns that are numbers."""
_AROUND = r"[^0-9.,]*"
AMBIGUOUS = r"^\s*[+-]?[1-9][0-9]{0,2}[.][0-9]{3}\s*$"
"""A number whose point may be a decimal point or may group thousands."""
_POINT = rf"^{_AROUND}([0-9]*[.][0-9]*|[0-9]{{1,3}}(,[0-9]{{3}})+[.][0-9]+){_AROUND}$"
"""A number with a point, which is a decimal one unless the number is ambiguous."""
COMMA = (
    rf"^{_AROUND}([0-9]{{1,3}}([.][0-9]{{3}})+,[0-9]+|[0-9]{{1,3}}([.][0-9]{{3}}){{2,}}"
    rf"|[0-9]*,([0-9]{{1,2}}|[0-9]{{4,}})|(0|[0-9]{{4,}}),[0-9]{{3}}){_AROUND}$"
)
"""A number that can only have been written with a decimal comma, or with points that group thousands."""
_GROUPS = {".": "[.]", ",": ",", " ": "[ \u00a0\u202f]", "'": "['\u2019]"}
_READ_BY_HELPER = re.compile(r"\b(number|cents)\(\s*(\w+|\"[^\"]+\")\s*\)")


@dataclass(frozen=True)
class Evidence:
    """What the values of one column say of their marks: examples of numbers with a decimal point, with a decimal comma, and of
    those that may be either."""

    point: str | None = None
    comma: str | None = None
    ambiguous: str | None = None

    @property
    def is_unclear(self) -> bool:
        """Whether an ambiguous number cannot be read."""
        return self.ambiguous is not None and (self.point is None or self.comma is not None)

    @property
    def advice(self) -> str:
        """Why an ambiguous number of the column is not read, and what to do."""
        if self.comma is None:
            return (
                "may have a decimal point or one that groups thousands, and no other value of its column says which:"
                ' set `decimal: "."` or `decimal: ","` of the stream'
            )
        other = f" (and others a decimal point, {self.point})" if self.point is not None else ""
        return (
            f"may have a decimal point, but other values of its column have a decimal comma, {self.comma}{other}:"
            ' set `decimal: ","` of the stream'
        )

    def joined(self, other: Evidence) -> Evidence:
        return Evidence(self.point or other.point, self.comma or other.comma, self.ambiguous or other.ambiguous)


def candidates(sqls: Sequence[str], of_numbers: Sequence[str]) -> tuple[str, ...]:
    """What may be a number that is written as text, as SQL over the source: of the expressions of a mapping, those `of_numbers`, and
    in all of them what a helper reads."""
    read = [match.group(2) for sql in sqls for match in _READ_BY_HELPER.finditer(sql)]
    return tuple(dict.fromkeys(name.strip().strip('"') for name in (*of_numbers, *read)))


def with_comma(entity: Entity, config: StreamConfig) -> frozenset[str]:
    """The source's columns that may hold numbers with a decimal comma, where the stream's numbers have one."""
    if not is_set(config) or _marks(config)[0] != ",":
        return frozenset()
    of_numbers = [m.sql for name, m in config.columns.items() if entity.column(name).type in NUMBERS]
    return frozenset(candidates([mapping.sql for mapping in config.columns.values()], of_numbers))


def with_clear_helpers(sql: str, unclear: frozenset[str]) -> str:
    """`sql` whose helpers refuse ambiguous numbers of the columns that are `unclear`."""
    return _READ_BY_HELPER.sub(lambda m: f"clear_{m.group(0)}" if m.group(2).strip('"') in unclear else m.group(0), sql)


def is_set(config: StreamConfig) -> bool:
    """Whether the stream says how its numbers are written."""
    return config.decimal is not None or config.thousands is not None


def look(connection: Connection, relation: str, texts: Mapping[str, str]) -> dict[str, Evidence]:
    """What the values of `texts`, SQL over `relation` by name, say. One reading, of what they need only."""
    if not texts:
        return {}
    asked = []
    for text in texts.values():
        marked = f"strpos({text}, '.') + strpos({text}, ',') > 0"
        for pattern, unless in ((_POINT, AMBIGUOUS), (COMMA, None), (AMBIGUOUS, None)):
            but = f" and not regexp_matches({text}, {literal(unless)})" if unless else ""
            asked.append(
                f"any_value(left(trim({text}), 20)) filter (case when {marked}"
                f" then regexp_matches({text}, {literal(pattern)}){but} else false end)"
            )
    found = connection.execute(f"select {', '.join(asked)} from {relation}").fetchone() or ()
    return {name: Evidence(*found[3 * n : 3 * n + 3]) for n, name in enumerate(texts)}


def plain(text: str, config: StreamConfig) -> str:
    """SQL of a number, written as the stream says, in the notation of SQL; NULL where it is not written so."""
    decimal, groups = _marks(config)
    mark, grouped = re.escape(decimal) if decimal == "." else ",", "".join(_GROUPS[g] for g in groups)
    whole = rf"([0-9]{{1,3}}({grouped}[0-9]{{3}})+|[0-9]+)" if grouped else "[0-9]+"
    pattern = rf"^[+-]?({whole}({mark}[0-9]*)?|{mark}[0-9]+)$"
    without = f"regexp_replace({text}, {literal(grouped)}, '', 'g')" if grouped else text
    written = f"replace({without}, ',', '.')" if decimal == "," else without
    # What has neither mark, such as 1e3, is read as it stands.
    unmarked = f"not regexp_matches({text}, '[^0-9A-Za-z+-]')"
    return f"case when {unmarked} then {text} when regexp_matches({text}, {literal(pattern)}) then {written} end"


def _marks(config: StreamConfig) -> tuple[str, str]:
    """The decimal mark and the one that groups thousands. Either tells the other, where only one is set."""
    decimal = config.decimal or ("," if config.thousands == "." else ".")
    return decimal, config.thousands if config.thousands is not None else {".": ",", ",": "."}[decimal]


def helpers(config: StreamConfig) -> tuple[str, ...]:
    """SQL that makes the helpers `number` and `cents`, by which mappings read numbers that are text, and their strict forms."""
    # decimal(18,6), not (38,6): casting text to a 128-bit decimal takes 200 times as long.
    # What casts as it stands needs no trimming, which takes three times as long as the cast.
    text = "nullif(trim(cast(x as varchar)), '')"
    as_it_stands = "try_cast(cast(x as varchar) as decimal(18,6))"
    read = f"coalesce({as_it_stands}, cast({text} as decimal(18,6)))"
    if is_set(config):
        told = f"coalesce({plain(text, config)}, 'not so written: ' || {text})"
        read = f"case when typeof(x) <> 'VARCHAR' then {as_it_stands} else cast({told} as decimal(18,6)) end"
    refused = f"regexp_matches(cast(x as varchar), {literal(AMBIGUOUS)})"
    clear = f"case when {refused} then cast('ambiguous ' || cast(x as varchar) as decimal(18,6)) else {read} end"
    comma = StreamConfig.model_construct(decimal=",", thousands=".")
    told = f"coalesce({plain(text, comma)}, 'not so written: ' || {text})"
    return (
        f"create or replace temp macro number(x) as {read}",
        f"create or replace temp macro cents(x) as ({read}) / 100",
        f"create or replace temp macro clear_number(x) as {clear}",
        f"create or replace temp macro clear_cents(x) as ({clear}) / 100",
        f"create or replace temp macro comma_number(x) as cast({told} as decimal(18,6))",
    )
