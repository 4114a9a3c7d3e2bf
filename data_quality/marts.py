"""What the published marts promise, as data.

Lives here: for each mart its columns with their types and limits, its key, and its sums that must agree. Must not live
here: how a promise is measured or judged (`published.py`).

A column that is missing here or there is found by a test that compares this list with the models' own description.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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

    `lasting` marks marts whose size must not collapse from one run to the next.
    """

    rule: TableRule
    sums: tuple[Sum, ...] = field(default=())
    entity: str | None = None
    lasting: bool = False

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


def _text(name: str, *, required: bool = False, values: tuple[str, ...] = ()) -> ColumnRule:
    return ColumnRule(name, "varchar", required=required, values=values, personal=name in PERSONAL_NAMES)


def _count(name: str, minimum: float | None = 0, maximum: float | None = None, *, required: bool = False) -> ColumnRule:
    return ColumnRule(name, "bigint", required=required, minimum=minimum, maximum=maximum)


def _double(
    name: str, minimum: float | None = 0, maximum: float | None = None, *, required: bool = False
) -> ColumnRule:
    return ColumnRule(name, "double", required=required, minimum=minimum, maximum=maximum)


def _money(name: str, minimum: float | None = 0, maximum: float | None = None, *, required: bool = False) -> ColumnRule:
    return ColumnRule(name, "decimal(18,2)", required=required, minimum=minimum, maximum=maximum)


def _time(name: str, *, required: bool = False, past: bool = False, not_before: tuple[str, ...] = ()) -> ColumnRule:
    return ColumnRule(name, "timestamp", required=required, latest=PAST if past else None, not_before=not_before)


def _date(name: str, *, required: bool = False, past: bool = False) -> ColumnRule:
    return ColumnRule(name, "date", required=required, latest=PAST if past else None)


def _flag(name: str, *, required: bool = True) -> ColumnRule:
    return ColumnRule(name, "boolean", required=required)


_ACCOUNT = replace(_text("account_id", required=True), orphan=ORPHAN)
_SOURCE = (_text("source", required=True), _text("stream", required=True))
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
    losses = ("contraction", "churn", "completion")
    return tuple(
        _money(f"{step}_mrr_usd", None, 0, required=required)
        if step in losses
        else _money(f"{step}_mrr_usd", required=required)
        for step in ("start", *_STEPS, "end")
    )


def _mart(name: str, key: tuple[str, ...], *columns: ColumnRule) -> TableRule:
    return TableRule(SCHEMA, name, columns, key)


_MOVED = " + ".join(f"{step}_mrr_usd" for step in _STEPS)

MARTS: tuple[Mart, ...] = (
    Mart(
        _mart(
            "accounts",
            ("account_id",),
            _text("account_id", required=True),
            _date("as_of_date", required=True),
            _text("account_name"),
            _text("domain"),
            _text("industry"),
            _text("segment"),
            _text("country"),
            _count("employees"),
            _text("owner_email"),
            _text("parent_account_id"),
            _text("crm_account_id"),
            _text("leading_source", required=True),
            _count("account_sources", 1, required=True),
            _text("sources", required=True),
            _text("match_rule", required=True, values=_RULES),
            _flag("is_derived"),
            _time("created_at", required=True, past=True),
            _text("lifecycle_status", required=True, values=("customer", "churned", "completed", "trial", "prospect")),
            _flag("is_customer"),
            _date("customer_since_date", past=True),
            _date("churned_date", past=True),
            _count("tenure_days"),
            _text("plan"),
            _text("products"),
            _money("mrr_usd"),
            _money("arr_usd"),
            _count("running_subscriptions"),
            _time("renews_at"),
            _count("days_to_renewal"),
            _count("seats"),
            _double("seat_use_pct"),
            _count("events_28d"),
            _count("events_prev_28d"),
            _count("active_users_28d"),
            _count("active_users_prev_28d"),
            _count("active_days_28d", 0, 28),
            _count("features_used_28d"),
            _count("features_used_ever"),
            _double("events_trend_pct", -100),
            _time("last_seen_at", past=True),
            _count("days_since_last_seen"),
            _count("tickets_open"),
            _count("tickets_opened_90d"),
            _count("oldest_open_ticket_days"),
            _double("csat_avg_180d", 1, 5),
            _double("nps_last_score", 0, 10),
            _time("nps_last_at", past=True),
            _money("invoiced_usd", None),
            _money("unpaid_usd"),
            _money("overdue_usd"),
            _count("failed_payments_90d"),
            _double("late_days_avg_365d"),
            _time("last_invoice_at", past=True),
            _time("last_touch_at", past=True),
            _count("days_since_last_touch"),
            _count("contacts"),
            _count("champions"),
            _flag("has_champion", required=False),
            *(
                _flag(f"has_{family}_data")
                for family in ("contact", "subscription", "invoice", "usage", "ticket", "survey", "interaction")
            ),
            _double("coverage_pct", 0, 100, required=True),
            *(
                _time(f"{family}_fresh_at", past=True)
                for family in ("subscriptions", "invoices", "usage", "tickets", "surveys", "interactions")
            ),
        ),
        sums=(
            Sum(
                "mrr_of_subscriptions",
                "an account's MRR is the sum of its running subscriptions that are no trials",
                "select a.account_id as key, a.mrr_usd as observed, coalesce(s.mrr_usd, 0) as expected from marts.accounts as a"
                " left join (select account_id, sum(mrr_usd) as mrr_usd from marts.subscriptions"
                " where is_running and not is_trial group by account_id) as s on s.account_id = a.account_id",
            ),
            Sum(
                "mrr_of_movements",
                "an account's MRR is what its movements of MRR add up to",
                "select a.account_id as key, a.mrr_usd as observed, coalesce(m.mrr_usd, 0) as expected from marts.accounts as a"
                " left join (select account_id, sum(mrr_delta_usd) as mrr_usd from marts.mrr_movements group by account_id) as m"
                " on m.account_id = a.account_id",
            ),
            Sum(
                "arr",
                "ARR is twelve times MRR",
                "select account_id as key, arr_usd as observed, 12 * mrr_usd as expected from marts.accounts",
            ),
            Sum(
                "invoiced",
                "what an account was invoiced is the sum of its invoices, void ones left out",
                "select a.account_id as key, a.invoiced_usd as observed, coalesce(i.amount_usd, 0) as expected"
                " from marts.accounts as a left join (select account_id, sum(amount_usd) as amount_usd from marts.invoices"
                " where coalesce(status, 'open') <> 'void' group by account_id) as i on i.account_id = a.account_id",
            ),
            Sum(
                "events_28d",
                "an account's events of 28 days are those of its days",
                "select a.account_id as key, a.events_28d as observed, coalesce(d.events, 0) as expected from marts.accounts as a"
                " left join (select d.account_id, sum(d.events) as events from marts.account_days as d"
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
            _text("source", required=True),
            _text("source_account_id", required=True),
            _ACCOUNT,
            _text("match_rule", required=True, values=_RULES),
            _flag("is_merged"),
            _flag("is_derived"),
            _flag("is_primary_source"),
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
            _text("contact_id", required=True),
            _ACCOUNT,
            _text("email"),
            _text("role"),
            _flag("is_champion"),
            _time("created_at"),
            _flag("is_unsubscribed", required=False),
            _time("left_at", past=True),
            _flag("is_active"),
        ),
        entity="contacts",
        lasting=True,
    ),
    Mart(
        _mart(
            "subscriptions",
            ("source", "stream", "subscription_id"),
            *_SOURCE,
            _text("subscription_id", required=True),
            _ACCOUNT,
            _text("product"),
            _text("plan"),
            _count("seats"),
            _money("mrr_usd", required=True),
            _money("arr_usd", required=True),
            _time("started_at", required=True, past=True),
            _time("ended_at", past=True, not_before=("started_at",)),
            _text("end_reason"),
            _flag("is_running"),
            _flag("is_trial"),
            _time("renews_at"),
            _text("billing_interval"),
        ),
        sums=(
            Sum(
                "arr",
                "ARR is twelve times MRR",
                "select subscription_id as key, arr_usd as observed, 12 * mrr_usd as expected from marts.subscriptions",
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
            _text("invoice_id", required=True),
            _ACCOUNT,
            _time("issued_at", required=True, past=True),
            _time("due_at"),
            _time("paid_at", past=True),
            _money("amount_usd", None, required=True),
            _text("status"),
            _count("failed_payments"),
            _flag("is_unpaid"),
            _flag("is_overdue"),
            _count("late_days"),
        ),
        entity="invoices",
        lasting=True,
    ),
    Mart(
        _mart(
            "tickets",
            ("source", "stream", "ticket_id"),
            *_SOURCE,
            _text("ticket_id", required=True),
            _ACCOUNT,
            _time("opened_at", required=True, past=True),
            _time("first_response_at", past=True, not_before=("opened_at",)),
            _time("solved_at", past=True, not_before=("opened_at",)),
            _text("priority"),
            _text("status"),
            _double("csat", 1, 5),
            _count("reopens"),
            _flag("is_open"),
            _double("first_response_hours"),
            _double("solution_hours"),
            _text("subject"),
        ),
        entity="tickets",
        lasting=True,
    ),
    Mart(
        _mart(
            "mrr_movements",
            ("account_id", "movement_date"),
            _ACCOUNT,
            _date("movement_date", required=True, past=True),
            _text("movement", required=True, values=_STEPS),
            _money("mrr_delta_usd", None, required=True),
            _money("mrr_before_usd", required=True),
            _money("mrr_after_usd", required=True),
        ),
        sums=(
            Sum(
                "step",
                "MRR before and the change add up to MRR after",
                "select account_id || ' ' || movement_date as key, mrr_after_usd as observed,"
                " mrr_before_usd + mrr_delta_usd as expected from marts.mrr_movements",
            ),
            Sum(
                "chain",
                "MRR before is the MRR after the movement before",
                "select account_id || ' ' || movement_date as key, mrr_before_usd as observed, coalesce(lag(mrr_after_usd)"
                " over (partition by account_id order by movement_date), 0) as expected from marts.mrr_movements",
            ),
        ),
    ),
    Mart(
        _mart(
            "account_months",
            ("account_id", "month_start_date"),
            _ACCOUNT,
            _date("month_start_date", required=True, past=True),
            *_waterfall_columns(required=True),
            _flag("is_logo_new"),
            _flag("is_logo_reactivated"),
            _flag("is_logo_churned"),
            _flag("is_logo_completed"),
        ),
        sums=(
            Sum(
                "waterfall",
                "MRR at the start and the month's movements add up to MRR at the end",
                "select account_id || ' ' || month_start_date as key, end_mrr_usd as observed,"
                f" start_mrr_usd + {_MOVED} as expected from marts.account_months",
            ),
            Sum(
                "chain",
                "MRR at the start is the MRR at the end of the month before",
                "select account_id || ' ' || month_start_date as key, start_mrr_usd as observed, coalesce(lag(end_mrr_usd)"
                " over (partition by account_id order by month_start_date), 0) as expected from marts.account_months",
            ),
            Sum(
                "movements",
                "the months' movements are those of mrr_movements",
                "select coalesce(a.account_id, m.account_id) as key, coalesce(a.moved, 0) as observed, coalesce(m.moved, 0) as expected"
                f" from (select account_id, sum({_MOVED}) as moved from marts.account_months group by account_id) as a"
                " full join (select account_id, sum(mrr_delta_usd) as moved from marts.mrr_movements group by account_id) as m"
                " on m.account_id = a.account_id",
            ),
        ),
    ),
    Mart(
        _mart(
            "months",
            ("month_start_date",),
            _date("month_start_date", required=True, past=True),
            _flag("is_complete"),
            *_waterfall_columns(required=False),
            _count("customers_at_start"),
            _count("customers_new"),
            _count("customers_reactivated"),
            _count("customers_churned"),
            _count("customers_completed"),
            _count("customers_at_end"),
            _double("nrr_pct"),
            _double("grr_pct", 0, 100),
            _double("logo_churn_pct", 0, 100),
            _money("invoiced_usd", None),
            _count("invoiced_accounts"),
            _count("active_accounts"),
        ),
        sums=(
            Sum(
                "waterfall",
                "MRR at the start and the month's movements add up to MRR at the end",
                "select cast(month_start_date as varchar) as key, end_mrr_usd as observed,"
                f" start_mrr_usd + {_MOVED} as expected from marts.months",
            ),
            Sum(
                "chain",
                "MRR at the start is the MRR at the end of the month before",
                "select cast(month_start_date as varchar) as key, start_mrr_usd as observed, coalesce(lag(end_mrr_usd)"
                " over (order by month_start_date), 0) as expected from marts.months",
            ),
            Sum(
                "accounts",
                "the company's MRR at the end of a month is that of its accounts",
                "select cast(m.month_start_date as varchar) as key, m.end_mrr_usd as observed,"
                " coalesce(a.end_mrr_usd, 0) as expected from marts.months as m left join (select month_start_date,"
                " sum(end_mrr_usd) as end_mrr_usd from marts.account_months group by month_start_date) as a"
                " on a.month_start_date = m.month_start_date",
            ),
            Sum(
                "invoices",
                "what was invoiced in a month is the sum of its invoices, void ones left out",
                "select cast(m.month_start_date as varchar) as key, m.invoiced_usd as observed,"
                " coalesce(i.amount_usd, 0) as expected from marts.months as m left join ("
                "select cast(date_trunc('month', issued_at) as date) as month_start_date, sum(amount_usd) as amount_usd"
                " from marts.invoices where coalesce(status, 'open') <> 'void' group by all) as i"
                " on i.month_start_date = m.month_start_date",
            ),
        ),
    ),
    Mart(
        _mart(
            "account_days",
            ("account_id", "activity_date"),
            _ACCOUNT,
            _date("activity_date", required=True, past=True),
            _count("events", 1, required=True),
            _count("active_users"),
            _double("quantity", None),
            _time("last_event_at", past=True),
        ),
        entity="usage_events",
        lasting=True,
    ),
    Mart(
        _mart(
            "account_timeline",
            ("kind", "source", "reference_id", "account_id", "event_at"),
            _ACCOUNT,
            _time("event_at", required=True, past=True),
            _text("kind", required=True, values=_KINDS),
            _text("source"),
            _text("reference_id", required=True),
            _text("title"),
            _money("amount_usd", None),
        ),
    ),
    Mart(
        _mart(
            "source_freshness",
            ("source", "account_source", "entity"),
            _text("source", required=True),
            _text("account_source", required=True),
            _text("entity", required=True),
            _count("facts", required=True),
            _time("newest_fact_at"),
            _time("newest_load_at", required=True),
            _count("newest_fact_days"),
        ),
    ),
)
