"""Stripe as a source: what only it does; what all vendors do is in `test_vendor_contract.py`, MRR in `test_stripe_mrr.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

import sandbox
from sandbox.serve import serving
from sandbox.stripe import KEY, StripeStandIn, running

PERIODS = (
    "select subscription_id, plan, seats, mrr, is_trial, strftime(started_at, '%d.%m.'), strftime(ended_at, '%d.%m.'),"
    " end_reason from raw_stripe.subscriptions order by started_at"
)


def day(number: int, hour: int = 0) -> int:
    """Seconds since 1970 of a day in March 2024."""
    return int((datetime(2024, 3, number, hour) - datetime(1970, 1, 1)).total_seconds())


def price(cents: int | None = 1000, plan: str = "team", **fields: Any) -> dict[str, Any]:
    return {
        "id": f"price_{plan}",
        "nickname": plan,
        "product": "prod_core",
        "currency": "usd",
        "billing_scheme": "per_unit",
        "unit_amount": cents,
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
        **fields,
    }


def item(priced: dict[str, Any], quantity: int = 1, number: int = 1, **fields: Any) -> dict[str, Any]:
    told = {"id": f"si_{number}", "quantity": quantity, "price": priced, "discounts": []}
    return {**told, "current_period_end": day(31), **fields}


def subscription(
    cents: int = 1000, seats: int = 1, plan: str = "team", *, items: list[dict[str, Any]] | None = None, **fields: Any
) -> dict[str, Any]:
    return {
        "id": "sub_1",
        "customer": "cus_1",
        "status": "active",
        "currency": "usd",
        "items": {"data": items or [item(price(cents, plan), seats)]},
        "discounts": [],
        "start_date": day(1),
        "trial_start": None,
        "trial_end": None,
        "ended_at": None,
        "created": day(1),
        "metadata": {},
        **fields,
    }


def discount(name: str = "di_1", *, end: int | None = None, **coupon: Any) -> dict[str, Any]:
    return {"id": name, "start": 0, "end": end, "coupon": {"id": f"of {name}", "duration": "forever", **coupon}}


@pytest.fixture
def billing(company: Any) -> Iterator[StripeStandIn]:
    standin = StripeStandIn(requests=10_000)
    standin.put("products", [{"id": "prod_core", "name": "Core", "created": 0}])
    standin.put(
        "customers", [{"id": "cus_1", "name": "One", "email": "ap@one.example", "created": day(1), "metadata": {}}]
    )
    with serving(standin) as url:
        company.sources(billing={"connector": "stripe", "base_url": url, "key": KEY, "requests_per_second": 10_000})
        yield standin


def test_a_subscription_is_read_with_its_mrr(company: Any, billing: StripeStandIn) -> None:
    billing.put("subscriptions", [subscription(1250, 4)])
    company.load()
    found = company.query(
        "select product, plan, seats, cast(mrr as varchar), billing_interval, cast(renews_at as varchar)"
        " from raw_stripe.subscriptions"
    )
    assert found == [("Core", "team", 4, "50.00", "month", "2024-03-31 00:00:00")]


def test_a_change_of_plan_or_seats_ends_a_period_and_begins_another(company: Any, billing: StripeStandIn) -> None:
    billing.put("subscriptions", [subscription(1000, 2)])
    company.load()
    billing.change("subscriptions", subscription(1000, 3), at=day(5))
    report = company.load()["subscriptions"]
    assert (report.rows_inserted, report.rows_ended, report.rows_read) == (1, 1, 1)
    billing.change("subscriptions", subscription(1000, 3, metadata={"note": "x"}), at=day(6))
    company.load()
    billing.change("subscriptions", subscription(2000, 3, "business"), at=day(8))
    billing.change(
        "subscriptions",
        subscription(2000, 3, "business", status="canceled", ended_at=day(9)),
        at=day(9),
        word="deleted",
    )
    company.load()
    expected = [
        ("sub_1", "team", 2, 20, False, "01.03.", "05.03.", "changed"),
        (f"sub_1@{day(5)}", "team", 3, 30, False, "05.03.", "09.03.", None),
    ]
    assert company.query(PERIODS) == expected
    before = company.contents()
    again = company.load()["subscriptions"]
    assert (again.rows_inserted, again.rows_updated, again.rows_ended) == (0, 0, 0)
    assert company.contents() == before


def test_a_trial_that_is_paid_for_and_a_bill_that_is_not(company: Any, billing: StripeStandIn) -> None:
    billing.put("subscriptions", [subscription(status="trialing", trial_end=day(4))])
    company.load()
    billing.put("invoices", [invoice("in_1", subscription="sub_1")])
    for moment, status in ((4, "active"), (20, "past_due"), (25, "unpaid")):
        billing.change("subscriptions", subscription(status=status, trial_end=day(4)), at=day(moment))
        company.load()
    assert [row[3:7] for row in company.query(PERIODS)] == [
        (0, True, "01.03.", "04.03."),
        (10, False, "04.03.", "25.03."),
        (0, False, "25.03.", None),
    ]


TRIALS = (
    "select subscription_id, cast(mrr as varchar), is_trial, strftime(started_at, '%d.%m.'), strftime(ended_at, '%d.%m.'),"
    " end_reason from raw_stripe.subscriptions order by started_at"
)


@pytest.mark.parametrize(
    ("fields", "periods"),
    [
        ({"status": "trialing"}, [("0.00", True, "01.03.", None)]),
        ({"status": "active"}, [("0.00", True, "01.03.", "04.03."), ("10.00", False, "04.03.", None)]),
        # The trial began after a time that was paid for.
        (
            {"status": "active", "trial_start": day(2)},
            [
                ("10.00", False, "01.03.", "02.03."),
                ("0.00", True, "02.03.", "04.03."),
                ("10.00", False, "04.03.", None),
            ],
        ),
        ({"status": "canceled", "ended_at": day(3)}, [("0.00", True, "01.03.", "03.03.")]),
        (
            {"status": "canceled", "ended_at": day(9)},
            [("0.00", True, "01.03.", "04.03."), ("0.00", False, "04.03.", "09.03.")],
        ),
        (
            {"id": "sub_paid", "status": "canceled", "ended_at": day(9)},
            [("0.00", True, "01.03.", "04.03."), ("10.00", False, "04.03.", "09.03.")],
        ),
        ({"status": "past_due"}, [("0.00", True, "01.03.", "04.03."), ("0.00", False, "04.03.", None)]),
        ({"status": "paused"}, [("0.00", True, "01.03.", "04.03."), ("0.00", False, "04.03.", None)]),
    ],
)
def test_there_is_no_mrr_before_the_end_of_a_trial_nor_where_nothing_was_ever_paid_after_it(
    company: Any, billing: StripeStandIn, fields: dict[str, Any], periods: list[Any]
) -> None:
    # The invoice of a trial is paid, too, over nothing.
    free = invoice("in_0", subscription="sub_1", total=0, total_excluding_tax=0)
    billing.put("invoices", [free, invoice("in_1", subscription="sub_paid")])
    billing.put("subscriptions", [subscription(**{"trial_end": day(4), **fields})])
    company.load()
    told = company.query(TRIALS)
    assert [row[1:5] for row in told] == periods
    assert [row[5] for row in told[:-1]] == ["changed"] * (len(told) - 1)
    names = [row[0].partition("@") for row in told]
    assert [name[2] for name in names[1:]] == [str(day(int(row[3][:2]))) for row in told[1:]]
    for full in (False, True, False):
        company.load(full=full)
        assert company.query(TRIALS) == told


def test_a_trial_that_was_seen_ends_when_it_ended_and_its_past_stays(company: Any, billing: StripeStandIn) -> None:
    billing.put("subscriptions", [subscription(status="trialing", trial_end=day(4))])
    company.load()
    billing.put("invoices", [invoice("in_1", subscription="sub_1")])
    # Between the two looks it was paid for, and canceled.
    canceled = subscription(status="canceled", trial_end=day(4), ended_at=day(9))
    billing.change("subscriptions", canceled, at=day(9), word="deleted")
    report = company.load()["subscriptions"]
    assert (report.rows_ended, report.rows_inserted, report.adds_up) == (1, 1, True)
    told = [("0.00", True, "01.03.", "04.03."), ("10.00", False, "04.03.", "09.03.")]
    assert [row[1:5] for row in company.query(TRIALS)] == told
    # What the trial is said to have been later changes nothing of what was recorded.
    billing.change("subscriptions", {**canceled, "trial_end": day(6)}, at=day(10))
    company.load()
    assert company.query(TRIALS)[0][1:5] == told[0]


def test_reading_all_anew_keeps_the_periods_that_stripe_no_longer_tells(company: Any, billing: StripeStandIn) -> None:
    billing.put("subscriptions", [subscription(1000, 2)])
    company.load()
    billing.change("subscriptions", subscription(1000, 3), at=day(5))
    company.load()
    before = company.query(PERIODS)
    company.load(full=True)
    assert company.query(PERIODS) == before


def test_tiers_are_fetched_and_coupons_deducted(company: Any, billing: StripeStandIn) -> None:
    tiers = [{"up_to": 2, "unit_amount": 1000}, {"up_to": None, "unit_amount": 500}]
    tiered = price(None, billing_scheme="tiered", tiers_mode="graduated", tiers=tiers, created=0)
    billing.put("prices", [tiered])
    billing.put("subscriptions", [subscription(items=[item(tiered, 4)], discounts=[discount(percent_off=10)])])
    company.load()
    # 2 × 10.00 + 2 × 5.00, less 10 %
    assert company.query("select cast(mrr as varchar) from raw_stripe.subscriptions") == [("27.00",)]


def mrr_of(company: Any) -> dict[str, str]:
    return dict(company.query("select subscription_id, cast(mrr as varchar) from raw_stripe.subscriptions"))


def test_a_discount_of_an_item_is_deducted_from_it_in_lists_and_after_events(
    company: Any, billing: StripeStandIn
) -> None:
    half = [discount(percent_off=50)]
    billing.put(
        "subscriptions", [subscription(items=[item(price(10_000), discounts=half), item(price(3_000), number=2)])]
    )
    company.load()
    assert mrr_of(company) == {"sub_1": "80.00"}
    billing.change("subscriptions", subscription(items=[item(price(8_000), discounts=half)]), at=day(5))
    company.load()
    assert mrr_of(company)[f"sub_1@{day(5)}"] == "40.00"


def test_a_coupon_lowers_only_the_products_that_it_applies_to(company: Any, billing: StripeStandIn) -> None:
    items = [item(price(10_000)), item(price(3_000, "add-on", product="prod_other"), number=2)]
    limited = {"applies_to": {"products": ["prod_other"]}}
    off = [discount("di_1", percent_off=50, **limited), discount("di_2", amount_off=500, currency="usd", **limited)]
    billing.put("subscriptions", [subscription(items=items, discounts=off)])
    company.load()
    # 100.00 + 30.00 / 2 - 5.00
    assert mrr_of(company) == {"sub_1": "110.00"}


def test_the_amount_is_that_of_the_currency_which_the_subscription_bills(company: Any, billing: StripeStandIn) -> None:
    several = price(1000, currency_options={"eur": {"unit_amount": 1900, "unit_amount_decimal": "1900"}}, created=0)
    tiers = [{"up_to": 2, "unit_amount": 1000}, {"up_to": None, "unit_amount": 500}]
    tiered = price(
        None,
        "tiered",
        billing_scheme="tiered",
        tiers_mode="graduated",
        tiers=[{"up_to": None, "unit_amount": 1}],
        currency_options={"eur": {"unit_amount": None, "tiers": tiers}},
        created=0,
    )
    billing.put("prices", [several, tiered, price(1000, "dollars", created=0)])
    off = discount(amount_off=100, currency="usd", currency_options={"eur": {"amount_off": 200}})
    for number, (items, discounts) in enumerate(
        [([item(several)], []), ([item(tiered, 4)], []), ([item(several)], [off]), ([item(price(plan="dollars"))], [])]
    ):
        told = subscription(items=items, currency="eur", discounts=discounts)
        billing.put("subscriptions", [{**told, "id": f"sub_{number}"}])
    company.document["exchange_rates"] = {"EUR": 2.0}
    report = company.load()["subscriptions"]
    assert mrr_of(company) == {"sub_0": "19.00", "sub_1": "30.00", "sub_2": "17.00"}
    rates = "select distinct currency, cast(_exchange_rate as double) from raw_stripe.subscriptions"
    assert company.query(rates) == [("eur", 2.0)]
    assert report.adds_up
    (found,) = company.query("select subscription_id, _reason, _detail, account_id from quarantine.subscriptions")
    assert found == (
        "sub_3",
        "incomplete_record",
        "price price_dollars has no amount in eur, which the subscription bills",
        "cus_1",
    )
    billing.change("subscriptions", {**subscription(items=[item(several)], currency="eur"), "id": "sub_3"}, at=day(5))
    company.load()
    assert company.query("select count(*) from quarantine.subscriptions") == [(0,)]
    assert mrr_of(company)["sub_3"] == "19.00"


@pytest.mark.parametrize("count", [10, 11, 15, 120])
def test_all_items_count_also_those_that_a_subscription_does_not_show(
    company: Any, billing: StripeStandIn, count: int
) -> None:
    half = [discount(percent_off=50)]
    items = [item(price(1000), number=n, discounts=half if n == count - 1 else []) for n in range(count)]
    billing.put("subscriptions", [subscription(items=items)])
    company.load()
    assert mrr_of(company) == {"sub_1": f"{count * 10 - 5}.00"}


def test_a_coupon_that_was_deleted_goes_on_counting_where_stripe_still_shows_it(
    company: Any, billing: StripeStandIn
) -> None:
    billing.put("subscriptions", [subscription(discounts=[TEN_PERCENT])])
    billing.remove("coupons", "of di_1")
    company.load()
    assert mrr_of(company) == {"sub_1": "9.00"}


def test_the_stand_in_is_as_reduced_and_as_strict_as_stripe(company: Any, billing: StripeStandIn) -> None:
    from core.http import Client

    items = [item(price(1000, currency_options={"eur": {"unit_amount": 1}}), number=n) for n in range(11)]
    items[0]["discounts"] = [TEN_PERCENT]
    billing.put("subscriptions", [subscription(items=items)])
    address = company.document["sources"]["billing"]["base_url"]
    client = Client(address, headers=lambda: {"Authorization": f"Bearer {KEY}", "Stripe-Version": "2025-03-31.basil"})

    def ask(path: str, **params: Any) -> Any:
        return client.send("GET", f"/v1/{path}", params=params).json()

    shown = ask("subscriptions/sub_1")["items"]
    assert (len(shown["data"]), shown["has_more"]) == (10, True)
    assert shown["data"][0]["discounts"] == ["di_1"]
    assert "currency_options" not in shown["data"][0]["price"]
    (expanded,) = ask("subscriptions", **{"expand[]": "data.items.data.discounts"})["data"]
    assert expanded["items"]["data"][0]["discounts"][0]["coupon"]["percent_off"] == 10
    for path, params, said in (
        ("subscriptions", {"sorted": "yes"}, "Received unknown parameter: sorted"),
        ("subscriptions", {"expand[]": "data.items.data.price.currency_options"}, "more than 4 levels"),
        ("subscriptions", {"expand[]": "data.prices"}, "cannot be expanded"),
        ("subscription_items", {}, "Missing required param"),
    ):
        assert said in ask(path, **params)["error"]["message"]
    client.close()
    with pytest.raises(ValueError, match="always have currency"):
        billing.put("subscriptions", [{k: v for k, v in subscription().items() if k != "currency"}])


def test_one_that_never_began_is_none_and_a_draft_is_no_invoice(company: Any, billing: StripeStandIn) -> None:
    billing.put("subscriptions", [subscription(status="incomplete")])
    billing.put("invoices", [invoice("in_1", status="draft")])
    reports = company.load()
    assert [reports[name].rows_unchanged for name in ("subscriptions", "invoices")] == [1, 1]
    billing.change("invoices", invoice("in_1", status="open"), at=day(3), word="finalized")
    assert company.load()["invoices"].rows_inserted == 1


def invoice(key: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": key,
        "customer": "cus_1",
        "status": "paid",
        "currency": "usd",
        "total": 1190,
        "total_excluding_tax": 1000,
        "attempt_count": 3,
        "status_transitions": {"finalized_at": day(2), "paid_at": day(3)},
        "created": day(2),
        **fields,
    }


def test_amounts_are_dollars_without_tax_and_a_currency_without_a_rate_is_told(
    company: Any, billing: StripeStandIn
) -> None:
    billing.put(
        "invoices",
        [
            invoice("in_1"),
            invoice("in_2", currency="jpy", total_excluding_tax=1000),
            invoice("in_3", currency="chf"),
            invoice("in_4", total_excluding_tax=None, status="open"),
        ],
    )
    company.document["exchange_rates"] = {"JPY": 0.0067}
    company.load()
    amounts = (
        "select invoice_id, cast(amount as varchar), currency, cast(_exchange_rate as double), failed_payments"
        " from raw_stripe.invoices order by 1"
    )
    assert company.query(amounts) == [
        ("in_1", "10.00", "usd", 1.0, 2),
        ("in_2", "1000.00", "jpy", 0.0067, 2),
        ("in_4", "11.90", "usd", 1.0, 3),
    ]
    assert company.query("select invoice_id, _reason, _file from quarantine.invoices") == [
        ("in_3", "missing_rate", "stripe invoices (id=in_3)")
    ]


def charge(key: str, **fields: Any) -> dict[str, Any]:
    amount = fields.get("amount", 5000)
    return {
        "id": key,
        "customer": "cus_1",
        "status": "succeeded",
        "captured": True,
        "currency": "usd",
        "amount": amount,
        "amount_captured": amount,
        "payment_intent": f"pi_{key}",
        "created": day(4),
        **fields,
    }


def refund(key: str, of: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": key,
        "charge": of,
        "amount": 2000,
        "currency": "usd",
        "status": "succeeded",
        "balance_transaction": f"txn_{key}",
        "created": day(6),
        **fields,
    }


def payment(invoice: str, of: str, created: int = 0) -> dict[str, Any]:
    """The payment of an invoice by the payment intent of a charge."""
    how = {"type": "payment_intent", "payment_intent": f"pi_{of}"}
    return {"id": f"inpay_{of}", "invoice": invoice, "payment": how, "created": created or day(3)}


BILLS = (
    "select invoice_id, cast(amount as varchar), status, strftime(issued_at, '%d.%m.'), strftime(paid_at, '%d.%m.'),"
    " failed_payments from raw_stripe.invoices order by 1"
)


def test_money_without_an_invoice_is_an_invoice_in_its_currency(company: Any, billing: StripeStandIn) -> None:
    billing.put(
        "charges",
        [
            charge("ch_1"),
            charge("ch_2", status="pending", captured=True),
            charge("ch_3", status="failed", captured=False, amount_captured=0),
            charge("ch_4", currency="jpy", amount=1000),
        ],
    )
    company.document["exchange_rates"] = {"JPY": 0.0067}
    company.load()
    assert company.query(BILLS) == [
        ("ch_1", "50.00", "paid", "04.03.", "04.03.", 0),
        ("ch_2", "50.00", "open", "04.03.", None, 0),
        # Nobody owes what was tried in vain: it is a failed payment, and no money.
        ("ch_3", "0.00", "uncollectible", "04.03.", None, 1),
        ("ch_4", "1000.00", "paid", "04.03.", "04.03.", 0),
    ]


def test_what_is_only_authorized_is_no_money_and_of_a_part_that_is_captured_the_rest_is_no_refund(
    company: Any, billing: StripeStandIn
) -> None:
    billing.put("charges", [charge("ch_1", captured=False, amount_captured=0), charge("ch_2", amount_captured=3000)])
    billing.put(
        "refunds",
        [
            refund("re_1", "ch_1", amount=5000, balance_transaction=None),
            refund("re_2", "ch_2", balance_transaction=None),
            refund("re_3", "ch_2", amount=1000),
        ],
    )
    company.load()
    assert [row[:2] for row in company.query(BILLS)] == [("ch_2", "30.00"), ("re_3", "-10.00")]
    billing.change("charges", charge("ch_1"), at=day(9), word="captured")
    company.load()
    assert company.query(BILLS)[0][:3] == ("ch_1", "50.00", "paid")


def test_the_charge_of_an_invoice_is_no_second_invoice(company: Any, billing: StripeStandIn) -> None:
    billing.put("invoices", [invoice("in_1"), invoice("in_2")])
    # Of a charge that failed the invoice tells, as of one that paid it.
    billing.put("charges", [charge("ch_1"), charge("ch_2", status="failed"), charge("ch_3")])
    billing.put("invoice_payments", [payment("in_1", "ch_1"), payment("in_2", "ch_2")])
    report = company.load()["charges"]
    assert (report.rows_read, report.rows_inserted, report.rows_unchanged) == (3, 1, 2)
    assert [row[0] for row in company.query(BILLS)] == ["ch_3", "in_1", "in_2"]
    assert billing.calls("invoice_payments") == 1, "a list of charges asks once for all payments"
    billing.put("invoice_payments", [payment("in_3", "ch_4")])
    for key in ("ch_4", "ch_5"):
        billing.change("charges", charge(key), at=day(8), word="succeeded")
    company.load()
    assert [row[0] for row in company.query(BILLS)] == ["ch_3", "ch_5", "in_1", "in_2"]


def test_a_payment_that_is_taken_for_an_invoice_later_stops_being_one(company: Any, billing: StripeStandIn) -> None:
    billing.put("charges", [charge("ch_1")])
    company.load()
    billing.put("invoice_payments", [payment("in_1", "ch_1")])
    billing.change("charges", charge("ch_1"), at=day(9))
    assert company.load()["charges"].rows_deleted == 1


def test_older_versions_of_the_api_name_the_invoice_of_a_charge(company: Any, billing: StripeStandIn) -> None:
    billing.put("invoices", [invoice("in_1")])
    billing.put("charges", [charge("ch_1", invoice="in_1", amount=1190), charge("ch_2", invoice=None)])
    billing.put("refunds", [refund("re_1", "ch_1", amount=1190)])
    company.document["sources"]["billing"]["api_version"] = "2024-06-20"
    company.load()
    assert [row[:2] for row in company.query(BILLS)] == [("ch_2", "50.00"), ("in_1", "10.00"), ("re_1", "-10.00")]
    assert billing.calls("invoice_payments") == 0


def test_a_refund_is_a_credit_to_the_customer_of_its_charge(company: Any, billing: StripeStandIn) -> None:
    billing.put("charges", [charge("ch_1")])
    billing.put("refunds", [refund("re_1", "ch_1"), refund("re_2", "ch_1", amount=500, status="pending")])
    company.load()
    assert company.query(BILLS)[1:] == [
        ("re_1", "-20.00", "paid", "06.03.", None, None),
        ("re_2", "-5.00", "open", "06.03.", None, None),
    ]
    assert company.query("select distinct account_id from raw_stripe.invoices") == [("cus_1",)]


def test_a_refund_that_fails_or_is_canceled_gave_nothing_back(company: Any, billing: StripeStandIn) -> None:
    billing.put("charges", [charge("ch_1")])
    billing.put("refunds", [refund("re_1", "ch_1", status="pending"), refund("re_2", "ch_1", status="canceled")])
    assert company.load()["refunds"].rows_inserted == 1
    billing.change("refunds", refund("re_1", "ch_1", status="failed"), at=day(8), word="failed")
    assert company.load()["refunds"].rows_deleted == 1
    assert [row[0] for row in company.query(BILLS)] == ["ch_1"]


def test_an_invoice_that_is_paid_back_comes_to_nothing(company: Any, billing: StripeStandIn) -> None:
    """The invoice is told without tax, the refund with it."""
    billing.put("invoices", [invoice("in_1")])
    billing.put("charges", [charge("ch_1", amount=1190)])
    billing.put("invoice_payments", [payment("in_1", "ch_1")])
    billing.put("refunds", [refund("re_1", "ch_1", amount=1190)])
    company.load()
    assert company.query("select cast(sum(amount) as varchar), count(*) from raw_stripe.invoices") == [("0.00", 2)]


def test_charges_and_refunds_are_listed_anew_where_there_are_no_events(company: Any, billing: StripeStandIn) -> None:
    billing.keys = {key: tuple(kind for kind in kinds if kind != "events") for key, kinds in billing.keys.items()}
    company.document["sources"]["billing"]["changes"] = "lists"
    billing.put("charges", [charge("ch_1", status="pending")])
    company.load()
    billing.put("charges", [charge("ch_1"), charge("ch_2")])
    billing.put("refunds", [refund("re_1", "ch_1")])
    reports = company.load()
    assert (reports["charges"].rows_inserted, reports["charges"].rows_updated) == (1, 1)
    assert [row[1:3] for row in company.query(BILLS)] == [("50.00", "paid"), ("50.00", "paid"), ("-20.00", "paid")]


def test_stripes_own_client_finds_the_invoice_of_a_charge_in_the_stand_in(company: Any, billing: StripeStandIn) -> None:
    from stripe import StripeClient

    billing.put("invoices", [invoice("in_1")])
    billing.put("charges", [charge("ch_1"), charge("ch_2")])
    billing.put("invoice_payments", [payment("in_1", "ch_1")])
    billing.put("refunds", [refund("re_1", "ch_1")])
    address = company.document["sources"]["billing"]["base_url"]
    client = StripeClient(KEY, base_addresses={"api": address}).v1
    (found,) = client.refunds.list({"expand": ["data.charge"]}).data
    assert (found.charge.id, found.charge.customer) == ("ch_1", "cus_1")
    for key, invoices in (("pi_ch_1", ["in_1"]), ("pi_ch_2", [])):
        which: Any = {"payment": {"type": "payment_intent", "payment_intent": key}, "expand": ["data.invoice"]}
        assert [one.invoice.id for one in client.invoice_payments.list(which).data] == invoices


def test_a_charge_of_nobody_waits_in_quarantine(company: Any, billing: StripeStandIn) -> None:
    billing.put("charges", [charge("ch_1", customer=None)])
    company.load()
    assert company.query("select invoice_id, _reason from quarantine.invoices") == [("ch_1", "null_key")]


TEN_PERCENT = discount(percent_off=10)


def test_a_discount_of_the_customer_changes_the_mrr_of_what_runs(company: Any, billing: StripeStandIn) -> None:
    own = [discount("di_2", percent_off=50)]
    billing.put(
        "subscriptions",
        [
            subscription(),
            {**subscription(discounts=own), "id": "sub_2"},
            {**subscription(status="canceled", ended_at=day(3)), "id": "sub_3"},
        ],
    )
    company.load()
    mrr = (
        "select subscription_id, cast(mrr as varchar), strftime(started_at, '%d.%m.') from raw_stripe.subscriptions"
        " order by started_at, subscription_id"
    )
    before = [("sub_1", "10.00", "01.03."), ("sub_2", "5.00", "01.03."), ("sub_3", "10.00", "01.03.")]
    assert company.query(mrr) == before
    billing.discount("cus_1", TEN_PERCENT, at=day(5))
    report = company.load()["subscriptions"]
    assert (report.rows_inserted, report.rows_ended) == (1, 1)
    first = (f"sub_1@{day(5)}", "9.00", "05.03.")
    assert company.query(mrr) == [*before, first]
    twice = {**TEN_PERCENT, "coupon": {"id": "d", "duration": "forever", "percent_off": 20}}
    billing.discount("cus_1", twice, at=day(7))
    company.load()
    billing.discount("cus_1", None, at=day(9))
    company.load()
    assert company.query(mrr)[4:] == [(f"sub_1@{day(7)}", "8.00", "07.03."), (f"sub_1@{day(9)}", "10.00", "09.03.")]
    again = company.load()["subscriptions"]
    assert (again.rows_inserted, again.rows_updated, again.rows_ended) == (0, 0, 0)


def test_the_end_of_a_discount_is_kept_as_it_was_agreed(company: Any, billing: StripeStandIn) -> None:
    agreed = int(time.time()) + 300 * 86400
    for_long = discount(end=agreed, duration="repeating", percent_off=10)
    billing.put("subscriptions", [subscription(discounts=[for_long])])
    company.load()
    ends = "select subscription_id, epoch(discount_ends_at), epoch(ended_at) from raw_stripe.subscriptions order by started_at"
    assert company.query(ends) == [("sub_1", agreed, None)]
    billing.change("subscriptions", subscription(discounts=[]), at=day(7))
    company.load()
    assert company.query(ends) == [("sub_1", agreed, day(7)), (f"sub_1@{day(7)}", None, None)]


def test_the_discount_of_a_subscription_tells_of_that_one_only(company: Any, billing: StripeStandIn) -> None:
    billing.put("subscriptions", [subscription(), {**subscription(), "id": "sub_2"}])
    company.load()
    billing.put("subscriptions", [subscription(discounts=[TEN_PERCENT])])
    told = {**TEN_PERCENT, "object": "discount", "customer": "cus_1", "subscription": "sub_1"}
    billing.tell("customer.discount.created", told, at=day(5))
    billing.forget()
    assert company.load()["subscriptions"].rows_read == 1
    assert billing.calls("subscriptions/sub_1") == 1
    assert billing.calls("/v1/subscriptions") == 1


def test_a_discount_that_goes_with_its_customer_stops_nothing(company: Any, billing: StripeStandIn) -> None:
    billing.put("subscriptions", [subscription()])
    company.load()
    billing.discount("cus_1", TEN_PERCENT, at=day(5))
    billing.delete("customers", "cus_1", at=day(6))
    billing.change("subscriptions", subscription(status="canceled", ended_at=day(6)), at=day(6), word="deleted")
    report = company.load()["subscriptions"]
    assert (report.status, report.rows_updated) == ("loaded", 1)
    assert [row[3] for row in company.query(PERIODS)] == [10]


def test_newer_versions_of_the_api_only_name_the_coupon_of_a_discount(company: Any, billing: StripeStandIn) -> None:
    named = discount(percent_off=50)
    customer = {"id": "cus_2", "name": "Two", "created": day(1), "discount": named}
    billing.put("customers", [customer])
    billing.put(
        "subscriptions", [subscription(discounts=[named]), {**subscription(), "id": "sub_2", "customer": "cus_2"}]
    )
    company.document["sources"]["billing"]["api_version"] = "2025-09-30.clover"
    company.load()
    found = "select subscription_id, account_id, cast(mrr as varchar) from raw_stripe.subscriptions order by 1"
    assert company.query(found) == [("sub_1", "cus_1", "5.00"), ("sub_2", "cus_2", "5.00")]


def test_a_customer_that_facts_name_stays_when_stripe_forgets_it(company: Any, billing: StripeStandIn) -> None:
    billing.put("customers", [{"id": "cus_2", "name": "Two", "created": day(1)}])
    billing.put("subscriptions", [subscription()])
    company.load()
    for key in ("cus_1", "cus_2"):
        billing.delete("customers", key, at=day(7))
    report = company.load()["customers"]
    assert (report.rows_deleted, report.rows_unchanged) == (1, 1)
    assert company.query("select account_id from raw_stripe.accounts") == [("cus_1",)]


def test_after_a_month_of_silence_all_is_listed_anew(company: Any, billing: StripeStandIn) -> None:
    billing.put("subscriptions", [subscription()])
    company.load()
    billing.put("subscriptions", [{**subscription(), "id": "sub_2"}])
    company.load()
    assert company.query("select count(*) from raw_stripe.subscriptions") == [(1,)], "no event tells of it"
    company.loads += 60 * 24 * 31
    company.load()
    assert company.query("select count(*) from raw_stripe.subscriptions") == [(2,)]


def test_without_events_all_is_listed_in_every_run(company: Any, billing: StripeStandIn) -> None:
    billing.put("subscriptions", [subscription(1000, 2)])
    billing.keys = {key: tuple(kind for kind in kinds if kind != "events") for key, kinds in billing.keys.items()}
    company.document["sources"]["billing"]["changes"] = "lists"
    company.load()
    assert [report.rows_unchanged for report in company.load().values()] == [1, 1, 0, 0, 0]
    billing.put("subscriptions", [subscription(1000, 5)])
    report = company.load()["subscriptions"]
    assert (report.rows_inserted, report.rows_ended) == (1, 1)
    assert [row[2] for row in company.query(PERIODS)] == [2, 5]
    again = company.load()["subscriptions"]
    assert (again.rows_inserted, again.rows_updated, again.rows_ended) == (0, 0, 0)


def test_stripes_own_client_reads_the_same_from_the_stand_in(company: Any) -> None:
    from stripe import StripeClient

    sandbox.generate(company.home, accounts=40, months=3)
    with running(company.home) as url:
        company.sources(billing={"connector": "stripe", "base_url": url, "key": KEY, "requests_per_second": 1000})
        company.load()
        client = StripeClient(KEY, base_addresses={"api": url}).v1
        customers = {one.id: one.name for one in client.customers.list({"limit": 7}).auto_paging_iter()}
        subscriptions = [
            (one.id, one.customer, one.status == "canceled", one["items"].data[0].quantity)
            for one in client.subscriptions.list({"status": "all", "limit": 7}).auto_paging_iter()
        ]
        invoices = {one.id: one.total / 100 for one in client.invoices.list({"limit": 7}).auto_paging_iter()}
    assert dict(company.query("select account_id, name from raw_stripe.accounts")) == customers
    found = company.query(
        "select subscription_id, account_id, ended_at is not null, seats from raw_stripe.subscriptions"
        " union all select subscription_id, account_id, ended_at is not null, cast(seats as bigint)"
        " from quarantine.subscriptions"
    )
    assert sorted(found) == sorted(subscriptions)
    amounts = "select invoice_id, cast(amount as double) from {}.invoices"
    told = dict(company.query(f"{amounts.format('raw_stripe')} union all {amounts.format('quarantine')}"))
    assert told == invoices
