"""Monthly recurring revenue of a Stripe subscription, as Stripe's own billing analytics count it.

Lives here: the rules, as pure functions over Stripe's objects. Must not live here: reading them (`stripe.py`).

Where Stripe says so:
- "Billing metric definitions" (docs.stripe.com/billing/subscriptions/analytics/glossary): the monthly-normalised value of
  `active` and `past_due` subscriptions; a year is divided by 12; no trials, no taxes, no free plans, no metered products; a
  subscription that is canceled or `unpaid` has none.
- "Billing Analytics" (support.stripe.com/questions/billing-analytics): a coupon that lasts `forever` is deducted, one that
  lasts `once` or is `repeating` is not; "Metric configurations" beside it: both can be deducted, by choice.
- "Create a subscription" (docs.stripe.com/api/subscriptions/create): a subscription without `discounts` of its own inherits the
  discount of its customer; one that has its own does not. Discounts of single items change nothing about that.
- "Coupons" (docs.stripe.com/api/coupons/object): an amount off is in the coupon's `currency`, or as its `currency_options` say for
  another one; a coupon with `applies_to` lowers only the items of these products.
- "Trials" (docs.stripe.com/billing/subscriptions/trials): from `trial_start` to `trial_end`; nothing is paid for before.
- "Products and prices": graduated and volume tiers, flat amounts of tiers, `transform_quantity`, decimals of a cent.
- "Supported currencies" (docs.stripe.com/currencies): which have no minor unit, which have three digits; amounts in ISK and
  UGX have two digits although they have no minor unit.

Where Stripe does not say: a week is 52/12 and a day 365/12 of a month; a subscription whose payments are paused with
`void` or `mark_uncollectible` has no MRR, since nobody owes it, and with `keep_as_draft` it has; an amount off a subscription
is taken off each of its bills; of a subscription that has ended, the customer's discount counts as it was at the end. After a
trial, a subscription that is past due or canceled has MRR only if something was ever paid for it: a trial that was never paid
for is no customer who left.

An object that is not whole has no MRR here, rather than a wrong one: items of which only some are there, a discount or a coupon
that is only an id, a tiered price without tiers, an amount in another currency raise `Skippable`. `stripe_objects.py` fetches what
is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from core.errors import Skippable

Object = Mapping[str, Any]

ZERO_DECIMAL = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)
THREE_DECIMAL = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])
PAYING = ("active", "past_due")
NEVER_BEGAN = ("incomplete", "incomplete_expired")
UNCOLLECTED = ("void", "mark_uncollectible")
FOREVER = ("forever",)
_A_MONTH_HAS = {
    "day": Decimal(365) / 12,
    "week": Decimal(52) / 12,
    "month": Decimal(1),
    "year": Decimal(1) / 12,
}


def major(amount: Any, currency: str) -> Decimal | None:
    """An amount in a currency's minor units as Stripe writes it, in the currency itself."""
    if amount is None:
        return None
    digits = 0 if currency.lower() in ZERO_DECIMAL else 3 if currency.lower() in THREE_DECIMAL else 2
    return Decimal(str(amount)).scaleb(-digits)


@dataclass(frozen=True)
class Span:
    """A part of a subscription's life, from `start` until before `end` (None: it goes on), as a trial or not."""

    start: int | None
    end: int | None
    is_trial: bool


def spans(subscription: Object) -> list[Span]:
    """Its life before, during and after its trial, the last of them as it is now; only one where there was no trial."""
    start, end = subscription.get("start_date"), subscription.get("ended_at")
    trial_start, trial_end = subscription.get("trial_start"), subscription.get("trial_end")
    if trial_end is None or start is None:
        return [Span(start, end, is_trial(subscription))]
    bounds = [start]
    if trial_start is not None and trial_start > start:
        bounds.append(trial_start)
    first_of_trial = len(bounds) - 1
    if not is_trial(subscription) and trial_end > bounds[-1]:
        bounds.append(trial_end)
    if end is not None:
        bounds = [bound for bound in bounds if bound < end] or [start]
    ends = [*bounds[1:], end]
    return [
        Span(begun, over, number == first_of_trial and begun < trial_end)
        for number, (begun, over) in enumerate(zip(bounds, ends, strict=True))
    ]


def depends_on_payment(subscription: Object) -> bool:
    """Whether it has MRR only if something was ever paid for it: a trial is over, and it did not simply go on."""
    *before, last = spans(subscription)
    is_after_trial = not last.is_trial and any(span.is_trial for span in before)
    return is_after_trial and subscription.get("status") in ("past_due", "canceled")


def mrr(subscription: Object, *, deduct: Collection[str] = FOREVER, now: datetime, is_paid: bool = True) -> Decimal:
    """MRR in the subscription's own currency; of one that has ended, what it was while it ran.

    `deduct` are the durations of coupons that lower it. The customer's own discount counts where `customer` is expanded.
    `is_paid` says whether anything was ever paid for it. Raises `Skippable` for one that is not whole.
    """
    if not has_mrr(subscription) or not (is_paid or not depends_on_payment(subscription)):
        return Decimal(0)
    return monthly(subscription, deduct=deduct, now=now)


def monthly(subscription: Object, *, deduct: Collection[str] = FOREVER, now: datetime) -> Decimal:
    """What it costs a month in its own currency, whether it is paid for at present or not."""
    currency = currency_of(subscription)
    coupons = _Coupons(frozenset(deduct), currency, _moment(now))
    licensed = [item for item in items_of(subscription) if not is_metered(item)]
    bills = [bill for item in licensed for bill in coupons.off([_bill(item, currency)], _whole(item.get("discounts")))]
    own = _own_discounts(subscription)
    if not own:
        coupons, own = replace(coupons, at=_last_moment(subscription, now)), _whole([_of_customer(subscription)])
    total = sum((bill.monthly for bill in coupons.off(bills, own)), Decimal(0))
    return major(total, currency) or Decimal(0)


def discount_ends(subscription: Object, *, now: datetime) -> int | None:
    """When the first of the discounts that lower its bills ends (seconds since 1970): all that run, deducted from MRR or not.

    Of a subscription that has ended, as it was at the end. None where none runs, or none ends: `forever`, or `once`.
    """
    of_items = [discount for item in items_of(subscription) for discount in _whole(item.get("discounts"))]
    told = [*(_own_discounts(subscription) or _whole([_of_customer(subscription)])), *of_items]
    at = _last_moment(subscription, now)
    running = [discount for discount in told if _runs(discount, at)]
    return min((int(discount["end"]) for discount in running if discount.get("end") is not None), default=None)


def currency_of(subscription: Object) -> str:
    """Its own, or where older versions of the API do not say, that of its prices."""
    told = [subscription.get("currency"), *(_price(item).get("currency") for item in _listed(subscription))]
    return str(next((currency for currency in told if currency), "usd"))


def has_mrr(subscription: Object) -> bool:
    """Whether the subscription counts: it is paid for, or was when it ended."""
    status = subscription.get("status")
    paused = subscription.get("pause_collection")
    if isinstance(paused, Mapping) and paused.get("behavior") in UNCOLLECTED:
        return False
    if status == "canceled":
        return not is_trial(subscription)
    return status in PAYING


def is_trial(subscription: Object) -> bool:
    """Whether it is on trial, or was when it ended."""
    if subscription.get("status") == "canceled":
        ended, trial_end = subscription.get("ended_at"), subscription.get("trial_end")
        return ended is not None and trial_end is not None and ended <= trial_end
    return subscription.get("status") == "trialing"


def items_of(subscription: Object) -> Sequence[Object]:
    """The items, the one that costs most a month first."""
    return sorted(_listed(subscription), key=lambda item: -(_amount(item) * months(_price(item))))


def _listed(subscription: Object) -> Sequence[Object]:
    listed = subscription.get("items")
    found = listed.get("data") if isinstance(listed, Mapping) else None
    if not isinstance(found, list) or listed is None:
        raise Skippable("the subscription came without its items")
    if listed.get("has_more"):
        raise Skippable(f"only {len(found)} of the subscription's items are known")
    return [item for item in found if isinstance(item, Mapping) and not item.get("deleted")]


def is_metered(item: Object) -> bool:
    """Whether an item is billed by usage."""
    return _recurring(_price(item)).get("usage_type") == "metered"


def months(price: Object) -> Decimal:
    """What a price has to be multiplied with to be a month's."""
    recurring = _recurring(price)
    interval = recurring.get("interval")
    if interval not in _A_MONTH_HAS:
        raise Skippable(
            f"price {price.get('id')} is billed by {interval or 'no interval'}, of which MRR knows no months"
        )
    return _A_MONTH_HAS[str(interval)] / int(recurring.get("interval_count") or 1)


def _price(item: Object) -> Object:
    price = item.get("price") or item.get("plan")
    return price if isinstance(price, Mapping) else {}


def _recurring(price: Object) -> Object:
    recurring = price.get("recurring")
    return recurring if isinstance(recurring, Mapping) else price


def _amount(item: Object) -> Decimal:
    price = _price(item)
    quantity = item.get("quantity")
    count = Decimal(1 if quantity is None else quantity)
    if is_metered(item):
        return Decimal(0)
    transform = price.get("transform_quantity")
    if isinstance(transform, Mapping):
        rounding = ROUND_CEILING if transform.get("round") == "up" else ROUND_FLOOR
        count = (count / int(transform.get("divide_by") or 1)).to_integral_value(rounding)
    if not _has_amount(price):
        raise Skippable(f"price {price.get('id')} came without an amount")
    if price.get("billing_scheme") == "tiered":
        return _tiered(count, price["tiers"], str(price.get("tiers_mode") or "graduated"))
    return _unit(price) * count


def _unit(priced: Object) -> Decimal:
    exact, whole = priced.get("unit_amount_decimal"), priced.get("unit_amount", priced.get("amount"))
    return Decimal(str(exact if exact is not None else whole or 0))


def _has_amount(price: Object) -> bool:
    if price.get("billing_scheme") == "tiered":
        return bool(price.get("tiers"))
    return any(price.get(name) is not None for name in ("unit_amount_decimal", "unit_amount", "amount"))


def in_currency(price: Object, currency: str) -> Object | None:
    """The price with the amounts that it has in a currency; None where they are not there, or not shown."""
    if str(price.get("currency") or currency).lower() != currency.lower():
        options = price.get("currency_options")
        option = options.get(currency.lower()) if isinstance(options, Mapping) else None
        if not isinstance(option, Mapping):
            return None
        amounts = {name: option.get(name) for name in ("unit_amount", "unit_amount_decimal", "tiers")}
        price = {**price, **amounts, "currency": currency.lower()}
    return price if _has_amount(price) else None


def _tiered(count: Decimal, tiers: Sequence[Object], mode: str) -> Decimal:
    """Volume: all units cost what the last unit's tier says. Graduated: each unit costs what its own tier says."""
    total, below = Decimal(0), Decimal(0)
    for tier in tiers:
        up_to = tier.get("up_to")
        top = count if up_to is None else min(count, Decimal(up_to))
        is_last = up_to is None or count <= Decimal(up_to)
        if mode == "volume":
            if is_last:
                return _unit(tier) * count + _flat(tier)
            continue
        if top > below or (count == 0 and below == 0):
            total += _unit(tier) * (top - below) + _flat(tier)
        below = top
        if is_last:
            break
    return total


def _flat(tier: Object) -> Decimal:
    exact, whole = tier.get("flat_amount_decimal"), tier.get("flat_amount")
    return Decimal(str(exact if exact is not None else whole or 0))


@dataclass(frozen=True)
class _Bill:
    """What an item costs a month in minor units, the product that it is of, and the months of one bill."""

    monthly: Decimal
    product: Any
    months_a_bill: Decimal


def _bill(item: Object, currency: str) -> _Bill:
    price = in_currency(_price(item), currency)
    if price is None:
        raise Skippable(f"price {_price(item).get('id')} has no amount in {currency}, which the subscription bills")
    product, share = price.get("product"), months(price)
    amount = _amount({**item, "price": price}) * share
    return _Bill(amount, product.get("id") if isinstance(product, Mapping) else product, share)


@dataclass(frozen=True)
class _Coupons:
    """Which coupons count: of the durations `deduct`, running at `at` (seconds since 1970), and what they take off
    in `currency`.
    """

    deduct: frozenset[str]
    currency: str
    at: float

    def off(self, bills: Sequence[_Bill], discounts: Sequence[Object]) -> list[_Bill]:
        """`bills` less the coupons that count, one after the other, never below nothing.

        What is taken off as an amount is taken off each bill; items of several intervals are billed with the first of them.
        """
        lowered = list(bills)
        for discount in discounts:
            coupon = coupon_of(discount)
            if coupon.get("duration") not in self.deduct or not _runs(discount, self.at):
                continue
            lowered = self._less(lowered, coupon)
        return lowered

    def _less(self, bills: list[_Bill], coupon: Object) -> list[_Bill]:
        limits = coupon.get("applies_to")
        products = limits.get("products") if isinstance(limits, Mapping) else None
        meant = [not products or bill.product in products for bill in bills]
        total = sum((bill.monthly for bill, is_meant in zip(bills, meant, strict=True) if is_meant), Decimal(0))
        if not total:
            return bills
        off = total - self._taken(coupon, total, bills[0].months_a_bill)
        left = max(off, Decimal(0)) / total
        return [
            replace(bill, monthly=bill.monthly * left) if is_meant else bill
            for bill, is_meant in zip(bills, meant, strict=True)
        ]

    def _taken(self, coupon: Object, total: Decimal, months_a_bill: Decimal) -> Decimal:
        if coupon.get("percent_off") is not None:
            return total * Decimal(str(coupon["percent_off"])) / 100
        amount = coupon.get("amount_off")
        if str(coupon.get("currency") or self.currency).lower() != self.currency.lower():
            if "currency_options" not in coupon:
                raise Skippable(f"what coupon {coupon.get('id')} takes off in {self.currency} did not come with it")
            option = (coupon["currency_options"] or {}).get(self.currency.lower()) or {}
            amount = option.get("amount_off", 0)
        if amount is None:
            raise Skippable(f"coupon {coupon.get('id')} came without what it takes off")
        return Decimal(str(amount)) * months_a_bill


def _runs(discount: Object, at: float) -> bool:
    start, end = discount.get("start"), discount.get("end")
    return (start is None or start <= at) and (end is None or end > at)


def _whole(discounts: Any) -> Sequence[Object]:
    """Discounts, none of which is only an id."""
    found = [discount for discount in discounts or [] if discount]
    unknown = [str(discount) for discount in found if not isinstance(discount, Mapping)]
    if unknown:
        raise Skippable(f"of discount {', '.join(unknown)} only the id is known")
    return found


def _own_discounts(subscription: Object) -> Sequence[Object]:
    """The subscription's own discounts, counted or not; older versions of the API show only the last one, as `discount`."""
    several, one = subscription.get("discounts"), subscription.get("discount")
    if isinstance(one, Mapping) and several in (None, [], [one.get("id")]):
        return [one]
    return _whole(several)


def _of_customer(subscription: Object) -> Any:
    customer = subscription.get("customer")
    return customer.get("discount") if isinstance(customer, Mapping) else None


def coupon_of(discount: Object) -> Object:
    """The coupon of an expanded discount: inside `source` since 2025, directly in it before."""
    source = discount.get("source")
    coupon = source.get("coupon") if isinstance(source, Mapping) else discount.get("coupon")
    if not isinstance(coupon, Mapping) or not coupon.get("duration"):
        raise Skippable(f"of the coupon of discount {discount.get('id')} only the id is known")
    return coupon


def _last_moment(subscription: Object, now: datetime) -> float:
    """Now, or its end where it has ended."""
    ended = subscription.get("ended_at")
    return _moment(now) if ended is None else min(float(ended), _moment(now))


def _moment(now: datetime) -> float:
    return now.replace(tzinfo=UTC).timestamp()
