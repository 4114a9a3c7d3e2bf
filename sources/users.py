"""Who a user of the product is: the account that they belonged to at a moment, and the id that they are known by.

Lives here: the SQL that makes the statements of a source (entity memberships) into spans of time, and finds rows that were
given to another user or account before. Must not live here: which streams make statements (mappings), how rows are written
(`load.py`).

Products tell it as Segment's and PostHog's specifications have it: a call `group` says that a user belongs to an account from
then on, a call `identify` that a visitor's id is that of a user, a call `alias` that a user has another id now. An event names
its account itself, or it is that of its user at its moment: the one of the last statement before it, or else of the first one
after it, since a user is known to a product before anybody says whose user it is. All ids of one person share what was said of
any of them.
"""

from __future__ import annotations

from datetime import datetime

from core.warehouse import Connection, identifier, literal, rows, scalar

KNOWN = "temp.users_known"
"""One row for each id of a user and each span of time: user_id, person (the id they are known by), account_id or NULL, from_at
(inclusive), until_at (exclusive). The spans of an id have no gaps and do not overlap."""
_MOST_NAMES = 10
"""So many ids in a chain of aliases are followed. Of two that name each other, the later statement holds."""


def note_known(connection: Connection, table: str, source: str) -> None:
    """Make `KNOWN` from the statements of `source` in `table`."""
    connection.execute(
        f"""
        create or replace temp table users_known as
        with recursive
        told as (
            select user_id, account_id, nullif(known_as, user_id) as known_as, since_at
            from {table} where _source = {literal(source)}
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


def told(relation: str, user: str, moment: str, *, is_key: bool) -> str:
    """SQL of `relation` with the accounts that users tell, `_is_by_user`, and in `user` the id that they are known by.

    `moment` is SQL over `relation`. A `user` that is the row's key is left as it is.
    """
    name = identifier(user)
    known_by = "" if is_key else f", coalesce(u.person, r.{name}) as {name}"
    return (
        f"(select r.* replace (coalesce(r.account_id, u.account_id) as account_id{known_by}),"
        " r.account_id is null and u.account_id is not null as _is_by_user"
        f" from {relation} as r left join {KNOWN} as u"
        f" on u.user_id = r.{name} and {moment} >= u.from_at and {moment} < u.until_at)"
    )


def anything_said(connection: Connection, table: str, source: str, *, since: datetime | None) -> bool:
    """Whether statements of `source` in `table` were loaded after `since`."""
    if since is None:
        return False
    asked = f"select 1 from {table} where _source = ? and _loaded_at >= ? limit 1"
    return scalar(connection, asked, [source, since]) is not None


def note_misplaced(connection: Connection, table: str, mine: str, user: str, moment: str, *, is_key: bool) -> int:
    """Put the rows of `table` that belong to another user or account into temp.misplaced (id, person, account_id); how many."""
    name = identifier(user)
    person = f"e.{name}" if is_key else "u.person"
    connection.execute(
        "create or replace temp table misplaced as"
        f" select e.rowid as id, {person} as person,"
        " case when e._is_by_user then coalesce(u.account_id, e.account_id) else e.account_id end as account_id"
        f" from {table} as e join {KNOWN} as u on u.user_id = e.{name} and {moment} >= u.from_at and {moment} < u.until_at"
        f" where {mine} and ({person} <> e.{name} or e._is_by_user and u.account_id <> e.account_id)"
    )
    return int(rows(connection, "select count(*) as n from temp.misplaced")[0]["n"])
