"""HTTP to other systems: one client, one time-out, and the decision which answer is which error.

Lives here: the only use of httpx, the time-outs, and the three error words for answers. Must not live here: what is sent to
whom, or how often it is tried again.
"""

from __future__ import annotations

from typing import Any

import httpx

from core.errors import Fatal, Retriable

TIMEOUT = httpx.Timeout(10.0, connect=5.0)


def post_json(url: str, payload: dict[str, Any]) -> None:
    """POST `payload` as JSON.

    Raises `Retriable` when nobody answers, on 429 and on 5xx; `Fatal` on any other answer that is not a success. The URL
    is not repeated in messages beyond its host: webhooks carry their secret in the path.
    """
    host = httpx.URL(url).host
    try:
        answer = httpx.post(url, json=payload, timeout=TIMEOUT)
    except httpx.TransportError as error:
        raise Retriable(f"{host} does not answer: {type(error).__name__}") from error
    if answer.status_code == 429 or answer.status_code >= 500:
        raise Retriable(f"{host} answered {answer.status_code}.")
    if answer.is_error:
        raise Fatal(f"{host} refused with {answer.status_code}: {answer.text[:200]}", hint="Check the webhook's URL.")
