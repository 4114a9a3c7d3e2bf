"""From a block of the configuration to a destination that can be sent to.

Lives here: which class belongs to which connector. Must not live here: any of them; each is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from activation.base import Destination, Field
from core.errors import UserError
from core.sync_settings import (
    DatabaseSyncConfig,
    FilesSyncConfig,
    HubSpotConfig,
    SalesforceConfig,
    SyncConfig,
    WebhookConfig,
)


@dataclass(frozen=True)
class Occasion:
    """What a destination may want to know of the run: the fields, which run it is, and when."""

    fields: Sequence[Field]
    run_id: str
    now: datetime


def open_destination(config: SyncConfig, occasion: Occasion) -> Destination:
    """The destination that `config` describes. Raises `UserError` for a connector that there is none of."""
    for kind, opener in _OPENERS.items():
        if isinstance(config, kind):
            return opener(config, occasion)
    raise UserError(f"There is no destination for {type(config).__name__}.")


def _files(config: FilesSyncConfig, occasion: Occasion) -> Destination:
    from activation.destinations.files import Files

    return Files(
        config.path,
        key=config.key,
        fields=occasion.fields,
        run_id=occasion.run_id,
        now=occasion.now,
        format=config.format,
    )


def _hubspot(config: HubSpotConfig, occasion: Occasion) -> Destination:
    from activation.destinations.hubspot import HubSpot

    return HubSpot(
        token=config.token.get_secret_value(),
        base_url=config.base_url,
        api_version=config.api_version,
        object_type=config.object_type,
        id_property=config.id_property,
        mode=config.mode,
        http=config.http,
    )


def _salesforce(config: SalesforceConfig, occasion: Occasion) -> Destination:
    from activation.destinations.salesforce import Salesforce

    return Salesforce(
        client_id=config.client_id.get_secret_value(),
        client_secret=config.client_secret.get_secret_value(),
        login_url=config.login_url,
        api_version=config.api_version,
        external_id=config.external_id,
        object=config.object,
        bulk_above=config.bulk_above,
        mode=config.mode,
        http=config.http,
    )


def _webhook(config: WebhookConfig, occasion: Occasion) -> Destination:
    from activation.destinations.webhook import Webhook

    return Webhook(
        url=config.url.get_secret_value(),
        secrets=[secret.get_secret_value() for secret in config.secrets_],
        allow_hosts=config.allow_hosts,
        allow_loopback=config.allow_loopback,
        run_id=occasion.run_id,
        http=config.http,
    )


def _database(config: DatabaseSyncConfig, occasion: Occasion) -> Destination:
    from activation.destinations.database import Database

    return Database(config.url.get_secret_value(), table=config.table, key=config.key, mode=config.mode)


_OPENERS: dict[type[SyncConfig], Callable[[Any, Occasion], Destination]] = {
    FilesSyncConfig: _files,
    HubSpotConfig: _hubspot,
    SalesforceConfig: _salesforce,
    WebhookConfig: _webhook,
    DatabaseSyncConfig: _database,
}
