"""A stand-in for PostHog: queries on events and groups, and the files that its batch exports leave.

Lives here: what PostHog answers, its documented limits, and the faults that only it knows. Must not live here: what stand-ins
share (`standin.py`), what Tenure reads.

Queries run: events and groups are tables of a DuckDB database in memory, which understands the few functions of ClickHouse that
are asked for. What it holds to: a bearer token with scopes; a limit of 100 rows where a query names none, and of 50,000 whatever
it names; a budget of queries for each key (the rest is 429 with `Retry-After`); moments in the project's time zone unless
a query asks for another. Beyond the faults of all stand-ins it knows `circle` (the answer before, once more) and `echo` (a 400 that
repeats the credentials).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.warehouse import Connection, Error, literal, scratch
from sandbox.serve import serving
from sandbox.standin import Body, StandIn, Window, fault_of

KEY, PROJECT = "phx_sandbox_0000", 1
GROUP_TYPE = "organization"
MOST_ROWS, USUAL_ROWS = 50_000, 100
_CLICKHOUSE = (
    "create macro toString(x) as cast(x as varchar)",
    "create macro toTimeZone(x, zone) as strftime(x, '%Y-%m-%d %H:%M:%S.%f')",
    "create macro toDateTime64(x, digits, zone) as cast(x as timestamp)",
    "create macro JSONExtractString(x, name) as coalesce(json_extract_string(x, '$.\"' || name || '\"'), '')",
)
"""Functions of ClickHouse that PostHog lets queries use. A moment is UTC here, whatever the zone of the project."""
_TABLES = (
    "create table events (uuid varchar, event varchar, distinct_id varchar, timestamp timestamp, created_at timestamp,"
    ' properties varchar, "$group_0" varchar)',
    "create table groups (index integer, key varchar, created_at timestamp, updated_at timestamp, properties varchar)",
)


class PostHogStandIn(StandIn):
    """One project of PostHog. `queries` in any `seconds` are allowed."""

    def __init__(self, *, queries: int = 1200, seconds: float = 3600.0) -> None:
        route = Route("/api/projects/{project:int}/query/", self._query, methods=["POST"])
        super().__init__([route])
        self.window = Window(queries, seconds)
        self.keys = {KEY: ("query:read",)}
        self._scratch = scratch()
        self.tables: Connection = self._scratch.__enter__()
        self._lock = threading.Lock()
        self._last: Body | None = None
        for statement in (*_CLICKHOUSE, *_TABLES):
            self.tables.execute(statement)

    # --- what tests and the sandbox say ---------------------------------------------------------------------------

    def group(self, key: str, *, at: str, created: str = "2024-02-01 10:00:00", **properties: Any) -> None:
        """Make a group or change its properties, at a moment."""
        with self._lock:
            self.tables.execute("delete from groups where key = ?", [key])
            self.tables.execute("insert into groups values (0, ?, ?, ?, ?)", [key, created, at, json.dumps(properties)])

    def forget_group(self, key: str) -> None:
        """Delete a group, of which PostHog tells nothing."""
        with self._lock:
            self.tables.execute("delete from groups where key = ?", [key])

    def capture(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Events with `uuid`, `event`, `distinct_id`, `timestamp`, `properties`, and `created_at` if that is later."""
        with self._lock:
            self.tables.executemany(
                "insert into events values (?, ?, ?, ?, ?, ?, ?)",
                [
                    [
                        event["uuid"],
                        event["event"],
                        event["distinct_id"],
                        event["timestamp"],
                        event.get("created_at") or event["timestamp"],
                        json.dumps(event.get("properties") or {}),
                        (event.get("properties") or {}).get("$group_0", ""),
                    ]
                    for event in events
                ],
            )

    def export(self, folder: Path, *, format_: str = "parquet") -> None:
        """What a batch export of the model events leaves, a file for each day on which events were taken in."""
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            days = self.tables.execute("select distinct cast(created_at as date) from events order by 1").fetchall()
            for (day,) in days:
                told = (
                    "select uuid, event, distinct_id, properties, timestamp::timestamptz as timestamp,"
                    f" created_at::timestamptz as created_at from events where cast(created_at as date) = date '{day}'"
                    " order by events.created_at, uuid"
                )
                if format_ == "jsonl":
                    told = f"select * replace (properties::json as properties) from ({told})"
                path = folder / f"{day} 00:00:00-{day} 23:59:59.{format_}"
                how = "format parquet" if format_ == "parquet" else "format json"
                self.tables.execute(f"copy ({told}) to {literal(str(path))} ({how})")

    def state(self) -> Body:
        with self._lock:
            counted = "select (select count(*) from events), (select count(*) from groups)"
            events, groups = self.tables.execute(counted).fetchall()[0]
        return {"events": events, "groups": groups}

    # --- answers --------------------------------------------------------------------------------------------------

    def refusal(self, status: int, detail: Body) -> Response:
        words = {
            401: ("authentication_failed", "Personal API key found in request Authorization header is invalid."),
            403: ("permission_denied", "API key missing required scope 'query:read'"),
            429: ("throttled", "Request was throttled."),
        }
        code, said = words.get(status, ("error", "told to fail"))
        body = {"type": "server_error", "code": code, "detail": said, "attr": None}
        return JSONResponse(detail.get("body", body), status, headers=detail.get("headers"))

    async def _query(self, request: Request) -> Response:
        caller = request.headers.get("authorization", "").removeprefix("Bearer ")
        if caller not in self.keys:
            return self.refusal(401, {})
        if "query:read" not in self.keys[caller]:
            return self.refusal(403, {})
        if not self.window.allows(caller):
            return self.refusal(429, {"headers": {"Retry-After": "1"}})
        if fault_of(request, "echo") is not None:
            return self.refusal(
                400, {"body": {"code": "invalid_input", "detail": f"the key {caller} was told to fail"}}
            )
        if fault_of(request, "circle") is not None and self._last is not None:
            return JSONResponse(self._last)
        asked = await request.json()
        try:
            most = int(fault.detail.get("most", 1)) if (fault := fault_of(request, "cut")) is not None else MOST_ROWS
            self._last = self._answered(asked["query"]["query"], most)
        except Error as error:
            return self.refusal(400, {"body": {"code": "invalid_query", "detail": str(error)}})
        return JSONResponse(self._last)

    def _answered(self, query: str, most: int) -> Body:
        limit = re.search(r" limit (\d+)$", query)
        asked = min(int(limit.group(1)), most) if limit else USUAL_ROWS
        plain = re.sub(r"(?<!['\w])\$group_0", '"$group_0"', query.removesuffix(limit.group(0)) if limit else query)
        plain = plain.replace("ifNull(", "coalesce(")
        with self._lock:
            found = self.tables.execute(f"{plain} limit {asked + 1}")
            columns = [name for name, *_ in found.description or []]
            rows = found.fetchall()
        return {
            "columns": columns,
            "results": [list(row) for row in rows[:asked]],
            "hasMore": len(rows) > asked,
            "limit": asked,
            "error": None,
        }


@contextmanager
def running(home: Path) -> Iterator[str]:
    """The product events of the sandbox company in `home`, as PostHog: its address, for as long as the block runs."""
    standin = PostHogStandIn(queries=100_000)
    fill(standin, home / "sandbox" / "data" / "product")
    with serving(standin) as url:
        yield url


def fill(standin: PostHogStandIn, folder: Path) -> None:
    """Workspaces as groups and events as PostHog would hold them: the last version of each, taken in when they were received.

    Rows that were broken on purpose and that no PostHog could hold (without an id or a name) are left out. One event in ten
    does not name its group: its user does.
    """
    workspaces, events = (literal(str(folder / name / "*.parquet")) for name in ("workspaces", "events"))
    standin.tables.execute(
        f"""
        insert into groups
        select 0, id, created_at, updated_at,
            to_json({{'name': name, 'domain': domain, 'crm_id': crm_id, 'created_at': created_at}})
        from read_parquet({workspaces}) where id is not null and created_at is not null
        qualify row_number() over (partition by id order by updated_at desc) = 1
        """
    )
    standin.tables.execute(
        f"""
        insert into events
        select event_id, event, user_id, timestamp, received_at,
            to_json({{'quantity': quantity, 'product': product, '$group_0': told}}), coalesce(told, '')
        from (
            select *, case when hash(event_id) % 10 <> 0 or not is_known then workspace_id end as told
            from (
                select *, count(*) over (partition by user_id) > 5 and workspace_id in (select key from groups) as is_known
                from read_parquet({events})
                where event_id is not null and event is not null and user_id is not null and workspace_id is not null
            )
        )
        qualify row_number() over (partition by event_id order by received_at) = 1
        """
    )
