"""The whole job on a Stripe that is not ours: localstripe, a server that others wrote, as the only source."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.errors import Retriable
from core.http import Client

KEY = "sk_test_local"
CONFIG = f"""
company: Local Ltd
# What was sold a moment ago counts: the midnight after the last fact.
clock: data
sources:
  billing:
    connector: stripe
    key: {KEY}
    base_url: ADDRESS
    # localstripe speaks an older version of the API, and its events can be asked for neither by types nor from the oldest on.
    api_version: "2017-08-15"
    changes: lists
    # Its charges never name the invoice that they paid.
    streams: [customers, subscriptions, invoices, refunds]
model: {{enabled: false}}
"""


class LocalStripe:
    """Somebody who sells through it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client = Client(address, headers=lambda: {"Authorization": f"Bearer {KEY}"})

    def post(self, path: str, **fields: Any) -> dict[str, Any]:
        answer = self._client.send("POST", f"/v1/{path}", data=fields)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def is_up(self) -> bool:
        try:
            return bool(self._client.send("GET", "/v1/customers").is_success)
        except Retriable:
            return False

    def sell(self, name: str, plan: str, seats: int) -> str:
        """A customer with a card and a subscription; its id."""
        card = {"card[number]": "4242424242424242", "card[exp_month]": 12, "card[exp_year]": 2030, "card[cvc]": "123"}
        token = self.post("tokens", **card)["id"]
        customer = self.post("customers", name=name, email=f"ap@{name.lower()}.example", source=token)["id"]
        items = {"items[0][plan]": plan, "items[0][quantity]": seats}
        return str(self.post("subscriptions", customer=customer, **items)["id"])


@pytest.fixture
def vendor() -> Iterator[LocalStripe]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "localstripe", "--from-scratch", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        made = LocalStripe(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 30
        while not made.is_up():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield made
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_the_whole_job_on_localstripe(vendor: LocalStripe, new_home: Callable[..., Any]) -> None:
    product = vendor.post("products", name="Core", type="service")["id"]
    for plan, cents, interval in (("team", 1500, "month"), ("year", 120_000, "year")):
        vendor.post("plans", id=plan, nickname=plan, product=product, amount=cents, currency="usd", interval=interval)
    vendor.sell("One", "team", 3)
    vendor.sell("Two", "year", 1)
    home = new_home("localstripe")
    home.config.write_text(CONFIG.replace("ADDRESS", vendor.address), encoding="utf-8")
    assert home.must("run")["status"] == "done"
    subscriptions = "select product, plan, seats, cast(mrr as varchar) as mrr from marts.subscriptions order by plan"
    assert [tuple(row.values()) for row in home.ask(subscriptions)] == [
        ("Core", "team", 3, "45.00"),
        ("Core", "year", 1, "100.00"),
    ]
    invoices = "select cast(sum(amount) as varchar) as paid from marts.invoices where status = 'paid'"
    assert home.ask(invoices) == [{"paid": "1245.00"}]
    assert home.ask("select account_name, mrr from marts.accounts order by 1") == [
        {"account_name": "One", "mrr": 45},
        {"account_name": "Two", "mrr": 100},
    ]
