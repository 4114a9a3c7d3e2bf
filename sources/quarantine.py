"""Quarantine: the rows of a stream that are not loaded, each with its reason, until they come again or may be loaded.

Lives here: the SQL of what is noted of a broken row, and of when a record goes: because its row was read again, or because it waited for
an account or a user that is known by now. Must not live here: which rows are broken (`mapping.py`; whose account is not known, `load.py`),
the second look at the source that tells which record it was (`load.py`), rows that were loaded and go back (`users.py`).

Records hold text, as it was given. One that had been loaded before has its `_loaded_at`: it was counted by the load that read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.warehouse import Connection, identifier, literal, scalar
from sources.base import Stream
from sources.mapping import Fault
from sources.suppressed import ERASED
from sources.users import Users

SUPPRESSED = "suppressed"
"""The reason of rows that are counted, and of which nothing is kept."""


class Quarantine:
    """The records of one stream. What forgets some returns how that changes the counts of the load."""

    def __init__(
        self, connection: Connection, stream: Stream, users: Users | None, *, now: datetime, run_id: str
    ) -> None:
        self.connection = connection
        self.stream = stream.id
        self.config = stream.config
        self.entity = stream.id.entity
        self.users = users
        self.table = stream.id.quarantine
        self.key = identifier(self.entity.key)
        self.now = f"timestamp '{now}'"
        self.stamps = f"{stream.id.stamps}, {self.now} as _quarantined_at, {literal(run_id)} as _run_id"

    # --- rows that come ------------------------------------------------------------------------------------------

    def records(self, relation: str, faults: Sequence[Fault]) -> str:
        """SQL: what is noted of the rows of `relation`, all of them broken: what was given, and what is wrong with it."""
        typed = {self.entity.user: self.users.given()} if self.users is not None else {}
        given = ", ".join(
            f"coalesce(cast({typed.get(n, identifier(n))} as varchar), _given_{n}) as {identifier(n)}"
            for n in self.entity.column_names
        )
        codes = f"when {ERASED} then {literal(SUPPRESSED)} " + " ".join(
            f"when {n} then {literal(f.code)}" for n, f in enumerate(faults, start=1)
        )
        details = f"when {ERASED} then null " + " ".join(
            f"when {n} then {f.detail}" for n, f in enumerate(faults, start=1)
        )
        among = literal(f"' is not among the accounts of {self.stream.account_source}")
        unknown = literal("account_id '") + f" || account_id || {among}"
        if self.users is not None:
            unknown = f"case when account_id is null then {self.users.unsaid} else {unknown} end"
        reason = "case when account_id is null then 'unknown_user' else 'unknown_account' end"
        return (
            f"select {given}, _file, _row, case _fault {codes} else {reason} end as _reason,"
            f" case _fault {details} else {unknown} end as _detail, {self.stamps} from {relation}"
        )

    def add_broken(self) -> int:
        """Put the records of temp.broken into quarantine, except for those of erased accounts and people; how many these are."""
        self._insert(f"select * from temp.broken where _reason <> {literal(SUPPRESSED)}")
        return int(scalar(self.connection, f"select count(*) from temp.broken where _reason = {literal(SUPPRESSED)}"))

    def add_rejects(self, rejects: str) -> int:
        """Put what could not be read at all into quarantine; how many."""
        return self._insert(
            f"select _file, _row, 'malformed_row' as _reason, detail as _detail, {self.stamps} from {rejects}"
        )

    def _insert(self, records: str) -> int:
        inserted = self.connection.execute(f"insert into {self.table} by name {records}").fetchone()
        return int(inserted[0]) if inserted else 0

    # --- records that go -----------------------------------------------------------------------------------------

    def forget(self, condition: str) -> dict[str, int]:
        """Delete records. Those that this very load read count as superseded from then on."""
        where = f"where {self.stream.mine()} and ({condition})"
        mine = f"_quarantined_at = {self.now}"
        gone = self.connection.execute(
            f"select count(*), count(*) filter ({mine} and _loaded_at is null), count(*) filter ({mine} and _loaded_at is not null)"
            f" from {self.table} {where}"
        ).fetchone()
        assert gone is not None
        if gone[0]:
            self.connection.execute(f"delete from {self.table} {where}")
        return {"quarantined": -gone[1], "superseded": gone[1], "withdrawn": -gone[2]}

    def forget_judged_anew(self, *, any_broken: bool) -> dict[str, int]:
        """Rows of a table that are read again, into temp.batch and, with `any_broken`, temp.broken: their earlier record goes."""
        keys = f"{self.key} in (select {self.key} from temp.batch where {self.key} is not null)"
        origins = (
            f"or ({self.key} is null and _quarantined_at < {self.now} and _file in (select _file from temp.broken))"
        )
        return self.forget(f"_loaded_at is null and ({keys} {origins if any_broken else ''})")

    def forget_withdrawn(self) -> dict[str, int]:
        """What comes again replaces what had been loaded and is in quarantine since; where there are versions to compare or to complete
        each other, both wait, and are settled when they are released."""
        columns = self.config.columns
        is_settled = self.config.partial or "updated_at" in columns or any(one.keep for one in columns.values())
        if self.users is None or is_settled:
            return {}
        mine = f"{self.stream.mine()} and _quarantined_at = {self.now}"
        broken = f"select {self.key} from {self.table} where {mine} and _loaded_at is null"
        came = f"select {self.key} from temp.batch union all {broken}"
        return self.forget(f"_loaded_at is not null and {self.key} in ({came})")

    def end_waiting(self, ended_at: str) -> None:
        """Rows that wait for an account or a user and are in temp.gone end, so that none is released as if it still ran."""
        at = f"coalesce(g.at, {self.now})"
        self.connection.execute(
            f"update {self.table} set {ended_at} = cast(greatest({at}, try_cast({self.entity.happened_at} as timestamp)) as varchar),"
            f" updated_at = cast(greatest({at}, try_cast(updated_at as timestamp)) as varchar) from temp.gone as g"
            f" where g.key = {self.key} and {self.stream.mine()} and {ended_at} is null"
            " and _reason in ('unknown_account', 'unknown_user')"
        )

    def take_waiting(self, is_known: str) -> int:
        """Move rows that waited for an account that `is_known` by now, or for a user whose account is, to temp.batch; how many."""
        waits = f"_reason = 'unknown_account' and {is_known}"
        if self.users is not None:
            waits = f"({waits} or {self.users.found})"
        waiting = f"from {self.table} where {self.stream.mine()} and {waits}"
        waited = int(scalar(self.connection, f"select count(*) {waiting}"))
        if not waited:
            return 0
        columns = ", ".join(
            f"try_cast({identifier(column.name)} as {column.sql_type}) as {identifier(column.name)}"
            for column in self.entity.columns
        )
        typed = f"(select {columns}, _file {waiting})"
        if self.users is not None:
            typed = self.users.told(typed)
        self.connection.execute(f"create or replace temp table batch as select * from {typed}")
        self.connection.execute(f"delete {waiting}")
        return waited
