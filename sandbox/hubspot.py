"""A stand-in for HubSpot: companies that are written to, records that are read, properties and groups, tokens with scopes.

Lives here: what HubSpot answers, its documented limits, and the faults that only it knows. Must not live here: what stand-ins
share (`standin.py`), how records are paged through (`hubspot_reading.py`), what Tenure sends.

What it holds to: 100 inputs a call, no id twice in a call, no property that does not exist (the whole batch is 400), strings
as the only values, 190 requests in 10 seconds for a token and 5 searches in a second, which are counted apart, scopes by path,
`Bearer` tokens. What is written here changes at `now`, and its moment of the last change is shown. Beyond the faults of all
stand-ins it knows `partial` (of each `detail.every`-th row an error, in a 207), `silent` (a 200 with neither results nor
errors), `shuffle` (results in another order), `bare` (results without trace ids), `refuse` (the whole batch 400), `throttle`
(429; `detail.policy` is TEN_SECONDLY_ROLLING or DAILY) and `circle` (a page of a list that leads to itself).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import hubspot_reading as reading
from sandbox.crm_export import DELIVERED, exported, last_day
from sandbox.hubspot_reading import OBJECTS, Shelf, iso
from sandbox.hubspot_shapes import lack
from sandbox.serve import serving
from sandbox.standin import Body, StandIn, Store, Window, fault_of

TOKEN = "pat-sandbox-0000"
SCOPES = (
    "crm.objects.companies.read",
    "crm.objects.companies.write",
    "crm.schemas.companies.read",
    "crm.schemas.companies.write",
    "crm.objects.contacts.read",
    "crm.objects.deals.read",
    "crm.objects.owners.read",
    "sales-email-read",
    "tickets",
)
READ_SCOPES = {
    "companies": "crm.objects.companies.read",
    "deals": "crm.objects.deals.read",
    "emails": "sales-email-read",
    "tickets": "tickets",
}
"""What a token needs to read records of a type; activities go with the contacts."""
MOST_INPUTS = 100
MOST_TEXT = 65_536
STANDARD = {
    "name": ("string", "text"),
    "domain": ("string", "text"),
    "industry": ("string", "text"),
    "country": ("string", "text"),
    "segment": ("string", "text"),
    "numberofemployees": ("number", "number"),
    "hs_parent_company_id": ("number", "number"),
    "hubspot_owner_id": ("string", "text"),
    "hs_object_id": ("number", "number"),
    "createdate": ("datetime", "date"),
    "hs_lastmodifieddate": ("datetime", "date"),
}
NAMES = {"owner_id": "hubspot_owner_id", "parent_company_id": "hs_parent_company_id"}
"""What a column of the export is called here, where the names differ."""
READ_ONLY = ("hs_object_id", "createdate", "hs_lastmodifieddate")
FIELD_TYPES = {
    "string": ("text", "textarea", "phonenumber", "html", "file"),
    "number": ("number", "calculation_equation"),
    "bool": ("booleancheckbox",),
    "date": ("date",),
    "datetime": ("date",),
    "enumeration": ("select", "radio", "checkbox", "booleancheckbox"),
}
DIRECTIONS = {"emails": {"INBOUND": "INCOMING_EMAIL", "OUTBOUND": "EMAIL"}, "calls": {}}
"""Activities that have a direction of HubSpot's own, and what it is called there."""
TEXTS = {
    "emails": ("hs_email_subject", "hs_email_text"),
    "meetings": ("hs_meeting_title", "hs_meeting_body"),
    "calls": ("hs_call_title", "hs_call_body"),
    "notes": ("subject", "hs_note_body"),
}
"""Where an activity keeps its title and its text. The title of a note, as the direction of meetings and notes, is a property
that the account's administrator made."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}\Z")


class HubSpotStandIn(StandIn):
    """One HubSpot account. `requests` in any `seconds` are allowed for a token, and `searches` in a second.

    `export` is the folder of a sandbox company's data: records other than companies are read from there when they are first
    asked for. `now` tells the moment of a change. `unindexed` are ids of records that a search does not find yet; `unknown` are
    properties that were deleted.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        requests: int = 190,
        seconds: float = 10.0,
        searches: int = 5,
        export: Path | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        read, write = "crm.objects.companies.read", "crm.objects.companies.write"
        see, change = "crm.schemas.companies.read", "crm.schemas.companies.write"
        routes = [Route("/oauth/v2/private-apps/get/access-token-info", self._token_info, methods=["POST"])]
        # The dated paths, and those of v3, by which HubSpot's own client finds its way until September 2027.
        for objects, properties in (
            ("/crm/objects/{version}/companies", "/crm/properties/{version}/companies"),
            ("/crm/v3/objects/companies", "/crm/v3/properties/companies"),
        ):
            routes += [
                Route(path, self._guarded(handler, scope), methods=[method])
                for method, path, handler, scope in (
                    ("POST", f"{objects}/batch/update", self._update, write),
                    ("POST", f"{objects}/batch/upsert", self._upsert, write),
                    ("POST", f"{objects}/batch/read", self._read, read),
                    ("GET", f"{properties}/groups", self._groups, see),
                    ("POST", f"{properties}/groups", self._create_group, change),
                    ("GET", properties, self._properties, see),
                    ("POST", f"{properties}/batch/create", self._create_properties, change),
                )
            ]
        for objects, search, batch in (
            ("/crm/objects/{version}/{kind}", "/crm/objects/{version}/{kind}/search", "/crm/associations/{version}"),
            ("/crm/v3/objects/{kind}", "/crm/v3/objects/{kind}/search", "/crm/v4/associations"),
        ):
            routes += [
                Route(search, self._searching(self._search), methods=["POST"]),
                Route(f"{batch}/{{kind}}/{{to_kind}}/batch/read", self._reading(self._associated), methods=["POST"]),
                Route(objects, self._reading(self._list), methods=["GET"]),
            ]
        owners = self._guarded(self._owners, "crm.objects.owners.read")
        routes += [Route(path, owners) for path in ("/crm/owners/{version}", "/crm/v3/owners", "/crm/v3/owners/")]
        super().__init__(routes, store=store)
        self.window, self.search_window = Window(requests, seconds), Window(searches, 1.0)
        self.now, self.unindexed = now, set[str]()
        self.daily_calls, self.used = 650_000, 0
        self.page_rows, self.unknown = 200, set[str]()
        # What is only read need not be remembered: it is read from the export each time.
        self.memory = Store()
        self._export, self._taken, self._shelf = export, set[str](), Shelf()
        self.tokens: dict[str, tuple[str, ...]] = {TOKEN: SCOPES}
        self.hub_id = 1
        if not self.store.all("properties"):
            group = {"name": "companyinformation", "label": "Company information", "archived": False}
            self.store.put("groups", {"companyinformation": group})
            self.store.put(
                "properties",
                {
                    name: _property(name, kind, field, name.title(), "companyinformation", read_only=name in READ_ONLY)
                    for name, (kind, field) in STANDARD.items()
                },
            )

    # --- what tests and the sandbox say ---------------------------------------------------------------------------

    def seed(self, companies: Iterable[Mapping[str, str]]) -> None:
        """Companies as the CRM's export tells them: `id`, then properties. Those that were merged away answer to the survivor.

        What a company has beyond the export, such as our properties, it keeps.
        """
        found: dict[str, Body] = {}
        for company in companies:
            key = company["id"]
            told = {NAMES.get(name, name): value for name, value in company.items() if value}
            values = {name: value for name, value in told.items() if name in STANDARD}
            before = self.store.get("companies", key)
            merged_into = company.get("merged_into_id") or None
            changed = values.pop("hs_lastmodifieddate", None)
            if before is None:
                record = _record(key, values, merged_into=merged_into, at=changed or iso(self.now()))
                found[key] = {**record, "createdAt": values.get("createdate", record["createdAt"])}
            elif before.get("seeded") != (seeded := _seeded(company)):
                changed = max(changed or iso(self.now()), before["updatedAt"])
                renewed = {"mergedInto": merged_into, "updatedAt": changed, "seeded": seeded}
                found[key] = {**before, "properties": {**before["properties"], **values}, **renewed}
            if key in found:
                found[key]["seeded"] = _seeded(company)
        if found:
            self.store.put("companies", found)

    def put(
        self,
        kind: str,
        key: str,
        *,
        at: str | None = None,
        associations: Mapping[str, Sequence[str]] | None = None,
        beside: Mapping[str, Any] | None = None,
        **properties: str,
    ) -> None:
        """A record as somebody enters or changes it, at `at` or now. `associations` are ids by type.

        `beside` is what the vendor tells of it beside its properties.
        """
        store, moment = self._store_of(kind), at or iso(self.now())
        before = store.get(kind, key) or _record(key, {"createdate": moment}, at=moment)
        changed = {"properties": {**before["properties"], **properties}, "updatedAt": moment, "archived": False}
        kept = before.get("associations", {}) if associations is None else {k: list(v) for k, v in associations.items()}
        store.put(kind, {key: {**before, **changed, "associations": kept, "beside": beside or {}}})

    def own(self, key: str, email: str, *, first_name: str = "", last_name: str = "", archived: bool = False) -> None:
        """A person whom records can be assigned to."""
        person = reading.owner(
            key, email, first_name=first_name, last_name=last_name, at=iso(self.now()), archived=archived
        )
        self._store_of("owners").put("owners", {key: person})

    def merge(self, key: str, survivor: str, kind: str = "companies") -> None:
        """Merge a record into another one."""
        store = self._store_of(kind)
        record = store.get(kind, key)
        if record is not None:
            store.put(kind, {key: {**record, "mergedInto": survivor, "updatedAt": iso(self.now())}})

    def company(self, key: str) -> dict[str, str]:
        """The properties of a company that have a value."""
        record = self.store.get("companies", key)
        return {} if record is None else {name: value for name, value in record["properties"].items() if value != ""}

    def archive(self, key: str, kind: str = "companies", *, at: str | None = None) -> None:
        store = self._store_of(kind)
        record = store.get(kind, key)
        if record is not None:
            store.put(kind, {key: {**record, "archived": True, "updatedAt": at or iso(self.now())}})

    def define(self, name: str, kind: str = "string", *, unique: bool = False) -> None:
        """A property that somebody made by hand."""
        self.store.put(
            "properties", {name: _property(name, kind, FIELD_TYPES[kind][0], name, "companyinformation", unique)}
        )

    def state(self) -> Body:
        return {"companies": len(self.store.all("companies")), "properties": sorted(self.store.all("properties"))}

    # --- answers --------------------------------------------------------------------------------------------------

    def refusal(self, status: int, detail: Body) -> Response:
        category = {401: "INVALID_AUTHENTICATION", 403: "MISSING_SCOPES"}.get(status, "INTERNAL_ERROR")
        body: Body = _error(category, detail.get("message", "told to fail"))
        if status == 403:
            scope = detail.get("scope", "crm.objects.companies.write")
            body["errors"] = [
                {
                    "message": "One or more of the following scopes are required.",
                    "context": {"requiredGranularScopes": [scope]},
                }
            ]
        return JSONResponse(detail.get("body", body), status, headers=detail.get("headers"))

    def _guarded(self, handler: Any, scope: str, *, window: Window | None = None) -> Any:
        async def guarded(request: Request) -> Response:
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            if token not in self.tokens:
                return self.refusal(401, {"message": "Authentication credentials not found."})
            fault = fault_of(request, "throttle", "refuse", "echo")
            if fault is not None and fault.kind == "throttle":
                return self._throttled(fault.detail.get("policy", "TEN_SECONDLY_ROLLING"))
            if fault is not None:
                said = f"refused, and your token is {token}" if fault.kind == "echo" else "told to refuse"
                return JSONResponse(_error("VALIDATION_ERROR", said), 400)
            if not (window or self.window).allows(token):
                return self._throttled("TEN_SECONDLY_ROLLING" if window is None else "SECONDLY")
            if scope not in self.tokens[token]:
                return self.refusal(
                    403, {"message": "This app hasn't been granted all required scopes.", "scope": scope}
                )
            response: Response = await handler(request)
            self.used += 1
            response.headers["X-HubSpot-RateLimit-Daily"] = str(self.daily_calls)
            response.headers["X-HubSpot-RateLimit-Daily-Remaining"] = str(self.daily_calls - self.used)
            return response

        return guarded

    def _throttled(self, policy: str) -> Response:
        word = policy.lower()
        body = {
            "status": "error",
            "message": f"You have reached your {word} limit.",
            "category": "RATE_LIMITS",
            "errorType": "RATE_LIMIT",
            "correlationId": _CORRELATION,
            "policyName": policy,
        }
        milliseconds = "1000" if policy == "SECONDLY" else str(int(self.window.seconds * 1000))
        return JSONResponse(body, 429, headers={"X-HubSpot-RateLimit-Interval-Milliseconds": milliseconds})

    async def _token_info(self, request: Request) -> Response:
        token = (await request.json()).get("tokenKey")
        if token not in self.tokens:
            return self.refusal(401, {"message": "The token is not known."})
        return JSONResponse({"userId": 1, "hubId": self.hub_id, "appId": 1, "scopes": list(self.tokens[token])})

    # --- reading --------------------------------------------------------------------------------------------------

    def _reading(self, handler: Any) -> Any:
        async def read(request: Request) -> Response:
            kind = request.path_params["kind"]
            if kind not in OBJECTS:
                return JSONResponse(_error("OBJECT_NOT_FOUND", f"Unable to infer object type from: {kind}"), 404)
            response: Response = await self._guarded(handler, READ_SCOPES.get(kind, "crm.objects.contacts.read"))(
                request
            )
            return response

        return read

    def _searching(self, handler: Any) -> Any:
        async def search(request: Request) -> Response:
            kind = request.path_params["kind"]
            scope = READ_SCOPES.get(kind, "crm.objects.contacts.read")
            response: Response = await self._guarded(handler, scope, window=self.search_window)(request)
            return response

        return search

    async def _list(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if fault_of(request, "circle"):
            return JSONResponse({"results": [], "paging": {"next": {"after": request.query_params.get("after", "1")}}})
        return reading.listed(self._shelf, self._store_of(kind), kind, request, self.page_rows, self.unknown)

    async def _search(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        document, store = await request.json(), self._store_of(kind)
        return reading.searched(self._shelf, store, kind, document, self.page_rows, self.unindexed, self.unknown)

    async def _associated(self, request: Request) -> Response:
        kind, to_kind = request.path_params["kind"], request.path_params["to_kind"]
        if fault_of(request, "cut"):
            lost = reading.standard_error("INTERNAL_ERROR", "told to lose these", {"ids": ["1"]})
            return JSONResponse(_answer([], [lost]), 207)
        survivors = self.store if to_kind == "companies" else self._store_of(to_kind)
        return reading.associated(self._store_of(kind), survivors, kind, to_kind, await request.json())

    async def _owners(self, request: Request) -> Response:
        return reading.owners(self._store_of("owners"), request)

    def _store_of(self, kind: str) -> Store:
        """Where records of a type are kept: companies, which are written to, in the file; others in memory."""
        if kind == "companies":
            return self.store
        if self._export is not None and kind not in self._taken:
            self._taken.add(kind)
            for other, records in _exported(self._export, kind).items():
                self._taken.add(other)
                self.memory.put(other, records)
        return self.memory

    # --- companies ------------------------------------------------------------------------------------------------

    async def _update(self, request: Request) -> Response:
        return await self._write(request, may_create=False)

    async def _upsert(self, request: Request) -> Response:
        return await self._write(request, may_create=True)

    async def _write(self, request: Request, *, may_create: bool) -> Response:
        document = await request.json()
        refused = lack("BatchInput", document, "SimplePublicObjectBatchInput")
        inputs = document.get("inputs", [])
        refused = refused or self._whole_batch(inputs, may_create)
        if refused is not None:
            return JSONResponse(_error("VALIDATION_ERROR", refused), 400)
        fault = fault_of(request, "partial", "silent", "shuffle", "bare")
        if fault is not None and fault.kind == "silent":
            return JSONResponse(_answer([], []))
        every = int(fault.detail.get("every", 2)) if fault is not None and fault.kind == "partial" else 0
        results, errors = [], []
        changed: dict[str, Body] = {}
        for number, row in enumerate(inputs):
            found = self._find(row["id"], row.get("idProperty"), changed)
            problem = self._values_problem(row["properties"])
            if every and number % every == 0:
                errors.append(_row_error("VALIDATION_ERROR", "told to refuse this row", row))
            elif problem is not None:
                errors.append(_row_error("VALIDATION_ERROR", problem, row))
            elif found is None and not may_create:
                errors.append(
                    _row_error(
                        "OBJECT_NOT_FOUND", "Could not get some COMPANY objects, they may be deleted or not exist.", row
                    )
                )
            else:
                record = found or self._new(row, changed)
                properties = {**record["properties"], **{name: str(value) for name, value in row["properties"].items()}}
                record = {**record, "properties": properties, "updatedAt": iso(self.now())}
                changed[record["id"]] = record
                results.append(_result(record, row, is_new=found is None if may_create else None))
        if changed:
            self.store.put("companies", changed)
        if fault is not None and fault.kind == "shuffle":
            results.reverse()
        if fault is not None and fault.kind == "bare":
            results = [
                {name: value for name, value in result.items() if name != "objectWriteTraceId"} for result in results
            ]
        return JSONResponse(_answer(results, errors), 207 if errors else 200)

    async def _read(self, request: Request) -> Response:
        document = await request.json()
        refused = lack("BatchReadInput", document)
        if refused is not None:
            return JSONResponse(_error("VALIDATION_ERROR", refused), 400)
        inputs, names, id_property = (
            document.get("inputs", []),
            document.get("properties", []),
            document.get("idProperty"),
        )
        if len(inputs) > MOST_INPUTS:
            return JSONResponse(_error("VALIDATION_ERROR", f"The maximum number of inputs is {MOST_INPUTS}."), 400)
        results, missing = [], []
        for row in inputs:
            found = self._find(row["id"], id_property, {})
            if found is None:
                missing.append(row["id"])
            else:
                asked = {
                    name: found["properties"].get(name) or None
                    for name in (*names, *((id_property,) if id_property else ()))
                }
                shown = {
                    name: value for name, value in found.items() if name in ("id", "createdAt", "updatedAt", "archived")
                }
                results.append({**shown, "properties": asked})
        errors = []
        if missing:
            message = "Could not get some COMPANY objects, they may be deleted or not exist. Check that ids are valid."
            errors = [reading.standard_error("OBJECT_NOT_FOUND", message, {"ids": missing})]
        return JSONResponse(_answer(results, errors), 207 if errors else 200)

    def _whole_batch(self, inputs: Sequence[Body], may_create: bool) -> str | None:
        if not 0 < len(inputs) <= MOST_INPUTS:
            return f"There have to be 1 to {MOST_INPUTS} inputs."
        ids = [(row.get("idProperty"), row.get("id")) for row in inputs]
        if any(not isinstance(key, str) or not key for _, key in ids):
            return "Some inputs have no id."
        if len(set(ids)) < len(ids):
            return "Duplicate IDs found in batch input. IDs must be unique."
        if may_create and not all(name for name, _ in ids):
            return "idProperty is required."
        known = self.store.all("properties")
        for name, _ in ids:
            if name is not None and not (name in known and known[name]["hasUniqueValue"]):
                return f'Property "{name}" is not a unique property.'
        for row in inputs:
            for name, value in row.get("properties", {}).items():
                if name not in known:
                    told = json.dumps(
                        [
                            {
                                "isValid": False,
                                "message": f'Property "{name}" does not exist',
                                "error": "PROPERTY_DOESNT_EXIST",
                                "name": name,
                            }
                        ]
                    )
                    return f"Property values were not valid: {told}"
                if known[name]["modificationMetadata"]["readOnlyValue"]:
                    return f'Property values were not valid: "{name}" is a read only property'
                if not isinstance(value, str):
                    return f"Invalid input JSON: the value of {name} is not a string"
        return None

    def _values_problem(self, values: Mapping[str, str]) -> str | None:
        known = self.store.all("properties")
        for name, value in values.items():
            problem = "" if value == "" else _value_problem(known[name]["type"], value)
            if problem:
                return f'Property values were not valid: [{{"name": "{name}", "message": "{value[:40]} {problem}"}}]'
        return None

    def _find(self, key: str, id_property: str | None, changed: Mapping[str, Body]) -> Body | None:
        companies = self.store.all("companies")
        if id_property is None:
            record = changed.get(key) or companies.get(key)
        else:
            # A stand-in may be slow where a unique property is looked up, as long as a benchmark does not wait for it.
            index = self._index(id_property)
            record = companies.get(index[key]) if key in index else None
        if record is not None and record["mergedInto"] is not None:
            return self._find(record["mergedInto"], None, changed)
        return None if record is None or record["archived"] else record

    def _index(self, name: str) -> dict[str, str]:
        return {
            record["properties"][name]: key
            for key, record in self.store.all("companies").items()
            if record["properties"].get(name)
        }

    def _new(self, row: Body, changed: Mapping[str, Body]) -> Body:
        key = str(50_000_000_000 + len(self.store.all("companies")) + len(changed))
        return _record(key, {row["idProperty"]: row["id"]})

    # --- properties -----------------------------------------------------------------------------------------------

    async def _properties(self, request: Request) -> Response:
        return JSONResponse({"results": list(self.store.all("properties").values())})

    async def _groups(self, request: Request) -> Response:
        return JSONResponse({"results": list(self.store.all("groups").values())})

    async def _create_group(self, request: Request) -> Response:
        group = await request.json()
        refused = lack("PropertyGroupCreate", group)
        if refused is not None:
            return JSONResponse(_error("VALIDATION_ERROR", refused), 400)
        if self.store.get("groups", group["name"]) is not None:
            return JSONResponse(_error("OBJECT_ALREADY_EXISTS", f"A group named {group['name']} exists."), 409)
        made = {**group, "archived": False}
        self.store.put("groups", {group["name"]: made})
        return JSONResponse(made, 201)

    async def _create_properties(self, request: Request) -> Response:
        document = await request.json()
        refused = lack("BatchInput", document, "PropertyCreate")
        if refused is not None:
            return JSONResponse(_error("VALIDATION_ERROR", refused), 400)
        inputs = document["inputs"]
        made: dict[str, Body] = {}
        for wanted in inputs:
            name, kind, field = wanted["name"], wanted["type"], wanted["fieldType"]
            problem = None
            if not _NAME.match(name):
                problem = f"{name} is not a valid name"
            elif self.store.get("properties", name) is not None or name in made:
                problem = f"A property named {name} exists."
            elif field not in FIELD_TYPES.get(kind, ()):
                problem = f"{field} is not a field type of {kind}"
            elif self.store.get("groups", wanted["groupName"]) is None:
                problem = f"There is no group {wanted['groupName']}."
            elif kind == "bool" and sorted(option["value"] for option in wanted.get("options", [])) != [
                "false",
                "true",
            ]:
                problem = "Boolean properties must have exactly two options with the values true and false."
            if problem is not None:
                return JSONResponse(_error("VALIDATION_ERROR", problem), 400)
            made[name] = _property(
                name,
                kind,
                field,
                wanted["label"],
                wanted["groupName"],
                bool(wanted.get("hasUniqueValue")),
                description=wanted.get("description", ""),
                options=wanted.get("options", []),
            )
        self.store.put("properties", made)
        return JSONResponse(_answer(list(made.values()), []), 201)


def exported_companies(data: Path) -> list[dict[str, str]]:
    """The companies of the sandbox's CRM, the last version of each, from the files below `data/crm/companies`."""
    return exported(data, "companies")


def _exported(data: Path, kind: str) -> dict[str, dict[str, Body]]:
    """Records of the sandbox's CRM by type and id: all activities with any one of them, since one file holds them."""
    if kind == "owners":
        people = exported(data, "owners")
        return {
            "owners": {
                row["id"]: reading.owner(
                    row["id"], row["email"], first_name=row["first_name"], last_name=row["last_name"], at=_BEGINNING
                )
                for row in people
            }
        }
    if kind == "contacts":
        return {"contacts": {row["id"]: _contact(row) for row in exported(data, "contacts")}}
    if kind not in TEXTS:
        return {}
    found: dict[str, dict[str, Body]] = {name: {} for name in TEXTS}
    for row in exported(data, "engagements"):
        name = row["type"].lower() + "s"
        found[name][row["id"]] = _activity(name, row)
    return found


def _contact(row: Mapping[str, str]) -> Body:
    told = {
        "email": row["email"],
        "role": row["role"],
        "createdate": row["createdate"],
        "hs_email_optout": row["unsubscribed"],
        "left_company_date": row["left_company_date"],
        "associatedcompanyid": row["company_id"],
    }
    record = _record(row["id"], {name: value for name, value in told.items() if value}, at=row["hs_lastmodifieddate"])
    return {**record, "associations": {"companies": [row["company_id"]] if row["company_id"] else []}}


def _activity(kind: str, row: Mapping[str, str]) -> Body:
    title, text = TEXTS[kind]
    direction = f"hs_{kind[:-1]}_direction" if kind in DIRECTIONS else "direction"
    told = {
        "hs_timestamp": _happened(row["timestamp"]),
        direction: DIRECTIONS.get(kind, {}).get(row["direction"], row["direction"]),
        text: row["body"],
        title: row["subject"],
    }
    # An activity does not say when it was changed last: it was entered before its file was written.
    record = _record(row["id"], {name: value for name, value in told.items() if value}, at=row[DELIVERED])
    belongs = {"companies": row["company_id"], "contacts": row["contact_id"]}
    return {**record, "associations": {name: [key] for name, key in belongs.items() if key}}


@contextmanager
def running(home: Path, **limits: int) -> Iterator[str]:
    """The CRM of the sandbox company in `home`, as HubSpot: its address, for as long as the block runs. The token is `TOKEN`.

    It begins with the companies of the export, takes in those that came since, and remembers in `home/sandbox/hubspot.sqlite`
    what was written to it. Its clock stands at the end of the last day that was delivered.
    """
    data = home / "sandbox" / "data"
    store = Store(home / "sandbox" / "hubspot.sqlite")
    day = last_day(data) or datetime.now(UTC).date()
    evening = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    try:
        standin = HubSpotStandIn(store=store, export=data, now=lambda: evening, **limits)
        standin.seed(exported_companies(data))
        with serving(standin) as url:
            yield url
    finally:
        store.close()


_BEGINNING = "2020-01-01T00:00:00.000Z"
"""When people were made, of whom the export does not say so."""
_CORRELATION = "00000000-0000-4000-8000-000000000000"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(category: str, message: str) -> Body:
    return {"status": "error", "message": message, "correlationId": _CORRELATION, "category": category}


def _row_error(category: str, message: str, row: Body) -> Body:
    context = (
        {"ids": [row["id"]]} if "objectWriteTraceId" not in row else {"objectWriteTraceId": [row["objectWriteTraceId"]]}
    )
    return reading.standard_error(category, message, context)


def _answer(results: list[Body], errors: list[Body]) -> Body:
    answer: Body = {"status": "COMPLETE", "results": results, "startedAt": _now(), "completedAt": _now()}
    return {**answer, "numErrors": len(errors), "errors": errors} if errors else answer


def _happened(text: str) -> str:
    """A moment of the export, which is in milliseconds, as HubSpot tells it."""
    return iso(datetime.fromtimestamp(int(text) / 1000, UTC)) if text.isdigit() else text


def _seeded(row: Mapping[str, str]) -> str:
    """A row of the export as it was taken in, to tell whether another one says something else."""
    return json.dumps({name: value for name, value in row.items() if name != DELIVERED}, sort_keys=True)


def _record(key: str, values: Mapping[str, str], merged_into: str | None = None, *, at: str | None = None) -> Body:
    return {
        "id": key,
        "properties": {**values, "hs_object_id": key},
        "createdAt": at or _now(),
        "updatedAt": at or _now(),
        "archived": False,
        "mergedInto": merged_into,
    }


def _result(record: Body, row: Body, *, is_new: bool | None) -> Body:
    result = {name: value for name, value in record.items() if name in ("id", "createdAt", "updatedAt", "archived")}
    result["properties"] = {
        name: record["properties"].get(name)
        for name in (*row["properties"], *((row["idProperty"],) if row.get("idProperty") else ()))
    }
    if "objectWriteTraceId" in row:
        result["objectWriteTraceId"] = row["objectWriteTraceId"]
    return result if is_new is None else {**result, "new": is_new}


def _property(
    name: str,
    kind: str,
    field: str,
    label: str,
    group: str,
    unique: bool = False,
    *,
    description: str = "",
    read_only: bool = False,
    options: Sequence[Body] = (),
) -> Body:
    return {
        "name": name,
        "label": label,
        "type": kind,
        "fieldType": field,
        "groupName": group,
        "description": description,
        "options": list(options),
        "hasUniqueValue": unique,
        "archived": False,
        "modificationMetadata": {"archivable": True, "readOnlyDefinition": False, "readOnlyValue": read_only},
    }


def _value_problem(kind: str, value: str) -> str:
    try:
        if kind == "number":
            float(value)
        elif kind == "date":
            _date_of(value)
        elif kind == "datetime":
            if not value.isdigit():
                datetime.fromisoformat(value)
        elif kind == "bool" and value not in ("true", "false"):
            return "was not one of the allowed options: [true, false]"
        elif kind == "string" and len(value) > MOST_TEXT:
            return "is too long"
    except ValueError:
        return f"was not a valid {kind}"
    return ""


def _date_of(value: str) -> date:
    if value.isdigit():
        if int(value) % 86_400_000:
            raise ValueError("not midnight")
        return datetime.fromtimestamp(int(value) / 1000, UTC).date()
    return date.fromisoformat(value)
