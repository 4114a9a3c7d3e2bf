"""Quarantine: the rows of a stream that are not loaded, each with its reason, until they come again or may be loaded.

Lives here: the SQL of what is noted of a broken row, and of when a record goes: because its row was read again, or because it waited for
an account or a user that is known by now. Must not live here: which rows are broken (`mapping.py`; whose account is not known, `load.py`),
the second look at the source that tells which record it was (`load.py`), rows that were loaded and go back (`users.py`).

Records hold text, as it was given. One that had been loaded before has its `_loaded_at`: it was counted by the load that read it.
A row that is delivered again, with the same key and the same reason, is the same record, which counts how often it was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.contract import Column
from core.warehouse import Connection, identifier, literal, scalar
from sources.base import Stream
from sources.faults import UNREAD, Fault
from sources.suppressed import ERASED
from sources.users import Users

SUPPRESSED = "suppressed"
"""The reason of rows that are counted, and of which nothing is kept."""
WAITING = "_reason in ('unknown_account', 'unknown_user', 'missing_rate')"
"""SQL: which records are whole rows that wait for their account, their user or their rate of exchange."""
TEMPORARY = ("noted", "earlier", "doubted")
"""The temporary tables that are made here."""


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
        self.run_id = literal(run_id)
        self.stamps = f"{stream.id.stamps}, {seen_once(self.now)}, {self.run_id} as _run_id"

    # --- rows that come ------------------------------------------------------------------------------------------

    def records(self, relation: str, faults: Sequence[Fault]) -> str:
        """SQL: what is noted of the rows of `relation`, all of them broken: what was given, and what is wrong with it."""
        typed = {self.entity.user: self.users.given()} if self.users is not None else {}
        given = ", ".join(
            f"coalesce(cast({typed.get(n, identifier(n))} as varchar), case when not {is_read(n)} then _given_{n} end)"
            f" as {identifier(n)}"
            for n in self.entity.column_names
        )
        codes = f"when {ERASED} then {literal(SUPPRESSED)} " + " ".join(
            f"when {n} then {f.reason}" for n, f in enumerate(faults, start=1)
        )
        details = f"when {ERASED} then null " + " ".join(
            f"when {n} then {f.detail}" for n, f in enumerate(faults, start=1)
        )
        among = literal(f"' is not among the accounts of {self.stream.account_source}")
        unknown = literal("account_id '") + f" || account_id || {among}"
        if self.users is not None:
            unknown = f"case when account_id is null then {self.users.unsaid} else {unknown} end"
        if self.entity.has_currency:
            unrated = literal("currency '") + " || currency || " + literal("' has no rate in `exchange_rates` for ")
            month = f"strftime({identifier(self.entity.happened_at)}, '%Y-%m')"
            unknown = f"case when _waits = 'missing_rate' then {unrated} || {month} else {unknown} end"
        return (
            f"select {given}, _file, _row, _unread, case _fault {codes} else _waits end as _reason,"
            f" case _fault {details} else {unknown} end as _detail, {self.stamps} from {relation}"
        )

    def add_broken(self) -> int:
        """Put the records of temp.broken into quarantine, except for those of erased accounts and people; how many these are."""
        self._note(f"select * from temp.broken where _reason <> {literal(SUPPRESSED)}")
        return int(scalar(self.connection, f"select count(*) from temp.broken where _reason = {literal(SUPPRESSED)}"))

    def add_rejects(self, rejects: str) -> int:
        """Put what could not be read at all into quarantine; how many."""
        return self._note(
            f"select _file, _row, 'malformed_row' as _reason, detail as _detail, {self.stamps} from {rejects}"
        )

    def _note(self, records: str) -> int:
        """Put `records` into quarantine, each with what is there of it already; how many."""
        self.connection.execute(f"create or replace temp table noted as select * from {self.table} limit 0")
        noted = self.connection.execute(f"insert into temp.noted by name {records}").fetchone()
        if not noted or not noted[0]:
            return 0
        mine = f"{self.stream.mine()} and _loaded_at is null"
        self.connection.execute(
            f"create or replace temp table earlier as select *, rowid as id from {self.table} where {mine}"
            f" and (_reason, {self._identity}) in (select (_reason, {self._identity}) from temp.noted)"
        )
        self.connection.execute(f"delete from {self.table} where rowid in (select id from temp.earlier)")
        version = "try_cast(updated_at as timestamp)" if "updated_at" in self.entity.column_names else "null"
        seen = "(select *, true as is_new from temp.noted union all by name select * exclude (id), false as is_new from temp.earlier)"
        self.connection.execute(
            f"insert into {self.table} by name select * exclude (is_new) replace ("
            " min(_first_seen_at) over same as _first_seen_at, max(_last_seen_at) over same as _last_seen_at,"
            f" sum(_times_seen) over same as _times_seen, {self.run_id} as _run_id,"
            f" coalesce(sum(_times_in_run) filter (_run_id = {self.run_id}) over same, 0) as _times_in_run) from {seen}"
            f" window same as (partition by _reason, {self._identity})"
            f" qualify row_number() over (partition by _reason, {self._identity} order by"
            f" case when {WAITING} then {version} end desc nulls last, is_new desc, _file desc, _row desc nulls last) = 1"
        )
        return int(noted[0])

    @property
    def _identity(self) -> str:
        """SQL: what makes records with one reason the same: the key; without one, what was given, or else where it stands.

        A row without a key that waits is what happened, as often as it was delivered: it is known by its place. So are versions
        that complete each other known by what they say.
        """
        names = [identifier(name) for name in self.entity.column_names]
        given = ", ".join(f"coalesce({name}, '')" for name in names)
        content = f"md5(concat_ws(chr(31), {given}))"
        place = f"concat_ws(chr(31), _file, _row, {content})"
        completes = self.config.partial or any(column.keep for column in self.config.columns.values())
        keyed = f"case when {WAITING} then concat_ws(chr(31), {self.key}, {content}) else {self.key} end"
        return (
            f"case when {self.key} is not null then {keyed if completes else self.key}"
            f" when {WAITING} or coalesce({', '.join(names)}) is null then {place} else {content} end"
        )

    # --- records that go -----------------------------------------------------------------------------------------

    def forget(self, condition: str) -> dict[str, int]:
        """Delete records. Those that this very load read count as superseded from then on."""
        where = f"where {self.stream.mine()} and ({condition})"
        mine = f"_last_seen_at = {self.now}"
        gone = self.connection.execute(
            f"select count(*), sum(_times_in_run) filter ({mine} and _loaded_at is null),"
            f" count(*) filter ({mine} and _loaded_at is not null) from {self.table} {where}"
        ).fetchone()
        assert gone is not None
        if gone[0]:
            self.connection.execute(f"delete from {self.table} {where}")
        again = int(gone[1] or 0)
        return {"quarantined": -again, "superseded": again, "withdrawn": -gone[2]}

    def doubt(self, condition: str) -> None:
        """What these records are of is read again in this load: those that are not seen again go at its end."""
        self.connection.execute("create temp table if not exists doubted (id bigint)")
        self.connection.execute(
            f"insert into temp.doubted select rowid from {self.table} where {self.stream.mine()} and {condition}"
        )

    def forget_doubted(self) -> dict[str, int]:
        """Delete the records that were doubted and not seen again: one that was is another row of the table by now."""
        self.connection.execute("create temp table if not exists doubted (id bigint)")
        gone = self.forget("rowid in (select id from temp.doubted)")
        self.connection.execute("drop table temp.doubted")
        return gone

    def forget_read_again(self, *, any_broken: bool, is_whole: bool) -> dict[str, int]:
        """Rows that were read again, into temp.batch and, with `any_broken`, temp.broken: what was noted of them earlier goes.

        With `is_whole`, the rows are those of a table, where nothing else is left of what they were; a file may come after a newer one,
        and what waits in quarantine is settled when it is released.
        """
        good = f"{self.key} in (select {self.key} from temp.batch)"
        broken = f"{self.key} in (select {self.key} from temp.broken)"
        earlier = f"_last_seen_at < {self.now}"
        if any_broken:
            origins = f"{self.key} is null and _file in (select _file from temp.broken)" if is_whole else "false"
            again = f"({good} and not coalesce({broken}, false)) or ({earlier} and ({good} or {broken} or {origins}))"
        else:
            again = good
        return self.forget(f"_loaded_at is null and ({again}){'' if is_whole else f' and not {WAITING}'}")

    def forget_older(self) -> dict[str, int]:
        """After a first load: what is wrong with a row of which a later file had a version that could be loaded."""
        newer = (
            f"select q.rowid from {self.table} as q join {self.stream.table} as t on t.{self.key} = q.{self.key}"
            f" where {self.stream.mine('q.')} and {self.stream.mine('t.')} and t._file > q._file"
        )
        return self.forget(f"_loaded_at is null and not {WAITING} and rowid in ({newer})")

    def forget_withdrawn(self) -> dict[str, int]:
        """What comes again replaces what had been loaded and is in quarantine since; where there are versions to compare or to complete
        each other, both wait, and are settled when they are released."""
        columns = self.config.columns
        is_settled = self.config.partial or "updated_at" in columns or any(one.keep for one in columns.values())
        if self.users is None or is_settled:
            return {}
        mine = f"{self.stream.mine()} and _last_seen_at = {self.now}"
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
            f" and {WAITING}"
        )

    def take_waiting(self, is_known: str, is_rated: str) -> int:
        """Move rows that waited for an account that `is_known` by now, or for a user whose account is, and whose amount `is_rated`, to
        temp.batch; how many."""
        waits = f"_reason in ('unknown_account', 'missing_rate') and {is_known} and {is_rated}"
        if self.users is not None:
            waits = f"({waits} or {self.users.found})"
        waiting = f"from {self.table} where {self.stream.mine()} and {waits}"
        waited = int(scalar(self.connection, f"select count(*) {waiting}"))
        if not waited:
            return 0
        columns = ", ".join(f"{_typed(column)} as {identifier(column.name)}" for column in self.entity.columns)
        typed = f"(select {columns}, _unread, _file {waiting})"
        if self.users is not None:
            typed = self.users.told(typed)
        self.connection.execute(f"create or replace temp table batch as select * from {typed}")
        self.connection.execute(f"delete {waiting}")
        return waited


def seen_once(now: str) -> str:
    """SQL: what a record notes of having been seen for the first time."""
    return f"{now} as _first_seen_at, {now} as _last_seen_at, 1 as _times_seen, 1 as _times_in_run"


def _typed(column: Column) -> str:
    """SQL of a value in quarantine as its column's type; NULL where it could not be read."""
    value = f"try_cast({identifier(column.name)} as {column.sql_type})"
    return f"case when {is_read(column.name)} then {value} end"


def is_read(name: str) -> str:
    """SQL: whether a value of a row in quarantine could be read."""
    listed = f'list_transform(from_json(_unread, {literal(UNREAD)}), lambda u: u."column")'
    return f"(_unread is null or not list_contains({listed}, {literal(name)}))"
