"""Zendesk Support: organizations, users and tickets, by incremental exports.

Lives here: Zendesk's paths, cursors, limits, fields and error bodies. Must not live here: loops, retries, what is kept
(`api.py`), which field becomes which column (`zendesk.yml`).

The pages of Zendesk's documentation behind the rules (developer.zendesk.com):
- "Incremental Exports": 10 requests a minute for all of them together, `Retry-After`; cursor-based for tickets and users
  (`start_time` once, then `cursor`; `after_cursor`, `end_of_stream`), time-based for organizations (`start_time`, `end_time`).
- "Using the Incremental Exports API": what changed within the last minute is left out; time-based pages may repeat records;
  deleted tickets come with the status `deleted` and scrubbed; up to 1,000 records a page.
- "Ticket metrics": `reply_time_in_minutes`, `reopens`, `solved_at`; side-loaded as `metric_sets`.
- "Security and authentication": `{email}/token:{api token}` as basic authentication, or an OAuth access token with `read`.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

from core.http import Answer, Client, document_of, documents_in, secure
from core.settings import ApiSource, SourceConfig, ZendeskSource
from sources.api import Access, ApiStream, Ask, Document, Page, Position, Record, Resource, Vendor, limiter, moment
from sources.base import StreamId

PAGE_ROWS = 1000
REQUESTS_A_MINUTE = 200
"""What the smallest plan allows in all; exports have a limit of their own besides."""


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: object) -> ApiStream:
    """The connector's door; see `sources.base.Opener`."""
    assert isinstance(source, ApiSource)
    return ApiStream(stream, source, ZENDESK, now=now)


def _organizations(ask: Ask) -> Page:
    """Pages by time: the next one begins at the moment at which this one ended, and may repeat its last records."""
    began = ask.position.get("start_time", _start(ask))
    document = _export(ask, "organizations", "organizations", start_time=began)
    ended, found = document.get("end_time") or began, document["organizations"]
    # Older accounts are told of the end by a page that is not full.
    is_end = bool(document.get("end_of_stream", len(found) < PAGE_ROWS))
    return Page(
        [one for one in found if not one.get("deleted_at")],
        {"start_time": ended},
        is_end,
        gone=[(one, moment(one.get("deleted_at"))) for one in found if one.get("deleted_at")],
    )


def _users(ask: Ask) -> Page:
    """End users of an organization are contacts. Whoever is none (any more) is gone: deleted, an agent, or of no organization."""
    document, position, is_end = _by_cursor(ask, "users")
    found = document["users"]
    contacts = [one for one in found if _is_contact(one)]
    gone = [(one, moment(one.get("updated_at"))) for one in found if not _is_contact(one)]
    return Page(contacts, position, is_end, gone=gone)


def _is_contact(user: Record) -> bool:
    return bool(user.get("active", True) and user.get("organization_id") and user.get("role", "end-user") == "end-user")


def _tickets(ask: Ask) -> Page:
    """Tickets with their metrics, which come in a list of their own or inside each ticket."""
    document, position, is_end = _by_cursor(ask, "tickets", include="metric_sets")
    metrics = {one.get("ticket_id"): one for one in documents_in(document, "metric_sets")}
    found = [
        _with_metrics(one, one.get("metric_set") or metrics.get(one.get("id")) or {}) for one in document["tickets"]
    ]
    return Page(
        [one for one in found if one.get("status") != "deleted"],
        position,
        is_end,
        gone=[(one, moment(one.get("updated_at"))) for one in found if one.get("status") == "deleted"],
    )


def _with_metrics(ticket: Record, metrics: Record) -> Record:
    rating = ticket.get("satisfaction_rating")
    return {
        **{name: value for name, value in ticket.items() if name != "metric_set"},
        "first_reply_minutes": _calendar(metrics.get("reply_time_in_minutes")),
        "first_reply_seconds": _calendar(metrics.get("reply_time_in_seconds")),
        "solved_at": metrics.get("solved_at"),
        "reopens": metrics.get("reopens"),
        "satisfaction_score": rating.get("score") if isinstance(rating, dict) else None,
    }


def _calendar(duration: Any) -> Any:
    return duration.get("calendar") if isinstance(duration, dict) else None


def _by_cursor(ask: Ask, name: str, **params: Any) -> tuple[Document, Position, bool]:
    cursor = ask.position.get("cursor")
    asked = {"cursor": cursor} if cursor else {"start_time": _start(ask)}
    document = _export(ask, f"{name}/cursor", name, **asked, **params)
    after = document.get("after_cursor") or cursor
    return document, {"cursor": after} if after else {}, bool(document.get("end_of_stream", not after))


def _export(ask: Ask, path: str, name: str, **params: Any) -> Document:
    assert isinstance(ask.source, ZendeskSource)
    exports = limiter(f"{_address(ask.source)} exports", ask.source.exports_per_minute, 60.0)
    return ask.api.get(f"/api/v2/incremental/{path}.json", holds=name, limiter=exports, per_page=PAGE_ROWS, **params)


def _start(ask: Ask) -> int:
    return 0 if ask.since is None else int(ask.since.replace(tzinfo=UTC).timestamp())


def _address(source: ZendeskSource) -> str:
    return secure(source.base_url or f"https://{source.subdomain}.zendesk.com")


def _connect(source: ZendeskSource) -> Access:
    token = source.token.get_secret_value()
    by_agent = f"Basic {b64encode(f'{source.email}/token:{token}'.encode()).decode()}"
    header = {"Authorization": by_agent if source.email else f"Bearer {token}"}
    address = _address(source)
    return Access(
        Client(
            address,
            headers=lambda: header,
            limiter=limiter(address, REQUESTS_A_MINUTE, 60.0),
            timeout=source.timeout_seconds,
        )
    )


def _told(answer: Answer) -> str | None:
    """`error` is a word or an object with a title; `description` and `message` are sentences."""
    document = document_of(answer)
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    said = error.get("message") or error.get("title") if isinstance(error, dict) else error
    return ": ".join(str(part) for part in (said, document.get("description")) if part) or None


def _quota(answer: Answer) -> str | None:
    left, limit = answer.headers.get("x-rate-limit-remaining"), answer.headers.get("x-rate-limit")
    return f"{left} of {limit} requests left this minute" if left and limit else None


ZENDESK = Vendor(
    name="zendesk",
    connect=_connect,
    credential="`email` and `token` (an API token), or `token` alone (an OAuth access token with the scope read)",
    told=_told,
    quota=_quota,
    resources={
        "organizations": Resource(
            fields={
                "id": "text",
                "name": "text",
                "domain_names": "json",
                "external_id": "text",
                "organization_fields": "json",
                "tags": "json",
                "created_at": "text",
                "updated_at": "text",
            },
            read=_organizations,
            scope="an administrator's token, with the scope read (or organizations:read)",
        ),
        "users": Resource(
            fields={
                "id": "text",
                "organization_id": "text",
                "email": "text",
                "role": "text",
                "user_fields": "json",
                "created_at": "text",
                "updated_at": "text",
            },
            read=_users,
            scope="an administrator's token, with the scope read (or users:read)",
        ),
        "tickets": Resource(
            fields={
                "id": "text",
                "organization_id": "text",
                "subject": "text",
                "description": "text",
                "priority": "text",
                "status": "text",
                "type": "text",
                "tags": "json",
                "custom_fields": "json",
                "satisfaction_score": "text",
                "first_reply_minutes": "integer",
                "first_reply_seconds": "integer",
                "reopens": "integer",
                "solved_at": "text",
                "created_at": "text",
                "updated_at": "text",
            },
            read=_tickets,
            scope="an administrator's token, with the scope read (or tickets:read)",
        ),
    },
)
