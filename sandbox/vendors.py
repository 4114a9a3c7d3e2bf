"""How each vendor writes its rows down: files, ids, units and date formats of their own.

Lives here: for every vendor object the SQL of its columns over the tables of `sandbox/records.py`, its file ending and the
ways in which its rows break. Must not live here: which rows are delivered when (`sandbox/delivery.py`).

In the SQL, `_at` is the instant as of which a row is told: `upto(x)` is x when it has happened by then, else NULL.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.faults import FAR_EPOCH, IMPOSSIBLE_DATE, JANUARY_1970, UNKNOWN_CRM_ID, UNKNOWN_HEX, Broken, null_key

CSV, CSV_ZSTD, JSONL_GZIP, PARQUET = "csv", "csv.zst", "jsonl.gz", "parquet"

MACROS = (
    "create macro iso(x) as strftime(x, '%Y-%m-%dT%H:%M:%SZ')",
    "create macro seconds(x) as cast(epoch(x) as bigint)",
)


@dataclass(frozen=True)
class Layout:
    """One object of one vendor.

    `columns` maps the vendor's column to SQL; `updated` is SQL for the last change as of `_at`, in UTC; `derived` are
    columns that both may use; `key` is the vendor's column that identifies a row.
    """

    vendor: str
    name: str
    ending: str
    columns: dict[str, str]
    updated: str = "_created"
    derived: dict[str, str] = field(default_factory=dict)
    broken: tuple[Broken, ...] = ()
    can_be_late: bool = False
    key: str = "id"

    @property
    def path(self) -> str:
        return f"{self.vendor}/{self.name}"


def _upto(moment: str) -> str:
    return f"case when {moment} < _at then {moment} end"


def _last(*changes: str) -> str:
    return f"greatest(_created, {', '.join(_upto(change) for change in changes)})"


_UNKNOWN_COMPANY = Broken("unknown_account", "unknown_account", {"company_id": f"'{UNKNOWN_CRM_ID}'"})
_UNKNOWN_CUSTOMER = Broken("unknown_account", "unknown_account", {"customer": f"'cus_{UNKNOWN_HEX}'"})
_FAR = f"{FAR_EPOCH}::bigint"

_TURNED = "date_trunc('month', least(ended, _at) - interval 1 microsecond - to_seconds(anchor))"
"""The month in which a monthly item last turned before `_at`: it turns `anchor` seconds into each month."""

_ATTEMPTS_MADE = "least(attempts - 1, cast(floor(date_diff('second', issued, _at) / (3 * 86400)) as bigint))"

LAYOUTS = (
    Layout(
        "crm",
        "companies",
        CSV,
        {
            "id": "_id",
            "name": "case when renamed < _at then new_name else name end",
            "domain": "domain",
            "industry": "industry",
            "country": "country",
            "numberofemployees": "cast(employees as varchar)",
            "segment": "segment",
            "parent_company_id": "parent",
            "owner_id": "case when handed_over < _at then next_owner else owner end",
            "createdate": "iso(_created)",
            "hs_lastmodifieddate": "iso(_updated)",
            "merged_into_id": "case when merged < _at then survivor end",
        },
        updated=_last("renamed", "handed_over", "merged"),
        broken=(
            null_key("id"),
            Broken("no_creation_date", "missing_value", {"createdate": "null"}),
            Broken("impossible_date", "impossible_date", {"createdate": f"'{IMPOSSIBLE_DATE}'"}),
            Broken("date_in_words", "impossible_date", {"createdate": "'last spring'"}),
            Broken("seconds_as_milliseconds", "impossible_date", {"createdate": f"'{JANUARY_1970}'"}),
        ),
    ),
    Layout(
        "crm",
        "contacts",
        CSV,
        {
            "id": "_id",
            "company_id": "company",
            "email": "email",
            "role": "role",
            "createdate": "iso(_created)",
            "hs_lastmodifieddate": "iso(_updated)",
            "unsubscribed": "cast(unsubscribed as varchar)",
            "left_company_date": f"iso({_upto('left_at')})",
        },
        updated=_last("left_at"),
        broken=(
            null_key("id"),
            null_key("company_id"),
            _UNKNOWN_COMPANY,
        ),
    ),
    Layout(
        "crm",
        "engagements",
        CSV,
        {
            "id": "_id",
            "company_id": "company",
            "contact_id": "contact",
            "type": "type",
            "direction": "direction",
            "timestamp": "cast(epoch_ms(happened) as varchar)",
            "subject": "subject",
            "body": "body",
        },
        broken=(
            null_key("company_id"),
            _UNKNOWN_COMPANY,
            Broken("no_timestamp", "missing_value", {"timestamp": "null"}),
            Broken("date_in_words", "impossible_date", {"timestamp": "'yesterday'"}),
        ),
        can_be_late=True,
    ),
    Layout(
        "billing",
        "customers",
        JSONL_GZIP,
        {
            "id": "_id",
            "name": "name",
            "email_domain": "domain",
            "created": "seconds(_created)",
            "metadata": "{'crm_id': case when relinked < _at then next_crm_id else crm_id end}",
            "updated": "seconds(_updated)",
        },
        updated=_last("relinked"),
        broken=(
            null_key("id"),
            Broken("no_creation_date", "missing_value", {"created": "null"}),
            Broken("far_future", "impossible_date", {"created": _FAR}),
        ),
    ),
    Layout(
        "billing",
        "subscriptions",
        JSONL_GZIP,
        {
            "id": "_id",
            "subscription": "subscription",
            "customer": "customer",
            "product": "product",
            "plan": "plan",
            "interval": "billing_interval",
            "quantity": "quantity",
            "mrr_cents": "mrr_cents",
            "start": "seconds(started)",
            "end": f"seconds({_upto('ended')})",
            "end_reason": "case when ended < _at then end_reason end",
            "current_period_end": "seconds(case when monthly then turned + interval 1 month + to_seconds(anchor)"
            " else term_end end)",
            "trial": "trial",
            "updated": "seconds(_updated)",
        },
        derived={"turned": _TURNED},
        updated="greatest(_created, case when ended < _at then ended when monthly then turned + to_seconds(anchor) end)",
        broken=(
            null_key("customer"),
            _UNKNOWN_CUSTOMER,
            Broken("no_mrr", "missing_value", {"mrr_cents": "null"}),
            Broken("negative_mrr", "out_of_range", {"mrr_cents": "-100 - mrr_cents"}),
            Broken("end_before_start", "end_before_start", {"end": "seconds(started) - 864000"}),
            Broken("far_future", "impossible_date", {"start": _FAR, "end": "null"}),
        ),
    ),
    Layout(
        "billing",
        "invoices",
        JSONL_GZIP,
        {
            "id": "_id",
            "customer": "customer",
            "created": "seconds(issued)",
            "due_date": "seconds(due)",
            "paid_at": f"seconds({_upto('paid')})",
            "amount_cents": "amount_cents",
            "status": "case when voided < _at then 'void' when paid < _at then 'paid'"
            " when written_off < _at then 'uncollectible' else 'open' end",
            # A transfer that is under way and an invoice that was voided have seen no attempt.
            "attempt_count": f"case when attempts > 1 then 1 + {_ATTEMPTS_MADE} when paid < _at then 1 else 0 end",
            "updated": "seconds(_updated)",
        },
        updated=f"greatest(_created, case when attempts > 1 then _created + {_ATTEMPTS_MADE} * interval 3 day end,"
        f" {_upto('paid')}, {_upto('voided')}, {_upto('written_off')})",
        broken=(
            null_key("customer"),
            _UNKNOWN_CUSTOMER,
            Broken("no_amount", "missing_value", {"amount_cents": "null"}),
            Broken("far_future", "impossible_date", {"created": _FAR}),
        ),
        can_be_late=True,
    ),
    Layout(
        "support",
        "organizations",
        CSV_ZSTD,
        {
            "id": "_id",
            "name": "name",
            "domain_names": "domain",
            "external_id": "case when relinked < _at then next_crm_id else crm_id end",
            "created_at": "iso(_created)",
            "updated_at": "iso(_updated)",
        },
        updated=_last("relinked"),
        broken=(
            null_key("id"),
            Broken("no_creation_date", "missing_value", {"created_at": "null"}),
            Broken("impossible_date", "impossible_date", {"created_at": f"'{IMPOSSIBLE_DATE} 10:00:00'"}),
        ),
    ),
    Layout(
        "support",
        "tickets",
        CSV_ZSTD,
        {
            "id": "_id",
            "organization_id": "organization",
            "created_at": "iso(opened)",
            "first_reply_at": f"iso({_upto('replied')})",
            "solved_at": f"iso({_upto('solved')})",
            "reopens": "cast(case when solved < _at then reopens else 0 end as varchar)",
            "priority": "priority",
            "status": "case when solved < _at then 'solved' when replied < _at then 'pending' else 'new' end",
            "satisfaction_score": "cast(case when rated < _at then csat end as varchar)",
            "subject": "subject",
            "description": "body",
            "updated_at": "iso(_updated)",
        },
        updated=_last("replied", "solved", "rated"),
        broken=(
            null_key("organization_id"),
            Broken("unknown_account", "unknown_account", {"organization_id": f"'{UNKNOWN_CRM_ID}'"}),
            Broken("impossible_date", "impossible_date", {"created_at": f"'{IMPOSSIBLE_DATE} 10:00:00'"}),
            Broken("no_creation_date", "missing_value", {"created_at": "null"}),
            Broken("date_in_words", "impossible_date", {"created_at": "'yesterday'"}),
            Broken("seconds_as_milliseconds", "impossible_date", {"created_at": f"'{JANUARY_1970}'"}),
        ),
        can_be_late=True,
    ),
    Layout(
        "product",
        "workspaces",
        PARQUET,
        {
            "id": "_id",
            "name": "name",
            "domain": "domain",
            "crm_id": "case when relinked < _at then next_crm_id else crm_id end",
            "created_at": "_created",
            "updated_at": "_updated",
        },
        updated=_last("relinked"),
        broken=(
            null_key("id"),
            Broken("no_creation_date", "missing_value", {"created_at": "null"}),
        ),
    ),
    Layout(
        "product",
        "surveys",
        PARQUET,
        {
            "id": "_id",
            "workspace_id": "workspace",
            "user_id": '"user"',
            "kind": "'nps'",
            "score": "score",
            "answered_at": "answered",
            "comment": "comment",
        },
        broken=(
            null_key("workspace_id"),
            Broken("unknown_account", "unknown_account", {"workspace_id": f"'ws_{UNKNOWN_HEX}'"}),
            Broken("no_score", "missing_value", {"score": "null"}),
            Broken("score_of_eleven", "out_of_range", {"score": "11.0"}),
        ),
    ),
)
OWNERS = Layout("crm", "owners", CSV, {})
EVENTS = Layout("product", "events", PARQUET, {}, key="event_id")
BY_NAME = {layout.name: layout for layout in (*LAYOUTS, OWNERS, EVENTS)}
