"""The stand-ins hold to what their vendors document, can be told to fail, and remember."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from core.errors import Retriable
from core.http import Client
from sandbox.hubspot import TOKEN, HubSpotStandIn, exported_companies, running
from sandbox.salesforce import CLIENT_ID, CLIENT_SECRET, SalesforceStandIn, full_id, record_id
from sandbox.serve import serving
from sandbox.standin import StandIn, Store
from sandbox.webhook import SECRET, WebhookStandIn

HUBSPOT_UPDATE = "/crm/objects/2026-03/companies/batch/update"


@pytest.fixture
def hubspot() -> Iterator[tuple[HubSpotStandIn, Client]]:
    standin = HubSpotStandIn(requests=8, seconds=0.4)
    standin.seed({"id": str(number), "name": f"C{number}"} for number in range(1, 301))
    with serving(standin) as url:
        yield standin, Client(url, headers=lambda: {"Authorization": f"Bearer {TOKEN}"})


def update(client: Client, *inputs: dict[str, Any]) -> Any:
    return client.send("POST", HUBSPOT_UPDATE, json={"inputs": list(inputs)})


def row(key: object, **properties: Any) -> dict[str, Any]:
    return {"id": str(key), "properties": properties or {"name": "New"}, "objectWriteTraceId": f"t{key}"}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([row(number) for number in range(1, 102)], "1 to 100"),
        ([], "1 to 100"),
        ([row(1), row(1)], "Duplicate IDs"),
        ([row(1, nonsense="x")], "PROPERTY_DOESNT_EXIST"),
        ([row(1, name=1)], "not a string"),
        ([row(1, hs_object_id="9")], "read only"),
        ([{**row(1), "idProperty": "name"}], "not a unique property"),
        ([{"properties": {}}], "not set [id]"),
        ([{"id": "1"}], "not set [properties]"),
    ],
)
def test_hubspot_refuses_a_whole_batch_and_writes_nothing_of_it(hubspot, inputs, said):
    standin, client = hubspot
    answer = update(client, *inputs)
    assert (answer.status_code, answer.json()["category"]) == (400, "VALIDATION_ERROR")
    assert said in answer.json()["message"]
    assert standin.company("1")["name"] == "C1"


def test_hubspot_answers_with_results_and_errors_of_single_rows(hubspot):
    _, client = hubspot
    answer = update(client, row(1), row(999), row(2, numberofemployees="many"))
    document = answer.json()
    assert (answer.status_code, document["numErrors"]) == (207, 2)
    assert [(result["id"], result["objectWriteTraceId"]) for result in document["results"]] == [("1", "t1")]
    assert [error["context"] for error in document["errors"]] == [
        {"objectWriteTraceId": ["t999"]},
        {"objectWriteTraceId": ["t2"]},
    ]
    assert [error["category"] for error in document["errors"]] == ["OBJECT_NOT_FOUND", "VALIDATION_ERROR"]


def test_hubspot_allows_so_many_requests_in_a_window(hubspot):
    _, client = hubspot
    answers = [update(client, row(1)).status_code for _ in range(10)]
    assert answers == [200] * 8 + [429] * 2
    refused = update(client, row(1))
    assert refused.json()["policyName"] == "TEN_SECONDLY_ROLLING"
    assert refused.headers["x-hubspot-ratelimit-interval-milliseconds"] == "400"
    time.sleep(0.45)
    assert update(client, row(1)).status_code == 200


def test_hubspot_knows_tokens_and_scopes(hubspot):
    standin, client = hubspot
    standin.tokens[TOKEN] = ("crm.objects.companies.read",)
    refused = update(client, row(1))
    assert refused.status_code == 403
    assert refused.json()["errors"][0]["context"] == {"requiredGranularScopes": ["crm.objects.companies.write"]}
    standin.tokens = {}
    assert update(client, row(1)).status_code == 401


def test_the_admin_door_tells_to_fail_and_what_was_seen(hubspot):
    _, client = hubspot
    client.send(
        "POST", "/_admin/faults", json=[{"kind": "status", "times": 2, "match": "batch", "detail": {"status": 503}}]
    )
    assert [update(client, row(1)).status_code for _ in range(3)] == [503, 503, 200]
    state = client.send("GET", "/_admin/state").json()
    assert state["calls"] == {f"POST {HUBSPOT_UPDATE}": 3}
    assert (state["faults"], state["companies"]) == ([], 300)
    client.send("POST", "/_admin/reset")
    assert client.send("GET", "/_admin/state").json()["companies"] == 0
    assert client.send("GET", "/_admin/nonsense").status_code == 404


def test_a_stand_in_with_a_file_remembers(tmp_path):
    store = Store(tmp_path / "state" / "hubspot.sqlite")
    first = HubSpotStandIn(store=store)
    first.seed([{"id": "1", "name": "One"}, {"id": "2", "name": "Two"}])
    first.define("own", unique=True)
    with serving(first) as url:
        update(Client(url, headers=lambda: {"Authorization": f"Bearer {TOKEN}"}), row(1, own="x"))
    store.close()
    second = HubSpotStandIn(store=Store(tmp_path / "state" / "hubspot.sqlite"))
    assert second.company("1") == {"name": "One", "hs_object_id": "1", "own": "x"}
    assert second.state()["properties"] == first.state()["properties"]


def test_hubspot_is_seeded_with_the_companies_of_the_crm(founded_home):
    companies = exported_companies(founded_home / "sandbox" / "data")
    assert len(companies) > 100
    standin = HubSpotStandIn()
    standin.seed(companies)
    assert standin.state()["companies"] == len(companies)
    assert {"name", "domain"} <= set(standin.company(companies[0]["id"]))


def test_the_crm_of_a_home_keeps_what_was_written_to_it_from_run_to_run(tmp_path):
    data = tmp_path / "sandbox" / "data" / "crm" / "companies"
    data.mkdir(parents=True)
    (data / "2024-01-01.csv").write_text("id,name,merged_into_id\n1,One,\n2,Two,\n,Nobody,\n", encoding="utf-8")
    for name in ("first", "second"):
        with running(tmp_path) as url:
            client = Client(url, headers=lambda: {"Authorization": f"Bearer {TOKEN}"})
            if name == "first":
                assert update(client, row(1, industry="Software")).status_code == 200
                (data / "2024-01-02.csv").write_text(
                    "id,name,merged_into_id\n1,Uno,\n3,Three,\n2,Two,1\n", encoding="utf-8"
                )
    standin = HubSpotStandIn(store=Store(tmp_path / "sandbox" / "hubspot.sqlite"))
    assert standin.company("1") == {"name": "Uno", "industry": "Software", "hs_object_id": "1"}
    assert standin.store.get("companies", "2")["mergedInto"] == "1"
    assert standin.state()["companies"] == 3


def salesforce_client(url: str) -> Client:
    form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    answer = Client(url).send("POST", "/services/oauth2/token", data=form).json()
    return Client(answer["instance_url"], headers=lambda: {"Authorization": f"Bearer {answer['access_token']}"})


@pytest.fixture
def salesforce() -> Iterator[tuple[SalesforceStandIn, Client]]:
    standin = SalesforceStandIn(daily_calls=20)
    standin.seed({"id": number, "Name": f"A{number}"} for number in range(1, 301))
    with serving(standin) as url:
        yield standin, salesforce_client(url)


def collection(client: Client, *records: dict[str, Any]) -> Any:
    body = {"allOrNone": False, "records": [{"attributes": {"type": "Account"}, **record} for record in records]}
    return client.send("PATCH", "/services/data/v67.0/composite/sobjects", json=body)


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([{"id": record_id(number)} for number in range(1, 202)], "EXCEEDED_ID_LIMIT"),
        ([{"id": record_id(1)}, {"id": record_id(1)}], "INVALID_INPUT"),
        ([{"id": record_id(1), "Nonsense__c": 1}], "INVALID_FIELD"),
        ([{"id": record_id(1), "NumberOfEmployees": "many"}], "JSON_PARSER_ERROR"),
    ],
)
def test_salesforce_refuses_a_whole_call(salesforce, records, code):
    _, client = salesforce
    answer = collection(client, *records)
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)


def test_salesforce_answers_in_the_order_of_the_request_and_counts_the_days_calls(salesforce):
    standin, client = salesforce
    answer = collection(client, {"id": record_id(5), "Name": "Five"}, {"id": record_id(999)}, {"id": record_id(2)[:15]})
    assert [(entry["success"], entry.get("id")) for entry in answer.json()] == [
        (True, record_id(5)),
        (False, None),
        (True, record_id(2)),
    ]
    assert answer.headers["sforce-limit-info"] == "api-usage=1/20"
    assert standin.account(record_id(5))["Name"] == "Five"
    standin.used = 20
    refused = collection(client, {"id": record_id(5)})
    assert (refused.status_code, refused.json()[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")


def test_salesforce_gives_tokens_by_client_credentials_only(salesforce):
    standin, client = salesforce
    answer = client.send("POST", "/services/oauth2/token", data={"grant_type": "password", "username": "me"})
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    standin.expire()
    assert collection(client, {"id": record_id(1)}).json()[0]["errorCode"] == "INVALID_SESSION_ID"


def test_a_job_takes_data_once_and_has_results_when_it_has_ended(salesforce):
    _, client = salesforce
    jobs = "/services/data/v67.0/jobs/ingest"
    job = client.send("POST", jobs, json={"object": "Account", "operation": "update"}).json()["id"]
    assert client.send("GET", f"{jobs}/{job}/failedResults").status_code == 404
    assert (
        client.send("PUT", f"{jobs}/{job}/batches", content=f"Id,Name\n{record_id(1)},New\n".encode()).status_code
        == 201
    )
    assert client.send("PUT", f"{jobs}/{job}/batches", content=b"Id,Name\n").status_code == 400
    client.send("PATCH", f"{jobs}/{job}", json={"state": "UploadComplete"})
    states = [client.send("GET", f"{jobs}/{job}").json()["state"] for _ in range(2)]
    assert states == ["UploadComplete", "JobComplete"]
    text = client.send("GET", f"{jobs}/{job}/successfulResults").text
    assert text == f'"sf__Id","sf__Created","Id","Name"\n"{record_id(1)}","false","{record_id(1)}","New"\n'


def test_ids_of_salesforce_have_letters_that_tell_capitals():
    assert full_id("0015g00000ABCde") == "0015g00000ABCdeAA" + full_id("0015g00000ABCde")[-1]
    assert full_id("001000000000001") == "001000000000001AAA"


def test_the_receiver_checks_signature_time_and_secret():
    standin = WebhookStandIn()
    body = b'{"type":"tenure.rows","data":{"rows":[]}}'

    def headers(secret: str, at: int) -> dict[str, str]:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = hmac.new(key, b"msg_1." + str(at).encode() + b"." + body, hashlib.sha256).digest()
        signature = "v1a,xxxx v1," + base64.b64encode(signed).decode()
        return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signature}

    now = int(time.time())
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    with serving(standin) as url:
        client = Client(url)
        said = [
            client.send("POST", "/hook", content=content, headers=sent).status_code
            for content, sent in [
                (body, headers(SECRET, now)),
                (body, headers(other, now)),
                (body, headers(SECRET, now - 400)),
                (body + b" ", headers(SECRET, now)),
                (body, {}),
            ]
        ]
    assert said == [200, 401, 401, 401, 401]


@pytest.mark.parametrize("kind", ["hang", "reset"])
def test_connections_are_kept_waiting_or_cut(kind):
    standin = StandIn([])
    standin.fail(kind)
    with serving(standin) as url, pytest.raises(Retriable):
        Client(url, timeout=0.2).send("GET", "/")


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("properties/2026-03/companies/groups", {"name": "g"}, "PropertyGroupCreate.*label"),
        ("properties/2026-03/companies/batch/create", {"inputs": [{"name": "a"}]}, "PropertyCreate.*groupName"),
        (
            "properties/2026-03/companies/batch/create",
            {
                "inputs": [
                    {
                        "name": "a",
                        "label": "A",
                        "type": "bool",
                        "fieldType": "booleancheckbox",
                        "groupName": "companyinformation",
                        "options": [{"label": "Yes", "value": "true", "displayOrder": 0}],
                    }
                ]
            },
            r"OptionInput.*\[hidden\]",
        ),
        ("objects/2026-03/companies/batch/read", {"inputs": [], "properties": []}, "propertiesWithHistory"),
        ("objects/2026-03/companies/search", {"limit": 10}, "filterGroups, properties, sorts"),
        ("associations/2026-03/notes/companies/batch/read", {"inputs": [{}]}, r"\[id\]"),
    ],
)
def test_hubspot_refuses_bodies_without_what_it_asks_for(path: str, body: Any, said: str) -> None:
    with serving(HubSpotStandIn()) as url:
        client = Client(url, headers=lambda: {"Authorization": f"Bearer {TOKEN}"})
        answer = client.send("POST", f"/crm/{path}", json=body)
        client.close()
    assert answer.status_code == 400
    assert re.search(said, answer.json()["message"])
