"""The door that every connector goes through.

Lives here: what a source, a stream and a chunk of rows are, and how a connector is chosen for a configured source.
Must not live here: how a connector reads (`files.py`, `database.py`), how rows are checked and written (`load.py`).

A connector is a module with a function `open_stream(stream, source, *, now, temp_directory) -> Stream`, named in
`CONNECTORS`. Its rows reach DuckDB as an SQL table expression: a file reader, or an Arrow table that it registers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast

from core.contract import ENTITIES, Entity
from core.settings import Config
from core.source_settings import SourceConfig, StreamConfig
from core.warehouse import Connection, literal

CONNECTORS = {
    "files": "sources.files",
    "database": "sources.database",
    "hubspot": "sources.hubspot",
    "posthog": "sources.posthog",
    "salesforce": "sources.salesforce",
    "segment": "sources.files",
    "stripe": "sources.stripe",
    "zendesk": "sources.zendesk",
}
"""The module of each connector; imported only when it is used: SQLAlchemy alone takes a second."""


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
    def table(self) -> str:
        return f"{self.raw_schema}.{self.entity_name}"

    @property
    def quarantine(self) -> str:
        return f"quarantine.{self.entity_name}"

    @property
    def stamps(self) -> str:
        """SQL: what a row of `table` or `quarantine` notes of its stream."""
        return (
            f"{literal(self.source)} as _source, {literal(self.stream)} as _stream,"
            f" {literal(self.account_source)} as _account_source"
        )

    def mine(self, alias: str = "") -> str:
        """SQL: which rows of `table` or `quarantine`, where other streams have theirs too, are this one's."""
        return f"{alias}_source = {literal(self.source)} and {alias}_stream = {literal(self.stream)}"

    @property
    def label(self) -> str:
        return f"{self.source}/{self.stream}"


@dataclass(frozen=True)
class FileVersion:
    """One file as it was when it was read. `mtime_ns` is in nanoseconds, `size` in bytes; `columns` are a JSON file's keys.

    `version` is what its place tells versions by: an object's e-tag. `content` is the hash of what is inside; `copy_of` is the file
    that was loaded with the same content, where this one was not.
    """

    path: str
    size: int
    mtime_ns: int
    version: str = ""
    content: str = ""
    columns: tuple[str, ...] = ()
    copy_of: str | None = None


@dataclass(frozen=True)
class Chunk:
    """Rows that DuckDB can read now, in the source's own columns.

    `relation` is an SQL table expression with the source's columns and `_file`, the origin that messages name.
    `numbered` gives, for some values of `_file`, the same rows plus `_row`, the record's number within its file (the
    header is record 1) or NULL. It is asked for only when rows are broken.
    `counted`, where reading it costs no more than reading `relation`, gives the same rows as `numbered`, except that
    records which the reader rejects are not counted: `recounted` mends `_row` once all were read.
    `is_text` says that values are text that still needs trimming.
    `has_malformed` says that `relation` has a column `_malformed`: true for a record that could not be taken apart.
    `has_incomplete` says that it has a column `_incomplete`: what is missing of a record that the source gave only in part, or NULL.
    `files` are those that it is read from.
    `rejects` is an SQL table expression (_file, _row, detail) of records that could not be read at all, valid once
    `relation` was read.
    `gone` is an SQL table expression with the source's columns and `_gone_at`: records that the source no longer has,
    and since when. `superseded` counts records that a later one of the same chunk replaced before it came here.
    `told` names the files in what DuckDB says, where it reads copies of them.
    `names` are those of the source's columns, with what they are called in `relation` (`names.sql_names`); None where they are called
    the same. It may have more than `relation`, which need not have columns that no mapping reads.
    `has_unreadable` says that `relation` has a column `_unreadable`: a list of the row's values that no text or number can hold, each
    with the `name` of its column in `relation` and a `detail` that says what is there and why not; NULL where there are none.
    `quoted`, where values keep their type (JSON), says whether a key has texts among its values.
    """

    relation: str
    numbered: Callable[[Sequence[str]], str]
    is_text: bool
    has_malformed: bool = False
    has_incomplete: bool = False
    files: tuple[FileVersion, ...] = ()
    rejects: str | None = None
    counted: str | None = None
    recounted: Callable[[str], str] = str
    gone: str | None = None
    superseded: int = 0
    told: Callable[[str], str] = str
    names: Mapping[str, str] | None = None
    has_unreadable: bool = False
    quoted: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class Drift:
    """A field of a source that is not what it was: `appeared`, `vanished`, or has a value of another `type`."""

    field: str
    change: Literal["appeared", "vanished", "type"]
    was: str | None
    now: str | None

    @property
    def sentence(self) -> str:
        """What happened, in words."""
        if self.change == "type":
            return f"{self.field} was {self.was} and is now also {self.now}"
        return f"{self.field} ({self.now or self.was}) {self.change}"


@dataclass(frozen=True)
class Progress:
    """What a stream remembers when it commits: its cursor, the files it knows by now, and what became of files that were loaded.

    `moves` are pairs of a path whose rows were loaded and the path whose rows they are from now on, or None for rows that go, since the
    file holds something else; in their order, each before the chunk that comes after it.

    `is_partial` says that a sample left something out. `has_more` says that this was a stretch of what is new: it is
    committed with its cursor, and `chunks` is asked again. `fields` are the JSON types seen of each of the source's
    fields, where it has records that may change their shape. `requests` and `quota` tell what was asked of a vendor, and
    what it allows. `warnings` are sentences about what was read and is not as it should be.
    """

    cursor: str | None = None
    files: tuple[FileVersion, ...] = ()
    moves: tuple[tuple[str, str | None], ...] = ()
    is_partial: bool = False
    has_more: bool = False
    fields: Mapping[str, frozenset[str]] | None = None
    hinted: frozenset[str] = frozenset()
    requests: int = 0
    quota: str | None = None
    warnings: tuple[str, ...] = ()


class Stream(Protocol):
    """One stream that can say what is new since its last committed state."""

    id: StreamId
    config: StreamConfig

    def chunks(
        self, connection: Connection, *, full: bool, sample_rows: int | None = None
    ) -> Generator[Chunk, None, None]:
        """What is new (with `full`, everything), piece by piece; each piece is written before the next is asked for.

        It is closed by who asks, also when writing fails: what a piece needed is given back then.
        Asked again after a stretch, it goes on from there: `full` is then false.
        With `sample_rows`, about so many rows from all over the input, in bounded time.
        Raises `Fatal` when the input is broken (the stream stops and keeps what it had), `Retriable` when it may be
        there later.
        """
        ...

    def progress(self) -> Progress:
        """Where the next run goes on, valid after the last chunk; saved in the transaction of the rows."""
        ...


class Opener(Protocol):
    """What a connector's module offers as `open_stream`. `temp_directory` is for files that outlive no run."""

    def __call__(self, stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: Path) -> Stream: ...


class Unopened:
    """A stream that could not be opened. It says so when it is read, as one that breaks later does."""

    def __init__(self, stream: StreamId, config: StreamConfig, error: Exception) -> None:
        self.id = stream
        self.config = config
        self._error = error

    def chunks(
        self, connection: Connection, *, full: bool, sample_rows: int | None = None
    ) -> Generator[Chunk, None, None]:
        """Raises what opening it raised."""
        yield from ()
        raise self._error

    def progress(self) -> Progress:
        """None."""
        return Progress()


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: Path) -> Stream:
    """The connector's stream for a configured stream, or one that says why it could not be opened."""
    opener = cast(Opener, import_module(CONNECTORS[stream.connector]).open_stream)
    try:
        return opener(stream, source, now=now, temp_directory=temp_directory)
    except Exception as error:
        return Unopened(stream, source.streams[stream.stream], error)


def stream_ids(config: Config) -> list[StreamId]:
    """All configured streams: accounts first, then memberships, so that later streams can be checked against them."""
    ids = [
        StreamId(name, stream, source.connector, config.account_source(name), settings.entity)
        for name, source in config.sources.items()
        for stream, settings in source.streams.items()
    ]
    return sorted(ids, key=rank)


def rank(stream: StreamId) -> int:
    """Streams are loaded in the order of their ranks: accounts, who belongs to them, and what names either."""
    return {"accounts": 0, "memberships": 1}.get(stream.entity_name, 2)


def entities_by_connector(config: Config) -> Mapping[str, list[str]]:
    """Which connectors fill each entity, for the staging unions: {"accounts": ["files"], ...}."""
    staged: dict[str, list[str]] = {name: [] for name in ENTITIES}
    for stream in stream_ids(config):
        if stream.connector not in staged[stream.entity_name]:
            staged[stream.entity_name].append(stream.connector)
    return staged
