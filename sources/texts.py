"""How text is read: words that stand for a missing value, and ids, which are written one way whatever type they are kept in.

Lives here: the SQL of both, for every connector. Must not live here: which columns are ids (`core/contract.py`), the words themselves
(`core/placeholders.py`), numbers and dates (`mapping.py`).

An id names a row of another table, so its text must not depend on how it is stored. A data frame with one empty cell keeps a whole
column of ids as floating-point numbers, and writes 5012 as `5012.0`, to CSV and JSON as well. So a whole number is its digits. Beyond
2^53 such a number may be another company's, rounded: it has no id. Nor has what is written as `1.8E+18`, which Excel does from the
twelfth digit on, with six digits left.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.contract import Column
from core.placeholders import NULL_IDS, NULL_WORDS
from core.source_settings import StreamConfig
from core.warehouse import literal

FLOATS = ("FLOAT", "DOUBLE")
_EXACT = {"DOUBLE": 2**53 - 1, "FLOAT": 2**24 - 1}
"""The largest whole number below which each is exact, and so is the next one."""

_ROUNDED = r"[+-]?\d+([.,]\d+)?[eE]\+\d+"
"""With a plus sign programs write an exponent only when digits are lost: Excel, or a float from 1e16 on."""
_FLOAT = r"-?\d+(\.0+|\.\d+[eE]\d+)"
"""How programs write a float that is a whole number: `5012.0`; Java and Spark from eight digits on `1.2345678E7`. Without a point,
`12e45` may well be an id of letters and digits."""
_NUMBER = "try_cast(v as double)"
_ID_OF_FLOAT = (
    f"case when regexp_full_match(v, '{_ROUNDED}') then null when not regexp_full_match(v, '{_FLOAT}') then v"
    f" when {_NUMBER} <> trunc({_NUMBER}) then v when not coalesce(abs({_NUMBER}) <= {_EXACT['DOUBLE']}, false) then null"
    f" when regexp_matches(v, '[eE]') then cast(cast({_NUMBER} as bigint) as varchar)"
    r" else regexp_replace(v, '\.0+$', '') end"
)
ID_TEXT = f"create or replace temp macro id_text(x) as list_transform([trim(cast(x as varchar))], lambda v: {_ID_OF_FLOAT})[1]"
"""The SQL helper that writes a part of an id, whatever its type, as a whole id is written."""


def null_words(column: Column, config: StreamConfig) -> tuple[str, ...]:
    """The words that stand for no value in a column, in lower case."""
    if config.null_words is not None:
        return tuple(word.strip().lower() for word in config.null_words)
    words = NULL_IDS if column.type == "id" else NULL_WORDS
    return tuple(word for word in words if word not in column.means)


def without_null_words(text: str, words: Sequence[str]) -> str:
    """SQL of trimmed text, NULL where it is empty or one of `words`: 10 to 30 ns a value, since most texts are longer."""
    return f"case when {_is_none(text, words)} then null else {text} end"


def once(expression: str, sql: str) -> str:
    """SQL of `sql`, in which `v` is the value of an expression that is worth being evaluated only once."""
    return f"list_transform([{expression}], lambda v: {sql})[1]"


def id_of(value: str, given_type: str, words: Sequence[str]) -> str:
    """SQL of a value as an id: trimmed text of whole numbers in digits. NULL where it is missing, or not exact (`is_inexact`)."""
    if given_type in FLOATS:
        digits = f"case when {value} = trunc({value}) then cast(cast({value} as bigint) as varchar)"
        return f"case when abs({value}) <= {_EXACT[given_type]} then {digits} else cast({value} as varchar) end end"
    if given_type.startswith("DECIMAL"):
        return f"regexp_replace(cast({value} as varchar), '\\.0+$', '')"
    if given_type != "VARCHAR":
        return f"cast({value} as varchar)"
    text = trimmed(value)
    # Few ids have a point or a plus sign: the others are looked at no further.
    has_mark = f"contains({value}, '.') or contains({value}, '+')"
    written = f"case when {has_mark} then {once(text, _ID_OF_FLOAT)} else {text} end"
    return f"case when {_is_none(text, words)} then null else {written} end"


def is_inexact(written: str, given: str, given_type: str, words: Sequence[str]) -> str | None:
    """SQL: whether an id is missing from `written` though one is `given`, of `given_type`; None where it cannot be."""
    if given_type in FLOATS:
        is_none = f"cast({given} as varchar) = 'nan'"
    elif given_type == "VARCHAR":
        is_none = _is_none(f"trim({given})", words)
    else:
        return None
    return f"case when {written} is null and {given} is not null then not ({is_none}) else false end"


def shown_id(given: str, given_type: str) -> str:
    """SQL of a given id for messages: the float 1e16 is shown as 10000000000000000."""
    if given_type not in FLOATS:
        return given
    is_whole = f"abs({given}) < 1e38 and {given} = trunc({given})"
    digits = f"cast(cast({given} as hugeint) as varchar)"
    return f"case when {is_whole} then {digits} when not isnan({given}) then cast({given} as varchar) end"


def trimmed(name: str) -> str:
    """SQL of `trim` that looks first whether there may be anything to trim: 30 ns a value instead of 120."""
    may_be = f"{name} like ' %' or {name} like '% ' or strlen({name}) <> length({name})"
    return f"case when {may_be} then trim({name}) else {name} end"


def _is_none(text: str, words: Sequence[str]) -> str:
    listed = sorted({"", *words})
    longest = max(len(word.encode()) for word in listed)
    return f"strlen({text}) <= {longest} and list_contains([{', '.join(map(literal, listed))}], lower({text}))"
