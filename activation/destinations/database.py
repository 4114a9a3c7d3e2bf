"""PostgreSQL: rows into any table by a unique key.

Lives here: the statements, and which of the server's errors is which error word. Must not live here: batching, retrying.

A batch is one transaction: rows go into a temporary table with COPY, and from there into the target in one statement, which
leaves alone the rows that already say the same (`IS DISTINCT FROM`). Rows that were never sent before go straight into the
target, as long as none of them is there. The pages behind it (postgresql.org/docs/current):
"INSERT" (ON CONFLICT), "COPY", "PostgreSQL Error Codes".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

from activation.accounting import likes
from activation.base import Change, Field, Limits, Mode, Problem, RowResult, Value
from core.errors import BatchRefused, Fatal, Forbidden, Retriable, TenureError, Unauthorized, UserError
from core.http import tell

BATCH_ROWS = 50_000
PIECE_ROWS = 2_000
"""Rows that are written down at a time for COPY: while the server takes a piece in, we write the next one."""
STAGED, NUMBER = sql.Identifier("tenure_staged"), sql.Identifier("tenure_staged_row")
TYPES = {
    "text": "text",
    "number": "double precision",
    "boolean": "boolean",
    "date": "date",
    "datetime": "timestamp with time zone",
}
"""Our kind of field -> type of the column that `setup` makes."""
ACCEPTED = {
    "text": ("text", "character varying", "character", "citext"),
    "number": ("double precision", "real", "numeric", "bigint", "integer", "smallint"),
    "boolean": ("boolean",),
    "date": ("date",),
    "datetime": ("timestamp with time zone", "timestamp without time zone"),
}
_WRITERS: dict[type, Callable[[Any], str]] = {
    float: repr,
    int: repr,
    bool: {True: "t", False: "f"}.__getitem__,
    date: date.isoformat,
}
"""For a column whose values are all of one type."""
CONNECT_SECONDS, STATEMENT_SECONDS, LOCK_SECONDS = 10, 300, 30
_KEPT_OUT = re.compile(
    r'authentication failed|no password supplied|no pg_hba\.conf entry|(role|database) ".*" does not exist'
)
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Database:
    """One table of a PostgreSQL database.

    `table` may hold a schema (`crm.scores`); `key` is the column that holds the change's key. Mode `upsert` needs a unique
    constraint on it; mode `update` changes the rows that are there.
    """

    def __init__(self, url: str, *, table: str, key: str, mode: Mode = "upsert") -> None:
        if not re.match(r"(postgres|postgresql)(\+psycopg)?://", url):
            raise UserError("The database has to be a PostgreSQL, with a URL that begins with postgresql://.")
        self._url = re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql://", url)
        self._name, self._table = table, sql.Identifier(*table.split(".", 1))
        self._key, self._mode = key, mode
        self._kept: psycopg.Connection[tuple[Any, ...]] | None = None

    def limits(self, rows: int) -> Limits:
        """Large batches: what one costs is mostly the transaction."""
        return Limits(batch_rows=BATCH_ROWS)

    def upsert(self, batch: Sequence[Change]) -> Sequence[RowResult]:
        """One transaction, with one statement for each set of fields among the rows."""
        groups: dict[tuple[bool, tuple[str, ...]], list[Change]] = {}
        for change in batch:
            inserts = self._mode == "upsert" and change.operation != "retire"
            groups.setdefault((inserts, tuple(change.values)), []).append(change)
        found: list[RowResult] = []
        with self._connection() as connection, connection.transaction():
            for (inserts, names), changes in groups.items():
                columns = [name for name in names if name != self._key]
                found += self._bring(connection, changes, columns, inserts=inserts)
        return found

    def _bring(
        self, connection: psycopg.Connection[Any], changes: Sequence[Change], columns: Sequence[str], *, inserts: bool
    ) -> list[RowResult]:
        """Rows that have the same fields."""
        if inserts and _all_new(changes) and self._copied(connection, changes, columns):
            return [RowResult(change.key, "ok") for change in changes]
        self._stage(connection, changes, columns, numbered=not inserts)
        connection.execute(self._upsert(columns) if inserts else self._update(columns))
        lost = set() if inserts else self._lost(connection)
        connection.execute(sql.SQL("drop table {}").format(STAGED))
        return [_result(change, is_there=number not in lost) for number, change in enumerate(changes)]

    def _copied(
        self,
        connection: psycopg.Connection[Any],
        changes: Sequence[Change],
        columns: Sequence[str],
    ) -> bool:
        """Copy rows that nobody has sent before into the table itself, which takes half the time.

        Where one of them is there all the same, or the table takes no COPY (a view, row-level security), nothing is done, and
        the statement with ON CONFLICT decides.
        """
        try:
            with connection.transaction():
                self._copy(connection, self._table, changes, columns)
        except (psycopg.errors.UniqueViolation, psycopg.errors.WrongObjectType, psycopg.errors.FeatureNotSupported):
            return False
        return True

    def _copy(
        self,
        connection: psycopg.Connection[Any],
        table: sql.Identifier,
        changes: Sequence[Change],
        columns: Sequence[str],
        *,
        numbered: bool = False,
    ) -> None:
        """Rows into a table."""
        names = sql.SQL(", ").join([*([NUMBER] if numbered else []), *map(sql.Identifier, (self._key, *columns))])
        with (
            connection.cursor() as cursor,
            cursor.copy(sql.SQL("copy {} ({}) from stdin").format(table, names)) as copy,
        ):
            for start in range(0, len(changes), PIECE_ROWS):
                piece = changes[start : start + PIECE_ROWS]
                copy.write(copied(piece, columns, start if numbered else None))

    def _stage(
        self,
        connection: psycopg.Connection[Any],
        changes: Sequence[Change],
        columns: Sequence[str],
        *,
        numbered: bool,
    ) -> None:
        """Rows into a table of their own, whose columns have the target's types.

        `numbered` adds a row's place among `changes`: the server may write a key in another way than we do (007 is 7).
        """
        number = sql.SQL("null::integer as {}, ").format(NUMBER) if numbered else sql.SQL("")
        connection.execute(
            sql.SQL("create temporary table {} on commit drop as select {}{} from {} with no data").format(
                STAGED, number, _comma([self._key, *columns]), self._table
            )
        )
        self._copy(connection, STAGED, changes, columns, numbered=numbered)

    def _upsert(self, columns: Sequence[str]) -> sql.Composed:
        key = sql.Identifier(self._key)
        if not columns:
            change: sql.Composable = sql.SQL("nothing")
        else:
            change = sql.SQL("update set {} where ({}) is distinct from ({})").format(
                sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in columns),
                _comma(columns, "row_now"),
                _comma(columns, "excluded"),
            )
        return sql.SQL("insert into {} as row_now ({}) select {} from {} on conflict ({}) do {}").format(
            self._table, _comma([self._key, *columns]), _comma([self._key, *columns]), STAGED, key, change
        )

    def _update(self, columns: Sequence[str]) -> sql.Composed:
        if not columns:
            return sql.SQL("select").format()
        return sql.SQL(
            "update {} as row_now set {} from {} as row_new where row_now.{} = row_new.{} and ({}) is distinct from ({})"
        ).format(
            self._table,
            sql.SQL(", ").join(sql.SQL("{0} = row_new.{0}").format(sql.Identifier(name)) for name in columns),
            STAGED,
            sql.Identifier(self._key),
            sql.Identifier(self._key),
            _comma(columns, "row_now"),
            _comma(columns, "row_new"),
        )

    def _lost(self, connection: psycopg.Connection[Any]) -> set[int]:
        """Which of the rows that were staged have no row in the table."""
        key = sql.Identifier(self._key)
        statement = sql.SQL(
            "select row_new.{0} from {1} as row_new where not exists (select from {2} as row_now where row_now.{3} = row_new.{3})"
        ).format(NUMBER, STAGED, self._table, key)
        return {row[0] for row in connection.execute(statement)}

    # --- abilities ------------------------------------------------------------------------------------------------

    def preflight(self, fields: Sequence[Field]) -> Sequence[Problem]:
        """The table, its columns and their types, the unique key, the rights, and columns that we would leave without a value."""
        try:
            with self._connection() as connection:
                return list(self._problems(connection, fields))
        except Retriable:
            raise
        except TenureError as error:
            return [Problem(error.message, error.hint or "")]

    def setup(self, fields: Sequence[Field]) -> Sequence[str]:
        """Creates the table, or the columns that it lacks; leaves alone what is there."""
        wanted = {
            self._key: ("text", "The key of the row."),
            **{f.name: (TYPES[f.kind], f.description) for f in fields},
        }
        made: list[str] = []
        with self._connection() as connection, connection.transaction():
            known = self._columns(connection)
            if known is None:
                defined = sql.SQL(", ").join(_definition(name, kind) for name, (kind, _) in wanted.items())
                key = sql.Identifier(self._key)
                connection.execute(sql.SQL("create table {} ({}, primary key ({}))").format(self._table, defined, key))
                made.append(f"Created the table {self._name}.")
            missing = {name: of for name, of in wanted.items() if known is None or name not in known}
            for name, (kind, description) in missing.items():
                if known is not None:
                    added = sql.SQL("alter table {} add column {}").format(self._table, _definition(name, kind))
                    connection.execute(added)
                connection.execute(
                    sql.SQL("comment on column {}.{} is {}").format(
                        self._table, sql.Identifier(name), sql.Literal(description)
                    )
                )
                made.append(f"Created the column {name} ({kind}).")
        return made

    def read(self, changes: Sequence[Change]) -> Iterable[tuple[str, Mapping[str, Value] | None]]:
        """Rows by key."""
        for start in range(0, len(changes), BATCH_ROWS):
            yield from self._read(changes[start : start + BATCH_ROWS])

    def _read(self, changes: Sequence[Change]) -> Iterator[tuple[str, Mapping[str, Value] | None]]:
        columns = sorted({name for change in changes for name in change.values})
        key = sql.Identifier(self._key)
        statement = sql.SQL("select {} from {} as row_now join {} as row_new on row_now.{} = row_new.{}").format(
            sql.SQL(", ").join([sql.SQL("row_new.{}").format(NUMBER), *(_of("row_now", name) for name in columns)]),
            self._table,
            STAGED,
            key,
            key,
        )
        with self._connection() as connection, connection.transaction():
            self._stage(connection, changes, (), numbered=True)
            found = {row[0]: dict(zip(columns, row[1:], strict=True)) for row in connection.execute(statement)}
            connection.execute(sql.SQL("drop table {}").format(STAGED))
        for number, change in enumerate(changes):
            yield change.key, likes(change, found[number]) if number in found else None

    def erase(self, keys: Sequence[str]) -> None:
        """Delete the rows of `keys` in which nothing is left but the key. In mode `update` every row is somebody else's."""
        if self._mode != "upsert":
            return
        with self._connection() as connection, connection.transaction():
            others = [name for name in self._columns(connection) or {} if name != self._key]
            empty = sql.SQL("").join(sql.SQL(" and {} is null").format(sql.Identifier(name)) for name in others)
            statement = sql.SQL("delete from {} where {}::text = any(%s){}")
            connection.execute(statement.format(self._table, sql.Identifier(self._key), empty), [list(keys)])

    # --- parts ----------------------------------------------------------------------------------------------------

    def _columns(self, connection: psycopg.Connection[Any]) -> dict[str, tuple[str, bool]] | None:
        """Column -> type, and whether it has to be given a value; None where there is no table."""
        rows = connection.execute(
            "select a.attname, format_type(a.atttypid, null), a.attnotnull and not a.atthasdef and a.attidentity = ''"
            " from pg_attribute as a where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped",
            (self._table.as_string(connection),),
        ).fetchall()
        return {name: (kind, needed) for name, kind, needed in rows} or None

    def _problems(self, connection: psycopg.Connection[Any], fields: Sequence[Field]) -> Iterator[Problem]:
        known = self._columns(connection)
        if known is None:
            yield Problem(f"There is no table {self._name}.", "`tenure sync setup` creates it.")
            return
        if self._key not in known:
            yield Problem(f"{self._name} has no column {self._key}.", "Name the column that holds the key.")
        for field in fields:
            if field.name not in known:
                yield Problem(f"{self._name} has no column {field.name}.", "`tenure sync setup` adds it.")
            elif known[field.name][0] not in ACCEPTED[field.kind]:
                kind = known[field.name][0]
                yield Problem(
                    f"The column {field.name} of {self._name} is {kind}, and {TYPES[field.kind]} is sent.",
                    "Map another column, or change its type.",
                )
        table = self._table.as_string(connection)
        rights = ("select", "update", "insert") if self._mode == "upsert" else ("select", "update")
        for right in rights:
            row = connection.execute("select has_table_privilege(to_regclass(%s), %s)", (table, right)).fetchone()
            written = [name for name in (self._key, *(field.name for field in fields)) if name in known]
            if not (row and row[0]) and not self._has_on_columns(connection, table, right, written):
                yield Problem(f"The user may not {right} {self._name}.", f"Grant {right} on it.")
        if self._mode == "upsert":
            yield from self._upsert_problems(connection, table, fields, known)

    def _has_on_columns(
        self, connection: psycopg.Connection[Any], table: str, right: str, columns: Sequence[str]
    ) -> bool:
        statement = "select bool_and(has_column_privilege(to_regclass(%s), name, %s)) from unnest(%s::text[]) as name"
        row = connection.execute(statement, (table, right, list(columns))).fetchone()
        return bool(row and row[0])

    def _upsert_problems(
        self,
        connection: psycopg.Connection[Any],
        table: str,
        fields: Sequence[Field],
        known: Mapping[str, tuple[str, bool]],
    ) -> Iterator[Problem]:
        unique = connection.execute(
            "select exists (select from pg_index as i join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]"
            " where i.indrelid = to_regclass(%s) and i.indisunique and i.indisvalid and i.indpred is null"
            " and i.indnkeyatts = 1 and a.attname = %s)",
            (table, self._key),
        ).fetchone()
        if not (unique and unique[0]):
            yield Problem(
                f"{self._name} has no unique constraint on {self._key}.",
                "Add one, or use the mode update, which needs none.",
            )
        given = {self._key, *(field.name for field in fields)}
        for name, (_, is_needed) in known.items():
            if is_needed and name not in given:
                yield Problem(
                    f"The column {name} of {self._name} needs a value, and none is sent.", "Give it a default."
                )

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """The connection that is kept, or a new one; the server's errors as our words."""
        try:
            if self._kept is None or self._kept.closed:
                self._kept = psycopg.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=CONNECT_SECONDS,
                    application_name="tenure",
                )
                self._kept.execute(
                    f"set statement_timeout = '{STATEMENT_SECONDS}s'; set lock_timeout = '{LOCK_SECONDS}s'"
                )
            yield self._kept
        except psycopg.Error as error:
            raise word_for(error, self._name, self._url) from error
        except UnicodeEncodeError as error:
            raise BatchRefused(f"{self._name}: a text is not valid Unicode.") from error


def word_for(error: psycopg.Error, table: str, url: str = "") -> TenureError:
    """Our word for an error of the server, by its SQLSTATE; the details, which hold rows, are left out."""
    state = error.sqlstate or ""
    said = tell(error.diag.message_primary, *_passwords(url)) or type(error).__name__
    sentence = f"{table}: {said}"
    if state.startswith("28"):
        return Unauthorized(f"The database does not let the user in ({state}).", hint="Check user and password.")
    if state == "42501":
        return Forbidden(sentence, hint="Grant the user what is missing.")
    if state.startswith(("22", "23", "21", "P0")) or isinstance(error, psycopg.DataError):
        return BatchRefused(sentence)
    if state.startswith(("40", "53", "55", "57", "58", "08")):
        return Retriable(sentence)
    if not state and isinstance(error, psycopg.OperationalError):
        # While connecting there is no SQLSTATE: the text, which holds no password, is the only sign.
        if _KEPT_OUT.search(str(error)):
            return Unauthorized("The database does not let the user in.", hint="Check user, password and database.")
        return Retriable(f"The database of {table} does not answer: {type(error).__name__}.")
    return Fatal(sentence, hint="Look at the table and at what is mapped.")


def copied(changes: Sequence[Change], columns: Sequence[str], first: int | None = None) -> bytes:
    """Rows in the text format of COPY: numbers from `first` on where it is given, the key, the values of `columns`.

    Written column by column: three times as fast as row by row.
    """
    listed = [_column([change.key for change in changes])]
    listed += [_column([change.values[name] for change in changes]) for name in columns]
    if first is not None:
        listed.insert(0, map(str, range(first, first + len(changes))))
    return ("\n".join(map("\t".join, zip(*listed, strict=True))) + "\n").encode("utf-8")


def _all_new(changes: Sequence[Change]) -> bool:
    return all(change.operation == "create" for change in changes)


def _column(values: Sequence[Value]) -> Iterable[str]:
    kinds = set(map(type, values))
    if kinds == {str}:
        texts: list[str] = list(values)  # type: ignore[arg-type]
        all_of_them = "".join(texts)
        return [text.translate(_ESCAPES) for text in texts] if any(c in all_of_them for c in "\\\t\n\r") else texts
    if len(kinds) == 1 and (writer := _WRITERS.get(kinds.pop())) is not None:
        return map(writer, values)
    return map(_text, values)


def _text(value: Value) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, datetime):
        # Always in UTC: a column without a time zone would not hear of another.
        return f"{(value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)).isoformat()}Z"
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else repr(value)


def _result(change: Change, *, is_there: bool) -> RowResult:
    if is_there:
        return RowResult(change.key, "ok")
    return RowResult(change.key, "rejected", error_code="not_found", error="There is no row with this key.")


def _definition(name: str, kind: str) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))


def _comma(names: Sequence[str], of: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) if of is None else _of(of, name) for name in names)


def _of(table: str, name: str) -> sql.Identifier:
    return sql.Identifier(table, name)


def _passwords(url: str) -> list[str]:
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        return [url]
    return [str(parts["password"])] if parts.get("password") else []
