"""The door that every connector goes through.

Lives here: what a source, a stream and a chunk of rows are, and how a connector is chosen for a configured source.
Must not live here: how a connector reads (`files.py`, `database.py`), how rows are checked and written (`load.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from core.contract import ENTITIES, Entity
from core.settings import Config, SourceConfig, StreamConfig
from core.warehouse import Connection


@dataclass(frozen=True)
class StreamId:
    """Which stream of which configured source, and where its rows go."""

    source: str
    stream: str
    connector: str
    account_source: str
    entity_name: str

    @property
    def entity(self) -> Entity:
        return ENTITIES[self.entity_name]

    @property
    def raw_schema(self) -> str:
        return f"raw_{self.connector}"

    @property
    def label(self) -> str:
        return f"{self.source}/{self.stream}"


@dataclass(frozen=True)
class FileVersion:
    """One file as it was when it was read. `mtime_ns` is in nanoseconds, `size` in bytes."""

    path: str
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Chunk:
    """Rows that DuckDB can read now, in the source's own columns.

    `relation` is an SQL table expression with the source's columns and `_file`, the origin that messages name.
    `ordered_relation` gives the same rows plus `_row`, the line or row number within `_file`.
    `is_text` says that values are text that still needs trimming and casting.
    `rejects` is an SQL table expression (_file, _row, detail) of rows that could not be read at all, valid once
    `relation` was read.
    `files` are remembered as read when the stream commits, and replace what the same paths gave before.
    """

    relation: str
    ordered_relation: str
    is_text: bool
    files: tuple[FileVersion, ...] = ()
    rejects: str | None = None


class Stream(Protocol):
    """One stream that can say what is new since its last committed state."""

    id: StreamId
    config: StreamConfig

    def chunks(self, connection: Connection, *, full: bool) -> Iterator[Chunk]:
        """What is new, piece by piece; each piece is written before the next is asked for.

        Raises `Fatal` when the input is broken (the stream stops and keeps what it had), `Retriable` when it may be
        there later.
        """
        ...

    def cursor(self) -> str | None:
        """Where the next run goes on, valid after the last chunk; saved with the rows."""
        ...


def stream_ids(config: Config) -> list[StreamId]:
    """All configured streams, accounts first, so that later streams can be checked against them."""
    ids = [
        StreamId(name, stream, source.connector, config.account_source(name), settings.entity)
        for name, source in config.sources.items()
        for stream, settings in source.streams.items()
    ]
    return sorted(ids, key=lambda stream: stream.entity_name != "accounts")


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: Path) -> Stream:
    """The connector's stream for a configured stream."""
    settings = source.streams[stream.stream]
    if source.connector == "files":
        from sources.files import FilesStream

        assert source.path is not None
        return FilesStream(stream, settings, folder=source.path, now=now)
    # Imported only where it is used: SQLAlchemy takes a second to load.
    from sources.database import DatabaseStream

    assert source.url is not None
    return DatabaseStream(stream, settings, url=source.url.get_secret_value(), temp_directory=temp_directory)


def entities_by_connector(config: Config) -> Mapping[str, list[str]]:
    """Which connectors fill each entity, for the staging unions: {"accounts": ["files"], ...}."""
    staged: dict[str, list[str]] = {name: [] for name in ENTITIES}
    for stream in stream_ids(config):
        if stream.connector not in staged[stream.entity_name]:
            staged[stream.entity_name].append(stream.connector)
    return staged
