"""A stand-in for a user's own receiver of webhooks.

Lives here: checking the signature, keeping the rows, answering. Must not live here: what stand-ins share (`standin.py`).

`answers` says how it accounts for rows: `results` (one for each row), `accepted` (a number), `silent` (an empty 200). Beyond
the faults of all stand-ins it knows `partial` (rejects each `detail.every`-th row), `silent`, `shuffle`, `short` (accepts one
row less than it got), `redirect` and `refuse` (the whole message 400).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sandbox.standin import Body, StandIn, Store, fault_of

SECRET = "whsec_c2FuZGJveC1zYW5kYm94LXNhbmRib3gtc2FuZGJveA=="
TOLERANCE_SECONDS = 300
MOST_BYTES = 1024 * 1024


class WebhookStandIn(StandIn):
    """A receiver at `/hook` that knows `secrets`."""

    def __init__(
        self, *, secrets: Sequence[str] = (SECRET,), answers: str = "results", store: Store | None = None
    ) -> None:
        super().__init__([Route("/hook", self._receive, methods=["POST"])], store=store)
        self.secrets, self.answers = list(secrets), answers
        self.messages: list[tuple[dict[str, str], bytes]] = []

    def row(self, key: str) -> Body | None:
        """The last values of a row."""
        found = self.store.get("rows", key)
        return None if found is None else found["values"]

    def state(self) -> Body:
        return {"rows": len(self.store.all("rows")), "messages": len(self.messages)}

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        headers = dict(request.headers.items())
        if len(body) > MOST_BYTES:
            return JSONResponse({"error": "the message is too large"}, 413)
        if not self._is_signed(headers, body):
            return JSONResponse({"error": "the signature is not valid"}, 401)
        self.messages.append((headers, body))
        fault = fault_of(request, "partial", "silent", "shuffle", "short", "redirect", "refuse", "echo")
        kind = fault.kind if fault is not None else ""
        if kind == "redirect" and fault is not None:
            return RedirectResponse(fault.detail["to"], 302)
        if kind in ("refuse", "echo"):
            said = "told to refuse" if kind == "refuse" else f"refused, signed with {self.secrets[0]}"
            return JSONResponse({"error": said}, 400)
        if kind == "silent":
            return Response(status_code=200)
        rows = json.loads(body)["data"]["rows"]
        every = int(fault.detail.get("every", 2)) if fault is not None and kind == "partial" else 0
        results, kept = [], {}
        for number, row in enumerate(rows):
            if every and number % every == 0:
                error = {"error_code": "told", "error": "told to refuse this row"}
                results.append({"key": row["key"], "status": "rejected", **error})
            else:
                before = self.store.get("rows", row["key"]) or {"applied": [], "values": {}}
                if row["idempotency_key"] not in before["applied"]:
                    applied = [*before["applied"][-9:], row["idempotency_key"]]
                    kept[row["key"]] = {"applied": applied, "values": {**before["values"], **row["values"]}}
                results.append({"key": row["key"], "status": "ok", "id": f"r-{row['key']}"})
        if kept:
            self.store.put("rows", kept)
        if kind == "shuffle":
            results.reverse()
        if self.answers == "silent":
            return Response(status_code=204)
        if self.answers == "accepted" or kind == "short":
            return JSONResponse({"accepted": len(rows) - (kind == "short")}, 202)
        return JSONResponse({"results": results})

    def _is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        message, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not message or not timestamp.isdigit() or abs(int(timestamp) - time.time()) > TOLERANCE_SECONDS:
            return False
        given = [
            entry.removeprefix("v1,")
            for entry in headers.get("webhook-signature", "").split()
            if entry.startswith("v1,")
        ]
        for secret in self.secrets:
            key = base64.b64decode(secret.removeprefix("whsec_"))
            right = base64.b64encode(
                hmac.digest(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256)
            ).decode()
            if any(hmac.compare_digest(right, signature) for signature in given):
                return True
        return False
