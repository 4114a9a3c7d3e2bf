"""Stripe: customers, subscriptions with their MRR, invoices, and the money that moves beside them: charges and refunds.

Lives here: Stripe's paths, lists, events, fields and error bodies. Must not live here: loops, retries, what is kept (`api.py`),
the rules of MRR (`stripe_mrr.py`), which field becomes which column (`stripe.yml`).

A first load goes through the lists, which are newest first and know no time of change. From then on it follows the events: each
says that an object changed, and what it is now is asked of Stripe, since an event tells it in the version of the API of its
own day and without what has to be expanded. `changed_at` is when: that of the event, and for the first load that of the newest
event before it, so that older events change nothing.

The pages of Stripe's documentation behind the rules (docs.stripe.com):
- "Pagination": `limit` to 100, `starting_after`, `ending_before`, `has_more`; lists are newest first.
- "Events": kept for 30 days; up to 20 `types`; they may come late, hence the overlap.
- "Rate limits": 100 operations a second in live mode, 25 in a sandbox and for one endpoint; 429.
- "Expanding responses": four levels deep, so that tiers of a price can be had with one subscription, but not with a list.
- Changelog 2025-03-31 (basil): `current_period_end` is the items'; a charge no longer names its invoice ("Adds support for multiple
  (partial) payments on invoices"): the list of invoice payments does. 2025-09-30 (clover): a discount's coupon is in its `source`.
- "The Charge object", "The Refund object": what was captured; a refund that failed or was canceled gave nothing back.
- "Types of events": `customer.discount.*` are about a discount, with its `customer` and, where it is of one, its `subscription`.
- "Restricted API keys": read permissions by resource; a 403 names the one that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from core.errors import Fatal
from core.http import Answer, document_of, secure
from core.source_settings import ApiSource, SourceConfig, StripeSource
from sources import stripe_mrr
from sources.api import Access, ApiStream, Ask, Document, Page, Position, Record, Resource, Vendor, access, unix_seconds
from sources.base import StreamId

BASE_URL = "https://api.stripe.com"
PAGE_ROWS = 100
OVERLAP_SECONDS = 300
"""How far back of the last event each run looks again: events are not promised to come in order."""
KEPT = timedelta(days=29)
"""Events are kept for 30 days: after a longer silence all has to be listed anew."""
BASIL, CLOVER = "2025-03-31", "2025-09-30"
"""Versions of the API in which objects changed their shape."""


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: object) -> ApiStream:
    """The connector's door; see `sources.base.Opener`."""
    assert isinstance(source, ApiSource)
    return ApiStream(stream, source, STRIPE, now=now)


def _itself(ask: Ask, changed: Record) -> Iterable[str]:
    return [str(changed["id"])] if changed.get("id") else []


def _deleted(ask: Ask, found: Record) -> bool:
    return bool(found.get("deleted"))


@dataclass(frozen=True)
class Kind:
    """A kind of Stripe's objects: its path, how it is shown, what changes it, and when it is none of ours.

    `expanded` are the fields to be shown whole, each with the version of the API since which it can be. `about` finds the
    objects that an event changes, by what the event holds.
    """

    path: str
    shown: Callable[[Ask, Record], Record]
    events: Sequence[str]
    listed: Mapping[str, Any] = field(default_factory=dict)
    expanded: Mapping[str, str] = field(default_factory=dict)
    is_gone: Callable[[Ask, Record], bool] = _deleted
    about: Callable[[Ask, Record], Iterable[str]] = _itself


def _reading(kind: Kind) -> Callable[[Ask], Page]:
    def read(ask: Ask) -> Page:
        position = ask.position
        if position and ask.now - datetime.fromisoformat(position["checked_at"]) > KEPT:
            position = {}
        return _events(kind, ask, position) if "events_from" in position else _list(kind, ask, position)

    return read


def _list(kind: Kind, ask: Ask, position: Position) -> Page:
    """A page of the list. What happened up to `known_to` is surely in it: that was asked for before the first page."""
    follows = _source(ask).changes == "events"
    known_to = int(position["known_to"]) if position else _newest_event(ask) if follows else 0
    since = None if ask.since is None else unix_seconds(ask.since)
    ask.memo["is_listing"] = True
    document = ask.api.get(
        kind.path,
        holds="data",
        limit=PAGE_ROWS,
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
        return Page(page.records, ahead, False, gone=page.gone)
    return Page(page.records, _from(known_to, ask) if follows else {}, True, gone=page.gone)


def _expanded(kind: Kind, ask: Ask, prefix: str = "") -> dict[str, Any]:
    """What is to be shown whole, where the version of the API that is asked can."""
    names = [f"{prefix}{name}" for name, since in kind.expanded.items() if _source(ask).api_version >= since]
    return {"expand[]": names or None}


def _from(moment: int, ask: Ask) -> Position:
    return {"events_from": moment, "checked_at": ask.now.isoformat()}


def _newest_event(ask: Ask) -> int:
    events = ask.api.get("/v1/events", holds="data", limit=1)["data"]
    return int(events[0]["created"]) if events else 0


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
    document = ask.api.get("/v1/events", holds="data", limit=PAGE_ROWS, ending_before=last, **types)
    events = document["data"]
    page = _changed(kind, ask, events)
    came_to = max([came_to, *(int(event["created"]) for event in events)])
    if document.get("has_more") and events:
        return Page(page.records, {**_from(came_to, ask), "last": events[0]["id"]}, False, gone=page.gone)
    return Page(page.records, _from(came_to, ask), True, gone=page.gone)


def _all_events(kind: Kind, ask: Ask, position: Position) -> Page:
    """Where there is no older event to begin after: newest first, all pages in one transaction."""
    document = ask.api.get(
        "/v1/events",
        holds="data",
        limit=PAGE_ROWS,
        starting_after=position.get("down_to"),
        **{"types[]": list(kind.events), "created[gte]": max(position["events_from"] - OVERLAP_SECONDS, 0)},
    )
    events = document["data"]
    page = _changed(kind, ask, events)
    newest = max([int(position.get("newest") or position["events_from"]), *(int(event["created"]) for event in events)])
    if document.get("has_more") and events:
        ahead = {**position, "newest": newest, "down_to": events[-1]["id"]}
        return Page(page.records, ahead, False, gone=page.gone, is_whole=False, newest_first=True)
    return Page(page.records, _from(newest, ask), True, gone=page.gone, newest_first=True)


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
    gone = {str(one.get("id")) for one, _ in found if kind.is_gone(ask, one)}
    return Page(
        [{**kind.shown(ask, one), "changed_at": at} for one, at in found if str(one.get("id")) not in gone],
        {},
        True,
        gone=[(one, _moment(at)) for one, at in found if str(one.get("id")) in gone],
    )


def _all(ask: Ask, path: str, **params: Any) -> Iterator[Document]:
    """All objects of a short list. Raises `Fatal` where its pages lead in a circle."""
    after, told = None, set[str]()
    while True:
        document = ask.api.get(path, holds="data", limit=PAGE_ROWS, starting_after=after, **params)
        yield from document["data"]
        if not document.get("has_more") or not document["data"]:
            return
        after = str(document["data"][-1]["id"])
        if after in told:
            raise Fatal(
                f"Stripe's pages of {path} lead in a circle.", hint="Run again; if it happens again, tell Stripe."
            )
        told.add(after)


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


# --- objects ----------------------------------------------------------------------------------------------------------


def _customer(ask: Ask, customer: Record) -> Record:
    return customer


def _subscription(ask: Ask, subscription: Record) -> Record:
    source = _source(ask)
    subscription = _with_coupons(ask, _with_tiers(ask, subscription))
    items = stripe_mrr.items_of(subscription)
    price = items[0].get("price") or items[0].get("plan") or {} if items else {}
    recurring = price.get("recurring") or price
    licensed = [item for item in items if not stripe_mrr.is_metered(item)]
    ends = [item["current_period_end"] for item in items if item.get("current_period_end")]
    details = subscription.get("cancellation_details") or {}
    currency = stripe_mrr.currency_of(subscription)
    amount = stripe_mrr.mrr(subscription, deduct=source.deduct_coupons, now=ask.now)
    interval, count = recurring.get("interval"), recurring.get("interval_count") or 1
    return {
        **subscription,
        "customer": _id(subscription.get("customer")),
        "mrr_usd": _text(stripe_mrr.in_usd(amount, currency, source.rates)),
        "is_trial": stripe_mrr.is_trial(subscription),
        "seats": sum(item.get("quantity") or 0 for item in licensed) if licensed else None,
        "product": _product(ask, price.get("product")),
        "plan": price.get("nickname") or price.get("lookup_key") or price.get("id"),
        "billing_interval": "year" if interval == "month" and count == 12 else interval,
        "current_period_end": max(ends) if ends else subscription.get("current_period_end"),
        "cancellation_reason": details.get("reason"),
        "cancellation_feedback": details.get("feedback"),
    }


def _with_tiers(ask: Ask, subscription: Record) -> Record:
    """The subscription with the tiers of its prices, which lists do not have."""
    listed = subscription.get("items")
    items = listed.get("data") if isinstance(listed, Mapping) else None
    if not any(_lacks_tiers(item) for item in items or []):
        return subscription
    whole = [
        {**item, "price": _fetched(ask, "prices", item["price"]["id"], **{"expand[]": ["tiers"]})}
        if _lacks_tiers(item)
        else item
        for item in items or []
    ]
    return {**subscription, "items": {"data": whole}}


def _lacks_tiers(item: Any) -> bool:
    price = item.get("price") if isinstance(item, Mapping) else None
    return isinstance(price, Mapping) and price.get("billing_scheme") == "tiered" and not price.get("tiers")


def _with_coupons(ask: Ask, subscription: Record) -> Record:
    """The subscription with the coupons of its discounts and its customer's, which newer versions of the API only name."""
    customer = subscription.get("customer")
    if isinstance(customer, Mapping) and customer.get("discount"):
        subscription = {
            **subscription,
            "customer": {**customer, "discount": _with_coupon(ask, customer["discount"])},
        }
    own = subscription.get("discounts")
    return {**subscription, "discounts": [_with_coupon(ask, one) for one in own]} if own else subscription


def _with_coupon(ask: Ask, discount: Any) -> Any:
    source = discount.get("source") if isinstance(discount, Mapping) else None
    if not isinstance(source, Mapping) or not isinstance(source.get("coupon"), str):
        return discount
    return {**discount, "source": {**source, "coupon": _fetched(ask, "coupons", source["coupon"])}}


def _discounted(ask: Ask, changed: Record) -> Iterable[str]:
    """The subscription that an event is about; where it is about a discount, the one that has it, or all that run of the
    customer who has it. A customer who is deleted has none, and must not be asked for any.
    """
    if changed.get("object") != "discount":
        return _itself(ask, changed)
    if changed.get("subscription"):
        return [str(changed["subscription"])]
    customer = _id(changed.get("customer"))
    if not customer or _deleted(ask, _object(CUSTOMERS, ask, customer)):
        return []
    return [str(one["id"]) for one in _all(ask, "/v1/subscriptions", customer=customer)]


def _id(told: Any) -> Any:
    """The id of an object, expanded or not."""
    return told.get("id") if isinstance(told, Mapping) else told


def _product(ask: Ask, product: Any) -> str | None:
    """A product's name; its id where it has none (any more)."""
    if not product:
        return None
    found = product if isinstance(product, Mapping) else _fetched(ask, "products", str(product))
    return str(found.get("name") or found.get("id") or product)


def _fetched(ask: Ask, name: str, key: str, **params: Any) -> Record:
    kept: dict[str, Record] = ask.memo.setdefault(name, {})
    if key not in kept:
        kept[key] = ask.api.get(f"/v1/{name}/{key}", holds=None, missing={"id": key}, **params)
    return kept[key]


def _invoice(ask: Ask, invoice: Record) -> Record:
    moments = invoice.get("status_transitions") or {}
    currency = str(invoice.get("currency") or "usd")
    without_tax = invoice.get("total_excluding_tax")
    amount = stripe_mrr.major(invoice.get("total") if without_tax is None else without_tax, currency)
    return {
        **invoice,
        "finalized_at": moments.get("finalized_at"),
        "paid_at": moments.get("paid_at"),
        "amount_usd": _text(stripe_mrr.in_usd(amount, currency, _source(ask).rates)),
    }


def _charge(ask: Ask, charge: Record) -> Record:
    """Money that came without an invoice, as an invoice; an attempt that failed asks nobody for money.

    Stripe does not tell when a payment that was pending came: it is paid when it was made.
    """
    currency = str(charge.get("currency") or "usd")
    status = charge.get("status")
    captured = charge.get("amount_captured") if status == "succeeded" else None
    amount = stripe_mrr.major(charge.get("amount") if captured is None else captured, currency)
    return {
        **charge,
        "customer": _id(charge.get("customer")),
        "amount_usd": _text(
            stripe_mrr.in_usd(Decimal(0) if status == "failed" else amount, currency, _source(ask).rates)
        ),
        "paid_at": charge.get("created") if status == "succeeded" else None,
    }


def _is_no_charge(ask: Ask, charge: Record) -> bool:
    """Whether it is only authorized (no money yet, or never), or paid an invoice, which is read as such."""
    is_captured = charge.get("captured", True) or charge.get("status") != "succeeded"
    return _deleted(ask, charge) or not is_captured or _is_of_invoice(ask, charge)


def _is_of_invoice(ask: Ask, charge: Record) -> bool:
    """Whether the charge was made for an invoice. Where charges are listed, all payments of invoices are asked for once; else
    those of the charge's payment intent.
    """
    if _source(ask).api_version < BASIL:
        return bool(charge.get("invoice"))
    intent = _id(charge.get("payment_intent"))
    if not ask.memo.get("is_listing"):
        return bool(_invoice_payments(ask, intent))
    if "invoiced" not in ask.memo:
        payments = (one.get("payment") or {} for one in _all(ask, "/v1/invoice_payments"))
        ask.memo["invoiced"] = {_id(payment.get(payment.get("type"))) for payment in payments}
    return not ask.memo["invoiced"].isdisjoint({charge.get("id"), intent} - {None})


def _invoice_payments(ask: Ask, intent: str | None, **params: Any) -> Sequence[Document]:
    """What invoices a payment intent paid."""
    if intent is None:
        return []
    which: dict[str, Any] = {"payment[type]": "payment_intent", "payment[payment_intent]": intent}
    found: Sequence[Document] = ask.api.get("/v1/invoice_payments", holds="data", **which, **params)["data"]
    return found


def _refund(ask: Ask, refund: Record) -> Record:
    """Money that went back, as a credit to the customer of its charge; without tax where its invoice is without."""
    charge = refund.get("charge")
    charge = charge if isinstance(charge, Mapping) else {}
    currency = str(refund.get("currency") or "usd")
    amount = stripe_mrr.major(refund.get("amount"), currency)
    without_tax = None if amount is None else -amount * _share_without_tax(_invoice_of(ask, charge))
    return {
        **refund,
        "charge": _id(refund.get("charge")),
        "customer": _id(charge.get("customer") or refund.get("customer")),
        "amount_usd": _text(stripe_mrr.in_usd(without_tax, currency, _source(ask).rates)),
    }


def _is_no_refund(ask: Ask, refund: Record) -> bool:
    """Whether it gave nothing back: it failed, or what it let go had never been taken."""
    charge = refund.get("charge")
    charge = charge if isinstance(charge, Mapping) else {}
    was_taken = charge.get("captured", True) and not _is_release(refund, charge)
    return _deleted(ask, refund) or refund.get("status") in ("failed", "canceled") or not was_taken


def _is_release(refund: Record, charge: Record) -> bool:
    """Whether it is the rest of an authorization of which only a part was captured: that moved no money."""
    rest = (charge.get("amount") or 0) - (charge.get("amount_captured", charge.get("amount")) or 0)
    return rest > 0 and refund.get("amount") == rest and refund.get("balance_transaction") is None


def _invoice_of(ask: Ask, charge: Record) -> Record:
    """The invoice that a charge paid, the first of several; nothing where it paid none."""
    if _source(ask).api_version < BASIL:
        key = _id(charge.get("invoice"))
        return _fetched(ask, "invoices", key) if key else {}
    payments = _invoice_payments(ask, _id(charge.get("payment_intent")), **{"expand[]": ["data.invoice"]})
    invoice = payments[0].get("invoice") if payments else None
    return invoice if isinstance(invoice, Mapping) else {}


def _share_without_tax(invoice: Record) -> Decimal:
    total, without_tax = invoice.get("total"), invoice.get("total_excluding_tax")
    return Decimal(1) if not total or without_tax is None else Decimal(str(without_tax)) / Decimal(str(total))


def _text(amount: object) -> str | None:
    return None if amount is None else str(amount)


def _source(ask: Ask) -> StripeSource:
    if not isinstance(ask.source, StripeSource):
        raise Fatal("The source is none of Stripe.")
    return ask.source


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
    _customer,
    events=("customer.created", "customer.updated", "customer.deleted"),
)
SUBSCRIPTIONS = Kind(
    "/v1/subscriptions",
    _subscription,
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
    expanded={"customer": "", "discounts": "2024", "discounts.source.coupon": CLOVER},
    is_gone=lambda ask, found: _deleted(ask, found) or found.get("status") in stripe_mrr.NEVER_BEGAN,
    about=_discounted,
)
INVOICES = Kind(
    "/v1/invoices",
    _invoice,
    events=tuple(
        f"invoice.{word}"
        for word in (
            *("created", "updated", "deleted", "finalized", "paid", "payment_failed", "payment_succeeded"),
            *("voided", "marked_uncollectible", "overdue"),
        )
    ),
    is_gone=lambda ask, found: _deleted(ask, found) or found.get("status") == "draft",
)
CHARGES = Kind(
    "/v1/charges",
    _charge,
    events=tuple(
        f"charge.{word}" for word in ("succeeded", "failed", "pending", "captured", "expired", "refunded", "updated")
    ),
    is_gone=_is_no_charge,
)
REFUNDS = Kind(
    "/v1/refunds",
    _refund,
    events=("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"),
    expanded={"charge": ""},
    is_gone=_is_no_refund,
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
                "mrr_usd": "text",
                "billing_interval": "text",
                "is_trial": "boolean",
                "start_date": "integer",
                "ended_at": "integer",
                "cancel_at": "integer",
                "canceled_at": "integer",
                "cancellation_reason": "text",
                "cancellation_feedback": "text",
                "current_period_end": "integer",
                "metadata": "json",
                "created": "integer",
                "changed_at": "integer",
            },
            read=_reading(SUBSCRIPTIONS),
            scope="a key that may read Subscriptions, Customers, Prices, Products, Coupons and Events",
        ),
        "invoices": Resource(
            fields={
                "id": "text",
                "customer": "text",
                "status": "text",
                "currency": "text",
                "amount_usd": "text",
                "attempt_count": "integer",
                "due_date": "integer",
                "finalized_at": "integer",
                "paid_at": "integer",
                "metadata": "json",
                "created": "integer",
                "changed_at": "integer",
            },
            read=_reading(INVOICES),
            scope="a key that may read Invoices and Events",
        ),
        "charges": Resource(
            fields={
                "id": "text",
                "customer": "text",
                "status": "text",
                "currency": "text",
                "amount_usd": "text",
                "description": "text",
                "paid_at": "integer",
                "metadata": "json",
                "created": "integer",
                "changed_at": "integer",
            },
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
                "amount_usd": "text",
                "metadata": "json",
                "created": "integer",
                "changed_at": "integer",
            },
            read=_reading(REFUNDS),
            scope="a key that may read Charges and Refunds, Invoices and Events",
        ),
    },
)
