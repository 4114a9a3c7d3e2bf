"""A stand-in for Salesforce: accounts that are written to, records that are read, tokens, Bulk API 2.0, describe and SOQL.

Lives here: what Salesforce answers, its documented limits, and the faults that only it knows. Must not live here: what stand-ins
share (`standin.py`), the understanding of SOQL (`salesforce_reading.py`), what Tenure sends.

What it holds to: 200 records a call, no id twice in a call, an unknown field or a value of the wrong JSON type (the whole call
is 400), results in the order of the request, tokens that expire, a number of calls in a day with `Sforce-Limit-Info` on every
answer, jobs that are created, filled once, closed and polled. Beyond the faults of all stand-ins it knows `partial` (of each
`detail.every`-th row the error `detail.code`), `silent` (an empty list), `short` (one result less), `shuffle`, `refuse` (the
whole call 400), `limit` (403 REQUEST_LIMIT_EXCEEDED), and for jobs `break` (the job fails after `detail.rows` rows), `lose`
(one row is in no result) and `stuck` (the job never ends). A fault with the match `job` waits for the next job to be closed.
A query job fails with `fail`, and a page of a query leads to itself with `circle`.
"""

from __future__ import annotations

import base64
import csv
import io
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox import salesforce_reading as reading
from sandbox.crm_export import last_day
from sandbox.salesforce_export import LEGACY, exported_accounts, exported_facts
from sandbox.salesforce_reading import Locators, Malformed, full_id, stamp
from sandbox.serve import serving
from sandbox.standin import Body, Fault, StandIn, Store, fault_of

CLIENT_ID, CLIENT_SECRET = "sandbox-client", "sandbox-client-secret"
MOST_RECORDS = 200
MOST_JOB_BYTES = 100_000_000
MOST_ADDRESS = 16_384
STANDARD = {
    "Id": "id",
    "Name": "string",
    "Website": "url",
    "Industry": "picklist",
    "NumberOfEmployees": "int",
    "BillingCountry": "string",
    "ParentId": "reference",
    "OwnerId": "reference",
    "MasterRecordId": "reference",
}
SYSTEM = {"IsDeleted": "boolean", "CreatedDate": "datetime", "SystemModstamp": "datetime"}
"""Fields that only Salesforce writes."""
OBJECTS = {
    "Contact": {"AccountId": "reference", "Email": "email", "Title": "string", "HasOptedOutOfEmail": "boolean"},
    "Task": {
        "AccountId": "reference",
        "WhoId": "reference",
        "Subject": "string",
        "Description": "textarea",
        "TaskSubtype": "picklist",
        "CallType": "picklist",
        "Status": "picklist",
        "IsClosed": "boolean",
        "ActivityDate": "date",
        "CompletedDateTime": "datetime",
    },
    "Event": {
        "AccountId": "reference",
        "WhoId": "reference",
        "Subject": "string",
        "Description": "textarea",
        "StartDateTime": "datetime",
        "ActivityDateTime": "datetime",
    },
    "Case": {
        "AccountId": "reference",
        "Subject": "string",
        "Description": "textarea",
        "Priority": "picklist",
        "Status": "picklist",
        "ClosedDate": "datetime",
    },
}
"""Objects beyond accounts, with the fields that they have besides `Id` and those of the system."""
JOB_FAULTS = ("break", "lose", "stuck", "partial")


class SalesforceStandIn(StandIn):
    """One Salesforce organisation. `daily_calls` are allowed in all; `now` tells the moment of a change.

    A user sees all objects but those in `forbidden`, and all fields but those in `hidden`, such as `Case.Priority`.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        daily_calls: int = 1_000_000,
        polls: int = 1,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        data = "/services/data/{version}"
        super().__init__(
            [
                Route("/services/oauth2/token", self._login, methods=["POST"]),
                Route(f"{data}/composite/sobjects", self._guarded(self._update), methods=["PATCH"]),
                Route(f"{data}/composite/sobjects/Account/{{field}}", self._guarded(self._upsert), methods=["PATCH"]),
                Route(f"{data}/sobjects/{{object}}/describe", self._guarded(self._describe)),
                *(Route(f"{data}/{name}", self._guarded(self._query)) for name in ("query", "query/")),
                *(Route(f"{data}/{name}", self._guarded(self._query_all)) for name in ("queryAll", "queryAll/")),
                Route(f"{data}/query/{{locator}}", self._guarded(self._more)),
                Route(f"{data}/queryAll/{{locator}}", self._guarded(self._more)),
                Route(f"{data}/jobs/query", self._guarded(self._create_query_job), methods=["POST"]),
                Route(f"{data}/jobs/query/{{job}}", self._guarded(self._query_job), methods=["GET", "PATCH", "DELETE"]),
                Route(f"{data}/jobs/query/{{job}}/results", self._guarded(self._query_job_results)),
                Route(f"{data}/jobs/ingest", self._guarded(self._create_job), methods=["POST"]),
                Route(f"{data}/jobs/ingest/{{job}}", self._guarded(self._job), methods=["GET", "PATCH"]),
                Route(f"{data}/jobs/ingest/{{job}}/batches", self._guarded(self._upload), methods=["PUT"]),
                Route(f"{data}/jobs/ingest/{{job}}/{{kind}}", self._guarded(self._job_results)),
            ],
            store=store,
        )
        self.clients = {CLIENT_ID: CLIENT_SECRET}
        self.tokens: set[str] = set()
        self.organisation_id = "00D000000000001EAA"
        self.daily_calls, self.used, self.polls = daily_calls, 0, polls
        self.jobs: dict[str, Body] = {}
        self.query_jobs, self.page_rows = 0, reading.MOST_QUERY
        self.forbidden = set[str]()
        self._external: dict[str, dict[str, str]] = {}
        self.now, self.hidden, self.locators = now, set[str](), Locators()
        self._views: dict[str, tuple[Store, int, list[Body]]] = {}
        if not self.store.all("fields"):
            self.store.put("fields", {name: _field(name, kind) for name, kind in STANDARD.items()})

    # --- what tests and the sandbox say ---------------------------------------------------------------------------

    def seed(self, accounts: Iterable[Mapping[str, Any]]) -> None:
        """Accounts by fields; one without an `Id` gets one from its `id`, a number."""
        moment = self._moment()
        self.store.put(
            "Account",
            {
                (key := str(account.get("Id") or record_id(int(account["id"])))): {
                    "Id": key,
                    **{name: value for name, value in account.items() if name in self.store.all("fields")},
                    "_created": account.get("CreatedDate", moment),
                    "_modified": account.get("SystemModstamp", moment),
                }
                for account in accounts
            },
        )

    def put(self, object: str, key: str, *, at: str | None = None, **values: Any) -> None:
        """A record as somebody enters or changes it, at `at` or now. `Owner={"Email": ...}` tells a parent's fields, and `beside`
        what is told without having been asked for.
        """
        moment = stamp(at) if at is not None else self._moment()
        before = self.store.get(object, key) or {"Id": key, "_created": values.get("CreatedDate", moment)}
        values = {"_beside": values.pop("beside", {}), "IsDeleted": False, **values}
        self.store.put(object, {key: {**before, **values, "_modified": moment}})

    def merge(self, key: str, master: str) -> None:
        """Merge an account into another one: it is deleted, and names its master."""
        record = self.store.get("Account", key)
        if record is not None:
            changed = {"IsDeleted": True, "MasterRecordId": master, "_modified": self._moment()}
            self.store.put("Account", {key: {**record, **changed}})

    def take(self, data: Path) -> None:
        """The records of a sandbox company's CRM; `Legacy_Id__c` and `Segment__c` are fields that its administrator made."""
        for object, fields in LEGACY.items():
            for name in fields:
                self.define(name, object=object)
        survivors, accounts = exported_accounts(data)
        self.store.put("Account", accounts)
        for object, records in exported_facts(data, survivors).items():
            self.store.put(object, records)

    def account(self, key: str) -> Body:
        """The fields of an account that have a value."""
        record = self.store.get("Account", key) or {}
        return {name: value for name, value in record.items() if value is not None and not name.startswith("_")}

    def define(
        self,
        name: str,
        kind: str = "string",
        *,
        external: bool = False,
        updateable: bool = True,
        object: str = "Account",
    ) -> None:
        """A field that an administrator made."""
        kept = "fields" if object == "Account" else f"fields of {object}"
        self.store.put(kept, {name: {**_field(name, kind, external), "updateable": updateable}})

    def delete(self, key: str, object: str = "Account", *, at: str | None = None) -> None:
        record = self.store.get(object, key)
        if record is not None:
            moment = stamp(at) if at is not None else self._moment()
            self.store.put(object, {key: {**record, "IsDeleted": True, "_modified": moment}})

    def expire(self) -> None:
        """Every token that was given out ends."""
        self.tokens.clear()

    def state(self) -> Body:
        return {"accounts": len(self.store.all("Account")), "used": self.used, "jobs": len(self.jobs)}

    # --- tokens and limits ----------------------------------------------------------------------------------------

    def refusal(self, status: int, detail: Body) -> Response:
        known = {401: "INVALID_SESSION_ID", 403: "INSUFFICIENT_ACCESS", 503: "SERVER_UNAVAILABLE"}
        code = known.get(status, "UNKNOWN_EXCEPTION" if status >= 500 else "INVALID_INPUT")
        body = [{"message": detail.get("message", "told to fail"), "errorCode": detail.get("code", code)}]
        return JSONResponse(detail.get("body", body), status, headers=detail.get("headers"))

    async def _login(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if form.get("grant_type") != "client_credentials":
            return JSONResponse(
                {"error": "unsupported_grant_type", "error_description": "grant type not supported"}, 400
            )
        if self.clients.get(form.get("client_id", "")) != form.get("client_secret"):
            said = "invalid client credentials"
            if fault_of(request, "echo"):
                said += f": {form.get('client_secret')}"
            return JSONResponse({"error": "invalid_client", "error_description": said}, 400)
        token = "00D" + secrets.token_hex(16)
        self.tokens.add(token)
        instance = f"{request.url.scheme}://{request.url.netloc}"
        identity = f"https://login.salesforce.com/id/{self.organisation_id}/005000000000001AAA"
        token_of = {"access_token": token, "instance_url": instance, "id": identity, "token_type": "Bearer"}
        return JSONResponse({**token_of, "issued_at": "0"})

    def _guarded(self, handler: Any) -> Any:
        async def guarded(request: Request) -> Response:
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            if token not in self.tokens:
                return self.refusal(401, {"message": "Session expired or invalid"})
            fault = fault_of(request, "limit", "refuse", "echo")
            self.used += 1
            if self.used > self.daily_calls or (fault is not None and fault.kind == "limit"):
                detail = {"message": "TotalRequests Limit exceeded.", "code": "REQUEST_LIMIT_EXCEEDED"}
                return self.refusal(403, detail)
            if fault is not None:
                said = f"refused with {token}" if fault.kind == "echo" else "told to refuse"
                return self.refusal(400, {"message": said, "code": "INVALID_FIELD"})
            response: Response = await handler(request)
            response.headers["Sforce-Limit-Info"] = f"api-usage={self.used}/{self.daily_calls}"
            return response

        return guarded

    # --- collections ----------------------------------------------------------------------------------------------

    async def _update(self, request: Request) -> Response:
        return await self._collection(request, None)

    async def _upsert(self, request: Request) -> Response:
        field = self.store.get("fields", request.path_params["field"])
        if field is None or not field["externalId"]:
            return self.refusal(400, {"message": "The field is not an external id.", "code": "INVALID_FIELD"})
        return await self._collection(request, field["name"])

    async def _collection(self, request: Request, external: str | None) -> Response:
        records = (await request.json())["records"]
        key_field = external or "id"
        problem = self._whole_call(records, external)
        if problem is not None:
            return self.refusal(400, {"code": problem[0], "message": problem[1]})
        fault = fault_of(request, "partial", "silent", "short", "shuffle")
        if fault is not None and fault.kind == "silent":
            return JSONResponse([])
        entries: list[Body] = []
        changed: dict[str, Body] = {}
        for number, record in enumerate(records):
            values = {name: value for name, value in record.items() if name not in ("attributes", "id", external)}
            error = _told(fault, number) or self._row_problem(values)
            key = self._key(str(record[key_field]), external, changed)
            if error is None and external is None and key is None:
                error = ("ENTITY_IS_DELETED", "entity is deleted")
            if error is not None:
                entries.append(
                    {"success": False, "errors": [{"statusCode": error[0], "message": error[1], "fields": []}]}
                )
                continue
            entry: Body = {"id": key or self._new_key(changed), "success": True, "errors": []}
            changed[entry["id"]] = {**self._before(entry["id"], changed, external, record), **values}
            entries.append(entry if external is None else {**entry, "created": key is None})
        self._keep(changed)
        if fault is not None and fault.kind == "shuffle":
            entries.reverse()
        if fault is not None and fault.kind == "short":
            entries.pop()
        return JSONResponse(entries)

    def _whole_call(self, records: Sequence[Body], external: str | None) -> tuple[str, str] | None:
        if len(records) > MOST_RECORDS:
            return (
                "EXCEEDED_ID_LIMIT",
                f"record limit reached. cannot submit more than {MOST_RECORDS} records in this call",
            )
        keys = [str(record.get(external or "id", "")) for record in records]
        if len(set(keys)) < len(keys):
            return "INVALID_INPUT", "duplicate id specified"
        fields = self.store.all("fields")
        for record in records:
            if record.get("attributes", {}).get("type") != "Account":
                return "INVALID_TYPE", "sObject type is required"
            for name, value in record.items():
                if name in ("attributes", "id"):
                    continue
                if name not in fields:
                    return "INVALID_FIELD", f"No such column '{name}' on sobject of type Account"
                if not _fits(fields[name]["type"], value):
                    return (
                        "JSON_PARSER_ERROR",
                        f"Cannot deserialize instance of {fields[name]['type']} from {value!r:.40}",
                    )
        return None

    def _row_problem(self, values: Mapping[str, Any]) -> tuple[str, str] | None:
        fields = self.store.all("fields")
        for name, value in values.items():
            if not fields[name]["updateable"]:
                return "INVALID_FIELD_FOR_INSERT_UPDATE", f"Unable to create/update fields: {name}."
            if isinstance(value, str) and len(value) > fields[name]["length"]:
                return (
                    "STRING_TOO_LONG",
                    f"{name}: data value too large: {value[:20]} (max length={fields[name]['length']})",
                )
        return None

    def _key(self, key: str, external: str | None, changed: Mapping[str, Body]) -> str | None:
        """The id of the record that a row means, None where there is none."""
        if external is not None:
            known = self._external.setdefault(external, {})
            if not known:
                known.update(
                    (str(record[external]), record["Id"])
                    for record in self.store.all("Account").values()
                    if record.get(external) is not None
                )
            return known.get(key)
        found = changed.get(key) or self.store.get("Account", key) or self.store.get("Account", full_id(key))
        return None if found is None or found.get("IsDeleted") else str(found["Id"])

    def _before(self, key: str, changed: Mapping[str, Body], external: str | None, row: Mapping[str, Any]) -> Body:
        before = changed.get(key) or self.store.get("Account", key)
        if before is None:
            return {"Id": key, external or "Id": row[external or "Id"]}
        return before

    def _new_key(self, changed: Mapping[str, Body]) -> str:
        return record_id(
            900_000_000 + len(self.store.all("Account")) + sum(key not in self.store.all("Account") for key in changed)
        )

    def _keep(self, changed: Mapping[str, Body]) -> None:
        if changed:
            moment = self._moment()
            self.store.put("Account", {key: {**record, "_modified": moment} for key, record in changed.items()})
            self._external.clear()

    def _moment(self) -> str:
        return stamp(self.now().astimezone(UTC).isoformat(timespec="milliseconds"))

    # --- describe and query ---------------------------------------------------------------------------------------

    async def _describe(self, request: Request) -> Response:
        name = request.path_params["object"]
        fields = self._fields(name)
        if fields is None:
            return self.refusal(404, {"code": "NOT_FOUND", "message": "The requested resource does not exist"})
        return JSONResponse({"name": name, "fields": list(fields.values())})

    def _fields(self, object: str) -> Mapping[str, Body] | None:
        """The fields of an object that the user may see."""
        if object in self.forbidden or (object != "Account" and object not in OBJECTS):
            return None
        own = {name: _field(name, kind) for name, kind in {"Id": "id", **OBJECTS.get(object, {})}.items()}
        extra = self.store.all(f"fields of {object}")
        system = {name: {**_field(name, kind), "updateable": False} for name, kind in SYSTEM.items()}
        fields = {**system, **(self.store.all("fields") if object == "Account" else own), **extra}
        return {name: given for name, given in fields.items() if f"{object}.{name}" not in self.hidden}

    async def _query(self, request: Request) -> Response:
        return self._queried(request, with_deleted=False)

    async def _query_all(self, request: Request) -> Response:
        return self._queried(request, with_deleted=True)

    def _queried(self, request: Request, *, with_deleted: bool) -> Response:
        if len(request.url.path) + len(request.url.query) > MOST_ADDRESS:
            return self.refusal(414, {"code": "URI_TOO_LONG", "message": "The address is too long."})
        try:
            query = reading.parsed(request.query_params.get("q", ""), self._fields)
        except Malformed as error:
            return self.refusal(400, {"code": error.code, "message": error.said})
        found = self._found(query, with_deleted)
        if not query.names:
            return JSONResponse({"totalSize": len(found), "done": True, "records": []})
        return self._page(request, found, len(found), 0)

    async def _more(self, request: Request) -> Response:
        if fault_of(request, "circle"):
            return JSONResponse({"totalSize": 1, "done": False, "nextRecordsUrl": request.url.path, "records": []})
        key, _, start = request.path_params["locator"].rpartition("-")
        found = self.locators.open.get(key)
        if found is None or not start.isdigit():
            return self.refusal(400, {"code": "INVALID_QUERY_LOCATOR", "message": "invalid query locator"})
        return self._page(request, found, len(found), int(start), key)

    def _page(self, request: Request, found: list[Body], total: int, start: int, key: str | None = None) -> Response:
        size = min(self.page_rows, reading.page_size(request.headers.get("sforce-query-options", "")))
        answer: Body = {"totalSize": total, "done": start + size >= total, "records": found[start : start + size]}
        if not answer["done"]:
            key = key or self.locators.keep(found)
            version = request.path_params["version"]
            answer["nextRecordsUrl"] = f"/services/data/{version}/query/{key}-{start + size}"
        if fault_of(request, "cut"):
            answer = {"totalSize": total, "done": False, "records": answer["records"][:1]}
        return JSONResponse(answer)

    def _found(self, query: reading.Query, with_deleted: bool) -> list[Body]:
        records = self._view(query.object)
        return reading.results(query, records if with_deleted else [each for each in records if not each["IsDeleted"]])

    def _view(self, object: str) -> list[Body]:
        """Records as queries see them."""
        made = self._views.get(object)
        if made is None or made[0] is not self.store or made[1] != self.store.version:
            made = (self.store, self.store.version, [_viewed(each) for each in self.store.all(object).values()])
            self._views[object] = made
        return made[2]

    # --- query jobs -----------------------------------------------------------------------------------------------

    async def _create_query_job(self, request: Request) -> Response:
        wanted = await request.json()
        if wanted.get("operation") not in ("query", "queryAll"):
            return self.refusal(400, {"code": "INVALIDJOB", "message": "The job is not valid."})
        try:
            query = reading.parsed(wanted.get("query", ""), self._fields)
        except Malformed as error:
            return self.refusal(400, {"code": error.code, "message": error.said})
        if not query.names:
            return self.refusal(400, {"code": "INVALIDJOB", "message": "COUNT is not supported."})
        self.query_jobs += 1
        key = f"750Q{self.query_jobs:014d}"
        self.jobs[key] = {
            "id": key,
            "state": "UploadComplete",
            "operation": wanted["operation"],
            "object": query.object,
            "names": query.names,
            "found": self._found(query, wanted["operation"] == "queryAll"),
            "polls": self.polls,
            "ends": "Failed" if fault_of(request, "fail") else "JobComplete",
        }
        return JSONResponse(_told_query_job(self.jobs[key]))

    async def _query_job(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["job"])
        if job is None:
            return self.refusal(404, {"code": "NOT_FOUND", "message": "There is no such job."})
        if request.method == "DELETE":
            del self.jobs[job["id"]]
            return Response(status_code=204)
        if request.method == "PATCH":
            job["state"] = (await request.json())["state"]
        elif job["state"] == "UploadComplete":
            job["polls"] -= 1
            if job["polls"] < 0:
                job["state"] = job["ends"]
        return JSONResponse(_told_query_job(job))

    async def _query_job_results(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["job"])
        if job is None or job["state"] != "JobComplete":
            return self.refusal(404, {"code": "NOT_FOUND", "message": "The job has no results."})
        locator = request.query_params.get("locator", "")
        start = int(base64.urlsafe_b64decode(locator)) if locator else 0
        size = int(request.query_params.get("maxRecords", "50000"))
        part = job["found"][start : start + size]
        has_more = start + size < len(job["found"])
        following = base64.urlsafe_b64encode(str(start + size).encode()).decode() if has_more else "null"
        headers = {"Sforce-Locator": following, "Sforce-NumberOfRecords": str(len(part))}
        part = part[:-1] if fault_of(request, "cut") else part
        return PlainTextResponse(reading.table(job["names"], part), media_type="text/csv", headers=headers)

    # --- jobs -----------------------------------------------------------------------------------------------------

    async def _create_job(self, request: Request) -> Response:
        wanted = await request.json()
        if wanted.get("operation") not in ("update", "upsert", "insert") or wanted.get("object") != "Account":
            return self.refusal(400, {"code": "INVALIDJOB", "message": "The job is not valid."})
        external = wanted.get("externalIdFieldName")
        if wanted["operation"] == "upsert" and not (self.store.get("fields", str(external)) or {}).get("externalId"):
            return self.refusal(400, {"code": "INVALIDJOB", "message": "External ID was blank or is none."})
        key = f"750{len(self.jobs):015d}"
        self.jobs[key] = {
            "id": key,
            "state": "Open",
            "operation": wanted["operation"],
            "external": external,
            "text": None,
            "polls": self.polls,
            "successfulResults": [],
            "failedResults": [],
            "unprocessedrecords": [],
            "columns": [],
        }
        return JSONResponse(_told_job(self.jobs[key]))

    async def _upload(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["job"])
        body = await request.body()
        if job is None or job["state"] != "Open" or job["text"] is not None:
            return self.refusal(400, {"code": "INVALIDJOBSTATE", "message": "The job takes no data."})
        if len(body) > MOST_JOB_BYTES:
            return self.refusal(413, {"code": "REQUEST_TOO_LARGE", "message": "The data is too large."})
        job["text"] = body.decode("utf-8")
        return Response(status_code=201)

    async def _job(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["job"])
        if job is None:
            return self.refusal(404, {"code": "NOT_FOUND", "message": "There is no such job."})
        if request.method == "PATCH":
            job["state"] = (await request.json())["state"]
            if job["state"] == "UploadComplete":
                self._run(job, self._job_fault())
        elif job["state"] == "UploadComplete":
            job["polls"] -= 1
            if job["polls"] < 0:
                job["state"] = job["ends"]
        return JSONResponse(_told_job(job))

    def _job_fault(self) -> Fault | None:
        """A job's own fault waits for its closing, whatever its path says."""
        for fault in self.faults:
            if fault.kind in JOB_FAULTS and fault.match == "job":
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                return fault
        return None

    def _next_fault(self, path: str) -> Fault | None:
        held = [fault for fault in self.faults if fault.kind in JOB_FAULTS and fault.match == "job"]
        for fault in held:
            self.faults.remove(fault)
        found = super()._next_fault(path)
        self.faults += held
        return found

    def _run(self, job: Body, fault: Fault | None) -> None:
        rows = list(csv.DictReader(io.StringIO(job["text"] or "")))
        fields = self.store.all("fields")
        columns = list(rows[0]) if rows else []
        job["columns"], job["ends"] = columns, "JobComplete"
        unknown = [name for name in columns if name not in fields]
        if unknown:
            job["ends"], job["error"] = "Failed", f"InvalidBatch : Field name not found : {unknown[0]}"
            job["unprocessedrecords"] = rows
            return
        kind = fault.kind if fault is not None else ""
        if kind == "stuck":
            job["polls"] = 1_000_000
        if kind == "lose":
            rows = rows[1:]
        if kind == "break" and fault is not None:
            job["ends"], job["error"] = "Failed", "told to break"
            job["unprocessedrecords"] = rows[int(fault.detail.get("rows", 0)) :]
            rows = rows[: int(fault.detail.get("rows", 0))]
        changed: dict[str, Body] = {}
        external = job["external"]
        for number, row in enumerate(rows):
            key = self._key(row[external or "Id"], external, changed)
            error = _told(fault if kind == "partial" else None, number)
            values = {}
            for name, text in row.items():
                if name in ("Id", external) or text == "":
                    continue
                try:
                    values[name] = None if text == "#N/A" else _parsed(fields[name]["type"], text)
                except ValueError:
                    error = error or (
                        "INVALID_TYPE_ON_FIELD_IN_RECORD",
                        f"{name}: value not of required type: {text[:20]}",
                    )
            error = error or self._row_problem(values)
            if error is None and external is None and key is None:
                error = ("ENTITY_IS_DELETED", "entity is deleted")
            if error is not None:
                job["failedResults"].append({"sf__Id": "", "sf__Error": f"{error[0]}:{error[1]}:--", **row})
                continue
            found = key or self._new_key(changed)
            changed[found] = {**self._before(found, changed, external, row), **values}
            job["successfulResults"].append({"sf__Id": found, "sf__Created": str(key is None).lower(), **row})
        self._keep(changed)

    async def _job_results(self, request: Request) -> Response:
        kinds = {kind.lower(): kind for kind in ("successfulResults", "failedResults", "unprocessedrecords")}
        job, kind = self.jobs.get(request.path_params["job"]), kinds.get(request.path_params["kind"].lower())
        if kind is None or job is None or job["state"] not in ("JobComplete", "Failed", "Aborted"):
            return self.refusal(404, {"code": "NOT_FOUND", "message": "The job has no results yet."})
        own = {"successfulResults": ["sf__Id", "sf__Created"], "failedResults": ["sf__Id", "sf__Error"]}.get(kind, [])
        out = io.StringIO()
        writer = csv.DictWriter(out, [*own, *job["columns"]], lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(reversed(job[kind]))
        return PlainTextResponse(out.getvalue(), media_type="text/csv")


def record_id(number: int) -> str:
    """The id of 18 letters of the account with a number."""
    return full_id(f"001{number:012d}")


def _field(name: str, kind: str, external: bool = False) -> Body:
    return {
        "name": name,
        "type": kind,
        "label": name,
        "length": 255 if kind in ("string", "url", "picklist") else 32_768,
        "externalId": external,
        "unique": external,
        "idLookup": external or name == "Id",
        "updateable": name not in ("Id", "MasterRecordId"),
        "createable": name != "Id",
    }


def _told(fault: Fault | None, number: int) -> tuple[str, str] | None:
    if fault is None or fault.kind != "partial" or number % int(fault.detail.get("every", 2)):
        return None
    code = fault.detail.get("code", "FIELD_CUSTOM_VALIDATION_EXCEPTION")
    return code, str(fault.detail.get("message", "told to refuse this row"))


def _viewed(record: Body) -> Body:
    """A record with the fields of the system, and those of its parents by `Owner.Email`."""
    seen = {name: value for name, value in record.items() if not name.startswith("_") and not isinstance(value, dict)}
    for parent, fields in record.items():
        if isinstance(fields, dict):
            seen |= {f"{parent}.{name}": value for name, value in fields.items()}
    created, modified = record.get("_created"), record.get("_modified")
    if record.get("_beside"):
        seen["_beside"] = record["_beside"]
    return {**seen, "IsDeleted": bool(record.get("IsDeleted")), "CreatedDate": created, "SystemModstamp": modified}


def _told_query_job(job: Body) -> Body:
    told = {name: job[name] for name in ("id", "state", "operation", "object")}
    if job["state"] == "Failed":
        told["errorMessage"] = "told to fail"
    return told | ({"numberRecordsProcessed": len(job["found"])} if job["state"] == "JobComplete" else {})


def _told_job(job: Body) -> Body:
    told = {"id": job["id"], "state": job["state"], "operation": job["operation"], "object": "Account"}
    if job["state"] in ("JobComplete", "Failed", "Aborted"):
        failed = len(job["failedResults"])
        told |= {"numberRecordsProcessed": len(job["successfulResults"]) + failed, "numberRecordsFailed": failed}
        told |= {"errorMessage": job["error"]} if job.get("error") else {}
    return told


def _fits(kind: str, value: Any) -> bool:
    if value is None:
        return True
    if kind in ("double", "int", "currency", "percent"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "boolean":
        return isinstance(value, bool)
    if not isinstance(value, str):
        return False
    try:
        _parsed(kind, value)
    except ValueError:
        return False
    return True


def _parsed(kind: str, text: str) -> Any:
    if kind in ("double", "currency", "percent"):
        return float(text)
    if kind == "int":
        return int(float(text))
    if kind == "boolean":
        return (
            {"true": True, "false": False, "1": True, "0": False}[text.lower()]
            if text.lower() in ("true", "false", "1", "0")
            else _raise()
        )
    if kind == "date":
        return date.fromisoformat(text).isoformat()
    if kind == "datetime":
        datetime.fromisoformat(text)
    return text


def _raise() -> Any:
    raise ValueError


@contextmanager
def running(home: Path) -> Iterator[str]:
    """The CRM of the sandbox company in `home`, as Salesforce: its address, for as long as the block runs.

    Records have ids of Salesforce's own kind; `Legacy_Id__c` holds those of the export. Activities are tasks that are completed,
    and meetings are events. Its clock stands at the end of the last day that was delivered.
    """
    data = home / "sandbox" / "data"
    day = last_day(data) or datetime.now(UTC).date()
    evening = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    standin = SalesforceStandIn(now=lambda: evening)
    standin.take(data)
    with serving(standin) as url:
        yield url
