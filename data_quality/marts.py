"""What the published marts promise, as data.

Lives here: for each mart its columns with their types and limits, its key, and its sums that must agree. Must not live
here: how a promise is measured or judged (`published.py`).

A column that is missing here or there is found by a test that compares this list with the models' own description.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from data_quality.rules import ColumnRule, TableRule

SCHEMA = "marts"


@dataclass(frozen=True)
class Sum:
    """Two ways to the same number.

    `sql` yields one row for each thing compared, with `key`, `observed` and `expected`; NULL on either side is not
    compared. Amounts may differ by `tolerance`.
    """

    name: str
    says: str
    sql: str
    tolerance: float = 0.0


@dataclass(frozen=True)
class Mart:
    """A mart: its rule, its sums, and the raw entity of which it must hold every row.

    `lasting` marks marts whose size must not collapse from one run to the next; `boundary` says which gate judges it. `current` is
    SQL of the rows that its checks speak of: a table that grows run by run answers for the newest one, and not for what it
    keeps of others.
    """

    rule: TableRule
    sums: tuple[Sum, ...] = field(default=())
    entity: str | None = None
    lasting: bool = False
    boundary: Literal["marts", "scores", "activation"] = "marts"
    current: str = "true"

    @property
    def table(self) -> str:
        return self.rule.table

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def has_words(self) -> bool:
        return any(column.values for column in self.rule.columns)

    @property
    def refers_to_accounts(self) -> bool:
        return any(column.orphan for column in self.rule.columns)


ORPHAN = f"(account_id is not null and account_id not in (select account_id from {SCHEMA}.accounts))"
PAST = "as_of"
"""In `latest`: no later than the run's clock."""

PERSONAL_NAMES = ("email", "owner_email", "subject", "body", "comment", "phone")
"""Columns that hold personal data or text that people wrote, whatever mart they are in."""


def text_column(name: str, *, required: bool = False, values: tuple[str, ...] = ()) -> ColumnRule:
    return ColumnRule(name, "varchar", required=required, values=values, personal=name in PERSONAL_NAMES)


def count_column(
    name: str, minimum: float | None = 0, maximum: float | None = None, *, required: bool = False
) -> ColumnRule:
    return ColumnRule(name, "bigint", required=required, minimum=minimum, maximum=maximum)


def double_column(
    name: str, minimum: float | None = 0, maximum: float | None = None, *, required: bool = False
) -> ColumnRule:
    return ColumnRule(name, "double", required=required, minimum=minimum, maximum=maximum)


def money_column(
    name: str, minimum: float | None = 0, maximum: float | None = None, *, required: bool = False
) -> ColumnRule:
    return ColumnRule(name, "decimal(18,2)", required=required, minimum=minimum, maximum=maximum)


def time_column(
    name: str, *, required: bool = False, past: bool = False, not_before: tuple[str, ...] = ()
) -> ColumnRule:
    return ColumnRule(name, "timestamp", required=required, latest=PAST if past else None, not_before=not_before)


def date_column(name: str, *, required: bool = False, past: bool = False) -> ColumnRule:
    return ColumnRule(name, "date", required=required, latest=PAST if past else None)


def flag_column(name: str, *, required: bool = True) -> ColumnRule:
    return ColumnRule(name, "boolean", required=required)


_CURRENCY = (
    text_column("currency", required=True),
    ColumnRule("exchange_rate", "decimal(18,8)", required=True, minimum=0),
)
ACCOUNT = replace(text_column("account_id", required=True), orphan=ORPHAN)
_SOURCE = (text_column("source", required=True), text_column("stream", required=True))
_RULES = ("primary", "id", "domain", "name", "unmatched")
_KINDS = (
    *("signup", "contact_joined", "contact_left", "feature_first_used", "interaction", "survey_answered"),
    *("trial_started", "trial_converted", "trial_ended"),
    *(
        "subscription_started",
        "subscription_renewed",
        "plan_changed",
        "seats_changed",
        "price_changed",
        "subscription_ended",
    ),
    *("mrr_movement", "invoice_issued", "credit_note_issued", "invoice_paid_late", "invoice_overdue", "payment_failed"),
    *("ticket_opened", "ticket_solved"),
)
_STEPS = ("new", "expansion", "contraction", "churn", "completion", "reactivation")


def _waterfall_columns(*, required: bool) -> tuple[ColumnRule, ...]:
    """Without the ends of subscriptions, losses and what comes after them are not measured."""
    losses = ("contraction", "churn", "completion")
    return tuple(
        money_column(f"{step}_mrr", None, 0)
        if step in losses
        else money_column(f"{step}_mrr", required=required and step != "reactivation")
        for step in ("start", *_STEPS, "end")
    )


def _mart(name: str, key: tuple[str, ...], *columns: ColumnRule) -> TableRule:
    return TableRule(SCHEMA, name, columns, key)


_MOVED = " + ".join(f"{step}_mrr" for step in _STEPS)
_MEASURED = " + ".join(f"coalesce({step}_mrr, 0)" for step in _STEPS)

MARTS: tuple[Mart, ...] = (
    Mart(
        _mart(
            "accounts",
            ("account_id",),
            text_column("account_id", required=True),
            date_column("as_of_date", required=True),
            text_column("account_name"),
            text_column("domain"),
            text_column("industry"),
            text_column("segment"),
            text_column("country"),
            count_column("employees"),
            text_column("owner_id"),
            text_column("owner_name"),
            text_column("owner_email"),
            text_column("parent_account_id"),
            text_column("crm_account_id"),
            text_column("leading_source", required=True),
            count_column("account_sources", 1, required=True),
            text_column("sources", required=True),
            text_column("match_rule", required=True, values=_RULES),
            flag_column("is_derived"),
            time_column("created_at", required=True, past=True),
            text_column(
                "lifecycle_status", required=True, values=("customer", "churned", "completed", "trial", "prospect")
            ),
            flag_column("is_customer"),
            date_column("customer_since_date", past=True),
            date_column("churned_date", past=True),
            count_column("tenure_days"),
            text_column("plan"),
            text_column("products"),
            money_column("mrr"),
            money_column("arr"),
            count_column("running_subscriptions"),
            time_column("renews_at"),
            count_column("days_to_renewal"),
            flag_column("has_signed_renewal", required=False),
            time_column("next_started_at"),
            money_column("next_mrr"),
            count_column("seats"),
            double_column("seat_use_28d_pct"),
            count_column("events_28d"),
            count_column("events_prev_28d"),
            count_column("active_users_28d"),
            count_column("active_users_prev_28d"),
            count_column("active_days_28d", 0, 28),
            count_column("features_used_28d"),
            count_column("features_used_ever"),
            double_column("events_trend_28d_pct", -100),
            time_column("last_seen_at", past=True),
            count_column("days_since_last_seen"),
            count_column("tickets_open"),
            count_column("tickets_opened_90d"),
            count_column("oldest_open_ticket_days"),
            double_column("csat_avg_180d", 1, 5),
            double_column("nps_last_score", 0, 10),
            time_column("nps_last_at", past=True),
            money_column("invoiced_amount", None),
            money_column("unpaid_amount"),
            money_column("overdue_amount"),
            count_column("failed_payments_90d"),
            double_column("late_days_avg_365d"),
            time_column("last_invoice_at", past=True),
            time_column("last_touch_at", past=True),
            count_column("days_since_last_touch"),
            count_column("contacts"),
            count_column("champions"),
            flag_column("has_champion", required=False),
            *(
                flag_column(f"has_{family}_data")
                for family in ("contact", "subscription", "invoice", "usage", "ticket", "survey", "interaction")
            ),
            double_column("coverage_pct", 0, 100, required=True),
            *(
                time_column(f"{family}_fresh_at", past=True)
                for family in ("subscriptions", "invoices", "usage", "tickets", "surveys", "interactions")
            ),
        ),
        sums=(
            Sum(
                "mrr_of_subscriptions",
                "an account's MRR is the sum of its running subscriptions that are no trials",
                "select a.account_id as key, a.mrr as observed, coalesce(s.mrr, 0) as expected from marts.accounts as a"
                " left join (select account_id, sum(mrr) as mrr from marts.subscriptions"
                " where is_running and not is_trial group by account_id) as s on s.account_id = a.account_id",
            ),
            Sum(
                "mrr_of_movements",
                "an account's MRR is what its movements of MRR add up to",
                "select a.account_id as key, a.mrr as observed, coalesce(m.mrr, 0) as expected from marts.accounts as a"
                " left join (select account_id, sum(mrr_delta) as mrr from marts.mrr_movements group by account_id) as m"
                " on m.account_id = a.account_id",
            ),
            Sum(
                "arr",
                "ARR is twelve times MRR",
                "select account_id as key, arr as observed, 12 * mrr as expected from marts.accounts",
            ),
            Sum(
                "invoiced",
                "what an account was invoiced is the sum of its invoices, void ones left out two weeks after they were issued",
                "select a.account_id as key, a.invoiced_amount as observed, coalesce(i.amount, 0) as expected"
                " from marts.accounts as a left join (select account_id, sum(amount) as amount from marts.invoices"
                " where coalesce(status, 'open') <> 'void' or issued_at >= (select max(as_of_date) - 14 from marts.accounts)"
                " group by account_id) as i on i.account_id = a.account_id",
            ),
            Sum(
                "events_28d",
                "an account's uses of 28 days are those of its days",
                "select a.account_id as key, a.events_28d as observed, coalesce(d.events, 0) as expected from marts.accounts as a"
                " left join (select d.account_id, ceil(round(sum(d.events), 6)) as events from marts.account_days as d"
                " where d.activity_date >= (select max(as_of_date) - 28 from marts.accounts) group by d.account_id) as d"
                " on d.account_id = a.account_id",
            ),
        ),
        lasting=True,
    ),
    Mart(
        _mart(
            "account_sources",
            ("source", "source_account_id"),
            text_column("source", required=True),
            text_column("source_account_id", required=True),
            ACCOUNT,
            text_column("match_rule", required=True, values=_RULES),
            flag_column("is_merged"),
            flag_column("is_derived"),
            flag_column("is_primary_source"),
        ),
        sums=(
            Sum(
                "records",
                "an account has as many source records as it says",
                "select a.account_id as key, count(s.source) as observed, any_value(a.account_sources) as expected"
                " from marts.accounts as a left join marts.account_sources as s on s.account_id = a.account_id"
                " group by a.account_id",
            ),
        ),
    ),
    Mart(
        _mart(
            "contacts",
            ("source", "stream", "contact_id"),
            *_SOURCE,
            text_column("contact_id", required=True),
            ACCOUNT,
            text_column("email"),
            text_column("role"),
            flag_column("is_champion", required=False),
            time_column("created_at"),
            flag_column("is_unsubscribed", required=False),
            time_column("left_at", past=True),
            flag_column("is_active"),
        ),
        entity="contacts",
        lasting=True,
    ),
    Mart(
        _mart(
            "subscriptions",
            ("source", "stream", "subscription_id"),
            *_SOURCE,
            text_column("subscription_id", required=True),
            ACCOUNT,
            text_column("product"),
            text_column("plan"),
            count_column("seats"),
            money_column("mrr", required=True),
            money_column("arr", required=True),
            money_column("original_mrr", required=True),
            *_CURRENCY,
            time_column("started_at", required=True, past=True),
            time_column("ended_at", past=True, not_before=("started_at",)),
            text_column("end_reason"),
            flag_column("is_running"),
            flag_column("is_trial"),
            time_column("renews_at"),
            text_column("billing_interval"),
        ),
        sums=(
            Sum(
                "arr",
                "ARR is twelve times MRR",
                "select subscription_id as key, arr as observed, 12 * mrr as expected from marts.subscriptions",
            ),
        ),
        entity="subscriptions",
        lasting=True,
    ),
    Mart(
        _mart(
            "invoices",
            ("source", "stream", "invoice_id"),
            *_SOURCE,
            text_column("invoice_id", required=True),
            ACCOUNT,
            time_column("issued_at", required=True, past=True),
            time_column("due_at"),
            time_column("paid_at", past=True),
            money_column("amount", None, required=True),
            money_column("original_amount", None, required=True),
            *_CURRENCY,
            text_column("status"),
            count_column("failed_payments"),
            flag_column("is_unpaid", required=False),
            flag_column("is_overdue", required=False),
            count_column("late_days"),
        ),
        entity="invoices",
        lasting=True,
    ),
    Mart(
        _mart(
            "tickets",
            ("source", "stream", "ticket_id"),
            *_SOURCE,
            text_column("ticket_id", required=True),
            ACCOUNT,
            time_column("opened_at", required=True, past=True),
            time_column("first_response_at", past=True, not_before=("opened_at",)),
            time_column("solved_at", past=True, not_before=("opened_at",)),
            text_column("priority"),
            text_column("status"),
            double_column("csat", 1, 5),
            count_column("reopens"),
            flag_column("is_open", required=False),
            double_column("first_response_hours"),
            double_column("solution_hours"),
            text_column("subject"),
        ),
        entity="tickets",
        lasting=True,
    ),
    Mart(
        _mart(
            "mrr_movements",
            ("account_id", "movement_date"),
            ACCOUNT,
            date_column("movement_date", required=True, past=True),
            text_column("movement", required=True, values=_STEPS),
            money_column("mrr_delta", None, required=True),
            money_column("mrr_before", required=True),
            money_column("mrr_after", required=True),
        ),
        sums=(
            Sum(
                "step",
                "MRR before and the change add up to MRR after",
                "select account_id || ' ' || movement_date as key, mrr_after as observed,"
                " mrr_before + mrr_delta as expected from marts.mrr_movements",
            ),
            Sum(
                "chain",
                "MRR before is the MRR after the movement before",
                "select account_id || ' ' || movement_date as key, mrr_before as observed, coalesce(lag(mrr_after)"
                " over (partition by account_id order by movement_date), 0) as expected from marts.mrr_movements",
            ),
        ),
    ),
    Mart(
        _mart(
            "account_months",
            ("account_id", "month_start_date"),
            ACCOUNT,
            date_column("month_start_date", required=True, past=True),
            *_waterfall_columns(required=True),
            flag_column("is_logo_new"),
            flag_column("is_logo_reactivated", required=False),
            flag_column("is_logo_churned", required=False),
            flag_column("is_logo_completed", required=False),
        ),
        sums=(
            Sum(
                "waterfall",
                "MRR at the start and the month's movements add up to MRR at the end",
                "select account_id || ' ' || month_start_date as key, end_mrr as observed,"
                f" start_mrr + {_MOVED} as expected from marts.account_months",
            ),
            Sum(
                "chain",
                "MRR at the start is the MRR at the end of the month before",
                "select account_id || ' ' || month_start_date as key, start_mrr as observed, coalesce(lag(end_mrr)"
                " over (partition by account_id order by month_start_date), 0) as expected from marts.account_months",
            ),
            Sum(
                "movements",
                "the months' movements are those of mrr_movements",
                "select coalesce(a.account_id, m.account_id) as key, coalesce(a.moved, 0) as observed, coalesce(m.moved, 0) as expected"
                f" from (select account_id, sum({_MEASURED}) as moved from marts.account_months group by account_id) as a"
                " full join (select account_id, sum(mrr_delta) as moved from marts.mrr_movements group by account_id) as m"
                " on m.account_id = a.account_id",
            ),
        ),
    ),
    Mart(
        _mart(
            "months",
            ("month_start_date",),
            date_column("month_start_date", required=True, past=True),
            flag_column("is_complete"),
            *_waterfall_columns(required=False),
            count_column("customers_at_start"),
            count_column("customers_new"),
            count_column("customers_reactivated"),
            count_column("customers_churned"),
            count_column("customers_completed"),
            count_column("customers_at_end"),
            double_column("nrr_pct"),
            double_column("grr_pct", 0, 100),
            double_column("logo_churn_pct", 0, 100),
            money_column("invoiced_amount", None),
            count_column("invoiced_accounts"),
            count_column("active_accounts"),
        ),
        sums=(
            Sum(
                "waterfall",
                "MRR at the start and the month's movements add up to MRR at the end",
                "select cast(month_start_date as varchar) as key, end_mrr as observed,"
                f" start_mrr + {_MOVED} as expected from marts.months",
            ),
            Sum(
                "chain",
                "MRR at the start is the MRR at the end of the month before",
                "select cast(month_start_date as varchar) as key, start_mrr as observed, coalesce(lag(end_mrr)"
                " over (order by month_start_date), 0) as expected from marts.months",
            ),
            Sum(
                "accounts",
                "the company's MRR at the end of a month is that of its accounts",
                "select cast(m.month_start_date as varchar) as key, m.end_mrr as observed,"
                " coalesce(a.end_mrr, 0) as expected from marts.months as m left join (select month_start_date,"
                " sum(end_mrr) as end_mrr from marts.account_months group by month_start_date) as a"
                " on a.month_start_date = m.month_start_date",
            ),
            Sum(
                "invoices",
                "what was invoiced in a month is the sum of its invoices, void ones left out",
                "select cast(m.month_start_date as varchar) as key, m.invoiced_amount as observed,"
                " coalesce(i.amount, 0) as expected from marts.months as m left join ("
                "select cast(date_trunc('month', issued_at) as date) as month_start_date, sum(amount) as amount"
                " from marts.invoices where coalesce(status, 'open') <> 'void' group by all) as i"
                " on i.month_start_date = m.month_start_date",
            ),
        ),
    ),
    Mart(
        _mart(
            "account_days",
            ("account_id", "activity_date"),
            ACCOUNT,
            date_column("activity_date", required=True, past=True),
            double_column("events", 0, required=True),
            count_column("active_users"),
            double_column("quantity", None),
            time_column("last_event_at", past=True),
        ),
        entity="usage_events",
        lasting=True,
    ),
    Mart(
        _mart(
            "account_timeline",
            ("kind", "source", "reference_id", "account_id", "event_at"),
            ACCOUNT,
            time_column("event_at", required=True, past=True),
            text_column("kind", required=True, values=_KINDS),
            text_column("source"),
            text_column("reference_id", required=True),
            text_column("title"),
            money_column("amount", None),
        ),
    ),
    Mart(
        _mart(
            "source_freshness",
            ("source", "account_source", "entity"),
            text_column("source", required=True),
            text_column("account_source", required=True),
            text_column("entity", required=True),
            count_column("facts", required=True),
            time_column("newest_fact_at"),
            time_column("newest_load_at", required=True),
            count_column("newest_fact_days"),
        ),
    ),
)
