"""Who a user of the product is: the account that they belonged to at a moment, and the id that they are known by.

Lives here: the SQL that makes the statements of a source (entity memberships) into spans of time, tells rows their accounts by them,
and moves or withdraws rows whose users turned out to be others. Must not live here: which streams make statements (mappings), how
rows that are read are written (`load.py`).

Products tell it as Segment's and PostHog's specifications have it: a call `group` says that a user belongs to an account from
then on, a call `identify` that a visitor's id is that of a user, a call `alias` that a user has another id now. An event names
its account itself, or it is that of its user at its moment: the one of the last statement before it, or else of the first one
after it, since a user is known to a product before anybody says whose user it is. All ids of one person share what was said of
any of them.

A loaded row has the id that its user is known by, and beside it the id as given: what is said later is about that one. In quarantine
there is only the id as given.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.warehouse import Connection, identifier, literal, scalar
from sources.base import StreamId
from sources.ledger import BY_USER

TEMPORARY = ("users_known", "misplaced")
"""The temporary tables that are made here."""
KNOWN = "temp.users_known"
"""One row for each id of a user and each span of time: user_id, person (the id they are known by), account_id or NULL, from_at
(inclusive), until_at (exclusive). The spans of an id have no gaps and do not overlap."""
USER_COLUMNS = tuple(BY_USER)
"""What a loaded row notes of its user."""
_MOST_NAMES = 10
"""So many ids in a chain of aliases are followed. Of two that name each other, the later statement holds."""


class Users:
    """Whose the rows of one stream are, in a source that says so."""

    def __init__(self, connection: Connection, stream: StreamId, *, now: datetime, run_id: str) -> None:
        assert stream.entity.user is not None
        self.connection = connection
        self.stream = stream
        self.now = now
        self.run_id = run_id
        self.statements = f"{stream.raw_schema}.memberships"
        self.table = stream.table
        self.quarantine = stream.quarantine
        self.user = identifier(stream.entity.user)
        self.is_key = stream.entity.user == stream.entity.key

    def note_known(self) -> None:
        """Make `KNOWN` from the statements of the source."""
        self.connection.execute(
            f"""
            create or replace temp table users_known as
            with recursive
            told as (
                -- What was loaded had been said by then, whatever its stamp says: else one of the future would outlast all later ones.
                select user_id, account_id, nullif(known_as, user_id) as known_as, least(since_at, _loaded_at) as since_at
                from {self.statements} where _source = {literal(self.stream.source)}
            ),
            said as (
                select user_id, arg_max(known_as, (since_at, known_as)) as known_as, max(since_at) as said_at
                from told where known_as is not null group by user_id
            ),
            aliases as (
                select earlier.user_id, earlier.known_as from said as earlier
                left join said as later on later.user_id = earlier.known_as and later.known_as = earlier.user_id
                    and (later.said_at, later.user_id) > (earlier.said_at, earlier.user_id)
                where later.user_id is null
            ),
            names as (
                select user_id, known_as as person, 1 as n from aliases
                union all
                select names.user_id, aliases.known_as, n + 1
                from names join aliases on aliases.user_id = names.person
                where n < {_MOST_NAMES} and aliases.known_as <> names.user_id
            ),
            ids as (
                select user_id, arg_max(person, n) as person from names group by user_id
                union all
                select distinct user_id, user_id from told where user_id not in (select user_id from aliases)
                union
                select known_as, known_as from aliases where known_as not in (select user_id from told)
            ),
            belongs as (
                select ids.person, told.since_at, max(told.account_id) as account_id
                from told join ids using (user_id) where told.account_id is not null
                group by ids.person, told.since_at
            ),
            spans as (
                select
                    person, account_id,
                    case when row_number() over in_order = 1 then timestamp '-infinity' else since_at end as from_at,
                    lead(since_at, 1, timestamp 'infinity') over in_order as until_at
                from belongs window in_order as (partition by person order by since_at)
            )
            select
                ids.user_id, ids.person, spans.account_id,
                coalesce(spans.from_at, timestamp '-infinity') as from_at,
                coalesce(spans.until_at, timestamp 'infinity') as until_at
            from ids left join spans using (person)
            """
        )

    def told(self, relation: str) -> str:
        """SQL of `relation`, whose users are as given, with the ids that they are known by, the accounts that they tell and
        `USER_COLUMNS`."""
        given = f"r.{self.user}"
        person = self._person(given)
        return (
            f"(select r.* replace (coalesce(r.account_id, u.account_id) as account_id, {person} as {self.user}),"
            " r.account_id is null and u.account_id is not null as _is_by_user,"
            f" nullif({given}, {person}) as _user_as_given from {relation} as r {self._joined('r', given)})"
        )

    def given(self, alias: str = "") -> str:
        """SQL: the user's id as the source gave it, of a row that was told."""
        return f"coalesce({alias}_user_as_given, {alias}{self.user})"

    @property
    def unsaid(self) -> str:
        """SQL: why a row without an account is in quarantine. A user's id may be an address: it is not repeated."""
        return literal(f"nothing says which account the user belongs to ({self.stream.entity.user})")

    @property
    def found(self) -> str:
        """SQL: which rows of quarantine waited for a user whose account is known."""
        return f"_reason = 'unknown_user' and {self.user} in (select user_id from {KNOWN} where account_id is not null)"

    def anything_said(self, *, since: datetime | None) -> bool:
        """Whether statements of the source were loaded after `since`."""
        if since is None:
            return False
        asked = f"select 1 from {self.statements} where _source = ? and _loaded_at >= ? limit 1"
        return scalar(self.connection, asked, [self.stream.source, since]) is not None

    def note_misplaced(self) -> bool:
        """Put the rows of the stream that belong to another user or account, or to no account any more, into temp.misplaced
        (id, person, account_id); whether there are any."""
        person = self._person(self.given("e."))
        self.connection.execute(
            f"create or replace temp table misplaced as select e.rowid as id, {person} as person,"
            " case when e._is_by_user then u.account_id else e.account_id end as account_id"
            f" from {self.table} as e {self._joined('e', self.given('e.'))}"
            f" where {self.stream.mine('e.')}"
            f" and ({person} <> e.{self.user} or e._is_by_user and u.account_id is distinct from e.account_id)"
        )
        return bool(scalar(self.connection, "select 1 from temp.misplaced limit 1"))

    def withdraw(self) -> int:
        """Misplaced rows that have no account any more go back to quarantine, as they were given; how many."""
        lost = "rowid in (select id from temp.misplaced where account_id is null)"
        as_given = {"account_id": "null", self.stream.entity.user: self.given()}
        texts = ", ".join(
            f"cast({as_given.get(name, identifier(name))} as varchar) as {identifier(name)}"
            for name in self.stream.entity.column_names
        )
        self.connection.execute(
            f"insert into {self.quarantine} by name select {texts}, _source, _stream, _account_source, _file, _unread,"
            f" 'unknown_user' as _reason, {self.unsaid} as _detail, _loaded_at,"
            " cast(? as timestamp) as _first_seen_at, cast(? as timestamp) as _last_seen_at, 1 as _times_seen, 1 as _times_in_run,"
            f" cast(? as varchar) as _run_id from {self.table} where {lost}",
            [self.now, self.now, self.run_id],
        )
        return self._written(f"delete from {self.table} where {lost}")

    def move(self) -> int:
        """Misplaced rows that have an account go to it and to their user; how many."""
        return self._written(
            f"update {self.table} as e set {self.user} = m.person, _user_as_given = nullif({self.given('e.')}, m.person),"
            " account_id = m.account_id, _loaded_at = cast(? as timestamp), _run_id = cast(? as varchar)"
            " from temp.misplaced as m where e.rowid = m.id and m.account_id is not null",
            [self.now, self.run_id],
        )

    def _person(self, given: str) -> str:
        """SQL: the id that a user is known by. One that is the row's key is left as it is."""
        return given if self.is_key else f"coalesce(u.person, {given})"

    def _joined(self, alias: str, given: str) -> str:
        """SQL that joins to rows what is known of their user `u`: when the row happened, or now for what lasts."""
        entity = self.stream.entity
        moment = f"{alias}.{identifier(entity.happened_at)}" if entity.ended_at is None else f"timestamp '{self.now}'"
        return f"left join {KNOWN} as u on u.user_id = {given} and {moment} >= u.from_at and {moment} < u.until_at"

    def _written(self, sql: str, parameters: Sequence[object] = ()) -> int:
        written = self.connection.execute(sql, list(parameters)).fetchone()
        return int(written[0]) if written else 0
