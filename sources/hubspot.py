"""HubSpot: companies, contacts, activities and tickets.

Lives here: HubSpot's paths and pages, and which properties are asked for. Must not live here: retries, stretches, drift
(`api.py`), what a property means (`hubspot.yml`), what a refusal means (`core/hubspot.py`).

A first load reads lists, which come straight from HubSpot's store. After that, a run searches for what changed, page by page in the
order of record ids, and then reads the list of archived records, which no search finds. A search tells 10,000 results at
most, and any number of records may share one moment of change (a workflow changes thousands at once): so each page is a
search of its own, for ids beyond the last one, and neither limit nor ties are ever met.

The pages of HubSpot's documentation behind it (developers.hubspot.com/docs):
- lists (100 a page, `after`, `archived`), properties that do not exist are ignored: API reference 2026-03, "Companies", "List".
- search (200 a page, 10,000 results, 5 requests in a second for an account, changes that take moments to be found, archived
  records never found), `lastmodifieddate` for contacts and `hs_lastmodifieddate` for all else: "Search the CRM".
- associations (1,000 ids a call, `after` for each record): "Associations", "Batch read"; changelog of 10 February 2025.
- owners, also those that left (`archived=true`): "Owners". Scopes: the page of each object.

A record that was merged away is in no list, not even of archived ones; the survivor's `hs_merged_object_ids` names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from core.errors import Fatal, Retriable
from core.http import Answer, Client, Limiter, documents_in, secure, tell
from core.hubspot import BASE_URL, PER_SECONDS, refuse
from core.source_settings import HubSpotSource, SourceConfig
from sources.api import Access, ApiStream, Ask, Kind, Page, Position, Record, Resource, Vendor, limiter, moment, without
from sources.base import StreamId
from sources.custom_fields import named_fields

LISTED = 100
FOUND = 200
MOST_OWNERS = 500
ASSOCIATED = 1_000
LOOK_BACK = timedelta(minutes=15)
"""A search reads so much once more: a change takes moments until it is found, and clocks differ."""


@dataclass(frozen=True)
class Kept:
    """A type of records: its scope, the properties that the default mapping names, and the types that it is associated with.

    `modified` is the property of the last change. A company that was merged away is kept as a row that leads to its survivor;
    activities and tickets are gone; a contact stays, since one that is gone is one who left.
    """

    scope: str
    properties: tuple[str, ...]
    belongs_to: tuple[str, ...] = ()
    modified: str = "hs_lastmodifieddate"
    has_owner: bool = False
    merged: Literal["led away", "gone", "kept"] = "gone"


_ACTIVITY = "crm.objects.contacts.read"
KINDS = {
    "companies": Kept(
        "crm.objects.companies.read and crm.objects.owners.read",
        ("name", "domain", "industry", "country", "numberofemployees", "hs_parent_company_id", "hubspot_owner_id"),
        has_owner=True,
        merged="led away",
    ),
    "contacts": Kept(
        "crm.objects.contacts.read",
        ("email", "jobtitle", "hs_email_optout", "associatedcompanyid"),
        modified="lastmodifieddate",
        merged="kept",
    ),
    "emails": Kept(
        f"{_ACTIVITY} and sales-email-read",
        ("hs_timestamp", "hs_email_subject", "hs_email_text", "hs_email_direction"),
        ("companies", "contacts"),
    ),
    "meetings": Kept(_ACTIVITY, ("hs_timestamp", "hs_meeting_title", "hs_meeting_body"), ("companies", "contacts")),
    "calls": Kept(
        _ACTIVITY,
        ("hs_timestamp", "hs_call_title", "hs_call_body", "hs_call_direction"),
        ("companies", "contacts"),
    ),
    "notes": Kept(_ACTIVITY, ("hs_timestamp", "hs_note_body"), ("companies", "contacts")),
    "tickets": Kept(
        "tickets",
        ("subject", "content", "hs_ticket_priority", "hs_pipeline_stage", "first_agent_reply_date", "closed_date"),
        ("companies",),
    ),
}
"""By resource."""
ENVELOPE = ("archived", "archivedAt", "associations", "createdAt", "properties", "updatedAt", "url")
"""What a record has around its properties, and none of which says more than they do."""
NOTHING_THERE = "OBJECT_NOT_FOUND"
"""What is said of a record that belongs to nothing, which is no mistake."""
ID_OF = {"companies": "company_id", "contacts": "contact_id"}
"""The field that an association fills."""


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: Path) -> ApiStream:
    """The connector's door; see `sources.base.Opener`."""
    assert isinstance(source, HubSpotSource)
    config = source.streams[stream.stream]
    name = config.resource or stream.stream
    resource = _Reader(name, named_fields(config, _fields(KINDS[name]))).resource()
    return ApiStream(stream, source, replace(VENDOR, resources={**VENDOR.resources, name: resource}), now=now)


class _Reader:
    """Reads one type of records. `asked` are properties beyond those of `KINDS`."""

    def __init__(self, name: str, asked: Sequence[str] = ()) -> None:
        self._name, self._kept = name, KINDS[name]
        self._asked = tuple(asked)

    def resource(self) -> Resource:
        own = dict.fromkeys(self._asked, _TEXT)
        fields = {**_fields(self._kept), **own}
        return Resource(fields=fields, read=self.read, scope=self._kept.scope, stamped=self._kept.modified)

    def read(self, ask: Ask) -> Page:
        """The page at a position: of the list of all at first, then of what changed, then of what was archived."""
        position = ask.position
        if not position and ask.since is not None:
            position = {"since": _milliseconds(ask.since)}
        position = {"began": _milliseconds(ask.now), **position}
        if "archived" in position:
            return self._archived(ask, position)
        return self._changed(ask, position) if "since" in position else self._listed(ask, position)

    def _listed(self, ask: Ask, position: Position) -> Page:
        records, after = self._pages(ask, position.get("after"), archived=False)
        seen = self._seen(position, records)
        if after is None:
            return self._page(ask, records, {"since": seen}, is_end=True)
        return self._page(ask, records, {**position, "after": after, "seen": seen})

    def _changed(self, ask: Ask, position: Position) -> Page:
        since = max(0, position["since"] - LOOK_BACK // timedelta(milliseconds=1))
        last = position.get("last", "0")
        filters = [
            {"propertyName": self._kept.modified, "operator": "GTE", "value": str(since)},
            {"propertyName": "hs_object_id", "operator": "GT", "value": last},
        ]
        body = {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "properties": self._properties,
            "limit": FOUND,
        }
        path = f"{_objects(ask.source, self._name)}/search"
        document = ask.api.send("POST", path, holds="results", limiter=_search_limiter(ask.source), json=body)
        records = documents_in(document, "results")
        seen = self._seen(position, records)
        if not records or _after(document) is None:
            return self._page(ask, records, {**without(position, "last"), "seen": seen, "archived": ""})
        return self._page(ask, records, {**position, "seen": seen, "last": str(records[-1].get("id"))})

    def _archived(self, ask: Ask, position: Position) -> Page:
        records, after = self._pages(ask, position["archived"] or None, archived=True)
        gone = [({"id": str(record.get("id"))}, moment(record.get("archivedAt"))) for record in records]
        if after is not None:
            return Page([], {**position, "archived": after}, is_end=False, gone=gone)
        return Page([], {"since": max(position["since"], position.get("seen", 0))}, is_end=True, gone=gone)

    def _pages(self, ask: Ask, after: str | None, *, archived: bool) -> tuple[list[dict[str, Any]], str | None]:
        """Pages of a list, as many as one call for associations takes, and where the next one begins."""
        most = min(ASSOCIATED, ask.source.batch_rows) if self._kept.belongs_to and not archived else LISTED
        params: dict[str, Any] = {"limit": LISTED, "archived": str(archived).lower()}
        params["properties"] = ",".join(self._properties)
        records: list[dict[str, Any]] = []
        for document in _documents(ask, _objects(ask.source, self._name), after=after, **params):
            records += documents_in(document, "results")
            after = _after(document)
            if len(records) + LISTED > most:
                break
        return records, after

    def _page(self, ask: Ask, found: Sequence[Record], position: Position, *, is_end: bool = False) -> Page:
        records = [_flat(record) for record in found]
        for kind in self._kept.belongs_to:
            belongs = _associated(ask, self._name, kind, [record["id"] for record in records])
            records = [{**record, ID_OF[kind]: belongs.get(record["id"])} for record in records]
        if self._kept.has_owner:
            owners = _owners(ask)
            records = [{**record, **owners.get(str(record.get("hubspot_owner_id")), _NOBODY)} for record in records]
        merged = [(record, key) for record in records for key in _merged(record)]
        if self._kept.merged == "led away":
            return Page([*records, *(self._led_away(record, key) for record, key in merged)], position, is_end)
        gone: list[tuple[Record, datetime | None]] = [({"id": key}, None) for _, key in merged]
        return Page(records, position, is_end, gone=gone if self._kept.merged == "gone" else [])

    def _led_away(self, survivor: Record, key: str) -> Record:
        """The record that was merged into another one: of its own it has nothing any more but the id."""
        kept = {name: survivor.get(name) for name in ("createdate", self._kept.modified)}
        return {"id": key, "merged_into": survivor["id"], **kept}

    @property
    def _properties(self) -> list[str]:
        always = ("createdate", self._kept.modified, "hs_merged_object_ids")
        return list(dict.fromkeys((*always, *self._kept.properties, *self._asked)))

    def _seen(self, position: Position, records: Sequence[Record]) -> int:
        """The latest change that was seen, of those up to the begin of the run: no progress is made by what lies ahead."""
        changed = map(self._changed_at, records)
        latest: int = max([position.get("seen", 0), *(at for at in changed if at <= position["began"])])
        return latest

    def _changed_at(self, record: Record) -> int:
        at = moment((record.get("properties") or {}).get(self._kept.modified) or record.get("updatedAt"))
        return 0 if at is None else _milliseconds(at)


_TEXT: Kind = "text"


def _fields(kept: Kept) -> dict[str, Kind]:
    names = ["id", "createdate", kept.modified, *kept.properties, *(ID_OF[kind] for kind in kept.belongs_to)]
    names += list(_NOBODY) if kept.has_owner else []
    names += ["merged_into"] if kept.merged == "led away" else []
    return dict.fromkeys(names, _TEXT)


def _flat(record: Record) -> dict[str, Any]:
    """A record with its properties as fields, beside what it may have besides."""
    properties = record.get("properties")
    others = {name: value for name, value in record.items() if name not in ENVELOPE}
    return {**others, **(properties if isinstance(properties, dict) else {}), "id": str(record["id"])}


def _merged(record: Record) -> Iterable[str]:
    return [key for key in str(record.get("hs_merged_object_ids") or "").split(";") if key]


def _associated(ask: Ask, kind: str, to_kind: str, keys: Sequence[str]) -> dict[str, str]:
    """The record of another type that each record belongs to: the primary one, else the one with the lowest id."""
    path = f"/crm/associations/{_version(ask.source)}/{kind}/{to_kind}/batch/read"
    found: dict[str, list[dict[str, Any]]] = {}
    waiting: list[dict[str, str]] = [{"id": key} for key in keys]
    while waiting:
        document = ask.api.send("POST", path, holds="results", json={"inputs": waiting[:ASSOCIATED]})
        lost = [error for error in documents_in(document, "errors") if error.get("category") != NOTHING_THERE]
        if lost:
            raise Retriable(
                f"HubSpot did not say what some {kind} belong to: {tell(lost[0].get('message')) or 'no reason'}"
            )
        following = []
        for result in documents_in(document, "results"):
            key = str((result.get("from") or {}).get("id"))
            known = found.setdefault(key, [])
            before = len(known)
            known.extend(documents_in(result, "to"))
            after = _after(result)
            if after is not None and len(known) == before:
                raise Retriable(f"HubSpot says that {kind} {key} belongs to more {to_kind}, and not to which.")
            if after is not None:
                following.append({"id": key, "after": after})
        waiting = [*following, *waiting[ASSOCIATED:]]
    return {key: _first(targets) for key, targets in found.items() if targets}


def _first(targets: Sequence[Mapping[str, Any]]) -> str:
    def order(target: Mapping[str, Any]) -> tuple[bool, int, str]:
        labels = [str(kind.get("label")) for kind in documents_in(target, "associationTypes")]
        key = str(target.get("toObjectId"))
        return (not any(label.startswith("Primary") for label in labels), len(key), key)

    return str(min(targets, key=order).get("toObjectId"))


_NOBODY: Mapping[str, str | None] = {"owner_name": None, "owner_email": None}


def _owners(ask: Ask) -> Mapping[str, Mapping[str, str | None]]:
    """Names and e-mail addresses by owner, read once for a load."""
    if "owners" not in ask.memo:
        path = f"/crm/owners/{_version(ask.source)}"
        ask.memo["owners"] = {
            str(owner.get("id")): {
                "owner_name": " ".join(filter(None, (owner.get("firstName"), owner.get("lastName")))) or None,
                "owner_email": str(owner.get("email") or ""),
            }
            for archived in ("true", "false")
            for document in _documents(ask, path, limit=MOST_OWNERS, archived=archived)
            for owner in documents_in(document, "results")
        }
    found: Mapping[str, Mapping[str, str | None]] = ask.memo["owners"]
    return found


def _documents(ask: Ask, path: str, *, after: str | None = None, **params: Any) -> Iterator[Any]:
    """Pages of a list, from `after` on to the last one. Raises `Fatal` where they lead in a circle."""
    told = set[str]()
    while after not in told:
        told |= {after} if after is not None else set()
        document = ask.api.get(path, holds="results", **params, after=after)
        yield document
        after = _after(document)
        if after is None:
            return
    raise Fatal(f"HubSpot's pages of {path} lead in a circle.", hint="Run again; if it happens again, tell HubSpot.")


def _objects(source: Any, name: str) -> str:
    return f"/crm/objects/{_version(source)}/{name}"


def _version(source: Any) -> str:
    return str(source.api_version)


def _after(document: Any) -> str | None:
    paging = document.get("paging") if isinstance(document, dict) else None
    following = paging.get("next") if isinstance(paging, dict) else None
    return str(following["after"]) if isinstance(following, dict) and following.get("after") else None


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)


# --- the account -------------------------------------------------------------------------------------------------------


class _Account(Client):
    """A connection to one account, which raises what a refusal means."""

    def __init__(self, source: HubSpotSource, limit: Limiter) -> None:
        token = source.token.get_secret_value()
        headers, timeout = {"Authorization": f"Bearer {token}"}, source.timeout_seconds
        address = secure(source.base_url or BASE_URL)
        super().__init__(address, headers=lambda: headers, limiter=limit, timeout=timeout, http=source.http)
        self._token = token

    def send(self, method: str, url: str, **request: Any) -> Answer:
        """One request; its answer is a success."""
        answer = super().send(method, url, **request)
        if not answer.is_success:
            refuse(answer, self._token)
        return answer


def _connect(source: HubSpotSource) -> Access:
    limit = limiter(_door(source), source.requests, PER_SECONDS)
    return Access(_Account(source, limit))


def _search_limiter(source: Any) -> Limiter:
    return limiter(f"{_door(source)} search", source.searches, 1.0)


def _door(source: HubSpotSource) -> str:
    """What requests are counted by: the address, and the token without telling it."""
    token = hashlib.sha256(source.token.get_secret_value().encode()).hexdigest()[:16]
    return f"hubspot {source.base_url or BASE_URL} {token}"


def _quota(answer: Answer) -> str | None:
    allowed = answer.headers.get("x-hubspot-ratelimit-daily", "")
    left = answer.headers.get("x-hubspot-ratelimit-daily-remaining", "")
    if not (allowed.isdigit() and left.isdigit()):
        return None
    return f"{int(left):,} of {int(allowed):,} calls of the day left"


VENDOR = Vendor(
    name="HubSpot",
    resources={name: _Reader(name).resource() for name in KINDS},
    connect=_connect,
    credential="`token`",
    told=lambda answer: None,
    quota=_quota,
)
