"""Stripe's objects as the records that are kept: with what only other objects tell, and with amounts in the currency that Stripe bills.

Lives here: what an object is shown as, what else has to be asked for that, and which charges and refunds are none. Must not live
here: lists, events and fields (`stripe.py`), the rules of MRR (`stripe_mrr.py`), which field becomes which column (`stripe.yml`).

The pages of Stripe's documentation behind the rules (docs.stripe.com):
- "Expanding responses": discounts of an item are ids, tiers and `currency_options` of a price, `currency_options` and `applies_to` of a
  coupon are left out, unless they are expanded, and a list inside an object holds its first ten (`has_more`). Four levels of an
  answer can be expanded; what lies deeper is asked for on its own, once in a load.
- Changelog 2025-03-31 (basil): `current_period_end` is the items'; a charge no longer names its invoice ("Adds support for multiple
  (partial) payments on invoices"): the list of invoice payments does. 2025-09-30 (clover): a discount's coupon is in its `source`.
- "The Charge object", "The Refund object": what was captured; a refund that failed or was canceled gave nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from core.errors import Fatal, Skippable
from core.source_settings import StripeSource
from sources import stripe_mrr
from sources.api import Ask, Document, Record

PAGE_ROWS = 100
"""Most objects that a page of a list holds."""
DISCOUNTS, BASIL, CLOVER = "2024", "2025-03-31", "2025-09-30"
"""Versions of the API in which objects changed their shape."""


def as_it_is(ask: Ask, found: Record) -> list[Record]:
    """An object that already tells all."""
    return [found]


def shown_subscription(ask: Ask, subscription: Record) -> list[Record]:
    """A subscription as the periods that Stripe still shows: before, during and after its trial; the last is how it is now.

    Raises `Skippable` for one that Stripe shows only in part.
    """
    subscription = whole_subscription(ask, subscription)
    *former, present = lived = stripe_mrr.spans(subscription)
    items = stripe_mrr.items_of(subscription)
    price = items[0].get("price") or items[0].get("plan") or {} if items else {}
    recurring = price.get("recurring") or price
    licensed = [item for item in items if not stripe_mrr.is_metered(item)]
    ends = [item["current_period_end"] for item in items if item.get("current_period_end")]
    details = subscription.get("cancellation_details") or {}
    interval, count = recurring.get("interval"), recurring.get("interval_count") or 1
    deduct = settings(ask).deduct_coupons
    is_paid = not stripe_mrr.depends_on_payment(subscription) or _was_ever_paid(ask, str(subscription["id"]))
    usual = {
        **subscription,
        "customer": id_of(subscription.get("customer")),
        "discount_ends_at": stripe_mrr.discount_ends(subscription, now=ask.now),
        "seats": sum(item.get("quantity") or 0 for item in licensed) if licensed else None,
        "product": _product(ask, price.get("product")),
        "plan": price.get("nickname") or price.get("lookup_key") or price.get("id"),
        "billing_interval": "year" if interval == "month" and count == 12 else interval,
        "current_period_end": max(ends) if ends else subscription.get("current_period_end"),
        "cancellation_reason": details.get("reason"),
        "cancellation_feedback": details.get("feedback"),
        "is_former": False,
    }

    def period(span: stripe_mrr.Span, amount: Decimal, **more: Any) -> Record:
        name = usual["id"] if span is lived[0] else f"{usual['id']}@{span.start}"
        mrr = _as_text(amount)
        told = {
            "id": name,
            "start_date": span.start,
            "ended_at": span.end,
            "is_trial": span.is_trial,
            "mrr": mrr,
        }
        return {**usual, **told, **more}

    usually = stripe_mrr.monthly(subscription, deduct=deduct, now=ask.now) if former else Decimal(0)
    return [
        *(
            period(span, Decimal(0) if span.is_trial else usually, is_former=True, current_period_end=None)
            for span in former
        ),
        period(present, stripe_mrr.mrr(subscription, deduct=deduct, now=ask.now, is_paid=is_paid)),
    ]


def _was_ever_paid(ask: Ask, subscription: str) -> bool:
    """Whether anything was ever paid for a subscription: the invoice of a trial is paid too, and over nothing."""
    paid = every(ask, "/v1/invoices", subscription=subscription, status="paid")
    return any((invoice.get("total") or 0) > 0 for invoice in paid)


def whole_subscription(ask: Ask, subscription: Record) -> Record:
    """The subscription with all its items, the prices in the currency that it bills, and all of its coupons and its customer's."""
    subscription = {**subscription, "items": {"data": _all_items(ask, subscription)}}
    currency = stripe_mrr.currency_of(subscription).lower()
    items = [_with_coupons(ask, _with_price(ask, item, currency), currency) for item in subscription["items"]["data"]]
    customer = subscription.get("customer")
    if isinstance(customer, Mapping) and customer.get("discount"):
        customer = {**customer, "discount": _with_coupon(ask, customer["discount"], currency)}
    return {**_with_coupons(ask, subscription, currency), "items": {"data": items}, "customer": customer}


def _all_items(ask: Ask, subscription: Record) -> list[Document]:
    listed = subscription.get("items")
    if isinstance(listed, Mapping) and listed.get("has_more"):
        expand = {"expand[]": ["data.discounts"]} if settings(ask).api_version >= DISCOUNTS else {}
        return list(every(ask, "/v1/subscription_items", subscription=subscription["id"], **expand))
    found = listed.get("data") if isinstance(listed, Mapping) else None
    if not isinstance(found, list):
        raise Skippable("Stripe gave no items of the subscription")
    return found


def _with_price(ask: Ask, item: Record, currency: str) -> Record:
    """The item with its price in a currency, and with tiers: what lists do not show of a price is asked for, once for each."""
    price = item.get("price")
    if not isinstance(price, Mapping) or stripe_mrr.is_metered(item):
        return item
    found = stripe_mrr.in_currency(price, currency)
    if found is None:
        expand = ["tiers", "currency_options", f"currency_options.{currency}.tiers"]
        is_own = str(price.get("currency") or currency).lower() == currency
        is_tiered = price.get("billing_scheme") == "tiered"
        wanted = expand[:1] if is_own else expand[1 : 3 if is_tiered else 2]
        fetched = _fetched(ask, "prices", str(price.get("id")), **{"expand[]": wanted})
        found = stripe_mrr.in_currency({**price, **fetched}, currency)
    return {**item, "price": found or price}


def _with_coupons(ask: Ask, owner: Record, currency: str) -> Record:
    """A subscription or an item with the coupons of its discounts whole."""
    several, one = owner.get("discounts"), owner.get("discount")
    if several:
        owner = {**owner, "discounts": [_with_coupon(ask, discount, currency) for discount in several]}
    return {**owner, "discount": _with_coupon(ask, one, currency)} if one else owner


def _with_coupon(ask: Ask, discount: Any, currency: str) -> Any:
    """A discount with its coupon whole: newer versions of the API name it, older ones show it without what is only expanded.

    One of a duration that lowers no MRR may stay as it is. What a coupon that was deleted since applies to is not known any more:
    it is taken to apply to all.
    """
    if not isinstance(discount, Mapping):
        return discount
    source = discount.get("source")
    coupon = source.get("coupon") if isinstance(source, Mapping) else discount.get("coupon")
    shown = coupon if isinstance(coupon, Mapping) else {}
    if not coupon or (shown.get("duration") and shown["duration"] not in settings(ask).deduct_coupons):
        return discount
    key = str(id_of(coupon) or "")
    expand = ["applies_to", "currency_options"]
    fetched = _fetched(ask, "coupons", key, **{"expand[]": expand}) if key else {}
    if fetched.get("duration"):
        # What was asked for and is not there, there is not.
        shown = {**dict.fromkeys(expand), **shown, **fetched}
    return {**discount, "source": {"type": "coupon", "coupon": shown or coupon}}


def _product(ask: Ask, product: Any) -> str | None:
    """A product's name; its id where it has none (any more)."""
    if not product:
        return None
    found = product if isinstance(product, Mapping) else _fetched(ask, "products", str(product))
    return str(found.get("name") or found.get("id") or product)


def _as_text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def shown_invoice(ask: Ask, invoice: Record) -> list[Record]:
    moments = invoice.get("status_transitions") or {}
    currency = str(invoice.get("currency") or "usd")
    without_tax = invoice.get("total_excluding_tax")
    amount = stripe_mrr.major(invoice.get("total") if without_tax is None else without_tax, currency)
    shown = {
        **invoice,
        "finalized_at": moments.get("finalized_at"),
        "paid_at": moments.get("paid_at"),
        "amount": _as_text(amount),
    }
    return [shown]


def shown_charge(ask: Ask, charge: Record) -> list[Record]:
    """Money that came without an invoice, as an invoice; an attempt that failed asks nobody for money.

    Stripe does not tell when a payment that was pending came: it is paid when it was made.
    """
    currency = str(charge.get("currency") or "usd")
    status = charge.get("status")
    captured = charge.get("amount_captured") if status == "succeeded" else None
    amount = stripe_mrr.major(charge.get("amount") if captured is None else captured, currency)
    shown = {
        **charge,
        "customer": id_of(charge.get("customer")),
        "amount": _as_text(Decimal(0) if status == "failed" else amount),
        "paid_at": charge.get("created") if status == "succeeded" else None,
    }
    return [shown]


def is_no_charge(ask: Ask, charge: Record) -> bool:
    """Whether it is only authorized (no money yet, or never), or paid an invoice, which is read as such."""
    is_captured = charge.get("captured", True) or charge.get("status") != "succeeded"
    return is_deleted(ask, charge) or not is_captured or _is_of_invoice(ask, charge)


def _is_of_invoice(ask: Ask, charge: Record) -> bool:
    """Whether the charge was made for an invoice. Where charges are listed, all payments of invoices are asked for once; else
    those of the charge's payment intent.
    """
    if settings(ask).api_version < BASIL:
        return bool(charge.get("invoice"))
    intent = id_of(charge.get("payment_intent"))
    if not ask.memo.get("is_listing"):
        return bool(_invoice_payments(ask, intent))
    if "invoiced" not in ask.memo:
        payments = (one.get("payment") or {} for one in every(ask, "/v1/invoice_payments"))
        ask.memo["invoiced"] = {id_of(payment.get(payment.get("type"))) for payment in payments}
    return not ask.memo["invoiced"].isdisjoint({charge.get("id"), intent} - {None})


def _invoice_payments(ask: Ask, intent: str | None, **params: Any) -> Sequence[Document]:
    """What invoices a payment intent paid."""
    if intent is None:
        return []
    which: dict[str, Any] = {"payment[type]": "payment_intent", "payment[payment_intent]": intent}
    return list(every(ask, "/v1/invoice_payments", **which, **params))


def shown_refund(ask: Ask, refund: Record) -> list[Record]:
    """Money that went back, as a credit to the customer of its charge; without tax where its invoice is without."""
    charge = _charge_of(refund)
    currency = str(refund.get("currency") or "usd")
    amount = stripe_mrr.major(refund.get("amount"), currency)
    without_tax = None if amount is None else -amount * _share_without_tax(_invoices_of(ask, charge))
    shown = {
        **refund,
        "charge": id_of(refund.get("charge")),
        "customer": id_of(charge.get("customer") or refund.get("customer")),
        "amount": _as_text(without_tax),
    }
    return [shown]


def is_no_refund(ask: Ask, refund: Record) -> bool:
    """Whether it gave nothing back: it failed, or what it let go had never been taken."""
    charge = _charge_of(refund)
    was_taken = charge.get("captured", True) and not _is_release(refund, charge)
    return is_deleted(ask, refund) or refund.get("status") in ("failed", "canceled") or not was_taken


def _charge_of(refund: Record) -> Record:
    """The charge that was paid back, which is expanded."""
    charge = refund.get("charge")
    return charge if isinstance(charge, Mapping) else {}


def _is_release(refund: Record, charge: Record) -> bool:
    """Whether it is the rest of an authorization of which only a part was captured: that moved no money."""
    rest = (charge.get("amount") or 0) - (charge.get("amount_captured", charge.get("amount")) or 0)
    return rest > 0 and refund.get("amount") == rest and refund.get("balance_transaction") is None


def _invoices_of(ask: Ask, charge: Record) -> list[Record]:
    """The invoices that a charge paid."""
    if settings(ask).api_version < BASIL:
        key = id_of(charge.get("invoice"))
        return [_fetched(ask, "invoices", key)] if key else []
    payments = _invoice_payments(ask, id_of(charge.get("payment_intent")), **{"expand[]": ["data.invoice"]})
    return [payment["invoice"] for payment in payments if isinstance(payment.get("invoice"), Mapping)]


def _share_without_tax(invoices: Sequence[Record]) -> Decimal:
    known = [invoice for invoice in invoices if invoice.get("total_excluding_tax") is not None]
    total, without_tax = (
        sum(Decimal(str(one.get(name) or 0)) for one in known) for name in ("total", "total_excluding_tax")
    )
    return Decimal(without_tax) / total if total else Decimal(1)


# --- what they have in common -------------------------------------------------------------------------------------------


def settings(ask: Ask) -> StripeSource:
    if not isinstance(ask.source, StripeSource):
        raise Fatal("The source is none of Stripe.")
    return ask.source


def is_deleted(ask: Ask, found: Record) -> bool:
    return bool(found.get("deleted"))


def every(ask: Ask, path: str, **params: Any) -> Iterator[Document]:
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


def id_of(told: Any) -> Any:
    """The id of an object, expanded or not."""
    return told.get("id") if isinstance(told, Mapping) else told


def _fetched(ask: Ask, name: str, key: str, **params: Any) -> Record:
    """An object by its id, asked for once in a load; nothing but the id where there is none (any more)."""
    kept: dict[tuple[str, str], Record] = ask.memo.setdefault(name, {})
    asked = (key, str(params))
    if asked not in kept:
        kept[asked] = ask.api.get(f"/v1/{name}/{key}", holds=None, missing={"id": key}, **params)
    return kept[asked]
