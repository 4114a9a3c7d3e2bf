"""The reading side of the stand-in for HubSpot: lists, search, associations and owners.

Lives here: how records are shown, found and paged through, with HubSpot's limits. Must not live here: writing, tokens and
limits of requests (`hubspot.py`), what stand-ins share (`standin.py`).

What it holds to: 100 records a page of a list and 200 of a search, `after` as the only way on, a search that ends at 10,000
results and does not find archived records or those not yet indexed, 1,000 ids in a call for associations, records that were
merged away shown only in `hs_merged_object_ids` of the survivor, values that are all text, dates in ISO 8601.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import ge, gt, le, lt
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.hubspot_shapes import lack
from sandbox.standin import Body, Store

MOST_LISTED = 100
MOST_FOUND = 200
MOST_RESULTS = 10_000
MOST_ASSOCIATED = 1_000
PER_ASSOCIATED = 500
MOST_OWNERS = 500
OBJECTS = ("companies", "contacts", "emails", "meetings", "calls", "notes", "tickets", "deals")
"""Types of records that can be read."""
MODIFIED = {"contacts": "lastmodifieddate"}
"""What the moment of the last change is called, where it is not hs_lastmodifieddate."""
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {"GT": gt, "GTE": ge, "LT": lt, "LTE": le}


@dataclass(frozen=True)
class Shown:
    """One record as it is shown: its number, and when it changed last, in milliseconds."""

    number: int
    modified: int
    record: Body


class Shelf:
    """The records of one type in the order of their ids, made anew when the store has changed."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Store, int, list[Shown], list[Shown]]] = {}

    def live(self, store: Store, kind: str) -> list[Shown]:
        return self._of(store, kind)[2]

    def archived(self, store: Store, kind: str) -> list[Shown]:
        return self._of(store, kind)[3]

    def _of(self, store: Store, kind: str) -> tuple[Store, int, list[Shown], list[Shown]]:
        made = self._made.get(kind)
        if made is None or made[0] is not store or made[1] != store.version:
            shown = sorted(_shown(kind, store.all(kind)), key=lambda found: found.number)
            live = [found for found in shown if not found.record["archived"]]
            made = (store, store.version, live, [found for found in shown if found.record["archived"]])
            self._made[kind] = made
        return made


def listed(shelf: Shelf, store: Store, kind: str, request: Request, most: int, unknown: Collection[str]) -> Response:
    """A page of a list, of at most `most` records. Properties that are `unknown` are not told, though they are asked for."""
    limit = _number(request.query_params.get("limit"), 10)
    after = request.query_params.get("after", "")
    if not 0 < limit <= MOST_LISTED or (after and not after.isdigit()):
        return _refused(f"limit has to be 1 to {MOST_LISTED}, and after what an answer told.")
    wanted = [name for text in request.query_params.getlist("properties") for name in text.split(",") if name]
    asked = [name for name in wanted if name not in unknown]
    is_archived = request.query_params.get("archived") == "true"
    found = (shelf.archived if is_archived else shelf.live)(store, kind)
    start = bisect_right(found, int(after), key=lambda shown: shown.number) if after else 0
    limit = min(limit, most)
    page = found[start : start + limit]
    has_more = start + limit < len(found)
    return JSONResponse(
        _page([told(kind, shown.record, asked) for shown in page], page[-1].number if has_more else None)
    )


def searched(
    shelf: Shelf,
    store: Store,
    kind: str,
    document: Body,
    most: int,
    unindexed: Collection[str],
    unknown: Collection[str],
) -> Response:
    """A page of a search: records that satisfy all filters of one of the groups, but for those that are not indexed yet."""
    refused = lack("PublicObjectSearchRequest", document)
    if refused is not None:
        return _refused(refused)
    limit, after = document["limit"], _number(document.get("after"), 0)
    if not 0 < limit <= MOST_FOUND:
        return _refused(f"The limit of a search is 1 to {MOST_FOUND}.")
    if after + limit > MOST_RESULTS:
        return _refused(f"A search returns at most {MOST_RESULTS} results.")
    groups = [group.get("filters", []) for group in document.get("filterGroups", [])] or [[]]
    try:
        found = [
            shown
            for shown in shelf.live(store, kind)
            if shown.record["id"] not in unindexed and any(_satisfies(kind, shown, filters) for filters in groups)
        ]
    except (ValueError, KeyError) as error:
        return _refused(f"There was a problem with the request: {error}")
    for sort in reversed(document.get("sorts", [])):
        by_id = sort.get("propertyName") == "hs_object_id"
        found.sort(
            key=(lambda shown: shown.number) if by_id else (lambda shown: shown.modified),
            reverse=sort.get("direction") == "DESCENDING",
        )
    limit = min(limit, most)
    page = found[after : after + limit]
    has_more = after + limit < len(found)
    asked = [name for name in document.get("properties", []) if name not in unknown]
    results = [told(kind, shown.record, asked) for shown in page]
    return JSONResponse({"total": len(found), **_page(results, after + limit if has_more else None)})


def associated(store: Store, targets: Store, kind: str, to_kind: str, document: Body) -> Response:
    """What records of one type belong to, by record; those that belong to nothing are named as errors.

    `targets` knows which of the records that are belonged to were merged away.
    """
    refused = lack("BatchInput", document, "PublicFetchAssociationsBatchRequest")
    if refused is not None:
        return _refused(refused)
    inputs = document["inputs"]
    if not 0 < len(inputs) <= MOST_ASSOCIATED:
        return _refused(f"There have to be 1 to {MOST_ASSOCIATED} inputs.")
    results, missing = [], []
    for row in inputs:
        record = store.get(kind, str(row["id"]))
        keys = [] if record is None else record.get("associations", {}).get(to_kind, [])
        start = int(row.get("after") or 0)
        part = keys[start : start + PER_ASSOCIATED]
        if not part:
            missing.append(str(row["id"]))
            continue
        result: Body = {
            "from": {"id": str(row["id"])},
            "to": [_target(_survivor(targets, to_kind, key), start + place) for place, key in enumerate(part)],
        }
        if start + PER_ASSOCIATED < len(keys):
            result["paging"] = {"next": {"after": str(start + PER_ASSOCIATED)}}
        results.append(result)
    now = iso(datetime.now(UTC))
    answer: Body = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
    if missing:
        said = f"No {to_kind} is associated with {kind} {missing[0]}."
        answer |= {
            "numErrors": 1,
            "errors": [standard_error("OBJECT_NOT_FOUND", said, {"fromObjectId": missing})],
        }
    return JSONResponse(answer, 207 if missing else 200)


def owners(store: Store, request: Request) -> Response:
    """A page of owners: people that records are assigned to."""
    limit, after = _number(request.query_params.get("limit"), 100), _number(request.query_params.get("after"), 0)
    if not 0 < limit <= MOST_OWNERS:
        return _refused(f"limit has to be 1 to {MOST_OWNERS}.")
    is_archived = request.query_params.get("archived") == "true"
    found = [owner for owner in store.all("owners").values() if bool(owner["archived"]) is is_archived]
    has_more = after + limit < len(found)
    return JSONResponse(_page(found[after : after + limit], after + limit if has_more else None))


def owner(key: str, email: str, *, at: str, first_name: str = "", last_name: str = "", archived: bool = False) -> Body:
    """A person that records can be assigned to, as they are shown: without the names that they did not give."""
    names = {name: value for name, value in (("firstName", first_name), ("lastName", last_name)) if value}
    shown = {"id": key, "email": email, **names, "type": "PERSON"}
    return {**shown, "archived": archived, "createdAt": at, "updatedAt": at}


def standard_error(category: str, message: str, context: Mapping[str, Sequence[str]]) -> Body:
    """What is said of some rows of a batch."""
    said = {"status": "error", "category": category, "message": message, "context": dict(context)}
    return {**said, "errors": [], "links": {}}


def told(kind: str, record: Body, asked: Sequence[str]) -> Body:
    """A record with the properties that were asked for, NULL where it has none. `beside` is what it has beside them."""
    own = record["properties"]
    always = ("hs_object_id", "createdate", MODIFIED.get(kind, "hs_lastmodifieddate"))
    names = dict.fromkeys((*always, *asked))
    shown = {name: value for name, value in record.items() if name in ("id", "createdAt", "updatedAt", "archived")}
    if record["archived"]:
        shown["archivedAt"] = record["updatedAt"]
    return {**shown, **record.get("beside", {}), "properties": {name: own.get(name) or None for name in names}}


def milliseconds(text: str) -> int:
    """A moment as HubSpot's filters compare it: given in milliseconds, or in ISO 8601."""
    if text.lstrip("-").isdigit():
        return int(text)
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000)


def iso(moment: datetime) -> str:
    """A moment as HubSpot writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(kind: str, records: Mapping[str, Body]) -> Iterable[Shown]:
    """Records as they are shown: those merged away are named by their survivor, which changed when they were merged."""
    merged: dict[str, list[Body]] = {}
    for record in records.values():
        if record.get("mergedInto") is not None:
            merged.setdefault(record["mergedInto"], []).append(record)
    for key, record in records.items():
        if record.get("mergedInto") is not None:
            continue
        modified = max(milliseconds(each["updatedAt"]) for each in (record, *merged.get(key, ())))
        moment = iso(datetime.fromtimestamp(modified / 1000, UTC))
        properties = {**record["properties"], MODIFIED.get(kind, "hs_lastmodifieddate"): moment}
        if key in merged:
            properties["hs_merged_object_ids"] = ";".join(sorted(each["id"] for each in merged[key]))
        yield Shown(int(key), modified, {**record, "updatedAt": moment, "properties": properties})


def _satisfies(kind: str, shown: Shown, filters: Iterable[Body]) -> bool:
    return all(_passes(kind, shown, wanted) for wanted in filters)


def _passes(kind: str, shown: Shown, wanted: Body) -> bool:
    name, operator = wanted["propertyName"], wanted["operator"]
    if name == "hs_object_id":
        number = shown.number
    elif name == MODIFIED.get(kind, "hs_lastmodifieddate"):
        number = shown.modified
    else:
        return bool(operator == "EQ" and shown.record["properties"].get(name) == wanted["value"])
    if operator == "BETWEEN":
        return milliseconds(wanted["value"]) <= number <= milliseconds(wanted["highValue"])
    if operator == "EQ":
        return number == milliseconds(wanted["value"])
    return _SIGNS[operator](number, milliseconds(wanted["value"]))


def _survivor(store: Store, kind: str, key: str) -> str:
    record = store.get(kind, key)
    merged_into = record.get("mergedInto") if record is not None else None
    return key if merged_into is None else _survivor(store, kind, merged_into)


def _target(key: str, place: int) -> Body:
    kinds: list[Body] = [{"category": "HUBSPOT_DEFINED", "typeId": 2}]
    if place == 0:
        kinds.insert(0, {"category": "HUBSPOT_DEFINED", "typeId": 1, "label": "Primary"})
    return {"toObjectId": key, "associationTypes": kinds}


def _page(results: list[Body], after: int | None) -> Body:
    if after is None:
        return {"results": results}
    return {"results": results, "paging": {"next": {"after": str(after), "link": f"?after={after}"}}}


def _number(given: Any, default: int) -> int:
    text = str(given or "")
    return int(text) if text.isdigit() else default


def _refused(message: str) -> Response:
    body = {"status": "error", "message": message, "category": "VALIDATION_ERROR"}
    return JSONResponse({**body, "correlationId": "00000000-0000-4000-8000-000000000000"}, 400)
