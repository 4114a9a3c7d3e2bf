"""HTTP to other systems: one client, one time-out, a limit of requests, and the decision which answer is which error.

Lives here: the only use of httpx, the time-outs, the limiter, and the error words for answers. Must not live here: what is
sent to whom, or how often it is tried again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from core.errors import BatchRefused, Fatal, Forbidden, Retriable, Unauthorized

Answer = httpx.Response
TIMEOUT = httpx.Timeout(10.0, connect=5.0)
REFUSED_AS_A_WHOLE = (400, 409, 413, 422)
TRANSIENT = (408, 423, 425, 429)


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


class Client:
    """A connection to one system, kept open. Requests never follow redirects, and every one has a time-out.

    `headers` is asked before each request, so that a token may change. `limiter` is shared by all requests. `timeout` is in
    seconds, for connecting, for sending, and between two pieces of an answer.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        headers: Callable[[], Mapping[str, str]] = dict,
        limiter: Limiter | None = None,
        timeout: httpx.Timeout | float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._headers, self._limiter = headers, limiter
        self._client = httpx.Client(base_url=base_url, timeout=timeout, transport=transport, follow_redirects=False)

    def send(self, method: str, url: str, **request: Any) -> Answer:
        """One request; returns the answer, whatever it says. Raises `Retriable` when there is none.

        `request` is what httpx takes: `json`, `content`, `params`, `headers`, `data`.
        """
        if self._limiter is not None:
            self._limiter.take()
        headers = {**self._headers(), **request.pop("headers", {})}
        try:
            return self._client.request(method, url, headers=headers, **request)
        except (httpx.TransportError, httpx.DecodingError) as error:
            host = httpx.URL(self._client.base_url).join(url).host
            raise Retriable(f"{host} does not answer: {type(error).__name__}.") from error

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()


def post_json(url: str, payload: dict[str, Any]) -> None:
    """POST `payload` as JSON; raises as `raise_for`. The URL is not repeated in messages beyond its host: it may hold a secret."""
    client = Client()
    try:
        answer = client.send("POST", url, json=payload)
        raise_for(answer, told=answer.text[:200] or None)
    finally:
        client.close()
