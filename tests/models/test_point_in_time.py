"""What the models say about a day does not depend on what happened later.

The properties hold for many small made-up companies in memory (`Company.modelled`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.contract import ENTITIES
from core.warehouse import Connection, rows

AS_OF = datetime(2024, 7, 1)
LATER = AS_OF + timedelta(days=45)
SNAPSHOT = datetime(2024, 7, 2)
"""A date that every later run has in its calendar."""

Facts = dict[str, list[dict[str, Any]]]

# Days from the as-of date at which things happen: most before, some after, some exactly at midnight.
moments = st.builds(
    lambda day, hour: AS_OF + timedelta(days=day, hours=hour), st.integers(-120, 40), st.sampled_from([0, 9, 23])
)
accounts = st.sampled_from(["1", "2"])
spans = st.none() | st.integers(0, 90).map(lambda days: timedelta(days=days))
money = st.sampled_from([0, 50, 50, 120])


def facts_of(entity: str, **columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    def numbered(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{ENTITIES[entity].key: f"{entity}-{n}", **row} for n, row in enumerate(found)]

    return st.lists(st.fixed_dictionaries({"account_id": accounts, **columns}), max_size=5).map(numbered)


companies = st.fixed_dictionaries(
    {
        "subscriptions": facts_of(
            "subscriptions",
            started_at=moments,
            span=spans,
            signed_before=st.integers(0, 60).map(lambda days: timedelta(days=days)),
            mrr=money,
            plan=st.sampled_from(["a", "b"]),
            is_trial=st.sampled_from([None, True, False]),
            term_ends_at=st.none() | moments,
            discount_ends_at=st.none() | moments,
            end_reason=st.sampled_from(["canceled", "completed", "renewal"]),
        ),
        "invoices": facts_of(
            "invoices", issued_at=moments, span=spans, amount=money, failed_payments=st.sampled_from([0, 2])
        ),
        "usage_events": facts_of(
            "usage_events",
            occurred_at=moments,
            user_id=st.sampled_from(["u", "v"]),
            event_name=st.sampled_from(["x", "y"]),
        ),
        "tickets": facts_of(
            "tickets",
            opened_at=moments,
            span=spans,
            csat=st.sampled_from([None, 1, 5]),
            reopens=st.sampled_from([0, 1]),
        ),
        "survey_responses": facts_of(
            "survey_responses", responded_at=moments, kind=st.just("nps"), score=st.integers(0, 10)
        ),
        "interactions": facts_of("interactions", occurred_at=moments, channel=st.just("email")),
        "contacts": facts_of("contacts", created_at=moments, span=spans, role=st.sampled_from(["champion", "user"])),
    }
)

ENDS = {"subscriptions": "ended_at", "invoices": "paid_at", "tickets": "solved_at", "contacts": "left_at"}
KNOWN_WITH_THE_END = {"subscriptions": "end_reason", "tickets": "csat"}
UNDATED = {"invoices": "failed_payments", "tickets": "reopens"}
RETRIED_FOR = timedelta(days=14)


def as_loaded_at(company: Facts, now: datetime, *, undated: bool = False) -> Facts:
    """What the sources would have delivered up to `now`: facts before it, without what happened to them afterwards.

    Counts without a date grow while a fact is unfinished, which the marts cannot mask; they are there only with `undated`.
    """
    loaded: Facts = {"accounts": [{"account_id": i, "created_at": datetime(2024, 1, 1)} for i in ("1", "2")]}
    for entity, facts in company.items():
        loaded[entity] = []
        for fact in facts:
            row = dict(fact)
            begun = row[ENTITIES[entity].happened_at]
            # A contract is there from the day on which it was signed.
            if begun - row.pop("signed_before", timedelta(0)) >= now:
                continue
            if entity in ENDS:
                span = row.pop("span")
                end = None if span is None else begun + span
                known = end is not None and end < now
                row[ENDS[entity]] = end if known else None
                if entity in KNOWN_WITH_THE_END and not known:
                    row[KNOWN_WITH_THE_END[entity]] = None
                if entity == "invoices":
                    row["status"] = "paid" if known else "open"
                    row["due_at"] = begun + timedelta(days=7)
                if entity in UNDATED and not (
                    undated and (known or (entity == "invoices" and begun < now - RETRIED_FOR))
                ):
                    row[UNDATED[entity]] = 0
                if entity == "tickets":
                    row["status"] = "solved" if known else "open"
            loaded[entity].append(row)
    return loaded


Rewrite = Callable[[str, str], str]
History = list[tuple[Any, ...]]
"""What runs recorded of an account, and from when to when that was the newest."""


def as_built(name: str, sql: str) -> str:
    return sql


def in_a_replay(name: str, sql: str) -> str:
    """A replay does not know what was signed by then."""
    return f"select * from ({sql}) as signed where false" if name == "int_renewals_signed" else sql


def recorded(connection: Connection) -> History:
    found = connection.execute("from history.accounts_history where dbt_valid_to is null").fetchall()
    return list(found)


def marts(connection: Connection, **conditions: str) -> Mapping[str, list[str]]:
    """The rows of the marts, as sorted text; `conditions` choose marts and rows."""
    names = [
        row["table_name"] for row in rows(connection, "from information_schema.tables where table_schema = 'marts'")
    ]
    return {
        name: sorted(str(row) for row in rows(connection, f"from marts.{name} where {conditions.get(name, 'true')}"))
        for name in names
        if not conditions or name in conditions
    }


few = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@few
@given(company=companies)
def test_facts_of_the_future_change_no_row_of_the_past(built: Any, company: Facts) -> None:
    with built.modelled(as_loaded_at(company, AS_OF), AS_OF, in_a_replay) as then:
        known_then = marts(then)
    with built.modelled(as_loaded_at(company, LATER), AS_OF, in_a_replay) as later:
        assert marts(later) == known_then


@few
@given(company=companies)
def test_what_happened_before_a_date_reads_the_same_from_any_later_date(built: Any, company: Facts) -> None:
    past = f"timestamp '{AS_OF}'"
    conditions = {
        "account_days": f"activity_date < {past}",
        "mrr_movements": f"movement_date < {past}",
        "account_months": f"month_start_date < date_trunc('month', {past})",
        "account_timeline": f"event_at < {past} and kind not in ('invoice_issued', 'invoice_overdue')",
    }
    facts = as_loaded_at(company, LATER)
    with built.modelled(facts, AS_OF) as then:
        before = marts(then, **conditions)
    with built.modelled(facts, LATER) as later:
        assert marts(later, **conditions) == before


def test_a_company_without_a_single_row_builds(built: Any) -> None:
    with built.modelled({}, AS_OF) as connection:
        assert {name: found for name, found in marts(connection).items() if found} == {}


def test_the_property_would_notice_a_model_that_looks_ahead(built: Any) -> None:
    """The harness itself: with a clock that is a month late, the future does show."""
    company: Facts = {
        "usage_events": [
            {
                "event_id": "e",
                "account_id": "1",
                "user_id": "u",
                "event_name": "x",
                "occurred_at": AS_OF + timedelta(days=1),
            }
        ]
    }
    with built.modelled(as_loaded_at(company, LATER), LATER) as connection:
        assert len(marts(connection)["account_days"]) == 1
    with built.modelled(as_loaded_at(company, LATER), AS_OF) as connection:
        assert marts(connection)["account_days"] == []


# --- features and labels ------------------------------------------------------------------------------------------


def known_by(connection: Connection, day: datetime) -> list[str]:
    """All metrics and features of the dates up to `day`, as sorted text; of the days that the history of metrics keeps for a while, those
    that it still keeps at LATER."""
    kept = f"(is_sampled or as_of_date > date '{LATER - timedelta(days=90):%Y-%m-%d}')"
    asked = (
        f"select * exclude (is_scoring_date) from metrics.met_accounts where {kept}",
        "from features.ftr_account_snapshots",
    )
    found = (rows(connection, f"from ({sql}) where as_of_date <= date '{day:%Y-%m-%d}'") for sql in asked)
    return sorted(str(row) for table in found for row in table)


def labels_closed_by(connection: Connection, day: datetime, window_days: int) -> list[str]:
    """The labels whose window of `window_days` had closed by `day`."""
    last = day - timedelta(days=window_days)
    found = rows(connection, f"from features.ftr_account_labels where as_of_date <= date '{last:%Y-%m-%d}'")
    return sorted(str(row) for row in found)


def same_from_later(built: Any, company: Facts, window_days: int, rewrite: Rewrite = as_built) -> bool:
    """Whether metrics, features and closed labels come out alike with what was loaded by SNAPSHOT, and with what was by LATER."""
    found = []
    history: History = []
    for now in (SNAPSHOT, LATER):
        with built.modelled(as_loaded_at(company, now, undated=True), now, rewrite, history=history) as connection:
            found.append((known_by(connection, SNAPSHOT), labels_closed_by(connection, SNAPSHOT, window_days)))
            history = recorded(connection)
    return found[0] == found[1]


CONTRACT_WINDOW, INACTIVITY_WINDOW = 3 + 20 + 7, 3 + 20


@few
@given(company=companies)
def test_later_facts_change_no_earlier_metric_and_no_closed_label(built: Any, company: Facts) -> None:
    assert same_from_later(built, company, CONTRACT_WINDOW)


@few
@given(company=companies)
@pytest.mark.slow
def test_later_facts_change_neither_where_churn_is_inactivity(built_for_inactivity: Any, company: Facts) -> None:
    assert same_from_later(built_for_inactivity, company, INACTIVITY_WINDOW)


LEAVES_LATER: Facts = {
    "subscriptions": [
        {
            "subscription_id": "s",
            "account_id": "1",
            "started_at": AS_OF - timedelta(days=100),
            "span": timedelta(days=110),
            "mrr": 50,
            "end_reason": "canceled",
        }
    ]
}


def test_a_planted_copy_of_a_later_fact_is_found_out(built: Any) -> None:
    """The harness itself: a feature that tells whether the account ever leaves is told apart from one that looks back."""

    def ever_left(name: str, sql: str) -> str:
        if name != "ftr_account_measures":
            return sql
        leaves = (
            "exists (from intermediate.int_subscriptions_united as s where s.account_id = m.account_id"
            " and s.ended_at is not null)"
        )
        return f"select m.* replace ({leaves} as has_champion) from ({sql}) as m"

    assert same_from_later(built, LEAVES_LATER, CONTRACT_WINDOW)
    assert not same_from_later(built, LEAVES_LATER, CONTRACT_WINDOW, ever_left)


def renews(signed_before: timedelta) -> Facts:
    """A contract that ends ten days after SNAPSHOT, and the one that follows it, signed so long before it begins."""
    first = {"subscription_id": "a", "account_id": "1", "started_at": SNAPSHOT - timedelta(days=355), "mrr": 50}
    term = {"span": timedelta(days=365), "end_reason": "renewal", "term_ends_at": SNAPSHOT + timedelta(days=10)}
    second = {"subscription_id": "b", "account_id": "1", "started_at": SNAPSHOT + timedelta(days=10), "mrr": 60}
    next_term = {"span": None, "signed_before": signed_before, "term_ends_at": SNAPSHOT + timedelta(days=375)}
    return {"subscriptions": [{**first, **term}, {**second, **next_term}]}


RENEWAL = "select has_signed_renewal, days_to_renewal from {} where account_id = '1' and as_of_date = date '2024-07-02'"


@pytest.mark.parametrize(("signed_before", "known"), [(30, (True, 375)), (5, (False, 10))])
def test_a_renewal_is_known_once_it_is_signed_and_a_run_has_seen_it(
    built: Any, signed_before: int, known: tuple[bool, int]
) -> None:
    company = renews(timedelta(days=signed_before))
    for table in ("marts.accounts", "features.ftr_account_snapshots"):
        with built.modelled(as_loaded_at(company, SNAPSHOT), SNAPSHOT) as connection:
            assert connection.execute(RENEWAL.format(table)).fetchall() == [known], table
    assert same_from_later(built, company, CONTRACT_WINDOW)


def test_of_a_date_that_no_run_saw_it_is_not_known_what_was_signed(built: Any) -> None:
    facts = as_loaded_at(renews(timedelta(days=30)), LATER)
    with built.modelled(facts, LATER) as connection:
        assert connection.execute(RENEWAL.format("features.ftr_account_snapshots")).fetchall() == [(None, 10)]
    with built.modelled(facts, SNAPSHOT, in_a_replay) as connection:
        assert connection.execute(RENEWAL.format("marts.accounts")).fetchall() == [(None, 10)]


def test_a_feature_that_knows_renewals_by_their_start_is_found_out(built: Any) -> None:
    def by_start(name: str, sql: str) -> str:
        if name != "met_contracts":
            return sql
        begins = (
            "exists (from staging.stg_files__subscriptions as s where s.source_account_id = m.account_id"
            " and s.started_at > m.as_of_date)"
        )
        return f"select m.* replace ({begins} as has_signed_renewal) from ({sql}) as m"

    assert not same_from_later(built, renews(timedelta(days=5)), CONTRACT_WINDOW, by_start)


def test_an_account_that_leaves_is_labelled_when_its_window_has_closed(built: Any) -> None:
    with built.modelled(as_loaded_at(LEAVES_LATER, LATER), LATER) as connection:
        found = rows(
            connection,
            "select as_of_date, has_churned from features.ftr_account_labels where as_of_date >= date '2024-06-10' order by 1",
        )
    # It left on 11 July: 23 days after 18 June, within the lead of 10 July.
    assert [(f"{row['as_of_date']:%m-%d}", row["has_churned"]) for row in found] == [
        ("06-15", False),
        ("06-23", True),
        ("06-24", True),
        ("07-02", True),
        ("07-10", None),
    ]
