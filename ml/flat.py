"""A flat file of one's own as a `Dataset`: which column is what, what was left out and why, and the plan that scoring follows.

Lives here: the id, the label, the time of the rows, the fate of every column, and sentences for what is wrong with a table. Must
not live here: reading (`ml/table_file.py`), types (`ml/columns.py`), leaks (`ml/leaks.py`), learning.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from core.errors import UserError
from ml import columns, leaks
from ml.columns import ColumnPlan, Inferred, LeftOut
from ml.dataset import Dataset, assemble
from ml.split import MIN_EVENTS
from ml.table_file import RawTable, read

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
LEFT = frozenset(
    (
        "yes",
        "y",
        "true",
        "t",
        "1",
        "churn",
        "churned",
        "churner",
        "left",
        "leaver",
        "leave",
        "gone",
        "exited",
        "exit",
        "closed",
        "cancelled",
        "canceled",
        "cancel",
        "lost",
        "attrited",
        "terminated",
        "departed",
        "unsubscribed",
        "inactive",
        "quit",
        "attrited customer",
        "churned customer",
        "lost customer",
    )
)
STAYED = frozenset(
    (
        "no",
        "n",
        "false",
        "f",
        "0",
        "stay",
        "stayed",
        "stayer",
        "active",
        "retained",
        "existing",
        "current",
        "open",
        "kept",
        "loyal",
        "remained",
        "renewed",
        "existing customer",
        "not churned",
        "no churn",
        "non-churn",
        "not churn",
        "current customer",
    )
)
_KEEPS = re.compile(
    r"(^|[^a-z])(is_?)?(active|retained|retention|stay(s|ed)?|renew(s|ed|al)?|kept|loyal|survived)([^a-z]|$)", re.I
)
_ID_NAME = re.compile(
    r"(^|[^a-z])(id|ids|uuid|guid|key|index|idx|row|rownumber|row_?number|number|nr|no|code|unnamed)([^a-z]|$)", re.I
)
FEWEST_ROWS = 2 * MIN_EVENTS


@dataclass(frozen=True)
class Fate:
    """What became of one column."""

    column: str
    role: Literal["id", "label", "time", "used", "left out"]
    became: str
    note: str = ""
    """A reason, or a warning."""


@dataclass(frozen=True)
class TablePlan:
    """All that scoring needs to know of the training's file."""

    id: str
    label: str
    left: str
    """The value of the label that means "left"."""
    time: str | None
    columns: tuple[ColumnPlan, ...]
    """Those that are features."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "format": FORMAT,
            "id": self.id,
            "label": self.label,
            "left": self.left,
            "time": self.time,
            "columns": [column.to_json() for column in self.columns],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TablePlan:
        """What `to_json` wrote."""
        made = tuple(ColumnPlan.from_json(column) for column in document["columns"])
        return cls(document["id"], document["label"], document["left"], document["time"], made)

    @property
    def needs_time(self) -> bool:
        """Whether a feature counts days back from the row's own date."""
        return any(column.kind == "date" and column.reference is None for column in self.columns)


@dataclass(frozen=True)
class Prepared:
    """A table that a model can learn from, and what is to be said about it."""

    data: Dataset
    plan: TablePlan
    fates: tuple[Fate, ...]
    suspects: tuple[leaks.Suspect, ...]
    notes: tuple[str, ...]
    rows_read: int
    rows_without_label: int


@dataclass(frozen=True)
class ToScore:
    """Rows that a model can score."""

    features: pd.DataFrame
    ids: NDArray[Any]
    """(n,) as the file has them."""
    times: NDArray[Any] | None
    warnings: tuple[str, ...]


def prepare(
    path: Path,
    *,
    label: str,
    id: str,
    time: str | None = None,
    drop: Collection[str] = (),
    keep: Collection[str] = (),
    seed: int = 7,
    memory_limit: str = "2GB",
    threads: int = 2,
    temp_directory: Path | None = None,
) -> Prepared:
    """Read the file at `path` for training. Raises `UserError` with one sentence for all that can be wrong with it."""
    limits: dict[str, Any] = {"memory_limit": memory_limit, "threads": threads, "temp_directory": temp_directory}
    table = read(path, texts=[label, id, *([time] if time else [])], **limits)
    roles = {"id": id, "label": label} | ({"time": time} if time else {})
    frame = table.frame
    for option, name in roles.items():
        _there(table, name, f"--{option}")
    for option, names in (("--drop", drop), ("--keep", keep)):
        for name in names:
            _there(table, name, option, nested=True)
    _distinct(roles, drop, keep)
    if not len(frame):
        raise UserError(f"{path.name} has a header but no rows.")
    notes: list[str] = []
    settled = _label(frame[label], label)
    notes += settled.notes
    known = settled.values.notna().to_numpy()
    if len(frame) - int(known.sum()):
        notes.append(f"{len(frame) - int(known.sum()):,} rows have no {label} and are left out.")
    frame = frame[known].reset_index(drop=True)
    ids = _ids(frame, id)
    times = _times(frame, time) if time else None
    _unique(frame[id], ids, times, id, time, hint=f"{ONE_ROW}, or name the date of each row with --time COLUMN.")
    values = settled.values[known].to_numpy(dtype=np.float64)
    _enough(values, path)
    candidates = [str(name) for name in frame.columns if name not in roles.values()]
    fates = {id: Fate(id, "id", "id"), label: Fate(label, "label", f"left: {settled.left}")}
    if time and times is not None:
        fates[time] = Fate(time, "time", f"{len(np.unique(times)):,} dates, {times.min()} to {times.max()}")
    fates |= {name: Fate(name, "left out", "", "was left out with --drop") for name in drop}
    fates |= {
        name: Fate(name, "left out", "", "holds lists or structures") for name in table.nested if name not in fates
    }
    plans: list[ColumnPlan] = []
    features: dict[str, Any] = {}
    entity_codes = pd.factorize(ids)[0]
    for name in candidates:
        if name in fates:
            continue
        inferred = _inferred(name, frame[name], entity_codes, has_time=time is not None, kept=name in keep)
        if isinstance(inferred.plan, LeftOut):
            fates[name] = Fate(name, "left out", "", inferred.plan.reason)
            continue
        plans.append(inferred.plan)
        features[name] = columns.feature(frame[name], inferred.plan, times)
        fates[name] = Fate(name, "used", inferred.plan.words, inferred.note)
    data = _dataset(features, ids, values, times)
    found = leaks.suspects(data.features, data.labels, data.entity, keep=frozenset(keep), seed=seed)
    for suspect in found:
        before = fates[suspect.name]
        role: Literal["used", "left out"] = "used" if suspect.verdict == "kept" else "left out"
        fates[suspect.name] = Fate(suspect.name, role, before.became, suspect.reason)
    gone = {suspect.name for suspect in found if suspect.verdict == "left out"}
    used = tuple(sorted((plan for plan in plans if plan.name not in gone), key=lambda plan: plan.name))
    if not used:
        reasons = "; ".join(f"{fate.column} {fate.note}" for fate in fates.values() if fate.role == "left out")
        raise UserError(
            f"No column is left to learn from: {reasons or 'there is only the id and the label'}.",
            hint="--keep NAME keeps a column that was left out.",
        )
    if gone:
        data = replace(data, features=data.features[[plan.name for plan in used]])
    order = [str(name) for name in (*table.frame.columns, *table.nested)]
    return Prepared(
        data=data,
        plan=TablePlan(id=id, label=label, left=settled.left, time=time, columns=used),
        fates=tuple(fates[name] for name in order),
        suspects=found,
        notes=tuple(notes),
        rows_read=len(table.frame),
        rows_without_label=int((~known).sum()),
    )


ONE_ROW = "Keep one row per customer"


def to_score(
    path: Path,
    plan: TablePlan,
    *,
    id: str,
    memory_limit: str = "2GB",
    threads: int = 2,
    temp_directory: Path | None = None,
) -> ToScore:
    """Read the file at `path` for scoring by `plan`; its other columns are ignored, and so is the order of all.

    Raises `UserError` that names the columns that are missing.
    """
    wanted = {plan.name for plan in plan.columns}
    time = plan.time
    table = read(
        path,
        texts=[id, *([time] if time else []), *(plan.name for plan in plan.columns if plan.needs_text)],
        raw=[id, *([time] if time else [])],
        memory_limit=memory_limit,
        threads=threads,
        temp_directory=temp_directory,
    )
    frame = table.frame
    _there(table, id, "--id")
    missing = sorted(wanted - set(map(str, frame.columns)))
    if time and plan.needs_time and time not in frame.columns:
        missing.append(time)
    if missing:
        shown = ", ".join(missing[:10]) + ("…" if len(missing) > 10 else "")
        raise UserError(
            f"{path.name} lacks {len(missing)} column{'s' * (len(missing) > 1)} that the model needs: {shown}.",
            hint="Score a file with the columns of the training; a column may be empty, but has to be there.",
        )
    ids = _ids(frame, id)
    has_time = time is not None and time in frame.columns
    times = _times(frame, time) if has_time and time is not None and len(frame) else None
    if len(frame):
        _unique(frame[id], ids, times, id, time if has_time else None, hint=f"{ONE_ROW}.")
    features: dict[str, Any] = {}
    warnings: list[str] = []
    for column in plan.columns:
        values = features[column.name] = columns.feature(frame[column.name], column, times)
        if column.kind == "category":
            continue
        unread = frame[column.name][frame[column.name].notna().to_numpy() & values.isna().to_numpy()]
        if len(unread) and not values.notna().any():
            warnings.append(
                f"{column.name} was a {column.words} in training; here no value is one, so all count as missing."
            )
        elif len(unread):
            what = f"{len(unread):,} values of {column.name} are" if len(unread) > 1 else f"1 value of {column.name} is"
            kind = "date" if column.kind == "date" else column.words
            warnings.append(f"{what} no {kind}, such as {_short(str(unread.iloc[0]))}; counted as missing.")
        elif column.kind == "date" and column.reference is not None and (newer := int((values < 0).sum())):
            warnings.append(
                f"{newer:,} values of {column.name} are later than {column.reference}, the newest in training; to score"
                " new files regularly, train with --time, so that dates count from each row's own date."
            )
    raw = table.raw or {}
    return ToScore(
        features=pd.DataFrame(features, index=pd.RangeIndex(len(frame))),
        ids=raw[id],
        times=raw[time] if has_time and time is not None else None,
        warnings=tuple(warnings),
    )


@dataclass(frozen=True)
class _Label:
    values: pd.Series[Any]
    """(n,) 1.0 left, 0.0 stayed, NaN unknown."""
    left: str
    notes: tuple[str, ...]


def _label(column: pd.Series[Any], name: str) -> _Label:
    counts = column.dropna().map(_canonical).value_counts()
    if not len(counts):
        raise UserError(f"The label {name} is empty in every row.")
    texts = [str(text) for text in counts.index]
    if len(texts) == 1:
        raise UserError(
            f"The label {name} has one value only ({_short(texts[0])!r}).",
            hint="A model needs customers who left and customers who stayed.",
        )
    if len(texts) > 2:
        shown = ", ".join(_short(text) for text in texts[:5]) + ("…" if len(texts) > 5 else "")
        raise UserError(
            f"The label {name} has {len(texts):,} values ({shown}); a label has two.",
            hint="Make a column that says yes for who left and no for who stayed.",
        )
    lower = {text: text.lower() for text in texts}
    left_words = [text for text in texts if lower[text] in LEFT]
    stayed_words = [text for text in texts if lower[text] in STAYED]
    notes: list[str] = []
    if len(left_words) == 1:
        left = left_words[0]
    elif len(stayed_words) == 1:
        left = next(text for text in texts if text != stayed_words[0])
    else:
        left = texts[-1] if counts.iloc[-1] < counts.iloc[0] else sorted(texts)[-1]
        notes.append(f"Neither value of {name} says who left; {_short(left)!r}, the rarer one, is taken to mean that.")
    plain_yes = lower[left] in columns.YES
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    if plain_yes and _KEEPS.search(spaced) and not leaks.says_future(name):
        left = next(text for text in texts if text != left)
        notes.append(
            f"The name {name} speaks of customers who stay, so {_short(left)!r} is taken to mean that they left."
        )
    values = column.map(lambda text: float(_canonical(text) == left), na_action="ignore").astype(np.float64)
    written = column.dropna()
    return _Label(values, str(written[written.map(_canonical) == left].iloc[0]), tuple(notes))


def _canonical(text: Any) -> str:
    """One spelling for 1, 1.0 and for Yes, YES."""
    word = str(text)
    if re.fullmatch(r"-?\d+\.0+", word):
        word = word.split(".")[0]
    return word.lower() if word.lower() in columns.YES | columns.NO else word


def _ids(frame: pd.DataFrame, name: str) -> NDArray[np.object_]:
    empty = int(frame[name].isna().sum())
    if empty:
        raise UserError(
            f"{empty:,} row{'s' * (empty > 1)} of {len(frame):,} {'have' if empty > 1 else 'has'} no {name}.",
            hint="Each row needs an id.",
        )
    return frame[name].astype(str).to_numpy(dtype=object)


def _times(frame: pd.DataFrame, name: str) -> NDArray[np.datetime64]:
    column = frame[name]
    codes, texts = pd.factorize(column)
    words = [str(text) for text in texts]
    counts = np.bincount(codes[codes >= 0], minlength=len(words)).astype(np.float64)
    style = columns.date_style(words, [word.lower() for word in words], counts)
    if style is None and words and all(re.fullmatch(r"\d{8}(\.0)?", word) for word in words):
        style = "digits"
    if style == "ambiguous":
        raise UserError(
            f"In {name} day and month cannot be told apart ({words[0]}).", hint="Write the dates as 2024-03-01."
        )
    days = np.full(len(frame), np.nan)
    if style is not None:
        days = np.append(columns.dates(words, style), np.nan)[codes]
    lost = np.isnan(days)
    if lost.any():
        odd = column[lost].dropna()
        example = f", such as {_short(str(odd.iloc[0]))!r}" if len(odd) else ""
        raise UserError(
            f"{int(lost.sum()):,} of {len(frame):,} rows have no date in {name}{example}.",
            hint="--time names the day as of which each row is known, such as 2024-03-01.",
        )
    return days.astype(np.int64).astype("datetime64[D]")


def _unique(
    column: pd.Series[Any],
    ids: NDArray[np.object_],
    times: NDArray[np.datetime64] | None,
    id: str,
    time: str | None,
    *,
    hint: str,
) -> None:
    keys = pd.DataFrame({"id": ids})
    if times is not None:
        keys["time"] = times
    again = keys.duplicated()
    if not again.any():
        return
    count, example = int(again.sum()), _short(str(column.iloc[int(np.flatnonzero(again)[0])]))
    rows = f"{count:,} row{'s repeat' if count > 1 else ' repeats'} the {id} of another row"
    if times is None:
        raise UserError(
            f"{rows}, such as {example}.",
            hint=hint,
        )
    raise UserError(f"{rows} with the same {time}, such as {example}.", hint="Keep one of them.")


def _enough(values: NDArray[np.float64], path: Path) -> None:
    left, stayed = int(values.sum()), int(len(values) - values.sum())
    if not left or not stayed:
        raise UserError(
            f"All {len(values):,} rows of {path.name} {'left' if left else 'stayed'}.",
            hint="A model needs customers who left and customers who stayed.",
        )
    if min(left, stayed) < MIN_EVENTS:
        raise UserError(
            f"{path.name} has {len(values):,} rows with a label, of which {left:,} left and {stayed:,} stayed: too few to"
            f" learn from and to test on.",
            hint=f"At least {MIN_EVENTS} of either kind are needed; a few hundred make a useful model.",
        )


def _inferred(name: str, column: pd.Series[Any], entity: NDArray[np.int64], *, has_time: bool, kept: bool) -> Inferred:
    if not kept:
        reason = _identifier(name, column, entity)
        if reason:
            return Inferred(LeftOut(name, reason))
    found = columns.infer(name, column, has_time=has_time)
    if kept and isinstance(found.plan, LeftOut) and not pd.api.types.is_float_dtype(column) and column.nunique() > 1:
        return Inferred(ColumnPlan(name, "category", categories=int(column.nunique())), "was kept with --keep")
    return found


def _identifier(name: str, column: pd.Series[Any], entity: NDArray[np.int64]) -> str:
    """Whether the column names the row or the customer rather than saying something about it."""
    known = column.notna().to_numpy()
    if not known.all() or len(column) < FEWEST_ROWS:
        return ""
    codes, values = pd.factorize(column)
    customers = int(entity.max()) + 1
    if len(values) not in (len(column), customers):
        return ""
    if len(values) == customers and len(pd.unique(entity * np.int64(len(values)) + codes)) != customers:
        return ""
    if not pd.api.types.is_float_dtype(column):
        parsed = columns.infer(name, column, has_time=True).plan
        return (
            ""
            if isinstance(parsed, ColumnPlan) and parsed.kind != "category"
            else "is an identifier: a text of its own for every customer"
        )
    numbers = np.asarray(values, dtype=np.float64)
    if (numbers % 1 != 0).any():
        return ""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    dense = float(numbers.max() - numbers.min()) + 1 == len(numbers)
    return "is an identifier: a number of its own for every customer" if dense or _ID_NAME.search(spaced) else ""


def _dataset(
    features: Mapping[str, Any],
    ids: NDArray[np.object_],
    values: NDArray[np.float64],
    times: NDArray[np.datetime64] | None,
) -> Dataset:
    # Positions instead of names: a feature may be called like a role.
    names = sorted(features)
    frame = pd.DataFrame(
        {f"f{place}": features[name] for place, name in enumerate(names)}, index=pd.RangeIndex(len(ids))
    )
    wanted = list(frame.columns)
    frame["id"], frame["label"] = ids, values
    if times is not None:
        frame["time"] = times
    data = assemble(frame, entity="id", features=wanted, label="label", as_of=None if times is None else "time")
    renamed = data.features.rename(columns={f"f{place}": name for place, name in enumerate(names)})
    return replace(data, features=renamed[names])


def _there(table: RawTable, name: str, option: str, *, nested: bool = False) -> None:
    names = [str(one) for one in table.frame.columns]
    if name in names or (nested and name in table.nested):
        return
    if name in table.nested:
        raise UserError(f"The column {name} holds lists or structures; {option} needs plain values.")
    close = [one for one in names if one.lower() == name.lower()] or difflib.get_close_matches(name, names, 1, 0.6)
    raise UserError(
        f"{table.path.name} has no column {name!r} ({option}).",
        hint=f"Did you mean {close[0]}?" if close else f"It has {', '.join(names[:12])}{'…' * (len(names) > 12)}.",
    )


def _distinct(roles: Mapping[str, str], drop: Collection[str], keep: Collection[str]) -> None:
    names = list(roles.values())
    if len(set(names)) < len(names):
        raise UserError("--label, --id and --time have to name different columns.")
    for option, given in (("--drop", drop), ("--keep", keep)):
        both = sorted(set(given) & set(names))
        if both:
            raise UserError(f"{option} names {both[0]}, which is the id, the label or the time.")
    both = sorted(set(drop) & set(keep))
    if both:
        raise UserError(f"{both[0]} cannot be dropped and kept.")


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def counted(fates: Sequence[Fate]) -> dict[str, int]:
    """How many columns have each role."""
    return {role: sum(fate.role == role for fate in fates) for role in ("used", "left out")}
