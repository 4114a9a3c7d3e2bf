"""The hidden truth agrees with itself and with the vendors' files."""

from __future__ import annotations

from typing import Any

from sandbox.hazard import DRIVERS


def test_the_shares_of_the_drivers_add_up_to_the_hazard(founded: Any) -> None:
    total = " + ".join(("base", "noise", *DRIVERS))
    assert founded.value("select count(*) from truth_hazards") > 1_000
    assert founded.value(f"select max(abs(1 / (1 + exp(-({total}))) - hazard)) from truth_hazards") < 1e-12


def test_hazards_are_told_once_per_paying_account_and_month_and_never_ahead(lived: Any) -> None:
    assert lived.value("select count(*) - count(distinct (account_id, month)) from truth_hazards") == 0
    assert str(lived.value("select max(month) from truth_hazards")) == "2024-03-01"


def test_who_is_said_to_leave_left_within_that_month(founded: Any) -> None:
    leavers = "select account_id, month from truth_hazards where leaves"
    gone = "select account_id, cast(date_trunc('month', left_at) as date) as month from truth_departures where is_churn"
    assert founded.value(f"select count(*) from ({leavers})") > 10
    assert founded.rows(f"({leavers}) except ({gone})") == []
    assert founded.rows(f"({gone}) except ({leavers})") == []


def test_who_pays_has_a_hazard(founded: Any) -> None:
    missing = founded.value("""
        select count(*) from true_subscriptions s join truth_identities t on t.customer_id = s.customer
        where not s.trial and s.start < epoch(timestamp '2024-01-01')
            and coalesce(s."end", 9e9) > epoch(timestamp '2024-01-01')
            and t.account_id not in (select account_id from truth_hazards where month = date '2024-01-01')
    """)
    assert missing == 0


def test_failed_payments_in_the_files_are_the_driver_in_the_truth(founded: Any) -> None:
    shares = founded.rows("""
        with failing as (
            select t.account_id from true_invoices i join truth_identities t on t.customer_id = i.customer
            where i.attempt_count > 1 and make_timestamp(i.created * 1000000) between '2024-01-01' and '2024-02-01'
        )
        select avg((failed_payments > 0)::int) filter (account_id in (from failing)),
            avg((failed_payments > 0)::int) filter (account_id not in (from failing))
        from truth_hazards where month = date '2024-02-01'
    """)[0]
    assert shares[0] == 1.0
    assert shares[1] < 0.06
