"""Periods out of states: a source that only tells what a subscription is now, and a contract that keeps what it was.

Lives here: which period of a subscription a row that was read belongs to, and when one ends and another begins. Must not live
here: reading, checking or writing rows (`load.py`).

A stream with `periods: true` delivers each subscription under one id. Its first period has that id. When what is paid for changes
(plan, seats, MRR, end of the discount, interval, trial), the period ends with the reason `changed` and one begins that is called
`<id>@<seconds since 1970>`, at the moment of the change (`updated_at`). What has changed in between two looks is one change, and
one that has ended is what it was when it was last seen to run.

What is over stays over. A subscription that runs again begins a period, when the source says that it started, or else when it was
changed; an end that still lay ahead may be withdrawn. An end that is entered afterwards holds from its own date: periods that
began at or after it never were, and the one that ran then ends with it.

Periods that are over are told by nobody any more: reading all again leaves them, and goes on where the last of them ended. A source may
tell of periods that were over before the subscription was first seen (a trial), as rows of their own that are called in the same way.
They are kept where nothing is known of the subscription yet; what is known of its past is not changed by them.
"""

from __future__ import annotations

from datetime import datetime

from core.warehouse import Connection, rows
from sources.base import StreamId

TEMPORARY = ("assigned",)
"""The temporary tables that are made here."""
CHANGED = "changed"
PAID_FOR = ("plan", "seats", "mrr", "discount_ends_at", "billing_interval", "is_trial")
_CHANGED = f"end_reason is not distinct from '{CHANGED}'"


def base_of(key: str) -> str:
    """SQL: the subscription whose period `key` names."""
    return f"regexp_replace({key}, '@\\d+$', '')"


def are_over(now: datetime) -> str:
    """SQL: periods that reading all again does not bring back."""
    return f"coalesce({_CHANGED} or ended_at <= timestamp '{now}', false)"


def leave_former(connection: Connection, stream: StreamId) -> int:
    """Take rows out of temp.batch that tell of former periods of subscriptions which are known already; how many."""
    base = base_of("b.subscription_id")
    left = connection.execute(
        f"delete from temp.batch as b where {base} in (select {base_of('subscription_id')} from {stream.table} where {stream.mine()})"
        f" and (b.{_CHANGED} or exists (select 1 from temp.batch as later"
        f" where {base_of('later.subscription_id')} = {base} and later.started_at > b.started_at"
        " and later.subscription_id <> b.subscription_id and later.started_at = b.ended_at))"
    ).fetchone()
    return int(left[0]) if left else 0


def assign(connection: Connection, stream: StreamId, *, now: datetime, run_id: str, full: bool) -> int:
    """Give the rows of temp.batch, one for each subscription, the period that they tell of, and end or take out periods of the
    stream's that are over or never were; how many.

    With `full`, what a period that ended was is what is told of it now.
    """
    _match(connection, stream, now, full=full)
    if not rows(connection, "select 1 from temp.assigned limit 1"):
        return 0
    ended = connection.execute(
        f"update {stream.table} as p set ended_at = a.started_at, end_reason = '{CHANGED}',"
        " updated_at = case when p.updated_at is not null then a.moment end, _loaded_at = cast($now as timestamp), _run_id = $run_id"
        " from temp.assigned as a where a.period_row = p.rowid and a.outcome = 'new'",
        {"now": now, "run_id": run_id},
    ).fetchone()
    never_were = connection.execute(
        f"delete from {stream.table} as p using temp.assigned as a where {stream.mine('p.')} and a.is_news"
        f" and {base_of('p.subscription_id')} = a.base and p.started_at >= a.told_end and p.rowid <> a.period_row"
        " and p.started_at >= a.started_at"
    ).fetchone()
    changed = ", ".join(
        f"{name} = a.{name}" for name in ("subscription_id", "started_at", "ended_at", "end_reason", *PAID_FOR)
    )
    connection.execute(f"update temp.batch as b set {changed} from temp.assigned as a where b.rowid = a.batch_row")
    return int(ended[0] if ended else 0) + int(never_were[0] if never_were else 0)


def _match(connection: Connection, stream: StreamId, now: datetime, *, full: bool) -> None:
    """Put what becomes of each row of temp.batch whose subscription is known into temp.assigned.

    outcome: `same` (the period goes on), `end` (it is over), `new` (it ends with a change and another begins), `after` (another
    begins where a former one ended), `again` (another begins after an end).
    """
    same = " and ".join(f"b.{name} is not distinct from p.{name}" for name in PAID_FOR)
    # Of a period that has ended, what was paid for is what it was when it was seen to run.
    paid_for = ", ".join(
        f"case when outcome = 'end'{' and false' * full} then p_{name} else {name} end as {name}" for name in PAID_FOR
    )
    told = ", ".join(f"b.{name}, p.{name} as p_{name}" for name in PAID_FOR)
    connection.execute(
        f"""
        create or replace temp table assigned as
        with periods as (
            select *, rowid as period_row, {base_of("subscription_id")} as base
            from {stream.table} where {stream.mine()}
        ),
        known as (
            select
                *,
                row_number() over in_order as n,
                row_number() over in_order = count(*) over of_base as is_latest,
                max(case when updated_at is not null then least(updated_at, _loaded_at) end) over of_base as known_at
            from periods
            window
                in_order as (partition by base order by started_at, subscription_id),
                of_base as (partition by base)
        ),
        told as (
            select
                *, rowid as batch_row, {base_of("subscription_id")} as base,
                least(coalesce(updated_at, cast($now as timestamp)), cast($now as timestamp)) as moment
            from temp.batch
        ),
        matched as (
            select
                b.batch_row, b.base, b.moment, b.subscription_id as told_id, b.started_at as told_start, b.ended_at as told_end,
                b.end_reason as told_reason, {told}, {same} as is_same,
                p.period_row, p.subscription_id as period, p.started_at as p_start, p.ended_at as p_end,
                p.end_reason as p_reason, p.{_CHANGED} as is_former, p.is_latest, p.known_at,
                coalesce(b.moment >= p.known_at, true) as is_news,
                coalesce(b.moment > greatest(p.started_at, p.known_at), true) as is_newer,
                -- A period that the source tells of begins when it says, which may be long before it was seen.
                b.subscription_id <> b.base and b.started_at > p.started_at and p.ended_at is null as is_told
            from told as b join known as p on p.base = b.base
            -- The period that ran at the end which is told, or the latest one.
            where p.n = 1 or b.ended_at is null or p.started_at < b.ended_at or b.moment < p.known_at
            qualify row_number() over (partition by b.batch_row order by p.n desc) = 1
        ),
        decided as (
            select *, case
                when not is_news then 'same'
                when not is_latest then 'end'
                when told_start >= p_end and told_start > p_start then 'again'
                when is_told and is_newer and not is_same then 'new'
                when is_former and p_end is not null then case when told_end <= p_end then 'end' else 'after' end
                when told_end is not null then 'end'
                when p_end <= moment then 'again'
                when is_same or not is_newer then 'same'
                else 'new'
            end as outcome
            from matched
        ),
        placed as (
            select *, case outcome
                when 'new' then case when is_told then least(told_start, moment) else moment end
                when 'after' then p_end
                when 'again' then case when told_start >= p_end then told_start else moment end
                else case when period = told_id then told_start else p_start end
            end as begins_at
            from decided
        )
        select
            batch_row, period_row, base, moment, outcome, is_news, told_end,
            case
                when outcome in ('same', 'end') then period
                else base || '@' || cast(cast(epoch(begins_at) as bigint) as varchar)
            end as subscription_id,
            begins_at as started_at,
            case
                when not is_news then p_end
                when outcome = 'end' and not is_latest and not is_former then least(told_end, p_end)
                when told_end < begins_at then begins_at
                else told_end
            end as ended_at,
            case
                when not is_news or (outcome = 'end' and not is_latest and not is_former and p_end <= told_end) then p_reason
                else told_reason
            end as end_reason,
            {paid_for}
        from placed
        """,
        {"now": now},
    )
