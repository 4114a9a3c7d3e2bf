"""The sandbox company's CRM as records of Salesforce, with ids of Salesforce's own kind.

Lives here: what a column of the export is in Salesforce. Must not live here: what the stand-in answers (`salesforce.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from sandbox.crm_export import DELIVERED, exported
from sandbox.salesforce_reading import full_id, stamp
from sandbox.standin import Body

LEGACY = {
    "Account": ("Legacy_Id__c", "Segment__c"),
    "Contact": ("Legacy_Id__c", "Left_Company__c"),
    "Task": ("Legacy_Id__c", "Direction__c"),
    "Event": ("Legacy_Id__c", "Direction__c"),
}
PREFIXES = {"Account": "001", "Contact": "003", "User": "005", "Task": "00T", "Event": "00U", "Case": "500"}
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def own_id(object: str, number: int) -> str:
    """The id of 18 letters of the record that a number of up to 60 bits stands for."""
    letters = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        letters = _DIGITS[digit] + letters
    return full_id(PREFIXES[object] + letters.rjust(12, "0"))


def exported_accounts(data: Path) -> tuple[dict[str, str], dict[str, Body]]:
    """The companies of the sandbox's CRM as accounts by id; and which of its ids was merged into which."""
    owners = {
        row["id"]: {"Name": f"{row['first_name']} {row['last_name']}", "Email": row["email"]}
        for row in exported(data, "owners")
    }
    rows = exported(data, "companies")
    survivors = {row["id"]: row["merged_into_id"] for row in rows if row["merged_into_id"]}
    found: dict[str, Body] = {}
    for row in rows:
        record = _record("Account", row, row["createdate"], row["hs_lastmodifieddate"])
        employees = row["numberofemployees"]
        record |= {
            "Name": row["name"] or None,
            "Website": row["domain"] or None,
            "Industry": row["industry"] or None,
            "NumberOfEmployees": int(employees) if employees.lstrip("-").isdigit() else employees or None,
            "BillingCountry": row["country"] or None,
            "Segment__c": row["segment"] or None,
            "ParentId": _reference("Account", row["parent_company_id"]),
            "Parent": _legacy(row["parent_company_id"]),
            "OwnerId": _reference("User", row["owner_id"]),
            "Owner": owners.get(row["owner_id"], {"Name": None, "Email": None}),
            "MasterRecordId": _reference("Account", row["merged_into_id"]),
            "MasterRecord": _legacy(row["merged_into_id"]),
            "IsDeleted": bool(row["merged_into_id"]),
        }
        found[record["Id"]] = record
    return survivors, found


def exported_facts(data: Path, survivors: Mapping[str, str]) -> dict[str, dict[str, Body]]:
    """Contacts and activities of the sandbox's CRM by object and id. What belonged to a merged account belongs to its master."""
    found: dict[str, dict[str, Body]] = {"Contact": {}, "Task": {}, "Event": {}}
    for row in exported(data, "contacts"):
        record = _record("Contact", row, row["createdate"], row["hs_lastmodifieddate"])
        record |= {
            "AccountId": _reference("Account", survivors.get(row["company_id"], row["company_id"])),
            "Account": _legacy(survivors.get(row["company_id"], row["company_id"])),
            "Email": row["email"] or None,
            "Title": row["role"] or None,
            "HasOptedOutOfEmail": {"true": True, "false": False}.get(row["unsubscribed"], row["unsubscribed"] or None),
            "Left_Company__c": row["left_company_date"] or None,
        }
        found["Contact"][record["Id"]] = record
    for row in exported(data, "engagements"):
        object = "Event" if row["type"] == "MEETING" else "Task"
        record = _record(object, row, row[DELIVERED], row[DELIVERED])
        record |= {
            "AccountId": _reference("Account", survivors.get(row["company_id"], row["company_id"])),
            "Account": _legacy(survivors.get(row["company_id"], row["company_id"])),
            "WhoId": _reference("Contact", row["contact_id"]),
            "Subject": row["subject"] or None,
            "Description": row["body"] or None,
            "Direction__c": row["direction"].lower() or None,
        }
        happened = _happened(row["timestamp"])
        if object == "Event":
            record |= {"StartDateTime": happened, "ActivityDateTime": happened}
        else:
            subtype = {"EMAIL": "Email", "CALL": "Call"}.get(row["type"], "Task")
            record |= {"TaskSubtype": subtype, "Status": "Completed", "IsClosed": True, "CompletedDateTime": happened}
            record |= {"CallType": row["direction"].capitalize()} if subtype == "Call" else {}
        found[object][record["Id"]] = record
    return found


def _record(object: str, row: Mapping[str, str], created: str, modified: str) -> Body:
    moments = {"_created": stamp(created) if created else None, "_modified": stamp(modified or row[DELIVERED])}
    return {"Id": own_id(object, int(row["id"])), "Legacy_Id__c": row["id"], **moments}


def _reference(object: str, key: str) -> str | None:
    return own_id(object, int(key)) if key else None


def _legacy(key: str) -> Body:
    """What the record that is referred to was called before."""
    return {"Legacy_Id__c": key or None}


def _happened(text: str) -> str | None:
    if not text.isdigit():
        return text or None
    return stamp(datetime.fromtimestamp(int(text) / 1000, UTC).isoformat(timespec="milliseconds"))
