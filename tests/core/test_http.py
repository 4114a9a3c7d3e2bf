"""Answers and their error words, addresses that are never talked to, the limiter."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

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
