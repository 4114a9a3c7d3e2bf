"""Product events of one month: who used which feature when, and how the event reached us.

Lives here: the spread of a month's events over users, features, days and hours, and the faults on their way. Must not live
here: how many events an account has (`sandbox/world.py`), files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sandbox import faults
from sandbox.identity import Identity
from sandbox.randomness import Ints, hex_ids, key, stream
from sandbox.timeline import DAY
from sandbox.world import PRODUCTS, World

CORE_FEATURES = (
    "login",
    "view_dashboard",
    "create_record",
    "edit_record",
    "search",
    "comment",
    "export_report",
    "import_csv",
    "share_link",
    "invite_user",
    "create_dashboard",
    "schedule_report",
    "api_call",
    "bulk_edit",
    "assign_task",
    "complete_task",
    "upload_file",
    "download_file",
    "create_workflow",
    "run_workflow",
    "connect_integration",
    "sync_integration",
    "mobile_login",
    "mobile_edit",
    "set_permission",
    "view_audit_log",
    "create_template",
    "use_template",
    "tag_record",
    "filter_view",
)
INSIGHTS_FEATURES = (
    "open_insights",
    "build_query",
    "save_query",
    "create_chart",
    "pin_chart",
    "set_alert",
    "forecast",
    "segment_users",
    "export_chart",
    "share_board",
)
FEATURES = CORE_FEATURES + INSIGHTS_FEATURES
INSIGHTS_SHARE = 0.22
"""Share of events in the second product, where an account owns it."""
MEASURED = np.isin(np.array(FEATURES), ["api_call", "bulk_edit", "import_csv", "sync_integration", "run_workflow"])
"""Features whose quantity is a number of things rather than 1."""
LONGEST_DELAY_DAYS = 13
"""No event is received later than this after it happened."""

_TASTES = np.stack(
    [np.concatenate([[0], 1 + np.random.Generator(np.random.PCG64(t)).permutation(29)]) for t in range(4)]
).astype(np.int8)
"""In which order accounts of each taste take up the core features; taste means nothing for churn."""

KINDS = (
    faults.Broken("null_account", "null_key"),
    faults.Broken("null_id", "null_key"),
    faults.Broken("unknown_account", "unknown_account"),
    faults.Broken("no_event_name", "missing_value"),
    faults.Broken("far_future", "impossible_date"),
)

SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("workspace_id", pa.dictionary(pa.int32(), pa.string())),
        ("user_id", pa.dictionary(pa.int32(), pa.string())),
        ("event", pa.dictionary(pa.int8(), pa.string())),
        ("timestamp", pa.timestamp("us")),
        ("quantity", pa.float64()),
        ("product", pa.dictionary(pa.int8(), pa.string())),
        ("received_at", pa.timestamp("us")),
    ]
)


@dataclass(frozen=True)
class Events:
    """Events in the order in which they are received.

    `received` is in seconds since 1970, `account` the position in the chunk, `fault` 0 none, 1 late, 2 the second copy of a
    duplicate, 3 and above the number of a broken kind plus 3.
    """

    table: pa.Table
    received: Ints
    account: Ints
    fault: Ints

    def between(self, since: int, until: int) -> Events:
        """Those received from `since` (inclusive) to `until` (exclusive)."""
        low, high = (int(np.searchsorted(self.received, moment)) for moment in (since, until))
        # A short slice is copied: held until its file is full, it would keep the whole month in memory.
        is_short = 4 * (high - low) < len(self.received)
        table = self.table.take(pa.array(np.arange(low, high))) if is_short else self.table.slice(low, high - low)
        return Events(table, self.received[low:high], self.account[low:high], self.fault[low:high])


def _dictionary(indices: Ints, size: int, words: pa.Array, missing: Ints | None = None) -> pa.Array:
    mask = None if missing is None else missing.astype(bool)
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32() if size > 127 else pa.int8(), mask=mask), words)


def of_month(world: World, identity: Identity, month: int) -> Events:
    """All events that happen in a month, whenever they are received, with the faults planted among them."""
    use, a = world.usage[month], world.accounts
    rng = stream(world.seed, "events", world.chunk, month)
    count = use.count
    size = int(count.sum())
    who = np.repeat(np.arange(world.size), count)
    first = np.cumsum(count) - count
    ordinal = np.arange(size) - np.repeat(first, count)

    users = use.users[who]
    slot = (users * rng.random(size, dtype=np.float32) ** 1.4).astype(np.int64)
    slot = np.where(ordinal < users, ordinal, slot)
    user_first = np.cumsum(use.users) - use.users

    rank = (use.breadth[who] * rng.random(size, dtype=np.float32) ** 1.8).astype(np.int64)
    feature = _TASTES[a["taste"][who], rank].astype(np.int64)
    product_draw = rng.random(size, dtype=np.float32)
    insights = use.insights[who] & (product_draw < INSIGHTS_SHARE)
    feature[insights] = len(CORE_FEATURES) + (product_draw[insights] / INSIGHTS_SHARE * 9.99).astype(np.int64)

    work = world.months.work(month)
    low, high = work[use.first_day], work[use.last_day]
    spot = low[who] + rng.random(size) * (high - low)[who]
    day = (np.searchsorted(work, spot, side="right") - 1).clip(use.first_day[who], use.last_day[who] - 1)
    hours = rng.random(size, dtype=np.float32) + rng.random(size, dtype=np.float32)
    zone = (a["country"] % 5 - 2)[who] * 3600
    happened = int(world.months.begin(month)) + day * DAY + 7 * 3600 + zone + (hours * 6 * 3600).astype(np.int64)

    lot = rng.random(size, dtype=np.float32)
    late = lot < faults.LATE_EVENT_RATE
    received = happened + 1 + (lot * 90).astype(np.int64)
    received[late] += (DAY * (1 + 8 * rng.random(int(late.sum())))).astype(np.int64)
    twice = np.flatnonzero((lot >= 0.5) & (lot < 0.5 + faults.DUPLICATE_EVENT_RATE))
    again = np.where(rng.random(len(twice)) < 0.5, 5, (2 * DAY * rng.random(len(twice))).astype(np.int64))
    broken = np.flatnonzero((lot >= 0.7) & (lot < 0.7 + faults.BROKEN_EVENT_RATE))
    how = rng.integers(0, len(KINDS), len(broken))

    quantity = np.where(MEASURED[feature], 1.0 + np.floor(40.0 * product_draw), 1.0)
    source = np.concatenate([np.arange(size), twice, broken])
    fault = np.concatenate([late.astype(np.int64), np.full(len(twice), 2), 3 + how])
    seen = np.concatenate([received, received[twice] + again, received[broken]])
    order = np.argsort(seen, kind="stable")
    source, fault, seen = source[order], fault[order], seen[order]

    ids = hex_ids("", key("event", world.index[who], month, ordinal, world.seed)[source])
    ids = _with_broken_ids(ids, fault)
    account = who[source]
    workspaces = pa.concat_arrays([identity.workspace_id, pa.array([f"ws_{faults.UNKNOWN_HEX}"])])
    place = np.where(fault == 3 + 2, world.size, account)
    happened = np.where(fault == 3 + 4, faults.FAR_EPOCH, happened[source])
    owner_of_user = np.repeat(np.arange(world.size), use.users)
    slots = np.arange(len(owner_of_user)) - np.repeat(user_first, use.users) + np.repeat(use.shift, use.users)
    user_ids = hex_ids("u_", key("user", world.index[owner_of_user], 0, slots, world.seed))
    table = pa.table(
        [
            ids,
            _dictionary(place, 1_000, workspaces, fault == 3),
            _dictionary((user_first[who] + slot)[source], 1_000, user_ids),
            _dictionary(feature[source], 40, pa.array(FEATURES), fault == 3 + 3),
            pa.array(happened * 1_000_000, pa.timestamp("us")),
            pa.array(quantity[source]),
            _dictionary(insights[source].astype(np.int64), 2, pa.array(PRODUCTS)),
            pa.array(seen * 1_000_000, pa.timestamp("us")),
        ],
        schema=SCHEMA,
    )
    return Events(table, seen, account, fault)


def _with_broken_ids(ids: pa.Array, fault: Ints) -> pa.Array:
    """Broken events carry an id of their own (the true one with a zero behind), or none."""
    rows = np.flatnonzero(fault >= 3)
    if not len(rows):
        return ids
    longer = pc.binary_join_element_wise(ids.take(pa.array(rows)), pa.scalar("0"), "")
    changed = pc.if_else(pa.array(fault[rows] == 3 + 1), pa.scalar(None, pa.string()), longer)
    return pc.replace_with_mask(ids, pa.array(fault >= 3), changed)
