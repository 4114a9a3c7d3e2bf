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
- "Coupons" (docs.stripe.com/api/coupons/object): an amount off is in the coupon's `currency`.
- "Products and prices": graduated and volume tiers, flat amounts of tiers, `transform_quantity`, decimals of a cent.
- "Supported currencies" (docs.stripe.com/currencies): which have no minor unit, which have three digits; amounts in ISK and
  UGX have two digits although they have no minor unit.

Where Stripe does not say: a week is 52/12 and a day 365/12 of a month; a subscription whose payments are paused with
`void` or `mark_uncollectible` has no MRR, since nobody owes it, and with `keep_as_draft` it has; an amount off a subscription
is taken off each of its bills; of a subscription that has ended, the customer's discount counts as it was at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any

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
_CENT = Decimal("0.01")


def major(amount: Any, currency: str) -> Decimal | None:
    """An amount in a currency's minor units as Stripe writes it, in the currency itself."""
    if amount is None:
        return None
    digits = 0 if currency.lower() in ZERO_DECIMAL else 3 if currency.lower() in THREE_DECIMAL else 2
    return Decimal(str(amount)).scaleb(-digits)


def in_usd(amount: Decimal | None, currency: str, rates: Mapping[str, float]) -> Decimal | None:
    """An amount in dollars, to the cent; None for a currency without a rate, which is not a zero."""
    currency = currency.lower()
    rate = 1.0 if currency == "usd" else rates.get(currency)
    if amount is None or rate is None:
        return None
    return (amount * Decimal(str(rate))).quantize(_CENT, ROUND_HALF_UP)


def mrr(subscription: Object, *, deduct: Collection[str] = FOREVER, now: datetime) -> Decimal:
    """MRR in the subscription's own currency; of one that has ended, what it was while it ran.

    `deduct` are the durations of coupons that lower it. The customer's own discount counts where `customer` is expanded.
    """
    if not has_mrr(subscription):
        return Decimal(0)
    items = [item for item in items_of(subscription) if not is_metered(item)]
    coupons = _Coupons(frozenset(deduct), currency_of(subscription), _moment(now))
    bills = [(coupons.off(_amount(item), item.get("discounts")), _price(item)) for item in items]
    monthly = sum((bill * months(price) for bill, price in bills), Decimal(0))
    # What is taken off a bill of several intervals is taken off each bill of the first: they are billed together.
    first = months(bills[0][1]) if bills else Decimal(1)
    own = _own_discounts(subscription)
    if own:
        monthly = coupons.off(monthly, own, first)
    else:
        inherited = replace(coupons, at=_last_moment(subscription, now))
        monthly = inherited.off(monthly, [_of_customer(subscription)], first)
    return major(monthly, currency_of(subscription)) or Decimal(0)


def discount_ends(subscription: Object, *, now: datetime) -> int | None:
    """When the first of the discounts that lower its bills ends (seconds since 1970): all that run, deducted from MRR or not.

    Of a subscription that has ended, as it was at the end. None where none runs, or none ends: `forever`, or `once`.
    """
    of_items = [discount for item in items_of(subscription) for discount in item.get("discounts") or []]
    told = [*(_own_discounts(subscription) or [_of_customer(subscription)]), *of_items]
    at = _last_moment(subscription, now)
    running = [discount for discount in told if isinstance(discount, Mapping) and _runs(discount, at)]
    return min((int(discount["end"]) for discount in running if discount.get("end") is not None), default=None)


def currency_of(subscription: Object) -> str:
    """Its own, or where older versions of the API do not say, that of its prices."""
    told = [subscription.get("currency"), *(_price(item).get("currency") for item in items_of(subscription))]
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
    listed = subscription.get("items")
    found = listed.get("data") if isinstance(listed, Mapping) else None
    items = [item for item in found or [] if isinstance(item, Mapping) and not item.get("deleted")]
    return sorted(items, key=lambda item: -(_amount(item) * months(_price(item))))


def is_metered(item: Object) -> bool:
    """Whether an item is billed by usage."""
    return _recurring(_price(item)).get("usage_type") == "metered"


def months(price: Object) -> Decimal:
    """What a price has to be multiplied with to be a month's."""
    recurring = _recurring(price)
    count = int(recurring.get("interval_count") or 1)
    return _A_MONTH_HAS.get(str(recurring.get("interval") or "month"), Decimal(1)) / count


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
    if price.get("billing_scheme") == "tiered":
        return _tiered(count, price.get("tiers") or [], str(price.get("tiers_mode") or "graduated"))
    return _unit(price) * count


def _unit(priced: Object) -> Decimal:
    exact, whole = priced.get("unit_amount_decimal"), priced.get("unit_amount", priced.get("amount"))
    return Decimal(str(exact if exact is not None else whole or 0))


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
class _Coupons:
    """Which coupons count: of the durations `deduct`, running at the moment `at` (seconds since 1970), and no amount of
    another currency.
    """

    deduct: frozenset[str]
    currency: str
    at: float

    def off(self, amount: Decimal, discounts: Any, months_a_bill: Decimal = Decimal(1)) -> Decimal:
        """`amount` less the coupons that count, one after the other, never below nothing."""
        for discount in discounts or []:
            coupon = coupon_of(discount)
            if coupon is None or coupon.get("duration") not in self.deduct or not _runs(discount, self.at):
                continue
            if coupon.get("percent_off") is not None:
                amount *= 1 - Decimal(str(coupon["percent_off"])) / 100
            elif str(coupon.get("currency") or self.currency).lower() == self.currency.lower():
                amount -= Decimal(str(coupon.get("amount_off") or 0)) * months_a_bill
        return max(amount, Decimal(0))


def _runs(discount: Object, at: float) -> bool:
    start, end = discount.get("start"), discount.get("end")
    return (start is None or start <= at) and (end is None or end > at)


def _own_discounts(subscription: Object) -> Sequence[Any]:
    """The subscription's own discounts, counted or not; older versions of the API know one."""
    told = subscription.get("discounts") or [subscription.get("discount")]
    return [discount for discount in told if discount]


def _of_customer(subscription: Object) -> Any:
    customer = subscription.get("customer")
    return customer.get("discount") if isinstance(customer, Mapping) else None


def coupon_of(discount: Any) -> Object | None:
    """The coupon of an expanded discount: inside `source` since 2025, directly in it before."""
    if not isinstance(discount, Mapping):
        return None
    source = discount.get("source")
    coupon = source.get("coupon") if isinstance(source, Mapping) else discount.get("coupon")
    return coupon if isinstance(coupon, Mapping) else None


def _last_moment(subscription: Object, now: datetime) -> float:
    """Now, or its end where it has ended."""
    ended = subscription.get("ended_at")
    return _moment(now) if ended is None else min(float(ended), _moment(now))


def _moment(now: datetime) -> float:
    return now.replace(tzinfo=UTC).timestamp()
