"""The database connector: tables of any SQLAlchemy database, in Arrow batches behind a server-side cursor.

Lives here: the query and turning rows into Arrow. Must not live here: what is new (`cursors.py`), what a row means (`mapping.py`) and
where it goes (`load.py`).

With a cursor column, a run reads the rows whose cursor is at or after the last committed value less the look-back
window, and those whose cursor is NULL; the upsert finds unchanged what was read before. Rows that vanish from the table stay
in the warehouse until a reload with `--full`; rows that say when they were deleted (`deleted_at`) go.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchTableError, OperationalError, SQLAlchemyError

from core.errors import Fatal, Retriable
from core.placeholders import NULL_WORDS
from core.source_settings import SourceConfig, StreamConfig
from core.warehouse import Connection, Error, literal
from sources import ledger, timestamps
from sources.base import Chunk, Progress, StreamId
from sources.batches import BATCH, Batch, origin
from sources.cursors import Cursor
from sources.names import Names, sql_names, wanted
from sources.table_values import to_arrow

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
        self._names: dict[str, str] = {}
        self._deleted = "null"

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
                columns = self._columns(table, keys, wanted(connection, self.config))
                self._names = sql_names(list(table.c.keys()))
                self._deleted, problem = Names(connection, self._names).exact(self.config.deleted_at or "null")
                if problem is not None:
                    raise Fatal(f"{self.id.label}: `deleted_at`: {problem}.")
                result = database.execute(self._query(database, table, columns, saved).limit(sample_rows))
                names = [column.name for column in columns]
                kinds = [_python_type(column) for column in columns]
                held = Batch()
                for batch in result.partitions():
                    told = [self._names[name] for name in names]
                    of_columns = dict(zip(told, zip(kinds, zip(*batch, strict=True), strict=True), strict=True))
                    rows, has_unreadable = to_arrow(of_columns, self._null_words)
                    held.show(connection, rows)
                    self._advance(names, keys, batch)
                    self._is_partial = len(batch) == sample_rows
                    has_deleted = self._has_deleted(connection)
                    yield self._chunk(keys, has_deleted=has_deleted, has_unreadable=has_unreadable)
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
            engine = sa.create_engine(self._url, connect_args=options)
            if engine.dialect.driver == "psycopg":
                _show_all_dates(engine)
            return engine
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
        for name_ in (*self.config.primary_key, *([self.config.cursor] if self.config.cursor else [])):
            if name_ not in table.c:
                raise Fatal(
                    f"{self.id.label}: table {self.config.table} has no column {name_}.",
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

    def _columns(
        self, table: sa.Table, keys: tuple[str, ...], mentioned: frozenset[str] | None
    ) -> list[sa.Column[Any]]:
        """The columns that the mapping reads; at least one, so that there are rows."""
        chosen = [one for one in table.c if mentioned is None or one.name in mentioned or one.name in keys]
        return chosen or list(table.c)[:1]

    @property
    def _null_words(self) -> tuple[str, ...]:
        given = self.config.null_words
        return NULL_WORDS if given is None else tuple(word.strip().lower() for word in given)

    def _query(
        self, database: sa.Connection, table: sa.Table, columns: list[sa.Column[Any]], saved: str | None
    ) -> sa.Select[Any]:
        # SQLite keeps anything in any column: what is there is read as it is, and not by the type that the column declares.
        is_loose = database.dialect.name == "sqlite"
        query = sa.select(
            *(
                sa.type_coerce(one, sa.types.NullType()).label(one.name)
                if is_loose and one.name != self.config.cursor
                else one
                for one in columns
            )
        )
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

        # What is no time at all, such as `infinity`, is no progress.
        is_time = any(isinstance(row[position], date) for row in batch)
        reached = [None if is_time and isinstance(row[position], str) else row[position] for row in batch]
        self._cursor.advance(reached, name_of)

    @property
    def _deleted_at(self) -> str:
        """SQL of the moment when a row of the batch was deleted, in UTC."""
        return timestamps.read(f"cast(({self._deleted}) as varchar)", None, word="try_cast")

    def _has_deleted(self, connection: Connection) -> bool:
        """Whether any row of the batch is deleted.

        Raises `Fatal` when `deleted_at` is anything but a moment or NULL: a flag, or a 0, would delete every row.
        """
        said = self._deleted
        if self.config.deleted_at is None:
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

    def _chunk(self, keys: tuple[str, ...], *, has_deleted: bool, has_unreadable: bool) -> Chunk:
        name, said = literal(self.config.table), self._deleted
        there = f"{BATCH} where ({said}) is null" if has_deleted else BATCH
        told = origin(self.config.table, keys, [self._names[key] for key in keys])
        named = f"(select *, {told} as _file, cast(null as bigint) as _row from {there})"
        gone = f"(select *, {name} as _file, {self._deleted_at} as _gone_at from {BATCH} where ({said}) is not null)"
        return Chunk(
            f"(select *, {name} as _file from {there})",
            lambda _: named,
            is_text=False,
            gone=gone if has_deleted else None,
            names=self._names,
            has_unreadable=has_unreadable,
        )


def _python_type(column: sa.Column[Any]) -> type | None:
    """The Python type of a column's values; None for what only the values tell, such as JSON, and columns without a type."""
    try:
        return column.type.python_type
    except NotImplementedError:
        return None


def _show_all_dates(engine: sa.Engine) -> None:
    """PostgreSQL's dates that Python has none for (`infinity`, before Christ) arrive as text, and break their row instead of the query."""
    from psycopg import DataError
    from psycopg.types import datetime as dates

    def lenient(loader: Any) -> Any:
        class Lenient(loader):  # type: ignore[misc]
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except DataError:
                    return bytes(data).decode()

        return Lenient

    loaders = {"date": dates.DateLoader, "timestamp": dates.TimestampLoader, "timestamptz": dates.TimestamptzLoader}

    @sa.event.listens_for(engine, "connect")
    def adapt(connection: Any, _: object) -> None:
        for name, loader in loaders.items():
            connection.adapters.register_loader(name, lenient(loader))


def _cause(error: SQLAlchemyError) -> str:
    original = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(original).split())
