"""PostHog: product events, and the groups that are accounts, by queries; or by the files that its batch exports leave.

Lives here: PostHog's queries, cursors, limits, fields and error bodies. Must not live here: loops, retries, what is kept
(`api.py`), files (`files.py`), which field becomes which column (`posthog.yml`, `posthog_export.yml`).

The pages of PostHog's documentation behind the rules (posthog.com/docs):
- "API queries" (`POST /api/projects/:project_id/query/` with a `HogQLQuery`; a personal API key with the scope `query:read`; 100 rows
  unless a limit is given, 50,000 at most) and "API overview" (240 analytics requests a minute, 1,200 an hour; 429 with `Retry-After`).
  The same page asks for batch exports where much is read: hence the two ways.
- "Group analytics": up to five types of groups, numbered from 0; an event of a group names it in `$group_0` … `$group_4`, and
  `$groupidentify` tells the properties of a group.
- "Identifying users": `$identify` says that the events of `$anon_distinct_id` were those of `distinct_id`, `$create_alias` that `alias`
  is another id of `distinct_id`.
- "SQL data reference": `events.timestamp` is when it happened, `events.created_at` when PostHog took it in: late events are found by it.

What PostHog deletes it does not tell. An event is there for queries a moment after it was taken in: the last minute is left out,
and a run looks back a little.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from core.errors import Fatal, Retriable
from core.http import Answer, document_of, secure
from core.source_settings import ExportSource, PostHogSource, SourceConfig
from core.warehouse import literal
from sources import files
from sources.api import Access, ApiStream, Ask, Page, Record, Resource, Vendor, access, limiter
from sources.base import Stream, StreamId

BURST_A_MINUTE = 240
LEFT_OUT = timedelta(minutes=1)
LOOK_BACK = timedelta(minutes=10)
"""Records of a moment may appear in any order, some minutes apart."""
SCOPE = "a personal API key with the scope query:read, for this project"
_BEGINNING = "1970-01-01 00:00:00.000000"


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: Path) -> Stream:
    """The connector's door; see `sources.base.Opener`."""
    if isinstance(source, ExportSource):
        return files.open_stream(stream, source, now=now, temp_directory=temp_directory)
    assert isinstance(source, PostHogSource)
    return ApiStream(stream, source, POSTHOG, now=now)


def _groups(ask: Ask) -> Page:
    """The groups of the type that is an account, by their last change; their properties beside them."""
    page = _changed(
        ask,
        select=f"key, {_utc('created_at')} as created, {_utc('updated_at')} as changed, properties",
        table="groups",
        moment="updated_at",
        key="key",
        where=f"index = {_settings(ask).group_type}",
    )
    return Page([{**_object(one["properties"]), **one} for one in page.records], page.position, page.is_end)


def _events(ask: Ask) -> Page:
    where = "true" if ask.since is None else f"timestamp >= {_at(_text(ask.since))}"
    return _changed_events(ask, "properties", where=where)


def _members(ask: Ask) -> Page:
    """Whose events named which group, each pair once for all events of a stretch of time, from their first one in it.

    The stretch ends at the run's moment; its pairs come page by page.
    """
    since = ask.position.get("since", _BEGINNING)
    until = ask.position.get("until") or _text(ask.now - LEFT_OUT)
    after = ask.position.get("after", "")
    group = f"ifNull($group_{_settings(ask).group_type}, '')"
    pair = f"concat(distinct_id, ' ', {group})"
    found, has_more = _query(
        ask,
        f"select {pair} as id, distinct_id, {group} as group_key, min({_utc('timestamp')}) as since from events"
        f" where created_at >= {_at(since)} and created_at < {_at(until)} and {group} != '' and {pair} > {literal(after)}"
        " group by id, distinct_id, group_key order by id",
    )
    if has_more:
        return Page(found, {"since": since, "until": until, "after": found[-1]["id"]}, is_end=False)
    return Page(found, {"since": max(since, _back(until))}, is_end=True)


def _identities(ask: Ask) -> Page:
    """Which ids are one person."""
    told = "JSONExtractString(properties, '$anon_distinct_id') as anon_distinct_id, JSONExtractString(properties, 'alias') as alias"
    return _changed_events(ask, told, where="event in ('$identify', '$create_alias')")


def _changed_events(ask: Ask, told: str, *, where: str) -> Page:
    """Events with what is `told` by their properties, in the order in which PostHog took them in."""
    return _changed(
        ask,
        select=f"toString(uuid) as id, event, distinct_id, {_utc('timestamp')} as happened, {_utc('created_at')} as changed, {told}",
        table="events",
        moment="created_at",
        key="toString(uuid)",
        where=where,
    )


def _changed(ask: Ask, *, select: str, table: str, moment: str, key: str, where: str) -> Page:
    """Records in the order of `moment` and `key`, from where the last page ended."""
    since, after = ask.position.get("since", _BEGINNING), ask.position.get("after")
    beyond = f"{moment} >= {_at(since)}"
    if after is not None:
        beyond += f" and ({moment} > {_at(since)} or {key} > {literal(after)})"
    until = _at(_text(ask.now - LEFT_OUT))
    found, has_more = _query(
        ask, f"select {select} from {table} where {where} and {beyond} and {moment} < {until} order by {moment}, {key}"
    )
    if has_more:
        last = found[-1]
        return Page(found, {"since": last["changed"], "after": last.get("id") or last["key"]}, is_end=False)
    # A run that found nothing begins the next one where it began.
    ahead = _back(found[-1]["changed"]) if found else _back(since) if after is not None else since
    return Page(found, {"since": ahead}, is_end=True)


def _query(ask: Ask, sql: str) -> tuple[list[Record], bool]:
    """The rows of a query's answer, at most a page of them, and whether there are more: PostHog may give fewer than it is asked for.

    `force_blocking` asks for what is there now instead of an earlier answer.
    """
    source = _settings(ask)
    queries = limiter(f"{_address(source)} queries", source.queries_per_hour, 3600.0)
    body = {"query": {"kind": "HogQLQuery", "query": f"{sql} limit {source.page_rows}"}, "refresh": "force_blocking"}
    path = f"/api/projects/{source.project}/query/"
    document = ask.api.send("POST", path, holds="results", of=list, limiter=queries, json=body)
    columns, results = document.get("columns"), document["results"]
    if not isinstance(columns, list) or any(len(row) != len(columns) for row in results):
        raise Fatal(f"{_address(source)} answered with rows that do not fit their columns: {str(columns)[:200]}.")
    has_more = len(results) == source.page_rows or bool(document.get("hasMore"))
    if has_more and not results:
        raise Retriable(f"{_address(source)} says that there is more, and gives none of it.")
    return [dict(zip(columns, row, strict=True)) for row in results], has_more


def _object(text: Any) -> dict[str, Any]:
    """The properties of a group, which come as the text of an object."""
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _utc(column: str) -> str:
    """HogQL: a moment as text in UTC; PostHog would answer in the time zone of the project."""
    return f"toString(toTimeZone({column}, 'UTC'))"


def _back(moment: str) -> str:
    """Where the next run begins: some minutes before `moment`, since records may appear late."""
    return max(_text(datetime.fromisoformat(moment) - LOOK_BACK), _BEGINNING)


def _at(moment: str) -> str:
    return f"toDateTime64({literal(moment)}, 6, 'UTC')"


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _settings(ask: Ask) -> PostHogSource:
    assert isinstance(ask.source, PostHogSource)
    return ask.source


def _address(source: PostHogSource) -> str:
    return secure(source.base_url or f"https://{source.region}.posthog.com")


def _connect(source: PostHogSource) -> Access:
    header = {"Authorization": f"Bearer {source.key.get_secret_value()}"}
    return access(source, _address(source), header, requests=BURST_A_MINUTE, seconds=60.0)


def _told(answer: Answer) -> str | None:
    """`code` is a word, `detail` a sentence."""
    document = document_of(answer)
    if not isinstance(document, dict):
        return None
    return ": ".join(str(part) for part in (document.get("code"), document.get("detail")) if part) or None


POSTHOG = Vendor(
    name="posthog",
    connect=_connect,
    credential="`key` (a personal API key, phx_…; the key of the project, phc_…, can only send) and `project`",
    told=_told,
    resources={
        "groups": Resource(
            fields={
                "key": "text",
                "created": "text",
                "changed": "text",
                "properties": "text",
                "name": "text",
                "domain": "text",
                "website": "text",
                "industry": "text",
                "employees": "text",
            },
            read=_groups,
            scope=SCOPE,
            key="key",
        ),
        "members": Resource(
            fields={"id": "text", "distinct_id": "text", "group_key": "text", "since": "text"},
            read=_members,
            scope=SCOPE,
        ),
        "identities": Resource(
            fields={
                "id": "text",
                "event": "text",
                "distinct_id": "text",
                "anon_distinct_id": "text",
                "alias": "text",
                "happened": "text",
                "changed": "text",
            },
            read=_identities,
            scope=SCOPE,
        ),
        "events": Resource(
            fields={
                "id": "text",
                "event": "text",
                "distinct_id": "text",
                "happened": "text",
                "changed": "text",
                "properties": "text",
            },
            read=_events,
            scope=SCOPE,
        ),
    },
)
