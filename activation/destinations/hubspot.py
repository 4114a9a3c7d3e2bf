"""HubSpot: companies (or another object type) updated by record id, or upserted by a unique property.

Lives here: HubSpot's paths, limits, property types and error bodies. Must not live here: retrying, batching, what is sent.

The pages of HubSpot's documentation behind the rules (developers.hubspot.com/docs):
- paths: API reference, "Overview" of a dated version: `/crm/objects/2026-03/...`. A version is supported for 18 months; v1 to
  v4 end in September 2027 ("Migration guide"). From 2026-09 on, updates also have to satisfy the account's required properties.
- 100 inputs a call, `idProperty`, `objectWriteTraceId`, 207: "Batch update companies", "Error handling" (multi-status errors).
- strings as values, dates at midnight UTC or YYYY-MM-DD, an empty string clears: "Properties", "Objects" guides.
- limits and refusals: `core/hubspot.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from activation.accounting import complete, likes, moment_text, number_text, unsendable
from activation.base import Change, Field, Limits, Mode, Problem, RowResult, Value
from core.blocks import HTTP, HttpConfig
from core.errors import Fatal, Forbidden, Unauthorized, UserError
from core.http import Answer, Client, Limiter, document_of, documents_in, secure, tell
from core.hubspot import API_VERSION, BASE_URL, PER_SECONDS, REQUESTS, refuse

BATCH_ROWS = 100
NOT_FOUND = "OBJECT_NOT_FOUND"
TRANSIENT = ("RATE_LIMITS", "RATE_LIMIT", "INTERNAL_ERROR", "TIMEOUT", "SERVICE_UNAVAILABLE")
TYPES = {
    "text": ("string", "text"),
    "number": ("number", "number"),
    "boolean": ("bool", "booleancheckbox"),
    "date": ("date", "date"),
    "datetime": ("datetime", "date"),
}
"""Our kind of field -> type and field type of a property."""
ACCEPTED = {
    "text": ("string", "enumeration", "phone_number"),
    "number": ("number",),
    "boolean": ("bool", "enumeration"),
    "date": ("date",),
    "datetime": ("datetime",),
}
_CHOICES = [
    {"label": label, "value": value, "displayOrder": place, "hidden": False}
    for place, (label, value) in enumerate([("Yes", "true"), ("No", "false")])
]


class HubSpot:
    """Companies of one HubSpot account.

    `token` is that of a service key, of an app's static authentication, or of a legacy private app. With `id_property`, a
    change's key is the value of that unique property instead of the record id; mode `upsert` needs it. `group` is the group
    in which `setup` makes properties.
    """

    def __init__(
        self,
        token: str,
        *,
        base_url: str = BASE_URL,
        api_version: str = API_VERSION,
        object_type: str = "companies",
        id_property: str | None = None,
        mode: Mode = "update",
        group: str = "tenure",
        timeout: float = 30.0,
        http: HttpConfig = HTTP,
    ) -> None:
        if mode == "upsert" and id_property is None:
            raise UserError(
                "HubSpot upserts by a unique property, and none is named.",
                hint="Name it as id_property, or use the mode update, whose keys are record ids.",
            )
        self._token, self._id_property, self._mode, self._group, self._type = (
            token,
            id_property,
            mode,
            group,
            object_type,
        )
        self._objects = f"/crm/objects/{api_version}/{object_type}"
        self._properties = f"/crm/properties/{api_version}/{object_type}"
        self._client = Client(
            secure(base_url),
            headers=lambda: {"Authorization": f"Bearer {self._token}"},
            limiter=Limiter(REQUESTS, PER_SECONDS),
            timeout=timeout,
            http=http,
        )

    def limits(self, rows: int) -> Limits:
        """HubSpot's, whatever the number of rows."""
        return Limits(batch_rows=BATCH_ROWS, requests=REQUESTS, per_seconds=PER_SECONDS)

    def upsert(self, batch: Sequence[Change]) -> Sequence[RowResult]:
        """One call; two where a batch of mode `upsert` also retires rows: a retired row must not create a company."""
        good, results = unsendable(batch)
        creating = [change for change in good if self._mode == "upsert" and change.operation != "retire"]
        updating = [change for change in good if self._mode == "update" or change.operation == "retire"]
        for verb, changes in (("upsert", creating), ("update", updating)):
            if changes:
                results += self._write(verb, changes)
        return results

    def _write(self, verb: str, changes: Sequence[Change]) -> list[RowResult]:
        inputs = [
            {
                **self._id_of(change),
                "properties": {name: as_text(value) for name, value in change.values.items()},
                "objectWriteTraceId": str(number),
            }
            for number, change in enumerate(changes)
        ]
        answer = self._ask("POST", f"{self._objects}/batch/{verb}", json={"inputs": inputs})
        return self._results(changes, answer)

    def _id_of(self, change: Change) -> dict[str, str]:
        if self._id_property is not None:
            return {"id": change.key, "idProperty": self._id_property}
        # Not the id that an earlier answer told: of two companies that were merged, both would have the survivor's, and HubSpot
        # refuses a batch that names an id twice.
        return {"id": change.key}

    def _results(self, changes: Sequence[Change], answer: Answer) -> list[RowResult]:
        document = document_of(answer)
        document = document if isinstance(document, dict) else {}
        by_trace = {str(number): change for number, change in enumerate(changes)}
        by_id = {self._id_of(change)["id"]: change for change in changes}
        status, request = answer.status_code, request_id(answer, document)
        results: list[RowResult] = []
        told = None
        for result in documents_in(document, "results"):
            change = by_trace.get(str(result.get("objectWriteTraceId"))) or by_id.get(self._told_id(result))
            if change is not None:
                results.append(
                    RowResult(change.key, "ok", remote_id=result.get("id"), http_status=status, request_id=request)
                )
        for error in documents_in(document, "errors"):
            category, sentence = str(error.get("category") or "error"), tell(error.get("message"), self._token)
            named = [by_trace[name] for name in _named(error, "objectWriteTraceId") if name in by_trace]
            named += [
                by_id[name] for name in (*_named(error, "ids"), *_named(error, "id")) if name in by_id and not named
            ]
            told = told or (sentence if not named else None)
            results += [
                RowResult(
                    change.key,
                    "retriable" if category in TRANSIENT else "rejected",
                    http_status=status,
                    error_code="not_found" if category == NOT_FOUND else category,
                    error=sentence,
                    request_id=request,
                )
                for change in named
            ]
        return complete(
            changes, results, host=answer.request.url.host, http_status=status, request_id=request, told=told
        )

    def _told_id(self, record: Mapping[str, Any]) -> str:
        if self._id_property is None:
            return str(record.get("id"))
        return str((record.get("properties") or {}).get(self._id_property))

    # --- abilities ------------------------------------------------------------------------------------------------

    def preflight(self, fields: Sequence[Field]) -> Sequence[Problem]:
        """Scopes of the token, then that each field is a property of the right type that can be written."""
        try:
            problems = self._missing_scopes()
            known = self._known_properties()
        except (Unauthorized, Forbidden) as error:
            return [Problem(error.message, error.hint or "")]
        return [*problems, *self._missing_properties(fields, known)]

    def setup(self, fields: Sequence[Field]) -> Sequence[str]:
        """Makes the group and the properties that are missing; leaves alone what is there."""
        made: list[str] = []
        groups = {group.get("name") for group in self._listed(f"{self._properties}/groups")}
        wanted = [_definition(field, self._group) for field in fields]
        if self._id_property is not None:
            unique = Field(self._id_property, "text", "Customer key", "The key by which Tenure finds this record.")
            wanted.append({**_definition(unique, self._group), "hasUniqueValue": True})
        known = self._known_properties()
        missing = [definition for definition in wanted if definition["name"] not in known]
        if missing and self._group not in groups:
            body = {"name": self._group, "label": self._group.replace("_", " ").capitalize(), "displayOrder": -1}
            self._ask("POST", f"{self._properties}/groups", json=body)
            made.append(f"Created the group of properties {self._group}.")
        for start in range(0, len(missing), BATCH_ROWS):
            part = missing[start : start + BATCH_ROWS]
            document = document_of(self._ask("POST", f"{self._properties}/batch/create", json={"inputs": part}))
            done = {entry.get("name") for entry in documents_in(document, "results")}
            lost = [definition["name"] for definition in part if definition["name"] not in done]
            if lost:
                raise Fatal(
                    f"HubSpot did not create {', '.join(lost)}.", hint="Create them by hand, in the object's settings."
                )
            made += [f"Created the property {definition['name']} ({definition['label']})." for definition in part]
        return made

    def read(self, changes: Sequence[Change]) -> Iterable[tuple[str, Mapping[str, Value] | None]]:
        """Batch read, 100 a call. Records that are archived, merged away or unknown are not there."""
        for start in range(0, len(changes), BATCH_ROWS):
            yield from self._read(changes[start : start + BATCH_ROWS])

    def _read(self, changes: Sequence[Change]) -> Iterator[tuple[str, Mapping[str, Value] | None]]:
        body: dict[str, Any] = {
            "inputs": [{"id": self._id_of(change)["id"]} for change in changes],
            "properties": sorted({name for change in changes for name in change.values}),
            "propertiesWithHistory": [],
        }
        if self._id_property is not None:
            body["idProperty"] = self._id_property
        document = document_of(self._ask("POST", f"{self._objects}/batch/read", json=body))
        found = {self._told_id(record): record.get("properties") or {} for record in documents_in(document, "results")}
        for change in changes:
            values = found.get(self._id_of(change)["id"])
            yield change.key, None if values is None else likes(change, values)

    # --- parts ----------------------------------------------------------------------------------------------------

    def account(self) -> str | None:
        """The id of the account (HubSpot's hub or portal), as far as HubSpot says whose the token is."""
        found = self._token_info().get("hubId")
        return None if found is None else str(found)

    def _token_info(self) -> Mapping[str, Any]:
        """What HubSpot says of the token; it does for private apps, not for every other kind of token."""
        path = "/oauth/v2/private-apps/get/access-token-info"
        answer = self._client.send("POST", path, json={"tokenKey": self._token})
        document = document_of(answer)
        return document if answer.status_code == 200 and isinstance(document, dict) else {}

    def _missing_scopes(self) -> list[Problem]:
        """What the token may not do, where HubSpot says it."""
        info = self._token_info()
        if "scopes" not in info:
            return []
        scopes = set(info["scopes"])
        needed = (f"crm.objects.{self._type}.read", f"crm.objects.{self._type}.write", f"crm.schemas.{self._type}.read")
        return [
            Problem(f"The token lacks the scope {scope}.", "Add it to the service key or the app in HubSpot.")
            for scope in needed
            if scope not in scopes
        ]

    def _missing_properties(self, fields: Sequence[Field], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
        for field in fields:
            found = known.get(field.name)
            if found is None:
                yield Problem(
                    f"HubSpot has no property {field.name} on {self._type}.",
                    "`tenure sync setup` makes it, or do it by hand.",
                )
            elif found.get("type") not in ACCEPTED[field.kind]:
                yield Problem(
                    f"The property {field.name} is of type {found.get('type')}, and {TYPES[field.kind][0]} is sent.",
                    "Map another property, or make this one anew.",
                )
            elif (found.get("modificationMetadata") or {}).get("readOnlyValue") or found.get("calculated"):
                yield Problem(f"The property {field.name} cannot be written.", "Map another property.")
        if self._id_property is not None and not (known.get(self._id_property) or {}).get("hasUniqueValue"):
            yield Problem(
                f"{self._id_property} is not a property with unique values on {self._type}.",
                "`tenure sync setup` makes it; an existing property cannot become unique.",
            )

    def _known_properties(self) -> dict[str, dict[str, Any]]:
        return {str(entry.get("name")): entry for entry in self._listed(self._properties) if not entry.get("archived")}

    def _listed(self, path: str) -> list[dict[str, Any]]:
        document = document_of(self._ask("GET", path))
        if not isinstance(document, dict) or "results" not in document:
            raise Fatal(f"HubSpot does not tell what {path} is.", hint="Check the API version.")
        return documents_in(document, "results")

    def _ask(self, method: str, path: str, **request: Any) -> Answer:
        answer = self._client.send(method, path, **request)
        if not answer.is_success:
            refuse(answer, self._token)
        return answer


def as_text(value: Value) -> str:
    """A property's value: all are strings, booleans `true` and `false`, dates YYYY-MM-DD; an empty one clears."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str) else number_text(value)


def request_id(answer: Answer, document: Mapping[str, Any]) -> str | None:
    """What HubSpot's support asks for."""
    found = answer.headers.get("x-hubspot-correlation-id") or document.get("correlationId")
    return None if found is None else str(found)


def _definition(field: Field, group: str) -> dict[str, Any]:
    kind, field_type = TYPES[field.kind]
    definition = {
        "name": field.name,
        "label": field.label,
        "description": field.description,
        "groupName": group,
        "type": kind,
        "fieldType": field_type,
    }
    return {**definition, "options": _CHOICES} if kind == "bool" else definition


def _named(error: Mapping[str, Any], what: str) -> list[str]:
    """The rows that an error names, in its own context and in those of its parts."""
    found: list[str] = []
    for part in (error, *documents_in(error, "errors")):
        context = part.get("context")
        values = context.get(what) if isinstance(context, dict) else None
        found += [str(value) for value in (values if isinstance(values, list) else [values]) if value is not None]
    return found
