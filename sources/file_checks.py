"""Looking into one file before DuckDB reads it: whether it is whole, what its header says, what its content hashes to.

Lives here: plain functions over one path. Must not live here: DuckDB, the ledger, which files a stream has (`files.py`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.errors import Fatal, Retriable
from core.source_settings import CsvOptions

Format = Literal["csv", "jsonl", "parquet", "excel"]
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How workbooks begin: today's, which are ZIP archives, and those of before 2007."""
SETTLE_SECONDS = 5.0
"""A file younger than this that looks unfinished may still be being written."""

_HEAD_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
_LONGEST_HEADER = 2_000_000
"""DuckDB reads no longer line."""
DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR = re.compile(r'"?sep=(.)"?[,;\t|]*\r?(?:\n|$)', re.IGNORECASE)
"""Excel's own first line of a CSV file, which names the delimiter."""
_BOMS = ("\ufeff", "\u00ef\u00bb\u00bf")


@dataclass(frozen=True)
class Header:
    """A CSV file's delimiter and the names of its columns; one that stands there more than once is numbered, such as `mrr (2)`, and
    is in `repeated`. `skip` is the number of lines before the header."""

    delimiter: str
    columns: tuple[str, ...]
    repeated: tuple[str, ...] = ()
    skip: int = 0


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
    if format_ == "excel":
        with path.open("rb") as stream:
            return None if stream.read(4) in WORKBOOKS else "is not an Excel workbook"
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


def csv_header(path: Path, options: CsvOptions, *, name: str, is_copy: bool = False) -> Header:
    """The first record of a CSV file, called `name` in messages; a copy is never compressed, whatever its name says.

    The delimiter is the candidate that yields most columns: DuckDB's own sniffing looks at data too, and one row with a
    stray comma made it choose `|`; it also took 0.14 s a file, this takes 0.0003 s.
    Raises `Fatal` when there is no header.
    """
    length, text, is_whole = _HEAD_BYTES, "", False
    while not is_whole:
        start = head(path, length, is_copy=is_copy)
        text = start.decode("latin-1" if options.encoding == "latin-1" else "utf-8", "replace")
        for bom in _BOMS:
            text = text.removeprefix(bom)
        named = _SEPARATOR.match(text)
        delimiter = options.delimiter or (named[1] if named else None)
        found = [
            _first_record(text[named.end() if named else 0 :], d, options)
            for d in ([delimiter] if delimiter else DELIMITERS)
        ]
        header = max(found, key=lambda one: len(one.names))
        is_whole = header.is_whole or len(start) < length
        if not is_whole and length > _LONGEST_HEADER:
            raise Fatal(
                f"{name}: the header is longer than {_LONGEST_HEADER:,} characters.",
                hint="Is a quote in it opened and not closed? Else deliver fewer columns.",
            )
        length *= 2
    if not any(one.strip() for one in header.names):
        raise Fatal(f"{name} has no header line.", hint="The first line must name the columns.")
    if any("\0" in one for one in header.names):
        raise Fatal(
            f"{name} has zero bytes in its header.", hint="Is it a CSV file, and is `csv: {encoding: …}` right?"
        )
    columns, repeated = unique(header.names)
    return Header(header.delimiter, columns, repeated, skip=1 if named else 0)


@dataclass(frozen=True)
class _Record:
    delimiter: str
    names: list[str]
    is_whole: bool


def _first_record(text: str, delimiter: str, options: CsvOptions) -> _Record:
    own_escape = options.escape != options.quote
    lines = io.StringIO(text, newline="")
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        quotechar=options.quote or None,
        quoting=csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE,
        doublequote=not own_escape,
        escapechar=(options.escape or None) if own_escape else None,
    )
    try:
        names = next(reader, [])
    except csv.Error:
        names = []
    return _Record(delimiter, names, is_whole=lines.tell() < len(text))


def unique(given: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of columns as they can be told apart, and those that stand there more than once: of these all are numbered, since none is
    more than another what a mapping means. A column without a name has that of its position."""
    names = [name.strip() or f"column{position}" for position, name in enumerate(given)]
    repeated = tuple(name for name, n in Counter(names).items() if n > 1)
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} ({seen[name]})" if name in repeated else name)
    return tuple(numbered), repeated


@contextmanager
def open_content(path: Path, *, is_copy: bool = False) -> Iterator[Any]:
    """A file's content for reading, decompressed where its name says that it is compressed."""
    import pyarrow as pa

    compression = None if is_copy else COMPRESSED.get(path.suffix.lower())
    with pa.input_stream(str(path), compression=compression) as stream:
        yield stream


def head(path: Path, length: int = _HEAD_BYTES, *, is_copy: bool = False) -> bytes:
    """The beginning of the content, decompressed."""
    with open_content(path, is_copy=is_copy) as stream:
        return bytes(stream.read(length))


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
