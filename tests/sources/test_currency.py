"""Facts in several currencies: each keeps its own and the rate that it was first loaded with; without a rate it waits."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.errors import UserError

ACCOUNTS = {"files": "accounts.csv", "columns": {"account_id": "id", "created_at": "created"}}
INVOICES = {
    "files": "invoices*.csv",
    "columns": {
        "invoice_id": "no",
        "account_id": "account",
        "issued_at": "day",
        "amount": "amount",
        "currency": "code",
        "status": "status",
    },
}
HEADER = "no,account,day,amount,code,status\n"
RATES = {"USD": {"2024-01": 0.9, "2024-02": 0.8}, "GBP": 1.17}
FOUND = "select invoice_id, currency, cast(_exchange_rate as double), _reporting_currency from raw_files.invoices order by 1"


@pytest.fixture
def shop(company):
    company.streams(accounts=ACCOUNTS, invoices=INVOICES)
    company.document |= {"currency": "EUR", "exchange_rates": RATES}
    company.write("accounts.csv", "id,created\na,2024-01-01\n")
    return company


def test_a_fact_has_the_rate_of_its_month_or_the_one_that_holds_always(shop):
    shop.write(
        "invoices.csv",
        HEADER + "1,a,2024-01-31,10,USD,paid\n2,a,2024-02-01,10, usd,paid\n3,a,2024-05-01,10,gbp,paid\n"
        "4,a,2024-05-01,10,EUR,paid\n5,a,2024-05-01,10,,paid\n",
    )
    shop.load()
    assert shop.query(FOUND) == [
        ("1", "USD", 0.9, "EUR"),
        ("2", "usd", 0.8, "EUR"),
        ("3", "gbp", 1.17, "EUR"),
        ("4", "EUR", 1.0, "EUR"),
        ("5", None, 1.0, "EUR"),
    ]


def test_a_fact_without_a_rate_waits_and_is_released_when_there_is_one(shop):
    shop.write(
        "invoices.csv", HEADER + "1,a,2024-03-31,10,USD,paid\n2,a,2024-03-01,10,CHF,paid\n3,b,2024-03-01,10,USD,paid\n"
    )
    report = shop.load()["invoices"]
    assert (report.rows_inserted, report.rows_quarantined) == (0, 3), report.message
    assert shop.details("invoices") == [
        "currency 'USD' has no rate in `exchange_rates` for 2024-03",
        "currency 'CHF' has no rate in `exchange_rates` for 2024-03",
        "account_id 'b' is not among the accounts of app",
    ]
    shop.document["exchange_rates"] = {**RATES, "USD": {**RATES["USD"], "2024-03": 0.7}}
    assert shop.load()["invoices"].rows_released == 1
    assert shop.query(FOUND) == [("1", "USD", 0.7, "EUR")]
    # An account that turns up later finds the rate, too; one without a rate goes on waiting.
    shop.write("accounts.csv", "id,created\na,2024-01-01\nb,2024-01-01\n")
    assert shop.load()["invoices"].rows_released == 1
    assert [reason for *_, reason in shop.quarantined("invoices")] == ["missing_rate"]


def test_a_fact_keeps_the_rate_that_it_was_first_loaded_with(shop):
    shop.write("invoices1.csv", HEADER + "1,a,2024-01-31,10,USD,open\n")
    shop.load()
    shop.document["exchange_rates"] = {"USD": {"2024-01": 0.5}, "GBP": 1.17}
    assert shop.load()["invoices"].status == "unchanged"
    shop.write("invoices2.csv", HEADER + "1,a,2024-01-31,10,USD,paid\n2,a,2024-01-31,10,USD,open\n")
    report = shop.load()["invoices"]
    assert (report.rows_updated, report.rows_inserted) == (1, 1)
    assert shop.query(FOUND) == [("1", "USD", 0.9, "EUR"), ("2", "USD", 0.5, "EUR")]
    # In another currency it is another amount.
    shop.write("invoices3.csv", HEADER + "1,a,2024-01-31,10,GBP,paid\n")
    shop.load()
    assert shop.query(FOUND)[0] == ("1", "GBP", 1.17, "EUR")
    # Whoever reads everything again asks for today's rates.
    shop.load(full=True)
    assert shop.query(FOUND)[1] == ("2", "USD", 0.5, "EUR")


def test_another_reporting_currency_stops_streams_with_money_until_they_are_read_again(shop):
    shop.write("invoices.csv", HEADER + "1,a,2024-01-31,10,USD,open\n")
    shop.load()
    shop.document |= {"currency": "USD", "exchange_rates": {}}
    report = shop.load()["invoices"]
    assert report.status == "stopped"
    assert report.message.startswith(
        "app/invoices: its amounts were loaded in EUR, and tenure.yml says `currency: USD`."
    )
    assert shop.load(full=True)["invoices"].status == "loaded"
    assert shop.query(FOUND) == [("1", "USD", 1.0, "USD")]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"currency": "euro"}, "currency: "),
        ({"currency": "XQZ"}, "currency: XQZ is no currency's code"),
        ({"exchange_rates": {"EUR": 1.1}}, "exchange_rates: EUR is the reporting currency"),
        ({"exchange_rates": {"USD": {"2024-13": 1.1}}}, "2024-13"),
        ({"exchange_rates": {"USD": 0}}, "greater than 0"),
    ],
)
def test_a_mistake_in_currencies_is_named(shop, setting, said):
    shop.document |= setting
    with pytest.raises(UserError) as error:
        _ = shop.tenure
    assert said in str(error.value)


def test_rates_are_kept_exactly(shop):
    shop.document["exchange_rates"] = {"JPY": "0.00612345"}
    shop.write("invoices.csv", HEADER + "1,a,2024-01-31,10,JPY,open\n")
    shop.load()
    assert shop.query("select _exchange_rate from raw_files.invoices") == [(Decimal("0.00612345"),)]


def test_rates_that_are_settings_of_stripe_are_still_read(shop):
    stripe = {"connector": "stripe", "key": "sk_test_1", "rates": {"chf": 1.04, "gbp": 1.17}}
    shop.document["sources"]["billing"] = stripe
    rates = shop.tenure.config.exchange_rates
    assert (rates["CHF"], rates["GBP"]) == (Decimal("1.04"), Decimal("1.17"))
    stripe["rates"]["gbp"] = 1.2
    with pytest.raises(UserError, match=r"sources\.billing\.rates: gbp has another rate elsewhere"):
        _ = shop.tenure
