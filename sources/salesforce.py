"""Salesforce: accounts, contacts, tasks, events and cases.

Lives here: SOQL, its pages, query jobs of Bulk API 2.0, and which fields are asked for. Must not live here: retries, stretches,
drift (`api.py`), what a field means (`salesforce.yml`), tokens and what a refusal means (`core/salesforce.py`).

What changed is asked for by `SystemModstamp`, which processes move too, in its order and that of the record ids: so a run that was
killed goes on behind the last record it kept, also when its query locator has expired. `queryAll` also tells deleted records, as
long as they are in the recycle bin, and activities that were archived. A result of more than `bulk_above` records is read as
a job instead, which costs a handful of calls; its results can be asked for again from any part, as long as the job exists.

The pages of Salesforce's documentation behind it (developer.salesforce.com/docs):
- `queryAll`, `nextRecordsUrl`, 2,000 records a page: REST API, "QueryAll", "QueryAll More Results". A locator lasts for two days,
  and ten are open for a user: help.salesforce.com, "INVALID_QUERY_LOCATOR Salesforce Error".
- `SystemModstamp` is indexed, and never before `LastModifiedDate`: help.salesforce.com 000387261.
- jobs: Bulk API 2.0, "Create a Query Job", "Get Results for a Query Job" (`maxRecords`, `locator`, `Sforce-Locator: null` at the end).
- fields that the user may not see are neither described nor queried: REST API, "sObject Describe".
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core.errors import Fatal, Forbidden, Retriable
from core.http import Answer, documents_in
from core.salesforce import Organisation, full_id, used_share
from core.source_settings import SalesforceSource, SourceConfig
from core.words import percent
from sources.api import Access, ApiStream, Ask, Document, Kind, Page, Position, Record, Resource, Vendor, naive, without
from sources.base import StreamId
from sources.custom_fields import named_fields

LOOK_BACK = timedelta(minutes=15)
"""A query reads so much once more: a transaction may be committed some time after the moment that it stamps."""
BULK_PAGE = 10_000
BULK_SECONDS = 1800.0
MOST_ADDRESS = 16_000
"""Letters of an address; Salesforce takes 16,384."""


@dataclass(frozen=True)
class Kept:
    """An object: the fields that the default mapping names, and which of its records count."""

    object: str
    fields: tuple[str, ...]
    where: str = ""


SYSTEM = ("Id", "IsDeleted", "CreatedDate", "SystemModstamp")
KINDS = {
    "accounts": Kept(
        "Account",
        (
            "Name",
            "Website",
            "Industry",
            "BillingCountry",
            "NumberOfEmployees",
            "ParentId",
            "OwnerId",
            "Owner.Name",
            "Owner.Email",
            "MasterRecordId",
        ),
    ),
    "contacts": Kept("Contact", ("AccountId", "Email", "Title", "HasOptedOutOfEmail")),
    "tasks": Kept(
        "Task",
        (
            "AccountId",
            "WhoId",
            "Subject",
            "Description",
            "TaskSubtype",
            "CallType",
            "CompletedDateTime",
            "ActivityDate",
        ),
        where="IsClosed = true",
    ),
    "events": Kept("Event", ("AccountId", "WhoId", "Subject", "Description", "StartDateTime", "ActivityDateTime")),
    "cases": Kept("Case", ("AccountId", "Subject", "Description", "Priority", "Status", "ClosedDate")),
}
"""By resource."""
_TEXT: Kind = "text"


def open_stream(stream: StreamId, source: SourceConfig, *, now: datetime, temp_directory: Path) -> ApiStream:
    """The connector's door; see `sources.base.Opener`."""
    assert isinstance(source, SalesforceSource)
    config = source.streams[stream.stream]
    name = config.resource or stream.stream
    resource = _Reader(name, named_fields(config, (*SYSTEM, *KINDS[name].fields))).resource()
    return ApiStream(stream, source, replace(VENDOR, resources={**VENDOR.resources, name: resource}), now=now)


class _Reader:
    """Reads one object. `asked` are fields beyond those of `KINDS`."""

    def __init__(self, name: str, asked: Sequence[str] = (), *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._kept, self._asked, self._sleep = KINDS[name], tuple(asked), sleep

    def resource(self) -> Resource:
        fields = dict.fromkeys((*SYSTEM, *self._kept.fields, *self._asked), _TEXT)
        scope = f"that the app's user may read {self._kept.object}, and its fields"
        return Resource(fields=fields, read=self.read, scope=scope, key="Id", stamped="SystemModstamp")

    def read(self, ask: Ask) -> Page:
        """The page at a position: of a query, or of a job's results."""
        position = {"began": _text(ask.now), "since": ask.since and _text(ask.since), **ask.position}
        if "job" in position:
            return self._of_job(ask, position)
        if "next" in position:
            try:
                return self._of_query(ask, position, ask.api.get(position["next"], holds="records"))
            except Fatal as error:
                if "INVALID_QUERY_LOCATOR" not in error.message:
                    raise
        query = self._soql(ask, position, in_order=True)
        document = ask.api.get(f"{_data(ask.source)}/queryAll", holds="records", q=query)
        if _size(document) > _settings(ask).bulk_above:
            return self._of_job(ask, {**position, "job": self._new_job(ask, position), "locator": ""})
        return self._of_query(ask, position, document)

    # --- queries --------------------------------------------------------------------------------------------------

    def _of_query(self, ask: Ask, position: Position, document: Document) -> Page:
        parents = {name.partition(".")[0] for name in (*self._kept.fields, *self._asked) if "." in name}
        records = [_flat(record, parents) for record in documents_in(document, "records")]
        position = {**position, "seen": _latest(position, records)}
        position.pop("next", None)
        following = document.get("nextRecordsUrl")
        if not following:
            if document.get("done") is False:
                raise Retriable("Salesforce says that there are more records, and not where.")
            return self._page(records, _ended(position), is_end=True)
        last = records[-1] if records else {}
        behind = [last.get("SystemModstamp"), last.get("Id")] if records else position.get("behind")
        return self._page(records, {**position, "next": following, "behind": behind})

    def _soql(self, ask: Ask, position: Position, *, in_order: bool) -> str:
        conditions = [self._kept.where] if self._kept.where else []
        if position["since"] is not None:
            since = _moment(position["since"]) - (LOOK_BACK if "since" in ask.position else timedelta(0))
            conditions.append(f"SystemModstamp >= {_literal(since)}")
        if position.get("behind") is not None:
            at, key = _literal(_moment(position["behind"][0])), position["behind"][1]
            conditions.append(f"(SystemModstamp > {at} OR (SystemModstamp = {at} AND Id > '{key}'))")
        query = f"SELECT {', '.join(self._visible(ask))} FROM {self._kept.object}"
        query += f" WHERE {' AND '.join(conditions)}" if conditions else ""
        query += " ORDER BY SystemModstamp, Id" if in_order else ""
        if in_order and len(quote(query, safe="")) > MOST_ADDRESS:
            raise Fatal(
                f"The query for {self._kept.object} is longer than Salesforce takes.",
                hint="Map fewer fields of your own.",
            )
        return query

    def _visible(self, ask: Ask) -> tuple[str, ...]:
        """The fields that the user may see, of those that are read. One that a mapping of your own names must be among them."""
        if "fields" not in ask.memo:
            path = f"{_data(ask.source)}/sobjects/{self._kept.object}/describe"
            try:
                document = ask.api.get(path, holds="fields")
            except Fatal as error:
                if "NOT_FOUND" not in error.message:
                    raise
                raise Forbidden(
                    f"Salesforce has no {self._kept.object} that the app's user may read.",
                    hint=f"Let the user's permission set read {self._kept.object}, or leave the stream out.",
                ) from error
            known = {str(field.get("name")) for field in documents_in(document, "fields")}

            def is_seen(name: str) -> bool:
                parent, _, _ = name.rpartition(".")
                return name in known if not parent else f"{parent}Id" in known or f"{parent[:-1]}c" in known

            missing = [name for name in self._asked if not is_seen(name)]
            if missing:
                raise Fatal(
                    f"{self._kept.object} has no field {', '.join(missing)} that the app's user may see.",
                    hint="Check the name in the mapping, or let the user's permission set see the field.",
                )
            ask.memo["fields"] = tuple(name for name in (*SYSTEM, *self._kept.fields, *self._asked) if is_seen(name))
        found: tuple[str, ...] = ask.memo["fields"]
        return found

    # --- jobs -----------------------------------------------------------------------------------------------------

    def _new_job(self, ask: Ask, position: Position) -> str:
        wanted = {"operation": "queryAll", "query": self._soql(ask, position, in_order=False)}
        document = ask.api.send("POST", f"{_data(ask.source)}/jobs/query", holds=None, json=wanted)
        if "id" not in document:
            raise Retriable("Salesforce made no job.")
        return str(document["id"])

    def _of_job(self, ask: Ask, position: Position) -> Page:
        path = f"{_data(ask.source)}/jobs/query/{position['job']}"
        try:
            self._wait(ask, path)
            locator = f"&locator={quote(position['locator'], safe='')}" if position["locator"] else ""
            answer = ask.api.answer("GET", f"{path}/results?maxRecords={BULK_PAGE}{locator}")
        except Fatal as error:
            if "NOT_FOUND" not in error.message:
                raise
            # The job is no more: results are kept for some days only. What was read of it is loaded; all is asked for anew.
            return self.read(replace(ask, position=without(position, "job", "locator", "seen")))
        records = [_of_csv(row) for row in csv.DictReader(io.StringIO(answer.text))]
        position = {**position, "seen": _latest(position, records)}
        following, told = answer.headers.get("sforce-locator"), answer.headers.get("sforce-numberofrecords", "")
        if following is None or (told.isdigit() and int(told) != len(records)):
            raise Retriable(f"Salesforce gave {len(records)} records of a job's results, and not all that it counted.")
        if following in ("null", ""):
            ask.api.answer("DELETE", path)
            return self._page(records, _ended(position), is_end=True)
        return self._page(records, {**position, "locator": following})

    def _wait(self, ask: Ask, path: str) -> None:
        """Until the job has ended; one that takes too long is aborted."""
        waited, pause = 0.0, 0.25
        while True:
            job = ask.api.get(path, holds=None)
            if job.get("state") == "JobComplete":
                return
            if job.get("state") in ("Failed", "Aborted"):
                raise Retriable(f"A query job of Salesforce failed: {job.get('errorMessage') or job['state']}.")
            if waited >= BULK_SECONDS:
                ask.api.send("PATCH", path, holds=None, json={"state": "Aborted"})
                raise Retriable(f"A query job of Salesforce did not end within {BULK_SECONDS:.0f} s, and was aborted.")
            self._sleep(pause)
            waited, pause = waited + pause, min(pause * 1.5, 10.0)

    # --- records --------------------------------------------------------------------------------------------------

    def _page(self, records: Sequence[Record], position: Position, *, is_end: bool = False) -> Page:
        """Records that are deleted are gone, but for an account that was merged: it leads to its master."""
        is_kept = self._kept.object == "Account"
        gone = [record for record in records if _is_deleted(record) and not (is_kept and record.get("MasterRecordId"))]
        keys = {record["Id"] for record in gone}
        kept = [record for record in records if record["Id"] not in keys]
        return Page(kept, position, is_end, gone=[(record, _moment(record["SystemModstamp"])) for record in gone])


def _is_deleted(record: Record) -> bool:
    return str(record.get("IsDeleted")).lower() == "true"


def _flat(record: Record, parents: Collection[str]) -> dict[str, Any]:
    """A record with its parents' fields as `Owner.Email`, ids with 18 characters, and moments that end in Z."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if name == "attributes" or (value is None and name in parents):
            continue
        if isinstance(value, dict):
            found |= {f"{name}.{own}": each for own, each in value.items() if own != "attributes"}
        else:
            found[name] = f"{value[:-5]}Z" if isinstance(value, str) and value.endswith("+0000") else value
    return _with_full_ids(found)


def _of_csv(row: Mapping[str, str | None]) -> dict[str, Any]:
    """A row of a job's results, with values as a query tells them: nothing is NULL, yes and no are `true` and `false`."""
    words: dict[str, Any] = {"": None, "true": True, "false": False}
    return _with_full_ids({name: words.get(value or "", value) for name, value in row.items()})


def _with_full_ids(record: dict[str, Any]) -> dict[str, Any]:
    """Fields that Salesforce calls `…Id`, its own and those of parents, hold ids."""
    ids = {name: full_id(value) for name, value in record.items() if name.endswith("Id") and isinstance(value, str)}
    return {**record, **ids}


def _latest(position: Position, records: Sequence[Record]) -> str | None:
    """The latest change that was seen, of those up to the begin of the run: no progress is made by what lies ahead."""
    moments = [_canonical(str(record["SystemModstamp"])) for record in records if record.get("SystemModstamp")]
    before = position.get("seen")
    return max([*([before] if before else []), *(at for at in moments if at <= position["began"])], default=None)


def _ended(position: Position) -> Position:
    """Where the next run begins: at the latest change that was seen."""
    since, seen = position["since"], position.get("seen")
    return {"since": since if seen is None else seen if since is None else max(seen, since)}


def _canonical(text: str) -> str:
    return _text(_moment(text))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds") + "Z"


def _moment(text: str) -> datetime:
    """A moment in UTC without a zone."""
    return naive(datetime.fromisoformat(text))


def _literal(moment: datetime) -> str:
    """A moment in SOQL, without fractions: what lies in the same second is read once more."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _size(document: Document) -> int:
    size = document.get("totalSize")
    return size if isinstance(size, int) else 0


# --- the organisation --------------------------------------------------------------------------------------------------


def _settings(ask: Ask) -> SalesforceSource:
    assert isinstance(ask.source, SalesforceSource)
    return ask.source


def _data(source: Any) -> str:
    return f"/services/data/v{source.api_version.removeprefix('v')}"


def _connect(source: SalesforceSource) -> Access:
    organisation = Organisation(
        source.client_id.get_secret_value(),
        source.client_secret.get_secret_value(),
        source.base_url or source.login_url or "",
        timeout=source.timeout_seconds,
        http=source.http,
    )
    return Access(organisation, renew=organisation.refresh)


def _quota(answer: Answer) -> str | None:
    used = used_share(answer.headers.get("sforce-limit-info", ""))
    return None if used is None else f"{percent(used, 1)} of the calls of 24 hours used"


VENDOR = Vendor(
    name="Salesforce",
    resources={name: _Reader(name).resource() for name in KINDS},
    connect=_connect,
    credential="`client_id` and `client_secret`",
    told=lambda answer: None,
    quota=_quota,
)
