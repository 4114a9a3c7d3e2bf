"""When something is wrong: what is refused, what is said, and that what was published stays as it was."""

from __future__ import annotations

import json
import smtplib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.settings import AlertConfig
from orchestration import alerts


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A real HTTP server that keeps what it is told; its URL and what it got."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append(json.loads(body))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", told
    finally:
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_check_that_blocks_leaves_the_published_copy_and_tells_the_webhook(
    new_home: Callable[..., Any], webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, told = webhook
    home = new_home(
        "refused",
        ("churn:\n", "quality: {max_quarantined_share: 0.0}\nalerts: {webhook_url: '${HOOK}'}\n\nchurn:\n"),
        accounts=60,
        months=3,
        HOOK=url,
    )
    (home.path / "serving.duckdb").write_bytes(b"what was published before")
    answer = home.run("run", "--json")
    assert answer.code == 3, answer.out + answer.err
    assert answer.document["status"] == "refused"
    assert "quarantine_share" in answer.document["problems"][0]
    assert (home.path / "serving.duckdb").read_bytes() == b"what was published before"
    (message,) = told
    assert message["run_id"] == answer.document["run_id"]
    assert "quarantine_share" in message["text"]


def test_a_webhook_that_fails_is_said_and_harms_nothing(webhook: tuple[str, list[dict[str, Any]]]) -> None:
    url, _ = webhook
    failure = alerts.Failure("Example", "run", "job", ("something broke",))
    problems = alerts.send(failure, AlertConfig.model_validate({"webhook_url": f"{url}/broken"}))
    assert problems == ["The webhook was not told: 127.0.0.1 answered 500."]


def test_a_mail_server_that_is_away_is_said_and_harms_nothing() -> None:
    config = AlertConfig.model_validate({"email_to": ("a@example.com",), "smtp_url": "smtp://127.0.0.1:9"})
    (problem,) = alerts.send(alerts.Failure("Example", "run", "job", ()), config)
    assert problem.startswith("No e-mail was sent:")


def test_an_alert_reaches_a_mail_server(tmp_path: Path) -> None:
    import socketserver

    received: list[bytes] = []

    class Smtp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            while line := self.rfile.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    while (text := self.rfile.readline()) != b".\r\n":
                        received.append(text)
                self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                if verb == b"QUIT":
                    return

    with socketserver.TCPServer(("127.0.0.1", 0), Smtp) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        config = AlertConfig.model_validate(
            {"email_to": ("a@example.com",), "smtp_url": f"smtp://127.0.0.1:{server.server_address[1]}"}
        )
        problems = alerts.send(alerts.Failure("Example", "run-1", "job", ("the reason",)), config)
        server.shutdown()
        thread.join()
    assert problems == []
    assert b"the reason" in b"".join(received)
    assert smtplib.SMTP is not None


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("company: Sandbox Inc.", "compny: Sandbox Inc."), 2, "compny"),
        (("connector: files", "connector: flies"), 2, "connector"),
        (("entity_unused", ""), 2, ""),
        (('schedule: "0 5 * * *"', "schedule: ${NO_SUCH_VARIABLE}"), 2, "NO_SUCH_VARIABLE"),
        (("      tickets:\n", "      tickts:\n"), 2, "tickts"),
        (("started_at: {sql: start, format: epoch}", "startd_at: {sql: start, format: epoch}"), 2, "startd_at"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(
    new_home: Callable[..., Any], change: tuple[str, str], code: int, words: str
) -> None:
    if change[0] == "entity_unused":
        home = new_home("mistakes")
        home.config.unlink()
        words = str(home.config)
    else:
        home = new_home("mistakes", change)
    answer = home.run("doctor")
    assert answer.code == code
    assert words in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--as-of", "tomorrow"), "is not a date"),
        (("query", " ; -- nothing"), "no SQL"),
        (("run", "--as-of", "2999-01-01"), "outside"),
        (("run", "--as-of", "2024-01-01"), "Nothing has been loaded"),
        (("run", "--as-of", "2024-01-01", "--full"), "cannot be combined"),
        (("run", "--full", "crm/nothing"), "There is no stream crm/nothing"),
        (("run", "crm"), "tenure run --full crm"),
        (("sources", "remove", "crm"), "Nothing has been loaded"),
        (("query", "select 1"), "Nothing has been published"),
        (("publish",), "nothing to publish"),
        (("sandbox", "advance"), "no sandbox company"),
        (("rum",), "rum"),
    ],
)
def test_wrong_use_is_exit_code_2_and_a_sentence(
    new_home: Callable[..., Any], arguments: tuple[str, ...], words: str
) -> None:
    answer = new_home("wrong").run(*arguments)
    assert answer.code == 2, answer
    assert words in answer.err
    assert "Traceback" not in answer.err


def test_json_carries_the_error_too(new_home: Callable[..., Any]) -> None:
    answer = new_home("wrong").run("query", "select 1", "--json")
    assert answer.code == 2
    assert answer.document["status"] == "error"
    assert answer.document["hint"] == "Run `tenure run` first."


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("run", "--nope"), "No such option: --nope"), (("query",), "Missing argument 'sql'."), (("rum",), "rum")],
)
def test_json_carries_wrong_use_too(new_home: Callable[..., Any], arguments: tuple[str, ...], words: str) -> None:
    answer = new_home("wrong").run(*arguments, "--json")
    assert answer.code == 2
    assert words in answer.document["error"]


def test_help_answers_at_once_and_gives_examples(new_home: Callable[..., Any]) -> None:
    home = new_home("help")
    parts = (
        "",
        "run",
        "doctor",
        "status",
        "query",
        "publish",
        "ui",
        "train",
        "score",
        "sandbox advance",
        "model card",
        "sync diff",
    )
    for command in (*parts, "sandbox", "model", "sync"):
        answer = home.run(*command.split(), "--help")
        assert answer.code == 0
        assert f"tenure {command}".strip() in answer.out
        assert "Example" in answer.out
