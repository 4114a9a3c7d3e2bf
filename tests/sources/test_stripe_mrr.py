"""MRR of a Stripe subscription: one rule, one test. Amounts are in cents, MRR in the currency."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from core.errors import Skippable
from sources.stripe_mrr import currency_of, discount_ends, is_trial, items_of, major, mrr

NOW = datetime(2024, 6, 1)
TIERS = [
    {"up_to": 5, "unit_amount": 700, "flat_amount": 1000},
    {"up_to": 10, "unit_amount": 600, "flat_amount": None},
    {"up_to": None, "unit_amount": None, "unit_amount_decimal": "450.5", "flat_amount": 200},
]


def item(
    cents: Any = 1000, quantity: int | None = 1, *, every: str = "month", count: int = 1, **more: Any
) -> dict[str, Any]:
    recurring = {"interval": every, "interval_count": count, "usage_type": more.pop("usage_type", "licensed")}
    price = {"unit_amount": cents, "billing_scheme": "per_unit", "recurring": recurring, **more.pop("price", {})}
    return {"price": price, "quantity": quantity, **more}


def subscription(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"status": "active", "currency": "usd", "items": {"data": list(items or [item()])}, **fields}


def coupon(duration: str = "forever", end: int | None = None, **off: Any) -> dict[str, Any]:
    return {"end": end, "source": {"coupon": {"duration": duration, **off}}}


def of(found: dict[str, Any], **options: Any) -> Decimal:
    return mrr(found, now=NOW, **options).quantize(Decimal("0.01"))


def test_quantity_times_unit_amount() -> None:
    assert of(subscription(item(1000, 3))) == Decimal(30)


@pytest.mark.parametrize(
    ("every", "count", "cents", "monthly"),
    [
        ("month", 1, 1000, "10.00"),
        ("month", 3, 3000, "10.00"),
        ("year", 1, 12000, "10.00"),
        ("year", 2, 24000, "10.00"),
        ("week", 1, 1200, "52.00"),
        ("week", 2, 1200, "26.00"),
        ("day", 1, 1200, "365.00"),
    ],
)
def test_intervals_become_months(every: str, count: int, cents: int, monthly: str) -> None:
    assert of(subscription(item(cents, every=every, count=count))) == Decimal(monthly)


def test_several_items_and_intervals_add_up() -> None:
    assert of(subscription(item(1000, 2), item(12000, every="year"))) == Decimal(30)


def test_what_is_billed_by_usage_is_left_out() -> None:
    assert of(subscription(item(1000), item(500, None, usage_type="metered"))) == Decimal(10)


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("active", True),
        ("past_due", True),
        ("trialing", False),
        ("unpaid", False),
        ("paused", False),
        ("incomplete", False),
        ("canceled", True),
    ],
)
def test_the_status_decides_whether_it_counts(status: str, counts: bool) -> None:
    assert of(subscription(status=status)) == (Decimal(10) if counts else Decimal(0))


def test_one_that_ended_on_trial_never_counted() -> None:
    trial = subscription(status="canceled", ended_at=100, trial_end=100)
    assert is_trial(trial)
    assert of(trial) == 0
    assert of(subscription(status="canceled", ended_at=101, trial_end=100)) == Decimal(10)


def test_one_that_is_to_end_at_the_end_of_its_term_counts_until_then() -> None:
    assert of(subscription(cancel_at_period_end=True)) == Decimal(10)


@pytest.mark.parametrize(("behavior", "monthly"), [("void", 0), ("mark_uncollectible", 0), ("keep_as_draft", 10)])
def test_paused_payments(behavior: str, monthly: int) -> None:
    assert of(subscription(pause_collection={"behavior": behavior})) == monthly


def test_a_coupon_for_ever_lowers_it_and_one_that_passes_does_not() -> None:
    assert of(subscription(discounts=[coupon(percent_off=25)])) == Decimal("7.50")
    assert of(subscription(discounts=[coupon("once", percent_off=25)])) == Decimal(10)
    assert of(subscription(discounts=[coupon("repeating", percent_off=25)])) == Decimal(10)


def test_which_coupons_count_may_be_chosen_and_those_that_are_over_never_do() -> None:
    every = ("forever", "repeating")
    assert of(subscription(discounts=[coupon("repeating", percent_off=25)]), deduct=every) == Decimal("7.50")
    assert of(subscription(discounts=[coupon("repeating", end=1, percent_off=25)]), deduct=every) == Decimal(10)


def test_an_amount_off_is_taken_off_each_bill_and_never_below_nothing() -> None:
    assert of(subscription(discounts=[coupon(amount_off=300)])) == Decimal(7)
    assert of(subscription(item(12000, every="year"), discounts=[coupon(amount_off=1200)])) == Decimal(9)
    assert of(subscription(discounts=[coupon(amount_off=5000)])) == 0


def test_coupons_stack_in_their_order_and_items_have_their_own() -> None:
    assert of(subscription(discounts=[coupon(amount_off=200), coupon(percent_off=50)])) == Decimal(4)
    assert of(subscription(item(1000, discounts=[coupon(percent_off=50)]), item(1000))) == Decimal(15)


def test_the_first_end_of_a_discount_that_lowers_the_bills() -> None:
    def end_of(given: dict[str, Any]) -> int | None:
        return discount_ends(given, now=NOW)

    now = int(NOW.replace(tzinfo=UTC).timestamp())
    soon, late, over = ({"start": 0, "end": now + days * 86400, "coupon": {}} for days in (30, 60, -1))
    assert end_of(subscription(discounts=[])) is None
    assert end_of(subscription(discounts=[coupon(percent_off=25)])) is None
    assert end_of(subscription(discounts=[over, late, soon])) == soon["end"]
    assert end_of(subscription(customer=of_customer(soon), discounts=[])) == soon["end"]
    assert end_of(subscription(customer=of_customer(soon), discounts=[late])) == late["end"]
    assert end_of(subscription(item(discounts=[soon]), discounts=[late])) == soon["end"]
    assert end_of(subscription(status="canceled", ended_at=over["end"] - 60, discounts=[over])) == over["end"]


def of_customer(discount: dict[str, Any] | None) -> dict[str, Any]:
    return {"id": "cus_1", "discount": discount}


def test_a_discount_of_the_customer_lowers_what_has_none_of_its_own() -> None:
    customer = of_customer(coupon(percent_off=25))
    assert of(subscription(customer=customer)) == Decimal("7.50")
    assert of(subscription(customer=customer, discounts=[])) == Decimal("7.50")
    assert of(subscription(customer=of_customer(None))) == Decimal(10)
    assert of(subscription(customer="cus_1")) == Decimal(10)


def test_a_discount_of_its_own_takes_the_place_of_the_customers_even_where_it_is_not_deducted() -> None:
    customer = of_customer(coupon(percent_off=25))
    assert of(subscription(customer=customer, discounts=[coupon(percent_off=10)])) == Decimal(9)
    assert of(subscription(customer=customer, discounts=[coupon("once", percent_off=10)])) == Decimal(10)
    assert of(subscription(customer=customer, discount={"coupon": {"duration": "once", "percent_off": 10}})) == 10


def test_discounts_of_items_leave_the_customers_in_place() -> None:
    customer = of_customer(coupon(percent_off=50))
    assert of(subscription(item(discounts=[coupon(percent_off=50)]), item(), customer=customer)) == Decimal("7.50")


def test_which_of_the_customers_coupons_count_is_the_same_rule() -> None:
    passing = of_customer(coupon("repeating", percent_off=25))
    assert of(subscription(customer=passing)) == Decimal(10)
    assert of(subscription(customer=passing), deduct=("repeating",)) == Decimal("7.50")


def test_an_amount_off_of_another_currency_is_not_taken_off() -> None:
    euros = of_customer(coupon(amount_off=300, currency="eur", currency_options=None))
    assert of(subscription(customer=euros)) == Decimal(10)
    assert of(subscription(customer=euros, currency="eur")) == Decimal(7)
    assert of(subscription(customer=euros, currency="EUR")) == Decimal(7)


def test_a_discount_that_the_customer_got_after_the_end_leaves_what_ended_as_it_was() -> None:
    ended: dict[str, Any] = {"status": "canceled", "ended_at": 100}
    later = of_customer({"start": 101, **coupon(percent_off=25)})
    before = of_customer({"start": 99, **coupon(percent_off=25)})
    assert of(subscription(customer=later, **ended)) == Decimal(10)
    assert of(subscription(customer=before, **ended)) == Decimal("7.50")


def test_a_coupon_in_the_older_shape() -> None:
    older = {"id": "di_1", "end": None, "coupon": {"duration": "forever", "percent_off": 10}}
    assert of(subscription(discounts=[older])) == Decimal(9)
    assert of(subscription(discounts=["di_1"], discount=older)) == Decimal(9)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (subscription(discounts=["di_1"]), "of discount di_1 only the id is known"),
        (subscription(item(discounts=["di_1"])), "of discount di_1 only the id is known"),
        (subscription(discounts=[{"id": "di_1", "source": {"coupon": "c"}}]), "coupon of discount di_1"),
        (subscription(items={"data": [item()], "has_more": True}), "only 1 of the subscription's items"),
        (subscription(items=None), "without its items"),
        (subscription(item(price={"id": "p", "currency": "usd"}), currency="eur"), "price p has no amount in eur"),
        (subscription(item(None, price={"id": "p", "billing_scheme": "tiered"})), "price p came without an amount"),
        (subscription(item(None, price={"id": "p"})), "price p came without an amount"),
        (subscription(item(every="fortnight")), "billed by fortnight"),
        (subscription(discounts=[coupon(amount_off=1, currency="eur", id="c")]), "what coupon c takes off in usd"),
    ],
)
def test_what_is_not_whole_has_no_mrr_rather_than_a_wrong_one(part: dict[str, Any], said: str) -> None:
    with pytest.raises(Skippable, match=said):
        mrr(part, now=NOW)


def test_a_coupon_for_some_products_lowers_only_their_items() -> None:
    core, other = item(1000, price={"product": "core"}), item(2000, price={"product": {"id": "other"}})
    limited = {"applies_to": {"products": ["other"]}}
    assert of(subscription(core, other, discounts=[coupon(percent_off=50, **limited)])) == Decimal(20)
    assert of(subscription(core, other, discounts=[coupon(amount_off=5000, **limited)])) == Decimal(10)
    assert of(subscription(core, other, customer=of_customer(coupon(percent_off=50, **limited)))) == Decimal(20)


def test_amounts_in_other_currencies_are_options_of_prices_and_coupons() -> None:
    options = {"eur": {"unit_amount": 1900, "amount_off": 400}}
    several = item(1000, price={"currency": "usd", "currency_options": options})
    assert of(subscription(several)) == Decimal(10)
    assert of(subscription(several, currency="eur")) == Decimal(19)
    off = coupon(amount_off=300, currency="usd", currency_options=options)
    assert of(subscription(several, currency="eur", discounts=[off])) == Decimal(15)


@pytest.mark.parametrize(
    ("mode", "seats", "monthly"),
    [
        ("graduated", 5, "45.00"),  # 10.00 + 5 × 7.00
        ("graduated", 7, "57.00"),  # + 2 × 6.00
        ("graduated", 12, "86.01"),  # 45.00 + 30.00 + 2.00 + 2 × 4.505
        ("graduated", 0, "10.00"),  # the flat amount of the first tier is due without a unit
        ("volume", 7, "42.00"),
        ("volume", 12, "56.06"),  # 2.00 + 12 × 4.505
    ],
)
def test_tiers(mode: str, seats: int, monthly: str) -> None:
    price = {"billing_scheme": "tiered", "tiers_mode": mode, "tiers": TIERS, "unit_amount": None}
    assert of(subscription(item(None, seats, price=price))) == Decimal(monthly)


@pytest.mark.parametrize(("direction", "monthly"), [("up", 30), ("down", 20)])
def test_packages_of_a_quantity(direction: str, monthly: int) -> None:
    price = {"transform_quantity": {"divide_by": 10, "round": direction}}
    assert of(subscription(item(1000, 25, price=price))) == monthly


def test_decimals_of_a_cent() -> None:
    assert of(subscription(item(None, 1000, price={"unit_amount_decimal": "0.25"}))) == Decimal("2.50")


def test_a_plan_and_the_one_discount_of_older_versions_of_the_api() -> None:
    plan = {"amount": 12000, "interval": "year", "interval_count": 1, "usage_type": "licensed"}
    older = subscription({"plan": plan, "quantity": 2}, discount={"coupon": {"duration": "forever", "percent_off": 10}})
    assert of(older) == Decimal(18)
    assert of(subscription({"plan": {**plan, "usage_type": "metered"}})) == 0


def test_currencies_have_their_own_minor_units() -> None:
    assert major(500, "JPY") == 500
    assert major(500, "usd") == 5
    assert major(5000, "kwd") == 5
    assert major(500, "ugx") == 5
    assert mrr(subscription(item(500), currency="jpy"), now=NOW) == 500


def test_where_a_subscription_does_not_name_its_currency_its_prices_do() -> None:
    assert currency_of(subscription(item(price={"currency": "jpy"}), currency=None)) == "jpy"
    assert currency_of(subscription(currency=None)) == "usd"


def test_the_item_that_costs_most_comes_first() -> None:
    found = items_of(subscription(item(100, every="year"), item(90), item(1, deleted=True)))
    assert [one["price"]["unit_amount"] for one in found] == [90, 100]
