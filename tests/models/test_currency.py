"""A company that reports in euros and sells in four currencies: its revenue, beside the same computed with pandas."""

from __future__ import annotations

import random
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd
import pytest

from core.warehouse import rows

AS_OF = datetime(2024, 12, 1)
MONTHS = [datetime(2023, 1, 1) + pd.DateOffset(months=n) for n in range(24)]
CENT = Decimal("0.01")
Facts = dict[str, list[dict[str, Any]]]


def rate_of(code: str, at: datetime) -> Decimal:
    """A rate that moves by some percent a month."""
    if code == "EUR":
        return Decimal(1)
    base, step = {"USD": ("0.9", "0.011"), "GBP": ("1.17", "-0.007"), "CHF": ("1.04", "0.0123")}[code]
    return Decimal(base) + Decimal(step) * ((at.year - 2023) * 12 + at.month)


@pytest.fixture(scope="module")
def facts() -> Facts:
    """Sixty accounts that renew each half-year: most at the same price, some at another, some never."""
    draw = random.Random(11)
    accounts, subscriptions, invoices = [], [], []
    for number in range(60):
        account = f"a{number}"
        accounts.append({"account_id": account, "created_at": datetime(2022, 12, 1)})
        code = draw.choice(["EUR", "USD", "GBP", "CHF"])
        price = Decimal(draw.randrange(900, 90_000)) / 100
        changes = number % 3 == 0
        begin = pd.Timestamp(draw.choice(MONTHS[:12]))
        for half in range(draw.choice([1, 2, 4])):
            start, end = begin + pd.DateOffset(months=6 * half), begin + pd.DateOffset(months=6 * half + 6)
            price = price * Decimal("1.2") if changes and half else price
            amount = price.quantize(CENT, ROUND_HALF_UP)
            stamp = {"currency": code, "_exchange_rate": rate_of(code, start)}
            subscriptions.append(
                {
                    "subscription_id": f"{account}-{half}",
                    "account_id": account,
                    "mrr": amount,
                    "started_at": start.to_pydatetime(),
                    "ended_at": end.to_pydatetime() if end < AS_OF else None,
                    **stamp,
                }
            )
            invoices.append(
                {
                    "invoice_id": f"{account}-{half}",
                    "account_id": account,
                    "issued_at": start.to_pydatetime(),
                    "amount": amount * 6,
                    **stamp,
                }
            )
    invoices = [invoice for invoice in invoices if invoice["issued_at"] < AS_OF]
    subscriptions = [one for one in subscriptions if one["started_at"] < AS_OF]
    return {"accounts": accounts, "subscriptions": subscriptions, "invoices": invoices}


def in_euros(facts: Facts) -> pd.DataFrame:
    """The periods with their MRR in euros, by the rate of the account's first in its currency."""
    periods = pd.DataFrame(facts["subscriptions"]).sort_values(["started_at", "subscription_id"])
    periods["rate"] = periods.groupby(["account_id", "currency"])["_exchange_rate"].transform("first")
    euros = [(m * r).quantize(CENT, ROUND_HALF_UP) for m, r in zip(periods["mrr"], periods["rate"], strict=True)]
    return periods.assign(euros=euros, ended_at=pd.to_datetime(periods["ended_at"]).fillna(pd.Timestamp.max))


def by_account(periods: pd.DataFrame, at: datetime) -> pd.Series:
    """MRR in euros of each account at a date."""
    runs = (periods["started_at"] <= at) & (periods["ended_at"] > at)
    return periods[runs].groupby("account_id")["euros"].sum()


def test_mrr_its_waterfall_and_retention_equal_pandas_to_the_cent(built: Any, facts: Facts) -> None:
    periods = in_euros(facts)
    mapped = {"subscriptions": list(facts["subscriptions"][0])}
    with built.modelled(facts, AS_OF, mapped=mapped) as connection:
        found = {row["month_start_date"]: row for row in rows(connection, "select * from marts.months")}
    assert len(found) >= 20
    assert sum(row["nrr_pct"] is not None for row in found.values()) >= 15
    seen: set[str] = set()
    for month in MONTHS:
        row = found.get(month.date())
        if row is None:
            continue
        start = by_account(periods, month - pd.Timedelta(microseconds=1))
        end_at = min(month + pd.DateOffset(months=1), pd.Timestamp(AS_OF)) - pd.Timedelta(microseconds=1)
        end = by_account(periods, end_at)
        both = pd.DataFrame({"start": start, "end": end}).fillna(Decimal(0))
        change = both["end"] - both["start"]
        stayed = (both["start"] > 0) & (both["end"] > 0)
        expected = {
            "start_mrr": both["start"].sum(),
            "end_mrr": both["end"].sum(),
            "expansion_mrr": change[stayed & (change > 0)].sum(),
            "contraction_mrr": change[stayed & (change < 0)].sum(),
            "new_mrr": both["end"][(both["start"] == 0) & ~both.index.isin(seen)].sum(),
            "churn_mrr": -both["start"][both["end"] == 0].sum(),
        }
        assert {name: row[name] or Decimal(0) for name in expected} == {n: Decimal(v) for n, v in expected.items()}, (
            month
        )
        if row["nrr_pct"] is not None:
            nrr = both["end"][both["start"] > 0].sum() / both["start"].sum()
            assert float(row["nrr_pct"]) == pytest.approx(100 * float(nrr), abs=0.01)
        seen |= set(both.index)


def test_a_rate_that_moves_changes_no_movement_and_price_changes_are_movements(built: Any, facts: Facts) -> None:
    movements = "select account_id, movement, mrr_delta from marts.mrr_movements order by all"
    first = {row["subscription_id"] for row in facts["subscriptions"] if row["subscription_id"].endswith("-0")}
    moved = [
        row if row["subscription_id"] in first else {**row, "_exchange_rate": row["_exchange_rate"] * Decimal("1.5")}
        for row in facts["subscriptions"]
    ]
    with built.modelled(facts, AS_OF) as connection:
        before = rows(connection, movements)
    with built.modelled({**facts, "subscriptions": moved}, AS_OF) as connection:
        assert rows(connection, movements) == before
    changed = {row["account_id"] for row in before if row["movement"] in ("expansion", "contraction")}
    assert changed
    assert {int(account[1:]) % 3 for account in changed} == {0}


def test_invoices_have_the_rate_of_their_own_month_and_keep_their_amount(built: Any, facts: Facts) -> None:
    with built.modelled(facts, AS_OF) as connection:
        found = rows(connection, "select invoice_id, amount, original_amount, currency from marts.invoices order by 1")
        totals = rows(connection, "select account_id, invoiced_amount from marts.accounts order by 1")
    invoices = pd.DataFrame(facts["invoices"]).sort_values("invoice_id")
    euros = [
        (a * r).quantize(CENT, ROUND_HALF_UP)
        for a, r in zip(invoices["amount"], invoices["_exchange_rate"], strict=True)
    ]
    assert [(row["invoice_id"], row["amount"], row["original_amount"], row["currency"]) for row in found] == list(
        zip(invoices["invoice_id"], euros, invoices["amount"], invoices["currency"], strict=True)
    )
    expected = invoices.assign(euros=euros).groupby("account_id")["euros"].sum()
    assert {row["account_id"]: row["invoiced_amount"] for row in totals if row["invoiced_amount"]} == dict(expected)
