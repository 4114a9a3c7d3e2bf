"""Values of a table's columns as Arrow: each column of the type that the table declares, whatever a batch holds.

Lives here: which values a type can hold, and what is said of one that it cannot. Must not live here: the query (`database.py`), what a
column means (`mapping.py`).

A database may hold what its declared type does not promise (text in a number of SQLite), or what no other program can hold (dates
beyond the year 9999, `infinity`, `NaN`, numbers of 100 digits). Such a value is NULL here, and its row says which and why: it must
neither stop the stream nor make text of the numbers beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import pyarrow as pa

from sources.batches import as_text

_DIGITS = 38
"""A decimal of Arrow and DuckDB has no more."""
_PLACES = 9
_SHOWN = 60


def to_arrow(
    columns: Mapping[str, tuple[type | None, Sequence[Any]]], null_words: Collection[str]
) -> tuple[pa.Table, bool]:
    """A table of `columns`, which are Python types (None: no declared one) with values, and whether it has `_unreadable`: of each row the
    values that their columns cannot hold, by the column's name and in words."""
    arrays: dict[str, pa.Array] = {}
    unreadable: dict[int, list[dict[str, str]]] = {}
    size = 0
    for name, (kind, values) in columns.items():
        size = len(values)
        arrays[name], bad = _array(kind, values, null_words)
        for row in bad:
            shown = as_text(_plain(values[row])) or ""
            said = f"{name} '{shown[:_SHOWN]}' is not a value of its type ({_NAMES[kind]})"
            unreadable.setdefault(row, []).append({"name": name, "detail": said})
    if unreadable:
        listed = pa.list_(pa.struct({"name": pa.string(), "detail": pa.string()}))
        arrays["_unreadable"] = pa.array([unreadable.get(row) for row in range(size)], listed)
    return pa.table(arrays), bool(unreadable)


def _array(kind: type | None, values: Sequence[Any], null_words: Collection[str]) -> tuple[pa.Array, list[int]]:
    read = _READERS.get(kind)
    if read is None:
        return _inferred(values), []
    plain = [_plain(value) for value in values]
    if kind is not str:
        plain = [None if isinstance(v, str) and v.strip().lower() in ("", *null_words) else v for v in plain]
    typed = [None if value is None else read(value) for value in plain]
    bad = [row for row, value in enumerate(typed) if value is None and plain[row] is not None]
    if kind is Decimal:
        array, too_large = _decimals(typed)
        return array, sorted({*bad, *too_large})
    if kind is int and any(value is not None and not -(2**63) <= value < 2**63 for value in typed):
        return pa.array([None if value is None else Decimal(value) for value in typed], pa.decimal128(_DIGITS, 0)), bad
    return pa.array(typed, _TYPES.get(kind)), bad


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value


def _text(value: Any) -> str | None:
    if not isinstance(value, bytes):
        return as_text(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _timestamp(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)


def _date(value: Any) -> date | None:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    found = _timestamp(value)
    return None if found is None else found.date()


def _decimal(value: Any) -> Decimal | None:
    if not isinstance(value, (int, float, Decimal)):
        return None
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return number if number.is_finite() and number.adjusted() < _DIGITS else None


def _integer(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and abs(value) < 10**_DIGITS else None


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float, Decimal)) else None


def _boolean(value: Any) -> bool | None:
    return bool(value) if value in (0, 1) else None


_READERS: dict[type | None, Callable[[Any], Any]] = {
    str: _text,
    bytes: _text,
    datetime: _timestamp,
    date: _date,
    Decimal: _decimal,
    int: _integer,
    float: _float,
    bool: _boolean,
}
_TYPES: dict[type | None, pa.DataType] = {
    str: pa.string(),
    bytes: pa.string(),
    date: pa.date32(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}
_NAMES: dict[type | None, str] = {
    str: "text",
    bytes: "text",
    datetime: "timestamp",
    date: "date",
    Decimal: "number",
    int: "whole number",
    float: "number",
    bool: "boolean",
}


def _decimals(values: list[Decimal | None]) -> tuple[pa.Array, list[int]]:
    """Numbers with all their digits, as far as one type can hold those of all of them, and at least `_PLACES` after the point; and the
    rows of those that leave no room for these."""
    given = [value for value in values if value is not None]
    places = max((-_exponent(value) for value in given), default=0)
    whole = max((value.adjusted() + 1 for value in given), default=1)
    scale = max(0, min(places, max(_PLACES, _DIGITS - max(1, whole))))
    too_large = [row for row, value in enumerate(values) if value is not None and value.adjusted() >= _DIGITS - scale]
    unit = Decimal(1).scaleb(-scale)
    kept: list[Decimal | None] = [
        None if value is None or value.adjusted() >= _DIGITS - scale else _rounded(value, unit) for value in values
    ]
    return pa.array(kept, pa.decimal128(_DIGITS, scale)), too_large


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _rounded(value: Decimal, unit: Decimal) -> Decimal:
    return value.quantize(unit, rounding=ROUND_HALF_EVEN, context=Context(prec=2 * _DIGITS))


def _inferred(values: Sequence[Any]) -> pa.Array:
    """Values of a type that Arrow is asked for; JSON, arrays and what it has no one type for (ranges, addresses) travel as text."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds & {dict, list, tuple, set, bytes, memoryview}:
        try:
            array = pa.array(values)
            if not isinstance(array.type, pa.BaseExtensionType):
                return array
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            pass
    return pa.array([_text(_plain(value)) for value in values], pa.string())
