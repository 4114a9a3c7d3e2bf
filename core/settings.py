"""Settings: where state lives, and what `tenure.yml` says about the business.

Lives here: the environment's settings (one frozen class), the schema of `tenure.yml`, and the sentences for its mistakes.
Must not live here: anything that acts on a setting.

Secrets come only from the environment, as `${NAME}` in `tenure.yml`; they are held masked and never logged.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.contract import ENTITIES, FACT_ENTITIES
from core.errors import UserError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?::-([^}]*))?\}")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Strict(BaseModel):
    """Frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnMapping(Strict):
    """One contract column: an SQL expression over the source's columns, or one per row group when `group_by` is set.

    `format` is a strptime pattern, a list of patterns tried in order, `epoch` or `epoch_ms`.
    `optional` fills NULL where a file lacks the columns that the expression needs. With `keep: earliest`, a later version of a
    row does not make the value greater: for a moment of beginning that is known from what was said first.
    """

    sql: str
    format: str | tuple[str, ...] | None = None
    optional: bool = False
    keep: Literal["earliest"] | None = None


def _mapping(value: Any) -> Any:
    if value is None:
        return {"sql": "null"}
    if isinstance(value, (str, int, float, bool)):
        return {"sql": str(value)}
    return value


class CsvOptions(Strict):
    """How a CSV file is written; a delimiter that is left out is found by looking at the file."""

    delimiter: str | None = None
    quote: str = '"'
    escape: str = '"'
    encoding: Literal["utf-8", "latin-1", "utf-16"] = "utf-8"


class StreamConfig(Strict):
    """One stream of a source: what it reads and how it becomes an entity of the contract.

    `where` leaves other rows of the source alone; `fields` are keys of JSON lines that none may have. `partial` rows tell only what
    changed: what one leaves out stays as it was told before. `deleted_at` is SQL over a table's columns: since when its row is
    deleted, NULL while it is there.
    """

    entity: str
    columns: dict[str, Annotated[ColumnMapping, BeforeValidator(_mapping)]]
    files: tuple[str, ...] = ()
    format: Literal["csv", "jsonl", "parquet"] | None = None
    csv: CsvOptions = CsvOptions()
    lookups: dict[str, str] = {}
    join: str | None = None
    where: str | None = None
    fields: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    table: str | None = None
    primary_key: tuple[str, ...] = ()
    cursor: str | None = None
    look_back: str | None = None
    deleted_at: str | None = None
    batch_rows: int = Field(default=200_000, ge=1)
    resource: str | None = None
    periods: bool = False
    partial: bool = False

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in ("files", "fields", "group_by", "primary_key"):
                if isinstance(data.get(key), str):
                    data = {**data, key: (data[key],)}
        return data

    @model_validator(mode="after")
    def _known(self) -> StreamConfig:
        if self.entity not in ENTITIES:
            raise ValueError(f"no entity is called {self.entity!r}; the contract has {', '.join(ENTITIES)}")
        entity = ENTITIES[self.entity]
        if self.periods and self.entity != "subscriptions":
            raise ValueError(f"`periods` is for subscriptions, not for {self.entity}")
        unknown = sorted(set(self.columns) - set(entity.column_names))
        if unknown:
            raise ValueError(
                f"{self.entity} has no column {', '.join(unknown)}; it has {', '.join(entity.column_names)}"
            )
        return self


def _secrets(value: Any) -> list[str]:
    if isinstance(value, SecretStr):
        return [value.get_secret_value()]
    if isinstance(value, BaseModel):
        return [found for name in type(value).model_fields for found in _secrets(getattr(value, name))]
    if isinstance(value, (tuple, list)):
        return [found for item in value for found in _secrets(item)]
    return []


BucketUrl = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+]*://")]
BUCKETS = ("s3://", "gs://", "az://", "abfss://")
"""How a `path` begins that is a bucket's: of S3, Google Cloud Storage, Azure Blob Storage (a container)."""


class BucketConfig(Strict):
    """How a bucket is reached. Without keys, those of the environment are taken, or the role of the machine.

    `endpoint` is the address of a store that speaks the API of S3. `anonymous` asks without keys, for public buckets.
    """

    region: str | None = None
    endpoint: str | None = None
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    anonymous: bool = False

    @model_validator(mode="after")
    def _keys(self) -> BucketConfig:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("`access_key_id` and `secret_access_key` go together")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("`session_token` goes with `access_key_id` and `secret_access_key`")
        if self.anonymous and self.access_key_id is not None:
            raise ValueError("`anonymous` needs no keys: take them away, or `anonymous`")
        return self

    @model_validator(mode="after")
    def _endpoint(self) -> BucketConfig:
        if self.endpoint is not None:
            from core.http import secure  # which few configurations need to be understood

            try:
                secure(self.endpoint)
            except UserError as error:
                raise ValueError(f"`endpoint`: {error}") from error
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret of the block, for striking it out of what others say."""
        return tuple(_secrets(self))


class SourceConfig(Strict):
    """A system that data comes from, read through a connector: what all of them have."""

    connector: str
    path: Annotated[BucketUrl | Path, Field(union_mode="left_to_right")] | None = None
    url: SecretStr | None = None
    account_source: str | None = None
    owner: str | None = None
    stale_after_days: float | None = Field(default=None, gt=0)
    streams: dict[str, StreamConfig]

    @model_validator(mode="before")
    @classmethod
    def _complete_streams(cls, data: Any) -> Any:
        """A stream fills the entity of the same name, unless it says another."""
        if isinstance(data, dict) and isinstance(data.get("streams"), dict):
            streams = {
                name: {"entity": name, **stream} if isinstance(stream, dict) else stream
                for name, stream in data["streams"].items()
            }
            data = {**data, "streams": streams}
        return data

    @model_validator(mode="after")
    def _named(self) -> SourceConfig:
        for name in self.streams:
            if not _NAME.fullmatch(name):
                raise ValueError(f"stream name {name!r} must be lower case letters, digits and underscores")
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret of the block, for striking it out of what others say."""
        return tuple(_secrets(self))


class FilesSource(SourceConfig):
    """Files in a folder or a bucket."""

    bucket: BucketConfig = BucketConfig()

    @model_validator(mode="after")
    def _complete(self) -> FilesSource:
        for name, stream in self.streams.items():
            if not stream.files:
                raise ValueError(f"stream {name} needs `files`: a path or glob below the source's `path`")
        if self.path is None:
            raise ValueError(f"a {self.connector} source needs `path`: the folder or bucket its files are in")
        if isinstance(self.path, str) and not self.path.startswith(BUCKETS):
            raise ValueError(f"`path` is neither a folder nor a bucket, which begins with {', '.join(BUCKETS)}")
        in_s3 = isinstance(self.path, str) and self.path.startswith("s3://")
        if self.bucket != BucketConfig() and not in_s3:
            raise ValueError(
                "`bucket` is for a `path` that begins with s3://; other stores take their keys from the environment"
            )
        return self


class ExportSource(FilesSource):
    """What a vendor of product events leaves in a folder or bucket, day by day: `streams` as for an API, mapped as in
    `sources/<connector>.yml` (of PostHog, which has an API too, `sources/posthog_export.yml`).
    """

    connector: Literal["segment", "posthog"]

    @model_validator(mode="before")
    @classmethod
    def _complete_streams(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = {**data, "streams": _with_defaults(_kind_of_source(data), data.get("streams"))}
        return data


class DatabaseSource(SourceConfig):
    """Tables of a database."""

    connector: Literal["database"]

    @model_validator(mode="after")
    def _complete(self) -> DatabaseSource:
        for name, stream in self.streams.items():
            if not stream.table:
                raise ValueError(f"stream {name} needs `table`")
        if self.url is None:
            raise ValueError("a database source needs `url`, such as ${PRODUCT_DB_URL}")
        return self


class RetryConfig(Strict):
    """How often and how patiently what may work a moment later is tried again."""

    tries: int = Field(default=5, ge=1)
    first_seconds: float = Field(default=1.0, ge=0)
    longest_seconds: float = Field(default=60.0, ge=0)
    max_retry_after_seconds: float = Field(default=120.0, ge=0)


class ApiSource(SourceConfig):
    """A vendor's API: what all of them have. `streams` left out means all that the connector knows and reads by default,
    mapped as in `sources/<connector>.yml`; named streams are laid over these.

    `since` is how far back a first load reads; `batch_rows` are loaded in one transaction, so that a run that is killed
    goes on there. `timeout_seconds` is how long an answer may keep still.
    """

    base_url: str | None = None
    since: date | None = None
    stand_in: bool = False
    batch_rows: int = Field(default=10_000, ge=1)
    timeout_seconds: float = Field(default=30.0, gt=0)
    retry: RetryConfig = RetryConfig()

    @model_validator(mode="before")
    @classmethod
    def _complete_streams(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = {**data, "streams": _with_defaults(str(data.get("connector")), data.get("streams"))}
        return data

    @model_validator(mode="after")
    def _of_an_api(self) -> ApiSource:
        if self.path is not None or self.url is not None:
            raise ValueError(f"a source of {self.connector} has neither `path` nor `url`; its address is `base_url`")
        return self


class ZendeskSource(ApiSource):
    """Zendesk Support. `email` is the agent whose API token it is; without it, `token` is an OAuth access token.

    `exports_per_minute` is 30 with Zendesk's High Volume add-on.
    """

    connector: Literal["zendesk"]
    subdomain: str | None = None
    email: str | None = None
    token: SecretStr
    exports_per_minute: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _addressed(self) -> ZendeskSource:
        if self.subdomain is None and self.base_url is None and not self.stand_in:
            raise ValueError("a source of zendesk needs `subdomain`: the part before .zendesk.com")
        return self


class HubSpotSource(ApiSource):
    """HubSpot. `requests` are allowed in ten seconds, `searches` in one: more, where the account has bought more."""

    connector: Literal["hubspot"]
    token: SecretStr
    api_version: str = "2026-03"
    requests: int = Field(default=190, ge=1)
    searches: int = Field(default=5, ge=1)


class SalesforceSource(ApiSource):
    """Salesforce. `login_url` is that of My Domain; a result of more than `bulk_above` records is read as a job."""

    connector: Literal["salesforce"]
    client_id: SecretStr
    client_secret: SecretStr
    login_url: str | None = None
    api_version: Annotated[str, Field(pattern=r"^v?\d+\.0$")] = "67.0"
    bulk_above: int = Field(default=20_000, ge=1)

    @model_validator(mode="after")
    def _addressed(self) -> SalesforceSource:
        if self.login_url is None and self.base_url is None and not self.stand_in:
            raise ValueError("a source of salesforce needs `login_url`: that of My Domain, https://….my.salesforce.com")
        return self


class StripeSource(ApiSource):
    """Stripe. `key` is a secret or, better, a restricted key that may only read.

    `rates` are dollars for one unit of each other currency, such as `{eur: 1.08}`; `deduct_coupons` are the durations of
    coupons that lower MRR. `changes` says where they are read: from the events, or by listing all in every run.
    """

    connector: Literal["stripe"]
    key: SecretStr
    api_version: str = "2025-03-31.basil"
    rates: dict[str, Annotated[float, Field(gt=0)]] = {}
    deduct_coupons: tuple[Literal["forever", "repeating", "once"], ...] = ("forever",)
    changes: Literal["events", "lists"] = "events"
    requests_per_second: int = Field(default=25, ge=1)


class PostHogSource(ApiSource):
    """PostHog's API. `project` is the number of the project, `key` a personal API key that may read queries; `region` is that of
    PostHog Cloud. Of the up to five types of groups, `group_type` is the number of the one that is an account.
    """

    connector: Literal["posthog"]
    project: int = Field(ge=1)
    key: SecretStr
    region: Literal["us", "eu"] = "us"
    group_type: int = Field(default=0, ge=0, le=4)
    queries_per_hour: int = Field(default=1200, ge=1)
    page_rows: int = Field(default=10_000, ge=1, le=50_000)


def _kind_of_source(block: Any) -> str:
    """Which settings a source's block is read with: its connector, and for PostHog whether it is a folder of exports."""
    given = block if isinstance(block, dict) else vars(block)
    connector = str(given.get("connector"))
    return "posthog_export" if connector == "posthog" and given.get("path") is not None else connector


AnySource = Annotated[
    Annotated[FilesSource, Tag("files")]
    | Annotated[DatabaseSource, Tag("database")]
    | Annotated[HubSpotSource, Tag("hubspot")]
    | Annotated[SalesforceSource, Tag("salesforce")]
    | Annotated[StripeSource, Tag("stripe")]
    | Annotated[ZendeskSource, Tag("zendesk")]
    | Annotated[PostHogSource, Tag("posthog")]
    | Annotated[ExportSource, Tag("posthog_export")]
    | Annotated[ExportSource, Tag("segment")],
    Discriminator(_kind_of_source),
]
SOURCE_KINDS: dict[str, type[SourceConfig]] = {
    "files": FilesSource,
    "database": DatabaseSource,
    "hubspot": HubSpotSource,
    "salesforce": SalesforceSource,
    "zendesk": ZendeskSource,
    "stripe": StripeSource,
    "posthog": PostHogSource,
    "posthog_export": ExportSource,
    "segment": ExportSource,
}
"""The settings of each kind of source: of each connector, and of PostHog's two ways."""
CONNECTORS = tuple(kind for kind in SOURCE_KINDS if not kind.endswith("_export"))


@lru_cache
def default_streams(kind: str) -> dict[str, dict[str, Any]]:
    """The streams that a vendor's connector knows, with their mappings, from the file beside its module."""
    return {
        name: {"resource": name, **{key: value for key, value in stream.items() if key != "by_default"}}
        for name, stream in _streams_of(kind).items()
    }


@lru_cache
def _streams_of(kind: str) -> dict[str, dict[str, Any]]:
    """As written down; `by_default: false` marks a stream that is read only where it is named."""
    text = (PROJECT_ROOT / "sources" / f"{kind}.yml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["streams"]
    return found


def _with_defaults(connector: str, given: Any) -> Any:
    known = default_streams(connector)
    if given is None:
        return {name: known[name] for name, stream in _streams_of(connector).items() if stream.get("by_default", True)}
    if isinstance(given, list):
        given = dict.fromkeys(given)
    if not isinstance(given, dict):
        return given
    wanted = {name: {"resource": name, **(stream or {})} for name, stream in given.items()}
    unknown = sorted(name for name, stream in wanted.items() if stream["resource"] not in known)
    if unknown:
        raise ValueError(f"{connector} has no stream {', '.join(unknown)}; it has {', '.join(known)}")
    entities = {stream["entity"] for stream in known.values()}
    strange = sorted(
        name for name, stream in wanted.items() if stream.get("entity", next(iter(entities))) not in entities
    )
    if strange:
        raise ValueError(f"{connector} fills {', '.join(sorted(entities))}; stream {strange[0]} names another entity")
    return {name: _laid_over(known[stream["resource"]], stream) for name, stream in wanted.items()}


def _laid_over(default: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A stream with what is given for it; another entity has nothing of the default's columns."""
    same = given.get("entity", default["entity"]) == default["entity"]
    columns = {**(default["columns"] if same else {}), **(given.get("columns") or {})}
    return {**default, **given, "resource": default["resource"], "columns": columns}


class IdentityConfig(Strict):
    """How the accounts of several sources become one; see DECISIONS.md, "Identity"."""

    precedence: tuple[str, ...] = ()
    rules: tuple[Literal["id", "domain", "name"], ...] = ("id", "domain", "name")
    derive_accounts: bool = False


class ChurnConfig(Strict):
    """The one definition of churn; see DECISIONS.md, "Churn"."""

    definition: Literal["contract", "inactivity"] = "contract"
    horizon_days: int = Field(default=90, ge=1)
    lead_days: int = Field(default=0, ge=0)
    grace_days: int = Field(default=30, ge=0)
    active_within_days: int = Field(default=90, ge=1)
    not_churn: tuple[str, ...] = ("completed", "migrated")
    activity: tuple[Literal["usage_events", "invoices"], ...] = Field(
        default=("usage_events", "invoices"), min_length=1
    )

    @property
    def sentence(self) -> str:
        """The definition in words."""
        after = f", not counting the first {self.lead_days} days" if self.lead_days else ""
        if self.definition == "inactivity":
            return (
                f"an account active in the {self.active_within_days} days before the as-of date is not active at all in the"
                f" {self.horizon_days} days after it{after}"
            )
        return (
            f"an account that pays at the as-of date loses all its MRR within {self.horizon_days} days{after} and does not come"
            f" back within {self.grace_days}; an end that is {' or '.join(self.not_churn)} is none"
        )

    @property
    def window_days(self) -> int:
        """Days after an as-of date until its label is settled; no two label windows of training and test may share a day."""
        grace = self.grace_days if self.definition == "contract" else 0
        return self.lead_days + self.horizon_days + grace


class TierConfig(Strict):
    """Where the tiers begin: at a probability, or at the team's capacity (high: who can be called; medium: twice as many more)."""

    by: Literal["probability", "capacity"] = "capacity"
    high: float = Field(default=0.3, gt=0, lt=1)
    medium: float = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _ordered(self) -> TierConfig:
        if self.medium >= self.high:
            raise ValueError("`medium` must be below `high`")
        return self


class GateConfig(Strict):
    """What a model must reach before its scores are used. Shares and probabilities are 0 to 1."""

    min_roc_auc: float = Field(default=0.55, ge=0, le=1)
    max_ece_above_noise: float = Field(default=0.05, gt=0)
    min_log_loss_gain: float = Field(default=0.0, ge=0)


class WatchConfig(Strict):
    """When drift or stale data stop the publishing of scores, and when they only warn."""

    warn_psi: float = Field(default=0.25, gt=0)
    block_psi: float = Field(default=1.0, gt=0)
    max_drifted_share: float = Field(default=0.5, gt=0, le=1)
    max_label_drift: float = Field(default=0.5, gt=0)
    max_stale_days: float = Field(default=28, ge=0)
    max_ece_above_noise: float = Field(default=0.05, gt=0)
    min_roc_auc: float = Field(default=0.55, ge=0.5, lt=1)
    min_lift_kept: float = Field(default=0.5, ge=0, le=1)


class ModelConfig(Strict):
    """The churn model: which dates it learns from, how often, and what its scores are used for."""

    enabled: bool = True
    snapshot_every: Literal["week", "month"] = "week"
    snapshots_from: date | None = None
    max_accounts: int | None = Field(default=None, ge=1)
    max_rows: int = Field(default=200_000, ge=1_000)
    min_churn_events: int = Field(default=30, ge=5)
    test_from: date | None = None
    retrain_every_days: int = Field(default=7, ge=1)
    search_minutes: float = Field(default=0, ge=0)
    capacity: int = Field(default=50, ge=1)
    seed: int = 7
    tracking_uri: SecretStr | None = None
    tiers: TierConfig = TierConfig()
    gate: GateConfig = GateConfig()
    watch: WatchConfig = WatchConfig()


class QualityConfig(Strict):
    """Limits of the quality gates: shares are 0 to 1."""

    max_quarantined_share: float = Field(default=0.5, ge=0, le=1)
    min_volume_share: float = Field(default=0.3, ge=0)
    max_volume_share: float = Field(default=3.0, gt=0)
    min_kept_share: float = Field(default=0.5, ge=0, le=1)


class PublishConfig(Strict):
    """What the published copy leaves out, and where else it goes. `postgres_url` is a SQLAlchemy-style URL."""

    exclude_columns: tuple[str, ...] = (
        "accounts.owner_email",
        "contacts.email",
        "tickets.subject",
    )
    postgres_url: SecretStr | None = None


class AlertConfig(Strict):
    """Where a failed run is told."""

    webhook_url: SecretStr | None = None
    email_to: tuple[str, ...] = ()
    email_from: str = "tenure@localhost"
    smtp_url: SecretStr | None = None


class SandboxConfig(Strict):
    """When present, the job first makes sure that the sandbox company exists."""

    accounts: int = Field(default=2_000, ge=1)
    months: int = Field(default=24, ge=2)
    seed: int = 7


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
    fields: dict[str, Annotated[FieldConfig, BeforeValidator(_field)]] = {}
    mode: Literal["update", "upsert"] = "upsert"
    on_null: Literal["skip", "clear"] = "clear"
    rounding: dict[str, Annotated[int, Field(ge=0, le=12)]] = {}
    volatile: tuple[str, ...] = ("*scored_at*", "*as_of_date*", "*model_version*")
    max_attempts: int = Field(default=5, ge=1)
    max_failed_share: float = Field(default=0.05, ge=0, le=1)
    max_silence_hours: float = Field(default=48, gt=0)
    batch_rows: int | None = Field(default=None, ge=1)
    stand_in: bool = False
    guards: GuardConfig = GuardConfig()
    retry: RetryConfig = RetryConfig()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret of the block, for striking it out of what others say."""
        return tuple(_secrets(self))


class HubSpotConfig(SyncConfig):
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


class SalesforceConfig(SyncConfig):
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


class WebhookConfig(SyncConfig):
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
COMMANDS_OF_SYNC = ("run", "status", "failures", "release", "diff", "verify", "setup")


class SyncSettings(Strict):
    """Where scores go, and where is kept what was sent. `ledger_url` is a SQLAlchemy-style URL; without it, a SQLite file."""

    ledger_url: SecretStr | None = None
    retention_days: int = Field(default=90, ge=1)
    destinations: dict[str, DestinationConfig] = {}

    @model_validator(mode="after")
    def _names(self) -> SyncSettings:
        for name in self.destinations:
            if not _NAME.fullmatch(name):
                raise ValueError(f"destination name {name!r} must be lower case letters, digits and underscores")
            if name in COMMANDS_OF_SYNC:
                raise ValueError(f"a destination cannot be called {name!r}: `tenure sync {name}` is a command")
        return self

    @property
    def enabled(self) -> dict[str, SyncConfig]:
        """The destinations that are switched on."""
        return {name: config for name, config in self.destinations.items() if config.enabled}


class Config(Strict):
    """`tenure.yml`: the company, its sources and its rules."""

    company: str
    clock: Literal["data", "wall"] = "wall"
    schedule: str = "0 5 * * *"
    sandbox: SandboxConfig | None = None
    sources: dict[str, AnySource]
    identity: IdentityConfig = IdentityConfig()
    churn: ChurnConfig = ChurnConfig()
    model: ModelConfig = ModelConfig()
    quality: QualityConfig = QualityConfig()
    publish: PublishConfig = PublishConfig()
    alerts: AlertConfig = AlertConfig()
    sync: SyncSettings = SyncSettings()

    @model_validator(mode="after")
    def _coherent(self) -> Config:
        entities = {stream.entity for source in self.sources.values() for stream in source.streams.values()}
        if not entities & set(FACT_ENTITIES):
            raise ValueError(f"sources: at least one stream must fill one of {', '.join(FACT_ENTITIES)}")
        if "accounts" not in entities and not self.identity.derive_accounts:
            raise ValueError("sources: no stream fills accounts; add one, or set identity.derive_accounts: true")
        for name, source in self.sources.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"source name {name!r} must be lower case letters, digits and underscores")
            has_accounts = any(stream.entity == "accounts" for stream in source.streams.values())
            referred = source.account_source
            if referred is not None and referred not in self.sources:
                raise ValueError(f"sources.{name}.account_source: there is no source {referred!r}")
            if not has_accounts and referred is None and not self.identity.derive_accounts:
                raise ValueError(
                    f"sources.{name} has no accounts stream: set account_source to the source whose account ids it uses"
                )
        unknown = sorted(set(self.identity.precedence) - set(self.sources))
        if unknown:
            raise ValueError(f"identity.precedence names unknown sources: {', '.join(unknown)}")
        beside = [f"sync.destinations.{name}" for name, found in self.sync.enabled.items() if found.stand_in]
        beside += [
            f"sources.{name}" for name, found in self.sources.items() if isinstance(found, ApiSource) and found.stand_in
        ]
        if beside and self.sandbox is None:
            raise ValueError(
                f"{beside[0]} has stand_in: true, which only a configuration with a sandbox can have:"
                " delete it, or give it your own account"
            )
        return self

    @property
    def precedence(self) -> tuple[str, ...]:
        """All sources, the ones that `identity.precedence` names first."""
        named = self.identity.precedence
        return (*named, *(name for name in self.sources if name not in named))

    def account_source(self, source: str) -> str:
        """The source whose account ids `source` uses."""
        return self.sources[source].account_source or source


class Settings(BaseSettings):
    """What the environment says. Every field is `TENURE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="TENURE_", frozen=True, extra="ignore")

    home: Path | None = None
    data_dir: Path | None = None
    config: Path | None = None
    memory_limit: str = "4GB"
    threads: int = Field(default=2, ge=1)


class Tenure(Strict):
    """Everything a run needs to know: the configuration and the folder of its state."""

    home: Path
    config_path: Path
    config: Config
    memory_limit: str = "4GB"
    threads: int = 2

    @property
    def warehouse_path(self) -> Path:
        return self.home / "warehouse.duckdb"

    @property
    def serving_path(self) -> Path:
        return self.home / "serving.duckdb"

    @property
    def temp_directory(self) -> Path:
        return self.home / "tmp"

    @property
    def ledger_url(self) -> str:
        """Where is kept what destinations have: as `sync.ledger_url` says, else a SQLite file of this home."""
        given = self.config.sync.ledger_url
        return given.get_secret_value() if given is not None else f"sqlite:///{self.home / 'sync.db'}"


DEFAULT_CONFIG = PROJECT_ROOT / "config" / "tenure.yml"


def _expand(text: str, variables: dict[str, str], path: Path) -> str:
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = variables.get(name)
        if found is None and default is None:
            missing.append(name)
        return found if found is not None else (default or "")

    lines = [line if line.lstrip().startswith("#") else _VARIABLE.sub(value, line) for line in text.splitlines()]
    if missing:
        names = ", ".join(sorted(set(missing)))
        raise UserError(
            f"{path} needs the environment variable {names}, which is not set.", hint=f"export {missing[0]}=…"
        )
    return "\n".join(lines)


def _sentences(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        parts = list(problem["loc"])
        if parts[:1] == ["sources"] and len(parts) > 2 and parts[2] in SOURCE_KINDS:
            del parts[2]  # which kind of source it was taken for
        where = ".".join(str(part) for part in parts)
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = "is not a known setting"
        if problem["type"] == "union_tag_invalid" and parts[:1] == ["sources"]:
            text = f"no connector is called {problem['ctx']['tag']!r}; there are {', '.join(CONNECTORS)}"
        lines.append(f"  {where}: {text}" if where else f"  {text}")
    return "\n".join(lines)


def project_of(config_path: Path) -> Path:
    """The project a configuration belongs to: the folder above a `config` folder, else the file's own folder."""
    return config_path.parent.parent if config_path.parent.name == "config" else config_path.parent


def load(config_path: Path | None = None, home: Path | None = None) -> Tenure:
    """Read the environment and `tenure.yml`.

    Raises `UserError` naming the file, the key and what is wrong, or the environment variables that are missing.
    """
    settings = Settings()
    path = (config_path or settings.config or DEFAULT_CONFIG).expanduser().resolve()
    if not path.is_file():
        raise UserError(
            f"There is no configuration at {path}.", hint="Name one with --config FILE, or copy config/tenure.yml."
        )
    state = (home or settings.home or project_of(path) / "var").expanduser().resolve()
    variables = {**os.environ, "TENURE_HOME": str(state), "TENURE_PROJECT": str(PROJECT_ROOT)}
    if settings.data_dir is not None:
        variables["TENURE_DATA_DIR"] = str(settings.data_dir.expanduser().resolve())
    try:
        document = yaml.safe_load(_expand(path.read_text(encoding="utf-8"), variables, path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} is empty.", hint="Start from config/tenure.yml.")
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{path} has mistakes:\n{_sentences(error)}") from error
    return Tenure(
        home=state,
        config_path=path,
        config=config,
        memory_limit=settings.memory_limit,
        threads=settings.threads,
    )


def utc_now() -> datetime:
    """The wall clock in UTC without a zone; called at the edges (commands, assets) and passed on as an argument."""
    return datetime.now(UTC).replace(tzinfo=None)
