"""What stands in front of Dagster's web server: who may ask it, and from which page.

Lives here: one ASGI middleware. Must not live here: processes (`ui.py`), anything of Dagster.

Dagster's web server has no login and checks neither where a request comes from nor how it is made, and whoever can launch a run acts as
the user who started it. A page of another site could do so from the user's own browser. Therefore:

- `Host` has to be one of the names that the server is known by, so that a foreign name that resolves to this machine (DNS
  rebinding) gets nothing;
- GraphQL is executed for `POST` with `application/json` only, which no page can send to another site without asking first;
- `Origin` and `Sec-Fetch-Site`, which browsers set and pages cannot, have to say that the page is our own;
- no other site may show the page in a frame (clickjacking);
- with a token, every request needs it: by HTTP Basic (as the password), as a bearer token, or by the cookie that follows.

See the OWASP cheat sheet "Cross-Site Request Forgery Prevention", and web.dev, "Protect your resources from web attacks with
Fetch Metadata".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
COOKIE = "tenure_ui"
_READING = ("GET", "HEAD", "OPTIONS")
_OWN = ("same-origin", "none")


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    reason: str
    headers: dict[str, str] = field(default_factory=dict)


class UiGuard:
    """ASGI middleware. `hosts` are the names besides loopback that the server answers to; `token` is asked for when given."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] = (), token: str | None = None) -> None:
        self.app = app
        self.public = frozenset(host.lower() for host in hosts)
        self.hosts = self.public | set(LOOPBACK)
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self.refusal(scope["type"], scope.get("method", "GET"), scope["path"], headers)
        if refusal is None:
            await self.app(scope, receive, self._stamped(send, headers))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.reason})
        else:
            answer = PlainTextResponse(f"{refusal.reason}\n", refusal.status, headers=refusal.headers)
            await answer(scope, receive, send)

    def refusal(self, kind: str, method: str, path: str, headers: Headers) -> Refusal | None:
        """Why the request is refused, or None. `kind` is http or websocket."""
        host = headers.get("host", "")
        if _name(host) not in self.hosts:
            return Refusal(
                421, f"This server does not answer for the host {host!r}; ui.hosts lists names that it should."
            )
        if not self._is_own(kind, method, headers):
            return Refusal(403, "Refused: the request comes from a page of another site.")
        if path.rstrip("/").endswith("/graphql") and kind == "http" and not _is_json_post(method, headers):
            return Refusal(405, "GraphQL is answered for POST with Content-Type: application/json.", {"Allow": "POST"})
        if self.token is not None and not self._has_token(headers):
            asks = {"WWW-Authenticate": 'Basic realm="Tenure", charset="UTF-8"'}
            return Refusal(401, "Log in with the token of ui.token as the password (any user name).", asks)
        return None

    def _is_own(self, kind: str, method: str, headers: Headers) -> bool:
        """Whether the request comes from a page of this server, or from no page at all."""
        origin, host = headers.get("origin"), headers.get("host", "").lower()
        if origin is not None:
            found = urlsplit(origin.lower())
            # A proxy may ask under a host of its own; a name that was configured is trusted on any port.
            if found.netloc != host and (found.hostname or "") not in self.public:
                return False
        site = headers.get("sec-fetch-site")
        if site is None or site in _OWN:
            return True
        # A link from elsewhere may open a page, which changes nothing.
        is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return kind == "http" and method in _READING and is_link

    def _has_token(self, headers: Headers) -> bool:
        given = _authorization(headers.get("authorization", ""))
        if given is not None and hmac.compare_digest(given.encode(), str(self.token).encode()):
            return True
        found = _cookie(headers.get("cookie", ""))
        return found is not None and hmac.compare_digest(found.encode(), self._session().encode())

    def _session(self) -> str:
        """What the cookie holds: it proves that its bearer had the token, without holding it."""
        return hmac.new(str(self.token).encode(), b"tenure ui session", hashlib.sha256).hexdigest()

    def _stamped(self, send: Send, asked: Headers) -> Send:
        """`send`, with the headers that keep other sites out."""
        new_session = self.token is not None and _authorization(asked.get("authorization", "")) is not None

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Frame-Options"] = "DENY"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.append("Content-Security-Policy", "frame-ancestors 'none'")
                if new_session:
                    headers.append("Set-Cookie", f"{COOKIE}={self._session()}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        return stamped


def _name(host: str) -> str:
    """The name of a Host header, without its port and in lower case; empty for what is no host."""
    if set(host) & set("@/\\?# "):
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_json_post(method: str, headers: Headers) -> bool:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return method == "POST" and kind == "application/json"


def _authorization(header: str) -> str | None:
    """The token that an Authorization header carries, or None."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None


def _cookie(header: str) -> str | None:
    cookies = SimpleCookie()
    try:
        cookies.load(header)
    except CookieError:
        return None
    found = cookies.get(COOKIE)
    return found.value if found is not None else None
