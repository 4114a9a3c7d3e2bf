"""Vendors of the sandbox, for a source or destination whose block says `stand_in: true`: started when needed, ended after it.

Lives here: which stand-in belongs to which connector, and what of the configuration leads to it. Must not live here: what a
stand-in answers (`sandbox/`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from pydantic import SecretStr

from core.errors import UserError
from core.settings import Tenure
from core.source_settings import ApiSource
from core.sync_settings import SyncConfig

Started = Callable[[Tenure], AbstractContextManager[Mapping[str, Any]]]
"""Starts the stand-in of a home; gives the settings of the block that lead to it, such as `base_url`."""


@contextmanager
def _hubspot(tenure: Tenure) -> Iterator[Mapping[str, Any]]:
    """HubSpot with the companies of the sandbox's CRM and with our fields; what it was sent stays in its file."""
    from sandbox.hubspot import TOKEN, running

    with running(tenure.home) as url:
        yield {"base_url": url, "token": SecretStr(TOKEN)}


@contextmanager
def _hubspot_source(tenure: Tenure) -> Iterator[Mapping[str, Any]]:
    """The same HubSpot to be read from, with limits that nobody has to wait for."""
    from sandbox.hubspot import TOKEN, running

    with running(tenure.home, requests=100_000, searches=100_000) as url:
        yield {"base_url": url, "token": SecretStr(TOKEN), "requests": 100_000, "searches": 100_000}


@contextmanager
def _salesforce_source(tenure: Tenure) -> Iterator[Mapping[str, Any]]:
    """Salesforce with the records of the sandbox's CRM."""
    from sandbox.salesforce import CLIENT_ID, CLIENT_SECRET, running

    with running(tenure.home) as url:
        yield {"base_url": url, "client_id": SecretStr(CLIENT_ID), "client_secret": SecretStr(CLIENT_SECRET)}


@contextmanager
def _zendesk(tenure: Tenure) -> Iterator[Mapping[str, Any]]:
    """Zendesk with the organizations and tickets of the sandbox's support."""
    from sandbox.zendesk import EMAIL, TOKEN, running

    with running(tenure.home) as url:
        yield {"base_url": url, "email": EMAIL, "token": SecretStr(TOKEN), "exports_per_minute": 6000}


@contextmanager
def _stripe(tenure: Tenure) -> Iterator[Mapping[str, Any]]:
    """Stripe with the customers, subscriptions and invoices of the sandbox's billing."""
    from sandbox.stripe import KEY, running

    with running(tenure.home) as url:
        yield {"base_url": url, "key": SecretStr(KEY), "requests_per_second": 1000}


@contextmanager
def _posthog(tenure: Tenure) -> Iterator[Mapping[str, Any]]:
    """PostHog with the workspaces and events of the sandbox's product."""
    from sandbox.posthog import KEY, PROJECT, running

    with running(tenure.home) as url:
        yield {"base_url": url, "key": SecretStr(KEY), "project": PROJECT, "queries_per_hour": 100_000}


STAND_INS: dict[str, Started] = {"hubspot": _hubspot}
"""Of destinations, by connector."""
SOURCES: dict[str, Started] = {
    "hubspot": _hubspot_source,
    "posthog": _posthog,
    "salesforce": _salesforce_source,
    "stripe": _stripe,
    "zendesk": _zendesk,
}
"""Of sources, by connector."""


@contextmanager
def reachable(tenure: Tenure, config: SyncConfig) -> Iterator[SyncConfig]:
    """`config` as it is, or leading to the stand-in, which runs as long as the block does."""
    if not config.stand_in:
        yield config
        return
    connector = str(getattr(config, "connector", ""))
    if connector not in STAND_INS:
        raise UserError(
            f"The sandbox has no stand-in for {connector}.", hint=f"It has {', '.join(STAND_INS) or 'none'}."
        )
    with STAND_INS[connector](tenure) as found:
        yield config.model_copy(update=dict(found))


@contextmanager
def sources_reachable(tenure: Tenure, names: Collection[str]) -> Iterator[Tenure]:
    """`tenure`, with the sources of `names` that have a stand-in leading to it, which runs as long as the block does."""
    with ExitStack() as running:
        sources = dict(tenure.config.sources)
        for name, source in tenure.config.sources.items():
            if name not in names or not isinstance(source, ApiSource) or not source.stand_in:
                continue
            if source.connector not in SOURCES:
                raise UserError(
                    f"The sandbox has no stand-in for {source.connector} as a source.",
                    hint=f"It has {', '.join(SOURCES) or 'none'}.",
                )
            found = running.enter_context(SOURCES[source.connector](tenure))
            sources[name] = source.model_copy(update=dict(found))
        yield tenure.model_copy(update={"config": tenure.config.model_copy(update={"sources": sources})})
