"""Salesforce as both ends know it, the source and the destination: its tokens, its daily calls, its ids, and what its refusals mean.

Lives here: the client credentials flow, the limit header, the one form of an id, the error word for an answer that is no success. Must
not live here: what is read (`sources/salesforce.py`) or written (`activation/destinations/salesforce.py`).

From Salesforce's documentation (developer.salesforce.com/docs): `Sforce-Limit-Info`: REST API, "Limit Info Header";
ids of 15 characters, which differ by case, and of 18, which do not: help.salesforce.com 000385585;
`REQUEST_LIMIT_EXCEEDED` (403) is the limit of 24 hours: REST API, "Status Codes and Error Responses"; client credentials:
help.salesforce.com, "OAuth 2.0 Client Credentials Flow for Server-to-Server Integration". Logging in by password goes away: SOAP
`login()` ends with API version 65, in 2027.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn
from urllib.parse import urlsplit

from core.blocks import HTTP, HttpConfig
from core.errors import Fatal, Forbidden, Retriable, Unauthorized
from core.http import Answer, Client, document_of, raise_for, retry_after, secure, tell

API_VERSION = "67.0"
DAILY_WAIT = 3600.0
"""Seconds to wait when the calls of 24 hours are used up: they come back bit by bit, as hours pass."""
TRANSIENT = (
    "UNABLE_TO_LOCK_ROW",
    "SERVER_UNAVAILABLE",
    "QUERY_TIMEOUT",
    "REQUEST_RUNNING_TOO_LONG",
    "REQUEST_LIMIT_EXCEEDED",
    "CONCURRENT_REQUESTS_LIMIT_EXCEEDED",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY_LOCK",
    "TXN_SECURITY_METERING_ERROR",
    "UNKNOWN_EXCEPTION",
)


_ID_15 = re.compile(r"[0-9A-Za-z]{15}")
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def full_id(key: str) -> str:
    """A record's id with 18 characters, as the API writes it; reports and formulas show 15. What is no such id stays as it is.

    Each of the three last characters says which of five others are capitals, so that ids differ where case is lost.
    """
    if not _ID_15.fullmatch(key):
        return key
    fives = (key[start : start + 5] for start in (0, 5, 10))
    return key + "".join(_SUFFIX[sum(1 << bit for bit, one in enumerate(five) if "A" <= one <= "Z")] for five in fives)


def full_id_sql(text: str) -> str:
    """SQL of `full_id` of a text, for DuckDB."""

    def capital(place: int) -> str:
        return f"case when substr({text}, {place + 1}, 1) between 'A' and 'Z' then {1 << place % 5} else 0 end"

    suffix = " || ".join(
        f"substr('{_SUFFIX}', 1 + {' + '.join(capital(place) for place in range(start, start + 5))}, 1)"
        for start in (0, 5, 10)
    )
    return f"case when regexp_full_match({text}, '{_ID_15.pattern}') then {text} || {suffix} else {text} end"


class Organisation(Client):
    """A connection to one Salesforce organisation. It gets its token when it first needs one; `login_url` is that of My Domain."""

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        login_url: str,
        *,
        timeout: float = 60.0,
        http: HttpConfig = HTTP,
    ) -> None:
        super().__init__(secure(login_url), headers=self._authorization, timeout=timeout, http=http)
        self._credentials = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        self._login_url, self._instance, self._token, self._identity = login_url, "", "", ""
        self.used = 0.0
        """Share of the calls of 24 hours that are used, as the last answer told."""

    @property
    def host(self) -> str:
        """The organisation, for people."""
        return urlsplit(self._login_url).hostname or "Salesforce"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be repeated."""
        return (self._token, self._credentials["client_secret"])

    def refresh(self) -> None:
        """A new token by client credentials. Raises `Unauthorized` where Salesforce gives none."""
        self._token = ""
        answer = super().send("POST", "/services/oauth2/token", data=self._credentials)
        document = document_of(answer)
        document = document if isinstance(document, dict) else {}
        said = tell(document.get("error_description") or document.get("error"), *self.secrets)
        if answer.status_code in (400, 401, 403):
            raise Unauthorized(
                f"Salesforce gives no token ({answer.status_code}): {said or 'no reason'}.",
                hint="Check client id and secret, that the app allows the client credentials flow, and its user.",
            )
        raise_for(answer, told=said)
        token, instance = document.get("access_token"), document.get("instance_url")
        if not isinstance(token, str) or not isinstance(instance, str):
            raise Retriable("Salesforce answered without a token.")
        if urlsplit(instance).scheme != "https" and urlsplit(instance).hostname != urlsplit(self._login_url).hostname:
            raise Fatal("Salesforce names an instance that is not reached over https.", hint="Check the login URL.")
        self._token, self._instance = token, instance
        self._identity = str(document.get("id") or "")

    @property
    def organisation_id(self) -> str | None:
        """The id of the organisation, as the identity URL of the token names it (`…/id/00D…/005…`); gets a token where there is none."""
        if not self._token:
            self.refresh()
        parts = urlsplit(self._identity).path.split("/")
        return parts[2] if len(parts) > 2 and parts[1] == "id" and parts[2] else None

    def send(self, method: str, url: str, **request: Any) -> Answer:
        """One request to the organisation's instance; returns its answer, which is a success.

        Raises `Retriable` when there is none, and the error word for any other answer.
        """
        if not self._token:
            self.refresh()
        answer = super().send(method, f"{self._instance}{url}", **request)
        self.used = used_share(answer.headers.get("sforce-limit-info", "")) or self.used
        if not answer.is_success:
            refuse(answer, *self.secrets)
        return answer

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}


def refuse(answer: Answer, *secrets: str) -> NoReturn:
    """Raises the error word for an answer that is no success."""
    document = document_of(answer)
    first = document[0] if isinstance(document, list) and document and isinstance(document[0], dict) else {}
    code = str(first.get("errorCode") or "")
    said = tell(f"{code}: {first.get('message')}" if code else None, *secrets)
    if code in TRANSIENT:
        wait = DAILY_WAIT if code == "REQUEST_LIMIT_EXCEEDED" else None
        asked = retry_after(answer)
        raise Retriable(
            f"Salesforce answered {answer.status_code}: {said}", retry_after=wait if asked is None else asked
        )
    if code == "INVALID_SESSION_ID":
        raise Unauthorized(f"Salesforce answered {answer.status_code}: {said}", hint="The token has expired.")
    if answer.status_code == 403:
        raise Forbidden(f"Salesforce answered 403: {said or 'no'}", hint="Give the app's user what is missing.")
    raise_for(answer, told=said)
    raise Fatal(f"Salesforce answered {answer.status_code}.", hint="Check the address.")


def used_share(header: str) -> float | None:
    """The share of the day's calls that are used, from `Sforce-Limit-Info: api-usage=18/5000`; None where it is not told."""
    found = re.search(r"(?:^|[ ;,])api-usage=(\d+)/(\d+)", header)
    return int(found[1]) / int(found[2]) if found and int(found[2]) else None
