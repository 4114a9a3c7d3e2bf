"""Stripe as a source: what only it does; what all vendors do is in `test_vendor_contract.py`, MRR in `test_stripe_mrr.py`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

import sandbox
from sandbox.serve import serving
from sandbox.stripe import KEY, StripeStandIn, running

PERIODS = (
    "select subscription_id, plan, seats, mrr_usd, is_trial, strftime(started_at, '%d.%m.'), strftime(ended_at, '%d.%m.'),"
    " end_reason from raw_stripe.subscriptions order by started_at"
)


def day(number: int, hour: int = 0) -> int:
    """Seconds since 1970 of a day in March 2024."""
    return int((datetime(2024, 3, number, hour) - datetime(1970, 1, 1)).total_seconds())


def subscription(cents: int = 1000, seats: int = 1, plan: str = "team", **fields: Any) -> dict[str, Any]:
    price = {
        "id": f"price_{plan}",
        "nickname": plan,
        "product": "prod_core",
        "unit_amount": cents,
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
    }
    return {
        "id": "sub_1",
        "customer": "cus_1",
        "status": "active",
        "currency": "usd",
        "items": {"data": [{"id": "si_1", "quantity": seats, "price": price, "current_period_end": day(31)}]},
        "discounts": [],
        "start_date": day(1),
        "created": day(1),
        "metadata": {},
        **fields,
    }


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
        "select product, plan, seats, cast(mrr_usd as varchar), billing_interval, cast(renews_at as varchar)"
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
    for moment, status in ((4, "active"), (20, "past_due"), (25, "unpaid")):
        billing.change("subscriptions", subscription(status=status, trial_end=day(4)), at=day(moment))
        company.load()
    assert [row[3:7] for row in company.query(PERIODS)] == [
        (0, True, "01.03.", "04.03."),
        (10, False, "04.03.", "25.03."),
        (0, False, "25.03.", None),
    ]


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
    price = {"id": "price_t", "billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers, "created": 0}
    billing.put("prices", [price])
    tiered = subscription(discounts=[{"id": "di_1", "source": {"coupon": {"duration": "forever", "percent_off": 10}}}])
    tiered["items"]["data"][0] |= {"quantity": 4, "price": {**price, "recurring": {"interval": "month"}}}
    billing.put("subscriptions", [tiered])
    company.load()
    # 2 × 10.00 + 2 × 5.00, less 10 %
    assert company.query("select cast(mrr_usd as varchar) from raw_stripe.subscriptions") == [("27.00",)]


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
    company.document["sources"]["billing"]["rates"] = {"jpy": 0.0067}
    company.load()
    amounts = "select invoice_id, cast(amount_usd as varchar), failed_payments from raw_stripe.invoices order by 1"
    assert company.query(amounts) == [("in_1", "10.00", 2), ("in_2", "6.70", 2), ("in_4", "11.90", 3)]
    assert company.query("select invoice_id, _reason, _file from quarantine.invoices") == [
        ("in_3", "missing_value", "stripe invoices (id=in_3)")
    ]


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
    billing.keys = dict.fromkeys(billing.keys, ("customers", "subscriptions", "invoices", "prices", "products"))
    company.document["sources"]["billing"]["changes"] = "lists"
    company.load()
    assert [report.rows_unchanged for report in company.load().values()] == [1, 1, 0]
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
    amounts = "select invoice_id, cast(amount_usd as double) from {}.invoices"
    told = dict(company.query(f"{amounts.format('raw_stripe')} union all {amounts.format('quarantine')}"))
    assert told == invoices
