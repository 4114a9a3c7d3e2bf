"""The database connector: tables of any SQLAlchemy database, in Arrow batches behind a server-side cursor.

Lives here: the incremental query, its paging, and turning rows into Arrow. Must not live here: what a row means
(`mapping.py`) and where it goes (`load.py`).

With a cursor column, a run reads the rows whose cursor lies after the last committed value less the look-back window;
the window re-reads rows that were committed late, and the upsert finds them unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchTableError, OperationalError, SQLAlchemyError

from core.errors import Fatal, Retriable, UserError
from core.settings import StreamConfig
from core.warehouse import Connection, literal
from sources import ledger
from sources.base import Chunk, StreamId

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(minute|hour|day)s?")
_CONNECT_SECONDS = 15


class DatabaseStream:
    """A stream that reads one table, all of it or what lies after its cursor."""

    def __init__(self, stream: StreamId, config: StreamConfig, *, url: str, temp_directory: Path) -> None:
        self.id = stream
        self.config = config
        self.temp_directory = temp_directory
        self._url = _with_driver(url)
        self._cursor: str | None = None

    def cursor(self) -> str | None:
        """The largest cursor value read, as text."""
        return self._cursor

    def chunks(self, connection: Connection, *, full: bool) -> Iterator[Chunk]:
        """Batches of `batch_rows` rows in the order of the cursor and the primary key.

        Raises `Retriable` when the database cannot be reached, `Fatal` when the table or a column is missing.
        """
        engine = sa.create_engine(self._url, connect_args=_time_out(self._url))
        shown = engine.url.render_as_string(hide_password=True)
        self._cursor = None if full else ledger.saved_cursor(connection, self.id)
        try:
            with engine.connect().execution_options(
                stream_results=True, max_row_buffer=self.config.batch_rows
            ) as database:
                table = self._table(database)
                result = database.execute(self._query(table))
                names = list(result.keys())
                for batch in result.partitions(self.config.batch_rows):
                    connection.register("tenure_chunk", _arrow(names, batch))
                    self._advance(names, batch)
                    relation = f"(select *, {literal(self.config.table)} as _file from tenure_chunk)"
                    yield Chunk(relation, f"(select *, row_number() over () as _row from {relation})", is_text=False)
                    connection.unregister("tenure_chunk")
        except NoSuchTableError as error:
            raise Fatal(
                f"{self.id.label}: {shown} has no table {self.config.table}.", hint="Check `table`, with its schema."
            ) from error
        except OperationalError as error:
            raise Retriable(f"{self.id.label}: {shown} cannot be reached: {_cause(error)}") from error
        except SQLAlchemyError as error:
            raise Fatal(f"{self.id.label}: {shown}: {_cause(error)}") from error
        finally:
            engine.dispose()

    def _table(self, database: sa.Connection) -> sa.Table:
        schema, _, name = (self.config.table or "").rpartition(".")
        return sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=database)

    def _query(self, table: sa.Table) -> sa.Select[Any]:
        for name in (*self.config.primary_key, *([self.config.cursor] if self.config.cursor else [])):
            if name not in table.c:
                raise Fatal(
                    f"{self.id.label}: table {self.config.table} has no column {name}.",
                    hint=f"It has {', '.join(table.c.keys())}.",
                )
        query = sa.select(table)
        if self.config.cursor:
            column = table.c[self.config.cursor]
            if self._cursor is not None:
                query = query.where(column >= _start(column, self._cursor, self.config.look_back))
            query = query.order_by(column)
        return query.order_by(*(table.c[name] for name in self.config.primary_key))

    def _advance(self, names: list[str], batch: Sequence[sa.Row[Any]]) -> None:
        if not self.config.cursor:
            return
        position = names.index(self.config.cursor)
        values = [row[position] for row in batch if row[position] is not None]
        if values:
            newest = max(values)
            self._cursor = newest.isoformat() if isinstance(newest, (date, datetime)) else str(newest)


def _with_driver(url: str) -> str:
    """PostgreSQL through psycopg 3, which is the driver that is installed."""
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def _time_out(url: str) -> dict[str, Any]:
    return {"connect_timeout": _CONNECT_SECONDS} if url.startswith("postgresql") else {}


def _start(column: sa.Column[Any], cursor: str, look_back: str | None) -> Any:
    """The cursor value to go on from, as the column's own type, less the look-back."""
    kind = column.type.python_type
    if issubclass(kind, datetime):
        return datetime.fromisoformat(cursor) - _span(look_back)
    if issubclass(kind, date):
        return date.fromisoformat(cursor) - _span(look_back)
    if issubclass(kind, (int, float, Decimal)):
        return kind(Decimal(cursor) - Decimal(look_back or 0))
    return cursor


def _span(text: str | None) -> timedelta:
    if text is None:
        return timedelta(0)
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise UserError(
            f"look_back {text!r} is not a span of time.", hint="Write for example `3 days`, `12 hours` or `30 minutes`."
        )
    return timedelta(**{match.group(2) + "s": float(match.group(1))})


def _arrow(names: list[str], batch: Sequence[sa.Row[Any]]) -> pa.Table:
    columns = zip(*batch, strict=True)
    return pa.table({name: _array(values) for name, values in zip(names, columns, strict=True)})


def _array(values: tuple[Any, ...]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        # Values that Arrow has no type for (UUIDs, ranges, mixed JSON) travel as text.
        return pa.array([_text(value) for value in values], type=pa.string())


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)


def _cause(error: SQLAlchemyError) -> str:
    original = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(original).split())
