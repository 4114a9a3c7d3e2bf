"""What a column of a flat file is, found once when training, and how its values become a feature ever after.

Lives here: numbers that are written as text, yes and no, dates, categories, what is left out and why; `ColumnPlan`, which
scoring follows without looking at the new data's types. Must not live here: files (`ml/table_file.py`), the label, leaks.

A value is turned into a number by the plan and by itself alone, never by the other values of its file: a row scores the same
alone and in a batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Kind = Literal["number", "yes_no", "category", "date"]
Floats = NDArray[np.float64]

YES = frozenset({"yes", "y", "true", "t", "on", "1", "1.0"})
NO = frozenset({"no", "n", "false", "f", "off", "0", "0.0"})
NO_NUMBER = frozenset({"none", "unknown", "missing", "tbd", "not available", "not applicable", "."})
"""Missing in a column of numbers or dates; a category of its own in a column of texts."""
PARSED = 0.95
"""Share of the known values that have to be numbers (dates) for the column to be one; the rest counts as missing."""
ALWAYS_FEW = 30
"""So many different texts are always a category."""
MOST_CATEGORIES = 200
ROWS_PER_CATEGORY = 20
"""A category with more than `ALWAYS_FEW` texts needs so many rows for each, on average."""
FIRST_YEAR, LAST_YEAR = 1900, 2100
"""Dates outside are placeholders such as 9999-12-31."""

_US = re.compile(r"[+-]?([0-9]+|\d{1,3}([,' \u00a0\u202f]\d{3})+)?(\.\d*)?([eE][+-]?\d{1,3})?")
_EU = re.compile(r"[+-]?([0-9]+|\d{1,3}([.' \u00a0\u202f]\d{3})+)?(,\d*)?")
_AFFIX = re.compile(r"^(?:[$€£¥₹₽]|(?:usd|eur|gbp|chf|us\$)\b)|(?:[$€£¥₹₽%]|\b(?:usd|eur|gbp|chf|percent|pct))$", re.I)
_ISO = re.compile(
    r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:Z|UTC|[+-]\d{2}:?\d{0,2})?)?"
)
_DMY = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})(?:[T ,]+\d{1,2}:\d{2}(?::\d{2})?\s*(?:[AaPp][Mm])?)?")
_DIGITS = re.compile(r"(\d{4})(\d{2})(\d{2})(?:\.0)?")
_WORDY = re.compile(
    r"(?:\w{3,9},?\s+)?(?:(\d{1,2})[\s-]([A-Za-z]{3,9})\.?,?[\s-](\d{4})|([A-Za-z]{3,9})\.?\s(\d{1,2}),?\s(\d{4}))\b.*"
)
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: place + 1 for place, name in enumerate(_MONTH_NAMES)}
_DATE_NAME = re.compile(r"(^|[^a-z])(date|day|dt|datum|time|since|dob|birthday)([^a-z]|$)|_(at|on)$", re.I)


@dataclass(frozen=True)
class ColumnPlan:
    """How one column becomes a feature."""

    name: str
    kind: Kind
    style: str = ""
    """number: `.` or `,` is the decimal mark; date: iso, day_first, month_first, digits or words."""
    reference: str | None = None
    """date: the day that days are counted back from (ISO); None: each row's own snapshot date."""
    categories: int = 0
    """category: how many texts there were."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ColumnPlan:
        """What `to_json` wrote."""
        return cls(**document)

    @property
    def needs_text(self) -> bool:
        """Whether the column has to be read as text, whatever the file holds."""
        return self.kind != "number" or self.style == ","

    @property
    def words(self) -> str:
        """What the column became."""
        if self.kind == "number":
            return "number"
        if self.kind == "yes_no":
            return "yes or no"
        if self.kind == "category":
            return f"category of {self.categories}"
        return f"days before {self.reference}" if self.reference else "days before the snapshot"


@dataclass(frozen=True)
class LeftOut:
    """A column that no model learns from, and why, in words that follow its name."""

    name: str
    reason: str


@dataclass(frozen=True)
class Inferred:
    """What a column is, and what should be said about it beyond that."""

    plan: ColumnPlan | LeftOut
    note: str = ""


def infer(name: str, column: pd.Series[Any], *, has_time: bool) -> Inferred:
    """What the column (n,), float64 or texts with None for missing, is good for."""
    known = column.dropna()
    if not len(known):
        return Inferred(LeftOut(name, "is empty in every row"))
    if pd.api.types.is_float_dtype(column):
        return _infer_number(name, column, known)
    codes, texts = pd.factorize(known)
    counts = np.bincount(codes, minlength=len(texts)).astype(np.float64)
    words = [str(text) for text in texts]
    lower = [word.lower() for word in words]
    if set(lower) <= YES | NO and (len(texts) > 1 or len(known) < len(column)):
        return Inferred(ColumnPlan(name, "yes_no"))
    for style in (".", ","):
        values = numbers(words, style)
        lost = np.isnan(values) & np.array([one not in NO_NUMBER for one in lower])
        share = 1 - float(counts[lost].sum()) / float(counts.sum())
        if share >= PARSED and np.isfinite(values).any():
            if len(set(values[np.isfinite(values)])) == 1 and np.isfinite(values).all() and len(known) == len(column):
                return Inferred(LeftOut(name, "has the same value in every row"))
            return Inferred(ColumnPlan(name, "number", style), _lost(counts, lost, words, "no number"))
    dated = _infer_date(name, words, lower, counts, column, has_time=has_time)
    if dated is not None:
        return dated
    if len(texts) == 1 and len(known) == len(column):
        return Inferred(LeftOut(name, "has the same value in every row"))
    return _infer_category(name, len(texts), len(known))


def feature(column: pd.Series[Any], plan: ColumnPlan, snapshot: NDArray[np.datetime64] | None) -> pd.Series[Any]:
    """The column (n,) as the plan says: float64, or texts for a category. `snapshot` (n,): each row's own date."""
    if plan.kind == "category":
        texts = column.to_numpy(dtype=object, copy=True)
        texts[column.isna().to_numpy()] = None
        return pd.Series(texts, index=column.index, dtype=object)
    if pd.api.types.is_float_dtype(column) and plan.kind in ("number", "yes_no"):
        return column
    codes, distinct = pd.factorize(column.astype(object))
    words = [str(text) for text in distinct]
    values = np.append(_converter(plan)(words), np.nan)[codes]
    if plan.kind == "date":
        since = _days(plan.reference) if plan.reference else _since_epoch(snapshot, len(column))
        values = since - values
    return pd.Series(values, index=column.index, name=column.name)


def numbers(words: list[str], decimal: str) -> Floats:
    """(u,) numbers from texts such as `1,234.5`, `12 %`, `$ 12`, `(3)`; NaN for what is none."""
    return np.array([_number(word, decimal) for word in words], dtype=np.float64)


def dates(words: list[str], style: str) -> Floats:
    """(u,) days since 1970-01-01; NaN for what is no date of this style (ISO is understood in all). Times are cut off."""
    return np.array([_date(word, style) for word in words], dtype=np.float64)


def date_style(words: list[str], lower: list[str], counts: Floats) -> str | None:
    """How these dates are written: a style, `ambiguous` (day or month first cannot be told), or None: they are no dates."""
    known = np.array([one not in NO_NUMBER for one in lower], dtype=np.bool_)
    total = float(counts[known].sum())
    if not total:
        return None
    shares = {}
    for style in ("iso", "day_first", "month_first", "words"):
        values = dates(words, style)
        shares[style] = float(counts[known & np.isfinite(values)].sum()) / total
    if shares["iso"] >= PARSED:
        return "iso"
    day, month = shares["day_first"], shares["month_first"]
    if max(day, month) >= PARSED:
        if day != month:
            return "day_first" if day > month else "month_first"
        return "day_first" if all("." in word for word in words if _DMY.fullmatch(word)) else "ambiguous"
    return "words" if shares["words"] >= PARSED else None


def _infer_number(name: str, column: pd.Series[Any], known: pd.Series[Any]) -> Inferred:
    distinct = known.unique()
    if len(distinct) == 1 and len(known) == len(column):
        return Inferred(LeftOut(name, "has the same value in every row"))
    if _DATE_NAME.search(name) and ((distinct >= 19000101) & (distinct <= 21001231) & (distinct % 1 == 0)).all():
        days = dates([f"{int(value)}" for value in distinct], "digits")
        if np.isfinite(days).all():
            return Inferred(ColumnPlan(name, "date", "digits", reference=_iso(float(days.max()))))
    return Inferred(ColumnPlan(name, "number", "."))


def _infer_date(
    name: str, words: list[str], lower: list[str], counts: Floats, column: pd.Series[Any], *, has_time: bool
) -> Inferred | None:
    if not any(any(sign.isdigit() for sign in word) for word in words[:50]):
        return None
    style = date_style(words, lower, counts)
    if style is None:
        return None
    if style == "ambiguous":
        return Inferred(
            LeftOut(name, "holds dates of which day and month cannot be told apart; write them as 2024-03-01")
        )
    values = dates(words, style)
    if not np.isfinite(values).any():
        return None
    lost = ~np.isfinite(values) & np.array([one not in NO_NUMBER for one in lower])
    if not has_time and len(set(values[np.isfinite(values)])) == 1 and column.notna().all() and not lost.any():
        return Inferred(LeftOut(name, "has the same value in every row"))
    return Inferred(
        ColumnPlan(name, "date", style, reference=None if has_time else _iso(float(np.nanmax(values)))),
        _lost(counts, lost, words, "no date"),
    )


def _infer_category(name: str, distinct: int, known: int) -> Inferred:
    if distinct <= ALWAYS_FEW and distinct <= max(known / 2, 2):
        return Inferred(ColumnPlan(name, "category", categories=distinct))
    if distinct >= 0.9 * known:
        return Inferred(LeftOut(name, "is a text that differs from row to row"))
    if distinct <= MOST_CATEGORIES and known >= ROWS_PER_CATEGORY * distinct:
        return Inferred(ColumnPlan(name, "category", categories=distinct))
    return Inferred(LeftOut(name, f"has {distinct:,} different texts, too many to learn from {known:,} rows"))


def _lost(counts: Floats, lost: NDArray[np.bool_], words: list[str], what: str) -> str:
    if not lost.any():
        return ""
    rows = int(counts[lost].sum())
    example = words[int(np.flatnonzero(lost)[0])][:30]
    return f"{rows:,} value{'s' * (rows > 1)} ({example!r}) {'are' if rows > 1 else 'is'} {what} and count{'s' * (rows == 1)} as missing"


def _converter(plan: ColumnPlan) -> Callable[[list[str]], Floats]:
    if plan.kind == "number":
        return lambda words: numbers(words, plan.style)
    if plan.kind == "date":
        return lambda words: dates(words, plan.style)
    return _yes_no


def _yes_no(words: list[str]) -> Floats:
    lower = [word.lower() for word in words]
    return np.array([1.0 if one in YES else 0.0 if one in NO else np.nan for one in lower], dtype=np.float64)


def _number(word: str, decimal: str) -> float:
    text = word.strip()
    negative = text.startswith("(") and text.endswith(")")
    if negative:
        text = text[1:-1].strip()
    sign = ""
    if text[:1] in "+-" and text[1:2] and not text[1:2].isdigit() and text[1:2] not in ".,":
        sign, text = text[0], text[1:]
    for _ in range(2):
        text = _AFFIX.sub("", text).strip()
    if text.endswith("-") and not text.startswith("-"):
        text = "-" + text[:-1]
    text = sign + text
    if not any(one in "0123456789" for one in text):
        return float("nan")
    if not (_US if decimal == "." else _EU).fullmatch(text):
        return float("nan")
    text = re.sub("[' \u00a0\u202f]", "", text)
    text = text.replace(",", "") if decimal == "." else text.replace(".", "").replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return float("nan")
    if not np.isfinite(value):
        return float("nan")
    return -value if negative else value


def _date(word: str, style: str) -> float:
    found = _ISO.fullmatch(word)
    if found:
        return _day(int(found[1]), int(found[2]), int(found[3]))
    if style in ("day_first", "month_first"):
        found = _DMY.fullmatch(word)
        if found:
            first, second, year = int(found[1]), int(found[3]), int(found[4])
            if year < 100:
                year += 2000 if year < 70 else 1900
            return _day(year, second, first) if style == "day_first" else _day(year, first, second)
    elif style == "digits":
        found = _DIGITS.fullmatch(word)
        if found:
            return _day(int(found[1]), int(found[2]), int(found[3]))
    elif style == "words":
        found = _WORDY.fullmatch(word)
        if found:
            day, name, written = (found[1], found[2], found[3]) if found[1] else (found[5], found[4], found[6])
            month = _MONTHS.get(name[:3].lower())
            return float("nan") if month is None else _day(int(written), month, int(day))
    return float("nan")


def _day(year: int, month: int, day: int) -> float:
    from datetime import date

    if not FIRST_YEAR <= year < LAST_YEAR:
        return float("nan")
    try:
        return float((date(year, month, day) - date(1970, 1, 1)).days)
    except ValueError:
        return float("nan")


def _days(iso: str) -> float:
    return float(np.datetime64(iso, "D").astype(np.int64))


def _iso(days: float) -> str:
    return str(np.datetime64(int(days), "D"))


def _since_epoch(snapshot: NDArray[np.datetime64] | None, count: int) -> Floats:
    if snapshot is None:
        return np.full(count, np.nan)
    answer: Floats = snapshot.astype("datetime64[D]").astype(np.int64).astype(np.float64)
    return answer
