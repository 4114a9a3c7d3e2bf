"""The ledger of loads: what it says of when was loaded."""

from __future__ import annotations

from datetime import datetime

from core.warehouse import warehouse
from sources import ledger


def test_a_load_is_the_first_of_its_week_from_monday_on(company):
    columns = {"account_id": "account", "event_name": "event", "occurred_at": "at"}
    company.streams(usage_events={"files": "events*.csv", "columns": columns})
    company.document["identity"] = {"derive_accounts": True}
    company.write("events.csv", "account,event,at\na1,used,2024-01-01\n")
    company.load()  # on Saturday, 1 June 2024
    with warehouse(company.tenure.warehouse_path) as connection:
        days = [datetime(2024, 5, 26, 23), datetime(2024, 5, 27), datetime(2024, 6, 2, 23), datetime(2024, 6, 3)]
        assert [ledger.is_first_of_week(connection, day) for day in days] == [True, False, False, True]
