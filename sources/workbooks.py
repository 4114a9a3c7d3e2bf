"""Sheets of Excel workbooks, written out as CSV.

Lives here: which sheet is meant, and a cell as text. Must not live here: what its columns mean (`mapping.py`), when it is read
(`copies.py`).

Excel keeps every number as a floating-point number, and shows no more than 15 digits of it: a whole number is written in digits, a
longer one with its exponent, so that an id of that kind is refused rather than rounded (`texts.py`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, TextIO

from core.errors import Fatal

_EXACT = 10**15
_OPEN_AS = "Save it as .xlsx or as CSV."


def write_csv(path: Path, target: TextIO, *, sheet: str | None, name: str) -> None:
    """Write the rows of a workbook's `sheet` to `target`. Without a name, it is the only one that holds anything.

    Raises `Fatal` for what is no workbook, or is protected by a password, and where it cannot be said which sheet is meant.
    """
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError  # which most companies do without

    try:
        with path.open("rb") as file, CalamineWorkbook.from_filelike(file) as workbook:
            names = workbook.sheet_names
            if sheet is not None and sheet not in names:
                raise Fatal(f"{name} has no sheet {sheet!r}.", hint=f"It has {', '.join(names)}.")
            sheets = {one: workbook.get_sheet_by_name(one) for one in ([sheet] if sheet is not None else names)}
            filled = {one: found for one, found in sheets.items() if found.total_height}
            if not filled:
                raise Fatal(f"{name} has no rows{f' in sheet {sheet!r}' if sheet else ''}.")
            if len(filled) > 1:
                raise Fatal(f"{name} has more than one sheet: {', '.join(filled)}.", hint="Set `sheet` on the stream.")
            _write(next(iter(filled.values())).iter_rows(), target)
    except PasswordError as error:
        raise Fatal(f"{name} is protected by a password.", hint="Save it without one.") from error
    except (CalamineError, OSError) as error:
        raise Fatal(f"{name} is not a readable Excel workbook: {error}.", hint=_OPEN_AS) from error


def _write(rows: Iterable[list[Any]], target: TextIO) -> None:
    """The rows from the first that holds anything on, less those that are empty."""
    writer = csv.writer(target, lineterminator="\n")
    for row in rows:
        texts = [_text(value) for value in row]
        if any(texts):
            writer.writerow(texts)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return f"{value:e}"
    if isinstance(value, (datetime, date, time)):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, timedelta):
        return str(value.total_seconds() / 86_400)
    return str(value).strip()
