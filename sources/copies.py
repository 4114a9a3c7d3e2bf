"""Text files that DuckDB cannot read as they are, written out as plain UTF-8 with line ends of one kind.

Lives here: which files need that, and the copies: of UTF-16, of lines that end in more than one way, of sheets of a workbook. Must not
live here: where files lie (`places.py`), what a workbook's cells hold (`workbooks.py`), how a plain file is read (`files.py`).

Few files need a copy, so it may take its time; it lives as long as the files are read, and messages name the file itself. Line ends
within quotes are kept.
"""

from __future__ import annotations

import codecs
import mmap
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from core import scratch
from core.errors import Fatal
from core.source_settings import StreamConfig
from sources import workbooks
from sources.file_checks import DELIMITERS, WORKBOOKS, Format, head, open_content
from sources.places import Here

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_PIECE = 1 << 20


class Copies:
    """The copies of some files, gone when the context ends."""

    def __init__(self, here: Here, temp_directory: Path) -> None:
        self._originals = here
        self._temp_directory = temp_directory
        self._stack = ExitStack()
        self._here: Here | None = None

    def __enter__(self) -> Copies:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, name: str, format_: Format, config: StreamConfig) -> Here | None:
        """Where a copy of the file called `name` is, or None where it can be read as it is.

        Raises `Fatal` for one that is not text, or not of its encoding.
        """
        path = self._originals.path(name)
        if format_ == "parquet":
            return None
        if format_ == "excel":
            with self._target(name).open("w", encoding="utf-8", newline="") as sheet:
                workbooks.write_csv(path, sheet, sheet=config.sheet, name=name)
            return self._here
        start = head(path)
        encoding = _encoding(start, is_utf16=config.csv.encoding == "utf-16" and format_ == "csv", name=name)
        if encoding is None and not _has_mixed_ends(path):
            return None
        target = self._target(name)
        with open_content(path) as source, target.open("wb") as plain:
            _decode(source, plain, encoding, name)
        if _has_mixed_ends(target, is_copy=True):
            whole = target.rename(target.with_name(target.name + ".mixed"))
            with whole.open("rb") as source, target.open("wb") as plain:
                _unify_ends(source, plain, config if format_ == "csv" else None)
            whole.unlink()
        return self._here

    def _target(self, name: str) -> Path:
        if self._here is None:
            folder = self._stack.enter_context(scratch.folder(self._temp_directory))
            self._here = Here(folder, self._originals.base or ("/" if name.startswith("/") else ""))
        path = self._here.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _encoding(start: bytes, *, is_utf16: bool, name: str) -> str | None:
    """The encoding of a text file that is not UTF-8 (or as `csv.encoding` says), by what it starts with."""
    if start.startswith(_UTF32):
        raise Fatal(f"{name} is encoded in UTF-32.", hint="Write it as UTF-8.")
    if start.startswith(_UTF16) or is_utf16:
        return "utf-16"
    if start.startswith(WORKBOOKS):
        raise Fatal(
            f"{name} is not text but an Excel workbook or an archive.",
            hint="Name a workbook .xlsx, or set `format: excel`; unpack an archive.",
        )
    first_line = start.partition(b"\n")[0]
    if b"\0" in first_line:
        raise Fatal(
            f"{name} is not plain text: its first line has zero bytes, as UTF-16 without a mark at its beginning has.",
            hint="Set `csv: {encoding: utf-16}` if it is, or write it as UTF-8.",
        )
    return None


def _has_mixed_ends(path: Path, *, is_copy: bool = False) -> bool:
    """Whether lines end in more than one way, be it within quotes; 0.1 s for a gigabyte without a carriage return."""
    crlf = lf = cr = 0
    before = b""
    with open_content(path, is_copy=is_copy) as source:
        while piece := source.read(_PIECE):
            if before == b"\r" or b"\r" in piece:
                both = piece.count(b"\r\n") + (before == b"\r" and piece.startswith(b"\n"))
                crlf += both
                cr += piece.count(b"\r") - both
                lf += piece.count(b"\n") - both
            elif not lf:
                lf = piece.count(b"\n")
            before = piece[-1:]
            # A carriage return at the end of a piece may yet be half of a line end.
            if sum((crlf > 0, lf > 0, cr > (before == b"\r"))) > 1:
                return True
    return sum((crlf > 0, lf > 0, cr > 0)) > 1


def _decode(source: BinaryIO, target: BinaryIO, encoding: str | None, name: str) -> None:
    for piece in _decoded(source, encoding, name):
        target.write(piece)


def _decoded(source: BinaryIO, encoding: str | None, name: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)() if encoding else None
    try:
        while piece := source.read(_PIECE):
            yield decoder.decode(piece).encode() if decoder else piece
        if decoder:
            yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise Fatal(f"{name} is not valid {encoding}: {error}.", hint="Deliver it again, as UTF-8.") from error


def _unify_ends(source: BinaryIO, target: BinaryIO, config: StreamConfig | None) -> None:
    """Copy text whose lines then all end in a line feed; within the quotes of a CSV file, as `config` has them, nothing changes."""
    tokens = re.compile(rb"\r\n?" if config is None else _quoted_or_end(config), re.DOTALL)
    with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
        done = 0
        for found in tokens.finditer(content):
            if content[found.start() : found.start() + 1] == b"\r":
                target.write(content[done : found.start()])
                target.write(b"\n")
                done = found.end()
        target.write(content[done:])


def _quoted_or_end(config: StreamConfig) -> bytes:
    csv = config.csv
    if not csv.quote:
        return rb"\r\n?"
    quote, escape = re.escape(csv.quote.encode()), re.escape((csv.escape or csv.quote).encode())
    around = "".join(DELIMITERS) if csv.delimiter is None else csv.delimiter
    # A quote opens a field at its beginning only. Possessive, so that one that is never closed costs no more than a look.
    inside = (
        rb"(?:[^%b%b]++|%b.)*+" % (quote, escape, escape)
        if escape != quote
        else rb"(?:[^%b]++|%b%b)*+" % ((quote,) * 3)
    )
    return rb"(?<![^%b\r\n])%b%b%b|\r\n?" % (re.escape(around.encode()), quote, inside, quote)
