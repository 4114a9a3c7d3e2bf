"""A flat file as columns of numbers and texts: CSV (also .gz, .zst), Parquet, JSON lines, through DuckDB.

Lives here: whether the file is there and whole, how it is read, which texts say "missing". Must not live here: what a column
means (`ml/columns.py`), ids and labels (`ml/flat.py`).

All columns of a CSV are read as text, and a column whose texts are all plain numbers comes out as float64: types do not hang
on a sample of rows, and a column that the model knows as text is read as text even if one small file holds only digits.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core import warehouse
from core.errors import UserError
from core.placeholders import NULL_WORDS
from core.warehouse import Connection, identifier, literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
_DELIMITERS = (",", ";", "\t", "|")
_HEAD_BYTES = 1 << 16
_MOST_COLUMNS = 5_000


@dataclass(frozen=True)
class RawTable:
    """A file as it was read."""

    path: Path
    frame: pd.DataFrame
    """(n, c): float64 (NaN = missing) or object columns of trimmed texts (None = missing), in the file's order."""
    nested: tuple[str, ...] = ()
    """Columns that hold lists, structures or bytes; they are not in `frame`."""
    raw: dict[str, NDArray[Any]] | None = None
    """Columns in the file's own type, for those that were asked for."""


def read(
    path: Path,
    *,
    texts: Collection[str] = (),
    raw: Collection[str] = (),
    only: Collection[str] | None = None,
    memory_limit: str = "2GB",
    threads: int = 2,
    temp_directory: Path | None = None,
) -> RawTable:
    """Read the file at `path`. `texts` are columns that stay text even if they hold numbers; `raw` columns are also given as
    they are; `only` reads these columns and no others (those that are there).

    Raises `UserError` with one sentence when there is no such file, or it is empty, cut off, or not of its format.
    """
    kind = _kind(path)
    _whole(path, kind)
    try:
        with warehouse.scratch(memory_limit, threads, temp_directory) as connection:
            connection.execute(f"create table t as select * from {_reader(path, kind)}")
            return _columns(connection, path, set(texts), set(raw), None if only is None else set(only))
    except warehouse.Error as error:
        raise UserError(f"{path} cannot be read: {_sentence(error)}", hint=_hint(kind)) from None


def _kind(path: Path) -> str:
    if path.is_dir():
        raise UserError(f"{path} is a folder; a table is one file.")
    if not path.exists():
        raise UserError(f"There is no file {path}.")
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    kind = FORMATS.get(plain.suffix.lower())
    if kind is None or (kind == "parquet" and plain != path):
        raise UserError(
            f"{path.name} has no ending that says what it is.",
            hint="Read are .csv, .tsv, .jsonl (also .gz and .zst) and .parquet.",
        )
    return kind


def _whole(path: Path, kind: str) -> None:
    """DuckDB reads a cut-off gzip or zstd file up to the cut without a word, so the stream is walked to its end."""
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes).")
        if kind == "parquet":
            with path.open("rb") as stream:
                starts = stream.read(4) == b"PAR1"
                stream.seek(max(0, path.stat().st_size - 4))
                if not starts or stream.read(4) != b"PAR1":
                    raise UserError(f"{path} is not a whole Parquet file.", hint="Write it again.")
            return
        compression = COMPRESSED.get(path.suffix.lower())
        if compression is not None:
            import pyarrow as pa

            with pa.input_stream(str(path), compression=compression) as stream:
                while stream.read(1 << 20):
                    pass
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}", hint="Is the file whole?") from None


def _head(path: Path) -> bytes:
    import pyarrow as pa

    with pa.input_stream(str(path), compression=COMPRESSED.get(path.suffix.lower())) as stream:
        return bytes(stream.read(_HEAD_BYTES))


def _reader(path: Path, kind: str) -> str:
    where = literal(str(path).replace("[", "[[]").replace("*", "[*]").replace("?", "[?]"))
    if kind == "parquet":
        return f"read_parquet({where})"
    if kind == "jsonl":
        return f"read_json({where}, format = 'auto', sample_size = -1, maximum_depth = 2, convert_strings_to_integers = false)"
    head = _head(path)
    encoding = _encoding(head)
    delimiter, names = _header(head.decode(encoding, "replace"), path)
    columns = ", ".join(f"{literal(name)}: 'varchar'" for name in names)
    return (
        f"read_csv({where}, auto_detect = false, header = true, delim = {literal(delimiter)}, quote = '\"', escape = '\"',"
        f" columns = {{{columns}}}, encoding = {literal(encoding)}, strict_mode = true, max_line_size = 16000000)"
    )


def _encoding(head: bytes) -> str:
    """UTF-8, UTF-16 by its mark, else Latin-1, in which every byte is a letter."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A letter of several bytes may be cut at the end of what was looked at.
        return "utf-8" if error.start >= len(head) - 4 and len(head) == _HEAD_BYTES else "latin-1"
    return "utf-8"


def _header(text: str, path: Path) -> tuple[str, tuple[str, ...]]:
    """The delimiter that yields most columns in the first line, and the names of the columns."""
    text = text.removeprefix("\ufeff")

    def first(delimiter: str) -> list[str]:
        try:
            return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            return []

    delimiter, names = max(((one, first(one)) for one in _DELIMITERS), key=lambda found: len(found[1]))
    if "\x00" in text or not any(name.strip() for name in names) or len(names) > _MOST_COLUMNS:
        raise UserError(f"{path} has no header line.", hint="The first line of a CSV file names the columns.")
    taken: set[str] = set()
    unique = []
    for position, given in enumerate(names):
        name = candidate = given.strip() or f"column_{position + 1}"
        number = 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate.lower())
        unique.append(candidate)
    return delimiter, tuple(unique)


def _columns(connection: Connection, path: Path, texts: set[str], raw: set[str], only: set[str] | None) -> RawTable:
    described = connection.execute("describe t").fetchall()
    types = {str(row[0]): str(row[1]) for row in described if only is None or str(row[0]) in only}
    count = int(warehouse.scalar(connection, "select count(*) from t"))
    nested = tuple(name for name, kind in types.items() if _is_nested(kind))
    plain = {name: kind for name, kind in types.items() if name not in nested}
    as_number = {name for name, kind in plain.items() if name not in texts and _is_number(kind)}
    asked = [name for name, kind in plain.items() if name not in texts and kind == "VARCHAR"]
    as_number |= _clean_numbers(connection, asked)
    found: dict[str, Any] = {}
    names = list(plain)
    for start in range(0, len(names), 50):
        part = names[start : start + 50]
        selected = ", ".join(
            f"{_number(name) if name in as_number else _text(name)} as c{index}" for index, name in enumerate(part)
        )
        answer = connection.execute(f"select {selected} from t").fetchnumpy()
        for index, name in enumerate(part):
            found[name] = _floats(answer[f"c{index}"]) if name in as_number else _objects(answer[f"c{index}"])
    kept = {
        name: connection.execute(f"select {identifier(name)} from t").df().iloc[:, 0].to_numpy()
        for name in raw & set(plain)
    }
    frame = pd.DataFrame(found, index=pd.RangeIndex(count))
    return RawTable(path=path, frame=frame, nested=nested, raw=kept)


def _text(name: str) -> str:
    column = f"trim(cast({identifier(name)} as varchar), ' \t\r\n\u00a0')"
    return f"case when lower({column}) not in ({_missing_list()}) then {column} end"


def _number(name: str) -> str:
    return f"try_cast({_text(name)} as double)"


def _missing_list() -> str:
    return ", ".join(literal(token) for token in NULL_WORDS)


def _clean_numbers(connection: Connection, names: list[str]) -> set[str]:
    """Of the text columns those whose texts are all numbers as a program would write them (or missing)."""
    clean: set[str] = set()
    for start in range(0, len(names), 50):
        part = names[start : start + 50]
        counts = ", ".join(
            f"count(*) filter ({_text(name)} is not null and try_cast({_text(name)} as double) is null)"
            for name in part
        )
        answer = connection.execute(f"select {counts} from t").fetchone()
        assert answer is not None
        clean |= {name for name, odd in zip(part, answer, strict=True) if odd == 0}
    return clean


def _is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(
        ("STRUCT", "MAP", "UNION", "BLOB", "BIT", "INTERVAL", "JSON", "VARIANT")
    )


def _is_number(kind: str) -> bool:
    return kind.startswith(
        ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "U", "FLOAT", "DOUBLE", "DECIMAL")
    ) and (not kind.startswith(("UUID", "UNION")))


def _floats(column: Any) -> NDArray[np.float64]:
    values = np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _objects(column: Any) -> NDArray[np.object_]:
    if isinstance(column, np.ma.MaskedArray):
        values = np.asarray(column.data, dtype=object)
        values[np.ma.getmaskarray(column)] = None
        return values
    return np.asarray(column, dtype=object)


def _sentence(error: Exception) -> str:
    """DuckDB's first line that says something, without its class and without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0].split(": ", 1)[-1] if lines else "no reason given"
    detail = [line for line in lines[1:] if line.startswith(("Expected", "Value with", "Invalid", "Maximum"))]
    return " ".join([first.rstrip("."), *detail[:1]])[:300].rstrip(".") + "."


def _hint(kind: str) -> str:
    return {
        "csv": "Each line needs as many fields as the first line has names.",
        "jsonl": "JSON lines hold one object a line.",
        "parquet": "Write it again.",
    }[kind]
