"""Vendors of the sandbox, for a destination whose block says `stand_in: true`: started when a sync needs one, ended after it.

Lives here: which stand-in belongs to which connector, and what of the configuration leads to it. Must not live here: what a
stand-in answers (`sandbox/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pydantic import SecretStr

from core.errors import UserError
from core.settings import SyncConfig, Tenure

Started = Callable[[Tenure], AbstractContextManager[Mapping[str, Any]]]
"""Starts the stand-in of a home; gives the settings of the destination's block that lead to it, such as `base_url`."""


@contextmanager
def _hubspot(tenure: Tenure) -> Iterator[Mapping[str, Any]]:
    """HubSpot with the companies of the sandbox's CRM and with our fields; what it was sent stays in its file."""
    from sandbox.hubspot import TOKEN, running

    with running(tenure.home) as url:
        yield {"base_url": url, "token": SecretStr(TOKEN)}


STAND_INS: dict[str, Started] = {"hubspot": _hubspot}
"""By connector."""


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
