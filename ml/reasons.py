"""Why a score is what it is, in probability points and in words, and what moved it since the last one.

Lives here: the way from log-odds contributions to probability points, the choice of the top reasons, their sentences. Must not
live here: computing contributions (`ml/shap.py`, `ml/model.py`), the catalogue's YAML (`ml/features.py`), writing tables.

**Points.** Contributions add up in log-odds, people think in probability. Feature i gets

    points_i = contribution_i * (p - p0) / (logit p - logit p0),    p0 = sigmoid(base),    p = sigmoid(base + sum of all)

(the limit is p0 * (1 - p0)), so that p0 + sum of points = p. This is the Aumann-Shapley value, or integrated gradient
(Sundararajan, Taly and Yan 2017), of the sigmoid on the straight way from the base to the account: of all ways to share out
p - p0 the one in which every feature acts all along the way at its own constant pace. It keeps sign and order of the
contributions in log-odds, needs no order of the features, and costs one factor per account.

**Themes.** Features of one theme ("payments": failed ones, overdue amount, days late) tell of one thing, and a model shares its
effect among them as chance has it. They are one reason together: its points are the sum of theirs, and the one among them that
moves the score most in its direction speaks for it. Shares of a sum are the sum of shares, so nothing of the above changes.

**Words.** A sentence comes from the feature's `Wording` and from numbers. Text of a source is not repeated, unless the
wording allows it, as for a user's own flat table; then it is cut to 40 printable characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

TOP = 5
NOTABLE = (0.05, 0.05, 0.075, 0.15, 0.15)
"""What the first, second, … reason has to move the probability by, as a share of the base: 0.2 points for the first where 4 %
leave. Of smaller ones many are what a model learned by chance, and nobody would call a customer for them; the further down a
list, the more of them. A theme of k features has to move it sqrt(k) times as much: what chance gives each of them adds up so."""
LONGEST_TEXT = 40
NOTHING = 1e-9
"""Values closer to 0 than this are 0."""
OTHER, OTHER_TEXT = "other", "Everything else"
MODEL, MODEL_TEXT = "model", "The model itself changed"
_MANY = re.compile(r"\{value\} (\w+ )??(\w+[^\Ws])s\b")
CASES = ("positive", "negative", "zero", "missing", "category")
POSITIVE, NEGATIVE, ZERO, MISSING, CATEGORY = range(5)


@dataclass(frozen=True)
class Wording:
    """How a feature speaks. In a text `{value}` is the value's size, without its sign; a text that is not given is made of
    label and unit. Of a positive value that reads 1, `one` is the text; without it the plural after `{value}` loses its s
    ("{value} failed payments": "1 failed payment").

    `code` is for machines and stays when texts are reworded; reasons say `<code>.<case>`, with the case one of `CASES`.
    """

    code: str
    label: str
    unit: str = ""
    positive: str | None = None
    one: str | None = None
    negative: str | None = None
    zero: str | None = None
    missing: str | None = None
    repeats_text: bool = False
    """Whether a category's own text may be repeated."""
    is_flag: bool = False
    """Whether the value is yes (1) or no (0)."""
    theme: str | None = None
    """Features with the same theme are one reason together; without one, it is a theme of its own."""


@dataclass(frozen=True)
class Points:
    """Contributions of n accounts in probability points: base_probability + points.sum(axis=1) = probability."""

    names: tuple[str, ...]
    base_probability: float
    probability: Floats
    """(n,)"""
    points: Floats
    """(n, f), in the order of `names`, on the scale 0 to 1."""

    def __len__(self) -> int:
        return len(self.probability)


def probability_points(contributions: Floats, base: float, names: Sequence[str]) -> Points:
    """From log-odds contributions (n, f) and their base; see the top of the module for the method."""
    total = contributions.sum(axis=1)
    start, end = _sigmoid(np.float64(base)), _sigmoid(base + total)
    near = np.abs(total) < 1e-5
    # Where both ends are close the quotient cancels; the slope half way is right to (total^2)/12 there.
    middle = _sigmoid(base + total / 2)
    factor = np.where(near, middle * (1 - middle), (end - start) / np.where(near, 1.0, total))
    return Points(tuple(names), float(start), end, contributions * factor[:, None])


def reasons(
    points: Points,
    features: pd.DataFrame,
    wordings: Mapping[str, Wording],
    *,
    top: int = TOP,
    notable: Sequence[float] = NOTABLE,
) -> pa.Table:
    """The long table of reasons: `row`, `kind`, `rank`, `theme`, `feature`, `code`, `text`, `value`, `contribution`.

    Per account (`row`: its place in `points`): up to `top` themes that raise the score ("up", the largest first), up to `top`
    that lower it ("down"), and one row "other" with all the rest; base_probability + sum of contributions = probability.
    `contribution` is the theme's; `feature`, and with it code, text and value, is the one that has most part in it.
    A theme that moves the probability by less than its place's `notable` of the base (the last one's beyond the end), times the
    square root of how many features it has, is no reason of its own: it is part of the rest.
    `features` (n rows, in the same order) has at least the columns `points.names`: numbers or pandas categories, NaN where
    missing; `value` is the number, NULL for categories. `wordings` by feature; one that is not there speaks by its name.
    """
    speaker = _Sentences(points.names, features, wordings)
    themes = _Themes.of(points.names, wordings)
    sums = themes.sums(points.points)
    up, down = _largest(sums, top), _largest(-sums, top)
    places = np.concatenate([up, down], axis=1)
    sizes = np.take_along_axis(sums, places, axis=1)
    shares = np.array([notable[min(place, len(notable) - 1)] for place in range(up.shape[1])])
    least = np.concatenate([shares, shares]) * np.sqrt(themes.counts[places]) * points.base_probability
    chosen = np.abs(sizes) > least
    chosen[:, : up.shape[1]] &= sizes[:, : up.shape[1]] > 0
    chosen[:, up.shape[1] :] &= sizes[:, up.shape[1] :] < 0
    rest = points.probability - points.base_probability - np.where(chosen, sizes, 0.0).sum(axis=1)
    kinds = ["up"] * up.shape[1] + ["down"] * down.shape[1] + ["other"]
    ranks = [*range(1, up.shape[1] + 1), *range(1, down.shape[1] + 1), 0]
    spoken = themes.speaking(points.points, places, sizes)
    long = _Long.of(spoken, sizes, chosen, [(rest, np.ones(len(points), dtype=np.bool_))], kinds, ranks)
    return long.table(points.names, themes, speaker)


def changes(
    now: Points,
    then: Points,
    features_now: pd.DataFrame,
    features_then: pd.DataFrame,
    wordings: Mapping[str, Wording],
    *,
    previous: Floats | None = None,
    top: int = TOP,
) -> pa.Table:
    """What moved the scores of n accounts since the last time; the same columns as `reasons`, `value` being today's.

    `now` and `then` are of one model, today's, on today's features and on those of the last score; row i is the same account in
    all arguments. Per account: up to `top` rows "change" (rank 1 moved it most, either way), and "change_other" with the rest.
    `previous` (n,) are the probabilities that were given then: where another model gave them there is one row "model" with
    p_new(old features) - p_old(old features); NaN or None: the same model. The rows sum to today's probability - the last one.
    """
    if now.names != then.names:
        raise ValueError("the points of both times must have the same features")
    speaker = _Movements(now.names, features_then, features_now, wordings)
    themes = _Themes.of(now.names, wordings)
    moved = now.points - then.points
    sums = themes.sums(moved)
    places = _largest(np.abs(sums), top)
    sizes = np.take_along_axis(sums, places, axis=1)
    chosen = np.abs(sizes) > 0
    rest = now.probability - then.probability - np.where(chosen, sizes, 0.0).sum(axis=1)
    model = np.zeros(len(now)) if previous is None else then.probability - previous
    count = places.shape[1]
    long = _Long.of(
        themes.speaking(moved, places, sizes),
        sizes,
        chosen,
        [(rest, np.ones(len(now), dtype=np.bool_)), (model, ~np.isnan(model) & (model != 0))],
        ["change"] * count + ["change_other", "model"],
        [*range(1, count + 1), 0, 0],
    )
    return long.table(now.names, themes, speaker)


def amount(value: float) -> str:
    """A number for people: 2 digits where it is small, whole from 10 on, in groups of three from 10,000 on."""
    return _written(float(_readable(np.array([value]))[0]))


# --- choosing ----------------------------------------------------------------------------------------------------


def _largest(values: Floats, top: int) -> Integers:
    """(n, min(top, f)) places of the largest values of each row, the largest first; of equal ones the first."""
    count = min(top, values.shape[1])
    if count < values.shape[1]:
        places = np.argpartition(-values, count - 1, axis=1)[:, :count]
        places.sort(axis=1)
    else:
        places = np.broadcast_to(np.arange(count), values.shape).copy()
    order = np.argsort(-np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


@dataclass(frozen=True)
class _Themes:
    """Which features (places in the names) are one theme."""

    names: list[str]
    """(f,) the theme of each feature."""
    members: list[Integers]
    """(g,) the features of each theme, in the order of their names: sums do not depend on the order of columns."""
    counts: Integers
    """(g,) how many they are."""

    @classmethod
    def of(cls, features: tuple[str, ...], wordings: Mapping[str, Wording]) -> _Themes:
        names = [(wordings[name].theme if name in wordings else None) or name for name in features]
        found: dict[str, list[int]] = {}
        for place in sorted(range(len(features)), key=lambda place: features[place]):
            found.setdefault(names[place], []).append(place)
        members = [np.array(found[name]) for name in dict.fromkeys(names)]
        return cls(names, members, np.array([len(places) for places in members]))

    def sums(self, values: Floats) -> Floats:
        """(n, g) sums of `values` (n, f) by theme."""
        if len(self.members) == len(self.names):
            return values
        edges = np.cumsum([0, *self.counts[:-1]])
        result: Floats = np.add.reduceat(values[:, np.concatenate(self.members)], edges, axis=1)
        return result

    def speaking(self, values: Floats, themes: Integers, sums: Floats) -> Integers:
        """(n, t) for each of `themes` (n, t) the feature whose value is the largest in the direction of the theme's sum (n, t)."""
        result: Integers = np.array([places[0] for places in self.members])[themes]
        for theme, places in enumerate(self.members):
            if len(places) > 1:
                row, column = np.nonzero(themes == theme)
                directed = values[np.ix_(row, places)] * np.sign(sums[row, column])[:, None]
                result[row, column] = places[np.argmax(directed, axis=1)]
        return result


@dataclass(frozen=True)
class _Long:
    """Reasons in the order of the accounts, then of the columns they come from. `place` is -1 for what is no feature."""

    row: Integers
    column: Integers
    place: Integers
    contribution: Floats
    kinds: list[str]
    ranks: list[int]

    @classmethod
    def of(
        cls,
        places: Integers,
        sizes: Floats,
        chosen: NDArray[np.bool_],
        more: list[tuple[Floats, NDArray[np.bool_]]],
        kinds: list[str],
        ranks: list[int],
    ) -> _Long:
        none = np.full((len(places), len(more)), -1)
        keep = np.column_stack([chosen, *(mask for _, mask in more)])
        row, column = np.nonzero(keep)
        place = np.concatenate([places, none], axis=1)[keep]
        contribution = np.column_stack([sizes, *(size for size, _ in more)])[keep]
        return cls(row, column, place, contribution, kinds, ranks)

    def table(self, names: tuple[str, ...], themes: _Themes, speaker: _Sentences | _Movements) -> pa.Table:
        import pyarrow as pa

        count = len(self.row)
        value = np.full(count, np.nan)
        texts = np.zeros(count, dtype=np.int32)
        codes = np.zeros(count, dtype=np.int32)
        all_texts = [MODEL_TEXT if kind == "model" else OTHER_TEXT for kind in self.kinds]
        all_codes = [MODEL if kind == "model" else OTHER for kind in self.kinds]
        texts[:] = codes[:] = self.column
        # A stable sort of small integers is linear: the rows of each feature without a look at all rows for each.
        order = np.argsort(self.place.astype(np.int16), kind="stable")
        edges = np.searchsorted(self.place[order], np.arange(len(names) + 1))
        for place, (start, stop) in enumerate(pairwise(edges)):
            if start == stop:
                continue
            mine = order[start:stop]
            said = speaker.say(place, self.row[mine])
            value[mine] = said.value
            codes[mine] = len(all_codes) + said.case
            all_codes += [f"{speaker.wording(place).code}.{case}" for case in CASES]
            texts[mine] = len(all_texts) + said.text
            all_texts += said.texts
        features = np.where(self.place < 0, len(names), self.place)
        return pa.table(
            {
                "row": self.row,
                "kind": _strings(self.kinds, self.column),
                "rank": np.array(self.ranks, dtype=np.int32)[self.column],
                "theme": _strings([*themes.names, None], features),
                "feature": _strings([*names, None], features),
                "code": _strings(all_codes, codes),
                "text": _strings(all_texts, texts),
                "value": pa.array(value, mask=np.isnan(value)),
                "contribution": self.contribution,
            }
        )


def _strings(words: Sequence[str | None], places: NDArray[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(words, pa.string()).take(pa.array(places))


# --- words -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Said:
    """What one feature says of some accounts: its numbers, the cases (places in `CASES`), and places in `texts`."""

    value: Floats
    case: Integers
    text: Integers
    texts: list[str]


class _Column:
    """One feature's values, read once: its numbers, or a category's codes and texts."""

    def __init__(self, column: pd.Series[Any], wording: Wording) -> None:
        import pandas as pd

        self.wording = wording
        self.is_category = isinstance(column.dtype, pd.CategoricalDtype)
        if self.is_category:
            self.numbers = column.cat.codes.to_numpy().astype(np.float64)
            self.numbers[self.numbers < 0] = np.nan
            self.words = [printable(str(word)) for word in column.cat.categories] if wording.repeats_text else []
        else:
            self.numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)

    def readable(self, rows: Integers) -> Floats:
        """(m,) the values as they will be written: rounded, or codes of categories whose text may be told, else 0."""
        numbers = self.numbers[rows]
        if not self.is_category:
            return _readable(numbers)
        return numbers if self.words else np.where(np.isnan(numbers), np.nan, 0.0)

    def cases(self, readable: Floats) -> Integers:
        if self.is_category:
            return np.where(np.isnan(readable), MISSING, CATEGORY)
        signs = np.where(readable > 0, POSITIVE, np.where(readable < 0, NEGATIVE, ZERO))
        return np.where(np.isnan(readable), MISSING, signs)

    def sentence(self, readable: float) -> str:
        wording, case = self.wording, int(self.cases(np.array([readable]))[0])
        if case == MISSING:
            return wording.missing or f"{wording.label} is not measured"
        if case == CATEGORY:
            if not self.words:
                return f"{wording.label} as recorded" if wording.positive is None else _without(wording)
            return _filled(wording.positive or f"{wording.label} is {{value}}", self.words[int(readable)])
        size = _written(abs(readable))
        given = {POSITIVE: wording.positive, NEGATIVE: wording.negative, ZERO: wording.zero or wording.positive}[case]
        if case == POSITIVE and size == "1":
            given = wording.one or (given and self._singular(given))
        if given is None:
            return f"{wording.label}: {self.short(readable)}"
        return _filled(given, size)

    def _singular(self, text: str) -> str:
        # A multiple ("3 times its usual gap") is no count.
        return text if self.wording.unit == "times" else _MANY.sub(r"{value} \1\2", text, count=1)

    def short(self, readable: float) -> str:
        """The value alone, with its sign and unit."""
        if np.isnan(readable):
            return "not measured"
        if self.is_category:
            return self.words[int(readable)] if self.words else "recorded"
        if self.wording.is_flag:
            return "yes" if readable else "no"
        sign = "\N{MINUS SIGN}" if readable < 0 else ""
        return f"{sign}{_written(abs(readable))} {self.wording.unit}".rstrip()


class _Words:
    """What is common to sentences and movements: the wording of each feature, and one for those that have none."""

    def __init__(self, names: tuple[str, ...], wordings: Mapping[str, Wording]) -> None:
        self._names = names
        self._wordings = [wordings.get(name) or Wording(name, printable(name)) for name in names]

    def wording(self, place: int) -> Wording:
        return self._wordings[place]


class _Sentences(_Words):
    """Says what a value is."""

    def __init__(self, names: tuple[str, ...], features: pd.DataFrame, wordings: Mapping[str, Wording]) -> None:
        super().__init__(names, wordings)
        self._features = features

    def say(self, place: int, rows: Integers) -> _Said:
        column = _Column(self._features[self._names[place]], self.wording(place))
        readable = column.readable(rows)
        # Only what is read differently is written anew: of a million values a few thousand.
        different, text = np.unique(readable, return_inverse=True)
        value = np.full(len(rows), np.nan) if column.is_category else column.numbers[rows]
        return _Said(value, column.cases(readable), text, [column.sentence(float(one)) for one in different])


class _Movements(_Words):
    """Says from what to what a value went."""

    def __init__(
        self, names: tuple[str, ...], before: pd.DataFrame, after: pd.DataFrame, wordings: Mapping[str, Wording]
    ) -> None:
        super().__init__(names, wordings)
        self._before, self._after = before, after

    def say(self, place: int, rows: Integers) -> _Said:
        name, wording = self._names[place], self.wording(place)
        before, after = (_Column(one, wording) for one in _same_codes(self._before[name], self._after[name]))
        old, new = before.readable(rows), after.readable(rows)
        olds, old_text = np.unique(old, return_inverse=True)
        news, new_text = np.unique(new, return_inverse=True)
        same = (before.numbers[rows] == after.numbers[rows]) | np.isnan(old) & np.isnan(new)
        pairs = (old_text * len(news) + new_text) * 2 + same
        different, text = np.unique(pairs, return_inverse=True)
        old_words = [before.short(float(one)) for one in olds]
        new_words = [after.short(float(one)) for one in news]
        texts = []
        for pair in different.tolist():
            (first, second), is_same = divmod(pair // 2, len(news)), pair % 2
            was, is_now = old_words[first], new_words[second]
            if after.is_category and not after.words and was == is_now:
                texts.append(f"{wording.label}: {'as before' if is_same else 'changed'}")
            elif was == is_now:
                texts.append(f"{wording.label}: still {is_now}")
            else:
                texts.append(f"{wording.label}: {was} \N{RIGHTWARDS ARROW} {is_now}")
        value = np.full(len(rows), np.nan) if after.is_category else after.numbers[rows]
        return _Said(value, after.cases(new), text, texts)


def _same_codes(before: pd.Series[Any], after: pd.Series[Any]) -> tuple[pd.Series[Any], pd.Series[Any]]:
    """Both columns; where they are categories, with one list of them, so that the same code is the same text."""
    import pandas as pd

    if not (isinstance(before.dtype, pd.CategoricalDtype) and isinstance(after.dtype, pd.CategoricalDtype)):
        return before, after
    together = before.cat.categories.union(after.cat.categories)
    return before.cat.set_categories(together), after.cat.set_categories(together)


def printable(text: str) -> str:
    """At most 40 printable characters of a text."""
    kept = "".join(sign for sign in text if sign.isprintable())
    return kept if len(kept) <= LONGEST_TEXT else kept[: LONGEST_TEXT - 1] + "…"


def _without(wording: Wording) -> str:
    return f"{wording.label} as recorded" if "{value}" in str(wording.positive) else str(wording.positive)


def _filled(text: str, value: str) -> str:
    # No str.format: a label may come from a user's column name, with braces in it.
    return text.replace("{value}", value)


def _readable(values: Floats) -> Floats:
    """Rounded to what is written: whole from 10 on, else one decimal from 1 on, else two digits; 0 for next to nothing."""
    size = np.abs(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = 10.0 ** (1 - np.floor(np.log10(np.where(size > NOTHING, size, 1.0))))
        small = np.rint(values * unit) / unit
    rounded = np.where(size >= 10, np.rint(values), np.where(size >= 1, np.rint(values * 10) / 10, small))
    return np.where(size <= NOTHING, 0.0, rounded)


def _written(readable: float) -> str:
    if np.isnan(readable):
        return "not measured"
    size = abs(readable)
    sign = "\N{MINUS SIGN}" if readable < 0 else ""
    if size >= 10_000:
        return f"{sign}{size:,.0f}"
    if size >= 10 or size == int(size):
        return f"{sign}{size:.0f}"
    return sign + f"{size:.12f}".rstrip("0")


def _sigmoid(log_odds: Any) -> Any:
    return 0.5 * (1.0 + np.tanh(0.5 * log_odds))
