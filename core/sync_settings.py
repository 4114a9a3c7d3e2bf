"""What `tenure.yml` says about destinations: where scores go, how fields are written, what is guarded.

Lives here: the schema of `sync:`. Must not live here: how anything is written (`activation/`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from core.blocks import NAME, HttpConfig, RetryConfig, Strict


class FieldConfig(Strict):
    """One field of a destination: which column of the model fills it, as what, and what a NULL means."""

    column: str | None = None
    type: Literal["text", "number", "boolean", "date", "datetime"] | None = None
    round: int | None = Field(default=None, ge=0, le=12)
    on_null: Literal["skip", "clear"] | None = None
    volatile: bool | None = None


def _field(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value if value is not None else {}


class GuardConfig(Strict):
    """When a sync refuses to send. Shares are 0 to 1, of the rows that the destination has; 1 never refuses."""

    max_changed_share: float = Field(default=1.0, ge=0, le=1)
    max_retired_share: float = Field(default=0.2, ge=0, le=1)
    max_newly_null_share: float = Field(default=0.2, ge=0, le=1)
    min_rows: int = Field(default=20, ge=0)
    max_source_age_hours: float | None = Field(default=48, gt=0)


class SyncConfig(Strict):
    """What every destination has: which model it receives, how, and when it refuses."""

    enabled: bool = True
    model: str
    key: str
    fields: dict[str, Annotated[FieldConfig, BeforeValidator(_field)]] = Field(default_factory=dict)
    mode: Literal["update", "upsert"] = "upsert"
    on_null: Literal["skip", "clear"] = "clear"
    rounding: dict[str, Annotated[int, Field(ge=0, le=12)]] = Field(default_factory=dict)
    volatile: tuple[str, ...] = ("*scored_at*", "*as_of_date*", "*model_version*")
    max_attempts: int = Field(default=5, ge=1)
    max_failed_share: float = Field(default=0.05, ge=0, le=1)
    max_silence_hours: float = Field(default=48, gt=0)
    batch_rows: int | None = Field(default=None, ge=1)
    stand_in: bool = False
    guards: GuardConfig = GuardConfig()
    retry: RetryConfig = RetryConfig()


class HttpSyncConfig(SyncConfig):
    """A destination that is reached over HTTP."""

    http: HttpConfig = HttpConfig()


class HubSpotConfig(HttpSyncConfig):
    """Companies of HubSpot, by record id, or by a property that is unique there."""

    connector: Literal["hubspot"]
    model: str = "sync_hubspot_companies"
    key: str = "crm_account_id"
    mode: Literal["update", "upsert"] = "update"
    token: SecretStr
    base_url: str = "https://api.hubapi.com"
    api_version: str = "2026-03"
    object_type: str = "companies"
    id_property: str | None = None


class SalesforceConfig(HttpSyncConfig):
    """Accounts of Salesforce, by an external id."""

    connector: Literal["salesforce"]
    model: str = "sync_salesforce_accounts"
    key: str = "crm_account_id"
    mode: Literal["update", "upsert"] = "update"
    client_id: SecretStr
    client_secret: SecretStr
    login_url: str
    api_version: Annotated[str, Field(pattern=r"^v?\d+\.0$")] = "67.0"
    external_id: str | None = None
    object: str = "Account"
    bulk_above: int = Field(default=2000, ge=1)


class WebhookConfig(HttpSyncConfig):
    """A signed webhook; the newest of `secrets` comes first."""

    connector: Literal["webhook"]
    model: str = "sync_webhook_scores"
    key: str = "account_id"
    url: SecretStr
    secrets_: tuple[SecretStr, ...] = Field(alias="secrets", min_length=1, max_length=2)
    allow_hosts: tuple[str, ...] = Field(min_length=1)
    allow_loopback: bool = False


class DatabaseSyncConfig(SyncConfig):
    """A table of a database."""

    connector: Literal["database"]
    model: str = "sync_database_scores"
    key: str = "account_id"
    url: SecretStr
    table: str


class FilesSyncConfig(SyncConfig):
    """A folder that receives what changed, each run in a folder of its own."""

    connector: Literal["files"]
    model: str = "sync_files_scores"
    key: str = "account_id"
    path: Path
    format: Literal["parquet", "csv"] = "parquet"


DestinationConfig = Annotated[
    HubSpotConfig | SalesforceConfig | WebhookConfig | DatabaseSyncConfig | FilesSyncConfig,
    Field(discriminator="connector"),
]
COMMANDS_OF_SYNC = ("run", "status", "failures", "release", "diff", "verify", "setup", "rebind")


class SyncSettings(Strict):
    """Where scores go, and where is kept what was sent. `ledger_url` is a SQLAlchemy-style URL; without it, a SQLite file."""

    ledger_url: SecretStr | None = None
    retention_days: int = Field(default=90, ge=1)
    destinations: dict[str, DestinationConfig] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names(self) -> SyncSettings:
        for name in self.destinations:
            if not NAME.fullmatch(name):
                raise ValueError(f"destination name {name!r} must be lower case letters, digits and underscores")
            if name in COMMANDS_OF_SYNC:
                raise ValueError(f"a destination cannot be called {name!r}: `tenure sync {name}` is a command")
        return self

    @property
    def enabled(self) -> dict[str, SyncConfig]:
        """The destinations that are switched on."""
        return {name: config for name, config in self.destinations.items() if config.enabled}
