"""Files of a home that are no DuckDB file: SQLite databases, logs, pages, JSON, and what lies beside them.

Lives here: finding the subject in a file, and the same file without it. Must not live here: which words are looked for (`texts.py`),
folders that a destination owns (`activation/`).

A SQLite database is changed in place, with freed pages overwritten, and written anew (`vacuum`). A text file is written again beside
its place and moved onto it. A file that is neither, such as a model, is only looked through: what it holds is reported as left.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from core.errors import Retriable
from core.suppression import sync_folder
from orchestration.erasure.texts import Words

_SQLITE = b"SQLite format 3\x00"
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
_BUSY_SECONDS = 30


def files_in(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, or `folder` itself, that is one to look through."""
    found = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    for path in found:
        if ".duckdb" in path.name or path.is_symlink() or path.name.endswith(_BESIDE_SQLITE):
            continue
        yield path


def holds(path: Path, words: Words) -> bool:
    """Whether the file names the subject; of a database, also in its journals and free pages."""
    beside = [path.with_name(path.name + suffix) for suffix in _BESIDE_SQLITE]
    return any(words.is_in_bytes(one.read_bytes()) for one in (path, *beside) if one.is_file())


def is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def rewrite(path: Path, words: Words) -> None:
    """Take the subject out of a file, if it is text or a database."""
    if is_sqlite(path):
        _rewrite_database(path, words)
        return
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return
    fresh = path.with_name(f".{path.name}.erased")
    fresh.write_bytes(words.without(text).encode())
    fresh.chmod(path.stat().st_mode)
    handle = os.open(fresh, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    fresh.replace(path)
    sync_folder(path.parent)


def compact(path: Path) -> None:
    """Write a SQLite database anew, without what was deleted from it. Raises `Retriable` while another process uses it."""
    with closing(_connect(path)) as connection:
        _compact(connection, path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.execute("pragma secure_delete = on")
    return connection


def _compact(connection: sqlite3.Connection, path: Path) -> None:
    try:
        connection.execute("pragma wal_checkpoint(truncate)")
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)")
    except sqlite3.OperationalError as error:
        raise Retriable(
            f"{path} is in use by another process ({error}).",
            hint="End `tenure ui` and other programs that have it open.",
        ) from error


def _rewrite_database(path: Path, words: Words) -> None:
    with closing(_connect(path)) as connection:
        try:
            connection.execute("begin immediate")
        except sqlite3.OperationalError as error:
            raise Retriable(
                f"{path} is in use by another process ({error}).",
                hint="End `tenure ui` and other programs that have it open.",
            ) from error
        tables = connection.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")
        for (table,) in tables.fetchall():
            _rewrite_table(connection, table, words)
        connection.execute("commit")
        _compact(connection, path)


def _rewrite_table(connection: sqlite3.Connection, table: str, words: Words) -> None:
    quoted = _quoted(table)
    described = connection.execute(f"pragma table_info({quoted})").fetchall()
    names = [row[1] for row in described]
    keys = [row[1] for row in described if row[5]]
    place = " and ".join(f"{_quoted(key)} is ?" for key in keys) or "rowid = ?"
    chosen = ", ".join(map(_quoted, keys)) or "rowid"
    width = len(keys) or 1
    listed = ", ".join(map(_quoted, names))
    for row in connection.execute(f"select {chosen}, {listed} from {quoted}").fetchall():
        at, values = row[:width], row[width:]
        changed = {
            name: new
            for name, value in zip(names, values, strict=True)
            for new in [_without(value, words)]
            if new != value
        }
        if changed:
            assigned = ", ".join(f"{_quoted(name)} = ?" for name in changed)
            connection.execute(f"update {quoted} set {assigned} where {place}", [*changed.values(), *at])


def _without(value: object, words: Words) -> object:
    if isinstance(value, str):
        return words.without(value) if words.is_in(value) else value
    if isinstance(value, bytes):
        return _bytes_without(value, words)
    return value


def _bytes_without(value: bytes, words: Words) -> bytes:
    """Text as bytes, compressed or not."""
    try:
        plain, is_packed = zlib.decompress(value), True
    except zlib.error:
        plain, is_packed = value, False
    try:
        text = plain.decode("utf-8")
    except UnicodeDecodeError:
        return value
    if not words.is_in(text):
        return value
    found = words.without(text).encode()
    return zlib.compress(found) if is_packed else found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
