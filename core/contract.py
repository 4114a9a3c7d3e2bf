"""The customer data contract: the entities that every connector ends in.

Lives here: entities, their columns, types, keys and row rules, as data. Must not live here: SQL that loads or models them
(`sources/`, `models/`), or anything vendor-specific.

Money is in the fact's own currency as DECIMAL(18,2); timestamps are UTC without a zone; an `id` is text, written one way whatever type
the source keeps it in (`sources/texts.py`), so that the ids of two streams can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["text", "id", "integer", "double", "money", "timestamp", "boolean"]

SQL_TYPES: dict[ColumnType, str] = {
    "text": "varchar",
    "id": "varchar",
    "integer": "bigint",
    "double": "double",
    "money": "decimal(18,2)",
    "timestamp": "timestamp",
    "boolean": "boolean",
}


@dataclass(frozen=True)
class Column:
    """One column of an entity.

    `minimum` and `maximum` are inclusive; `future` says that a date after loading is legitimate; `means` are words that have a
    meaning in this column though they stand for a missing value elsewhere, in lower case; `word` says that the models read a
    meaning from the text, whatever its case and the blanks around it.
    """

    name: str
    type: ColumnType
    description: str
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    future: bool = False
    personal: bool = False
    means: tuple[str, ...] = ()
    word: bool = False

    @property
    def sql_type(self) -> str:
        return SQL_TYPES[self.type]


@dataclass(frozen=True)
class Entity:
    """One entity of the contract.

    `key` identifies a row within a source; `happened_at` is the column that says when the fact happened;
    `ordered` lists pairs of columns (earlier, later) that must not be in the wrong order; `ended_at` is the column that says
    that it is over, for rows which then stay: what happened did happen. `user` is the column with the product's user, who may
    tell the account where the row itself does not (entity memberships).
    """

    name: str
    description: str
    key: str
    columns: tuple[Column, ...]
    happened_at: str
    ordered: tuple[tuple[str, str], ...] = ()
    key_is_optional: bool = False
    ended_at: str | None = None
    user: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The columns whose texts have a meaning."""
        return tuple(c.name for c in self.columns if c.word)

    @property
    def has_currency(self) -> bool:
        """Whether it holds money, which has a currency."""
        return "currency" in self.column_names

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


def _text(
    name: str,
    description: str,
    *,
    required: bool = False,
    personal: bool = False,
    means: tuple[str, ...] = (),
    word: bool = False,
) -> Column:
    return Column(name, "text", description, required=required, personal=personal, means=means, word=word)


def _id(name: str, description: str, *, required: bool = False) -> Column:
    return Column(name, "id", description, required=required)


def _time(name: str, description: str, *, required: bool = False, future: bool = False) -> Column:
    return Column(name, "timestamp", description, required=required, future=future)


_ACCOUNT = _id("account_id", "The account, by the id of the source whose accounts it refers to", required=True)
_CURRENCY = Column("currency", "text", "ISO 4217 code of its amount; without one, the reporting currency")

ENTITIES: dict[str, Entity] = {
    entity.name: entity
    for entity in (
        Entity(
            "accounts",
            "A company (or person) that is or may become a customer",
            key="account_id",
            happened_at="created_at",
            columns=(
                _id("account_id", "The account's id in its source", required=True),
                _text("name", "Name of the company", personal=True),
                _text("domain", "Web or e-mail domain, used for matching", personal=True),
                _text("industry", "Industry as the source names it"),
                _text("segment", "Sales segment, such as SMB, mid-market, enterprise"),
                _text("country", "Country; stable over time", means=("na",)),  # the code of Namibia
                Column("employees", "integer", "Number of employees", minimum=0),
                _id("parent_account_id", "The parent company's id in the same source"),
                _id("owner_id", "Id of the account owner in the source, such as the number of a CRM user"),
                _text("owner_name", "Name of the account owner", personal=True),
                _text("owner_email", "E-mail address of the account owner", personal=True),
                _time("created_at", "When the source created the account; stable over time", required=True),
                _id("crm_account_id", "Id of the same account in a source of higher precedence, usually the CRM"),
                _id("merged_into_account_id", "The account of the same source that this one was merged into"),
                _time("updated_at", "When the source last changed the row"),
            ),
        ),
        Entity(
            "contacts",
            "A person at an account",
            key="contact_id",
            happened_at="created_at",
            ended_at="left_at",
            user="contact_id",
            columns=(
                _id("contact_id", "The contact's id in its source", required=True),
                _ACCOUNT,
                _text("email", "E-mail address", personal=True),
                _text("role", "Role at the customer, such as champion, admin, executive", word=True),
                _time("created_at", "When the contact was created"),
                Column("is_unsubscribed", "boolean", "Whether the contact refuses e-mail"),
                _time("left_at", "When the contact left the company"),
                _time("updated_at", "When the source last changed the row"),
            ),
        ),
        Entity(
            "subscriptions",
            "A period in which an account pays one price for one product; a change of plan or seats ends a row and starts another",
            key="subscription_id",
            happened_at="started_at",
            ended_at="ended_at",
            ordered=(("started_at", "ended_at"),),
            columns=(
                _id(
                    "subscription_id",
                    "Id of the subscription, or of its period where the source keeps periods",
                    required=True,
                ),
                _ACCOUNT,
                _text("product", "Product sold"),
                _text("plan", "Plan or price name"),
                Column("seats", "integer", "Seats bought", minimum=0),
                Column(
                    "mrr", "money", "Monthly recurring revenue, in the currency of the row", required=True, minimum=0
                ),
                _CURRENCY,
                _time("started_at", "Start of the period, inclusive", required=True, future=True),
                _time("ended_at", "End of the period, exclusive; NULL while it runs", future=True),
                _text("end_reason", "Why it ended; completed and migrated are no churn", word=True),
                _time("renews_at", "Next renewal", future=True),
                _time(
                    "term_ends_at",
                    "End of the term as agreed at the start of the period, whatever became of it",
                    future=True,
                ),
                _time(
                    "discount_ends_at",
                    "End of a discount as agreed at the start of the period, whatever became of it; NULL without one that ends",
                    future=True,
                ),
                _text("billing_interval", "month or year", word=True),
                Column("is_trial", "boolean", "Whether it is a trial; trials carry no MRR"),
                _time("updated_at", "When the source last changed the row"),
            ),
        ),
        Entity(
            "invoices",
            "A bill to an account; a credit note has a negative amount",
            key="invoice_id",
            happened_at="issued_at",
            columns=(
                _id("invoice_id", "The invoice's id in its source", required=True),
                _ACCOUNT,
                _time("issued_at", "When it was issued", required=True),
                _time("due_at", "When it is due", future=True),
                _time("paid_at", "When it was paid"),
                Column("amount", "money", "Amount, in the currency of the row", required=True),
                _CURRENCY,
                _text("status", "paid, open, void or uncollectible", word=True),
                Column("failed_payments", "integer", "Payment attempts that failed", minimum=0),
                _time("updated_at", "When the source last changed the row"),
            ),
        ),
        Entity(
            "usage_events",
            "Something a user did in the product",
            key="event_id",
            key_is_optional=True,
            happened_at="occurred_at",
            user="user_id",
            columns=(
                _id("event_id", "The event's id; without ids a changed file replaces its own rows"),
                _ACCOUNT,
                _id("user_id", "The user, by the product's id"),
                _text("event_name", "Feature or action", required=True),
                _time("occurred_at", "When it happened", required=True),
                Column(
                    "quantity",
                    "double",
                    "How much, in the event's own unit; where event_count is not given, how many uses the row stands for",
                ),
                Column(
                    "event_count",
                    "double",
                    "How many uses the row stands for; 1 where a quantity is a size, not a count",
                ),
                _text("product", "Product in which it happened"),
            ),
        ),
        Entity(
            "tickets",
            "A support request",
            key="ticket_id",
            happened_at="opened_at",
            ordered=(("opened_at", "first_response_at"), ("opened_at", "solved_at")),
            columns=(
                _id("ticket_id", "The ticket's id in its source", required=True),
                _ACCOUNT,
                _time("opened_at", "When it was opened", required=True),
                _time("first_response_at", "First answer by support"),
                _time("solved_at", "When it was solved; NULL while open"),
                _text("priority", "low, normal, high or urgent, as the source names it", word=True),
                _text("status", "Status as the source names it", word=True),
                Column("csat", "double", "Satisfaction with the ticket, 1 (bad) to 5 (good)", minimum=1, maximum=5),
                Column("reopens", "integer", "How often it was opened again", minimum=0),
                _text("subject", "Subject line", personal=True),
                _text("body", "Text of the request", personal=True),
                _time("updated_at", "When the source last changed the row"),
            ),
        ),
        Entity(
            "survey_responses",
            "An answer to a survey",
            key="response_id",
            happened_at="responded_at",
            user="contact_id",
            columns=(
                _id("response_id", "The answer's id in its source", required=True),
                _ACCOUNT,
                _id("contact_id", "Who answered"),
                _text("kind", "nps, csat or ces", word=True),
                Column("score", "double", "Score; NPS 0 to 10", required=True, minimum=0, maximum=10),
                _time("responded_at", "When it was answered", required=True),
                _text("comment", "Free text", personal=True),
            ),
        ),
        Entity(
            "interactions",
            "A touch between the team and the account",
            key="interaction_id",
            happened_at="occurred_at",
            columns=(
                _id("interaction_id", "The interaction's id in its source", required=True),
                _ACCOUNT,
                _id("contact_id", "The contact involved"),
                _text("channel", "email, meeting, call or note", word=True),
                _text("direction", "inbound or outbound", word=True),
                _time("occurred_at", "When it happened, or is planned to happen", required=True, future=True),
                _text("subject", "Subject line", personal=True),
                _text("body", "Text", personal=True),
            ),
        ),
        Entity(
            "memberships",
            "What tells who a user of the product is: the account that they belong to from a moment on, or the id they are known by",
            key="membership_id",
            happened_at="since_at",
            columns=(
                _id("membership_id", "Id of the statement in its source", required=True),
                _id("account_id", "The account that the user belongs to from then on"),
                _id("user_id", "The user, by the product's id; it may be that of a visitor", required=True),
                _id("known_as", "The id of the same user once they have told who they are"),
                _time("since_at", "When it was said", required=True),
            ),
        ),
    )
}

ACCOUNT_REFERENCES = ("account_id", "parent_account_id", "crm_account_id", "merged_into_account_id")
"""Columns that name an account. What an erasure covers follows from these and from the columns marked as personal."""
PERSON_REFERENCES = ("contact_id", "user_id", "known_as")
"""Columns that name a person: at a customer, or as a user of the product."""
STAFF_REFERENCES = ("owner_id",)
"""Columns that name a person of the company itself: no customer's data."""

LOADING_ONLY = ("memberships",)
"""Entities that only loading reads: they tell the accounts of other rows, and no model asks for them."""

FACT_ENTITIES = ("subscriptions", "invoices", "usage_events")
"""At least one of these must be configured, besides accounts or a way to derive them."""
