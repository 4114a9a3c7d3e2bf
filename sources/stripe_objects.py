"""Stripe's objects as the records that are kept: with what only other objects tell, and with amounts in dollars.

Lives here: what an object is shown as, what else has to be asked for that, and which charges and refunds are none. Must not live
here: lists, events and fields (`stripe.py`), the rules of MRR (`stripe_mrr.py`), which field becomes which column (`stripe.yml`).

The pages of Stripe's documentation behind the rules (docs.stripe.com):
- Changelog 2025-03-31 (basil): `current_period_end` is the items'; a charge no longer names its invoice ("Adds support for multiple
  (partial) payments on invoices"): the list of invoice payments does. 2025-09-30 (clover): a discount's coupon is in its `source`.
- "The Charge object", "The Refund object": what was captured; a refund that failed or was canceled gave nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from core.errors import Fatal
from core.source_settings import StripeSource
from sources import stripe_mrr
from sources.api import Ask, Document, Record

PAGE_ROWS = 100
"""Most objects that a page of a list holds."""
BASIL, CLOVER = "2025-03-31", "2025-09-30"
"""Versions of the API in which objects changed their shape."""


def as_it_is(ask: Ask, found: Record) -> Record:
    """An object that already tells all."""
    return found


def shown_subscription(ask: Ask, subscription: Record) -> Record:
    subscription = _with_coupons(ask, _with_tiers(ask, subscription))
    items = stripe_mrr.items_of(subscription)
    price = items[0].get("price") or items[0].get("plan") or {} if items else {}
    recurring = price.get("recurring") or price
    licensed = [item for item in items if not stripe_mrr.is_metered(item)]
    ends = [item["current_period_end"] for item in items if item.get("current_period_end")]
    details = subscription.get("cancellation_details") or {}
    currency = stripe_mrr.currency_of(subscription)
    amount = stripe_mrr.mrr(subscription, deduct=settings(ask).deduct_coupons, now=ask.now)
    interval, count = recurring.get("interval"), recurring.get("interval_count") or 1
    return {
        **subscription,
        "customer": id_of(subscription.get("customer")),
        "mrr_usd": _in_usd(ask, amount, currency),
        "discount_ends_at": stripe_mrr.discount_ends(subscription, now=ask.now),
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


def _product(ask: Ask, product: Any) -> str | None:
    """A product's name; its id where it has none (any more)."""
    if not product:
        return None
    found = product if isinstance(product, Mapping) else _fetched(ask, "products", str(product))
    return str(found.get("name") or found.get("id") or product)


def shown_invoice(ask: Ask, invoice: Record) -> Record:
    moments = invoice.get("status_transitions") or {}
    currency = str(invoice.get("currency") or "usd")
    without_tax = invoice.get("total_excluding_tax")
    amount = stripe_mrr.major(invoice.get("total") if without_tax is None else without_tax, currency)
    return {
        **invoice,
        "finalized_at": moments.get("finalized_at"),
        "paid_at": moments.get("paid_at"),
        "amount_usd": _in_usd(ask, amount, currency),
    }


def shown_charge(ask: Ask, charge: Record) -> Record:
    """Money that came without an invoice, as an invoice; an attempt that failed asks nobody for money.

    Stripe does not tell when a payment that was pending came: it is paid when it was made.
    """
    currency = str(charge.get("currency") or "usd")
    status = charge.get("status")
    captured = charge.get("amount_captured") if status == "succeeded" else None
    amount = stripe_mrr.major(charge.get("amount") if captured is None else captured, currency)
    return {
        **charge,
        "customer": id_of(charge.get("customer")),
        "amount_usd": _in_usd(ask, Decimal(0) if status == "failed" else amount, currency),
        "paid_at": charge.get("created") if status == "succeeded" else None,
    }


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
    found: Sequence[Document] = ask.api.get("/v1/invoice_payments", holds="data", **which, **params)["data"]
    return found


def shown_refund(ask: Ask, refund: Record) -> Record:
    """Money that went back, as a credit to the customer of its charge; without tax where its invoice is without."""
    charge = _charge_of(refund)
    currency = str(refund.get("currency") or "usd")
    amount = stripe_mrr.major(refund.get("amount"), currency)
    without_tax = None if amount is None else -amount * _share_without_tax(_invoice_of(ask, charge))
    return {
        **refund,
        "charge": id_of(refund.get("charge")),
        "customer": id_of(charge.get("customer") or refund.get("customer")),
        "amount_usd": _in_usd(ask, without_tax, currency),
    }


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


def _invoice_of(ask: Ask, charge: Record) -> Record:
    """The invoice that a charge paid, the first of several; nothing where it paid none."""
    if settings(ask).api_version < BASIL:
        key = id_of(charge.get("invoice"))
        return _fetched(ask, "invoices", key) if key else {}
    payments = _invoice_payments(ask, id_of(charge.get("payment_intent")), **{"expand[]": ["data.invoice"]})
    invoice = payments[0].get("invoice") if payments else None
    return invoice if isinstance(invoice, Mapping) else {}


def _share_without_tax(invoice: Record) -> Decimal:
    total, without_tax = invoice.get("total"), invoice.get("total_excluding_tax")
    return Decimal(1) if not total or without_tax is None else Decimal(str(without_tax)) / Decimal(str(total))


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
    kept: dict[str, Record] = ask.memo.setdefault(name, {})
    if key not in kept:
        kept[key] = ask.api.get(f"/v1/{name}/{key}", holds=None, missing={"id": key}, **params)
    return kept[key]


def _in_usd(ask: Ask, amount: Decimal | None, currency: str) -> str | None:
    """An amount in dollars as text; None without a rate."""
    found = stripe_mrr.in_usd(amount, currency, settings(ask).rates)
    return None if found is None else str(found)
