"""Answers and their error words, addresses that are never talked to, the limiter."""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

from core.blocks import HttpConfig
from core.errors import BatchRefused, Fatal, Forbidden, Retriable, Unauthorized
from core.http import CheckedTransport, Client, Limiter, is_loopback, is_public, raise_for, retry_after, tell
from sandbox.serve import serving

NOT_PUBLIC = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "fec0::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_of_the_open_internet(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:8.8.8.8"])
def test_addresses_of_the_open_internet(address):
    assert is_public(address)


def test_own_addresses_in_both_writings():
    assert [is_loopback(address) for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1")] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_host_with_such_an_address_is_refused_even_beside_a_public_one(address):
    transport = CheckedTransport(["hooks.example"], resolver=lambda host, port: ["93.184.215.14", address])
    with pytest.raises(Fatal, match="not a public address"):
        transport.address("https://hooks.example/")


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/",
        "https://hooks.example.evil.example/",
        "https://evil-hooks.example/",
        "https://user:hooks.example@other.example/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://2130706433/",
    ],
)
def test_a_host_that_is_not_on_the_list_is_refused_before_its_name_is_looked_up(url):
    asked = []
    transport = CheckedTransport(["hooks.example"], resolver=lambda host, port: asked.append(host) or ["8.8.8.8"])
    with pytest.raises(Fatal, match="not an allowed host"):
        Client(transport=transport).send("POST", url)
    assert asked == []


def test_a_listed_address_has_to_be_public_as_well():
    with pytest.raises(Fatal, match="not a public address"):
        CheckedTransport(["169.254.169.254"]).address("https://169.254.169.254/latest/meta-data")


def test_without_tls_only_this_machine_is_allowed_and_only_for_tests():
    listed = ["hooks.example", "127.0.0.1"]
    with pytest.raises(Fatal, match="over http"):
        CheckedTransport(listed, resolver=lambda host, port: ["93.184.215.14"]).address("http://hooks.example/")
    with pytest.raises(Fatal, match="not a public address"):
        CheckedTransport(listed).address("http://127.0.0.1/")
    assert CheckedTransport(listed, allow_loopback=True).address("http://127.0.0.1:99/") == "127.0.0.1"
    with pytest.raises(Fatal, match="not a public address"):
        CheckedTransport(listed, allow_loopback=True, resolver=lambda host, port: ["10.0.0.1"]).address(
            "http://127.0.0.1/"
        )


@pytest.mark.parametrize("resolver", [lambda host, port: [], lambda host, port: (_ for _ in ()).throw(OSError("no"))])
def test_a_host_without_an_address_may_have_one_later(resolver):
    with pytest.raises(Retriable):
        CheckedTransport(["hooks.example"], resolver=resolver).address("https://hooks.example/")


async def _echo(request: Request) -> JSONResponse:
    return JSONResponse({"host": request.headers["host"]})


async def _redirect(request: Request) -> RedirectResponse:
    return RedirectResponse("http://169.254.169.254/latest/meta-data", 302)


APP = Starlette(routes=[Route("/echo", _echo), Route("/redirect", _redirect)])


def test_a_name_that_changes_its_address_is_asked_once_for_a_request():
    """DNS rebinding: the second answer would be an address inside. The connection goes to the one that was checked."""
    answers = iter(["127.0.0.1", "10.0.0.1"])
    transport = CheckedTransport(["hooks.example"], allow_loopback=True, resolver=lambda host, port: [next(answers)])
    with serving(APP) as url:
        port = url.rpartition(":")[2]
        client = Client(transport=transport)
        assert client.send("GET", f"http://hooks.example:{port}/echo").json() == {"host": f"hooks.example:{port}"}
        with pytest.raises(Fatal, match=r"10\.0\.0\.1"):
            client.send("GET", f"http://hooks.example:{port}/echo")
        client.close()


def test_redirects_are_not_followed():
    with serving(APP) as url:
        answer = Client(transport=CheckedTransport(["127.0.0.1"], allow_loopback=True)).send("GET", f"{url}/redirect")
        assert answer.status_code == 302
        with pytest.raises(Fatal):
            raise_for(answer)


def test_proxies_of_the_environment_are_not_used_where_addresses_are_checked(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with serving(APP) as url:
        client = Client(transport=CheckedTransport(["127.0.0.1"], allow_loopback=True))
        assert client.send("GET", f"{url}/echo").status_code == 200


def test_tls_checks_the_certificate_of_the_name_not_of_the_address(tmp_path, monkeypatch):
    certificate = _certificate(tmp_path, "hooks.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with _serving_tls(certificate) as port:
        transport = CheckedTransport(
            ["hooks.example", "other.example"], allow_loopback=True, resolver=lambda host, port: ["127.0.0.1"]
        )
        client = Client(transport=transport)
        answer = client.send("GET", f"https://hooks.example:{port}/echo")
        assert answer.json() == {"host": f"hooks.example:{port}"}
        client.close()
        with pytest.raises(Retriable, match="ConnectError"):
            Client(transport=transport).send("GET", f"https://other.example:{port}/echo")


def _certificate(folder, name):
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def _serving_tls(certificate) -> Iterator[int]:
    config = uvicorn.Config(
        APP,
        host="127.0.0.1",
        port=0,
        log_config=None,
        lifespan="off",
        ssl_certfile=str(certificate),
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(5)


# --- how long and how large an answer may be ----------------------------------------------------------------------


class _Raw:
    """A server that sends what it is given, piece by piece, in pauses, until the client is gone."""

    def __init__(self, pieces: Iterable[bytes], pause: float = 0.0) -> None:
        self._pieces, self._pause = pieces, pause
        self._over, self._socket = threading.Event(), socket.create_server(("127.0.0.1", 0))
        self.was_left = threading.Event()

    def __enter__(self) -> str:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with suppress(OSError):
            while not self._over.is_set():
                connection, _ = self._socket.accept()
                with connection:
                    connection.recv(65_536)
                    self._send(connection)

    def _send(self, connection: socket.socket) -> None:
        try:
            for piece in self._pieces:
                connection.sendall(piece)
                if self._over.wait(self._pause):
                    return
        except OSError:
            self.was_left.set()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def _whole(body: bytes, *headers: str) -> bytes:
    told = "".join(f"{header}\r\n" for header in headers)
    return HEAD + told.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def _bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


def test_a_small_answer_that_unpacks_to_a_large_one_is_refused_before_it_is_unpacked():
    bomb = _bomb(200)
    assert len(bomb) < 300_000
    with _Raw([_whole(bomb, "Content-Encoding: gzip")]) as url:
        client = Client(url, http=HttpConfig(max_body_mb=5))
        tracemalloc.start()
        with pytest.raises(Fatal, match=r"127\.0\.0\.1 answered with more than 5 MB \(unpacked\)\..*max_body_mb"):
            client.send("GET", "/")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("is_packed", [False, True])
def test_an_answer_that_does_not_end_is_refused_when_it_is_too_large(is_packed):
    packed = gzip.compress(os.urandom(3_000_000))
    encoding = b"Content-Encoding: gzip\r\n" if is_packed else b""
    pieces = chain([HEAD + encoding + b"Connection: close\r\n\r\n", packed], repeat(bytes(100_000)))
    with _Raw(pieces) as url, pytest.raises(Fatal, match=r"more than 2 MB \(packed\).*max_received_mb"):
        Client(url, http=HttpConfig(max_received_mb=2)).send("GET", "/")


@pytest.mark.parametrize(
    "head",
    [HEAD + b"Content-Length: 1000000\r\n\r\n", HEAD, b""],
    ids=["body", "headers", "first line"],
)
def test_an_answer_that_trickles_is_waited_for_no_longer_than_the_deadline(head):
    server = _Raw(chain([head], repeat(b"x")), pause=0.05)
    with server as url:
        client = Client(url, timeout=5.0, http=HttpConfig(deadline_seconds=0.4))
        began = time.monotonic()
        with pytest.raises(Retriable, match=r"127\.0\.0\.1 has not answered in full within 0\.4 s\..*deadline_seconds"):
            client.send("GET", "/")
        assert time.monotonic() - began < 2
        assert server.was_left.wait(5), "the connection is given up"


def test_after_a_deadline_the_client_goes_on():
    with serving(APP) as url:
        answering = Client(
            transport=CheckedTransport(["127.0.0.1"], allow_loopback=True), http=HttpConfig(deadline_seconds=0.4)
        )
        with _Raw(repeat(b"x"), pause=0.05) as trickle, pytest.raises(Retriable):
            answering.send("GET", trickle)
        assert answering.send("GET", f"{url}/echo").status_code == 200


def test_a_name_that_takes_too_long_to_look_up_is_waited_for_no_longer_than_the_deadline():
    over = threading.Event()
    transport = CheckedTransport(["hooks.example"], resolver=lambda host, port: ["8.8.8.8"] * over.wait(5))
    with pytest.raises(Retriable, match=r"within 0\.2 s"):
        Client(transport=transport, http=HttpConfig(deadline_seconds=0.2)).send("GET", "https://hooks.example/")
    over.set()


def test_gzip_is_unpacked_in_all_its_members_and_nothing_else_is():
    body = b'{"a": ' + b"1" * 3_000_000 + b"}"
    halves = [gzip.compress(body[:2_000_001]), gzip.compress(body[2_000_001:])]
    for packed, word in ((b"".join(halves), None), (halves[0][:-100], "too early"), (b"no gzip", "cannot be unpacked")):
        with _Raw([_whole(packed, "Content-Encoding: gzip")]) as url:
            if word is None:
                assert Client(url).send("GET", "/").content == body
                continue
            with pytest.raises(Retriable, match=word):
                Client(url).send("GET", "/")
    for encoding in ("br", "zstd", "gzip, gzip"):
        with (
            _Raw([_whole(b"x", f"Content-Encoding: {encoding}")]) as url,
            pytest.raises(Fatal, match=f"packed as {encoding}"),
        ):
            Client(url).send("GET", "/")


# --- answers ------------------------------------------------------------------------------------------------------


class _Answering:
    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.status, self.headers = status, headers or {}

    async def __call__(self, scope, receive, send):
        await JSONResponse({}, self.status, headers=self.headers)(scope, receive, send)


def test_each_status_has_its_word():
    words = {
        **dict.fromkeys((400, 409, 413, 422), BatchRefused),
        **dict.fromkeys((408, 423, 425, 429, 500, 503, 599), Retriable),
        **dict.fromkeys((302, 404, 410), Fatal),
        401: Unauthorized,
        403: Forbidden,
    }
    answering = _Answering(200)
    with serving(answering) as url:
        client = Client(url)
        for status, word in words.items():
            answering.status = status
            with pytest.raises(word) as caught:
                raise_for(client.send("GET", "/"), told="the vendor's sentence")
            assert (status, type(caught.value)) == (status, word)
            assert "the vendor's sentence" in str(caught.value)


def test_retry_after_is_read_as_seconds_and_as_a_date():
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    answering = _Answering(429)
    with serving(answering) as url:
        client = Client(url)
        for header, seconds in [
            ("120", 120.0),
            ("0.5", 0.5),
            ("-3", 0.0),
            ("Sun, 01 Mar 2026 12:10:00 GMT", 600.0),
            ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
            ("soon", None),
        ]:
            answering.headers = {"Retry-After": header}
            assert retry_after(client.send("GET", "/"), now=now) == seconds


def test_no_answer_is_retriable_and_names_the_host_only():
    with pytest.raises(Retriable) as caught:
        Client("http://127.0.0.1:1").send("GET", "/canary?token=canary")
    assert str(caught.value) == "127.0.0.1 does not answer: ConnectError."


def test_sentences_of_others_lose_secrets_lines_and_length():
    assert tell("key s3cret\n is  bad", "s3cret", "") == "key *** is bad"
    assert len(tell("x" * 1000)) == 300
    assert tell(None) is None
    assert tell("") is None


def test_the_limiter_lets_no_more_through_in_any_window():
    limiter = Limiter(5, 0.2)
    taken = []
    for _ in range(13):
        limiter.take()
        taken.append(time.monotonic())
    assert all(later - earlier >= 0.199 for earlier, later in zip(taken, taken[5:], strict=False))
    assert taken[-1] - taken[0] < 1.0
