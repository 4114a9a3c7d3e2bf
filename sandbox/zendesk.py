"""A stand-in for Zendesk Support: incremental exports of organizations, users, tickets and their events; satisfaction ratings.

Lives here: what Zendesk answers, its documented limits, and the faults that only it knows. Must not live here: what stand-ins
share (`standin.py`), what Tenure reads.

What it holds to: basic authentication with `{email}/token:{token}` or a bearer token; 10 exports a minute for an account (the
rest is 429 with `Retry-After`); at most 1,000 records a page; nothing that changed within the last minute; cursors that only
it understands; pages by time that repeat the records of their last second; deleted tickets that come scrubbed, with the status
`deleted`; comments only where they are included; lists of 100 records a page, and 100 ids a request. Beyond the faults of all
stand-ins it knows `throttle` (429; `detail.retry_after` in seconds), `circle` (the page after this one is this one), `empty` (a
page without records that is not the end) and `echo` (a 400 that repeats the credentials).
"""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.warehouse import literal, rows, scratch
from sandbox.serve import serving
from sandbox.standin import Body, StandIn, Store, Window, fault_of

EMAIL, TOKEN = "agent@sandbox.example", "zendesk-sandbox-0000"
MOST_ROWS = 1000
MOST_LISTED = 100
LEFT_OUT = timedelta(minutes=1)
KINDS = ("organizations", "users", "tickets", "ticket_events", "satisfaction_ratings")
RIGHTS = {"ticket_events": "tickets"}
"""Kinds that are read by the right to read another one."""
SCORE_FIELD = 360001
"""The custom ticket field in which the sandbox company keeps its five-step satisfaction."""


class ZendeskStandIn(StandIn):
    """One Zendesk account. `exports` in any `seconds` are allowed; `now` is its clock, the wall's if None."""

    def __init__(
        self, *, store: Store | None = None, exports: int = 10, seconds: float = 60.0, now: datetime | None = None
    ) -> None:
        routes = [
            Route("/api/v2/incremental/organizations.json", self._guarded("organizations", self._by_time)),
            Route("/api/v2/incremental/users/cursor.json", self._guarded("users", self._by_cursor)),
            Route("/api/v2/incremental/tickets/cursor.json", self._guarded("tickets", self._by_cursor)),
            Route("/api/v2/incremental/ticket_events.json", self._guarded("ticket_events", self._by_time)),
            Route("/api/v2/users/show_many.json", self._guarded("users", self._by_id)),
            Route("/api/v2/tickets/show_many.json", self._guarded("tickets", self._by_id)),
            Route("/api/v2/satisfaction_ratings.json", self._guarded("satisfaction_ratings", self._ratings)),
        ]
        super().__init__(routes, store=store)
        self.window = Window(exports, seconds)
        self.credentials = {f"{EMAIL}/token:{TOKEN}": tuple(kind for kind in KINDS if kind not in RIGHTS)}
        self.page_rows = MOST_ROWS
        self.now = now
        self._sorted: dict[str, tuple[list[tuple[str, int]], list[Body]]] = {}
        self._hidden = 0

    # --- what tests and the sandbox say ---------------------------------------------------------------------------

    def put(self, kind: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Records with an `id` and an `updated_at`. `_changed_at` is when the export takes note of them, if that is later."""
        self.store.put(kind, {str(record["id"]): dict(record) for record in records})
        self._sorted.pop(kind, None)

    def change(self, kind: str, key: str, **values: Any) -> None:
        """Change a record at a moment that is named, as `updated_at`."""
        self.put(kind, [{**(self.store.get(kind, key) or {}), "_changed_at": None, **values}])

    def delete(self, kind: str, key: str, *, at: str) -> None:
        """As Zendesk shows what is deleted: a scrubbed ticket, an inactive user, an organization with `deleted_at`."""
        marks: dict[str, Body] = {
            "tickets": {"status": "deleted", "subject": "SCRUBBED", "description": "SCRUBBED", "organization_id": None},
            "users": {"active": False},
            "organizations": {"deleted_at": at},
        }
        self.change(kind, key, updated_at=at, **marks[kind])

    def say(self, ticket: int, comment: Mapping[str, Any], *, at: str, via: str = "Mail") -> None:
        """A comment in a ticket, with an `id`, an `author_id` and whether it is `public`; said again, it takes its own place."""
        child = {"type": "Comment", "event_type": "Comment", "created_at": at, "via": via, "via_reference_id": None}
        self._tell(int(comment["id"]), ticket, {**child, "public": True, **comment}, at=at)

    def hide(self, ticket: int, comment: int, *, at: str) -> None:
        """Make a public comment a private one."""
        self._hidden += 1
        child = {"event_type": "CommentPrivacyChange", "comment_id": comment, "public": False}
        self._tell(10_000_000 + self._hidden, ticket, child, at=at)

    def _tell(self, key: int, ticket: int, child: Mapping[str, Any], *, at: str) -> None:
        event = {
            "id": key,
            "ticket_id": ticket,
            "timestamp": _seconds(at),
            "created_at": at,
            "updated_at": at,
            "event_type": "Audit",
            "via": "Web form",
            "child_events": [{"id": key, **child}],
        }
        self.put("ticket_events", [event])

    def state(self) -> Body:
        return {kind: len(self.store.all(kind)) for kind in KINDS}

    # --- answers --------------------------------------------------------------------------------------------------

    def refusal(self, status: int, detail: Body) -> Response:
        told = {401: "Couldn't authenticate you", 403: "You do not have access to this page"}.get(
            status, "told to fail"
        )
        return JSONResponse(detail.get("body", {"error": told}), status, headers=detail.get("headers"))

    def _guarded(self, kind: str, handler: Any) -> Any:
        async def guarded(request: Request) -> Response:
            caller = _caller(request.headers.get("authorization", ""))
            if caller not in self.credentials:
                return self.refusal(401, {})
            is_export = "/incremental/" in request.url.path
            fault = fault_of(request, "throttle", "echo")
            if fault is not None and fault.kind == "echo":
                return JSONResponse({"error": "refused", "description": f"you are {caller}"}, 400)
            if fault is not None or (is_export and not self.window.allows("account")):
                wait = fault.detail.get("retry_after", 1) if fault is not None else round(self.window.seconds)
                return JSONResponse(
                    {
                        "error": "APIRateLimitExceeded",
                        "description": "Number of allowed API requests per minute exceeded",
                    },
                    429,
                    headers={"Retry-After": str(wait)},
                )
            if RIGHTS.get(kind, kind) not in self.credentials[caller]:
                return self.refusal(403, {})
            response: Response = await handler(request, kind)
            response.headers["X-Rate-Limit"], response.headers["X-Rate-Limit-Remaining"] = "700", "699"
            return response

        return guarded

    async def _by_cursor(self, request: Request, kind: str) -> Response:
        cursor, start = request.query_params.get("cursor"), request.query_params.get("start_time")
        if cursor is None and start is None:
            return JSONResponse({"error": "InvalidValue", "description": "start_time or cursor is needed"}, 400)
        places, records = self._ordered(kind)
        after = _decoded(cursor) if cursor else (_iso(int(start or 0)), -1)
        first = bisect_right(places, after)
        last = min(first + self._rows(request), self._ready(places))
        fault = fault_of(request, "circle", "empty")
        if fault is not None and fault.kind == "circle":
            return self._page(kind, records[first:last], after, is_end=False)
        if fault is not None:
            return self._page(kind, [], (after[0], after[1]), is_end=False)
        return self._page(
            kind, records[first:last], places[last - 1] if last > first else after, is_end=last >= self._ready(places)
        )

    def _page(self, kind: str, records: Sequence[Body], after: tuple[str, int], *, is_end: bool) -> Response:
        cursor = _encoded(after)
        document: Body = {
            kind: [_told(record) for record in records],
            "after_cursor": cursor,
            "after_url": f"https://sandbox.zendesk.com/api/v2/incremental/{kind}/cursor.json?cursor={cursor}",
            "before_cursor": None,
            "before_url": None,
            "end_of_stream": is_end,
        }
        if kind == "tickets":
            document["metric_sets"] = [
                {**record["_metrics"], "ticket_id": record["id"]} for record in records if record.get("_metrics")
            ]
        return JSONResponse(document)

    async def _by_time(self, request: Request, kind: str) -> Response:
        start = int(request.query_params.get("start_time") or 0)
        if self._clock() - timedelta(seconds=start) < datetime(1970, 1, 1) + LEFT_OUT:
            return JSONResponse({"error": "StartTimeTooRecent", "description": "Too recent start_time."}, 422)
        places, records = self._ordered(kind)
        first = bisect_left(places, (_iso(start), -1))
        ready = self._ready(places)
        last = min(first + self._rows(request), ready)
        # A second is not cut, and a page gets beyond the second with which it begins.
        while first < last < ready and places[last - 1][0] in (places[last][0], _iso(start)):
            last += 1
        ended = _seconds(places[last - 1][0]) if last > first else start
        is_end = last >= ready
        if fault_of(request, "circle") is not None:
            ended, is_end = start, False
        return JSONResponse(
            {
                kind: [_told(_event(record, request)) for record in records[first:last]],
                "count": last - first,
                "end_time": ended,
                "end_of_stream": is_end,
                "next_page": f"https://sandbox.zendesk.com/api/v2/incremental/{kind}.json?start_time={ended}",
            }
        )

    async def _by_id(self, request: Request, kind: str) -> Response:
        asked = [key for key in request.query_params.get("ids", "").split(",") if key]
        if len(asked) > MOST_LISTED:
            return JSONResponse({"error": "TooManyValues", "description": f"at most {MOST_LISTED} ids"}, 400)
        found = [record for record in map(self.store.all(kind).get, asked) if record is not None]
        shown = [_told(record) for record in found if record.get("status") != "deleted"]
        return JSONResponse({kind: shown, "count": len(shown)})

    async def _ratings(self, request: Request, kind: str) -> Response:
        """In the order of ids; `start_time` is compared with the last change."""
        asked = request.query_params
        since = _iso(int(asked.get("start_time") or 0))
        after = int(asked.get("page[after]") or 0)
        size = min(int(asked.get("page[size]") or MOST_LISTED), MOST_LISTED, self.page_rows)
        found = sorted(
            (record for record in self.store.all(kind).values() if record["updated_at"] >= since),
            key=lambda record: int(record["id"]),
        )
        if asked.get("score") == "received":
            found = [record for record in found if str(record.get("score")).startswith(("good", "bad"))]
        ahead = [record for record in found if int(record["id"]) > after]
        page, has_more = ahead[:size], len(ahead) > size
        if fault_of(request, "circle") is not None:
            page, has_more = found[:size], True
        cursor = str(page[-1]["id"]) if page else None
        return JSONResponse(
            {
                kind: [_told(record) for record in page],
                "meta": {
                    "has_more": has_more,
                    "after_cursor": None if fault_of(request, "cut") else cursor,
                    "before_cursor": None,
                },
                "links": {"prev": None, "next": None},
            }
        )

    def _rows(self, request: Request) -> int:
        return min(int(request.query_params.get("per_page") or self.page_rows), self.page_rows)

    def _clock(self) -> datetime:
        return self.now or datetime.now(UTC).replace(tzinfo=None)

    def _ready(self, places: Sequence[tuple[str, int]]) -> int:
        """How many records changed more than a minute ago."""
        return bisect_left(places, ((self._clock() - LEFT_OUT).strftime("%Y-%m-%dT%H:%M:%SZ"), -1))

    def _ordered(self, kind: str) -> tuple[list[tuple[str, int]], list[Body]]:
        if kind not in self._sorted:
            found = sorted(
                ((record.get("_changed_at") or record["updated_at"], int(record["id"])), record)
                for record in self.store.all(kind).values()
            )
            self._sorted[kind] = ([place for place, _ in found], [record for _, record in found])
        return self._sorted[kind]


@contextmanager
def running(home: Path) -> Iterator[str]:
    """The support desk of the sandbox company in `home`, as Zendesk: its address, for as long as the block runs."""
    standin = ZendeskStandIn(exports=6000)
    for kind, records in exported(home / "sandbox" / "data" / "support").items():
        standin.put(kind, records)
    with serving(standin) as url:
        yield url


def exported(folder: Path) -> dict[str, list[Body]]:
    """Organizations and tickets from the files of the sandbox's support, the last version of each, as Zendesk has them.

    Rows that were broken on purpose and that no Zendesk could hold (without an id, with dates that are none) are left out. A row
    that came late is one that Zendesk took note of on the day of its file.
    """
    return {
        "organizations": [
            {
                "id": int(row["id"]),
                "name": row["name"],
                "domain_names": [row["domain_names"]] if row["domain_names"] else [],
                "external_id": row["external_id"],
                "created_at": row["created_at"],
                "updated_at": row["updated_at"],
                "deleted_at": None,
                "_changed_at": row["_changed_at"],
            }
            for row in _latest(folder / "organizations")
        ],
        "tickets": [_ticket(row) for row in _latest(folder / "tickets") if (row["reopens"] or "0").isdigit()],
    }


def _ticket(row: Mapping[str, Any]) -> Body:
    seconds = _seconds(row["first_reply_at"]) - _seconds(row["created_at"]) if row["first_reply_at"] else None
    score = row["satisfaction_score"]
    return {
        "id": int(row["id"]),
        "organization_id": int(row["organization_id"]) if row["organization_id"] else None,
        "subject": row["subject"],
        "description": row["description"],
        "priority": row["priority"],
        "status": row["status"],
        "type": None,
        "tags": [],
        "custom_fields": [{"id": SCORE_FIELD, "value": score}],
        "satisfaction_rating": {"score": "offered"}
        if score is None
        else {"score": "good" if int(score) > 3 else "bad"},
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "_changed_at": row["_changed_at"],
        "_metrics": {
            "reply_time_in_minutes": {"calendar": None if seconds is None else seconds // 60, "business": None},
            "reply_time_in_seconds": {"calendar": seconds},
            "solved_at": row["solved_at"],
            "reopens": int(row["reopens"] or 0),
        },
    }


def _latest(folder: Path) -> list[dict[str, Any]]:
    """The last version of every row that has an id and readable dates, and when it was known: on its day, or when it came."""
    with scratch() as connection:
        return rows(
            connection,
            "with told as (select *, cast(left(parse_filename(filename), 10) as date) as day from"
            f" read_csv({literal(str(folder / '*.csv.zst'))}, all_varchar = true, filename = true, union_by_name = true))"
            " select * exclude (filename, day), case when day > (select min(day) from told)"
            " then greatest(updated_at, strftime(day, '%Y-%m-%dT00:00:00Z')) end as _changed_at"
            " from told where id is not null and created_at like '____-__-__T%'"
            " and try_cast(created_at as timestamptz) is not null"
            " qualify row_number() over (partition by id order by updated_at desc, filename desc) = 1 order by id",
        )


def _event(record: Body, request: Request) -> Body:
    """An event of a ticket as it is told; its comment whole only where that is included."""
    if "child_events" not in record or request.query_params.get("include") == "comment_events":
        return record
    told = [
        {
            "id": child["id"],
            "event_type": child["event_type"],
            "comment_present": True,
            "comment_public": child["public"],
        }
        for child in record["child_events"]
    ]
    return {**record, "child_events": told}


def _told(record: Body) -> Body:
    return {name: value for name, value in record.items() if not name.startswith("_")}


def _caller(authorization: str) -> str:
    scheme, _, given = authorization.partition(" ")
    if scheme == "Bearer":
        return given
    try:
        return b64decode(given).decode()
    except ValueError:
        return ""


def _encoded(place: tuple[str, int]) -> str:
    return urlsafe_b64encode(json.dumps(place).encode()).decode()


def _decoded(cursor: str) -> tuple[str, int]:
    moment, key = json.loads(urlsafe_b64decode(cursor))
    return moment, key


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())
