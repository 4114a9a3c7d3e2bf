"""Where the files of a source lie: in a folder of this machine, or in a bucket of an object store.

Lives here: what a place offers to the files connector, the folder, and which names a glob matches. Must not live here: the
object stores (`bucket.py`), what files hold (`file_checks.py`), how they are read (`files.py`).

A file has one name for everybody, its path or its URL: in the ledger, in quarantine and in messages. Where DuckDB reads a copy,
the copy's path is turned back into that name before anybody sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote

from core.errors import Fatal, Retriable
from core.source_settings import FilesSource
from core.warehouse import literal
from sources.base import FileVersion

_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart")
_UNSAFE = re.compile(r"[%*?\[\]{}\\\x00-\x1f]")
"""What DuckDB would take for a glob, and what stands for such a character."""


@dataclass(frozen=True)
class Found:
    """A file that a glob matches: its path or URL, its `size` in bytes, when it was changed, and, where the place tells versions
    apart by it, what it calls this one."""

    path: str
    size: int
    mtime_ns: int
    version: str | None = None

    @property
    def appears_whole(self) -> bool:
        """Whether the file cannot be half-written: an object is there when its upload is complete, and not before."""
        return self.version is not None

    def unread(self) -> FileVersion:
        """What is known of the file before it is read."""
        return FileVersion(self.path, self.size, self.mtime_ns, self.version or "")


@dataclass(frozen=True)
class Here:
    """Files where DuckDB can read them: at their names, or as `copies`, a folder that stands for the URL `base`."""

    copies: Path | None = None
    base: str = ""

    def path(self, name: str) -> Path:
        """Where the file of this name is to be read."""
        return Path(name) if self.copies is None else self.copies / _quoted(name.removeprefix(self.base))

    def named(self, path: str) -> str:
        """SQL that turns the SQL expression `path`, where a file was read, into its name.

        DuckDB does it once for a file, not for each row: an index into a list of names cost 0.4 s for a million rows.
        """
        if self.copies is None:
            return path
        return f"url_decode({literal(_quoted(self.base))} || substr({path}, {len(str(self.copies)) + 2}))"

    def told(self, message: str) -> str:
        """What others say of the files, by their names."""
        if self.copies is None:
            return message
        copy = re.escape(f"{self.copies}/") + r"([^\s\"',]*)"
        return re.sub(copy, lambda found: self.base + unquote(found[1]), message)


class Place(Protocol):
    """A folder or a bucket."""

    is_far: bool
    """Whether files have to be fetched, and are worth to be fetched a few at a time."""

    def find(self, patterns: Sequence[str], *, label: str, may_be_none: bool = False) -> list[Found]:
        """The files that match, in the order of their names.

        Raises `Fatal` when the place is missing, or nothing matches and `may_be_none` does not allow it; `Retriable` when
        it does not answer.
        """
        ...

    def here(self, files: Sequence[FileVersion], *, label: str) -> AbstractContextManager[Here]:
        """The files, where they can be read while the context lasts.

        Raises `Retriable` for one that changed or went since it was found.
        """
        ...

    def check_unchanged(self, files: Sequence[FileVersion], *, label: str) -> None:
        """Raise `Retriable` when one of the files may have changed while it was read."""
        ...


class Folder:
    """A folder of this machine, whose files are read where they are."""

    is_far = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, patterns: Sequence[str], *, label: str, may_be_none: bool = False) -> list[Found]:
        """See `Place.find`."""
        if not self.path.is_dir():
            raise Fatal(f"{label}: there is no folder {self.path}.", hint="Check the source's `path`.")
        paths = {
            path
            for pattern in patterns
            for path in self.path.glob(pattern)
            if path.is_file() and not is_left_out(path.name)
        }
        if not paths and not may_be_none:
            raise nothing_matches(label, patterns, str(self.path))
        stats = [(path, path.stat()) for path in sorted(paths)]
        return [Found(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]

    @contextmanager
    def here(self, files: Sequence[FileVersion], *, label: str) -> Iterator[Here]:
        """See `Place.here`."""
        yield Here()

    def check_unchanged(self, files: Sequence[FileVersion], *, label: str) -> None:
        """See `Place.check_unchanged`."""
        for version in files:
            stat = Path(version.path).stat()
            if (stat.st_size, stat.st_mtime_ns) != (version.size, version.mtime_ns):
                raise Retriable(f"{label}: {version.path} changed while it was read.")


def open_place(source: FilesSource, *, temp_directory: Path) -> Place:
    """The place that a source's `path` names."""
    assert source.path is not None
    if isinstance(source.path, Path):
        return Folder(source.path)
    from sources.bucket import Bucket  # the library of object stores, which most companies do without

    return Bucket(source.path, source.bucket, temp_directory=temp_directory)


def is_left_out(name: str) -> bool:
    """Whether a file's own name says that it is hidden, or not finished."""
    return name.startswith(".") or PurePosixPath(name).suffix in _UNFINISHED


def nothing_matches(label: str, patterns: Sequence[str], where: str) -> Fatal:
    """What is said when globs find nothing."""
    return Fatal(f"{label}: no file matches {', '.join(patterns)} in {where}.", hint="Check the stream's `files`.")


def matches(path: str, pattern: str) -> bool:
    """Whether a path below a place matches a glob, as `Path.glob` would have it: `*` stays within a folder, `**` does not."""
    return _match(tuple(path.split("/")), _parts(pattern))


def stem(pattern: str) -> tuple[str, bool]:
    """The folders that a glob names without a wildcard, and whether all that it matches lies right in them, not below."""
    *folders, _ = _parts(pattern)
    fixed = list(takewhile(lambda name: not re.search(r"[*?\[]", name), folders))
    return "/".join(fixed), fixed == folders


@lru_cache
def _parts(pattern: str) -> tuple[str, ...]:
    return PurePosixPath(pattern).parts


def _match(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns or not names:
        return not patterns and not names
    if patterns[0] == "**":
        return any(_match(names[n:], patterns[1:]) for n in range(len(names)))
    return fnmatchcase(names[0], patterns[0]) and _match(names[1:], patterns[1:])


def _quoted(key: str) -> str:
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", key)
