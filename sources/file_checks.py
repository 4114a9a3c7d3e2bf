"""Looking into one file before DuckDB reads it: whether it is whole, what its header says, what its content hashes to.

Lives here: plain functions over one path. Must not live here: DuckDB, the ledger, which files a stream has (`files.py`).
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.errors import Fatal, Retriable
from core.source_settings import CsvOptions

Format = Literal["csv", "jsonl", "parquet"]
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
SETTLE_SECONDS = 5.0
"""A file younger than this that looks unfinished may still be being written."""

_HEAD_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
_DELIMITERS = (",", ";", "\t", "|")
_BOMS = ("\ufeff", "\u00ef\u00bb\u00bf")


@dataclass(frozen=True)
class Header:
    """A CSV file's delimiter and column names, made unique as DuckDB would."""

    delimiter: str
    columns: tuple[str, ...]


def check_complete(path: Path, size: int, format_: Format, *, age_seconds: float, name: str, is_cut: bool) -> None:
    """Tell an empty or half-written file, called `name` in messages, from a whole one.

    DuckDB reads a cut-off gzip or zstd file up to the cut without a word: `is_cut` says that its end was not found (`content_hash`).
    Raises `Fatal` (empty, cut off, not of its format) or `Retriable` (young enough to be still being written).
    """
    young = 0 <= age_seconds < SETTLE_SECONDS
    problem = _problem(path, size, format_, young=young, is_cut=is_cut)
    if problem is None:
        return
    if young:
        raise Retriable(f"{name} may still be being written: {problem}, and it is {age_seconds:.0f} s old.")
    raise Fatal(f"{name} {problem}.", hint="Deliver it again, or take it away.")


def _problem(path: Path, size: int, format_: Format, *, young: bool, is_cut: bool) -> str | None:
    if size == 0:
        return "is empty (0 bytes)"
    if format_ == "parquet":
        with path.open("rb") as stream:
            starts = stream.read(4) == b"PAR1"
            stream.seek(max(0, size - 4))
            ends = stream.read(4) == b"PAR1"
        return None if starts and ends else "is not a whole Parquet file"
    compression = COMPRESSED.get(path.suffix.lower())
    if compression is not None:
        return f"is not a whole {compression} file ({_cut(path, compression)})" if is_cut else None
    if young:
        with path.open("rb") as stream:
            stream.seek(-1, 2)
            if stream.read(1) not in (b"\n", b"\r"):
                return "does not end in a new line"
    return None


def _cut(path: Path, compression: str) -> str | None:
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            while stream.read(1 << 20):
                pass
    except OSError as error:
        return str(error)
    return None


def csv_header(path: Path, options: CsvOptions, *, name: str) -> Header:
    """The first record of a CSV file, called `name` in messages.

    The delimiter is the candidate that yields most columns: DuckDB's own sniffing looks at data too, and one row with a
    stray comma made it choose `|`; it also took 0.14 s a file, this takes 0.0003 s.
    Raises `Fatal` when there is no header.
    """
    text = head(path).decode({"utf-8": "utf-8", "latin-1": "latin-1", "utf-16": "utf-16"}[options.encoding], "replace")
    for bom in _BOMS:
        text = text.removeprefix(bom)
    candidates = _DELIMITERS if options.delimiter is None else (options.delimiter,)
    delimiter, names = max(((d, _first_record(text, d, options)) for d in candidates), key=lambda found: len(found[1]))
    if not any(name.strip() for name in names):
        raise Fatal(f"{name} has no header line.", hint="The first line must name the columns.")
    return Header(delimiter, _unique(names))


def _first_record(text: str, delimiter: str, options: CsvOptions) -> list[str]:
    own_escape = options.escape != options.quote
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=options.quote or None,
        quoting=csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE,
        doublequote=not own_escape,
        escapechar=(options.escape or None) if own_escape else None,
    )
    try:
        return next(reader, [])
    except csv.Error:
        return []


def _unique(names: list[str]) -> tuple[str, ...]:
    taken: set[str] = set()
    unique = []
    for position, given in enumerate(names):
        name = given.strip() or f"column{position}"
        candidate, n = name, 0
        while candidate.lower() in taken:
            n += 1
            candidate = f"{name}_{n}"
        taken.add(candidate.lower())
        unique.append(candidate)
    return tuple(unique)


def head(path: Path) -> bytes:
    """The first 64 KB of the content, decompressed."""
    import pyarrow as pa

    with pa.input_stream(str(path), compression=COMPRESSED.get(path.suffix.lower())) as stream:
        return bytes(stream.read(_HEAD_BYTES))


def content_hash(path: Path, format_: Format) -> str | None:
    """The hash of what is inside a file, decompressed, in hexadecimal; None where it cannot be decompressed to its end.

    A header alone holds nothing that could be there twice: it is told apart by the file's name, too.
    """
    import pyarrow as pa

    digest = hashlib.sha256()
    try:
        with pa.input_stream(str(path), compression=COMPRESSED.get(path.suffix.lower())) as stream:
            first = piece = stream.read(_PIECE_BYTES)
            while piece:
                digest.update(piece)
                piece = stream.read(_PIECE_BYTES)
    except OSError:
        return None
    is_header = format_ == "csv" and sum(1 for line in first[:_HEAD_BYTES].splitlines() if line.strip()) < 2
    return f"{digest.hexdigest()} {path.name}" if is_header and len(first) < _HEAD_BYTES else digest.hexdigest()
