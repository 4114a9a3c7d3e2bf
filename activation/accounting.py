"""What destinations share when they account for a batch: rows that no answer names, values as text, values read back.

Lives here: pure functions between changes, answers and results. Must not live here: any vendor's words, any I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from activation.base import Change, RowResult, Value

UNACCOUNTED = "unaccounted"


def complete(
    batch: Sequence[Change],
    results: Iterable[RowResult],
    *,
    host: str,
    http_status: int | None = None,
    request_id: str | None = None,
    told: str | None = None,
) -> list[RowResult]:
    """One result for each change of `batch`: the first that `results` has for it, or the failure that nothing was said.

    A row that a successful answer does not name may or may not have been written: it is sent again. `told` is what the answer
    said without naming a row.
    """
    found: dict[str, RowResult] = {}
    for result in results:
        found.setdefault(result.key, result)
    sentence = f"{host} answered {http_status or 'success'} without a word about this row." + (
        f" {told}" if told else ""
    )

    def missing(change: Change) -> RowResult:
        return RowResult(
            change.key,
            "retriable",
            http_status=http_status,
            error_code=UNACCOUNTED,
            error=sentence,
            request_id=request_id,
        )

    return [found.get(change.key) or missing(change) for change in batch]


def unsendable(batch: Sequence[Change]) -> tuple[list[Change], list[RowResult]]:
    """The changes that can be sent, and a rejection for each that holds a number that is none (NaN, infinity) or a text that is
    no Unicode (half a pair of surrogates): neither can be written as JSON."""
    good, bad = [], []
    for change in batch:
        wrong = None if _is_text(change.key) else ("The key", "not_text", "is not valid Unicode")
        for name, value in change.values.items():
            if isinstance(value, (float, Decimal)) and not math.isfinite(value):
                wrong = (name, "not_a_number", "is not a finite number")
            elif isinstance(value, str) and not _is_text(value):
                wrong = (name, "not_text", "is not valid Unicode")
        if wrong is None:
            good.append(change)
        else:
            name, code, said = wrong
            bad.append(RowResult(change.key, "rejected", error_code=code, error=f"{name} {said}."))
    return good, bad


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def number_text(value: int | float | Decimal) -> str:
    """A number in digits, never with an exponent: 1e-05 is 0.00001."""
    if isinstance(value, int):
        return str(value)
    return format(value if isinstance(value, Decimal) else Decimal(repr(value)), "f")


def moment_text(value: datetime) -> str:
    """A moment as ISO 8601 in UTC with milliseconds; one without a zone is UTC."""
    moment = value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_value(value: Value) -> str | int | float | bool | None:
    """A value as JSON has it: decimals as numbers, dates as ISO 8601."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return moment_text(value)
    return value.isoformat() if isinstance(value, date) else value


def like(wanted: Value, found: object) -> Value:
    """A value that was read back, in the type of what we would send; as it is where it does not fit, None where it is empty."""
    if found is None or found == "":
        return None
    with suppress(ValueError, InvalidOperation, OverflowError):
        text = str(found)
        if isinstance(wanted, bool):
            return {"true": True, "false": False}.get(text.lower(), text)
        if isinstance(wanted, Decimal):
            return Decimal(text)
        if isinstance(wanted, float):
            return float(text)
        if isinstance(wanted, int):
            return int(text) if text.lstrip("-").isdigit() else float(text)
        if isinstance(wanted, datetime):
            moment = datetime.fromisoformat(text)
            if wanted.tzinfo is None and moment.tzinfo is not None:
                return moment.astimezone(UTC).replace(tzinfo=None)
            return moment
        if isinstance(wanted, date):
            return date.fromisoformat(text[:10])
    return found if isinstance(found, (str, int, float, bool, Decimal, date, datetime)) else str(found)


def likes(change: Change, found: Mapping[str, object]) -> dict[str, Value]:
    """The fields of `change` as they were read back."""
    return {name: like(value, found.get(name)) for name, value in change.values.items()}
