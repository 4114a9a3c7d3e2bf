"""What a destination writes to: the state of the ledger is about this, not about the name that a block of the configuration has.

Lives here: the identity of a target, from the configuration and from what the other side says, and the comparison with what the ledger is
bound to. Must not live here: keeping it (`ledger.py`), asking for it (the destinations).

A CRM's account is known by its own id (HubSpot's hub, Salesforce's organisation), so that a renewed token or a renamed domain is
no other target. The id is asked for only when the way to the account changed: an ordinary run costs no call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from activation.base import Identifies
from core.sync_settings import (
    DatabaseSyncConfig,
    FilesSyncConfig,
    HubSpotConfig,
    SalesforceConfig,
    SyncConfig,
    WebhookConfig,
)

STAND_IN = "the sandbox"


@dataclass(frozen=True)
class Target:
    """`place` is what the configuration says is written to, without secrets; `access` is a fingerprint of the way there where the account
    has an id of its own (None where the place says it all); `account` is that id, None where it is not known."""

    place: Mapping[str, str]
    access: str | None = None
    account: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """What `text` of the ledger says."""
        return cls(**json.loads(text))

    @property
    def text(self) -> str:
        """As the ledger keeps it."""
        return json.dumps({"place": dict(self.place), "access": self.access, "account": self.account}, sort_keys=True)

    @property
    def words(self) -> str:
        """For people: `hubspot account 1234567, object companies`."""
        named = {"account": self.account} if self.account else {}
        return ", ".join(f"{name} {value}" for name, value in {**named, **self.place}.items())


def target_of(config: SyncConfig) -> Target:
    """The target that a block of the configuration leads to, as far as the block alone says."""
    place = {"connector": str(getattr(config, "connector", "custom")), "key": config.key}
    access: tuple[str, ...] = ()
    if isinstance(config, HubSpotConfig):
        place |= {"object": config.object_type, "id": config.id_property or "record id"}
        access = (config.base_url, config.token.get_secret_value())
    elif isinstance(config, SalesforceConfig):
        place |= {"object": config.object, "id": config.external_id or "record id"}
        access = (config.login_url, config.client_id.get_secret_value())
    elif isinstance(config, WebhookConfig):
        place |= _address(config.url.get_secret_value())
    elif isinstance(config, DatabaseSyncConfig):
        place |= {**_database(config.url.get_secret_value()), "table": config.table}
    elif isinstance(config, FilesSyncConfig):
        place |= {"folder": str(config.path.resolve()), "format": config.format}
    if config.stand_in:
        return Target({**place, "account": STAND_IN})
    return Target(place, _fingerprint(*access) if access else None)


def _address(url: str) -> dict[str, str]:
    """Where a webhook is; a query may hold secrets, and is kept as its fingerprint."""
    found = urlsplit(url)
    port = f":{found.port}" if found.port else ""
    address = {"address": f"{found.scheme}://{found.hostname}{port}{found.path}"}
    return {**address, "query": _fingerprint(found.query)} if found.query else address


def _database(url: str) -> dict[str, str]:
    import sqlalchemy as sa

    found = sa.make_url(url)
    dialect = found.get_backend_name()
    host = f"{found.host}:{found.port}/" if found.host and found.port else f"{found.host}/" if found.host else ""
    return {"database": f"{dialect} {host}{found.database or ''}"}


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def account_of(destination: object) -> str | None:
    """The id of the account that `destination` writes to, by asking it; None where it has none or does not say."""
    return destination.account() if isinstance(destination, Identifies) else None


def settle(bound: Target | None, found: Target, ask: Callable[[], str | None]) -> Target | None:
    """The target to write to, with its account; None when it is not the one that the ledger is bound to.

    `ask` gives the account's own id. It is called when nothing is bound yet, or when the way to the account is another.
    """
    if bound is not None and bound.place != found.place:
        return None
    if found.access is None:
        return found
    if bound is not None and bound.access == found.access:
        return bound
    account = ask()
    if bound is not None and (account is None or account != bound.account):
        return None
    return replace(found, account=account)


def refusal(destination: str, bound: Target | None, found: Target, account: str | None = None) -> tuple[str, str]:
    """What to say, and the two ways on, when the ledger is about another target than the configuration leads to."""
    now = replace(found, account=account) if account else found
    said = (
        f"The ledger of {destination} is about another target. It knows what was sent to: {bound.words if bound else 'nothing'}."
        f" The configuration now leads to: {now.words}."
    )
    hint = (
        f"To send everything to the new target: `tenure sync rebind {destination} --forget`."
        f" If it is the same one under another address: `tenure sync rebind {destination} --keep`."
    )
    return said, hint
