"""Zendesk Support: organizations, users, tickets and what is said in them, by incremental exports; and satisfaction ratings.

Lives here: Zendesk's paths, cursors, limits, fields and error bodies. Must not live here: loops, retries, what is kept
(`api.py`), which field becomes which column (`zendesk.yml`).

The pages of Zendesk's documentation behind the rules (developer.zendesk.com):
- "Incremental Exports": 10 requests a minute for all of them together, `Retry-After`; cursor-based for tickets and users
  (`start_time` once, then `cursor`; `after_cursor`, `end_of_stream`), time-based for organizations and ticket events
  (`start_time`, `end_time`); these have the comments with `include=comment_events`.
- "Using the Incremental Exports API": what changed within the last minute is left out; time-based pages may repeat records;
  deleted tickets come with the status `deleted` and scrubbed; up to 1,000 records a page.
- "Ticket audit events reference": the types `Comment` and `VoiceComment`; `CommentPrivacyChange`, by which a public comment
  becomes a private one.
- "Satisfaction Ratings": `score=received`, `start_time`, pages by cursor; the older of Zendesk's two surveys of satisfaction.
- "Show Multiple Tickets", "Show Many Users": 100 ids a request.
- "Ticket metrics": `reply_time_in_minutes`, `reopens`, `solved_at`; side-loaded as `metric_sets`.
- "Security and authentication": `{email}/token:{api token}` as basic authentication, or an OAuth access token with `read`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from core.errors import Retriable
from core.http import Answer, document_of, documents_in, secure
from core.source_settings import ApiSource, SourceConfig, ZendeskSource
from sources.api import (
    Access,
    ApiStream,
    Ask,
    Document,
    Page,
    Position,
    Record,
    Resource,
    Vendor,
    access,
    is_ahead,
    limiter,
    moment,
    unix_seconds,
)
from sources.base import StreamId

PAGE_ROWS = 1000
LISTED_ROWS = 100
"""What a page of a list holds, and how many records may be asked for by their ids."""
REQUESTS_A_MINUTE = 200
"""What the smallest plan allows in all; exports have a limit of their own besides."""
SAID = ("Comment", "VoiceComment")
HIDDEN = "CommentPrivacyChange"
INBOUND, OUTBOUND = "inbound", "outbound"
MAY_CHANGE = timedelta(days=28)
"""How long after it a rating is looked at again: a solved ticket is closed after 28 days at the latest, and takes no rating then."""


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: object) -> ApiStream:
    """The connector's door; see `sources.base.Opener`."""
    assert isinstance(source, ApiSource)
    return ApiStream(stream, source, ZENDESK, now=now)


def _organizations(ask: Ask) -> Page:
    """Organizations; one that is deleted says so."""
    document, position, is_end = _by_time(ask, "organizations")
    found = document["organizations"]
    return Page(
        [one for one in found if not one.get("deleted_at")],
        position,
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


def _comments(ask: Ask) -> Page:
    """What is said in tickets, and seen by both sides. A private note is no touch with the customer: it is gone, also one that
    was public before; so is what Zendesk itself says, and what was said in a ticket that is deleted.
    """
    document, position, is_end = _by_time(ask, "ticket_events", include="comment_events")
    # Of one comment the later event of the page holds.
    said = {one["id"]: one for event in document["ticket_events"] for one in _said(event)}
    seen = [one for one in said.values() if one.get("public") and int(one.get("author_id") or 0) > 0]
    tickets = _by_id(ask, "tickets", (one.get("ticket_id") for one in seen))
    roles = _roles(ask, (one["author_id"] for one in seen))
    shown = {one["id"]: one for one in seen if str(one.get("ticket_id")) in tickets}
    return Page(
        [_shown(one, tickets[str(one["ticket_id"])], roles.get(str(one["author_id"]))) for one in shown.values()],
        position,
        is_end,
        gone=[(one, moment(one.get("created_at"))) for key, one in said.items() if key not in shown],
    )


def _said(event: Record) -> Iterator[Document]:
    """The comments of an event, oldest first, with what only the event tells; one that becomes private is without its text."""
    told = {name: event.get(name) for name in ("ticket_id", "created_at", "via")}
    for child in documents_in(event, "child_events"):
        kind = child.get("event_type") or child.get("type")
        if kind in SAID and child.get("id"):
            yield {**told, **child}
        if kind == HIDDEN and child.get("comment_id"):
            yield {**told, "id": child["comment_id"], "public": bool(child.get("public"))}


def _shown(comment: Record, ticket: Record, role: str | None) -> Document:
    """A comment with whose it is: of the ticket's organization, by an end user or else to the requester. A role that nobody
    knows any more, since the author is deleted for good, leaves the direction open.
    """
    direction = None if role is None else INBOUND if role == "end-user" else OUTBOUND
    is_call = (comment.get("event_type") or comment.get("type")) == "VoiceComment"
    return {
        **comment,
        "organization_id": ticket.get("organization_id"),
        "contact_id": ticket.get("requester_id") if direction == OUTBOUND else comment.get("author_id"),
        "direction": direction,
        "channel": "call" if is_call else "email",
        "subject": ticket.get("subject"),
    }


def _ratings(ask: Ask) -> Page:
    """Answers to the question whether support was good, of the ticket's organization. Who rated a ticket that is deleted has
    rated nothing that is left.
    """
    position = ask.position
    began = position.get("start_time", _start(ask))
    pages: dict[str, Any] = {"page[size]": LISTED_ROWS, "page[after]": position.get("after")}
    document = ask.api.get(
        "/api/v2/satisfaction_ratings.json",
        holds="satisfaction_ratings",
        score="received",
        start_time=began,
        **pages,
    )
    found = document["satisfaction_ratings"]
    tickets = _by_id(ask, "tickets", (one.get("ticket_id") for one in found))
    owners = {one["id"]: tickets.get(str(one.get("ticket_id"))) for one in found}
    moments = [at for at in (moment(one.get("updated_at")) for one in found) if at is not None and at <= ask.now]
    newest = max([position.get("newest", 0), *(unix_seconds(at) for at in moments)])
    meta = document.get("meta") or {}
    has_more = bool(meta.get("has_more"))
    if has_more and not meta.get("after_cursor"):
        raise Retriable("Zendesk says that there are more ratings, and not where.")
    ahead = {"start_time": began, "newest": newest, "after": meta.get("after_cursor")}
    last = {"start_time": max(began, newest - MAY_CHANGE // timedelta(seconds=1))}
    return Page(
        [{**one, "organization_id": owner.get("organization_id")} for one in found if (owner := owners[one["id"]])],
        ahead if has_more else last,
        not has_more,
        gone=[(one, moment(one.get("updated_at"))) for one in found if not owners[one["id"]]],
    )


def _roles(ask: Ask, keys: Iterable[Any]) -> dict[str, str]:
    """What users are, by their ids; kept for the whole load."""
    known: dict[str, str] = ask.memo.setdefault("roles", {})
    found = _by_id(ask, "users", (key for key in keys if str(key) not in known))
    known.update((key, str(user.get("role"))) for key, user in found.items())
    return known


def _by_id(ask: Ask, name: str, keys: Iterable[Any]) -> dict[str, Document]:
    """Records by their ids. Those that are deleted are left out."""
    wanted = sorted({str(key) for key in keys if key is not None})
    found: dict[str, Document] = {}
    for first in range(0, len(wanted), LISTED_ROWS):
        ids = ",".join(wanted[first : first + LISTED_ROWS])
        document = ask.api.get(f"/api/v2/{name}/show_many.json", holds=name, ids=ids)
        found |= {str(one.get("id")): one for one in document[name] if one.get("status") != "deleted"}
    return found


def _by_time(ask: Ask, name: str, **params: Any) -> tuple[Document, Position, bool]:
    """A page by time: the next one begins at the moment at which this one ended, and may repeat its last records."""
    began = ask.position.get("start_time", _start(ask))
    document = _export(ask, name, name, start_time=began, **params)
    ended = document.get("end_time") or began
    # Older accounts are told of the end by a page that is not full.
    is_end = bool(document.get("end_of_stream", len(document[name]) < PAGE_ROWS))
    ahead = ended > unix_seconds(ask.now)
    return document, _following(ask, {"start_time": ended}, ahead=ahead, is_end=is_end), is_end


def _by_cursor(ask: Ask, name: str, **params: Any) -> tuple[Document, Position, bool]:
    cursor = ask.position.get("cursor")
    asked = {"cursor": cursor} if cursor else {"start_time": _start(ask)}
    document = _export(ask, f"{name}/cursor", name, **asked, **params)
    after = document.get("after_cursor") or cursor
    is_end = bool(document.get("end_of_stream", not after))
    ahead = any(is_ahead(one.get("updated_at"), ask.now) for one in document[name])
    return document, _following(ask, {"cursor": after} if after else {}, ahead=ahead, is_end=is_end), is_end


def _following(ask: Ask, position: Position, *, ahead: bool, is_end: bool) -> Position:
    """Where the next page begins, or the next run: not after what is stamped in the future, but before its first page.

    What comes before it has come before it here, too: exports are in the order of their stamps.
    """
    reached = ask.position.get("reached", ask.position if ahead else None)
    if reached is None:
        return position
    return reached if is_end else {**position, "reached": reached}


def _export(ask: Ask, path: str, name: str, **params: Any) -> Document:
    assert isinstance(ask.source, ZendeskSource)
    exports = limiter(f"{_address(ask.source)} exports", ask.source.exports_per_minute, 60.0)
    return ask.api.get(f"/api/v2/incremental/{path}.json", holds=name, limiter=exports, per_page=PAGE_ROWS, **params)


def _start(ask: Ask) -> int:
    return 0 if ask.since is None else unix_seconds(ask.since)


def _address(source: ZendeskSource) -> str:
    return secure(source.base_url or f"https://{source.subdomain}.zendesk.com")


def _connect(source: ZendeskSource) -> Access:
    token = source.token.get_secret_value()
    by_agent = f"Basic {b64encode(f'{source.email}/token:{token}'.encode()).decode()}"
    header = {"Authorization": by_agent if source.email else f"Bearer {token}"}
    return access(source, _address(source), header, requests=REQUESTS_A_MINUTE, seconds=60.0)


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
            stamped="updated_at",
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
            stamped="updated_at",
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
            stamped="updated_at",
            scope="an administrator's token, with the scope read (or tickets:read)",
        ),
        "comments": Resource(
            fields={
                "id": "text",
                "ticket_id": "text",
                "organization_id": "text",
                "author_id": "text",
                "contact_id": "text",
                "channel": "text",
                "direction": "text",
                "subject": "text",
                "body": "text",
                "plain_body": "text",
                "created_at": "text",
            },
            read=_comments,
            stamped="created_at",
            scope="an administrator's token, with the scope read (or tickets:read and users:read)",
        ),
        "satisfaction_ratings": Resource(
            fields={
                "id": "text",
                "ticket_id": "text",
                "organization_id": "text",
                "requester_id": "text",
                "score": "text",
                "comment": "text",
                "reason": "text",
                "created_at": "text",
                "updated_at": "text",
            },
            read=_ratings,
            stamped="updated_at",
            scope="an administrator's token, with the scope read (or satisfaction_ratings:read and tickets:read)",
        ),
    },
)
