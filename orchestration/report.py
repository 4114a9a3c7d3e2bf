"""What is published, in a few numbers: read from the published copy, like any other reader does.

Lives here: the numbers of `tenure run`'s summary and of `tenure status`. Must not live here: how they are shown.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core.currency import DEFAULT
from core.errors import UserError
from core.warehouse import Connection, rows, scalar, table_exists, warehouse

WORTH_A_CALL = 10
"""How many accounts the summary of a run names."""


@dataclass(frozen=True)
class Published:
    """The published state in a few numbers. Money in `currency`; `mrr` is NULL without subscriptions."""

    path: str
    run_id: str
    published_at: datetime
    as_of: datetime
    currency: str
    accounts: int
    customers: int
    mrr: float | None
    invoiced_amount: float | None
    quarantined: dict[str, int]
    quarantined_mrr: dict[str, Any] | None
    unread_values: list[dict[str, Any]]
    checks: dict[str, int]
    failed_checks: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    loads: list[dict[str, Any]]
    model: dict[str, Any] | None
    worth_a_call: list[dict[str, Any]]
    syncs: list[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """The same as a plain dictionary, for JSON."""
        return asdict(self)


def published(path: Path) -> Published:
    """Read the copy at `path`. Raises `UserError` when nothing has been published yet."""
    if not path.exists():
        raise UserError(f"Nothing has been published yet at {path}.", hint="Run `tenure run` first.")
    with warehouse(path, read_only=True, memory_limit="1GB") as connection:
        return _read(connection, path)


def _read(connection: Connection, path: Path) -> Published:
    publication = rows(connection, "select * from publication")[0]
    # A replay has none: no model has scored, and nothing was sent.
    has_scores = table_exists(connection, "reverse_etl", "customer_scores")
    totals = rows(
        connection,
        "select count(*) as accounts, count(*) filter (is_customer) as customers, sum(mrr) as mrr,"
        " sum(invoiced_amount) as invoiced from marts.accounts",
    )[0]
    run = [publication["run_id"]]
    failed = rows(
        connection,
        "select table_name, check_name, severity, message from quality.checks where run_id = ? and not passed"
        " order by severity, table_name, check_name",
        run,
    )
    return Published(
        path=str(path),
        run_id=publication["run_id"],
        published_at=publication["published_at"],
        as_of=publication["as_of_at"],
        currency=publication.get("currency") or DEFAULT,
        accounts=totals["accounts"],
        customers=totals["customers"] or 0,
        mrr=_number(totals["mrr"]),
        invoiced_amount=_number(totals["invoiced"]),
        quarantined={
            row["reason"]: int(row["n"])
            for row in rows(
                connection,
                "select reason, sum(rows_quarantined) as n from quality.quarantined group by 1 order by 2 desc, 1",
            )
        },
        quarantined_mrr=_quarantined_mrr(connection),
        unread_values=_unread_values(connection),
        checks={
            "passed": int(scalar(connection, "select count(*) from quality.checks where run_id = ? and passed", run)),
            "warnings": sum(check["severity"] == "warning" for check in failed),
            "critical": sum(check["severity"] == "critical" for check in failed),
        },
        failed_checks=failed,
        sources=rows(connection, "select * from marts.source_freshness order by source, entity"),
        loads=rows(
            connection,
            "select source, stream, status, message, rows_read, rows_inserted, rows_updated, rows_quarantined, finished_at"
            " from quality.loads where run_id = ? order by finished_at, source, stream",
            run,
        ),
        model=_model(connection) if has_scores else None,
        worth_a_call=_worth_a_call(connection) if has_scores else [],
        syncs=_syncs(connection) if has_scores else [],
    )


def _quarantined_mrr(connection: Connection) -> dict[str, Any] | None:
    """How much MRR stands in quarantine; `is_at_least`: of some subscriptions it cannot be read. None where none does."""
    if not table_exists(connection, "quality", "quarantined_mrr"):
        return None  # a copy of an older version
    found = rows(
        connection,
        "select cast(sum(subscriptions) as bigint) as subscriptions, cast(sum(mrr) as double) as mrr,"
        " cast(sum(subscriptions_unread) as bigint) as unread, sum(subscriptions_unread) > 0 as is_at_least from quality.quarantined_mrr",
    )[0]
    return found if found["subscriptions"] else None


def _unread_values(connection: Connection) -> list[dict[str, Any]]:
    """Which optional values could not be read and are empty, with an example of each kind."""
    if not table_exists(connection, "quality", "unread_values"):
        return []
    return rows(
        connection,
        "select source, stream, column_name, reason, values_unread, example from quality.unread_values"
        " order by values_unread desc, source, stream, column_name, reason",
    )


def _syncs(connection: Connection) -> list[dict[str, Any]]:
    """The newest sync of each destination with its counts."""
    if not table_exists(connection, "sync", "sync_runs"):
        return []
    return rows(
        connection,
        "select distinct on (destination) * from sync.sync_runs order by destination, started_at desc",
    )


def _model(connection: Connection) -> dict[str, Any] | None:
    """The newest training: its decision, its test in numbers, and whose scores are published; None before the first."""
    if not table_exists(connection, "quality", "model_trainings"):
        return None
    found = rows(
        connection,
        "select model_version, state, decision, trained_at, last_as_of_date, accounts, churn_events, base_rate, report"
        " from quality.model_trainings order by trained_at desc limit 1",
    )
    if not found:
        return None
    scored = rows(
        connection,
        "select count(churn_probability) as scored, max(as_of_date) as as_of_date, any_value(model_version) as model_version,"
        " count(*) filter (churn_tier = 'high') as high, cast(sum(mrr_at_risk) as double) as mrr_at_risk,"
        " coalesce(bool_or(is_fallback), false) as is_fallback from reverse_etl.customer_scores",
    )[0]
    report = json.loads(found[0].pop("report") or "{}")
    return {**found[0], "test": report.get("test"), "published": scored}


def _worth_a_call(connection: Connection) -> list[dict[str, Any]]:
    """The accounts with the most to lose, where a model says so."""
    return rows(
        connection,
        "select a.account_id, a.account_name, s.churn_probability, s.churn_tier,"
        " cast(s.mrr as double) as mrr, cast(s.mrr_at_risk as double) as mrr_at_risk,"
        " s.renewal_date, s.reason_1_text, s.reason_2_text, s.reason_3_text"
        " from reverse_etl.customer_scores as s join marts.accounts as a using (account_id) where not s.is_fallback"
        f" order by s.mrr_at_risk desc nulls last, s.churn_probability desc, a.account_id limit {WORTH_A_CALL}",
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
