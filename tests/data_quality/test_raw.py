"""The gate of the raw tables, on warehouses with and without planted faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from data_quality.checks import CheckResult, blocking_failures, catalogue, outcomes


def failures(results: Iterable[CheckResult], key: str) -> list[CheckResult]:
    """The failing results of the check `table.name`."""
    return [result for result in results if f"raw_files.{key}" == f"{result.table}.{result.name}" and not result.passed]


def results_of(results: Iterable[CheckResult], key: str) -> list[CheckResult]:
    return [result for result in results if f"raw_files.{key}" == f"{result.table}.{result.name}"]


def said(results: Iterable[CheckResult]) -> str:
    return "\n".join(result.message for result in results)


# --- nothing wrong ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(shared_companies: Any) -> Any:
    company = shared_companies.good(stale_after_days={"crm": 30, "billing": 30, "support": 30, "product": 30})
    company.results = company.check_raw()
    return company


def test_a_company_without_faults_passes_every_check(good: Any) -> None:
    assert said(result for result in good.results if not result.passed) == ""
    assert {f"{result.table}.{result.name}" for result in good.results} == {
        spec.key for spec in catalogue(good.config) if spec.boundary == "raw"
    }


def test_a_company_without_faults_is_measured_in_all_but_what_is_too_thin_or_not_told(good: Any) -> None:
    unmeasured = {f"{result.table}.{result.name}" for result in good.results if not result.measured}
    assert unmeasured == {"raw_files.subscriptions.terms", "raw_files.tickets.accepted_values"} | {
        f"raw_files.{table}.volume"
        for table in ("subscriptions", "invoices", "tickets", "interactions", "survey_responses")
    }


def test_results_stand_in_the_warehouse_as_they_were_returned(good: Any) -> None:
    from data_quality.results import checks_of

    written = checks_of(good.connection, "run1")
    assert Counter(written) == Counter(good.results)


def test_names_addresses_and_texts_are_kept_nowhere(good: Any) -> None:
    kept = str(good.query("select * from quality.checks"))
    kept += "".join(path.read_text() for path in (good.home / "quality").rglob("*.json"))
    assert "a1" in kept or "run1" in kept
    for private in ("Secret", "eve@example.com", "Private words"):
        assert private not in kept


# --- one fault each -----------------------------------------------------------------------------------------------


def plant_faults(company: Any) -> None:
    """Faults that do not get into each other's way, all in one run."""
    company.deliver("crm", "accounts", company.accounts("a1", "a2"))
    company.deliver("billing", "accounts", company.accounts("b1"))
    # A load that does not add up, one whose rows are gone, one whose quarantined rows are gone.
    company.deliver(
        "crm",
        "contacts",
        [{"contact_id": "c1", "account_id": "a1"}, {"contact_id": None, "account_id": "a1"}],
        rows_read=3,
    )
    company.deliver(
        "crm",
        "interactions",
        [
            {
                "interaction_id": f"i{n}",
                "account_id": "a1",
                "channel": "telegraph" if n == 0 else "email",
                "occurred_at": at,
            }
            for n, at in enumerate(company.days(3))
        ],
        rows_read=5,
        rows_inserted=5,
    )
    company.deliver("product", "survey_responses", [], rows_read=2, rows_quarantined=2)
    started = datetime(2024, 1, 1)
    company.deliver(
        "billing",
        "subscriptions",
        [
            {"subscription_id": "low", "account_id": "b1", "mrr": -1, "started_at": started},
            {"subscription_id": "free", "account_id": "b1", "mrr": None, "started_at": started},
            {
                "subscription_id": "backwards",
                "account_id": "b1",
                "mrr": 1,
                "started_at": started,
                "ended_at": started - timedelta(days=1),
            },
            {"subscription_id": "stranger", "account_id": "nobody", "mrr": 1, "started_at": started},
            *({"subscription_id": "twin", "account_id": "b1", "mrr": 1, "started_at": started} for _ in range(2)),
        ],
        bad=10,
    )
    company.deliver(
        "billing",
        "invoices",
        [
            {"invoice_id": "v1", "account_id": "b1", "issued_at": started, "amount": 1, "status": "settled"},
            {
                "invoice_id": "v2",
                "account_id": "b1",
                "issued_at": datetime(2031, 1, 1),
                "amount": 1,
                "status": "paid",
            },
        ],
    )
    company.deliver(
        "support",
        "tickets",
        [
            {"ticket_id": f"t{n}", "account_id": "a1", "opened_at": datetime(2024, 6, 1), "csat": 6 if n == 0 else 5}
            for n in range(60)
        ],
        bad=90,
    )
    company.deliver("product", "usage_events", company.usage(lambda day: 5 if day == company.last_day else 100))
    company.deliver(
        "product",
        "usage_events",
        [],
        run="run1",
        status="stopped",
        message="events.csv: line 3 is half written",
        rows_read=0,
    )


@pytest.fixture(scope="module", params=[10_000, 0], ids=["row by row", "by profile"])
def broken(request: pytest.FixtureRequest, shared_companies: Any) -> Any:
    company = shared_companies.empty(stale_after_days={"support": 7, "product": 7})
    company.accounts, company.days, company.usage = (
        shared_companies.accounts,
        shared_companies.days,
        shared_companies.usage,
    )
    company.last_day = shared_companies.LAST_DAY
    plant_faults(company)
    company.results = company.check_raw(rows_at_once=request.param)
    return company


@pytest.mark.parametrize(
    ("key", "column", "severity", "unexpected", "words"),
    [
        ("contacts.accounting", None, "critical", 1, "3 rows read, 2 accounted for"),
        ("interactions.accounting", None, "critical", 2, "5 rows counted as loaded, 3 in raw_files.interactions"),
        ("survey_responses.accounting", None, "critical", 2, "2 rows counted as quarantined, 0 in quarantine"),
        ("tickets.quarantine_share", None, "critical", 90, "60.0 % (90 of 150 new rows)"),
        ("subscriptions.quarantine_share", None, "critical", 10, "62.5 % (10 of 16 rows ever delivered)"),
        ("contacts.required", "contact_id", "critical", 1, "such as crm/contacts/(none)"),
        ("subscriptions.required", "mrr", "critical", 1, "such as billing/subscriptions/free"),
        ("subscriptions.keys_unique", "subscription_id", "critical", 1, "such as billing/subscriptions/twin"),
        ("subscriptions.ranges", "mrr", "critical", 1, "such as billing/subscriptions/low"),
        ("subscriptions.ranges", "ended_at", "critical", 1, "such as billing/subscriptions/backwards"),
        ("tickets.ranges", "csat", "critical", 1, "such as support/tickets/t0"),
        ("invoices.ranges", "issued_at", "critical", 1, "such as billing/invoices/v2"),
        ("invoices.accepted_values", "status", "warning", 1, "such as billing/invoices/v1"),
        ("interactions.accepted_values", "channel", "warning", 1, "such as crm/interactions/i0"),
        ("subscriptions.references", "account_id", "warning", 1, "such as billing/subscriptions/stranger"),
        ("usage_events.volume", "occurred_at", "warning", 95, "product has 5 rows for Sunday 2024-06-30, expected"),
        ("tickets.freshness", None, "warning", 1, "30.21 days old"),
        ("survey_responses.freshness", None, "warning", 1, "has delivered nothing yet"),
        ("usage_events.streams", None, "warning", 1, "line 3 is half written"),
    ],
)
def test_a_planted_fault_is_found_and_told(
    broken: Any, key: str, column: str | None, severity: str, unexpected: int, words: str
) -> None:
    found = [result for result in failures(broken.results, key) if result.column == column]
    assert len(found) == 1, said(failures(broken.results, key))
    assert found[0].severity == severity
    assert found[0].blocks == (severity == "critical")
    assert found[0].unexpected_count == unexpected
    assert words in found[0].message
    assert found[0].observed
    assert found[0].expected


def test_nothing_but_the_planted_faults_is_found(broken: Any) -> None:
    found = Counter(
        f"{result.table.removeprefix('raw_files.')}.{result.name}" for result in broken.results if not result.passed
    )
    assert found == {
        "contacts.accounting": 1,
        "contacts.required": 1,
        "interactions.accounting": 1,
        "interactions.accepted_values": 1,
        "survey_responses.accounting": 1,
        "survey_responses.freshness": 1,
        "subscriptions.quarantine_share": 1,
        "subscriptions.required": 1,
        "subscriptions.ranges": 2,
        "subscriptions.keys_unique": 1,
        "subscriptions.references": 1,
        "invoices.ranges": 1,
        "invoices.accepted_values": 1,
        "tickets.quarantine_share": 1,
        "tickets.ranges": 1,
        "tickets.freshness": 1,
        "usage_events.volume": 1,
        "usage_events.streams": 1,
    }


def test_only_critical_failures_block(broken: Any) -> None:
    blocking = {result.name for result in blocking_failures(broken.results)}
    assert blocking == {"accounting", "quarantine_share", "required", "ranges", "keys_unique"}


def test_an_outcome_gathers_the_results_of_one_check(broken: Any) -> None:
    specs = [spec for spec in catalogue(broken.config) if spec.key == "raw_files.subscriptions.ranges"]
    outcome = outcomes(specs, broken.results)[0]
    assert (outcome.passed, outcome.measured, outcome.unexpected_count) == (False, True, 2)
    assert "mrr" in outcome.message
    assert "ended_at" in outcome.message


def test_a_check_that_was_not_run_does_not_pass(broken: Any) -> None:
    outcome = outcomes(catalogue(broken.config)[:1], [])[0]
    assert not outcome.passed
    assert "was not run" in outcome.message


# --- tables that are not as they should be ------------------------------------------------------------------------


def test_a_changed_column_type_and_a_missing_table_are_told_and_stop_nothing_else(companies: Any) -> None:
    company = companies.empty(streams={"crm": ("accounts", "contacts"), "product": ("usage_events",)})
    company.deliver("crm", "accounts", companies.accounts("a1"))
    company.execute("alter table raw_files.usage_events alter quantity type varchar")
    company.execute("alter table raw_files.contacts drop role")
    results = company.check_raw()
    quantity = failures(results, "usage_events.schema")
    assert [(result.column, result.observed, result.expected) for result in quantity] == [
        ("quantity", "varchar", "double")
    ]
    role = failures(results, "contacts.schema")
    assert [(result.column, result.observed) for result in role] == [("role", "missing")]
    assert failures(results, "accounts.schema") == []
    assert {result.name for result in blocking_failures(results)} == {"schema"}


def test_a_first_load_of_nothing_passes_as_not_measured(companies: Any) -> None:
    company = companies.empty()
    results = company.check_raw()
    assert said(result for result in results if not result.passed) == ""
    assert {result.name for result in results if result.measured} == {"schema", "references"}


def test_facts_of_a_source_without_a_list_of_accounts_refer_to_nothing(companies: Any) -> None:
    company = companies.empty(streams={"shop": ("invoices",)}, identity={"derive_accounts": True})
    company.deliver(
        "shop", "invoices", [{"invoice_id": "v", "account_id": "x", "issued_at": companies.AS_OF, "amount": 1}]
    )
    references = results_of(company.check_raw(), "invoices.references")
    assert [(result.passed, result.measured) for result in references] == [(True, False)]


def test_derived_accounts_need_no_date_of_creation(companies: Any) -> None:
    streams = {"shop": ("accounts", "invoices")}
    undated = [{"account_id": "a1", "created_at": None}]
    derived = companies.empty(streams=streams, identity={"derive_accounts": True})
    derived.deliver("shop", "accounts", undated)
    assert failures(derived.check_raw(), "accounts.required") == []
    listed = companies.empty(streams=streams)
    listed.deliver("shop", "accounts", undated)
    assert [result.column for result in failures(listed.check_raw(), "accounts.required")] == ["created_at"]


# --- facts before their account -----------------------------------------------------------------------------------

EARLY: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "crm": {"interactions": ("interaction_id", {"channel": "email", "direction": "inbound"})},
    "billing": {
        "subscriptions": ("subscription_id", {"mrr": 1}),
        "invoices": ("invoice_id", {"amount": 1, "status": "paid"}),
    },
    "support": {"tickets": ("ticket_id", {})},
    "product": {
        "usage_events": ("event_id", {"event_name": "login"}),
        "survey_responses": ("response_id", {"kind": "nps", "score": 9}),
    },
}
HAPPENED_AT = {
    "interactions": "occurred_at",
    "subscriptions": "started_at",
    "invoices": "issued_at",
    "tickets": "opened_at",
    "usage_events": "occurred_at",
    "survey_responses": "responded_at",
}


def deliver_facts(company: Any, *at: datetime) -> None:
    """One row of every kind at each of the moments."""
    for source, entities in EARLY.items():
        account = "b1" if source == "billing" else "a1"
        for entity, (key, others) in entities.items():
            rows = [
                {key: f"f{n}", "account_id": account, HAPPENED_AT[entity]: moment, **others}
                for n, moment in enumerate(at)
            ]
            company.deliver(source, entity, rows)


def chronology(results: Iterable[CheckResult]) -> dict[str, CheckResult]:
    """The results of the check by table."""
    return {result.table.removeprefix("raw_files."): result for result in results if result.name == "chronology"}


def test_rows_before_their_account_are_counted_and_warned_of_in_every_table(companies: Any) -> None:
    company = companies.empty()
    company.deliver("crm", "accounts", companies.accounts("a1"))
    company.deliver("billing", "accounts", companies.accounts("b1"))
    deliver_facts(company, datetime(2022, 12, 31), datetime(2023, 1, 1), datetime(2022, 6, 1), datetime(2024, 1, 1))
    results = company.check_raw()
    found = chronology(results)
    assert set(found) == set(HAPPENED_AT)
    for table, result in found.items():
        assert (result.passed, result.unexpected_count, result.severity) == (False, 2, "warning"), table
        assert "2 of 4 rows (50 %) happened before their account was created" in result.message
        assert result.column == HAPPENED_AT[table]
    assert found["tickets"].message.startswith("raw_files.tickets: support: 2 of 4 rows")
    assert found["tickets"].sample == ("support/tickets/f0", "support/tickets/f2")
    assert found["usage_events"].sample == ("product/a1",)
    assert blocking_failures(results) == []


def test_a_fact_of_the_day_on_which_its_account_was_created_is_in_order(companies: Any) -> None:
    company = companies.empty()
    late = {"created_at": datetime(2024, 3, 5, 23, 59)}
    company.deliver("crm", "accounts", [{"account_id": "a1", **late}])
    company.deliver("billing", "accounts", [{"account_id": "b1", **late}])
    deliver_facts(company, datetime(2024, 3, 5))
    assert {(result.passed, result.measured) for result in chronology(company.check_raw()).values()} == {(True, True)}


def test_rows_before_their_account_are_told_by_source(companies: Any) -> None:
    company = companies.empty(streams={"crm": ("accounts", "tickets", "invoices"), "desk": ("accounts", "tickets")})
    for source in ("crm", "desk"):
        company.deliver(source, "accounts", companies.accounts("a1"))
    wrong = {"ticket_id": "t1", "account_id": "a1", "opened_at": datetime(2022, 6, 1)}
    right = {"ticket_id": "t2", "account_id": "a1", "opened_at": datetime(2024, 6, 1)}
    company.deliver("crm", "tickets", [right])
    company.deliver("desk", "tickets", [wrong, right, {**right, "ticket_id": "t3"}])
    found = failures(company.check_raw(), "tickets.chronology")
    assert [(result.source, result.unexpected_count) for result in found] == [("desk", 1)]
    assert "desk: 1 of 3 rows (33 %)" in found[0].message


def test_rows_before_their_account_are_still_told_in_the_next_run(companies: Any) -> None:
    company = companies.empty(streams={"crm": ("accounts", "tickets", "invoices")})
    company.deliver("crm", "accounts", companies.accounts("a1"))
    early = {"ticket_id": "t1", "account_id": "a1", "opened_at": datetime(2022, 6, 1)}
    company.deliver("crm", "tickets", [early])
    company.check_raw("run1")
    later = failures(company.check_raw("run2", now=companies.NOW + timedelta(days=1)), "tickets.chronology")
    assert [result.unexpected_count for result in later] == [1]


@pytest.mark.parametrize("agreed", ["term_ends_at", "discount_ends_at"])
@pytest.mark.parametrize("forgotten", [20, 31])
def test_a_source_that_forgets_the_terms_of_who_left_is_warned_of(companies: Any, forgotten: int, agreed: str) -> None:
    company = companies.empty()
    company.deliver("billing", "accounts", companies.accounts("b1"))
    term = datetime(2025, 1, 1)
    periods = [
        {
            "subscription_id": f"s{n}",
            "account_id": "b1",
            "mrr": 1,
            "started_at": datetime(2024, 1, 1),
            "ended_at": datetime(2024, 2, 1) if n < 60 else None,
            agreed: None if n < forgotten else term,
        }
        for n in range(100)
    ]
    # Of what began before anybody wrote it down, nobody could have known it.
    early = {"started_at": datetime(2023, 1, 1), "ended_at": datetime(2023, 2, 1), agreed: None}
    periods += [{**periods[0], **early, "subscription_id": f"early{n}"} for n in range(100)]
    company.deliver("billing", "subscriptions", periods)
    (result,) = [result for result in company.check_raw() if result.name == "terms"]
    assert (result.passed, result.measured, result.severity) == (forgotten == 20, True, "warning")
    if forgotten > 20:
        assert result.unexpected_count == forgotten
        assert f"{agreed} is known of 40 of 40 periods that run, but only of 29 of 60 that ended" in result.message


def test_an_account_that_two_streams_list_exists_from_its_first_day(companies: Any) -> None:
    company = companies.empty(streams={"crm": ("accounts", "tickets", "invoices")})
    company.deliver("crm", "accounts", companies.accounts("a1"))
    again = {"_stream": "archive", "account_id": "a1", "created_at": datetime(2024, 6, 1)}
    company.deliver("crm", "accounts", [again])
    company.deliver("crm", "tickets", [{"ticket_id": "t1", "account_id": "a1", "opened_at": datetime(2024, 1, 1)}])
    assert failures(company.check_raw(), "tickets.chronology") == []


def test_accounts_without_a_date_of_creation_order_nothing(companies: Any) -> None:
    early = {"invoice_id": "v", "account_id": "a1", "issued_at": datetime(2000, 1, 1), "amount": 1}
    undated = companies.empty(streams={"shop": ("accounts", "invoices")}, identity={"derive_accounts": True})
    undated.deliver("shop", "accounts", [{"account_id": "a1", "created_at": None}])
    unlisted = companies.empty(streams={"shop": ("invoices",)}, identity={"derive_accounts": True})
    elsewhere = companies.empty()  # the account is the CRM's, the invoice billing's
    elsewhere.deliver("crm", "accounts", companies.accounts("a1"))
    for company, source in ((undated, "shop"), (unlisted, "shop"), (elsewhere, "billing")):
        company.deliver(source, "invoices", [early])
        result = chronology(company.check_raw())["invoices"]
        assert (result.passed, result.measured) == (True, False)
        assert "no row has an account with a date of creation" in result.observed


# --- run after run ------------------------------------------------------------------------------------------------


def one_stream(companies: Any) -> Any:
    return companies.empty(streams={"crm": ("accounts", "contacts"), "product": ("usage_events",)})


def test_checking_a_run_again_replaces_its_results(companies: Any) -> None:
    company = one_stream(companies)
    company.deliver("crm", "accounts", companies.accounts("a1"))
    first = company.check_raw()
    again = company.check_raw()
    assert again == first
    assert company.query("select count(*) from quality.checks") == [(len(first),)]
    assert company.query("select count(*) from quality.guarded where table_name = 'raw_files.accounts'") == [(1,)]


def test_results_are_kept_over_time_and_a_passed_row_is_not_judged_twice(companies: Any) -> None:
    company = one_stream(companies)
    company.deliver("crm", "accounts", companies.accounts("a1"))
    company.check_raw("run1")
    company.deliver("crm", "accounts", companies.accounts("a2"), run="run2")
    later = company.check_raw("run2", now=companies.NOW + timedelta(days=1))
    assert "all 1 new rows" in results_of(later, "accounts.required")[0].observed
    assert company.query("select run_id from quality.checks group by run_id order by run_id") == [("run1",), ("run2",)]


def test_what_one_run_was_refused_for_the_next_run_cannot_carry_past_the_gate(companies: Any) -> None:
    company = one_stream(companies)
    company.deliver("crm", "accounts", [{"account_id": "a1", "created_at": None}])
    assert failures(company.check_raw("run1"), "accounts.required")
    assert failures(company.check_raw("run2"), "accounts.required")
    company.execute("update raw_files.accounts set created_at = timestamp '2023-01-01'")
    assert failures(company.check_raw("run3"), "accounts.required") == []
    assert company.query("select run_id from quality.guarded where table_name = 'raw_files.accounts' order by 1") == [
        ("run1",),
        ("run3",),
    ]


def test_a_quarantine_that_was_too_large_stays_so_until_its_rows_are_mended(companies: Any) -> None:
    company = one_stream(companies)
    company.deliver("crm", "accounts", companies.accounts(*(f"a{n}" for n in range(40))), bad=60)
    assert failures(company.check_raw("run1"), "accounts.quarantine_share")
    assert failures(company.check_raw("run2"), "accounts.quarantine_share")
    company.execute("delete from quarantine.accounts")
    assert failures(company.check_raw("run3"), "accounts.quarantine_share") == []


def test_the_limit_of_quarantined_rows_is_a_setting(companies: Any) -> None:
    rows = companies.accounts(*(f"a{n}" for n in range(90)))
    strict = companies.empty(quality={"max_quarantined_share": 0.05})
    strict.deliver("crm", "accounts", rows, bad=10)
    found = failures(strict.check_raw(), "accounts.quarantine_share")
    assert [result.expected for result in found] == ["at most 5 %"]


def test_a_key_of_a_later_run_that_stands_in_an_earlier_one_is_found(companies: Any) -> None:
    company = one_stream(companies)
    company.deliver("crm", "accounts", companies.accounts("a1", "a2"))
    company.check_raw("run1")
    company.deliver("crm", "accounts", companies.accounts("a2", "a3"), run="run2")
    found = failures(company.check_raw("run2"), "accounts.keys_unique")
    assert [result.sample for result in found] == [("crm/accounts/a2",)]


def test_events_without_ids_may_be_alike(companies: Any) -> None:
    company = one_stream(companies)
    company.deliver("crm", "accounts", companies.accounts("a1"))
    event = {"account_id": "a1", "event_name": "login", "occurred_at": datetime(2024, 6, 30)}
    company.deliver("product", "usage_events", [event, event])
    results = company.check_raw()
    assert failures(results, "usage_events.keys_unique") == []
    assert failures(results, "usage_events.required") == []


def test_twice_the_usual_rows_are_accepted_and_ten_times_are_not(companies: Any) -> None:
    for factor, is_alarm in ((2, False), (10, True)):
        company = one_stream(companies)
        company.deliver("crm", "accounts", companies.accounts("a1"))
        rows = companies.usage(lambda day, f=factor: 40 * f if day == companies.LAST_DAY else 40)
        company.deliver("product", "usage_events", rows)
        assert bool(failures(company.check_raw(), "usage_events.volume")) == is_alarm


def test_late_rows_for_a_day_of_this_week_have_it_judged_again(companies: Any) -> None:
    company = one_stream(companies)
    company.deliver("crm", "accounts", companies.accounts("a1"))
    company.deliver("product", "usage_events", companies.usage(lambda _: 40))
    company.check_raw("run1")
    late = companies.LAST_DAY - timedelta(days=2)
    again = [
        {**row, "event_id": f"again-{n}"}
        for n, row in enumerate(companies.usage(lambda day: 400 if day == late else 0))
    ]
    company.deliver("product", "usage_events", again, run="run2")
    found = failures(company.check_raw("run2"), "usage_events.volume")
    assert [str(late) in result.message for result in found] == [True]


def test_a_source_is_as_old_as_the_clock_of_the_run_says(companies: Any) -> None:
    company = companies.empty(
        streams={"crm": ("accounts",), "product": ("usage_events",)}, stale_after_days={"product": 2}, clock="data"
    )
    company.deliver("crm", "accounts", companies.accounts("a1"))
    company.deliver("product", "usage_events", companies.usage(lambda _: 1, weeks=1))
    years_later = companies.NOW + timedelta(days=1000)
    assert failures(company.check_raw(now=years_later), "usage_events.freshness") == []
    replayed = company.check_raw(now=years_later, as_of=companies.AS_OF + timedelta(days=9))
    assert len(failures(replayed, "usage_events.freshness")) == 1


def test_a_list_of_accounts_is_as_fresh_as_its_source(companies: Any) -> None:
    company = companies.empty(streams={"crm": ("accounts", "usage_events")}, stale_after_days={"crm": 2})
    company.deliver("crm", "accounts", companies.accounts("a1"))
    company.deliver("crm", "usage_events", companies.usage(lambda _: 1, weeks=1))
    assert failures(company.check_raw(), "accounts.freshness") == []


# --- words ----------------------------------------------------------------------------------------------------------


def ended(*reasons: str) -> list[dict[str, Any]]:
    dates = {"started_at": datetime(2024, 1, 1), "ended_at": datetime(2024, 2, 1)}
    return [
        {"subscription_id": f"s{n}", "account_id": "a1", "mrr": 1, **dates, "end_reason": reason}
        for n, reason in enumerate(reasons)
    ]


def reasons_given(companies: Any, *reasons: str) -> Any:
    company = companies.empty()
    company.deliver("crm", "accounts", companies.accounts("a1"))
    company.deliver("billing", "subscriptions", ended(*reasons))
    return company


def test_words_are_compared_without_case_and_blanks(companies: Any) -> None:
    company = reasons_given(companies, "Completed", " canceled ", "MIGRATED", " ")
    (found,) = results_of(company.check_raw(), "subscriptions.accepted_values")
    assert (found.passed, found.measured) == (True, True)


def test_unknown_words_are_reported_with_counts_run_after_run_and_sentences_are_not_repeated(companies: Any) -> None:
    company = reasons_given(companies, "finished", "Finished", "gone", "Ann said: jo@acme.com will go", "canceled")
    for run in ("run1", "run2"):
        (found,) = results_of(company.check_raw(run), "subscriptions.accepted_values")
        assert (found.passed, found.severity, found.column) == (False, "warning", "end_reason")
        assert found.unexpected_count == 4
        assert "4 of 5 rows have another end_reason: `finished` (2), `gone` (1) and 1 other (1)" in found.message
        assert "They count as churn. Name those that are none in churn.not_churn" in found.message
        assert "jo@acme.com" not in found.message
        assert found.sample == tuple(f"billing/subscriptions/s{n}" for n in range(4))
