"""What Tenure asks of HubSpot, and what the stand-in answers, against HubSpot's own OpenAPI files.

The files are HubSpot's and no part of the project: they lie beside it, in `shared/specs`. Where they describe objects by type, each
type is held to what is said of companies. What they ask for and the live API does not is named in `_as_it_is`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from openapi_core import Config, OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

from activation.base import Change, Field
from activation.destinations.hubspot import HubSpot
from sandbox.hubspot import TOKEN, HubSpotStandIn
from sandbox.serve import serving

VERSION = "2026-03"
SPECIFICATIONS = Path(__file__).parents[3] / "shared" / "specs" / f"hubspot-{VERSION}"
FILES = ("companies", "properties", "associations", "crmOwners")
UNDESCRIBED = ("/oauth/v2/private-apps/get/access-token-info",)
"""Paths that are asked for and that none of the files describes."""
HOST = "https://api.hubapi.com"


@dataclass
class Exchange:
    """A request and its answer."""

    method: str
    path: str
    query: list[tuple[str, str]]
    body: bytes
    status: int
    answer: bytes = b""

    @property
    def described(self) -> str:
        """The path as the files have it: objects of all types are described as companies."""
        types = "contacts|emails|meetings|calls|notes|tickets"
        return re.sub(rf"^/crm/objects/{VERSION}/({types})(?=/|$)", f"/crm/objects/{VERSION}/companies", self.path)


@dataclass
class Recorder:
    """An app that remembers what was asked of another one, and what that answered."""

    app: Any
    exchanges: list[Exchange] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = Exchange(scope["method"], scope["path"], parse_qsl(scope["query_string"].decode()), b"", 0)
        self.exchanges.append(told)
        has_more, heard = True, False
        while has_more:
            message = await receive()
            told.body += message.get("body", b"")
            has_more = message.get("more_body", False)

        async def hear() -> Any:
            nonlocal heard
            if heard:
                return await receive()
            heard = True
            return {"type": "http.request", "body": told.body, "more_body": False}

        async def say(message: Any) -> None:
            told.status = message.get("status", told.status)
            told.answer += message.get("body", b"")
            await send(message)

        await self.app(scope, hear, say)


@dataclass(frozen=True)
class Specification:
    """One of HubSpot's files."""

    document: dict[str, Any]
    api: OpenAPI


@pytest.fixture(scope="module")
def specifications() -> list[Specification]:
    if not SPECIFICATIONS.is_dir():
        reason = f"{SPECIFICATIONS} is missing: HubSpot's OpenAPI files of version {VERSION}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    config = Config(spec_validator_cls=None)
    found = []
    for name in FILES:
        document = json.loads((SPECIFICATIONS / f"{name}.json").read_text(encoding="utf-8"))
        found.append(Specification(document, OpenAPI.from_dict(_as_it_is(document), config=config)))
    return found


def _as_it_is(document: dict[str, Any]) -> dict[str, Any]:
    """A specification without what the live API does not ask for, and strict in what there is.

    A search needs no `after` for its first page, and its sorts are objects. A property without a value is null. Refusals of the
    whole have more than is described (`policyName`). Tokens are tested elsewhere.
    """
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    for response in document["components"].get("responses", {}).values():
        # JSON, though it is described as anything.
        response["content"] = {"application/json": response["content"].pop("*/*")}
    schemas = document["components"]["schemas"]
    search = schemas.get("PublicObjectSearchRequest")
    if search is not None:
        search["required"].remove("after")
        search["properties"]["sorts"]["items"] = {"type": "object"}
    for name, schema in schemas.items():
        if name.startswith("SimplePublic") and "Input" not in name and "Id" not in name:
            schema["properties"]["properties"]["additionalProperties"]["nullable"] = True
        if "properties" in schema and name != "Error":
            # What is not described does not exist: a misspelt name would otherwise pass.
            schema.setdefault("additionalProperties", False)
    return document


def faults(specifications: list[Specification], told: Exchange) -> list[str]:
    """What HubSpot's files say against an exchange."""
    by_path = (
        (one.api, operations)
        for one in specifications
        for path, operations in one.document["paths"].items()
        if _fits(path, told.described)
    )
    api, operations = next(by_path, (None, {}))
    if api is None or told.method.lower() not in operations:
        return ["no file describes this path"]
    asked = MockRequest(
        HOST,
        told.method.lower(),
        told.described,
        args=_multiple(told.query),
        data=told.body or None,
        content_type="application/json",
    )
    answered = MockResponse(told.answer, status_code=told.status, content_type="application/json")
    known = {one["name"] for one in operations[told.method.lower()].get("parameters", [])}
    found = [f"request: unknown parameter {name}" for name, _ in told.query if name not in known]
    return [*found, *_errors(api, asked, answered)]


def _errors(api: OpenAPI, asked: MockRequest, answered: MockResponse) -> Iterator[str]:
    try:
        api.validate_request(asked)
    except OpenAPIError as error:
        yield f"request: {_causes(error)}"
    try:
        api.validate_response(asked, answered)
    except OpenAPIError as error:
        yield f"answer: {_causes(error)}"


def _causes(error: BaseException | None) -> str:
    said: list[str] = []
    while error is not None:
        said += [each.message[:300] for each in getattr(error, "schema_errors", ())]
        last, error = error, error.__cause__
    return "; ".join(dict.fromkeys(said)) or str(last)[:300]


def _fits(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


def _multiple(query: list[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in query:
        found.setdefault(name, []).append(value)
    return found


def checked(specifications: list[Specification], recorder: Recorder) -> set[str]:
    """The paths that were asked for. Fails for what HubSpot's files do not allow."""
    described = [told for told in recorder.exchanges if told.path not in UNDESCRIBED]
    wrong = {
        f"{told.method} {told.path} {told.status}: {fault}"
        for told in described
        for fault in faults(specifications, told)
    }
    assert sorted(wrong) == []
    return {f"{told.method} {told.described} {told.status}" for told in recorder.exchanges}


KINDS = ("companies", "contacts", "emails", "tickets")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(HubSpotStandIn(requests=10_000, searches=1_000))


def test_what_is_read_and_answered_is_what_hubspot_describes(
    company: Any, recorder: Recorder, specifications: list[Specification]
) -> None:
    standin = recorder.app
    standin.page_rows = 2
    standin.own("7", "olga@us.example")
    standin.own("8", "gone@us.example", archived=True)
    at = iter(f"2024-01-{day:02d}T00:00:00.000Z" for day in range(1, 29))
    for kind in KINDS:
        for key in ("11", "12", "13"):
            belongs = {"companies": ["11"], "contacts": ["12"]} if kind not in ("companies", "contacts") else None
            standin.put(kind, key, at="2024-01-01T00:00:00Z", associations=belongs if key == "11" else None, name="One")
    with serving(recorder) as url:
        product = {
            "connector": "files",
            "path": str(company.data),
            "account_source": "crm",
            "streams": {
                "usage_events": {
                    "files": "*.csv",
                    "columns": {"account_id": "a", "event_name": "e", "occurred_at": "t"},
                }
            },
        }
        company.write("events.csv", "a,e,t\n")
        company.sources(
            product=product,
            crm={
                "connector": "hubspot",
                "token": TOKEN,
                "base_url": url,
                "requests": 10_000,
                "searches": 1_000,
                "retry": {"first_seconds": 0.01, "tries": 3},
                "streams": dict.fromkeys(KINDS),
            },
        )
        company.load()
        for kind in KINDS:
            standin.put(kind, "12", at=next(at), name="Two")
            standin.archive("13", kind)
        standin.merge("13", "11", "contacts")
        company.load()
        standin.tokens = {TOKEN: ("tickets",)}
        company.load()
        standin.tokens = {}
        company.load()
    paths = checked(specifications, recorder)
    objects = f"/crm/objects/{VERSION}/companies"
    assert {f"GET {objects} 200", f"POST {objects}/search 200", f"GET /crm/owners/{VERSION} 200"} <= paths
    assert f"POST /crm/associations/{VERSION}/emails/companies/batch/read 207" in paths
    assert {path[-3:] for path in paths} == {"200", "207", "401", "403"}


FIELDS = (
    Field("tenure_churn_probability", "number", "Churn probability", "0 to 1."),
    Field("tenure_churn_tier", "text", "Churn tier", "high, medium or low."),
    Field("tenure_is_fallback", "boolean", "Is fallback", "True where no model is good enough."),
    Field("tenure_as_of_date", "date", "As of", "Only facts before this date were used."),
    Field("tenure_scored_at", "datetime", "Scored at", "When."),
)


@pytest.mark.parametrize("mode", ["update", "upsert"])
def test_what_is_written_and_answered_is_what_hubspot_describes(
    recorder: Recorder, specifications: list[Specification], mode: Any
) -> None:
    standin = recorder.app
    standin.seed({"id": str(number), "name": f"Company {number}"} for number in range(1, 8))
    with serving(recorder) as url:
        by = "tenure_key" if mode == "upsert" else None
        destination = HubSpot(TOKEN, base_url=url, mode=mode, id_property=by)
        assert destination.preflight(FIELDS)
        assert destination.setup(FIELDS)
        assert list(destination.preflight(FIELDS)) == []
        values: Mapping[str, Any] = {
            "tenure_churn_tier": "high",
            "tenure_is_fallback": True,
            "tenure_churn_probability": 0.5,
        }
        rows = [Change(str(number), "update", dict(values)) for number in (1, 2, 99)]
        destination.upsert(rows)
        destination.upsert([Change("2", "retire", dict.fromkeys(values))])
        wrong = {**values, "tenure_churn_probability": "none"}
        destination.upsert([Change("1", "update", wrong), *rows[1:2]])
        assert len(list(destination.read(rows))) == 3
        for fault in ("partial", "silent", "shuffle", "bare"):
            standin.fail(fault)
            destination.upsert(rows)
        for fault in ("refuse", "throttle"):
            standin.fail(fault)
            with pytest.raises(Exception, match=r"HubSpot|127"):
                destination.upsert(rows)
    paths = checked(specifications, recorder)
    objects, properties = f"/crm/objects/{VERSION}/companies/batch", f"/crm/properties/{VERSION}/companies"
    assert {
        f"POST {objects}/{mode} 200",
        f"POST {objects}/{mode} 207",
        f"POST {objects}/{mode} 400",
        f"POST {objects}/read 200" if mode == "upsert" else f"POST {objects}/read 207",
        f"GET {properties} 200",
        f"GET {properties}/groups 200",
        f"POST {properties}/groups 201",
        f"POST {properties}/batch/create 201",
    } <= paths


def test_what_hubspot_would_refuse_is_found(specifications: list[Specification]) -> None:
    path = f"/crm/properties/{VERSION}/companies/batch/create"
    option = {"label": "Yes", "value": "true", "displayOrder": 0}
    made = {"name": "a", "label": "A", "groupName": "g", "type": "bool", "fieldType": "booleancheckbox"}

    def said(body: Any, method: str = "POST", path: str = path, query: str = "") -> str:
        told = Exchange(method, path, parse_qsl(query), json.dumps(body).encode(), 201, b"{}")
        return "; ".join(one for one in faults(specifications, told) if not one.startswith("answer"))

    assert said({"inputs": [{**made, "options": [{**option, "hidden": False}]}]}) == ""
    assert "'hidden' is a required property" in said({"inputs": [{**made, "options": [option]}]})
    assert "'lable' was unexpected" in said({"inputs": [{**made, "lable": "A"}]})
    assert "is not one of" in said({"inputs": [{**made, "type": "flag"}]})
    assert said(None, "GET", f"/crm/objects/{VERSION}/companies", "limits=3") == "request: unknown parameter limits"
    assert said({}, path="/crm/nothing") == "no file describes this path"
