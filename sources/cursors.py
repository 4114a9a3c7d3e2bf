"""Progress by a cursor column of a table: which columns can be one, how far a load came, and where the next one begins.

Lives here: the order of a cursor's values, and the condition that asks for what is new. Must not live here: reading tables
(`database.py`), what vendors call their positions (`api.py` and the vendors).

A cursor has a total order in time or in number. Text has none: "9" comes after "10", and a T after a space. SQLite takes any value
in any column, so there the values decide, whatever was declared: all of them numbers, or all of them ISO 8601 times, which
`julianday` compares as times (as text, 10:00+02:00 would come after 09:00+00:00).

Progress is never taken from a value beyond the load's own now: one row from a laptop with a wrong clock would hide every change
until then. Such rows are loaded, named, and read again until their time has come. A number may be a time, too: where the smallest one
in the column is a time since 2000 in seconds, milliseconds or microseconds, all of them are times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import sqlalchemy as sa

from core.errors import Fatal
from core.source_settings import StreamConfig
from sources.future import CLOCKS_DIFFER, ZONES_DIFFER, Future

Kind = Literal["time", "number"]
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(minute|hour|day)s?")
_FIRST_YEAR = datetime(2000, 1, 1)
_PER_SECOND = (1, 1_000, 1_000_000)
_SQLITE_TIME = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"


class Cursor:
    """How far one load of a table has come. `reached` is what the next load goes on from, as text."""

    def __init__(
        self, database: sa.Connection, column: sa.Column[Any], config: StreamConfig, *, label: str, now: datetime
    ) -> None:
        self._column, self._label, self._now = column, label, now
        self._look_back = config.look_back
        self._is_sqlite = database.dialect.name == "sqlite"
        self._kind = _kind_of_values(database, column, label) if self._is_sqlite else _declared(column)
        if self._kind is None:
            raise _refused(label, column, f"is {_type_of(column)}")
        self._per_second = self._time_unit(database) if self._kind == "number" else None
        self._newest: Any = None
        self.future = Future(str(column.name))

    # --- where a load begins -------------------------------------------------------------------------------------

    def begin(self, saved: str | None) -> sa.ColumnElement[bool] | None:
        """The condition on rows that are new since `saved`, or None for all rows.

        A cursor that was saved beyond now was taken from a row of the future, by a version that did so: what was missed since
        then is not known, so all is read.
        """
        if saved is not None:
            self._newest = self._parsed(saved)
            if self._newest is None or self._is_beyond(self._newest, timedelta(0)):
                self._newest = None
        back = self._span()  # also where nothing is saved: what cannot be read is reported by the first load
        if self._newest is None:
            return None
        column, start = self._column, self._newest - back
        if self._kind == "time" and self._is_sqlite:
            # julianday counts in double precision, to some 50 microseconds.
            text = (start - timedelta(seconds=1)).isoformat(sep=" ")
            return sa.or_(sa.func.julianday(column) >= sa.func.julianday(text), column.is_(None))
        return sa.or_(column >= self._as_given(start), column.is_(None))

    def _as_given(self, start: Any) -> Any:
        """A value of the column's own type."""
        if self._kind == "time":
            if not issubclass(self._column.type.python_type, datetime):
                return start.date()
            return start.replace(tzinfo=UTC) if getattr(self._column.type, "timezone", False) else start
        number = _python_type(self._column)
        if issubclass(number, (int, float, Decimal)):
            return number(start)
        return int(start) if start == int(start) else float(start)

    def _span(self) -> Any:
        text = self._look_back
        if self._kind == "time":
            match = _SPAN.fullmatch((text or "0 days").strip())
            if match is None:
                raise Fatal(
                    f"{self._label}: look_back {text!r} is not a span of time.",
                    hint="Write for example `3 days`, `12 hours` or `30 minutes`.",
                )
            return timedelta(**{match.group(2) + "s": float(match.group(1))})
        try:
            return Decimal(text or 0)
        except ArithmeticError:
            raise Fatal(
                f"{self._label}: look_back {text!r} is not a number, and the cursor {self._column.name} counts in numbers.",
                hint="Write how far back to read, in the cursor's own unit.",
            ) from None

    # --- how far it comes ----------------------------------------------------------------------------------------

    @property
    def reached(self) -> str | None:
        """The largest value up to now that was read, by this load or one before."""
        if self._newest is None:
            return None
        return self._newest.isoformat() if isinstance(self._newest, datetime) else f"{self._newest:f}"

    def advance(self, values: Sequence[Any], name_of: Callable[[int], str]) -> None:
        """Take note of a batch's values. `name_of` gives a row's name, by its place in the batch."""
        read = [(self._parsed(value), at) for at, value in enumerate(values)]
        found = [(value, at) for value, at in read if value is not None]
        up_to_now = [value for value, _ in found if not self._is_beyond(value, timedelta(0))]
        self._newest = max([*up_to_now, *([] if self._newest is None else [self._newest])], default=None)
        for value, at in found:
            if self._is_beyond(value, self._tolerance(values[at])):
                self.future.note(name_of(at), values[at])

    def _is_beyond(self, value: Any, tolerance: timedelta) -> bool:
        """Whether a value lies further ahead of now than is tolerated."""
        limit = self._now + tolerance
        if self._kind == "time":
            return bool(value > limit)
        return self._per_second is not None and bool(value > _seconds(limit) * self._per_second)

    def _tolerance(self, given: Any) -> timedelta:
        has_zone = self._kind == "number" or (_moment(given) or self._now).tzinfo is not None
        return CLOCKS_DIFFER if has_zone else CLOCKS_DIFFER + ZONES_DIFFER

    def _parsed(self, value: Any) -> Any:
        """A value as what is compared: a time in UTC without a zone, or a number. None where it is neither, or has no order."""
        if value is None:
            return None
        if self._kind == "time":
            moment = _moment(value)
            return moment.astimezone(UTC).replace(tzinfo=None) if moment and moment.tzinfo else moment
        try:
            number = Decimal(str(value))
        except ArithmeticError:
            return None
        return number if number.is_finite() else None

    def _time_unit(self, database: sa.Connection) -> int | None:
        """How many to a second, of numbers that are times; None for other numbers."""
        smallest = self._parsed(database.execute(sa.select(sa.func.min(self._column)).where(self._column > 0)).scalar())
        if smallest is None:
            return None
        first, last = _seconds(_FIRST_YEAR), _seconds(self._now)
        return next((unit for unit in _PER_SECOND if first * unit <= smallest <= last * unit), None)


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None


def _seconds(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp())


def _python_type(column: sa.Column[Any]) -> type:
    try:
        return column.type.python_type
    except NotImplementedError:
        return object


def _declared(column: sa.Column[Any]) -> Kind | None:
    """The order that a column's declared type gives it."""
    kind = _python_type(column)
    if issubclass(kind, date):
        return "time"
    return "number" if issubclass(kind, (int, float, Decimal)) and not issubclass(kind, bool) else None


def _kind_of_values(database: sa.Connection, column: sa.Column[Any], label: str) -> Kind | None:
    """The order of the values in a column of SQLite. Where there are none yet, any will do."""
    kind = sa.func.typeof(column)
    is_number = kind.in_(("integer", "real"))
    is_time = sa.and_(
        kind == "text", column.op("glob")(sa.literal(_SQLITE_TIME)), sa.func.julianday(column).isnot(None)
    )
    counted = sa.select(
        sa.func.count(column),
        sa.func.sum(sa.case((is_number, 1), else_=0)),
        sa.func.sum(sa.case((is_time, 1), else_=0)),
        sa.func.min(sa.case((sa.not_(is_number), sa.cast(column, sa.Text)))),
    )
    declared = _declared(column)
    if _python_type(column) is bool:
        return None
    values, numbers, times, text = database.execute(counted).one()
    if not values:
        return declared or "time"
    if numbers == values and declared != "time":
        return "number"
    if times == values and declared != "number":
        return "time"
    what = f"is {_type_of(column)} and holds {'numbers' if numbers else f'text such as {text!r}'}"
    raise _refused(label, column, what)


def _type_of(column: sa.Column[Any]) -> str:
    shown = str(column.type)
    return "of no type" if shown == "NULL" else shown


def _refused(label: str, column: sa.Column[Any], what: str) -> Fatal:
    return Fatal(
        f"{label}: the cursor {column.name} {what}, which has no order in time or in number, so that rows would be missed.",
        hint="Name a column of a time or a number, such as one of a view that casts it, or leave `cursor` out to read the whole table.",
    )
