"""Each example, run by the ordinary command, agrees with its raw files."""

from __future__ import annotations

import pytest

from tests.examples import conftest as raw

pytestmark = pytest.mark.slow


def test_online_retail_reads_every_line_and_quarantines_those_without_a_customer(online_retail):
    counted = online_retail.raw(raw.RETAIL_COUNTS)[0]
    assert counted["lines"] == 541_909
    accounts, invoices, lines = (online_retail.loads()[name] for name in ("accounts", "invoices", "usage_events"))
    assert lines == (
        counted["lines"],
        counted["lines"] - counted["lines_without_customer"],
        0,
        counted["lines_without_customer"],
    )
    assert invoices == (
        counted["invoices"],
        counted["invoices_of_customers"],
        0,
        counted["invoices_without_customer"],
    )
    assert accounts[0] == counted["customer_days"]
    assert accounts[1] == counted["customers"] == 4_372
    assert accounts[3] == counted["days_without_customer"]
    reasons = online_retail.ask("select entity, reason, times_seen from quality.quarantined order by entity")
    assert [tuple(row.values()) for row in reasons] == [
        ("accounts", "null_key", counted["days_without_customer"]),
        ("invoices", "null_key", counted["invoices_without_customer"]),
        ("usage_events", "null_key", counted["lines_without_customer"]),
    ]


def test_online_retail_revenue_by_month_is_that_of_the_invoice_lines(online_retail):
    expected = raw.as_decimal(online_retail.raw_monthly(raw.RETAIL_REVENUE))
    assert len(expected) == 13
    assert raw.as_decimal(online_retail.monthly("invoiced_amount")) == expected


def test_online_retail_active_customers_by_month_are_those_of_the_invoice_lines(online_retail):
    assert online_retail.monthly("active_accounts") == online_retail.raw_monthly(raw.RETAIL_CUSTOMERS)


def test_online_retail_cancellations_are_kept_apart(online_retail):
    counted = online_retail.raw(raw.RETAIL_COUNTS)[0]
    found = online_retail.ask("select count(*) as n, count_if(amount < 0) as negative from marts.invoices")[0]
    credits = online_retail.raw(
        f"select count(distinct invoice) as n from ({raw.RETAIL_LINES}) where customer is not null and starts_with(invoice, 'C')"
    )[0]["n"]
    assert found == {"n": counted["invoices_of_customers"], "negative": credits}


def test_online_retail_derives_its_accounts_from_the_first_invoice(online_retail):
    expected = online_retail.raw(
        f"select cast(cast(customer as bigint) as varchar) as account_id, min(issued) as created_at"
        f" from ({raw.RETAIL_LINES}) where customer is not null group by customer order by 1"
    )
    assert online_retail.ask("select account_id, created_at from marts.accounts order by 1") == expected


def test_online_retail_labels_are_those_of_the_invoice_lines(online_retail):
    expected = {day: tuple(counts) for day, counts in online_retail.raw_monthly(raw.RETAIL_LABELS).items()}
    assert len(expected) == 7
    assert online_retail.labels() == expected


def test_oulad_reads_every_enrolment_and_quarantines_those_without_a_start(oulad):
    counted = oulad.raw(raw.OULAD_COUNTS)[0]
    assert (counted["enrolments"], counted["submissions"]) == (32_593, 173_912)
    assert oulad.loads() == {
        "accounts": (counted["students"], counted["students"], 0, 0),
        "subscriptions": (
            counted["enrolments"],
            counted["enrolments"] - counted["without_start"],
            0,
            counted["without_start"],
        ),
        "invoices": (counted["due"], counted["due"], 0, 0),
        "usage_events": (counted["submissions"], counted["submissions"], 0, 0),
    }
    ends = oulad.ask(
        "select end_reason, count(*) as n from marts.subscriptions group by end_reason order by end_reason"
    )
    assert [tuple(row.values()) for row in ends] == [
        ("canceled", counted["canceled"]),
        ("completed", counted["completed"]),
    ]


def test_oulad_active_enrolments_by_month_are_those_of_the_registrations(oulad):
    expected = {month: value for month, value in oulad.raw_monthly(raw.OULAD_ACTIVE).items() if value}
    found = {month: int(value) for month, value in oulad.monthly("end_mrr").items() if value}
    assert max(expected.values()) > 10_000
    assert found == expected


def test_oulad_students_owe_what_fell_due_and_was_not_handed_in(oulad):
    expected = {month: tuple(counts) for month, counts in oulad.raw_monthly(raw.OULAD_DUE_BY_MONTH).items()}
    found = oulad.ask(
        "select cast(date_trunc('month', due_at) as date) as month, count(*) as due, count(paid_at) as handed_in"
        " from marts.invoices group by month order by month"
    )
    assert len(expected) > 20
    assert {row["month"]: (row["due"], row["handed_in"]) for row in found} == expected


def test_oulad_features_count_what_was_owed_as_it_stood(oulad):
    expected = oulad.raw_monthly(raw.OULAD_OWED)
    found = oulad.home.ask(
        "select as_of_date as month, cast(sum(overdue_amount) as bigint) as owed from features.ftr_account_snapshots"
        " where as_of_date <= date '2015-05-01' group by as_of_date order by as_of_date",
        oulad.home.path / "warehouse.duckdb",
    )
    assert max(expected.values()) > 10_000
    assert {row["month"]: row["owed"] for row in found if row["owed"]} == expected


def test_oulad_labels_are_those_of_the_registrations(oulad):
    expected = {day: tuple(counts) for day, counts in oulad.raw_monthly(raw.OULAD_LABELS).items()}
    assert len(expected) >= 24
    assert oulad.labels() == expected


def test_ravenstack_reads_every_row_and_none_breaks_the_contract(ravenstack):
    assert ravenstack.loads() == {
        "accounts": (500, 500, 0, 0),
        "subscriptions": (5_000, 5_000, 0, 0),
        "usage_events": (25_000, 25_000, 0, 0),
        "tickets": (2_000, 2_000, 0, 0),
    }


def test_ravenstack_mrr_by_month_is_that_of_the_subscriptions(ravenstack):
    expected = raw.as_decimal(ravenstack.raw_monthly(raw.RAVENSTACK_MRR))
    assert len(expected) == 24
    assert raw.as_decimal(ravenstack.monthly("end_mrr")) == expected


def test_oulad_is_warned_of_submissions_before_the_first_registration(oulad):
    counted = oulad.raw(raw.OULAD_EARLY)[0]
    warned = oulad.ask(
        "select table_name, unexpected_count from quality.checks where check_name = 'chronology' and not passed"
    )
    assert [tuple(row.values()) for row in warned] == [("raw_files.usage_events", counted["submissions"])]
    page = (raw.PROJECT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert f"{counted['submissions']} of the 173,912 usage events" in page
    assert f"{counted['banked']} of them are banked" in page


def test_ravenstack_has_too_few_departures_for_a_model_and_every_score_says_so(ravenstack):
    (training,) = ravenstack.ask("select state, decision from quality.model_trainings")
    assert training["state"] == "refused"
    assert "at least 30 are needed" in training["decision"]
    scores = ravenstack.ask(
        "select is_fallback, churn_tier, count(*) as n, count(distinct churn_probability) as different"
        " from reverse_etl.customer_scores group by all"
    )
    assert scores == [{"is_fallback": True, "churn_tier": "unknown", "n": 500, "different": 1}]


def test_ravenstack_contradicts_itself_as_described(ravenstack):
    counted = ravenstack.raw(raw.RAVENSTACK_CONTRADICTIONS)[0]
    assert round(counted["usage_before_subscription"] / 25_000, 2) == 0.77
    assert round(counted["tickets_before_signup"] / 2_000, 2) == 0.54
    assert counted["flagged_churners"] == counted["flagged_churners_with_open_subscription"]
    page = (raw.PROJECT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert f"{counted['usage_before_subscription']:,} of 25,000 usage rows" in page
    assert f"{counted['tickets_before_signup']:,} of 2,000 tickets" in page


def test_ravenstack_is_warned_of_what_lies_before_the_sign_up(ravenstack):
    counted = ravenstack.raw(raw.RAVENSTACK_CONTRADICTIONS)[0]
    warned = ravenstack.ask(
        "select table_name, unexpected_count from quality.checks where check_name = 'chronology' and not passed order by 1"
    )
    assert [tuple(row.values()) for row in warned] == [
        ("raw_files.tickets", counted["tickets_before_signup"]),
        ("raw_files.usage_events", counted["usage_before_signup"]),
    ]
    page = (raw.PROJECT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert f"{counted['usage_before_signup']:,} of 25,000 usage rows (53 %)" in page


@pytest.mark.parametrize("name", ["online_retail", "oulad", "ravenstack"])
def test_the_page_about_the_examples_states_what_came_out(name, request):
    example = request.getfixturevalue(name)
    page = (raw.PROJECT / "docs" / "examples.md").read_text(encoding="utf-8")
    column = "invoiced_amount" if name == "online_retail" else "end_mrr"
    for month, value in example.monthly(column).items():
        if value:
            assert f"| {month:%Y-%m} | {value:,.{0 if name == 'oulad' else 2}f} |" in page, (name, month, value)
    for stream, counts in example.loads().items():
        assert f"| {stream} | " + " | ".join(f"{count:,}" for count in counts) + " |" in page, (name, stream, counts)
