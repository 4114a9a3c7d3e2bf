"""What the vendors' files say must be possible, fit together, and lie in the past of their delivery."""

from __future__ import annotations

from typing import Any

import pytest

MOMENTS = {
    "companies": ("createdate", "hs_lastmodifieddate"),
    "contacts": ("createdate", "hs_lastmodifieddate", "left_company_date"),
    "engagements": ("make_timestamp(try_cast(timestamp as bigint) * 1000)",),
    "customers": ("make_timestamp(created * 1000000)", "make_timestamp(updated * 1000000)"),
    "subscriptions": tuple(f"make_timestamp({name} * 1000000)" for name in ("start", '"end"', "updated")),
    "invoices": tuple(f"make_timestamp({name} * 1000000)" for name in ("created", "paid_at", "updated")),
    "organizations": ("created_at", "updated_at"),
    "tickets": ("created_at", "first_reply_at", "solved_at", "updated_at"),
    "workspaces": ("created_at", "updated_at"),
    "events": ("timestamp", "received_at"),
    "surveys": ("answered_at",),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_no_row_tells_of_a_day_after_its_delivery_except_the_broken_ones(lived: Any, name: str) -> None:
    late = " or ".join(f"try_cast({moment} as timestamp) >= _day + interval 1 day" for moment in MOMENTS[name])
    key = "event_id" if name == "events" else "id"
    planted = f"select key from truth_faults where object = '{name}' and kind = 'broken: far_future'"
    assert lived.value(f"select count(*) from {name}") > 20
    assert lived.rows(f"select {key} from {name} where ({late}) and {key} not in ({planted}) limit 3") == []


def test_each_day_after_the_history_brings_what_happened_or_changed_that_day(lived: Any) -> None:
    days = lived.rows(
        "select _day, count(*) from invoices where updated >= epoch(_day) and _day > date '2024-02-29' group by 1"
    )
    assert len(days) == 12
    stray = lived.value(
        "select count(*) from invoices i where _day > date '2024-02-29' and updated < epoch(_day) and not exists"
        " (from truth_faults f where f.object = 'invoices' and f.file = i._path and f.key = i.id"
        "  and f.kind in ('late', 'stale duplicate'))"
    )
    assert stray == 0


def test_subscription_items_of_one_product_do_not_overlap(lived: Any) -> None:
    overlaps = lived.value(
        'select count(*) from (select "end", lead(start) over (partition by customer, product order by start) as next'
        ' from true_subscriptions) where next is not null and ("end" is null or "end" > next)'
    )
    assert overlaps == 0


def test_subscriptions_show_all_that_can_happen_to_them(founded: Any) -> None:
    reasons = {row[0] for row in founded.rows("select distinct end_reason from true_subscriptions")}
    assert {"plan_change", "seat_change", "renewal", "canceled", "payment_failed"} <= reasons
    assert founded.value("select count(distinct product) from true_subscriptions") == 2
    assert founded.value("select count(distinct plan) from true_subscriptions") == 4
    assert founded.value("select count(*) from true_subscriptions where trial and mrr_cents > 0") == 0
    assert founded.value("select count(*) from true_subscriptions where not trial and mrr_cents <= 0") == 0
    assert founded.value("select count(*) from true_subscriptions where trial") > 10


def test_every_invoice_is_the_recurring_revenue_of_the_period_that_it_bills(lived: Any) -> None:
    wrong = lived.rows("""
        with at_issue as (
            select i.id, any_value(i.amount_cents) as amount,
                sum(s.mrr_cents) filter (s.start <= i.created and (s."end" is null or s."end" > i.created)) as mrr_now,
                sum(s.mrr_cents) filter (s.start < i.created and (s."end" is null or s."end" >= i.created)) as mrr_before,
                bool_or(s.interval = 'year') as yearly,
                max(case when s.start <= i.created and (s."end" is null or s."end" > i.created) then
                    date_diff('month', date_trunc('month', make_timestamp(i.created * 1000000)),
                        date_trunc('month', make_timestamp(s.current_period_end * 1000000))) end) as months_left
            from true_invoices i join true_subscriptions s using (customer) where not s.trial group by i.id
        )
        select * from at_issue where amount <> case
            when not yearly then mrr_now
            when months_left = 12 then 12 * mrr_now
            else (mrr_now - coalesce(mrr_before, 0)) * months_left end
    """)
    assert wrong == []


def test_every_month_of_a_monthly_item_is_billed(founded: Any) -> None:
    unbilled = founded.value("""
        with months as (
            select customer, unnest(generate_series(greatest(make_timestamp(start * 1000000), timestamp '2023-07-29'),
                coalesce(make_timestamp("end" * 1000000), timestamp '2024-02-28') - interval 1 day, interval 1 month)) as at
            from true_subscriptions where interval = 'month' and not trial
        ), billed as (select distinct customer, date_trunc('month', make_timestamp(created * 1000000)) as month from true_invoices)
        select count(*) from months left join billed on billed.customer = months.customer
            and billed.month = date_trunc('month', months.at) where billed.month is null
    """)
    assert unbilled == 0


def test_payments_fail_and_come_late_but_mostly_arrive(founded: Any) -> None:
    share = dict(founded.rows("select status, count(*) / sum(count(*)) over () from true_invoices group by 1"))
    assert share["paid"] > 0.85
    assert 0.005 < share["uncollectible"] < 0.06
    assert 0 < share["void"] < 0.02
    assert founded.value("select avg((paid_at > due_date)::int) from true_invoices where status = 'paid'") > 0.01
    assert founded.value("select count(*) from true_invoices where (status = 'paid') <> (paid_at is not null)") == 0


def test_an_account_that_left_has_no_running_item_and_one_that_pays_has(lived: Any) -> None:
    running = 'select customer from true_subscriptions where "end" is null and not trial'
    left = "select customer_id from truth_departures group by 1 having max(left_at) > timestamp '2023-07-01'"
    back = (
        "select s.customer from true_subscriptions s join truth_departures d on d.customer_id = s.customer"
        " where s.start > epoch(d.left_at)"
    )
    assert (
        lived.value(f"select count(*) from ({left}) where customer_id in ({running}) and customer_id not in ({back})")
        == 0
    )
    ends = lived.value(
        "select count(*) from truth_departures d where not exists (from true_subscriptions s"
        ' where s.customer = d.customer_id and s."end" = epoch(d.left_at)::bigint and s.end_reason = d.reason)'
    )
    assert ends == 0


def test_tickets_are_answered_before_they_are_solved_and_rated_after(founded: Any) -> None:
    wrong = founded.value(
        "select count(*) from true_tickets where first_reply_at < created_at or solved_at < first_reply_at"
        " or (satisfaction_score is not null and (solved_at is null or satisfaction_score not in ('1','2','3','4','5')))"
        " or (status = 'solved') <> (solved_at is not null)"
    )
    assert wrong == 0
    assert 0.2 < founded.value("select avg((satisfaction_score is not null)::int) from true_tickets") < 0.6


def test_what_people_write_follows_their_mood(founded: Any) -> None:
    unhappy = (
        "select avg((subject like '%AGAIN' or subject like 'URGENT%' or subject like 'Still no answer%')::int)"
        " from true_tickets where satisfaction_score {}"
    )
    assert founded.value(unhappy.format("<= '2'")) > 2 * founded.value(unhappy.format(">= '4'"))
    bad = founded.value("select count(*) from surveys where score <= 6 and comment like '%relies on it%'")
    good = founded.value("select count(*) from surveys where score >= 9 and comment like '%relies on it%'")
    assert (bad, good > 10) == (0, True)


def test_every_row_refers_to_something_its_vendor_knows(lived: Any) -> None:
    references = {
        ("contacts", "company_id"): "companies",
        ("engagements", "company_id"): "companies",
        ("companies", "merged_into_id"): "companies",
        ("companies", "parent_company_id"): "companies",
        ("companies", "owner_id"): "owners",
        ("subscriptions", "customer"): "customers",
        ("invoices", "customer"): "customers",
        ("tickets", "organization_id"): "organizations",
        ("surveys", "workspace_id"): "workspaces",
        ("events", "workspace_id"): "workspaces",
    }
    for (name, column), known in references.items():
        key = "event_id" if name == "events" else "id"
        dangling = lived.rows(
            f"select {key} from {name} r anti join {known} k on k.id = r.{column} where {column} is not null"
            f" and {key} not in (select key from truth_faults where object = '{name}' and kind = 'broken: unknown_account')"
            " limit 3"
        )
        assert (name, column, dangling) == (name, column, [])


def test_the_columns_of_the_vendors_files_are_the_ones_agreed(founded: Any) -> None:
    columns = {
        name: [row[0] for row in founded.rows(f"describe {name}") if not row[0].startswith("_")]
        for name in ("companies", "subscriptions", "tickets", "events")
    }
    assert {name: " ".join(found) for name, found in columns.items()} == {
        "companies": "id name domain industry country numberofemployees segment parent_company_id owner_id createdate"
        " hs_lastmodifieddate merged_into_id",
        "subscriptions": "id subscription customer product plan interval quantity mrr_cents start end end_reason"
        " current_period_end trial updated",
        "tickets": "id organization_id created_at first_reply_at solved_at reopens priority status satisfaction_score"
        " subject description updated_at",
        "events": "event_id workspace_id user_id event timestamp quantity product received_at",
    }
