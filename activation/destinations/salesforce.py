"""Salesforce: accounts (or another object) updated by record id, or updated and upserted by an external id.

Lives here: Salesforce's paths, limits, tokens and error codes. Must not live here: retrying, batching, what is sent.

The pages of Salesforce's documentation behind the rules (developer.salesforce.com/docs):
- 200 records a call, `allOrNone`, results in the order of the request, external ids only: REST API, "Update/Upsert Records
  Using sObject Collections".
- Jobs: Bulk API 2.0, "Create a Job", "Upload Job Data", "Upload Complete", "Get Job Successful/Failed/Unprocessed Record
  Results"; "Prepare Data to Ingest" (#N/A clears, an empty cell is left alone; 150 MB a job).
- tokens, limits and refusals: `core/salesforce.py`.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any
from urllib.parse import quote

from activation.accounting import complete, json_value, likes, moment_text, number_text, unsendable
from activation.base import Change, Field, Limits, Mode, Problem, RowResult, Value
from core.blocks import HTTP, HttpConfig
from core.errors import Fatal, Retriable, TenureError, UserError
from core.http import Answer, document_of, documents_in, tell
from core.salesforce import API_VERSION, DAILY_WAIT, TRANSIENT, Organisation
from core.words import percent

COLLECTION_ROWS = 200
QUERY_LETTERS = 12_000
"""Of keys in the address of a query; Salesforce takes addresses of 16,384 letters."""
BULK_ROWS = 10_000
"""Rows of a job. Salesforce works through a job in parts of 10,000 rows; a killed run repeats at most one job."""
KEPT_FREE = 0.05
"""Share of the daily calls that are left to others."""
NOT_FOUND = ("ENTITY_IS_DELETED", "NOT_FOUND", "INVALID_CROSS_REFERENCE_KEY")
CLEARED = "#N/A"
ACCEPTED = {
    "text": ("string", "textarea", "picklist", "multipicklist", "url", "phone", "email", "combobox"),
    "number": ("double", "int", "currency", "percent", "long"),
    "boolean": ("boolean",),
    "date": ("date",),
    "datetime": ("datetime",),
}
"""Our kind of field -> types of Salesforce that take it."""
DONE, LOST = "JobComplete", ("Failed", "Aborted")
WRONG = ("InvalidBatch", "ClientInputError", "InvalidField")
"""Begins what Salesforce says of a job that fails because of its columns: the same rows will fail again."""


class Salesforce:
    """Records of one Salesforce organisation.

    `login_url` is that of My Domain. Without `external_id`, a change's key is the record id; with it, the value of that
    field. Mode `upsert` needs it, and creates records. A run of more than `bulk_above` rows goes through Bulk API 2.0.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        login_url: str,
        api_version: str = API_VERSION,
        object: str = "Account",
        external_id: str | None = None,
        mode: Mode = "update",
        bulk_above: int = 2000,
        timeout: float = 60.0,
        http: HttpConfig = HTTP,
        bulk_seconds: float = 1800.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if mode == "upsert" and external_id is None:
            raise UserError(
                "Salesforce upserts by an external id, and none is named.",
                hint="Name it as external_id, or use the mode update, whose keys are record ids.",
            )
        for name in (object, external_id):
            if name is not None and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise UserError(f"{name!r} is not a name of Salesforce.")
        self._object, self._external, self._mode, self._bulk_above = object, external_id, mode, bulk_above
        self._data = f"/services/data/v{api_version.removeprefix('v')}"
        self._organisation = Organisation(client_id, client_secret, login_url, timeout=timeout, http=http)
        self._bulk_seconds, self._sleep = bulk_seconds, sleep

    def account(self) -> str | None:
        """The id of the organisation."""
        return self._organisation.organisation_id

    def limits(self, rows: int) -> Limits:
        """Collections of 200; jobs of 10,000 where there is more to send than `bulk_above`."""
        return Limits(batch_rows=BULK_ROWS if rows > self._bulk_above else COLLECTION_ROWS)

    def upsert(self, batch: Sequence[Change]) -> Sequence[RowResult]:
        """A collection for up to 200 rows, a job for more. Only rows of mode `upsert` that are not retired may be created."""
        good, results = unsendable(batch)
        self._heed_limit()
        creating = [change for change in good if self._mode == "upsert" and change.operation != "retire"]
        updating = [change for change in good if self._mode == "update" or change.operation == "retire"]
        write = self._in_bulk if len(good) > COLLECTION_ROWS else self._collection
        if creating:
            results += write("upsert", {change.key: change for change in creating})
        if updating:
            results += self._updated(updating, write)
        return complete(batch, results, host=self._organisation.host)

    def _updated(self, changes: Sequence[Change], write: Callable[..., list[RowResult]]) -> list[RowResult]:
        """Update by record id. Where a record id that an earlier answer told is no longer there, it is looked up anew."""
        known, results = self._record_ids(changes)
        results += write("update", known) if known else []
        told = {change.key: change for change in changes if self._external is not None and change.remote_id is not None}
        stale = [told[result.key] for result in results if result.error_code == "not_found" and result.key in told]
        if not stale:
            return results
        again = [replace(change, remote_id=None) for change in stale]
        keys = {change.key for change in again}
        return [*(result for result in results if result.key not in keys), *self._updated(again, write)]

    # --- collections ----------------------------------------------------------------------------------------------

    def _collection(self, operation: str, changes: Mapping[str, Change]) -> list[RowResult]:
        """`changes` by what identifies them at Salesforce: a record id to update, the external id to upsert."""
        field = self._external if operation == "upsert" and self._external else "id"
        path = f"{self._data}/composite/sobjects" + (
            f"/{self._object}/{self._external}" if operation == "upsert" else ""
        )
        records = [
            {
                "attributes": {"type": self._object},
                field: key,
                **{name: json_value(value) for name, value in change.values.items() if name != field},
            }
            for key, change in changes.items()
        ]
        answer = self._organisation.send("PATCH", path, json={"allOrNone": False, "records": records})
        return self._ordered(operation, changes, answer)

    def _ordered(self, operation: str, changes: Mapping[str, Change], answer: Answer) -> list[RowResult]:
        """Results in the order of the request; where ids show another order, only what is certain counts."""
        document, status = document_of(answer), answer.status_code
        entries = [entry for entry in document if isinstance(entry, dict)] if isinstance(document, list) else []
        batch = list(changes.values())
        results: list[RowResult] = []
        if operation == "update" and not _in_order(list(changes), entries):
            by_id = {_short(key): change for key, change in changes.items()}
            pairs = [(by_id.get(_short(str(entry.get("id")))), entry) for entry in entries if entry.get("success")]
            results = [_outcome(change, entry, status) for change, entry in pairs if change is not None]
        elif len(entries) == len(batch):
            results = [_outcome(change, entry, status) for change, entry in zip(batch, entries, strict=True)]
        clean = [self._clean(result) for result in results]
        return complete(batch, clean, host=answer.request.url.host, http_status=status)

    # --- jobs -----------------------------------------------------------------------------------------------------

    def _in_bulk(self, operation: str, changes: Mapping[str, Change]) -> list[RowResult]:
        """A job; rows that a job cannot say go as collections."""
        literal = [key for key, change in changes.items() if CLEARED in (key, *change.values.values())]
        results: list[RowResult] = []
        for start in range(0, len(literal), COLLECTION_ROWS):
            part = {key: changes[key] for key in literal[start : start + COLLECTION_ROWS]}
            results += self._collection(operation, part)
        rest = {key: change for key, change in changes.items() if key not in set(literal)} if literal else changes
        return results + self._job(operation, rest) if rest else results

    def _job(self, operation: str, changes: Mapping[str, Change]) -> list[RowResult]:
        field = self._external if operation == "upsert" and self._external else "Id"
        wanted = {"object": self._object, "operation": operation, "contentType": "CSV", "lineEnding": "LF"}
        if operation == "upsert":
            wanted["externalIdFieldName"] = field
        jobs = f"{self._data}/jobs/ingest"
        job = document_of(self._organisation.send("POST", jobs, json=wanted)) or {}
        path = f"{jobs}/{job['id']}" if isinstance(job, dict) and "id" in job else None
        if path is None:
            raise Retriable("Salesforce made no job.")
        text = table_of(changes, field)
        self._organisation.send(
            "PUT", f"{path}/batches", content=text.encode("utf-8"), headers={"content-type": "text/csv"}
        )
        self._organisation.send("PATCH", path, json={"state": "UploadComplete"})
        state = self._wait(path)
        return self._job_results(path, changes, field, state)

    def _wait(self, path: str) -> Mapping[str, Any]:
        """The job when it has ended. One that takes too long is aborted; what it did stays done, and is safe to repeat."""
        waited, pause = 0.0, 0.25
        while True:
            job = document_of(self._organisation.send("GET", path))
            job = job if isinstance(job, dict) else {}
            if job.get("state") == DONE or job.get("state") in LOST:
                return job
            if waited >= self._bulk_seconds:
                self._organisation.send("PATCH", path, json={"state": "Aborted"})
                raise Retriable(f"A job of Salesforce did not end within {self._bulk_seconds:.0f} s, and was aborted.")
            self._sleep(pause)
            waited, pause = waited + pause, min(pause * 1.5, 10.0)

    def _job_results(
        self, path: str, changes: Mapping[str, Change], field: str, job: Mapping[str, Any]
    ) -> list[RowResult]:
        """Rows that went well, rows that failed, and rows that a job which was broken off never came to."""
        by_key = {_short(key) if field == "Id" else key: change for key, change in changes.items()}
        results: list[RowResult] = []
        told = tell(job.get("errorMessage"), *self._organisation.secrets) if job.get("state") in LOST else None
        if told and told.startswith(WRONG) and not job.get("numberRecordsProcessed"):
            raise Fatal(
                f"Salesforce refused the job as a whole: {told}.",
                hint="Check that the field exists, and that the user's permission set lets it be seen and edited.",
            )
        for kind in ("successfulResults", "failedResults", "unprocessedrecords"):
            text = self._organisation.send("GET", f"{path}/{kind}", headers={"accept": "text/csv"}).text
            for row in csv.DictReader(io.StringIO(text)):
                key = str(row.get(field) or "")
                change = by_key.get(_short(key) if field == "Id" else key)
                if change is not None:
                    results.append(self._clean(_job_outcome(change, kind, row, told)))
        return complete(list(changes.values()), results, host=self._organisation.host, http_status=200, told=told)

    # --- abilities ------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """A new token by client credentials. Raises `Unauthorized` where Salesforce gives none."""
        self._organisation.refresh()

    def preflight(self, fields: Sequence[Field]) -> Sequence[Problem]:
        """Token, object, and that each field exists with the right type and may be written, by describing the object."""
        try:
            answer = self._organisation.send("GET", f"{self._data}/sobjects/{self._object}/describe")
        except Retriable:
            raise
        except TenureError as error:
            return [Problem(error.message, error.hint or "")]
        known = {str(entry.get("name")): entry for entry in documents_in(document_of(answer), "fields")}
        return list(self._problems(fields, known))

    def read(self, changes: Sequence[Change]) -> Iterable[tuple[str, Mapping[str, Value] | None]]:
        """Records by SOQL, 200 a query."""
        for part in _asked_at_once(changes):
            names = sorted({name for change in part for name in change.values})
            found = self._found(part, names)
            for change in part:
                record = found.get(change.key if self._external is not None else _short(change.key))
                yield change.key, None if record is None else likes(change, record)

    # --- parts ----------------------------------------------------------------------------------------------------

    def _record_ids(self, changes: Sequence[Change]) -> tuple[dict[str, Change], list[RowResult]]:
        """Changes by record id, and a rejection for each that has no record: nothing is created by an update."""
        if self._external is None:
            return {change.key: change for change in changes}, []
        known = {change.remote_id: change for change in changes if change.remote_id is not None}
        unknown = [change for change in changes if change.remote_id is None]
        missing = []
        for part in _asked_at_once(unknown):
            found = self._found(part, ())
            for change in part:
                record = found.get(change.key)
                if record is None:
                    said = f"No {self._object} has this {self._external}."
                    missing.append(RowResult(change.key, "rejected", error_code="not_found", error=said))
                else:
                    known[str(record["Id"])] = change
        return known, missing

    def _found(self, changes: Sequence[Change], names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Records by key."""
        field = self._external or "Id"
        keys = ", ".join(f"'{_quoted(change.key)}'" for change in changes)
        columns = ", ".join(dict.fromkeys(("Id", field, *names)))
        soql = f"SELECT {columns} FROM {self._object} WHERE {field} IN ({keys})"
        found: dict[str, Mapping[str, Any]] = {}
        path: str | None = f"{self._data}/query?q={quote(soql, safe='')}"
        while path:
            document = document_of(self._organisation.send("GET", path))
            if not isinstance(document, dict):
                raise Retriable("Salesforce answered a query with something else.")
            for record in documents_in(document, "records"):
                key = str(record.get(field))
                found[_short(key) if self._external is None else key] = record
            path = None if document.get("done", True) else document.get("nextRecordsUrl")
        return found

    def _problems(self, fields: Sequence[Field], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
        for field in fields:
            found = known.get(field.name)
            if found is None:
                yield Problem(
                    f"{self._object} has no field {field.name} that the user may see.",
                    "Create it, or let the user's permission set see it.",
                )
            elif found.get("type") not in ACCEPTED[field.kind]:
                yield Problem(
                    f"The field {field.name} is of type {found.get('type')}, and a {field.kind} is sent.",
                    "Map another field.",
                )
            elif not found.get("updateable"):
                yield Problem(
                    f"The user may not write the field {field.name}.", "Let the user's permission set edit it."
                )
        if self._external is not None:
            found = known.get(self._external)
            if found is None or not (found.get("externalId") or found.get("idLookup")):
                yield Problem(
                    f"{self._external} is not an external id of {self._object}.", "Mark the field as external id."
                )
            elif not found.get("unique"):
                yield Problem(f"{self._external} is not unique.", "Mark the field as unique.")

    def _heed_limit(self) -> None:
        """Leave the last of the day's calls to others."""
        if self._organisation.used >= 1 - KEPT_FREE:
            # The next answer tells anew how many are used: the calls come back as hours pass.
            used, self._organisation.used = self._organisation.used, 0.0
            raise Retriable(f"{percent(used)} of the day's calls to Salesforce are used.", retry_after=DAILY_WAIT)

    def _clean(self, result: RowResult) -> RowResult:
        said = tell(result.error, *self._organisation.secrets)
        return result if said == result.error else result._replace(error=said)


def table_of(changes: Mapping[str, Change], field: str) -> str:
    """The CSV of a job: `field` holds the keys of `changes`. A field that a row does not have is empty, which changes nothing."""
    names = list(dict.fromkeys(name for change in changes.values() for name in change.values if name != field))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([field, *names])
    for key, change in changes.items():
        writer.writerow([key, *(cell(change.values[name]) if name in change.values else "" for name in names)])
    return out.getvalue()


def cell(value: Value) -> str:
    """A value in the CSV of a job; #N/A clears, and nothing else can be said by it."""
    if value is None or value == "":
        return CLEARED
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str) else number_text(value)


def _outcome(change: Change, entry: Mapping[str, Any], http_status: int) -> RowResult:
    if entry.get("success") is True:
        return RowResult(change.key, "ok", remote_id=entry.get("id"), http_status=http_status)
    error = next(iter(documents_in(entry, "errors")), {})
    code = str(error.get("statusCode") or "error")
    return _failure(change, code, str(error.get("message") or "Salesforce gives no reason."), http_status)


def _job_outcome(change: Change, kind: str, row: Mapping[str, Any], told: str | None) -> RowResult:
    if kind == "successfulResults":
        return RowResult(change.key, "ok", remote_id=row.get("sf__Id") or None, http_status=200)
    if kind == "unprocessedrecords":
        said = "The job ended before it came to this row." + (f" {told}" if told else "")
        return RowResult(change.key, "retriable", http_status=200, error_code="unprocessed", error=said)
    error = str(row.get("sf__Error") or "")
    return _failure(change, error.partition(":")[0] or "error", error, 200)


def _failure(change: Change, code: str, said: str, http_status: int) -> RowResult:
    return RowResult(
        change.key,
        "retriable" if code in TRANSIENT else "rejected",
        http_status=http_status,
        error_code="not_found" if code in NOT_FOUND else code,
        error=said,
    )


def _in_order(keys: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each result that names a record names the one at its place."""
    return len(keys) == len(entries) and all(
        not entry.get("id") or _short(str(entry["id"])) == _short(key) for key, entry in zip(keys, entries, strict=True)
    )


def _asked_at_once(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Changes whose keys fit into one query: 200, and not too long for an address."""
    part: list[Change] = []
    length = 0
    for change in changes:
        own = len(quote(_quoted(change.key), safe="")) + 12
        if part and (len(part) == COLLECTION_ROWS or length + own > QUERY_LETTERS):
            yield part
            part, length = [], 0
        part.append(change)
        length += own
    if part:
        yield part


def _short(key: str) -> str:
    """A record id without the three letters that only make it safe to compare without regard to case."""
    return key[:15] if len(key) == 18 else key


def _quoted(text: str) -> str:
    """A text within the quotes of SOQL."""
    return text.replace("\\", "\\\\").replace("'", "\\'")
