"""The stand-ins for CRMs are read from by their vendors' own rules: pages, limits, changed, archived and merged records."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest

from core.http import Client
from sandbox import hubspot as hubspot_module
from sandbox import salesforce as salesforce_module
from sandbox.crm_export import exported
from sandbox.hubspot import TOKEN, HubSpotStandIn
from sandbox.salesforce import CLIENT_ID, CLIENT_SECRET, SalesforceStandIn, record_id
from sandbox.salesforce_export import own_id
from sandbox.serve import serving

OBJECTS = "/crm/objects/2026-03"


def hubspot_client(url: str) -> Client:
    return Client(url, headers=lambda: {"Authorization": f"Bearer {TOKEN}"})


@pytest.fixture
def hubspot() -> Iterator[tuple[HubSpotStandIn, Client]]:
    standin = HubSpotStandIn(searches=100)
    for number in range(1, 251):
        standin.put(
            "contacts", str(number), at=f"2024-01-01T00:{number // 60:02d}:{number % 60:02d}Z", email=f"{number}@x"
        )
    with serving(standin) as url:
        yield standin, hubspot_client(url)


def search(client: Client, kind: str = "contacts", **body: Any) -> Any:
    whole = {"filterGroups": [], "sorts": [], "properties": [], "limit": 10, **body}
    return client.send("POST", f"{OBJECTS}/{kind}/search", json=whole)


def test_a_list_goes_on_at_after_until_there_is_no_more(hubspot):
    _, client = hubspot
    found, after, pages = [], None, 0
    while True:
        params = {"limit": 100, "properties": "email,nonsense", **({"after": after} if after else {})}
        page = client.send("GET", f"{OBJECTS}/contacts", params=params).json()
        found += page["results"]
        pages += 1
        after = page.get("paging", {}).get("next", {}).get("after")
        if after is None:
            break
    assert (pages, [record["id"] for record in found]) == (3, [str(number) for number in range(1, 251)])
    assert found[6]["properties"] == {
        "email": "7@x",
        "nonsense": None,
        "hs_object_id": "7",
        "createdate": "2024-01-01T00:00:07Z",
        "lastmodifieddate": "2024-01-01T00:00:07.000Z",
    }


@pytest.mark.parametrize("params", [{"limit": 101}, {"after": "next"}])
def test_a_list_refuses_what_it_does_not_allow(hubspot, params):
    assert hubspot[1].send("GET", f"{OBJECTS}/contacts", params=params).status_code == 400


def test_a_search_finds_by_moment_and_id_and_ends_at_ten_thousand(hubspot):
    _, client = hubspot
    filters = [
        {"propertyName": "lastmodifieddate", "operator": "GTE", "value": "2024-01-01T00:03:00Z"},
        {"propertyName": "hs_object_id", "operator": "GT", "value": "200"},
    ]
    sorts = [{"propertyName": "hs_object_id", "direction": "DESCENDING"}]
    page = search(client, filterGroups=[{"filters": filters}], sorts=sorts, limit=20).json()
    assert (page["total"], page["results"][0]["id"], page["paging"]["next"]["after"]) == (50, "250", "20")
    assert search(client, limit=201).status_code == 400
    assert search(client, limit=200, after="9800").status_code == 200
    refused = search(client, limit=200, after="9801")
    assert (refused.status_code, "10000" in refused.json()["message"]) == (400, True)


def test_a_search_finds_neither_archived_records_nor_those_not_yet_indexed(hubspot):
    standin, client = hubspot
    standin.archive("3", "contacts")
    standin.unindexed.add("4")
    assert search(client).json()["total"] == 248
    archived = client.send("GET", f"{OBJECTS}/contacts", params={"archived": "true"}).json()["results"]
    assert [(record["id"], record["archived"], "archivedAt" in record) for record in archived] == [("3", True, True)]


def test_searches_are_counted_apart_from_other_requests():
    standin = HubSpotStandIn(searches=2, requests=4, seconds=5.0)
    with serving(standin) as url:
        client = hubspot_client(url)
        assert [search(client).status_code for _ in range(3)] == [200, 200, 429]
        assert search(client).json()["policyName"] == "SECONDLY"
        assert [client.send("GET", f"{OBJECTS}/notes").status_code for _ in range(5)] == [200] * 4 + [429]


def test_a_merged_company_is_only_named_by_its_survivor(hubspot):
    standin, client = hubspot
    standin.put("companies", "1", at="2024-01-01T00:00:00Z", name="One")
    standin.put("companies", "2", at="2024-01-01T00:00:00Z", name="Two")
    standin.put("contacts", "300", associations={"companies": ["2"]})
    standin.merge("2", "1")
    params = {"properties": "name,hs_merged_object_ids"}
    listed = client.send("GET", f"{OBJECTS}/companies", params=params).json()["results"]
    assert [record["properties"]["hs_merged_object_ids"] for record in listed] == ["2"]
    assert listed[0]["properties"]["hs_lastmodifieddate"] > "2024-01-02"
    archived = client.send("GET", f"{OBJECTS}/companies", params={"archived": "true"}).json()
    assert archived["results"] == []
    body = {"inputs": [{"id": "300"}, {"id": "1"}]}
    answer = client.send("POST", "/crm/associations/2026-03/contacts/companies/batch/read", json=body)
    assert (answer.status_code, answer.json()["results"][0]["to"][0]["toObjectId"]) == (207, "1")
    assert answer.json()["errors"][0]["context"] == {"fromObjectId": ["1"]}


def test_owners_are_told_by_whether_they_left(hubspot):
    standin, client = hubspot
    standin.own("1", "here@x")
    standin.own("2", "left@x", archived=True)
    emails = [
        client.send("GET", "/crm/owners/2026-03", params={"archived": given}).json()["results"][0]["email"]
        for given in ("false", "true")
    ]
    assert emails == ["here@x", "left@x"]


def test_hubspot_serves_the_crm_of_the_sandbox_company(founded_home, tmp_path):
    data = tmp_path / "sandbox" / "data"
    data.parent.mkdir()
    data.symlink_to(founded_home / "sandbox" / "data")
    contacts, activities = exported(data, "contacts"), exported(data, "engagements")
    with hubspot_module.running(tmp_path) as url:
        client = hubspot_client(url)
        counts = {kind: len(_all(client, kind)) for kind in ("contacts", "emails", "meetings", "calls", "notes")}
        owners = client.send("GET", "/crm/owners/2026-03").json()["results"]
    assert counts.pop("contacts") == len(contacts) > 500
    assert sum(counts.values()) == len(activities) > 1_000
    assert len(owners) == len(exported(data, "owners")) > 0


def _all(client: Client, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = "0"
    while after:
        page = client.send("GET", f"{OBJECTS}/{kind}", params={"limit": 100, "after": after}).json()
        found += page["results"]
        after = page.get("paging", {}).get("next", {}).get("after", "")
    return found


# --- Salesforce --------------------------------------------------------------------------------------------------------


def salesforce_client(url: str) -> Client:
    form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    token = Client(url).send("POST", "/services/oauth2/token", data=form).json()["access_token"]
    return Client(f"{url}/services/data/v67.0", headers=lambda: {"Authorization": f"Bearer {token}"})


@pytest.fixture
def salesforce() -> Iterator[tuple[SalesforceStandIn, Client]]:
    standin = SalesforceStandIn()
    for number in range(1, 501):
        moment = f"2024-01-01T00:{number // 60:02d}:{number % 60:02d}Z"
        standin.put("Account", record_id(number), at=moment, Name=f"A{number}", Owner={"Email": "o@x"})
    with serving(standin) as url:
        yield standin, salesforce_client(url)


def soql(client: Client, query: str, *, all: bool = False, **headers: str) -> Any:
    return client.send("GET", "/queryAll" if all else "/query", params={"q": query}, headers=headers)


def test_a_query_goes_on_at_next_records_url(salesforce):
    _, client = salesforce
    page = soql(
        client, "SELECT Id, Owner.Email FROM Account ORDER BY Id", **{"Sforce-Query-Options": "batchSize=200"}
    ).json()
    found = page["records"]
    assert (page["totalSize"], page["done"], len(found)) == (500, False, 200)
    assert found[0]["Owner"]["Email"] == "o@x"
    while not page["done"]:
        rest = page["nextRecordsUrl"].removeprefix("/services/data/v67.0")
        page = client.send("GET", rest, headers={"Sforce-Query-Options": "batchSize=200"}).json()
        found += page["records"]
    assert [record["Id"] for record in found] == [record_id(number) for number in range(1, 501)]
    assert client.send("GET", "/query/0r8000000000000999-200").json()[0]["errorCode"] == "INVALID_QUERY_LOCATOR"


def test_a_query_compares_moments_and_ids(salesforce):
    _, client = salesforce
    at = "2024-01-01T00:05:00Z"
    where = f"(SystemModstamp > {at} OR (SystemModstamp = {at} AND Id > '{record_id(299)}')) AND IsDeleted = false"
    page = soql(client, f"SELECT Id FROM Account WHERE {where} ORDER BY SystemModstamp, Id LIMIT 3").json()
    assert [record["Id"] for record in page["records"]] == [record_id(number) for number in (300, 301, 302)]
    counted = soql(client, f"SELECT COUNT() FROM Account WHERE SystemModstamp >= {at}").json()
    assert (counted["totalSize"], counted["records"]) == (201, [])


def test_deleted_and_merged_records_are_found_by_query_all_only(salesforce):
    standin, client = salesforce
    standin.delete(record_id(1))
    standin.merge(record_id(2), record_id(3))
    query = "SELECT Id, MasterRecordId FROM Account WHERE IsDeleted = true"
    assert soql(client, query).json()["totalSize"] == 0
    found = soql(client, query, all=True).json()["records"]
    assert [record["MasterRecordId"] for record in found] == [None, record_id(3)]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("SELECT Id, Nonsense FROM Account", 400, "INVALID_FIELD"),
        ("SELECT Id FROM Nonsense", 400, "INVALID_TYPE"),
        ("SELECT Id FROM Account WHERE Name LIKE 'A'", 400, "MALFORMED_QUERY"),
        ("SELECT Id FROM Account WHERE Name = '" + "x" * 17_000 + "'", 414, "URI_TOO_LONG"),
    ],
)
def test_a_query_that_is_wrong_is_refused_by_name(salesforce, query, status, code):
    answer = soql(salesforce[1], query)
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (status, code)


def test_fields_that_the_user_may_not_see_are_not_there(salesforce):
    standin, client = salesforce
    standin.hidden.add("Case.Priority")
    names = {field["name"] for field in client.send("GET", "/sobjects/Case/describe").json()["fields"]}
    assert {"Id", "Status", "SystemModstamp"} <= names
    assert "Priority" not in names
    assert soql(client, "SELECT Priority FROM Case").json()[0]["errorCode"] == "INVALID_FIELD"
    assert client.send("GET", "/sobjects/Nonsense/describe").status_code == 404


def test_a_query_job_gives_its_results_in_parts(salesforce):
    _, client = salesforce
    wanted = {"operation": "queryAll", "query": "SELECT Id, Name, Owner.Email, SystemModstamp FROM Account"}
    job = client.send("POST", "/jobs/query", json=wanted).json()["id"]
    assert client.send("GET", f"/jobs/query/{job}/results").status_code == 404
    states = [client.send("GET", f"/jobs/query/{job}").json()["state"] for _ in range(2)]
    assert states == ["UploadComplete", "JobComplete"]
    rows, locator = [], ""
    while locator != "null":
        params = {"maxRecords": "200", **({"locator": locator} if locator else {})}
        answer = client.send("GET", f"/jobs/query/{job}/results", params=params)
        rows += list(csv.DictReader(io.StringIO(answer.text)))
        locator = answer.headers["sforce-locator"]
    assert len(rows) == 500
    assert rows[0] == {
        "Id": record_id(1),
        "Name": "A1",
        "Owner.Email": "o@x",
        "SystemModstamp": "2024-01-01T00:00:01.000Z",
    }


def test_salesforce_serves_the_crm_of_the_sandbox_company(founded_home):
    data = founded_home / "sandbox" / "data"
    companies, activities = exported(data, "companies"), exported(data, "engagements")
    merged = [row for row in companies if row["merged_into_id"]]
    with salesforce_module.running(founded_home) as url:
        client = salesforce_client(url)
        counts = [
            soql(client, f"SELECT COUNT() FROM {name}", all=True).json()["totalSize"]
            for name in ("Account", "Contact", "Task", "Event")
        ]
        deleted = soql(client, "SELECT Id, MasterRecordId FROM Account WHERE IsDeleted = true", all=True).json()
    assert counts[:2] == [len(companies), len(exported(data, "contacts"))]
    assert counts[2] + counts[3] == len(activities)
    assert {record["MasterRecordId"] for record in deleted["records"]} == {
        own_id("Account", int(row["merged_into_id"])) for row in merged
    }
    assert merged
