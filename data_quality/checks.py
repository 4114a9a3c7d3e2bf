"""What is checked, and what a check comes to: the vocabulary of the quality gates.

Lives here: the catalogue of checks that a configuration calls for, the results, and how results become one outcome per
check. Must not live here: measuring (`profile.py`), judging (`engine.py`), or Great Expectations, so that the catalogue
can be read when definitions are loaded.

A critical check blocks what is downstream and publishing; a warning only shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from core.contract import ENTITIES, Entity
from core.settings import Config
from core.words import percent
from data_quality.marts import MARTS, Mart
from data_quality.scores import SCORED

Boundary = Literal["raw", "marts", "scores", "activation"]
Severity = Literal["critical", "warning"]

OPEN_WORDS = {"role"}
"""Columns whose texts have a meaning here and there, and may be any other text as well."""

FLOWS = ("subscriptions", "invoices", "usage_events", "tickets", "survey_responses", "interactions")
"""Entities whose rows happen day by day, so that a day's volume can be compared with the weeks before.

None of their rows should happen before its account was created."""

STEADY = ("usage_events", "tickets", "interactions")
"""Flows that do not rest for weeks: each must be fresh by itself. All else is as fresh as its source as a whole."""


WATCHED: tuple[tuple[str, Severity, str], ...] = (
    ("stale", "critical", "The facts that scores are made of are no older than they may be."),
    ("labels", "warning", "As many customers leave as when the model was trained."),
    ("outcomes", "warning", "Past scores came true as the model's test promised."),
)
"""What the model watches about itself besides drift: `ml.watch` holds the findings under these names."""


@dataclass(frozen=True)
class CheckSpec:
    """One check of one table; `table` is schema.table, which is also the asset's key."""

    name: str
    boundary: Boundary
    table: str
    severity: Severity
    description: str

    @property
    def blocking(self) -> bool:
        return self.severity == "critical"

    @property
    def key(self) -> str:
        return f"{self.table}.{self.name}"


@dataclass(frozen=True)
class CheckResult:
    """What a check found: one row when it passes, one per offending column, stream or day when it fails.

    `measured` is False where there was nothing to judge (no rows, no history, no limit set); such a check passes.
    `sample` holds keys of offending rows, never personal values. `message` says what, where, and what to do.
    """

    run_id: str
    checked_at: datetime
    boundary: Boundary
    table: str
    name: str
    source: str | None
    column: str | None
    severity: Severity
    measured: bool
    passed: bool
    observed: str
    expected: str
    unexpected_count: int
    sample: tuple[str, ...]
    message: str

    @property
    def blocks(self) -> bool:
        return not self.passed and self.severity == "critical"


@dataclass(frozen=True)
class CheckOutcome:
    """All results of one check together."""

    spec: CheckSpec
    passed: bool
    measured: bool
    unexpected_count: int
    message: str
    results: tuple[CheckResult, ...]


@dataclass(frozen=True)
class RawTable:
    """A raw table and the configured (source, stream) pairs that fill it."""

    connector: str
    entity: Entity
    streams: tuple[tuple[str, str], ...]

    @property
    def schema(self) -> str:
        return f"raw_{self.connector}"

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.entity.name}"


def raw_tables(config: Config) -> list[RawTable]:
    """The raw tables that the configured sources fill, accounts first."""
    streams: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for source, settings in config.sources.items():
        for stream, stream_settings in settings.streams.items():
            streams.setdefault((settings.connector, stream_settings.entity), []).append((source, stream))
    order = list(ENTITIES)
    keys = sorted(streams, key=lambda key: (order.index(key[1]), key[0]))
    return [RawTable(connector, ENTITIES[entity], tuple(streams[connector, entity])) for connector, entity in keys]


def catalogue(config: Config) -> list[CheckSpec]:
    """Every check of this configuration, by table in the order of the flow. Cheap: nothing is read or imported for it."""
    return [spec for table in raw_tables(config) for spec in raw_checks(table, config)] + [
        spec for mart in (*MARTS, *SCORED) for spec in mart_checks(mart)
    ]


def raw_checks(table: RawTable, config: Config) -> list[CheckSpec]:
    """The checks of one raw table."""
    entity = table.entity

    def spec(name: str, severity: Severity, description: str) -> CheckSpec:
        return CheckSpec(name, "raw", table.name, severity, description)

    checks = [
        spec("schema", "critical", "Every column of the contract is there with its type."),
        spec(
            "accounting",
            "critical",
            "Rows read = inserted + updated + unchanged + superseded + quarantined + suppressed.",
        ),
        spec(
            "quarantine_share",
            "critical",
            f"At most {percent(config.quality.max_quarantined_share)} of the rows that a stream delivered are in quarantine.",
        ),
        spec("required", "critical", "Required columns are filled."),
        spec("keys_unique", "critical", f"{entity.key} occurs once per source and stream."),
        spec("ranges", "critical", "Numbers and dates lie within the contract's limits and in their order."),
    ]
    if set(entity.words) - OPEN_WORDS:
        checks.append(spec("accepted_values", "warning", "Words with a meaning are those that the models know."))
    if entity.name != "accounts":
        checks.append(spec("references", "warning", "Every row's account is among the accounts of its source."))
    if entity.name == "subscriptions":
        checks.append(
            spec(
                "terms",
                "warning",
                "Agreed ends of terms and discounts are known of periods that ended as of those that run.",
            )
        )
    if entity.name in FLOWS:
        # All rows: of new ones alone, a mapping that is wrong for the whole history would show for one run.
        checks.append(
            spec("chronology", "warning", "No row, new or old, lies on a day before its account was created.")
        )
        checks.append(spec("volume", "warning", "A day's rows are as many as on that weekday in the weeks before."))
    checks.append(spec("freshness", "warning", "The newest fact is no older than `stale_after_days` of its source."))
    checks.append(spec("streams", "warning", "No stream had to stop at a broken input."))
    return checks


def mart_checks(mart: Mart) -> list[CheckSpec]:
    """The checks of one published mart."""

    def spec(name: str, severity: Severity, description: str) -> CheckSpec:
        return CheckSpec(name, mart.boundary, mart.table, severity, description)

    checks = [
        spec("schema", "critical", "Every published column is there with its type."),
        spec("required", "critical", "Required columns are filled."),
        spec("keys_unique", "critical", f"{', '.join(mart.rule.key)} occur together once."),
        spec("ranges", "critical", "Numbers lie within their limits; no fact lies after the run's clock."),
    ]
    if mart.has_words:
        checks.append(spec("accepted_values", "critical", "Only the documented words occur."))
    if mart.refers_to_accounts:
        checks.append(spec("references", "critical", "Every row belongs to an account of marts.accounts."))
    if mart.sums:
        checks.append(spec("sums", "critical", "What is told in two places agrees."))
    if mart.entity is not None:
        checks.append(spec("complete", "critical", f"Every raw row of {mart.entity} before the clock is there once."))
    if mart.name == "subscriptions":
        checks.append(spec("gaps", "warning", "Between periods of an account lies no gap of up to a day, or few."))
    if mart.name == "account_sources":
        checks.append(spec("named_ids", "warning", "Every crm_account_id names an account of an earlier source."))
    if mart.name == "accounts":
        checks.append(spec("not_empty", "critical", "There are accounts."))
        checks.append(spec("built", "critical", "The accounts were built for this run's clock."))
        checks.append(
            spec("not_collapsed", "critical", "Accounts and MRR have not collapsed since the last run that passed.")
        )
    elif mart.name == "customer_scores":
        checks.append(spec("built", "critical", "The scores are those of this run's clock."))
    elif mart.name == "churn_scores":
        says = "The model still sees what it was trained on, so that its scores may be used."
        checks.append(spec("drift", "critical", says))
        checks.append(spec("drifting", "warning", "No measurement has moved far from what the model was trained on."))
        checks += [spec(*promise) for promise in WATCHED]
    elif mart.lasting:
        checks.append(spec("not_collapsed", "warning", "Rows have not collapsed since the last run that passed."))
    checks.append(spec("exclusions", "critical", "Every column that publishing should leave out exists."))
    if any(column.sql_type == "varchar" for column in mart.rule.columns):
        checks.append(spec("personal", "warning", "No column with personal data or e-mail addresses is published."))
    if mart.name == "source_freshness":
        checks.append(
            spec("freshness", "warning", "The newest fact of each source is no older than `stale_after_days`.")
        )
    return checks


def outcomes(specs: Iterable[CheckSpec], results: Sequence[CheckResult]) -> list[CheckOutcome]:
    """One outcome for each of `specs`; a check without any result was not run and does not pass."""
    by_key: dict[str, list[CheckResult]] = {}
    for result in results:
        by_key.setdefault(f"{result.table}.{result.name}", []).append(result)
    return [_outcome(spec, by_key.get(spec.key, [])) for spec in specs]


def _outcome(spec: CheckSpec, results: list[CheckResult]) -> CheckOutcome:
    if not results:
        return CheckOutcome(spec, False, False, 0, f"{spec.key} was not run.", ())
    failed = [result for result in results if not result.passed]
    return CheckOutcome(
        spec=spec,
        passed=not failed,
        measured=any(result.measured for result in results),
        unexpected_count=sum(result.unexpected_count for result in failed),
        message="\n".join(result.message for result in failed or results),
        results=tuple(results),
    )


def blocking_failures(results: Iterable[CheckResult]) -> list[CheckResult]:
    """The results that stop the run from going on."""
    return [result for result in results if result.blocks]
