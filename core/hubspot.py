"""HubSpot as both ends know it, the source and the destination: its limits, and what its refusals mean.

Lives here: addresses, limits, the error word for an answer that is no success. Must not live here: what is read
(`sources/hubspot.py`) or written (`activation/destinations/hubspot.py`).

From HubSpot's documentation (developers.hubspot.com/docs): 190 requests in 10 seconds for a private app, `policyName`, 477 while an
account moves to another data centre, the headers of limits: "API usage guidelines and limits", "Error handling". A dated path
(`/crm/objects/2026-03/...`) is supported for 18 months: API reference, "Overview" of the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from core.errors import Fatal, Retriable
from core.http import Answer, document_of, documents_in, raise_for, retry_after, tell

BASE_URL = "https://api.hubapi.com"
API_VERSION = "2026-03"
REQUESTS, PER_SECONDS = 190, 10.0
DAILY_WAIT = 3600.0
"""Seconds to wait when the day's calls are used up: the day ends at midnight of the account's time zone, which is not told."""
MIGRATION = 477


def refuse(answer: Answer, *secrets: str) -> NoReturn:
    """Raises the error word for an answer that is no success; a 403 names the scopes that are missing."""
    document = document_of(answer)
    document = document if isinstance(document, dict) else {}
    said = tell(document.get("message"), *secrets)
    if answer.status_code == 429:
        raise throttled(answer, document, said)
    if answer.status_code == MIGRATION:
        raise Retriable(
            "HubSpot is moving the account to another data centre.", retry_after=retry_after(answer) or DAILY_WAIT
        )
    if answer.status_code == 403:
        scopes = missing_scopes(document)
        said = f"{said or 'The token may not do this.'} Missing: {', '.join(scopes)}." if scopes else said
    raise_for(answer, told=said)
    raise Fatal(f"HubSpot answered {answer.status_code}.", hint="Check the address.")


def throttled(answer: Answer, document: Mapping[str, Any], said: str | None) -> Retriable:
    """The wait that a 429 means: the window's length for the limits of seconds, an hour for that of the day."""
    policy = str(document.get("policyName") or "")
    wait = retry_after(answer)
    if policy == "DAILY" or "daily" in (said or "").lower():
        return Retriable(
            "The calls that HubSpot allows in a day are used up.", retry_after=max(wait or 0.0, DAILY_WAIT)
        )
    milliseconds = answer.headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
    window = int(milliseconds) / 1000 if milliseconds.isdigit() else PER_SECONDS
    return Retriable(
        f"HubSpot asks for fewer requests ({policy or 429}).", retry_after=wait if wait is not None else window
    )


def missing_scopes(document: Mapping[str, Any]) -> list[str]:
    """The scopes that a 403 asks for, from its own context and those of its parts."""
    return sorted({scope for error in (document, *documents_in(document, "errors")) for scope in _scopes(error)})


def _scopes(error: object) -> list[str]:
    context = error.get("context") if isinstance(error, dict) else None
    if not isinstance(context, dict):
        return []
    return [
        str(scope)
        for name in ("requiredGranularScopes", "missingScopes", "requiredScopes")
        for scope in context.get(name) or ()
    ]
