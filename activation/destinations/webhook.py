"""A webhook: rows as signed JSON to a receiver of the user's own.

Lives here: the message, its signature, and what an answer means. Must not live here: which addresses may be talked to and how
(`core/http.py`), retrying, batching.

Signed by Standard Webhooks (standardwebhooks.com, "Signature scheme"): `webhook-id`, `webhook-timestamp` and
`webhook-signature`, the last with one `v1,` signature for each live secret, so that a secret can be changed without a pause.

The message: `{"type": "tenure.rows", "timestamp": …, "data": {"run_id": …, "rows": [{"idempotency_key": …, "key": …,
"operation": "create" | "update" | "retire", "values": {…}}]}}`. The same batch of a run, sent again, is the same message with
the same `webhook-id`; the idempotency key is that of the row, what it says, and the run, whatever message brings it.

The answer: a 2xx with `{"results": [{"key": …, "status": "ok" | "rejected" | "retriable", "error_code": …, "error": …, "id":
…}]}`, or a 2xx with `{"accepted": n}` where n is the number of rows in the message. A row that a 2xx does not account for has
failed, and is sent again. The page for receivers is `docs/webhook.md`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, get_args
from urllib.parse import urlsplit

from activation.accounting import complete, json_value, unsendable
from activation.base import Change, Field, Limits, Problem, RowResult, Status
from core.blocks import HTTP, HttpConfig
from core.errors import Fatal, Retriable, UserError
from core.http import Answer, CheckedTransport, Client, document_of, raise_for, resolve, tell

PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
"""Length of a secret, by the specification."""
BATCH_ROWS = 100
STATUSES = get_args(Status)


class Webhook:
    """A receiver at `url`, whose host is one of `allow_hosts`.

    `secrets` are the live ones, the newest first. `run_id` names the run in messages and idempotency keys; a random one if
    None. `allow_loopback` is for tests: it allows receivers on this machine, without TLS.
    """

    def __init__(
        self,
        url: str,
        *,
        secrets: Sequence[str],
        allow_hosts: Sequence[str],
        allow_loopback: bool = False,
        run_id: str | None = None,
        batch_rows: int = BATCH_ROWS,
        timeout: float = 15.0,
        http: HttpConfig = HTTP,
        now: Callable[[], float] = time.time,
        resolver: Callable[[str, int], Sequence[str]] = resolve,
    ) -> None:
        parts = urlsplit(url)
        if parts.username or parts.password:
            raise UserError("The URL of a webhook must not hold credentials.", hint="Messages are signed instead.")
        if not secrets:
            raise UserError(
                "A webhook needs a secret to sign with.", hint="Make one: `whsec_` and 32 random bytes in base64."
            )
        self._keys = [key_of(secret) for secret in secrets]
        self._secrets = tuple(secrets)
        self._url, self._host, self._batch_rows, self._now = url, parts.hostname or "", batch_rows, now
        self._run_id = run_id or uuid.uuid4().hex
        self._started = datetime.fromtimestamp(now(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._transport = CheckedTransport(allow_hosts, allow_loopback=allow_loopback, resolver=resolver)
        self._client = Client(transport=self._transport, timeout=timeout, http=http)

    def limits(self, rows: int) -> Limits:
        """The rows of a message; as many messages as the receiver takes."""
        return Limits(batch_rows=self._batch_rows)

    def upsert(self, batch: Sequence[Change]) -> Sequence[RowResult]:
        """One message."""
        good, results = unsendable(batch)
        if good:
            answer = self._post(self._message("tenure.rows", {"rows": [self._row(change) for change in good]}))
            results += self._results(good, answer)
        return results

    def preflight(self, fields: Sequence[Field]) -> Sequence[Problem]:
        """Whether the host is on the list and its addresses are public. Sends nothing."""
        try:
            self._transport.address(self._url)
        except (Fatal, Retriable) as error:
            return [Problem(error.message, error.hint or "Check the URL.")]
        return []

    def _row(self, change: Change) -> dict[str, Any]:
        row = {
            "key": change.key,
            "operation": change.operation,
            "values": {name: json_value(value) for name, value in change.values.items()},
        }
        return {"idempotency_key": hashlib.sha256(f"{self._run_id}\n".encode() + _json(row)).hexdigest()[:32], **row}

    def _message(self, kind: str, data: Mapping[str, Any]) -> bytes:
        document = {"type": kind, "timestamp": self._started, "data": {"run_id": self._run_id, **data}}
        return _json(document)

    def _post(self, body: bytes) -> Answer:
        message_id = "msg_" + hashlib.sha256(body).hexdigest()[:32]
        timestamp = int(self._now())
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signature(key, message_id, timestamp, body) for key in self._keys),
        }
        answer = self._client.send("POST", self._url, content=body, headers=headers)
        if answer.is_redirect:
            raise Fatal(
                f"{self._host} redirects, which is not followed.", hint="Give the address that it redirects to."
            )
        if not answer.is_success:
            document = document_of(answer)
            said = document.get("error") or document.get("message") if isinstance(document, dict) else None
            raise_for(answer, told=tell(said, *self._secrets))
        return answer

    def _results(self, changes: Sequence[Change], answer: Answer) -> list[RowResult]:
        document = document_of(answer)
        document = document if isinstance(document, dict) else {}
        status = answer.status_code
        listed, accepted = document.get("results"), document.get("accepted")
        results: list[RowResult] = []
        told = None
        if isinstance(listed, list):
            results = [self._result(entry, status) for entry in listed if _is_result(entry)]
        elif type(accepted) is int and accepted == len(changes):
            results = [RowResult(change.key, "ok", http_status=status) for change in changes]
        elif type(accepted) is int:
            told = f"It accepted {accepted} of {len(changes)} rows, and does not say which."
        return complete(changes, results, host=self._host, http_status=status, told=told)

    def _result(self, entry: Mapping[str, Any], http_status: int) -> RowResult:
        remote_id = entry.get("id")
        return RowResult(
            str(entry["key"]),
            entry["status"],
            remote_id=None if remote_id is None else str(remote_id),
            http_status=http_status,
            error_code=tell(entry.get("error_code"), *self._secrets, limit=60),
            error=tell(entry.get("error"), *self._secrets),
        )


def key_of(secret: str) -> bytes:
    """The bytes of a secret such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`. Raises `UserError`, without the secret."""
    try:
        if not secret.startswith(PREFIX):
            raise ValueError
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise UserError("A secret of the webhook is not `whsec_` and base64.", hint="Make a new one.") from None
    if len(key) not in SECRET_BYTES:
        raise UserError(
            f"A secret of the webhook has {len(key)} bytes.",
            hint=f"It needs {SECRET_BYTES.start} to {SECRET_BYTES.stop - 1}.",
        )
    return key


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature of a message: `v1,` and the HMAC-SHA256 of id, timestamp and body with points between, in base64."""
    signed = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode("ascii")


def _is_result(entry: object) -> bool:
    return isinstance(entry, dict) and "key" in entry and entry.get("status") in STATUSES


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
