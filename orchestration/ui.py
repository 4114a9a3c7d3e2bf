"""`tenure ui`: Dagster's web page behind its guard, with the daemon and the code server beside it.

Lives here: the processes and their end. Must not live here: who may ask (`ui_guard.py`), definitions.

The web server runs in this process, so that the guard is part of it and nothing of Dagster listens on a port without it: the code server
is reached through a socket file that only its user can open. `dagster dev` would start a web server of its own, without a guard.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from core import telemetry, threads
from core.errors import TenureError, UserError
from core.settings import UiConfig
from orchestration.ui_guard import LOOPBACK, UiGuard

if TYPE_CHECKING:
    from starlette.types import ASGIApp

DEFINITIONS = "orchestration.definitions"
_READY_SECONDS = 180.0
_END_SECONDS = 30.0
_ANY = ("0.0.0.0", "::")


def check_host(host: str, config: UiConfig) -> None:
    """Refuse to listen where others can connect without having to prove who they are.

    Raises `UserError` for a host other than loopback when `ui.token` is not set.
    """
    if host in LOOPBACK or config.token is not None:
        return
    raise UserError(
        f"--host {host} lets other machines in, and Dagster's page has no login of its own.",
        hint="Set ui.token in tenure.yml, or stay on 127.0.0.1 behind a proxy with a login and list its name in ui.hosts.",
    )


def guarded(app: ASGIApp, host: str, config: UiConfig) -> ASGIApp:
    """The application behind its guard."""
    hosts = {*config.hosts, *({host} - set(LOOPBACK) - set(_ANY))}
    token = config.token.get_secret_value() if config.token is not None else None
    return UiGuard(app, hosts=hosts, token=token)


def serve(host: str, port: int, config: UiConfig) -> None:
    """Serve until a signal ends it. `DAGSTER_HOME`, `TENURE_CONFIG` and `TENURE_HOME` are set by the caller.

    Raises `TenureError` when the code server does not start, or a process that belongs to the page ends by itself.
    """
    import uvicorn
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    telemetry.switch_off()
    threads.wait_quietly()
    with tempfile.TemporaryDirectory(prefix="tenure-ui-") as folder, contextlib.ExitStack() as stack:
        socket, workspace = Path(folder) / "code.sock", Path(folder) / "workspace.yaml"
        location = {"socket": str(socket), "location_name": DEFINITIONS}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": location}]}), encoding="utf-8")
        code = ["-m", "dagster", "code-server", "start", "-m", DEFINITIONS, "--socket", str(socket)]
        code_server = stack.enter_context(_child([*code, "--location-name", DEFINITIONS]))
        _wait_for(socket, code_server)
        daemon = stack.enter_context(_child(["-m", "dagster._daemon", "run", "-w", str(workspace)]))
        instance = stack.enter_context(DagsterInstance.get())
        instance.optimize_for_webserver(15_000, -1, 20)  # as `dagster-webserver` does by default
        context = stack.enter_context(
            WorkspaceProcessContext(
                instance, WorkspaceFileTarget([str(workspace)]), version=metadata.version("dagster-webserver")
            )
        )
        app = guarded(create_app_from_workspace_process_context(context, "", 2_000), host, config)
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", server_header=False))
        ended = _watch({"Dagster's code server": code_server, "Dagster's daemon": daemon}, server)
        sys.stderr.write(f"Dagster is on http://{'localhost' if host in _ANY else host}:{port}  (Ctrl-C ends it)\n")
        with contextlib.suppress(KeyboardInterrupt):
            server.run()  # hands a signal on to its handler when it has closed its connections
    if ended:
        raise TenureError(f"{ended[0]} ended by itself.", hint="What it wrote above says why; start `tenure ui` again.")


@contextlib.contextmanager
def _child(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this Python that ends with the block. It has a session of its own: Ctrl-C reaches it through us, in order."""
    process = subprocess.Popen([sys.executable, *arguments], start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(socket: Path, code_server: subprocess.Popen[bytes]) -> None:
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._grpc.client import DagsterGrpcClient

    client = DagsterGrpcClient(socket=str(socket))
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        with contextlib.suppress(DagsterUserCodeUnreachableError):
            client.ping("")
            return
        if code_server.poll() is not None or time.monotonic() > deadline:
            raise TenureError("Dagster's code server did not start.", hint="What it wrote above says why.")
        time.sleep(0.2)


def _watch(children: dict[str, subprocess.Popen[bytes]], server: object) -> list[str]:
    """End `server` when one of `children` ends; the names of those that did, filled as it happens."""
    ended: list[str] = []

    def watch(name: str, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        if not getattr(server, "should_exit", False):
            ended.append(name)
            server.should_exit = True  # type: ignore[attr-defined]

    for name, process in children.items():
        threading.Thread(target=watch, args=(name, process), daemon=True).start()
    return ended


def end_on_signals() -> None:
    """Let SIGINT and SIGTERM unwind the stack, so that children end too, whatever was inherited: a shell starts what runs in its
    background with SIGINT ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def environment(config_path: Path, home: Path) -> None:
    """Set what Dagster's processes read: which company this is."""
    os.environ.update({"TENURE_CONFIG": str(config_path), "TENURE_HOME": str(home)})
