"""Whoever is not a page of this server, or does not have its token, gets nothing from the page of Dagster."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from core.errors import UserError
from core.settings import UiConfig
from orchestration.ui import check_host, guarded
from orchestration.ui_guard import UiGuard
from sandbox.serve import serving

JSON = {"Content-Type": "application/json"}
TOKEN = "correct horse battery staple"


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("answered")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("answered")
    await websocket.close()


APP = Starlette(
    routes=[
        WebSocketRoute("/graphql", socket),
        Route("/{path:path}", page, methods=["GET", "POST", "PUT"]),
    ]
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(UiGuard(APP, hosts=["tenure.example.com"])) as found:
        yield found


def status(address: str, method: str, path: str, headers: dict[str, str]) -> int:
    return httpx.request(method, address + path, headers=headers).status_code


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/", {"Host": "LocalHost:3000"}, 200),
        ("GET", "/", {"Host": "[::1]:3000"}, 200),
        ("GET", "/", {"Host": "tenure.example.com"}, 200),
        ("GET", "/", {"Host": "evil.example"}, 421),
        ("GET", "/", {"Host": "127.0.0.1.evil.example"}, 421),
        ("GET", "/", {"Host": "evil.example@127.0.0.1"}, 421),
        ("GET", "/", {"Host": "127.0.0.1@evil.example"}, 421),
        ("GET", "/", {"Host": ""}, 421),
        ("GET", "/graphql", {}, 405),
        ("GET", "/graphql/", {"Accept": "text/html"}, 405),
        ("PUT", "/graphql", JSON, 405),
        ("POST", "/graphql", {"Content-Type": "text/plain"}, 405),
        ("POST", "/graphql", {"Content-Type": "application/x-www-form-urlencoded"}, 405),
        ("POST", "/graphql", {"Content-Type": "text/plain; application/json"}, 405),
        ("POST", "/graphql", {"Content-Type": "Application/JSON; charset=utf-8"}, 200),
        ("POST", "/graphql", {**JSON, "Origin": "null"}, 403),
        ("POST", "/graphql", {**JSON, "Origin": "http://evil.example"}, 403),
        ("POST", "/graphql", {**JSON, "Origin": "http://localhost:8000", "Host": "localhost:3000"}, 403),
        ("POST", "/graphql", {**JSON, "Origin": "http://localhost:3000", "Host": "localhost:3000"}, 200),
        ("POST", "/graphql", {**JSON, "Origin": "https://tenure.example.com"}, 200),
        ("POST", "/graphql", {**JSON, "Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/graphql", {**JSON, "Sec-Fetch-Site": "same-site"}, 403),
        ("POST", "/graphql", {**JSON, "Sec-Fetch-Site": "same-origin"}, 200),
        ("POST", "/report_asset_check/x", {"Origin": "http://evil.example"}, 403),
        ("GET", "/logs/x", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, 403),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
        ("GET", "/runs", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ("POST", "/x", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403),
    ],
)  # fmt: skip
def test_only_the_servers_own_page_is_answered(
    address: str, method: str, path: str, headers: dict[str, str], expected: int
) -> None:
    assert status(address, method, path, headers) == expected


def test_the_page_cannot_be_framed(address: str) -> None:
    headers = httpx.get(address).headers
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("headers", "is_answered"),
    [
        ({"Host": "localhost:3000"}, True),
        ({"Host": "localhost:3000", "Origin": "null"}, False),
        ({"Host": "localhost:3000", "Origin": "http://localhost:3000"}, True),
        ({"Host": "localhost:3000", "Origin": "http://localhost:8000"}, False),
        ({"Host": "evil.example"}, False),
    ],
)
def test_a_websocket_is_opened_for_the_same_pages(headers: dict[str, str], is_answered: bool) -> None:
    client = TestClient(UiGuard(APP), base_url="http://localhost")
    if not is_answered:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/graphql", headers=headers):
            pass
        return
    with client.websocket_connect("/graphql", headers=headers) as opened:
        assert opened.receive_text() == "answered"


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()}


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    config = UiConfig.model_validate({"token": TOKEN, "hosts": []})
    with serving(guarded(APP, "127.0.0.1", config)) as found:
        yield found


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 401),
        (basic("wrong"), 401),
        (basic(""), 401),
        ({"Authorization": "Basic not-base64!"}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Cookie": "tenure_ui=guess"}, 401),
        ({"Cookie": f"tenure_ui={TOKEN.replace(' ', '')}"}, 401),
        ({"Cookie": "tenure_ui=\xe9".encode("latin-1").decode("latin-1")}, 401),
        (basic(TOKEN), 200),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
    ],
)
def test_a_token_is_needed_where_one_is_set(locked: str, headers: dict[str, Any], expected: int) -> None:
    given = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    assert httpx.get(locked, headers=given).status_code == expected


def test_who_logged_in_stays_so_by_a_cookie_that_does_not_hold_the_token(locked: str) -> None:
    with httpx.Client(base_url=locked) as client:
        answer = client.get("/", headers=basic(TOKEN))
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/").status_code == 200
    assert httpx.get(locked).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "tenure.internal"])
def test_other_machines_are_let_in_only_with_a_token(host: str) -> None:
    with pytest.raises(UserError, match="lets other machines in") as error:
        check_host(host, UiConfig())
    assert "ui.token" in str(error.value.hint)
    check_host(host, UiConfig.model_validate({"token": TOKEN}))


def test_this_machine_needs_no_token() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        check_host(host, UiConfig())
