"""HTTP to other systems: one client, one time-out, a limit of requests, and the decision which answer is which error.

Lives here: the only use of httpx, the time-outs, the limiter, which addresses may be talked to, how long and how large an answer may
be, and the error words for answers. Must not live here: what is sent to whom, or how often it is tried again.

A time-out between two pieces of an answer does not end one that trickles, and a small answer may unpack to a large one. So each request
has a deadline as a whole, kept by waiting for it from another thread (which also covers names that are looked up, and heads that
trickle), and its body is unpacked here, piece by piece, no further than is allowed. `HttpConfig` has the limits.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from queue import Empty, SimpleQueue
from typing import Any

import httpx

from core.blocks import HTTP, HttpConfig
from core.errors import BatchRefused, Fatal, Forbidden, Retriable, Unauthorized, UserError

Answer = httpx.Response
TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_MB = 1_000_000
_STEP = 1_000_000
_GZIP = 16 + zlib.MAX_WBITS
REFUSED_AS_A_WHOLE = (400, 409, 413, 422)
TRANSIENT = (408, 423, 425, 429)
UNICAST_V6 = ipaddress.ip_network("2000::/3")
TUNNELS = tuple(ipaddress.ip_network(network) for network in ("2001::/32", "2002::/16"))
"""Teredo and 6to4: IPv6 addresses with an IPv4 address inside, which may be any."""
SPECIAL = tuple(ipaddress.ip_network(network) for network in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"))
"""What Python of some versions calls global and is not: IETF's own (a cloud's metadata among them), 6to4 relays, and a cloud's
own services at an address that looks public."""


class Limiter:
    """At most `requests` in any `per_seconds`; `take` waits for its turn. Safe between threads."""

    def __init__(self, requests: int, per_seconds: float) -> None:
        self._requests, self._seconds = requests, per_seconds
        self._taken: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Wait until one more request is allowed; returns the seconds waited."""
        with self._lock:
            now = time.monotonic()
            wait = 0.0
            if len(self._taken) == self._requests:
                wait = max(0.0, self._taken.popleft() + self._seconds - now)
                time.sleep(wait)
            self._taken.append(time.monotonic())
            return wait


def retry_after(answer: Answer, *, now: datetime | None = None) -> float | None:
    """Seconds that `Retry-After` asks for, given as seconds or as a date (RFC 9110, 10.2.3); None where it asks nothing."""
    text = answer.headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    seconds: float = (at - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds)


def tell(text: object, *secrets: str, limit: int = 300) -> str | None:
    """A vendor's sentence, fit to be repeated: on one line, not too long, and without any of `secrets`. None for nothing."""
    said = " ".join(str(text).split()) if text else ""
    for secret in filter(None, secrets):
        said = said.replace(secret, "***")
    return (said if len(said) <= limit else said[: limit - 1] + "…") or None


def document_of(answer: Answer) -> Any:
    """The answer's JSON, None where it is none."""
    try:
        return answer.json()
    except ValueError:
        return None


def raise_for(answer: Answer, *, told: str | None = None) -> None:
    """Nothing for a success, else the error word for the answer.

    `told` is the vendor's own sentence, already found in the body; without it, only the status is repeated, since a body may
    hold what was sent. Raises `Retriable` on 408, 423, 425, 429 and 5xx; `Unauthorized` on 401; `Forbidden` on 403;
    `BatchRefused` on 400, 409, 413 and 422; `Fatal` on any other answer that is not a success.
    """
    if answer.is_success:
        return
    host, status = answer.request.url.host, answer.status_code
    said = f"{host} answered {status}" + (f": {told}" if told else ".")
    if status in TRANSIENT or status >= 500:
        raise Retriable(said, retry_after=retry_after(answer))
    if status == 401:
        raise Unauthorized(said, hint="Check the token: is it set, of this account, and not expired?")
    if status == 403:
        raise Forbidden(said, hint="Give the token the scope that is named.")
    if status in REFUSED_AS_A_WHOLE:
        raise BatchRefused(said)
    raise Fatal(said, hint="Check the address.")


def _tls() -> ssl.SSLContext:
    """The certificates that are trusted, read once: reading them takes 30 ms for each client otherwise."""
    return _tls_of(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _tls_of(file: str | None, folder: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()


def is_public(address: str) -> bool:
    """Whether an IP address is a host of the open internet: not private, loopback, link-local, metadata, multicast or reserved,
    and none of these inside an IPv6 address (mapped, 6to4, Teredo, NAT64)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        return ip in UNICAST_V6 and ip.is_global and not any(ip in tunnel for tunnel in TUNNELS)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not any(ip in network for network in SPECIAL)


def is_loopback(address: str) -> bool:
    """Whether an IP address is this machine's own, also when it is written as an IPv6 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def secure(url: str) -> str:
    """`url`, if a token may be sent there: over TLS, or to this machine. Raises `UserError` otherwise."""
    given = httpx.URL(url)
    if given.scheme == "https" and given.host:
        return url
    try:
        own = given.host == "localhost" or is_loopback(given.host)
    except ValueError:
        own = False
    if given.scheme != "http" or not own:
        raise UserError(
            f"{given.host or 'The address'} has to be reached over https.", hint="Begin the address with https://."
        )
    return url


def documents_in(answer: Any, name: str) -> list[dict[str, Any]]:
    """The documents in a list of a JSON answer; none where it is shaped otherwise."""
    found = answer.get(name) if isinstance(answer, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, as the machine's resolver has them."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class CheckedTransport(httpx.BaseTransport):
    """Connects to hosts on a list only, over TLS, and only where all of a host's addresses are public.

    A name may answer differently the second time it is asked (DNS rebinding): so it is asked once for each request, and the
    connection goes to the address that was checked. TLS and the `Host` header keep the name. `allow_loopback`, for tests, also
    allows this machine's own addresses, and those without TLS. No proxy is used: it would resolve the name anew.
    """

    def __init__(
        self,
        allow_hosts: Collection[str],
        *,
        allow_loopback: bool = False,
        resolver: Callable[[str, int], Sequence[str]] = resolve,
    ) -> None:
        self._hosts = {host.lower().rstrip(".") for host in allow_hosts}
        self._allow_loopback, self._resolver = allow_loopback, resolver
        self._inner = httpx.HTTPTransport(verify=_tls())

    def address(self, url: str | httpx.URL) -> str:
        """The checked address for a URL. Raises `Fatal` where it may not be talked to, `Retriable` where it has no address."""
        url = httpx.URL(url)
        host = url.host.lower().rstrip(".")
        if host not in self._hosts:
            raise Fatal(f"{host or 'The URL'} is not an allowed host.", hint="Add it to the list of allowed hosts.")
        try:
            addresses = self._resolver(host, url.port or (80 if url.scheme == "http" else 443))
        except OSError as error:
            raise Retriable(f"{host} has no address: {type(error).__name__}.") from error
        if not addresses:
            raise Retriable(f"{host} has no address.")
        for address in addresses:
            own = self._allow_loopback and is_loopback(address)
            if not (own or is_public(address)):
                raise Fatal(
                    f"{host} resolves to {address}, which is not a public address.", hint="It is never sent to."
                )
            if url.scheme != "https" and not (own and url.scheme == "http"):
                raise Fatal(f"{host} is not to be reached over {url.scheme}.", hint="Use https.")
        return addresses[0]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` to the checked address of its host."""
        name = request.url.host
        request.headers.setdefault("Host", request.url.netloc.decode("ascii"))
        request.url = request.url.copy_with(host=self.address(request.url).partition("%")[0])
        request.extensions = {**request.extensions, "sni_hostname": name}
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


class Client:
    """A connection to one system, kept open. Requests never follow redirects, and every one has a time-out and a deadline.

    `headers` is asked before each request, so that a token may change. `limiter` is shared by all requests. `timeout` is in
    seconds, for connecting, for sending, and between two pieces of an answer; `http` limits an answer as a whole.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        headers: Callable[[], Mapping[str, str]] = dict,
        limiter: Limiter | None = None,
        timeout: httpx.Timeout | float = TIMEOUT,
        http: HttpConfig = HTTP,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._headers, self._limiter, self._http = headers, limiter, http
        self._base_url, self._timeout, self._transport = base_url, timeout, transport
        self._client = self._connected()

    def _connected(self) -> httpx.Client:
        return httpx.Client(
            base_url=self._base_url,
            # What else there is unpacks without a limit on the way.
            headers={"Accept-Encoding": "gzip"},
            timeout=self._timeout,
            transport=self._transport,
            verify=_tls(),
            follow_redirects=False,
        )

    def send(self, method: str, url: str, **request: Any) -> Answer:
        """One request; returns the answer, whatever it says.

        `request` is what httpx takes: `json`, `content`, `params`, `headers`, `data`. Raises `Retriable` when there is no answer, or none
        within the deadline, and `Fatal` when there is more of it than is allowed.
        """
        if self._limiter is not None:
            self._limiter.take()
        headers = {**self._headers(), **request.pop("headers", {})}
        host = httpx.URL(self._client.base_url).join(url).host
        try:
            return self._in_time(self._client.build_request(method, url, headers=headers, **request), host)
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Retriable(f"{host} does not answer: {type(error).__name__}.") from error

    def _in_time(self, request: httpx.Request, host: str) -> Answer:
        """The answer to `request`. One that comes too late is waited for no longer, and its connection is closed."""
        client, http = self._client, self._http
        ends_at = time.monotonic() + http.deadline_seconds
        came: SimpleQueue[Answer | Exception] = SimpleQueue()

        def ask() -> None:
            try:
                came.put(_answer(client, request, host, http, ends_at))
            except Exception as error:
                came.put(error)

        threading.Thread(target=ask, name=f"request to {host}", daemon=True).start()
        try:
            found = came.get(timeout=http.deadline_seconds)
        except Empty:
            self._client = self._connected()
            client.close()
            raise _too_late(host, http) from None
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()


def _answer(client: httpx.Client, request: httpx.Request, host: str, http: HttpConfig, ends_at: float) -> Answer:
    """The whole answer to `request`, unpacked."""
    streamed = client.send(request, stream=True)
    try:
        body = b"".join(_unpacked(_received(streamed, host, http, ends_at), streamed, host, http))
    finally:
        streamed.close()
    unpacked = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in streamed.headers.multi_items() if name not in unpacked]
    return httpx.Response(streamed.status_code, headers=headers, content=body, request=request)


def _received(streamed: httpx.Response, host: str, http: HttpConfig, ends_at: float) -> Iterator[bytes]:
    """The pieces of a body as they come, as many bytes as are allowed."""
    received = 0
    for piece in streamed.iter_raw():
        received += len(piece)
        if received > http.max_received_mb * _MB:
            raise _too_large(host, http.max_received_mb, "max_received_mb")
        if time.monotonic() > ends_at:
            raise _too_late(host, http)
        yield piece


def _unpacked(pieces: Iterable[bytes], streamed: httpx.Response, host: str, http: HttpConfig) -> Iterator[bytes]:
    """The pieces of a body unpacked, as many bytes as are allowed."""
    encoding = streamed.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Fatal(f"{host} answered packed as {encoding[:40]}, which was not asked for.", hint="Check the address.")
    left = int(http.max_body_mb * _MB)
    for piece in pieces if encoding == "identity" else _gunzipped(pieces, host):
        left -= len(piece)
        if left < 0:
            raise _too_large(host, http.max_body_mb, "max_body_mb", "unpacked")
        yield piece


def _gunzipped(pieces: Iterable[bytes], host: str) -> Iterator[bytes]:
    """The members of a gzip stream, unpacked in pieces of no more than `_STEP` bytes."""
    member, is_open = zlib.decompressobj(_GZIP), False
    try:
        for packed in pieces:
            step = b""
            while packed or len(step) == _STEP:
                step, is_open = member.decompress(packed, _STEP), True
                yield step
                packed = member.unconsumed_tail
                if member.eof:
                    packed, member, is_open = member.unused_data, zlib.decompressobj(_GZIP), False
    except zlib.error as error:
        raise Retriable(f"{host} answered with gzip that cannot be unpacked.") from error
    if is_open:
        raise Retriable(f"{host} answered with gzip that ends too early.")


def _too_late(host: str, http: HttpConfig) -> Retriable:
    return Retriable(
        f"{host} has not answered in full within {http.deadline_seconds:g} s.",
        hint="If it needs longer, raise `http: {deadline_seconds}` of the source or destination.",
    )


def _too_large(host: str, most: float, setting: str, how: str = "packed") -> Fatal:
    return Fatal(
        f"{host} answered with more than {most:g} MB ({how}).",
        hint=f"If that is right, raise `http: {{{setting}}}` of the source or destination.",
    )


def post_json(url: str, payload: dict[str, Any]) -> None:
    """POST `payload` as JSON; raises as `raise_for`. The URL is not repeated in messages beyond its host: it may hold a secret."""
    client = Client()
    try:
        answer = client.send("POST", url, json=payload)
        raise_for(answer, told=answer.text[:200] or None)
    finally:
        client.close()
