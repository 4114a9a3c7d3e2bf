"""A company's own metrics equal what pandas counts, use nothing that comes later, and are NULL where nobody measures them."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.metric_settings import OF_USERS, MetricConfig
from core.settings import PROJECT_ROOT
from core.warehouse import rows

AS_OF = datetime(2024, 7, 1)
Facts = dict[str, list[dict[str, Any]]]

DEFINITIONS: tuple[dict[str, Any], ...] = (
    {"name": "exports", "kind": "count", "from": "usage_events", "where": {"event_name": "export"}, "window": 28},
    {"name": "volume", "kind": "sum", "from": "usage_events", "where": {"product": ["core"]}, "window": 30},
    {"name": "users_14d", "kind": "unique_users", "from": "usage_events", "window": 14},
    {"name": "days_active", "kind": "active_days", "from": "usage_events", "window": 14},
    {"name": "export_silence", "kind": "days_since_last", "from": "usage_events", "where": {"event_name": "export"}},
    {"name": "core_users_pct", "kind": "share_of_active_users", "from": "usage_events", "where": {"product": "core"}}
    | {"window": 14},
    {"name": "seats_pct", "kind": "share_of_seats", "from": "usage_events", "window": 28},
    {"name": "volume_change", "kind": "sum", "from": "usage_events", "where": {"product": "core"}, "window": 30}
    | {"compare": "previous_window"},
    {"name": "level_change", "kind": "count", "from": "usage_events", "window": 14, "compare": "own_level"},
    {"name": "urgent_open", "kind": "count", "from": "tickets", "where": {"priority": ["Urgent"], "open": True}},
    {"name": "tickets_30", "kind": "count", "from": "tickets", "window": 30},
    {"name": "meetings_60", "kind": "count", "from": "interactions", "where": {"channel": "meeting"}, "window": 60},
    {"name": "nps_sum", "kind": "sum", "from": "survey_responses", "where": {"kind": "nps"}, "window": 365},
    {"name": "billed", "kind": "sum", "from": "invoices", "window": 90},
)


def defined(definition: dict[str, Any]) -> MetricConfig:
    return MetricConfig.model_validate({"label": "A label", "description": "A description."} | definition)


@pytest.fixture(scope="session")
def built_with(built: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes the same companies with the SQL of some definitions."""

    def make(*definitions: dict[str, Any]) -> Any:
        folder = tmp_path_factory.mktemp("custom")
        shutil.copytree(built.folder, folder, dirs_exist_ok=True)
        variables = {**built.variables, "custom_metrics": [defined(d).variable for d in definitions]}
        company = type(built)(folder, variables)
        company.dbt("compile", "--full-refresh")
        company.remember_sql()
        return company

    return make


@pytest.fixture(scope="session")
def measuring(built_with: Any) -> Any:
    return built_with(*DEFINITIONS)


def ago(days: float) -> datetime:
    return AS_OF - timedelta(days=days)


def company() -> Facts:
    """Two accounts whose every fact is filled; the first is busy, the second only knows the other product."""
    usage = [
        {"event_id": f"{account}-{day}-{user}", "account_id": account, "user_id": f"{user}{account}"}
        | {"event_name": ("login", "export")[(day + user) % 3 == 0], "occurred_at": ago(day - 0.4 + user / 100)}
        | {"quantity": 1.0 + (day * 7 + user) % 5, "event_count": 1.0 + day % 2}
        | {"product": "core" if account == "1" and user < 2 else "insights"}
        for account in ("1", "2")
        for day in range(1, 130)
        for user in range(3)
        if (day * 5 + user * 11) % 4
    ]
    tickets = [
        {"ticket_id": f"{account}{n}", "account_id": account, "opened_at": ago(opened), "priority": priority}
        | {"solved_at": solved and ago(solved), "status": "solved" if solved else "open"}
        for account in ("1",)
        for n, (opened, solved, priority) in enumerate(
            [(300, None, "urgent"), (80, 60, "urgent"), (29, 2, "low"), (10, None, "urgent"), (5, None, "low")]
        )
    ]
    return {
        "accounts": [{"account_id": a, "created_at": ago(400), "name": f"Company {a}"} for a in ("1", "2")],
        "subscriptions": [
            {"subscription_id": a, "account_id": a, "product": "core", "plan": "p", "seats": 5, "mrr": 9}
            | {"started_at": ago(300)}
            for a in ("1", "2")
        ],
        "usage_events": usage,
        "tickets": tickets,
        "interactions": [
            {"interaction_id": f"{d}", "account_id": "1", "channel": c, "direction": "outbound", "occurred_at": ago(d)}
            for d, c in ((5, "meeting"), (59, "Meeting"), (61, "meeting"), (4, "email"))
        ],
        "survey_responses": [
            {"response_id": f"{d}", "account_id": "2", "kind": k, "score": s, "responded_at": ago(d)}
            for d, k, s in ((5, "nps", 4), (300, "nps", 9), (20, "csat", 3))
        ],
        "invoices": [
            {"invoice_id": f"{d}", "account_id": "2", "amount": 50 + d, "issued_at": ago(d), "status": "paid"}
            for d in (1, 31, 61, 91)
        ],
    }


def measured(built: Any, facts: Facts, as_of: datetime = AS_OF) -> dict[tuple[str, Any], dict[str, Any]]:
    mapped = {entity: sorted({name for row in found for name in row}) for entity, found in facts.items()}
    with built.modelled(facts, as_of, mapped=mapped) as connection:
        found = rows(connection, "from metrics.met_custom")
    return {(row.pop("account_id"), row.pop("as_of_date")): row for row in found}


def by_pandas(facts: Facts, account: str, as_of: datetime) -> dict[str, Any]:
    def of(entity: str, at: str) -> pd.DataFrame:
        frame = pd.DataFrame(facts[entity])
        frame["days_ago"] = (pd.Timestamp(as_of) - frame[at].dt.normalize()).dt.days
        return frame[(frame["account_id"] == account) & (frame["days_ago"] > 0)]

    usage = of("usage_events", "occurred_at")
    core, exports = usage[usage["product"] == "core"], usage[usage["event_name"] == "export"]

    def last(frame: pd.DataFrame, days: int, skip: int = 0) -> pd.DataFrame:
        return frame[(frame["days_ago"] > skip) & (frame["days_ago"] <= skip + days)]

    def change(now: float, before: float) -> float | None:
        return 100 * (now - before) / before if before else None

    tickets, meetings = of("tickets", "opened_at"), of("interactions", "occurred_at")
    is_open = ~(tickets["solved_at"] < pd.Timestamp(as_of))
    answers, invoices = of("survey_responses", "responded_at"), of("invoices", "issued_at")
    active = last(usage, 14)["user_id"].nunique()
    return {
        "exports": last(exports, 28)["event_count"].sum(),
        "volume": last(core, 30)["quantity"].sum(),
        "users_14d": active,
        "days_active": last(usage, 14)["days_ago"].nunique(),
        "export_silence": exports["days_ago"].min(),
        "core_users_pct": 100 * last(core, 14)["user_id"].nunique() / active,
        "seats_pct": 100 * last(usage, 28)["user_id"].nunique() / 5,
        "volume_change": change(last(core, 30)["quantity"].sum(), last(core, 30, 30)["quantity"].sum()),
        "level_change": change(last(usage, 14)["event_count"].sum(), last(usage, 42, 14)["event_count"].sum() / 3),
        "urgent_open": ((tickets["priority"] == "urgent") & is_open).sum(),
        "tickets_30": len(last(tickets, 30)),
        "meetings_60": (last(meetings, 60)["channel"].str.lower() == "meeting").sum(),
        "nps_sum": last(answers, 365).query("kind == 'nps'")["score"].sum(),
        "billed": float(last(invoices, 90)["amount"].sum()),
    }


@pytest.mark.parametrize("days_before", [0, 1, 45])
def test_metrics_equal_an_independent_computation(measuring: Any, days_before: int) -> None:
    facts, as_of = company(), ago(days_before)
    found = measured(measuring, facts, as_of)
    for account in ("1", "2"):
        row, wanted = found[account, as_of.date()], by_pandas(facts, account, as_of)
        assert row.keys() == wanted.keys()
        for name, value in wanted.items():
            assert row[name] == (None if value is None else pytest.approx(value, abs=1e-6)), (account, name)


NEEDS = {
    "usage_events": {d["name"] for d in DEFINITIONS if d["from"] == "usage_events"},
    "usage_events.user_id": {"users_14d", "core_users_pct", "seats_pct"},
    "usage_events.product": {"volume", "core_users_pct", "volume_change"},
    "usage_events.quantity": {"volume", "volume_change"},
    "subscriptions.seats": {"seats_pct"},
    "tickets": {"urgent_open", "tickets_30"},
    "tickets.priority": {"urgent_open"},
    "interactions": {"meetings_60"},
    "interactions.channel": {"meetings_60"},
    "survey_responses": {"nps_sum"},
    "survey_responses.kind": {"nps_sum"},
    "invoices": {"billed"},
}


@pytest.mark.parametrize("taken", NEEDS)
def test_a_metric_is_null_without_what_it_is_made_of_and_no_other_is(measuring: Any, taken: str) -> None:
    entity, _, column = taken.partition(".")
    facts = company()
    kept = {
        name: [{key: value for key, value in row.items() if (name, key) != (entity, column)} for row in found]
        for name, found in facts.items()
        if column or name != entity
    }
    before, after = measured(measuring, facts), measured(measuring, kept)
    assert {name for row in after.values() for name, value in row.items() if value is not None} == set(
        before["1", AS_OF.date()]
    ) - NEEDS[taken]


def definitions() -> st.SearchStrategy[dict[str, Any]]:
    def of(
        kinds: list[str], entity: str, where: dict[str, st.SearchStrategy[Any]]
    ) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries(
            {
                "kind": st.sampled_from(kinds),
                "from": st.just(entity),
                "where": st.fixed_dictionaries({}, optional=where),
                "window": st.none() | st.integers(1, 120),
                "compare": st.sampled_from([None, None, "previous_window", "own_level"]),
            }
        ).filter(is_valid)

    usage = {"event_name": st.sampled_from(["login", "export", "it's"]), "product": st.just(["core", "insights"])}
    of_usage = ["count", "sum", "active_days", "days_since_last", *OF_USERS]
    return st.one_of(
        of(of_usage, "usage_events", usage),
        of(["count", "days_since_last"], "tickets", {"priority": st.just("urgent"), "open": st.just(True)}),
        of(["count", "sum"], "invoices", {}),
        of(["count", "days_since_last"], "interactions", {"channel": st.just("meeting")}),
        of(["count", "sum"], "survey_responses", {"kind": st.just("nps")}),
    )


def is_valid(definition: dict[str, Any]) -> bool:
    try:
        defined({"name": "any"} | definition)
    except ValidationError:
        return False
    return True


@pytest.fixture(scope="module")
def random_metrics(built_with: Any) -> Any:
    """The models with thirty definitions that hypothesis drew; their SQL is compiled once."""
    drawn: list[dict[str, Any]] = []

    @seed(11)
    @settings(max_examples=30, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(definitions())
    def draw(definition: dict[str, Any]) -> None:
        drawn.append({"name": f"metric_{len(drawn)}"} | definition)

    draw()
    return built_with(*drawn)


happenings = st.lists(
    st.tuples(
        st.sampled_from(["usage_events", "tickets", "interactions", "invoices", "survey_responses"]),
        st.sampled_from(["1", "2"]),
        st.integers(0, 30),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=12,
)


def later_row(entity: str, account: str, days: int, n: int, key: str) -> dict[str, Any]:
    at = AS_OF + timedelta(days=days)
    return {"account_id": account} | {
        "usage_events": {"event_id": key, "user_id": f"new{n}", "event_name": "export", "occurred_at": at}
        | {"quantity": 5.0, "event_count": 2.0, "product": "core"},
        "tickets": {"ticket_id": key, "opened_at": at, "priority": "urgent", "status": "open"},
        "interactions": {"interaction_id": key, "channel": "meeting", "direction": "inbound", "occurred_at": at},
        "invoices": {"invoice_id": key, "amount": 70, "issued_at": at, "status": "open"},
        "survey_responses": {"response_id": key, "kind": "nps", "score": n, "responded_at": at},
    }[entity]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(news=happenings)
def test_future_rows_change_no_past_value_of_any_definition(random_metrics: Any, news: list[Any]) -> None:
    facts = company()
    past = measured(random_metrics, facts)
    for place, (entity, account, days, n) in enumerate(news):
        facts[entity].append(later_row(entity, account, days, n, f"new-{place}"))
    facts["tickets"][3] |= {"solved_at": AS_OF + timedelta(days=1), "status": "solved"}
    assert len(past) == 2
    assert measured(random_metrics, facts) == past


def test_the_metrics_of_the_sandbox_company_equal_an_independent_computation(built_with: Any) -> None:
    document = yaml.safe_load((PROJECT_ROOT / "config" / "metrics.yml").read_text(encoding="utf-8"))
    built, facts = built_with(*document["metrics"]), company()
    for row in facts["usage_events"]:
        row["product"] = "insights" if row["user_id"].startswith("2") else "core"
    usage = pd.DataFrame(facts["usage_events"])
    usage["days_ago"] = (pd.Timestamp(AS_OF) - usage["occurred_at"].dt.normalize()).dt.days
    found = measured(built, facts)
    for account in ("1", "2"):
        events = usage[(usage["account_id"] == account) & (usage["days_ago"] > 0)]
        insights = events[events["product"] == "insights"]

        def between(frame: pd.DataFrame, more_than: int, at_most: int) -> pd.DataFrame:
            return frame[(frame["days_ago"] > more_than) & (frame["days_ago"] <= at_most)]

        users = [between(events, more, most)["user_id"].nunique() for more, most in ((0, 28), (28, 56), (0, 14))]
        volumes = [between(insights, more, more + 30)["quantity"].sum() for more in (0, 30)]
        touching = between(insights, 0, 14)["user_id"].nunique()
        assert found[account, AS_OF.date()] == {
            "days_since_any_use": events["days_ago"].min(),
            "engaged_users_14d": users[2],
            "seats_active_28d_pct": pytest.approx(100 * users[0] / 5),
            "engaged_users_28d_change_pct": pytest.approx(100 * (users[0] - users[1]) / users[1]),
            "insights_volume_30d_change_pct": pytest.approx(100 * (volumes[0] - volumes[1]) / volumes[1]),
            "insights_users_14d_pct": pytest.approx(100 * touching / users[2], abs=1e-5),
            "support_tickets_30d": {"1": 3, "2": 0}[account],
            "urgent_tickets_unresolved": {"1": 2, "2": 0}[account],
            "customer_meetings_90d": {"1": 3, "2": 0}[account],
        }
