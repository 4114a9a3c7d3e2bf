"""Stripe: customers, subscriptions with their MRR, invoices, and the money that moves beside them: charges and refunds.

Lives here: Stripe's paths, lists, events, fields and error bodies. Must not live here: loops, retries, what is kept (`api.py`),
what an object is shown as (`stripe_objects.py`), the rules of MRR (`stripe_mrr.py`), which field becomes which column (`stripe.yml`).

A first load goes through the lists, which are newest first and know no time of change. From then on it follows the events: each
says that an object changed, and what it is now is asked of Stripe, since an event tells it in the version of the API of its
own day and without what has to be expanded. `changed_at` is when: that of the event, and for the first load that of the newest
event before it, so that older events change nothing.

The pages of Stripe's documentation behind the rules (docs.stripe.com):
- "Pagination": `limit` to 100, `starting_after`, `ending_before`, `has_more`; lists are newest first.
- "Events": kept for 30 days; up to 20 `types`; they may come late, hence the overlap.
- "Rate limits": 100 operations a second in live mode, 25 in a sandbox and for one endpoint; 429.
- "Expanding responses": four levels deep; what that leaves out is fetched (`stripe_objects.py`).
- "Types of events": `customer.discount.*` are about a discount, with its `customer` and, where it is of one, its `subscription`.
- "Restricted API keys": read permissions by resource; a 403 names the one that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from core.errors import Skippable
from core.http import Answer, document_of, secure
from core.source_settings import ApiSource, SourceConfig, StripeSource
from sources import stripe_mrr, stripe_objects
from sources.api import Access, ApiStream, Ask, Page, Position, Record, Resource, Vendor, access, unix_seconds
from sources.base import StreamId

BASE_URL = "https://api.stripe.com"
OVERLAP_SECONDS = 300
"""How far back of the last event each run looks again: events are not promised to come in order."""
KEPT = timedelta(days=29)
"""Events are kept for 30 days: after a longer silence all has to be listed anew."""


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: object) -> ApiStream:
    """The connector's door; see `sources.base.Opener`."""
    assert isinstance(source, ApiSource)
    return ApiStream(stream, source, STRIPE, now=now)


def _itself(ask: Ask, changed: Record) -> Iterable[str]:
    return [str(changed["id"])] if changed.get("id") else []


@dataclass(frozen=True)
class Kind:
    """A kind of Stripe's objects: its path, how it is shown, what changes it, and when it is none of ours.

    `expanded` are the fields to be shown whole, each with the version of the API since which it can be. `about` finds the
    objects that an event changes, by what the event holds. `shown` gives its records, or raises `Skippable` for an object that
    Stripe shows only in part, which is quarantined.
    """

    path: str
    shown: Callable[[Ask, Record], Sequence[Record]]
    events: Sequence[str]
    listed: Mapping[str, Any] = field(default_factory=dict)
    expanded: Mapping[str, str] = field(default_factory=dict)
    is_gone: Callable[[Ask, Record], bool] = stripe_objects.is_deleted
    about: Callable[[Ask, Record], Iterable[str]] = _itself


def _reading(kind: Kind) -> Callable[[Ask], Page]:
    def read(ask: Ask) -> Page:
        position = ask.position
        if position and ask.now - datetime.fromisoformat(position["checked_at"]) > KEPT:
            position = {}
        if position.get("events_from", 0) > unix_seconds(
            ask.now
        ):  # saved by a version that followed an event of the future
            position = {}
        return _events(kind, ask, position) if "events_from" in position else _list(kind, ask, position)

    return read


def _list(kind: Kind, ask: Ask, position: Position) -> Page:
    """A page of the list. What happened up to `known_to` is surely in it: that was asked for before the first page."""
    follows = stripe_objects.settings(ask).changes == "events"
    known_to = int(position["known_to"]) if position else _newest_event(ask) if follows else 0
    since = None if ask.since is None else unix_seconds(ask.since)
    ask.memo["is_listing"] = True
    document = ask.api.get(
        kind.path,
        holds="data",
        limit=stripe_objects.PAGE_ROWS,
        starting_after=position.get("after"),
        **{**kind.listed, "created[gte]": since, **_expanded(kind, ask, "data.")},
    )
    found = document["data"]
    # Without events nobody knows when something changed: some time before now.
    page = _page(kind, ask, [(one, max(known_to, int(one.get("created") or 0)) if follows else None) for one in found])
    if document.get("has_more") and found:
        ahead = {
            "known_to": known_to,
            "after": found[-1]["id"],
            "checked_at": position.get("checked_at", ask.now.isoformat()),
        }
        return replace(page, position=ahead, is_end=False)
    return replace(page, position=_from(known_to, ask) if follows else {})


def _expanded(kind: Kind, ask: Ask, prefix: str = "") -> dict[str, Any]:
    """What is to be shown whole, where the version of the API that is asked can."""
    names = [
        f"{prefix}{name}" for name, since in kind.expanded.items() if stripe_objects.settings(ask).api_version >= since
    ]
    return {"expand[]": names or None}


def _from(moment: int, ask: Ask) -> Position:
    return {"events_from": moment, "checked_at": ask.now.isoformat()}


def _newest_event(ask: Ask) -> int:
    until: dict[str, Any] = {"created[lte]": unix_seconds(ask.now)}
    events = ask.api.get("/v1/events", holds="data", limit=1, **until)["data"]
    return int(events[0]["created"]) if events else 0


def _came_to(ask: Ask, before: int, events: Sequence[Record]) -> int:
    """The moment of the newest event, of those up to the run's own: one of the future would hide those that happen until then."""
    moments = (int(event["created"]) for event in events)
    return max([before, *(at for at in moments if at <= unix_seconds(ask.now))])


def _events(kind: Kind, ask: Ask, position: Position) -> Page:
    """A page of events, oldest first: those after the event at which the last page ended, or after one before the overlap."""
    came_to, last = int(position["events_from"]), position.get("last")
    if last is None:
        before: dict[str, Any] = {"types[]": list(kind.events), "created[lt]": came_to - OVERLAP_SECONDS}
        older = ask.api.get("/v1/events", holds="data", limit=1, **before)["data"]
        last = older[0]["id"] if older else None
    if last is None:
        return _all_events(kind, ask, position)
    types: dict[str, Any] = {"types[]": list(kind.events)}
    document = ask.api.get("/v1/events", holds="data", limit=stripe_objects.PAGE_ROWS, ending_before=last, **types)
    events = document["data"]
    page = _changed(kind, ask, events)
    came_to = _came_to(ask, came_to, events)
    if document.get("has_more") and events:
        return replace(page, position={**_from(came_to, ask), "last": events[0]["id"]}, is_end=False)
    return replace(page, position=_from(came_to, ask))


def _all_events(kind: Kind, ask: Ask, position: Position) -> Page:
    """Where there is no older event to begin after: newest first, all pages in one transaction."""
    document = ask.api.get(
        "/v1/events",
        holds="data",
        limit=stripe_objects.PAGE_ROWS,
        starting_after=position.get("down_to"),
        **{"types[]": list(kind.events), "created[gte]": max(position["events_from"] - OVERLAP_SECONDS, 0)},
    )
    events = document["data"]
    page = _changed(kind, ask, events)
    newest = _came_to(ask, int(position.get("newest") or position["events_from"]), events)
    if document.get("has_more") and events:
        ahead = {**position, "newest": newest, "down_to": events[-1]["id"]}
        return replace(page, position=ahead, is_end=False, is_whole=False, newest_first=True)
    return replace(page, position=_from(newest, ask), newest_first=True)


def _changed(kind: Kind, ask: Ask, events: Sequence[Record]) -> Page:
    """The objects that events (newest first) are about, as they are now; each once in a load, at its newest event."""
    told = ask.memo.setdefault("told", {})
    moments: dict[str, int] = {}
    for event in reversed(events):
        data = event.get("data")
        found = data.get("object") if isinstance(data, Mapping) else None
        if isinstance(found, Mapping):
            moments |= dict.fromkeys(kind.about(ask, found), int(event["created"]))
    fresh = {key: at for key, at in moments.items() if told.get(key, -1) < at}
    told.update(fresh)
    return _page(kind, ask, [(_object(kind, ask, key), at) for key, at in fresh.items()])


def _object(kind: Kind, ask: Ask, key: str) -> Record:
    missing = {"id": key, "deleted": True}
    return ask.api.get(f"{kind.path}/{key}", holds=None, missing=missing, **_expanded(kind, ask))


def _page(kind: Kind, ask: Ask, found: Sequence[tuple[Record, int | None]]) -> Page:
    records: list[Record] = []
    gone: list[tuple[Record, datetime | None]] = []
    incomplete: dict[Any, str] = {}
    for one, at in found:
        if kind.is_gone(ask, one):
            gone.append((one, _moment(at)))
            continue
        try:
            shown: Sequence[Record] = kind.shown(ask, one)
        except Skippable as error:
            shown, incomplete[one.get("id")] = [_bare(one)], error.message
        records += [{**record, "changed_at": at} for record in shown]
    return Page(records, {}, True, gone=gone, incomplete=incomplete)


def _bare(one: Record) -> Record:
    return {**one, "customer": stripe_objects.id_of(one.get("customer"))}


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _discounted(ask: Ask, changed: Record) -> Iterable[str]:
    """The subscription that an event is about; where it is about a discount, the one that has it, or all that run of the
    customer who has it. A customer who is deleted has none, and must not be asked for any.
    """
    if changed.get("object") != "discount":
        return _itself(ask, changed)
    if changed.get("subscription"):
        return [str(changed["subscription"])]
    customer = stripe_objects.id_of(changed.get("customer"))
    if not customer or stripe_objects.is_deleted(ask, _object(CUSTOMERS, ask, customer)):
        return []
    return [str(one["id"]) for one in stripe_objects.every(ask, "/v1/subscriptions", customer=customer)]


# --- the account --------------------------------------------------------------------------------------------------------


def _connect(source: StripeSource) -> Access:
    header = {"Authorization": f"Bearer {source.key.get_secret_value()}", "Stripe-Version": source.api_version}
    address = secure(source.base_url or BASE_URL)
    return access(source, address, header, requests=source.requests_per_second, seconds=1.0)


def _told(answer: Answer) -> str | None:
    document = document_of(answer)
    error = document.get("error") if isinstance(document, dict) else None
    return str(error.get("message")) if isinstance(error, dict) and error.get("message") else None


CUSTOMERS = Kind(
    "/v1/customers",
    stripe_objects.as_it_is,
    events=("customer.created", "customer.updated", "customer.deleted"),
)
SUBSCRIPTIONS = Kind(
    "/v1/subscriptions",
    stripe_objects.shown_subscription,
    events=tuple(
        f"customer.subscription.{word}"
        for word in (
            *("created", "updated", "deleted", "paused", "resumed"),
            *("pending_update_applied", "pending_update_expired", "trial_will_end"),
        )
    )
    + tuple(f"customer.discount.{word}" for word in ("created", "updated", "deleted")),
    listed={"status": "all"},
    # Older versions know one `discount` and show it as it is.
    expanded={
        "customer": "",
        "discounts": stripe_objects.DISCOUNTS,
        "items.data.discounts": stripe_objects.DISCOUNTS,
        "discounts.source.coupon": stripe_objects.CLOVER,
    },
    is_gone=lambda ask, found: stripe_objects.is_deleted(ask, found) or found.get("status") in stripe_mrr.NEVER_BEGAN,
    about=_discounted,
)
INVOICES = Kind(
    "/v1/invoices",
    stripe_objects.shown_invoice,
    events=tuple(
        f"invoice.{word}"
        for word in (
            *("created", "updated", "deleted", "finalized", "paid", "payment_failed", "payment_succeeded"),
            *("voided", "marked_uncollectible", "overdue"),
        )
    ),
    is_gone=lambda ask, found: stripe_objects.is_deleted(ask, found) or found.get("status") == "draft",
)
CHARGES = Kind(
    "/v1/charges",
    stripe_objects.shown_charge,
    events=tuple(
        f"charge.{word}" for word in ("succeeded", "failed", "pending", "captured", "expired", "refunded", "updated")
    ),
    is_gone=stripe_objects.is_no_charge,
)
REFUNDS = Kind(
    "/v1/refunds",
    stripe_objects.shown_refund,
    events=("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"),
    expanded={"charge": ""},
    is_gone=stripe_objects.is_no_refund,
)
STRIPE = Vendor(
    name="stripe",
    connect=_connect,
    credential="`key`",
    told=_told,
    resources={
        "customers": Resource(
            fields={
                "id": "text",
                "name": "text",
                "email": "text",
                "address": "json",
                "currency": "text",
                "metadata": "json",
                "created": "integer",
                "changed_at": "integer",
            },
            stamped="changed_at",
            read=_reading(CUSTOMERS),
            scope="a key that may read Customers and Events",
        ),
        "subscriptions": Resource(
            fields={
                "id": "text",
                "customer": "text",
                "status": "text",
                "currency": "text",
                "product": "text",
                "plan": "text",
                "seats": "integer",
                "mrr": "text",
                "discount_ends_at": "integer",
                "billing_interval": "text",
                "is_trial": "boolean",
                "start_date": "integer",
                "ended_at": "integer",
                "cancel_at": "integer",
                "canceled_at": "integer",
                "cancellation_reason": "text",
                "cancellation_feedback": "text",
                "is_former": "boolean",
                "current_period_end": "integer",
                "metadata": "json",
                "created": "integer",
                "changed_at": "integer",
            },
            stamped="changed_at",
            read=_reading(SUBSCRIPTIONS),
            scope="a key that may read Subscriptions, Customers, Invoices, Prices, Products, Coupons and Events",
        ),
        "invoices": Resource(
            fields={
                "id": "text",
                "customer": "text",
                "status": "text",
                "currency": "text",
                "amount": "text",
                "attempt_count": "integer",
                "due_date": "integer",
                "finalized_at": "integer",
                "paid_at": "integer",
                "metadata": "json",
                "created": "integer",
                "changed_at": "integer",
            },
            stamped="changed_at",
            read=_reading(INVOICES),
            scope="a key that may read Invoices and Events",
        ),
        "charges": Resource(
            fields={
                "id": "text",
                "customer": "text",
                "status": "text",
                "currency": "text",
                "amount": "text",
                "description": "text",
                "paid_at": "integer",
                "metadata": "json",
                "created": "integer",
                "changed_at": "integer",
            },
            stamped="changed_at",
            read=_reading(CHARGES),
            scope="a key that may read Charges and Refunds, Invoices and Events",
        ),
        "refunds": Resource(
            fields={
                "id": "text",
                "charge": "text",
                "customer": "text",
                "status": "text",
                "reason": "text",
                "currency": "text",
                "amount": "text",
                "metadata": "json",
                "created": "integer",
                "changed_at": "integer",
            },
            stamped="changed_at",
            read=_reading(REFUNDS),
            scope="a key that may read Charges and Refunds, Invoices and Events",
        ),
    },
)
