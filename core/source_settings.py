"""What `tenure.yml` says about sources: systems, their streams, and which column becomes which.

Lives here: the schema of `sources:`, and the streams that vendors' connectors know. Must not live here: how anything is read
(`sources/`).
"""

from __future__ import annotations

import json
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import yaml
from pydantic import BeforeValidator, Discriminator, Field, SecretStr, Tag, model_validator

from core.blocks import NAME, HttpConfig, RetryConfig, Strict
from core.contract import ENTITIES
from core.errors import UserError

_CONNECTORS = Path(__file__).resolve().parent.parent / "sources"


class ColumnMapping(Strict):
    """One contract column: an SQL expression over the source's columns, or one per row group when `group_by` is set.

    `format` is a strptime pattern, a list of patterns tried in order, a unit since 1970 (`epoch`, `epoch_ms`, `epoch_us`, `epoch_ns`)
    or `excel`, days as Excel counts them.
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

    `where` leaves other rows of the source alone; `unnest` is SQL of a list whose items are the rows (`item`); `fields` are keys of
    JSON lines that none may have. `partial` rows tell only what changed: what one leaves out stays as it was told before. `deleted_at`
    is SQL over a table's columns: since when its row is deleted, NULL while it is there. `null_words` are the texts that stand for a
    missing value, whatever their case, instead of those of `core.placeholders`. `decimal` and `thousands` are the marks of numbers
    that are text. `ends` says of subscriptions whether the day of an end is the last one that was paid for (inclusive) or the first
    one that was not.
    """

    entity: str
    columns: dict[str, Annotated[ColumnMapping, BeforeValidator(_mapping)]]
    files: tuple[str, ...] = ()
    format: Literal["csv", "jsonl", "parquet", "excel"] | None = None
    sheet: str | None = None
    csv: CsvOptions = CsvOptions()
    decimal: Literal[".", ","] | None = None
    thousands: Literal[".", ",", " ", "'", ""] | None = None
    lookups: dict[str, str] = Field(default_factory=dict)
    join: str | None = None
    where: str | None = None
    unnest: str | None = None
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
    ends: Literal["exclusive", "inclusive"] | None = None
    partial: bool = False
    null_words: tuple[str, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in ("files", "fields", "group_by", "primary_key", "null_words"):
                if isinstance(data.get(key), str):
                    data = {**data, key: (data[key],)}
        return data

    @model_validator(mode="before")
    @classmethod
    def _earlier_names(cls, data: Any) -> Any:
        """`mrr_usd` and `amount_usd` are what `mrr` and `amount` were called."""
        columns = data.get("columns") if isinstance(data, dict) else None
        if not isinstance(columns, dict):
            return data
        names = {f"{name}_usd": name for name in ("mrr", "amount")}
        return {**data, "columns": {names.get(name, name): value for name, value in columns.items()}}

    @model_validator(mode="before")
    @classmethod
    def _no_words_of_yaml(cls, data: Any) -> Any:
        """YAML reads no, off, yes and on as false and true: as a column of the source, each of its rows would have that value."""
        columns = data.get("columns") if isinstance(data, dict) else None
        if not isinstance(columns, dict) or str(data.get("entity")) not in ENTITIES:
            return data
        entity = ENTITIES[str(data["entity"])]
        for name, value in columns.items():
            if isinstance(value, bool) and name in entity.column_names and entity.column(name).type != "boolean":
                words = "yes, on or true" if value else "no, off or false"
                raise ValueError(
                    f"{name}: YAML reads {words} as a truth value; write a column of that name in quotes, such as '\"no\"'"
                )
        return data

    @model_validator(mode="after")
    def _known(self) -> StreamConfig:
        if self.thousands and self.thousands == self.decimal:
            raise ValueError("`decimal` and `thousands` cannot be the same mark")
        if self.entity not in ENTITIES:
            raise ValueError(f"no entity is called {self.entity!r}; the contract has {', '.join(ENTITIES)}")
        entity = ENTITIES[self.entity]
        if self.periods and self.entity != "subscriptions":
            raise ValueError(f"`periods` is for subscriptions, not for {self.entity}")
        if self.ends and self.entity != "subscriptions":
            raise ValueError(f"`ends` is for subscriptions, not for {self.entity}")
        unknown = sorted(set(self.columns) - set(entity.column_names))
        if unknown:
            raise ValueError(
                f"{self.entity} has no column {', '.join(unknown)}; it has {', '.join(entity.column_names)}"
            )
        return self

    @property
    def filled_columns(self) -> frozenset[str]:
        """The columns of the contract that every row of the source has a value or an empty value for."""
        return frozenset(
            name
            for name, column in self.columns.items()
            if not column.optional and column.sql.strip().lower() != "null"
        )

    @property
    def reading(self) -> dict[str, str]:
        """What decides which row a record becomes: for each column, and each option that is set, what it says."""
        said = self.model_dump(mode="json", exclude_defaults=True, include=set(_DECISIVE))
        columns = {name: column.model_dump_json(exclude_defaults=True) for name, column in self.columns.items()}
        return {**columns, **{name: json.dumps(value, sort_keys=True) for name, value in said.items()}}


_DECISIVE = (
    "csv",
    "sheet",
    "decimal",
    "thousands",
    "lookups",
    "join",
    "where",
    "unnest",
    "group_by",
    "primary_key",
    "deleted_at",
    "periods",
    "partial",
    "null_words",
)


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


_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class SourceConfig(Strict):
    """A system that data comes from, read through a connector: what all of them have. `null_words` are those of its streams that
    name none themselves."""

    connector: str
    path: Annotated[BucketUrl | Path, Field(union_mode="left_to_right")] | None = None
    url: SecretStr | None = None
    account_source: str | None = None
    owner: str | None = None
    stale_after_days: float | None = Field(default=None, gt=0)
    null_words: tuple[str, ...] | None = None
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
    def _share_null_words(self) -> SourceConfig:
        if self.null_words is not None:
            for name, stream in self.streams.items():
                if stream.null_words is None:
                    self.streams[name] = stream.model_copy(update={"null_words": self.null_words})
        return self

    @model_validator(mode="after")
    def _named(self) -> SourceConfig:
        for name in self.streams:
            if not NAME.fullmatch(name):
                raise ValueError(f"stream name {name!r} must be lower case letters, digits and underscores")
            if self.streams[name].unnest is not None and not isinstance(self, FilesSource):
                raise ValueError(
                    f"stream {name}: `unnest` is for files; of a table, name a view that has a row for each item"
                )
        return self

    @property
    def entities(self) -> frozenset[str]:
        """What its streams fill."""
        return frozenset(stream.entity for stream in self.streams.values())

    @property
    def origin(self) -> str | None:
        """Whose data it reads, in words and without secrets: what was loaded is from there, and so is the cursor that it goes on from.
        None where the configuration does not say, as of a folder, which may be moved."""
        return None


class FilesSource(SourceConfig):
    """Files in a folder or a bucket."""

    bucket: BucketConfig = BucketConfig()

    @model_validator(mode="after")
    def _complete(self) -> FilesSource:
        for name, stream in self.streams.items():
            if not stream.files:
                raise ValueError(f"stream {name} needs `files`: a path or glob below the source's `path`")
            absolute = [pattern for pattern in (*stream.files, *stream.lookups.values()) if pattern.startswith("/")]
            if absolute:
                raise ValueError(
                    f"stream {name}: {absolute[0]} must be a path or glob below the source's `path`, without it"
                )
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
            if {"project", "key"} & data.keys():
                raise ValueError(
                    "a source of posthog has either `path`, for exports, or `project` and `key`, for queries"
                )
            data = {**data, "streams": _with_defaults(_kind_of_source(data), data.get("streams"))}
        return data

    @model_validator(mode="after")
    def _of_one_mind(self) -> ExportSource:
        if self.account_source is not None and "accounts" in self.entities:
            raise ValueError(
                "`account_source` says that another source has the accounts: name the streams without `groups`"
            )
        return self


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

    @property
    def origin(self) -> str | None:
        """A server's database. The file of a SQLite database may be moved, and so may this machine's ports."""
        assert self.url is not None
        found = urlsplit(self.url.get_secret_value())
        dialect, name = found.scheme.partition("+")[0], found.path.strip("/")
        if dialect == "sqlite":
            return None
        host = found.hostname or dict(parse_qsl(found.query)).get("host") or "localhost"
        is_here = host in _THIS_MACHINE or host.startswith("/")
        at = "this machine" if is_here else host if found.port is None else f"{host}:{found.port}"
        return f"{dialect} database {name} on {at}"


class ApiSource(SourceConfig):
    """A vendor's API: what all of them have. `streams` left out means all that the connector knows and reads by default,
    mapped as in `sources/<connector>.yml`; named streams are laid over these.

    `since` is how far back a first load reads; `batch_rows` are loaded in one transaction, so that a run that is killed
    goes on there. `timeout_seconds` is how long an answer may keep still, `http` what it may take as a whole.
    """

    base_url: str | None = None
    since: date | None = None
    stand_in: bool = False
    batch_rows: int = Field(default=10_000, ge=1)
    timeout_seconds: float = Field(default=30.0, gt=0)
    http: HttpConfig = HttpConfig()
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

    @property
    def origin(self) -> str | None:
        """The account at the vendor, as far as the configuration says, or the sandbox's stand-in for it."""
        return (
            f"the sandbox's {self.connector}" if self.stand_in else " ".join((self.connector, *self._account)).strip()
        )

    @property
    def _account(self) -> tuple[str, ...]:
        """What tells accounts at the vendor apart."""
        return ()


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

    @property
    def _account(self) -> tuple[str, ...]:
        return () if self.subdomain is None else (self.subdomain,)


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

    @property
    def _account(self) -> tuple[str, ...]:
        host = urlsplit(self.login_url or "").hostname
        return () if host is None or host in _THIS_MACHINE else (host,)


class StripeSource(ApiSource):
    """Stripe. `key` is a secret or, better, a restricted key that may only read.

    `deduct_coupons` are the durations of coupons that lower MRR. `changes` says where they are read: from the events, or by listing
    all in every run.
    """

    connector: Literal["stripe"]
    key: SecretStr
    api_version: str = "2025-03-31.basil"
    deduct_coupons: tuple[Literal["forever", "repeating", "once"], ...] = ("forever",)
    changes: Literal["events", "lists"] = "events"
    requests_per_second: int = Field(default=25, ge=1)

    @property
    def _account(self) -> tuple[str, ...]:
        """A key says whether it reads what was paid or what was tried: `sk_live_…`, `rk_test_…`."""
        return ("in test mode",) if self.key.get_secret_value()[2:].startswith("_test_") else ()


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

    @property
    def _account(self) -> tuple[str, ...]:
        return (self.region, f"project {self.project}")


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
    text = (_CONNECTORS / f"{kind}.yml").read_text(encoding="utf-8")
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
