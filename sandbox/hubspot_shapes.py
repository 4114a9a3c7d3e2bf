"""What HubSpot asks of the bodies that it is sent.

Lives here: the properties without which it refuses a body, as its OpenAPI files (version 2026-03) have them, and its words for that.
Must not live here: what is done with a body (`hubspot.py`, `hubspot_reading.py`).

A search needs no `after`, whatever the files say: the live API begins with the first page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

REQUIRED = {
    "BatchInput": ("inputs",),
    "BatchReadInput": ("inputs", "properties", "propertiesWithHistory"),
    "SimplePublicObjectBatchInput": ("id", "properties"),
    "SimplePublicObjectId": ("id",),
    "PublicObjectSearchRequest": ("filterGroups", "limit", "properties", "sorts"),
    "PublicFetchAssociationsBatchRequest": ("id",),
    "PropertyCreate": ("name", "label", "type", "fieldType", "groupName"),
    "OptionInput": ("label", "value", "displayOrder", "hidden"),
    "PropertyGroupCreate": ("name", "label"),
}
PARTS = {
    ("BatchReadInput", "inputs"): "SimplePublicObjectId",
    ("PropertyCreate", "options"): "OptionInput",
}
"""What the objects in a list of a body have to be."""


def lack(shape: str, body: Any, inputs: str | None = None) -> str | None:
    """What HubSpot says of a body that lacks something; None for one that has all. `inputs` are the shape of a batch's rows."""
    if not isinstance(body, dict):
        return "Invalid input JSON: it is no object"
    missing = [name for name in REQUIRED[shape] if body.get(name) is None]
    if missing:
        return (
            f"Invalid input JSON: Cannot build {shape}, some of required attributes are not set [{', '.join(missing)}]"
        )
    parts = {name: part for (whole, name), part in PARTS.items() if whole == shape}
    parts |= {"inputs": inputs} if inputs else {}
    return next((said for name, part in parts.items() for said in _lacks(part, body.get(name) or [])), None)


def _lacks(shape: str, bodies: Iterable[Any]) -> Iterable[str]:
    return (said for body in bodies if (said := lack(shape, body)) is not None)
