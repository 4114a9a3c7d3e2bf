"""What blocks of `tenure.yml` have in common.

Lives here: the strictness of all of them, the secrets in them, and patience with others. Must not live here: any block of its own
(`settings.py`, `source_settings.py`, `sync_settings.py`).
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""How a source, a stream or a destination may be called."""


class Strict(BaseModel):
    """Frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret of the block, for striking it out of what others say."""
        return tuple(_secrets_in(self))


def _secrets_in(value: Any) -> list[str]:
    if isinstance(value, SecretStr):
        return [value.get_secret_value()]
    if isinstance(value, BaseModel):
        return [found for name in type(value).model_fields for found in _secrets_in(getattr(value, name))]
    if isinstance(value, dict):
        return _secrets_in(list(value.values()))
    if isinstance(value, (tuple, list)):
        return [found for item in value for found in _secrets_in(item)]
    return []


class RetryConfig(Strict):
    """How often and how patiently what may work a moment later is tried again."""

    tries: int = Field(default=5, ge=1)
    first_seconds: float = Field(default=1.0, ge=0)
    longest_seconds: float = Field(default=60.0, ge=0)
    max_retry_after_seconds: float = Field(default=120.0, ge=0)


class HttpConfig(Strict):
    """What an answer over HTTP may take, whoever gives it: in time from the first byte sent to the last one received, and in size as
    it is received and as it is once unpacked.
    """

    deadline_seconds: float = Field(default=300.0, gt=0)
    max_received_mb: float = Field(default=64.0, gt=0)
    max_body_mb: float = Field(default=256.0, gt=0)


HTTP = HttpConfig()
"""Limits that are safe where nothing else is said."""
