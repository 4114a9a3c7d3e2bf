"""What all stand-ins for vendors share: an app that can be told to fail, and a memory that may outlive it.

Lives here: the fault schedule, the rate window, the log of calls, the admin door, the store. Must not live here: any vendor.

Under `/_admin` a stand-in can be told to fail and asked what it saw; the same is there in Python (`fail`, `calls`). A fault
waits for the next requests whose path holds `match`; the kinds that all stand-ins know:

- `status`: answers `detail.status` without doing anything; `detail.body`, `detail.headers` replace the vendor's own.
- `hang`: does what was asked, and answers only after `detail.seconds` (the client's time-out is over by then).
- `reset`: does what was asked, and cuts the connection in the middle of the answer.
- `trickle`: does what was asked, and answers letter by letter, one in `detail.pause` seconds.
- `bomb`: answers with little that unpacks to `detail.megabytes`, without doing anything.

Each vendor adds its own, such as `cut` (a part of a list, which says that it is one), `partial` or `silent`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import Message, Receive, Scope, Send

Body = dict[str, Any]


@dataclass
class Fault:
    """What the next `times` requests to a path with `match` in it come to, when `after` of them have passed unharmed."""

    kind: str
    times: int = 1
    match: str = ""
    detail: Body = field(default_factory=dict)
    after: int = 0


@dataclass(frozen=True)
class Call:
    """A request that came in, and what was answered."""

    method: str
    path: str
    status: int
    fault: str | None = None


class Store:
    """Documents by kind and key, in memory; with a path, also in an SQLite file that is read when the stand-in starts.

    `version` counts the changes.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._kinds: dict[str, dict[str, Body]] = {}
        self._lock = threading.Lock()
        self.version = 0
        self._file: sqlite3.Connection | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, check_same_thread=False)
            self._file.execute(
                "create table if not exists documents (kind text, key text, body text, primary key (kind, key))"
            )
            for kind, key, body in self._file.execute("select kind, key, body from documents order by rowid"):
                self._kinds.setdefault(kind, {})[key] = json.loads(body)

    def all(self, kind: str) -> Mapping[str, Body]:
        """Every document of a kind; do not change it."""
        return self._kinds.setdefault(kind, {})

    def get(self, kind: str, key: str) -> Body | None:
        return self._kinds.get(kind, {}).get(key)

    def put(self, kind: str, documents: Mapping[str, Body]) -> None:
        """Keep documents of a kind, all or none."""
        self.version += 1
        with self._lock:
            self._kinds.setdefault(kind, {}).update(documents)
            if self._file is not None:
                with self._file:
                    self._file.executemany(
                        "insert or replace into documents values (?, ?, ?)",
                        [(kind, key, json.dumps(body)) for key, body in documents.items()],
                    )

    def clear(self) -> None:
        self.version += 1
        with self._lock:
            self._kinds.clear()
            if self._file is not None:
                with self._file:
                    self._file.execute("delete from documents")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Window:
    """At most `requests` in any `seconds`, for each caller; refuses what is more."""

    def __init__(self, requests: int, seconds: float) -> None:
        self.requests, self.seconds = requests, seconds
        self._taken: dict[str, deque[float]] = {}

    def allows(self, caller: str) -> bool:
        now = time.monotonic()
        taken = self._taken.setdefault(caller, deque())
        while taken and taken[0] <= now - self.seconds:
            taken.popleft()
        if len(taken) >= self.requests:
            return False
        taken.append(now)
        return True


class StandIn:
    """An ASGI app in a vendor's place. A vendor gives the routes, and the bodies of its errors."""

    def __init__(self, routes: Sequence[BaseRoute], *, store: Store | None = None) -> None:
        self.store = store or Store()
        self.faults: list[Fault] = []
        self.log: list[Call] = []
        self._vendor = Starlette(routes=routes)

    # --- what a vendor may replace --------------------------------------------------------------------------------

    def refusal(self, status: int, detail: Body) -> Response:
        """The vendor's answer for a `status` fault."""
        return JSONResponse(detail.get("body", {"message": "told to fail"}), status, headers=detail.get("headers"))

    def state(self) -> Body:
        """What `/_admin/state` tells beyond the calls."""
        return {}

    # --- what a test says and asks --------------------------------------------------------------------------------

    def fail(self, kind: str, *, times: int = 1, match: str = "", after: int = 0, **detail: Any) -> None:
        """Let the next `times` requests whose path holds `match` come to a fault, when `after` others have passed."""
        self.faults.append(Fault(kind, times, match, detail, after))

    def calls(self, part: str = "") -> int:
        """How many requests came in whose path holds `part`."""
        return sum(part in call.path for call in self.log)

    def forget(self) -> None:
        """Drop the log of calls and the faults to come."""
        self.log.clear()
        self.faults.clear()

    # --- the app --------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"].startswith("/_admin/"):
            await (await self._admin(Request(scope, receive)))(scope, receive, send)
            return
        fault = self._next_fault(scope["path"])
        scope["fault"] = fault
        said = await self._answer(scope, receive, fault)
        self.log.append(Call(scope["method"], scope["path"], said[0]["status"], fault.kind if fault else None))
        if fault is not None and fault.kind == "hang":
            await _until_gone(receive, float(fault.detail.get("seconds", 30)))
        if fault is not None and fault.kind == "reset":
            said = _cut(said)
        if fault is not None and fault.kind == "trickle":
            said = await _trickled(said, receive, send, float(fault.detail.get("pause", 0.1)))
        with suppress(OSError):
            for message in said:
                await send(message)

    async def _answer(self, scope: Scope, receive: Receive, fault: Fault | None) -> list[Message]:
        said: list[Message] = []

        async def keep(message: Message) -> None:
            said.append(message)

        if fault is not None and fault.kind == "status":
            response = self.refusal(int(fault.detail["status"]), fault.detail)
            await response(scope, receive, keep)
        elif fault is not None and fault.kind == "bomb":
            packed = gzip.compress(bytes(int(fault.detail.get("megabytes", 10)) * 1_000_000))
            await Response(packed, headers={"Content-Encoding": "gzip"})(scope, receive, keep)
        else:
            await self._vendor(scope, receive, keep)
        return said

    def _next_fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.match in path and fault.after > 0:
                fault.after -= 1
            elif fault.match in path:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                return fault
        return None

    async def _admin(self, request: Request) -> Response:
        what = request.url.path.removeprefix("/_admin/")
        if what == "faults" and request.method == "POST":
            self.faults.extend(Fault(**fault) for fault in await request.json())
        elif what == "forget" and request.method == "POST":
            self.forget()
        elif what == "reset" and request.method == "POST":
            self.forget()
            self.store.clear()
        elif what != "state":
            return JSONResponse({"message": "there are faults, forget, reset and state"}, 404)
        by_path = Counter(f"{call.method} {call.path}" for call in self.log)
        return JSONResponse({"calls": by_path, "faults": [asdict(fault) for fault in self.faults], **self.state()})


def fault_of(request: Request, *kinds: str) -> Fault | None:
    """The fault that the request has to come to, if it is one of `kinds`."""
    fault: Fault | None = request.scope.get("fault")
    return fault if fault is not None and fault.kind in kinds else None


def _cut(said: list[Message]) -> list[Message]:
    """The head of an answer, and half of its body: the server closes the connection after that."""
    start = said[0]
    body = b"".join(message.get("body", b"") for message in said[1:]) or b"{"
    return [start, {"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True}]


async def _trickled(said: list[Message], receive: Receive, send: Send, pause: float) -> list[Message]:
    """Send all but the last letter of an answer, slowly, as long as the client listens; what is left to be sent."""
    head, *rest = said
    body = b"".join(message.get("body", b"") for message in rest)
    await send(head)
    for at in range(len(body) - 1):
        await send({"type": "http.response.body", "body": body[at : at + 1], "more_body": True})
        if await _until_gone(receive, pause):
            break
    return [{"type": "http.response.body", "body": body[-1:]}]


async def _until_gone(receive: Receive, seconds: float) -> bool:
    """Wait, no longer than the client does; whether it is gone."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
            return True
    return False
