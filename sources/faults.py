"""What can be wrong with a row and with one of its values, as SQL over mapped rows.

Lives here: the checks of values and rows, their reasons, and the sentences that say what was given. Must not live here: how values
are read (`mapping.py`, `timestamps.py`, `numbers.py`), what becomes of a row (`load.py`, `quarantine.py`).

A value that the row cannot do without breaks the row: a required one, the key, and the end of what ends, since an empty end says
that it still runs. Any other is NULL where it cannot be read, and its row notes it in `_unread`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from core.contract import Column, Entity
from core.source_settings import ColumnMapping
from core.warehouse import identifier, literal
from sources import timestamps
from sources.numbers import AMBIGUOUS

UNREAD = '[{"column": "VARCHAR", "reason": "VARCHAR", "detail": "VARCHAR"}]'
"""The shape of `_unread`, JSON: the values of a row that could not be read, each with why and what was given."""
_ZONE = (
    " names a zone by an abbreviation, which several zones share: have the source write an offset (+01:00), UTC or a Region/City"
    " (Europe/London), or let the mapping's SQL say the zone: timezone('Europe/London', cast(left(x, 19) as timestamp))"
)
_INEXACT = " is not exact: it went through a floating-point number or Excel; deliver ids as text or as whole numbers"
_UNIT = " is a number, not a date: set its unit as `format`: epoch, epoch_ms, epoch_us, epoch_ns or excel"
_COMMA = ': if its comma is a decimal one, set `decimal: ","` of the stream'


@dataclass(frozen=True)
class Fault:
    """One way to break the contract. All is SQL over the typed row: whether it is so, its reason (a word), and the detail (a
    sentence)."""

    predicate: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Reading:
    """How a column was read, as SQL over the typed row: whether a value could not be (None: all can), and, where a number of the
    column may be ambiguous, what to do (None: none is)."""

    fails: str | None
    advice: str | None = None


@dataclass(frozen=True)
class Checks:
    """The checks of mapped rows: those that break a row, in the order in which the first that holds is its reason, those of each
    column's values, and the columns whose values break their row."""

    rows: tuple[Fault, ...]
    values: Mapping[str, tuple[Fault, ...]]
    binding: frozenset[str]
    timestamps: frozenset[str]

    @property
    def optional(self) -> dict[str, tuple[Fault, ...]]:
        """The checks whose values are NULL where they fail."""
        return {name: faults for name, faults in self.values.items() if faults and name not in self.binding}

    @property
    def shown(self) -> set[str]:
        """Columns of which the checks ask what was given."""
        return {name for name, faults in self.values.items() if faults}

    def cleared(self) -> list[str]:
        """SQL of the columns that are NULL where their value could not be read, or says that there is none."""
        found = {name: _any(faults) for name, faults in self.optional.items()}
        for name in self.timestamps:
            unset = timestamps.is_unset(identifier(name))
            found[name] = f"{found[name]} or {unset}" if name in found else unset
        return [
            f"case when not coalesce({bad}, false) then {identifier(n)} end as {identifier(n)}"
            for n, bad in found.items()
        ]

    def unread(self) -> str:
        """SQL of `_unread`, over rows with `_fault`."""
        listed = [faults for faults in self.values.values() if faults]
        if not listed:
            return "cast(null as varchar)"
        each = ", ".join(f"case {_cases(name, faults)} end" for name, faults in self.values.items() if faults)
        anything = " or ".join(["_fault is not null", *(_any(faults) for faults in self.optional.values())])
        noted = f"to_json(list_filter([{each}], lambda u: u is not null))"
        return f"case when {anything} then nullif(cast({noted} as varchar), '[]') end"


def binding_columns(entity: Entity, unasked: Collection[str]) -> frozenset[str]:
    """The columns whose values break their row where they cannot be read; `unasked` ones may be empty."""
    return frozenset(
        column.name
        for column in entity.columns
        if (column.required and column.name not in unasked)
        or column.name in (entity.key, entity.ended_at, "account_id")
    )


def checks(
    entity: Entity,
    mappings: Mapping[str, ColumnMapping],
    readings: Mapping[str, Reading],
    *,
    now: datetime,
    earliest: datetime,
    unasked: Collection[str],
    unrepresentable: Mapping[str, Sequence[str]],
) -> Checks:
    """The checks of rows of `entity` that are mapped by `mappings`; `unasked` columns may be empty though the contract requires them.
    `unrepresentable` are the source's columns that an optional column is read from and whose values `_unreadable` may list."""
    binding = binding_columns(entity, unasked)
    unreadable = {
        column.name: _unreadable(column, mappings.get(column.name), readings.get(column.name))
        for column in entity.columns
    }
    implausible = {
        column.name: _implausible(column, mappings[column.name], now, earliest) if column.name in mappings else []
        for column in entity.columns
    }
    disordered = [(later, _disordered(earlier, later)) for earlier, later in entity.ordered]
    may_be_empty = set(unasked) | ({entity.key} if entity.key_is_optional and entity.key not in mappings else set())
    empty = [
        _empty(column, entity)
        for column in entity.columns
        if (column.required or column.name == entity.key) and column.name not in may_be_empty
    ]
    values = {
        name: (
            *(_unrepresentable(entity.column(name), names) for names in [unrepresentable.get(name)] if names),
            *unreadable[name],
            *implausible[name],
            *(fault for later, fault in disordered if later == name),
        )
        for name in entity.column_names
    }
    return Checks(
        rows=(
            *(fault for name in entity.column_names if name in binding for fault in unreadable[name]),
            *empty,
            *(fault for name in entity.column_names if name in binding for fault in implausible[name]),
            *(fault for later, fault in disordered if later in binding),
        ),
        values=values,
        binding=binding,
        timestamps=frozenset(
            column.name
            for column in entity.columns
            if column.type == "timestamp" and not column.required and column.name in mappings
        ),
    )


def unrepresentable_row(optional: Collection[str], personal: Collection[str]) -> Fault:
    """The row has a value that no text or number can hold, in a column of its source that is not among those that only `optional`
    columns of the contract are read from. Values of `personal` ones are not repeated."""
    others = f"list_filter(_unreadable, lambda u: not list_contains({_list(optional)}, u.name))"
    first = f"{others}[1]"
    shown = f"case when list_contains({_list(personal)}, {first}.name) then {first}.name || ' cannot be read' else {first}.detail end"
    return Fault(f"_unreadable is not null and len({others}) > 0", "'unreadable_value'", shown)


def _unrepresentable(column: Column, names: Collection[str]) -> Fault:
    found = f"list_filter(_unreadable, lambda u: list_contains({_list(names)}, u.name))"
    detail = literal(f"{column.name} cannot be read") if column.personal else f"{found}[1].detail"
    return Fault(f"_unreadable is not null and len({found}) > 0", "'unreadable_value'", detail)


def _list(names: Collection[str]) -> str:
    return f"cast([{', '.join(literal(name) for name in sorted(names))}] as varchar[])"


def _unreadable(column: Column, mapping: ColumnMapping | None, reading: Reading | None) -> list[Fault]:
    """The check whether a value could be read at all. Only for those that could not is it asked why."""
    if mapping is None or reading is None or reading.fails is None:
        return []
    given, kinds = _text(column), list[tuple[str, str, str]]()
    if column.type == "timestamp":
        kinds.append((timestamps.names_zone(given), "ambiguous_zone", _ZONE))
        if mapping.format is None:
            kinds.append((f"regexp_matches({given}, '^ *[0-9]+([.][0-9]+)? *$')", "impossible_date", _UNIT))
        otherwise = ("impossible_date", " is not a date")
    elif column.type == "id":
        # An expression that fails gives nothing to show.
        kinds.append((f"{given} is null", "inexact_id", ""))
        otherwise = ("inexact_id", _INEXACT)
    else:
        if reading.advice is not None:
            is_ambiguous = f"regexp_matches({given}, {literal(AMBIGUOUS)})"
            kinds.append((is_ambiguous, "ambiguous_number", f" {reading.advice}"))
        if column.type != "text":
            kinds.append(
                (f"regexp_matches({given}, '[0-9],[0-9]')", "wrong_type", f" is not of type {column.type}{_COMMA}")
            )
        otherwise = ("wrong_type", f" is not of type {column.type}")
    reasons = " ".join(f"when {asked} then {literal(code)}" for asked, code, _ in kinds)
    details = " ".join(
        f"when {asked} then {_says(column, what) if what else literal(column.name + ' cannot be read')}"
        for asked, _, what in kinds
    )
    code, what = otherwise
    if not kinds:
        return [Fault(reading.fails, literal(code), _says(column, what))]
    return [
        Fault(
            reading.fails,
            f"case {reasons} else {literal(code)} end",
            f"case {details} else {_says(column, what)} end",
        )
    ]


def _empty(column: Column, entity: Entity) -> Fault:
    code = "null_key" if column.name in (entity.key, "account_id") else "missing_value"
    quoted, detail = identifier(column.name), literal(f"{column.name} is empty")
    if column.type != "timestamp" and column.personal:
        return Fault(f"{quoted} is null", literal(code), detail)
    if column.type != "timestamp":
        word = _says(column, " stands for a missing value")
        nothing = f"nullif(trim({_text(column)}), '') is null"
        return Fault(f"{quoted} is null", literal(code), f"case when {nothing} then {detail} else {word} end")
    unset = f"case when {_text(column)} is not null then ' (' || {_text(column)} || ' means that no date is set)' else '' end"
    return Fault(f"({quoted} is null or {timestamps.is_unset(quoted)})", literal(code), f"{detail} || {unset}")


def _implausible(column: Column, mapping: ColumnMapping, now: datetime, earliest: datetime) -> list[Fault]:
    quoted = identifier(column.name)
    if column.type == "timestamp":
        first, last = timestamps.limits(now, earliest=earliest, is_planned=column.future)
        outside = f"({quoted} < timestamp '{first}' or {quoted} > timestamp '{last}')"
        what = f" lies outside {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        if mapping.format in timestamps.EPOCHS or mapping.format == timestamps.EXCEL:
            read = f"case when isfinite({quoted}) then strftime({quoted}, '%Y-%m-%d') else '' end"
            unit = f" as `format: {mapping.format}`, which{what}: is it in another unit?"
            detail = f"{_says(column, ' would be ')} || {read} || {literal(unit)}"
        else:
            detail = _says(column, what)
        return [Fault(f"{outside} and not {timestamps.is_unset(quoted)}", "'impossible_date'", detail)]
    limits = [("<", column.minimum, "below"), (">", column.maximum, "above")]
    found = [
        Fault(f"{quoted} {sign} {limit:g}", "'out_of_range'", _says(column, f" is {word} {limit:g}"))
        for sign, limit, word in limits
        if limit is not None
    ]
    if column.type == "double":
        found.append(Fault(f"isinf({quoted})", "'out_of_range'", _says(column, " is not finite")))
    return found


def disordered(entity: Entity) -> list[Fault]:
    """The checks of rows that must not end before they begin."""
    return [_disordered(earlier, later) for earlier, later in entity.ordered if later == entity.ended_at]


def _disordered(earlier: str, later: str) -> Fault:
    first, last = identifier(earlier), identifier(later)
    return Fault(
        f"{last} < {first} and not {timestamps.is_unset(last)}",
        "'end_before_start'",
        f"{literal(later + ' ')} || cast({last} as varchar) || {literal(f' is before {earlier} ')} || cast({first} as varchar)",
    )


def _text(column: Column) -> str:
    return f"cast({identifier('_given_' + column.name)} as varchar)"


def _says(column: Column, what: str) -> str:
    """SQL for a sentence such as: mrr '-12' is below 0. Personal values are not repeated."""
    if column.personal:
        return literal(f"{column.name}{what}")
    given = f"coalesce(left({_text(column)}, 60), '(unreadable)')"
    return f"{literal(column.name + ' ')} || '''' || {given} || '''' || {literal(what)}"


def _any(faults: Sequence[Fault]) -> str:
    return " or ".join(f"({fault.predicate})" for fault in faults)


def _cases(name: str, faults: Sequence[Fault]) -> str:
    return " ".join(
        f"when {fault.predicate} then {{'column': {literal(name)}, 'reason': {fault.reason}, 'detail': {fault.detail}}}"
        for fault in faults
    )
