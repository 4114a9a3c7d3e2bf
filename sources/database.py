"""The database connector: tables of any SQLAlchemy database, in Arrow batches behind a server-side cursor.

Lives here: the query and turning rows into Arrow. Must not live here: what is new (`cursors.py`), what a row means (`mapping.py`) and
where it goes (`load.py`).

With a cursor column, a run reads the rows whose cursor is at or after the last committed value less the look-back
window, and those whose cursor is NULL; the upsert finds unchanged what was read before. Rows that vanish from the table stay
in the warehouse until a reload with `--full`; rows that say when they were deleted (`deleted_at`) go.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchTableError, OperationalError, SQLAlchemyError

from core.errors import Fatal, Retriable
from core.source_settings import SourceConfig, StreamConfig
from core.warehouse import Connection, Error, literal
from sources import ledger, timestamps
from sources.base import Chunk, Progress, StreamId
from sources.batches import BATCH, Batch, as_text, origin
from sources.cursors import Cursor

_CONNECT_SECONDS = 15
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
"""PostgreSQL goes through psycopg 3, which is the driver that is installed."""


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: Path) -> DatabaseStream:
    """The connector's door; see `sources.base.Opener`."""
    assert source.url is not None
    return DatabaseStream(stream, source.streams[stream.stream], url=source.url.get_secret_value(), now=now)


class DatabaseStream:
    """A stream that reads one table or view, all of it or what lies after its cursor."""

    def __init__(self, stream: StreamId, config: StreamConfig, *, url: str, now: datetime) -> None:
        self.id = stream
        self.config = config
        self.now = now
        scheme, separator, rest = url.partition("://")
        self._url = _DRIVERS.get(scheme, scheme) + separator + rest
        self._cursor: Cursor | None = None
        self._is_partial = False

    def progress(self) -> Progress:
        """The largest cursor value read so far, as text."""
        if self._cursor is None:
            return Progress(is_partial=self._is_partial)
        reached, warnings = self._cursor.reached, self._cursor.future.warnings
        return Progress(cursor=reached, is_partial=self._is_partial, warnings=warnings)

    def chunks(
        self, connection: Connection, *, full: bool, sample_rows: int | None = None
    ) -> Generator[Chunk, None, None]:
        """Batches of `batch_rows` rows; only one is in memory at a time.

        Raises `Retriable` when the database cannot be reached, `Fatal` when the table or a column is missing.
        """
        saved = None if full else ledger.saved_cursor(connection, self.id)
        engine = self._engine()
        shown = engine.url.render_as_string(hide_password=True)
        batch_rows = min(self.config.batch_rows, sample_rows or self.config.batch_rows)
        try:
            with engine.connect().execution_options(yield_per=batch_rows) as database:
                table = self._table(database)
                keys = self._keys(table)
                result = database.execute(self._query(database, table, saved).limit(sample_rows))
                names = list(result.keys())
                held = Batch()
                for batch in result.partitions():
                    held.show(connection, _arrow(names, batch))
                    self._advance(names, keys, batch)
                    self._is_partial = len(batch) == sample_rows
                    yield self._chunk(keys, has_deleted=self._has_deleted(connection))
                connection.unregister(BATCH)
        except NoSuchTableError as error:
            raise Fatal(
                f"{self.id.label}: {shown} has no table {self.config.table}.",
                hint="Check `table`, with its schema, and what the user may read.",
            ) from error
        except OperationalError as error:
            raise Retriable(f"{self.id.label}: {shown} cannot be read now: {_cause(error)}") from error
        except SQLAlchemyError as error:
            raise Fatal(f"{self.id.label}: {shown}: {_cause(error)}") from error
        finally:
            engine.dispose()

    def _engine(self) -> sa.Engine:
        options = {"connect_timeout": _CONNECT_SECONDS} if self._url.startswith("postgresql") else {}
        try:
            return sa.create_engine(self._url, connect_args=options)
        except SQLAlchemyError as error:
            raise Fatal(
                f"{self.id.label}: the source's `url` is not understood.",
                hint="Write for example postgresql://user:password@host/name.",
            ) from error
        except ModuleNotFoundError as error:
            raise Fatal(
                f"{self.id.label}: the database driver {error.name} is not installed.",
                hint=f"pip install {error.name}",
            ) from error

    def _table(self, database: sa.Connection) -> sa.Table:
        schema, _, name = (self.config.table or "").rpartition(".")
        table = sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=database)
        for wanted in (*self.config.primary_key, *([self.config.cursor] if self.config.cursor else [])):
            if wanted not in table.c:
                raise Fatal(
                    f"{self.id.label}: table {self.config.table} has no column {wanted}.",
                    hint=f"It has {', '.join(table.c.keys())}.",
                )
        return table

    def _keys(self, table: sa.Table) -> tuple[str, ...]:
        keys = self.config.primary_key or tuple(column.name for column in table.primary_key.columns)
        entity = self.id.entity
        if entity.key not in self.config.columns and not self.config.primary_key:
            raise Fatal(
                f"{self.id.label}: rows of a table need a key, so that reading them again does not double them.",
                hint=f"Set `primary_key`, or map {entity.key}.",
            )
        return keys

    def _query(self, database: sa.Connection, table: sa.Table, saved: str | None) -> sa.Select[Any]:
        query = sa.select(table)
        if self.config.cursor is None:
            return query
        column = table.c[self.config.cursor]
        self._cursor = Cursor(database, column, self.config, label=self.id.label, now=self.now)
        new = self._cursor.begin(saved)
        return query if new is None else query.where(new)

    def _advance(self, names: list[str], keys: tuple[str, ...], batch: Sequence[sa.Row[Any]]) -> None:
        if self._cursor is None:
            return
        assert self.config.cursor is not None
        position = names.index(self.config.cursor)
        places = [(key, names.index(key)) for key in keys]

        def name_of(row: int) -> str:
            key = ", ".join(f"{name}={batch[row][place]}" for name, place in places)
            return f"{self.config.table} ({key})" if key else str(self.config.table)

        self._cursor.advance([row[position] for row in batch], name_of)

    @property
    def _deleted_at(self) -> str:
        """SQL of the moment when a row of the batch was deleted, in UTC."""
        return timestamps.read(f"cast(({self.config.deleted_at}) as varchar)", None, word="try_cast")

    def _has_deleted(self, connection: Connection) -> bool:
        """Whether any row of the batch is deleted.

        Raises `Fatal` when `deleted_at` is anything but a moment or NULL: a flag, or a 0, would delete every row.
        """
        said = self.config.deleted_at
        if said is None:
            return False
        asked = f"count({said}), any_value(cast(({said}) as varchar)) filter ({self._deleted_at} is null)"
        try:
            deleted, untold = connection.execute(f"select {asked} from {BATCH}").fetchone() or (0, None)
        except Error as error:
            deleted, untold = 0, str(error).splitlines()[0]
        if untold is not None:
            raise Fatal(
                f"{self.id.label}: `deleted_at` is no moment: {untold}.",
                hint="Write the column, or the SQL, that says when a row was deleted, and is NULL while it is there.",
            )
        return bool(deleted)

    def _chunk(self, keys: tuple[str, ...], *, has_deleted: bool) -> Chunk:
        name, said = literal(self.config.table), self.config.deleted_at
        there = f"{BATCH} where ({said}) is null" if has_deleted else BATCH
        named = f"(select *, {origin(self.config.table, keys)} as _file, cast(null as bigint) as _row from {there})"
        gone = f"(select *, {name} as _file, {self._deleted_at} as _gone_at from {BATCH} where ({said}) is not null)"
        return Chunk(
            f"(select *, {name} as _file from {there})",
            lambda _: named,
            is_text=False,
            gone=gone if has_deleted else None,
        )


def _arrow(names: list[str], batch: Sequence[sa.Row[Any]]) -> pa.Table:
    columns = zip(*batch, strict=True)
    return pa.table({name: _array(values) for name, values in zip(names, columns, strict=True)})


def _array(values: tuple[Any, ...]) -> pa.Array:
    kinds = {type(value) for value in values} - {type(None)}
    # JSON and arrays travel as JSON text, whatever their shape is in one batch.
    if not kinds & {dict, list, tuple, set}:
        try:
            array = pa.array(values)
            if not isinstance(array.type, pa.BaseExtensionType):
                return array
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            pass  # Values that Arrow has no one type for (ranges, addresses, NaN among decimals) travel as text.
    return pa.array([as_text(value) for value in values], type=pa.string())


def _cause(error: SQLAlchemyError) -> str:
    original = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(original).split())
