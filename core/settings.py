"""Settings: where state lives, and what `tenure.yml` says about the business.

Lives here: the environment's settings (one frozen class), the schema of `tenure.yml` as a whole, and the sentences for its
mistakes. Must not live here: the schema of its sources and destinations (`source_settings.py`, `sync_settings.py`), anything that
acts on a setting.

Secrets come only from the environment, as `${NAME}` in `tenure.yml`; they are held masked and never logged.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from core import metric_settings, yaml_file
from core.blocks import NAME, Strict
from core.contract import FACT_ENTITIES
from core.currency import DEFAULT as DOLLARS
from core.currency import Code, Rates, is_code
from core.errors import UserError
from core.metric_settings import MetricConfig
from core.source_settings import CONNECTORS, SOURCE_KINDS, AnySource, ApiSource
from core.sync_settings import SyncSettings

PROJECT_ROOT = Path(__file__).resolve().parent.parent
_DOMAIN = re.compile(r"[^\W_][\w-]*(\.[\w-]+)+")


def _as_compared(words: tuple[str, ...]) -> tuple[str, ...]:
    """Words in the form in which the models compare them."""
    return tuple(word.strip().lower() for word in words)


class IdentityConfig(Strict):
    """How the accounts of several sources become one; see DECISIONS.md, "Identity"."""

    precedence: tuple[str, ...] = ()
    rules: tuple[Literal["id", "domain", "name"], ...] = ("id", "domain", "name")
    shared_domains: tuple[str, ...] = ()
    derive_accounts: bool = False

    @field_validator("shared_domains")
    @classmethod
    def _bare(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        bare = _as_compared(domains)
        for domain in bare:
            if not _DOMAIN.fullmatch(domain):
                raise ValueError(
                    f"{domain!r} is no domain; write it like `example.com`, without protocol, path or mailbox"
                )
        return bare


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

    @field_validator("not_churn")
    @classmethod
    def _words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        return _as_compared(words)

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


class MetricsConfig(Strict):
    """How long the metric layer keeps each day; before that it keeps one date a week."""

    daily_days: int = Field(default=90, ge=1, le=3660)


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


KNOWN_REASONS = (
    *(
        "canceled",
        "cancelled",
        "cancellation",
        "churned",
        "churn",
        "expired",
        "lapsed",
        "not renewed",
        "non-renewal",
        "closed",
    ),
    *(
        "payment_failed",
        "payment failed",
        "non-payment",
        "nonpayment",
        "unpaid",
        "payment_disputed",
        "cancellation_requested",
    ),
    *("too_expensive", "price", "missing_features", "switched_service", "competitor", "unused", "customer_service"),
    *("low_quality", "too_complex", "other", "bankruptcy", "out of business", "trial_ended", "trial ended"),
    *("changed", "plan_change", "seat_change", "price_change", "upgrade", "upgraded", "downgrade", "downgraded"),
    *("renewal", "renewed", "converted"),
)
"""Usual words for why a subscription ended that are no surprise: churn, where nothing follows."""


class QualityConfig(Strict):
    """Limits of the quality gates: shares are 0 to 1. No date before `earliest_date` is taken for one: seconds that are read as
    milliseconds lie in January 1970.
    """

    earliest_date: date = date(1980, 1, 1)
    max_quarantined_share: float = Field(default=0.5, ge=0, le=1)
    min_volume_share: float = Field(default=0.3, ge=0)
    max_volume_share: float = Field(default=3.0, gt=0)
    min_kept_share: float = Field(default=0.5, ge=0, le=1)
    end_reasons: tuple[str, ...] = KNOWN_REASONS

    @field_validator("end_reasons")
    @classmethod
    def _words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        return _as_compared(words)

    @property
    def earliest(self) -> datetime:
        """`earliest_date` as a timestamp."""
        return datetime.combine(self.earliest_date, time())


class PublishConfig(Strict):
    """What the published copy leaves out, which DuckDB can read it, and where else it goes. `postgres_url` is a SQLAlchemy-style URL."""

    exclude_columns: tuple[str, ...] = (
        "accounts.owner_email",
        "contacts.email",
        "tickets.subject",
    )
    storage_version: Annotated[str, Field(pattern=r"^v\d+\.\d+\.\d+$")] = "v1.0.0"
    postgres_url: SecretStr | None = None


class AlertConfig(Strict):
    """Where a failed run is told."""

    webhook_url: SecretStr | None = None
    email_to: tuple[str, ...] = ()
    email_from: str = "tenure@localhost"
    smtp_url: SecretStr | None = None


class RunsConfig(Strict):
    """How long Dagster's records of past runs are kept; the newest are kept however old they are."""

    keep_days: int = Field(default=30, ge=1)


class UiConfig(Strict):
    """Who may open Dagster's page. `hosts` are the names that it is known by besides this machine's own; `token` is asked for as a
    password, and is needed to listen for other machines."""

    hosts: tuple[str, ...] = ()
    token: SecretStr | None = Field(default=None, min_length=16)


class SandboxConfig(Strict):
    """When present, the job first makes sure that the sandbox company exists."""

    accounts: int = Field(default=2_000, ge=1)
    months: int = Field(default=24, ge=2)
    seed: int = 7


class Config(Strict):
    """`tenure.yml`: the company, its sources and its rules."""

    company: str
    currency: Code = DOLLARS
    exchange_rates: Rates = Field(default_factory=dict)
    clock: Literal["data", "wall"] = "wall"
    schedule: str = "0 5 * * *"
    sandbox: SandboxConfig | None = None
    sources: dict[str, AnySource]
    identity: IdentityConfig = IdentityConfig()
    churn: ChurnConfig = ChurnConfig()
    metrics: MetricsConfig = MetricsConfig()
    model: ModelConfig = ModelConfig()
    quality: QualityConfig = QualityConfig()
    publish: PublishConfig = PublishConfig()
    alerts: AlertConfig = AlertConfig()
    sync: SyncSettings = SyncSettings()
    ui: UiConfig = UiConfig()
    runs: RunsConfig = RunsConfig()
    custom_metrics: tuple[MetricConfig, ...] = ()
    """The company's own, which stand in a file beside `tenure.yml`."""

    @model_validator(mode="before")
    @classmethod
    def _earlier_rates(cls, data: Any) -> Any:
        """Rates had been settings of a source of Stripe's, by codes in small letters."""
        sources = data.get("sources") if isinstance(data, dict) else None
        if not isinstance(sources, dict):
            return data
        rates = dict(data.get("exchange_rates") or {})
        kept: dict[str, Any] = {}
        for name, source in sources.items():
            given = source.get("rates") if isinstance(source, dict) and source.get("connector") == "stripe" else None
            if not isinstance(given, dict):
                kept[name] = source
                continue
            kept[name] = {key: value for key, value in source.items() if key != "rates"}
            for code, rate in given.items():
                if rates.setdefault(str(code).upper(), rate) != rate:
                    raise ValueError(
                        f"sources.{name}.rates: {code} has another rate elsewhere; write it in `exchange_rates`"
                    )
        return {**data, "sources": kept, "exchange_rates": rates}

    @model_validator(mode="after")
    def _of_currencies(self) -> Config:
        for where, code in (("currency", self.currency), *(("exchange_rates", code) for code in self.exchange_rates)):
            if not is_code(code):
                raise ValueError(f"{where}: {code} is no currency's code (ISO 4217), such as EUR")
        if self.currency in self.exchange_rates:
            raise ValueError(f"exchange_rates: {self.currency} is the reporting currency, whose rate is 1")
        return self

    @model_validator(mode="after")
    def _coherent(self) -> Config:
        entities = {entity for source in self.sources.values() for entity in source.entities}
        if not entities & set(FACT_ENTITIES):
            raise ValueError(f"sources: at least one stream must fill one of {', '.join(FACT_ENTITIES)}")
        if "accounts" not in entities and not self.identity.derive_accounts:
            raise ValueError("sources: no stream fills accounts; add one, or set identity.derive_accounts: true")
        for name, source in self.sources.items():
            if not NAME.fullmatch(name):
                raise ValueError(f"source name {name!r} must be lower case letters, digits and underscores")
            referred = source.account_source
            if referred is not None and referred not in self.sources:
                raise ValueError(f"sources.{name}.account_source: there is no source {referred!r}")
            if "accounts" not in source.entities and referred is None and not self.identity.derive_accounts:
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

    @property
    def inclusive_ends(self) -> tuple[tuple[str, str], ...]:
        """The streams, by source and name, whose subscriptions end with the day that is given."""
        return tuple(
            (source, name)
            for source, settings in self.sources.items()
            for name, stream in settings.streams.items()
            if stream.ends == "inclusive"
        )

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
_FOLDERS = ("TENURE_HOME", "TENURE_PROJECT", "TENURE_DATA_DIR")
COMPANY = "company.txt"
"""Whose data a home holds."""


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
    document = yaml_file.read(path, variables, public=_FOLDERS)
    if not isinstance(document.content, dict):
        raise UserError(f"{path} holds no settings.", hint="Start from config/tenure.yml.")
    try:
        if "custom_metrics" in document.content:
            raise UserError(
                f"{path}: custom_metrics is not a known setting; a company's own metrics stand in {metric_settings.FILE} beside"
                " this file."
            )
        config = Config.model_validate(document.content)
    except ValidationError as error:
        raise UserError(f"{path} has mistakes:\n{document.without_values(_sentences(error))}") from None
    custom = metric_settings.read(path, PROJECT_ROOT / "models", variables)
    config = config.model_copy(update={"custom_metrics": custom})
    _of_one_company(state, config.company, path)
    return Tenure(
        home=state,
        config_path=path,
        config=config,
        memory_limit=settings.memory_limit,
        threads=settings.threads,
    )


def _of_one_company(home: Path, company: str, config_path: Path) -> None:
    """A home is one company's: rows of two would become one customer 360."""
    marker = home / COMPANY
    if not marker.is_file():
        return
    found = marker.read_text(encoding="utf-8").strip()
    if found != company:
        raise UserError(
            f"{home} holds the data of {found}, and {config_path} is the configuration of {company}.",
            hint=f"Give each company a folder of its own: TENURE_HOME=FOLDER. If {found} is now called {company}, delete {marker}.",
        )


def note_company(tenure: Tenure) -> None:
    """Remember whose data the home holds, before the first of them is there."""
    marker = tenure.home / COMPANY
    if marker.is_file():
        return
    tenure.home.mkdir(parents=True, exist_ok=True)
    making = marker.with_name(f".{COMPANY}.tmp")
    making.write_text(tenure.config.company + "\n", encoding="utf-8")
    making.replace(marker)


def utc_now() -> datetime:
    """The wall clock in UTC without a zone; called at the edges (commands, assets) and passed on as an argument."""
    return datetime.now(UTC).replace(tzinfo=None)
