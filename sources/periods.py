"""Periods out of states: a source that only tells what a subscription is now, and a contract that keeps what it was.

Lives here: which period of a subscription a row that was read belongs to, and when one ends and another begins. Must not live
here: reading, checking or writing rows (`load.py`).

A stream with `periods: true` delivers each subscription under one id. Its first period has that id. When what is paid for changes
(plan, seats, MRR, end of the discount, interval, trial), the period ends with the reason `changed` and one begins that is called
`<id>@<seconds since 1970>`, at the moment of the change (`updated_at`). What has changed in between two looks is one change, and
one that has ended is what it was when it was last seen to run.

Former periods are told by nobody any more: reading all anew leaves them, and goes on where the last of them ended. A source may
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
PAID_FOR = ("plan", "seats", "mrr_usd", "discount_ends_at", "billing_interval", "is_trial")
KEPT_WHEN_FULL = f"end_reason = '{CHANGED}'"
"""SQL: rows that reading all anew does not bring back."""
_BASE = "regexp_replace({id}, '@\\d+$', '')"
"""SQL: the id of the subscription that a period is of."""
_FORMER = f"p.end_reason = '{CHANGED}' and p.ended_at is not null"
_NAME = "|| '@' || cast(cast(epoch({moment}) as bigint) as varchar)"


def leave_former(connection: Connection, stream: StreamId) -> int:
    """Take rows out of temp.batch that tell of former periods of subscriptions which are known already; how many."""
    base, known = _BASE.format(id="b.subscription_id"), _BASE.format(id="subscription_id")
    left = connection.execute(
        f"delete from temp.batch as b where {base} in (select {known} from {stream.table} where {stream.mine()})"
        f" and (b.end_reason is not distinct from '{CHANGED}' or exists (select 1 from temp.batch as later"
        f" where {_BASE.format(id='later.subscription_id')} = {base} and later.started_at > b.started_at"
        " and later.subscription_id <> b.subscription_id and later.started_at = b.ended_at))"
    ).fetchone()
    return int(left[0]) if left else 0


def assign(connection: Connection, stream: StreamId, *, now: datetime, run_id: str) -> int:
    """Give the rows of temp.batch the period that they tell of, and end periods of the stream's that are over; how many."""
    same = " and ".join(f"b.{name} is not distinct from p.{name}" for name in PAID_FOR)
    base, seen = _BASE.format(id="b.subscription_id"), "coalesce(b.updated_at, cast($now as timestamp))"
    is_newer = f"{seen} > greatest(p.started_at, p.updated_at)"
    # A period that the source tells of begins when it says, which may be long before it was seen.
    is_told = "(b.subscription_id <> p.base and b.started_at > p.started_at and p.ended_at is null)"
    moment = f"case when {is_told} then least(b.started_at, {seen}) else {seen} end"
    connection.execute(
        "create or replace temp table assigned as"
        f" with periods as (select *, rowid as period_row, {_BASE.format(id='subscription_id')} as base"
        f" from {stream.table} where {stream.mine()}), latest as (select * from periods"
        " qualify row_number() over (partition by base order by started_at desc, subscription_id desc) = 1)"
        f" select b.rowid as batch_row, p.period_row, p.base, {moment} as moment, case when {_FORMER} then 'after'"
        f" when {is_told} and {is_newer} and not ({same}) then 'new' when b.ended_at is not null then 'end'"
        f" when {same} or p.ended_at is not null or not coalesce({is_newer}, true) then 'same'"
        " else 'new' end as outcome"
        f" from temp.batch as b join latest as p on p.base = {base}",
        {"now": now},
    )
    if not rows(connection, "select 1 from temp.assigned limit 1"):
        return 0
    kept = ", ".join(f"{name} = case when a.outcome = 'end' then p.{name} else b.{name} end" for name in PAID_FOR)
    connection.execute(
        "update temp.batch as b set"
        f" subscription_id = case a.outcome when 'new' then a.base {_NAME.format(moment='a.moment')}"
        f" when 'after' then a.base {_NAME.format(moment='p.ended_at')} else p.subscription_id end,"
        " started_at = case when a.outcome = 'new' then a.moment when a.outcome = 'after' then p.ended_at"
        f" when p.subscription_id = b.subscription_id then b.started_at else p.started_at end, {kept}"
        f" from temp.assigned as a join {stream.table} as p on p.rowid = a.period_row where b.rowid = a.batch_row"
    )
    ended = connection.execute(
        f"update {stream.table} as p set ended_at = a.moment, end_reason = '{CHANGED}', updated_at = a.moment,"
        " _loaded_at = cast($now as timestamp), _run_id = $run_id"
        " from temp.assigned as a where a.period_row = p.rowid and a.outcome = 'new'",
        {"now": now, "run_id": run_id},
    ).fetchone()
    return int(ended[0]) if ended else 0
