"""What is published, in a few numbers: read from the published copy, like any other reader does.

Lives here: the numbers of `tenure run`'s summary and of `tenure status`. Must not live here: how they are shown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.warehouse import Connection, rows, scalar, warehouse


@dataclass(frozen=True)
class Published:
    """The published state in a few numbers. Money in US dollars; `mrr_usd` is NULL without subscriptions."""

    path: str
    run_id: str
    published_at: datetime
    as_of: datetime
    accounts: int
    customers: int
    mrr_usd: float | None
    invoiced_usd: float | None
    quarantined: dict[str, int]
    checks: dict[str, int]
    failed_checks: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    loads: list[dict[str, Any]]

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
    totals = rows(
        connection,
        "select count(*) as accounts, count(*) filter (is_customer) as customers, sum(mrr_usd) as mrr,"
        " sum(invoiced_usd) as invoiced from marts.accounts",
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
        accounts=totals["accounts"],
        customers=totals["customers"] or 0,
        mrr_usd=_number(totals["mrr"]),
        invoiced_usd=_number(totals["invoiced"]),
        quarantined={
            row["reason"]: int(row["n"])
            for row in rows(
                connection,
                "select reason, sum(rows_quarantined) as n from quality.quarantined group by 1 order by 2 desc, 1",
            )
        },
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
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
