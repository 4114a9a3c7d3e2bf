"""Who is erased: from the id or address that was asked for to everything that names them in this home.

Lives here: finding the records of an account in all sources, the people of an account, the ids and addresses of a person. Must not
live here: where these are looked for afterwards (`tables.py`, `texts.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from core.contract import ENTITIES, PERSON_REFERENCES, Entity
from core.errors import UserError
from core.suppression import Kind
from core.warehouse import Connection, identifier, literal, rows, table_exists

Asked = Literal["account", "contact", "email"]
Record = tuple[str, str]
"""A source and an id in it."""
_SAY_WHOSE = {"contacts": "contact_id", "memberships": "user_id"}
"""Entities whose rows say that a person belongs to an account, and their column that names the person."""
MOST_ROW_IDS = 200_000
"""Of so many of its rows the ids are looked for in logs as well; an account with more has them in events."""


@dataclass(frozen=True)
class Subject:
    """What identifies somebody: account ids as published, records and people by source, addresses in lower case, names.

    `row_ids` are ids of rows that go as a whole; `keys` are those of destinations (destination, key).
    """

    asked_for: Asked
    accounts: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()
    people: tuple[Record, ...] = ()
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    row_ids: tuple[str, ...] = ()
    keys: tuple[Record, ...] = ()

    def identifiers(self) -> Iterator[tuple[Kind, str, str]]:
        """What extraction must keep out from now on."""
        yield from (("account", source, value) for source, value in self.records)
        yield from (("person", source, value) for source, value in self.people)
        yield from (("address", "", value) for value in self.addresses)

    def document(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Subject:
        """The reverse of `document`."""

        def pairs(name: str) -> tuple[Record, ...]:
            return tuple((source, own) for source, own in document[name])

        return cls(
            document["asked_for"],
            tuple(document["accounts"]),
            pairs("records"),
            pairs("people"),
            tuple(document["addresses"]),
            tuple(document["names"]),
            tuple(document["row_ids"]),
            pairs("keys"),
        )


@dataclass(frozen=True)
class Loaded:
    """A table of loaded or quarantined rows of an entity."""

    name: str
    entity: Entity


def loaded_tables(connection: Connection) -> list[Loaded]:
    """All tables that rows of the contract lie in, whichever sources are configured now."""
    found = rows(
        connection,
        "select schema_name, table_name from duckdb_tables() where database_name = current_database()"
        " and (schema_name = 'quarantine' or starts_with(schema_name, 'raw_')) order by all",
    )
    return [
        Loaded(f"{identifier(row['schema_name'])}.{identifier(row['table_name'])}", ENTITIES[row["table_name"]])
        for row in found
        if row["table_name"] in ENTITIES
    ]


def resolve(
    connection: Connection, asked_for: Asked, value: str, *, primary_source: str, borrowed: Mapping[str, str]
) -> Subject | None:
    """Everything that names the account, contact or address `value`; None where nothing does.

    `borrowed` are sources without contacts of their own, and the source whose ids they name people by.
    Raises `UserError` where `value` names more than one.
    """
    tables = loaded_tables(connection)
    if asked_for == "account":
        found = _account(connection, tables, value, primary_source)
    elif asked_for == "contact":
        found = _contact(connection, tables, value, borrowed)
    else:
        found = _address(connection, tables, value.strip().lower())
    if found is None:
        return None
    also = {(name, own) for source, own in found.people for name, of in borrowed.items() if of == source}
    return replace(found, people=tuple(sorted({*found.people, *also})))


# --- an account --------------------------------------------------------------------------------------------------


def _account(connection: Connection, tables: Sequence[Loaded], value: str, primary_source: str) -> Subject | None:
    matched = _matched(connection)
    # A published id is unique; only what is none is looked for among the ids of all sources.
    named = {record for record, account in matched.items() if account == value}
    named = named or _named_accounts(connection, tables, value)
    accounts = {matched.get(record, _published(record, primary_source)) for record in named}
    if len(accounts) > 1:
        listed = ", ".join(sorted(f"{source}:{one}" for source, one in named))
        raise UserError(
            f"{value!r} names {len(accounts)} accounts: {', '.join(sorted(accounts))}.",
            hint=f"Name the one that is meant, as it is published or with its source: {listed}.",
        )
    if not accounts and value not in _past_accounts(connection):
        return None
    account = next(iter(accounts), value)
    records = {record for record, of in matched.items() if of == account} | named
    subject = Subject("account", accounts=(account,), records=tuple(sorted(records)))
    return _with_people(connection, tables, _with_names(connection, tables, subject))


def _matched(connection: Connection) -> dict[Record, str]:
    """The published account of each record, as the last run matched them."""
    if not table_exists(connection, "intermediate", "int_accounts_matched"):
        return {}
    found = rows(connection, "select source, source_account_id, account_id from intermediate.int_accounts_matched")
    return {(row["source"], row["source_account_id"]): row["account_id"] for row in found}


def _published(record: Record, primary_source: str) -> str:
    """The id of an account that no run has matched yet: the primary source's own, or with its source."""
    return record[1] if record[0] == primary_source else ":".join(record)


def _named_accounts(connection: Connection, tables: Sequence[Loaded], value: str) -> set[Record]:
    """Records that `value` may be: an id in any source, or source:id."""
    source, _, own = value.partition(":")
    found: set[Record] = set()
    for table in tables:
        asked = (
            f"select distinct _account_source, account_id from {table.name} where account_id = ?"
            " or _account_source = ? and account_id = ?"
        )
        found |= set(connection.execute(asked, [value, source, own]).fetchall())
    return found


def _past_accounts(connection: Connection) -> set[str]:
    """Accounts that only the history knows: their source no longer has them."""
    return {
        row["account_id"]
        for schema, table in (("history", "accounts_history"), ("ml", "churn_scores"))
        if table_exists(connection, schema, table)
        for row in rows(connection, f"select distinct account_id from {schema}.{table}")
    }


def _with_names(connection: Connection, tables: Sequence[Loaded], subject: Subject) -> Subject:
    own = _in("_account_source", "account_id", subject.records)
    names: set[str] = set()
    for table in tables:
        if table.entity.name == "accounts":
            for row in rows(connection, f"select distinct name, domain from {table.name} where {own}"):
                names |= {one for one in (row["name"], row["domain"]) if one}
    return replace(subject, names=tuple(sorted(names)), row_ids=_row_ids(connection, tables, own))


def _with_people(connection: Connection, tables: Sequence[Loaded], subject: Subject) -> Subject:
    """The contacts of an account and the users that belong to it, except for those who are with another account too."""
    own = f"coalesce({_in('_account_source', 'account_id', subject.records)}, false)"
    people: set[Record] = set()
    addresses: set[str] = set()
    for table in (one for one in tables if one.entity.name in _SAY_WHOSE):
        person = _SAY_WHOSE[table.entity.name]
        people |= set(
            connection.execute(
                f"select distinct _source, {person} from {table.name} where {own} and {person} is not null"
            ).fetchall()
        )
        if table.entity.name == "contacts":
            asked = f"select distinct lower(trim(email)) from {table.name} where {own} and contains(email, '@')"
            addresses |= {email for (email,) in connection.execute(asked).fetchall()}
    for table in (one for one in tables if one.entity.name in _SAY_WHOSE):
        person, elsewhere = _SAY_WHOSE[table.entity.name], f"not {own} and account_id is not null"
        asked = f"select distinct _source, {person} from {table.name} where {elsewhere} and {_in('_source', person, people)}"
        people -= set(connection.execute(asked).fetchall())
        if table.entity.name == "contacts":
            shared = f"{elsewhere} and lower(trim(email)) in ({_listed(addresses)})"
            asked = f"select distinct lower(trim(email)) from {table.name} where {shared}"
            addresses -= {email for (email,) in connection.execute(asked).fetchall()}
    people = _with_aliases(connection, tables, people)
    return replace(subject, people=tuple(sorted(people)), addresses=tuple(sorted(addresses)))


# --- a person ----------------------------------------------------------------------------------------------------


def _contact(
    connection: Connection, tables: Sequence[Loaded], value: str, borrowed: Mapping[str, str]
) -> Subject | None:
    source, _, own = value.partition(":")
    matched = _matched(connection)
    found: dict[Record, set[str]] = {}
    for table in tables:
        for column in _person_columns(table.entity):
            asked = (
                f"select distinct _source, {column}, _account_source, account_id from {table.name}"
                f" where {column} = ? or _source = ? and {column} = ?"
            )
            for of, name, account_source, account_id in connection.execute(asked, [value, source, own]).fetchall():
                accounts = found.setdefault((borrowed.get(of, of), name), set())
                if account_id:
                    accounts.add(matched.get((account_source, account_id), f"{account_source}:{account_id}"))
    if not found:
        return None
    shared = set.intersection(*found.values())
    if len(found) > 1 and not shared:
        listed = ", ".join(sorted(":".join(record) for record in found))
        raise UserError(
            f"{value!r} names {len(found)} people of different accounts.",
            hint=f"Name the one that is meant with its source: {listed}.",
        )
    return _person(connection, tables, Subject("contact", people=tuple(sorted(found))))


def _address(connection: Connection, tables: Sequence[Loaded], value: str) -> Subject | None:
    if "@" not in value:
        raise UserError(f"{value!r} is not an e-mail address.", hint="An id of a contact is erased with --contact.")
    subject = _person(connection, tables, Subject("email", addresses=(value,)))
    return subject if subject.people or _is_written_anywhere(connection, value) else None


def _person(connection: Connection, tables: Sequence[Loaded], subject: Subject) -> Subject:
    """All ids and addresses of a person: contacts with one address are one person, and so are the ids of one user."""
    people, addresses = set(subject.people), set(subject.addresses)
    while True:
        known = len(people), len(addresses)
        for table in tables:
            if table.entity.name == "contacts":
                same = f"lower(trim(email)) in ({_listed(addresses)}) or {_in('_source', 'contact_id', people)}"
                asked = f"select distinct _source, contact_id, lower(trim(email)) from {table.name} where {same}"
                for source, own, email in connection.execute(asked).fetchall():
                    people |= {(source, own)} if own else set()
                    addresses |= {email} if email and "@" in email else set()
            for column in _person_columns(table.entity):
                asked = f"select distinct _source, {column} from {table.name} where lower(trim({column})) in ({_listed(addresses)})"
                people |= set(connection.execute(asked).fetchall())
        people = _with_aliases(connection, tables, people)
        if known == (len(people), len(addresses)):
            return replace(subject, people=tuple(sorted(people)), addresses=tuple(sorted(addresses)))


def _with_aliases(connection: Connection, tables: Sequence[Loaded], people: set[Record]) -> set[Record]:
    """`people` with the other ids that users of the product are known by."""
    found = set(people)
    while True:
        known = len(found)
        for table in tables:
            if table.entity.name == "memberships" and found:
                same = f"{_in('_source', 'user_id', found)} or {_in('_source', 'known_as', found)}"
                asked = f"select distinct _source, user_id, known_as from {table.name} where known_as is not null and ({same})"
                for source, user, known_as in connection.execute(asked).fetchall():
                    found |= {(source, user), (source, known_as)}
        if len(found) == known:
            return found


def _is_written_anywhere(connection: Connection, address: str) -> bool:
    """Whether an address stands in any text of the warehouse, whoever wrote it."""
    found = rows(
        connection,
        "select schema_name, table_name, column_name from duckdb_columns() join duckdb_tables()"
        " using (database_name, schema_name, table_name) where database_name = current_database() and data_type = 'VARCHAR'",
    )
    return any(
        connection.execute(
            f"select 1 from {identifier(row['schema_name'])}.{identifier(row['table_name'])}"
            f" where contains(lower({identifier(row['column_name'])}), ?) limit 1",
            [address],
        ).fetchone()
        for row in found
    )


# --- parts -------------------------------------------------------------------------------------------------------


def _person_columns(entity: Entity) -> list[str]:
    return [name for name in PERSON_REFERENCES if name in entity.column_names]


def _row_ids(connection: Connection, tables: Sequence[Loaded], condition: str) -> tuple[str, ...]:
    found: set[str] = set()
    for table in tables:
        key = identifier(table.entity.key)
        asked = f"select distinct {key} from {table.name} where {key} is not null and {condition} limit {MOST_ROW_IDS}"
        found |= {key for (key,) in connection.execute(asked).fetchall()}
    return tuple(sorted(found)[:MOST_ROW_IDS])


def _listed(values: Iterable[str]) -> str:
    return ", ".join(literal(value) for value in sorted(values)) or "null"


def _in(source: str, name: str, records: Iterable[Record]) -> str:
    """SQL: whether a row's source and id are among `records`."""
    pairs = ", ".join(f"({_listed([of])}, {_listed([own])})" for of, own in sorted(records))
    return f"({source}, {name}) in ({pairs})" if pairs else "false"
