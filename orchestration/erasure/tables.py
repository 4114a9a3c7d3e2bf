"""DuckDB files: what of their tables is about the subject, and the same file without it.

Lives here: the rule for each column of each table, and the new file. Must not live here: which files there are (`stores.py`).

Tables and columns are what the file itself lists, so that no table can be forgotten: a model that is added is covered because it is
there. What a column means follows from the contract: a name that ends in `account_id` names an account, those of
`PERSON_REFERENCES` name a person, and every text may hold an address.

The file is written again without the rows, rather than deleted from: DuckDB leaves the bytes of deleted rows in free pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core.contract import ENTITIES, PERSON_REFERENCES
from core.warehouse import Connection, identifier, literal, rows, scratch, warehouse
from orchestration.erasure.subject import Subject
from orchestration.erasure.texts import ERASED, Words
from orchestration.publish import replacing

FRESH = "erased_into"
PROGRAM_SCHEMAS = ("quality", "ledger", "ml", "sync", "main")
"""Schemas whose texts programs wrote; their words are replaced, not the values emptied."""
STARTED_AGAIN = ("ledger.cursors",)
"""A cursor may hold the id that it stopped at. Without it, the stream is read from its beginning, and what is known stays as it is."""
_PAIRS = (("_account_source", "account_id"), ("account_source", "account_id"), ("account_source", "source_account_id"))
_ABOUT_A_PERSON = ("contacts", "memberships")


@dataclass(frozen=True)
class Column:
    """A column as the file lists it."""

    name: str
    type: str
    is_nullable: bool

    @property
    def is_text(self) -> bool:
        return self.type == "VARCHAR"

    @property
    def is_texts(self) -> bool:
        return self.type == "VARCHAR[]"


@dataclass(frozen=True)
class Table:
    """A table as the file lists it."""

    schema: str
    name: str
    columns: tuple[Column, ...]

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    @property
    def is_quarantine(self) -> bool:
        return self.schema == "quarantine"

    def has(self, *names: str) -> bool:
        return set(names) <= {column.name for column in self.columns}


@dataclass(frozen=True)
class Cut:
    """What a table loses: rows for which `gone` holds, and in the others what `emptied` says (column -> condition, value)."""

    gone: str
    emptied: Mapping[str, tuple[str, str]]

    @property
    def touched(self) -> str:
        return " or ".join(f"({condition})" for condition, _ in self.emptied.values()) or "false"


def counts(path: Path, subject: Subject, words: Words, *, keys: Mapping[str, str], database: str) -> dict[str, int]:
    """Rows of each table of the file at `path` that are about the subject, or name them; tables without any are left out."""
    with _opened(path, words, database) as connection:
        return {
            table.label: count
            for table in _tables(connection, database)
            for count in [_count(connection, table, database, cut_of(table, subject, keys))]
            if count
        }


def rewrite(
    path: Path,
    subject: Subject,
    words: Words,
    *,
    keys: Mapping[str, str],
    database: str,
    temp_directory: Path,
    now: datetime,
) -> None:
    """Write the file at `path` again without the subject, and put it in its place in one move."""
    if path.with_name(path.name + ".wal").exists():
        # Left by a process that was killed. It belongs to the old file, and would be taken for the new one's.
        with warehouse(path, temp_directory=temp_directory) as connection:
            connection.execute("checkpoint")
    with replacing(path) as fresh, _opened(path, words, database, temp_directory) as connection:
        version = _version(connection, database)
        connection.execute(f"attach {literal(str(fresh))} as {FRESH} (storage_version {version})")
        connection.execute(f"copy from database {identifier(database)} to {FRESH} (schema)")
        tables = _tables(connection, database)
        for table in tables:
            cut = cut_of(table, subject, keys)
            emptied = ", ".join(
                f"case when {condition} then {value} else {identifier(name)} end as {identifier(name)}"
                for name, (condition, value) in cut.emptied.items()
            )
            connection.execute(
                f"insert into {FRESH}.{table.sql} select * {f'replace ({emptied})' if emptied else ''}"
                f" from {identifier(database)}.{table.sql} where not coalesce({cut.gone}, false)"
            )
        for table in tables:
            _restate_days(connection, table, database, cut_of(table, subject, keys), now)
        connection.execute(f"detach {FRESH}")


def _restate_days(connection: Connection, table: Table, database: str, cut: Cut, now: datetime) -> None:
    """Note the days of usage that lost a user, so that the models count their users again."""
    if not (table.schema.startswith("raw_") and table.name == "usage_events" and "user_id" in cut.emptied):
        return
    condition, _ = cut.emptied["user_id"]
    connection.execute(
        f"insert into {FRESH}.ledger.restated_days (source, account_source, account_id, activity_date, loaded_at)"
        " select distinct _source, _account_source, account_id, cast(occurred_at as date), cast(? as timestamp)"
        f" from {identifier(database)}.{table.sql} where coalesce({condition}, false) and not coalesce({cut.gone}, false)",
        [now],
    )


def cut_of(table: Table, subject: Subject, keys: Mapping[str, str]) -> Cut:
    """What `table` loses. `keys` are columns, by table, that hold the key of a destination."""
    gone = [*_of_account(table, subject, keys.get(table.label)), *_is_person(table, subject)]
    emptied: dict[str, tuple[str, str]] = {}
    wrote = " or ".join(_names_person(table, column, subject) for column in _person_columns(table)) or "false"
    for column in table.columns:
        condition = _condition(table, column, subject, wrote)
        if condition is not None:
            emptied[column.name] = condition, _instead(table, column)
    if table.label in STARTED_AGAIN:
        return Cut(_any([*gone, *(condition for condition, _ in emptied.values())]), {})
    if table.is_quarantine:
        # A broken row is of no use without what it says: one that touches the subject goes.
        return Cut(_any([*gone, *(condition for condition, _ in emptied.values())]), {})
    return Cut(_any(gone), emptied)


# --- rows that go --------------------------------------------------------------------------------------------------


def _of_account(table: Table, subject: Subject, key: str | None) -> Iterator[str]:
    """Conditions by which a row is the account's."""
    if table.schema == "sync" and table.has("destination", "key"):
        yield _pair("destination", "key", subject.keys)
        return
    pairs = [pair for pair in _PAIRS if table.has(*pair)]
    if not pairs and table.has("source", "source_account_id"):
        pairs = [("source", "source_account_id")]
    for source, name in pairs:
        yield _pair(source, name, subject.records)
    if table.has("account_id") and not any(name == "account_id" for _, name in pairs):
        yield _one_of("account_id", subject.accounts)
    elif not pairs:
        # A table that knows accounts by another id only, such as what a CRM receives.
        named = [c.name for c in table.columns if c.name.endswith("account_id") and "parent" not in c.name]
        ids = [*subject.accounts, *(own for _, own in subject.records)]
        yield from (_one_of(name, ids) for name in named)
    if key is not None and table.has(key) and key not in ("account_id", "crm_account_id"):
        yield _one_of(key, [own for _, own in subject.keys])


def _is_person(table: Table, subject: Subject) -> Iterator[str]:
    """Conditions by which a row is a person as a whole, or a statement about who they are."""
    columns = _person_columns(table)
    if not columns or (table.name not in _ABOUT_A_PERSON and table.name in ENTITIES):
        return
    yield from (_names_person(table, column, subject) for column in columns)
    if table.has("email"):
        yield _one_of("lower(trim(email))", subject.addresses, quoted=False)


# --- values that go ------------------------------------------------------------------------------------------------


def _condition(table: Table, column: Column, subject: Subject, wrote: str) -> str | None:
    """SQL: whether a row loses the value of `column`; None where it cannot."""
    name = identifier(column.name)
    is_program = table.schema in PROGRAM_SCHEMAS or (table.is_quarantine and column.name in ("_detail", "_file"))
    if column.is_texts:
        return f"names_erased_among({name})"
    if not column.is_text:
        return None
    if is_program:
        return f"names_erased({name})"
    mentioned = _mentions(name, subject)
    if column.name in _person_columns(table):
        return f"{_names_person(table, column.name, subject)} or {mentioned}"
    if column.name.endswith("account_id"):
        source = next((s for s in ("_account_source", "account_source", "source") if table.has(s)), None)
        if column.name in ("account_id", "source_account_id"):
            return None  # such rows go
        if column.name == "crm_account_id" or source is None:
            return _one_of(column.name, subject.accounts)
        return _pair(source, column.name, subject.records)
    if table.name in ENTITIES and column.name in _written_by_people(table.name):
        return f"({wrote}) or {mentioned}"
    return mentioned


def _instead(table: Table, column: Column) -> str:
    name = identifier(column.name)
    if column.is_texts:
        return f"without_erased_among({name})"
    if table.schema in PROGRAM_SCHEMAS:
        return f"without_erased({name})"
    return "null" if column.is_nullable else literal(ERASED)


def _written_by_people(entity: str) -> set[str]:
    return {c.name for c in ENTITIES[entity].columns if c.personal and c.name in ("subject", "body", "comment")}


def _person_columns(table: Table) -> list[str]:
    return [name for name in (*PERSON_REFERENCES, "_user_as_given") if table.has(name)]


def _names_person(table: Table, column: str, subject: Subject) -> str:
    source = next((name for name in ("_source", "source") if table.has(name)), None)
    by_id = _pair(source, column, subject.people) if source else _one_of(column, [own for _, own in subject.people])
    return f"({by_id} or {_one_of(f'lower(trim({identifier(column)}))', subject.addresses, quoted=False)})"


def _mentions(name: str, subject: Subject) -> str:
    """SQL: whether a text holds an address of the subject, and not as a part of a longer one."""
    if not subject.addresses:
        return "false"
    one_of = "|".join(_pattern(address) for address in subject.addresses)
    pattern = literal(rf"(^|[^a-z0-9._%+-])({one_of})($|[^a-z0-9.-]|[.-]+([^a-z0-9.-]|$))")
    return f"(contains({name}, '@') and regexp_matches(lower({name}), {pattern}))"


def _pattern(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "@" else f"\\{letter}" for letter in text)


# --- SQL -----------------------------------------------------------------------------------------------------------


def _pair(source: str, name: str, records: Sequence[tuple[str, str]]) -> str:
    pairs = ", ".join(f"({literal(of)}, {literal(own)})" for of, own in records)
    return f"coalesce(({identifier(source)}, {identifier(name)}) in ({pairs}), false)" if pairs else "false"


def _one_of(name: str, values: Sequence[str], *, quoted: bool = True) -> str:
    listed = ", ".join(literal(value) for value in dict.fromkeys(values))
    return f"coalesce({identifier(name) if quoted else name} in ({listed}), false)" if listed else "false"


def _any(conditions: Sequence[str]) -> str:
    return " or ".join(f"({condition})" for condition in conditions if condition != "false") or "false"


# --- the file ------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, words: Words, database: str, temp_directory: Path | None = None) -> Iterator[Connection]:
    """The file, attached for reading under the name that its views know it by, and the functions that look for words."""
    with scratch(temp_directory=temp_directory) as connection:
        texts: Mapping[str, tuple[Callable[..., Any], list[str], str]] = {
            "names_erased": (lambda text: text is not None and words.is_in(text), ["VARCHAR"], "BOOLEAN"),
            "without_erased": (lambda text: None if text is None else words.without(text), ["VARCHAR"], "VARCHAR"),
            "names_erased_among": (
                lambda texts: any(text is not None and words.is_in(text) for text in texts or ()),
                ["VARCHAR[]"],
                "BOOLEAN",
            ),
            "without_erased_among": (
                lambda texts: None if texts is None else [t if t is None else words.without(t) for t in texts],
                ["VARCHAR[]"],
                "VARCHAR[]",
            ),
        }
        for name, (function, given, result) in texts.items():
            connection.create_function(name, function, [*given], result, null_handling="special")  # type: ignore[call-overload]
        connection.execute(f"attach {literal(str(path))} as {identifier(database)} (read_only)")
        yield connection


def _tables(connection: Connection, database: str) -> list[Table]:
    found = rows(
        connection,
        "select schema_name, table_name, list(struct_pack(name := column_name, type := data_type, is_nullable := is_nullable)"
        " order by column_index) as columns from duckdb_columns() join duckdb_tables()"
        " using (database_name, schema_name, table_name) where database_name = ? group by all order by all",
        [database],
    )
    return [
        Table(row["schema_name"], row["table_name"], tuple(Column(**column) for column in row["columns"]))
        for row in found
    ]


def _count(connection: Connection, table: Table, database: str, cut: Cut) -> int:
    found = connection.execute(
        f"select count(*) from {identifier(database)}.{table.sql} where coalesce({cut.gone} or {cut.touched}, false)"
    ).fetchone()
    return int(found[0]) if found else 0


def _version(connection: Connection, database: str) -> str:
    """The storage version of the file, which its readers can read."""
    asked = "select tags['storage_version'] from duckdb_databases() where database_name = ?"
    found = connection.execute(asked, [database]).fetchone()
    told = str(found[0]).rstrip("+") if found and found[0] else ""
    return literal(told if told.startswith("v") else "v1.5.0")
