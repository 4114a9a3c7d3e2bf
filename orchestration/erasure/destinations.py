"""Places outside of the home: what destinations were sent, the sync ledger that remembers it, and the PostgreSQL copy.

Lives here: clearing our own fields at destinations by an ordinary sync of the subject's keys, then forgetting them; the copy in
PostgreSQL. Must not live here: how a destination is written to (`activation/`), what a sync is (`orchestration/sync.py`).

An account's key goes from the model with the account, so a sync of just that key clears our fields there. A drop folder of files is
ours as a whole: its rows are taken out instead. The ledger forgets a key when its destination is cleared, and not before: until
then it is all that knows what has to be cleared.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from activation.destinations import files as folders
from activation.ledger import Ledger
from core.errors import TenureError
from core.settings import Tenure
from core.sync_settings import FilesSyncConfig
from core.warehouse import Connection, identifier, rows, table_exists
from orchestration.erasure import files
from orchestration.erasure.subject import Record, Subject

if TYPE_CHECKING:
    from orchestration.erasure.stores import Store

_CLEARED = ("retired", "failed")
"""States in which a destination has nothing of ours: it was cleared, or never took the row."""
_GONE_THERE = ("not_found", "NOT_FOUND", "ENTITY_IS_DELETED")


def stores(tenure: Tenure, subject: Subject) -> list[Store]:
    """Each destination that has keys of the subject, with the ledger's memory of them, and the PostgreSQL copy."""
    by_destination: dict[str, list[str]] = {}
    for destination, key in subject.keys:
        by_destination.setdefault(destination, []).append(key)
    found: list[Store] = []
    for name, keys in by_destination.items():
        config = tenure.config.sync.destinations.get(name)
        if isinstance(config, FilesSyncConfig):
            found.append(DropFolder(name, config.path, tuple(keys)))
        found.append(Destination(tenure, name, tuple(keys)))
    if tenure.config.publish.postgres_url is not None:
        found.append(PostgresCopy(tenure, subject))
    return found


def keys_of(tenure: Tenure, connection: Connection, subject: Subject) -> tuple[Record, ...]:
    """The subject's keys at every destination, also at those that the ledger knows and the configuration does not."""
    primary = tenure.config.precedence[0]
    own = {record for source, record in subject.records if source == primary} | set(subject.accounts)
    destinations = tenure.config.sync.destinations
    found: set[Record] = set()
    for name, config in destinations.items():
        told = set(subject.accounts) if config.key == "account_id" else own
        found |= {(name, key) for key in told | _keys_in_model(connection, config.model, config.key, subject)}
    with closing(Ledger(tenure.ledger_url, create=False)) as ledger:
        found |= {(name, key) for name in ledger.destinations() if name not in destinations for key in own}
    return tuple(sorted(found))


def _keys_in_model(connection: Connection, model: str, key: str, subject: Subject) -> set[str]:
    """What the model says, for a destination that has keys of its own."""
    if not subject.accounts or not table_exists(connection, "reverse_etl", model):
        return set()
    names = {row["column_name"] for row in rows(connection, f"describe reverse_etl.{identifier(model)}")}
    if not {key, "account_id"} <= names:
        return set()
    marks = ", ".join("?" for _ in subject.accounts)
    asked = f"select distinct cast({identifier(key)} as varchar) from reverse_etl.{identifier(model)} where account_id in ({marks})"
    return {value for (value,) in connection.execute(asked, list(subject.accounts)).fetchall() if value is not None}


@dataclass(frozen=True)
class Destination:
    """Our fields at one destination, and the ledger's rows about them."""

    tenure: Tenure
    name: str
    keys: tuple[str, ...]

    def holds(self) -> Mapping[str, int]:
        with closing(Ledger(self.tenure.ledger_url, create=False)) as ledger:
            found = {
                f"destination {self.name}: our fields": len(self._uncleared(ledger)),
                f"sync ledger: {self.name}": ledger.mentions(self.name, self.keys),
            }
        return {place: count for place, count in found.items() if count}

    def remove(self) -> None:
        """Clear our fields, then forget the keys. Raises `TenureError` when the destination does not take it; the ledger remembers."""
        with closing(Ledger(self.tenure.ledger_url, create=False)) as ledger:
            if ledger.mentions(self.name, self.keys) == 0:
                return
            waiting = self._uncleared(ledger)
        if waiting and not isinstance(self.tenure.config.sync.destinations.get(self.name), FilesSyncConfig):
            self._clear(waiting)
        with closing(Ledger(self.tenure.ledger_url)) as ledger:
            ledger.erase(self.name, self.keys)
        path = self.tenure.ledger_url.removeprefix("sqlite:///")
        if path != self.tenure.ledger_url:
            files.compact(Path(path))
        self._publish_ledger()

    def _uncleared(self, ledger: Ledger) -> list[str]:
        states = ledger.states(self.name, self.keys)
        return [
            key
            for key, (state, in_doubt, error) in states.items()
            if (state not in _CLEARED or in_doubt) and error not in _GONE_THERE
        ]

    def _clear(self, keys: Sequence[str]) -> None:
        from orchestration import sync

        report = sync.run(self.tenure, self.name, run_id=str(uuid.uuid4()), keys=tuple(keys), override=True)
        with closing(Ledger(self.tenure.ledger_url, create=False)) as ledger:
            left = self._uncleared(ledger)
        if left:
            why = report.error or report.sentence
            raise TenureError(
                f"{self.name} could not be cleared ({len(left)} left): {why}",
                hint="When the destination works again, run `tenure erase --resume`.",
            )
        sync.erase(self.tenure, self.name, keys)

    def _publish_ledger(self) -> None:
        from orchestration.publish import publish_ledger

        if self.tenure.serving_path.exists():
            with closing(Ledger(self.tenure.ledger_url, create=False)) as ledger:
                publish_ledger(self.tenure.serving_path, ledger.tables())


@dataclass(frozen=True)
class DropFolder:
    """The folder of a destination of connector `files`: all runs that lie there."""

    name: str
    path: Path
    keys: tuple[str, ...]

    def holds(self) -> Mapping[str, int]:
        found = folders.rows_of(self.path, self.keys) if self.path.is_dir() else 0
        return {f"destination {self.name}: rows in its folder": found} if found else {}

    def remove(self) -> None:
        if self.holds():
            folders.erase(self.path, self.keys)


@dataclass(frozen=True)
class PostgresCopy:
    """The published copy in PostgreSQL: written again from the published file, whose rows are gone by then."""

    tenure: Tenure
    subject: Subject

    def holds(self) -> Mapping[str, int]:
        from orchestration.postgres import rows_about

        return {f"PostgreSQL copy: {table}": count for table, count in rows_about(self._url, self._named()).items()}

    def remove(self) -> None:
        from orchestration.postgres import compact, copy_to_postgres

        if self.holds() and self.tenure.serving_path.exists():
            copy_to_postgres(self.tenure.serving_path, self._url)
            compact(self._url)

    @property
    def _url(self) -> str:
        url = self.tenure.config.publish.postgres_url
        assert url is not None
        return url.get_secret_value()

    def _named(self) -> Mapping[str, Sequence[str]]:
        people = [own for _, own in self.subject.people]
        return {
            "account": self.subject.accounts,
            "person": [*people, *self.subject.addresses],
            "address": self.subject.addresses,
        }
