"""Whether a run would make again what is published: then it ends after the extraction, and says since when nothing is new.

Lives here: what the published tables are made of, as one fingerprint, and when it may be relied on. Must not live here: what is done with
the answer (the asset of the clock, which everything after the extraction waits for).

The tables follow from what is loaded, the configuration, the code, the models' registry and the as-of date. A run that builds forgets
the fingerprint before it begins and notes it when it has published, so that after a kill, a refusal or a replay the next run builds
again. A row that is delivered again and is quarantined again counts as something new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path

from activation.ledger import Ledger
from core import suppression
from core.settings import PROJECT_ROOT, Tenure
from core.warehouse import Connection, ensure_table, identifier, rows, scalar, warehouse

BEGINS = "Nothing is new"
"""Begins the sentence that a run logs when it ends here."""
_TABLE = {
    "run_id": "varchar",
    "as_of_at": "timestamp",
    "built_from": "varchar",
    "fingerprint": "varchar",
    "publication_id": "varchar",
    "published_at": "timestamp",
}
_COUNTS = (
    *(
        "rows_inserted",
        "rows_updated",
        "rows_superseded",
        "rows_quarantined",
        "rows_suppressed",
        "rows_deleted",
        "rows_ended",
    ),
    *("rows_released", "rows_reassigned", "rows_withdrawn", "values_unread"),
)
"""What a load counts when it changed something."""
_CODE = ("core", "sources", "data_quality", "ml", "activation", "orchestration", "sandbox", "models", "dbt_project")
_LIBRARIES = ("duckdb", "dbt-core", "dbt-duckdb", "great-expectations", "xgboost-cpu", "mlflow")


def begin(connection: Connection, tenure: Tenure, as_of: datetime, run_id: str) -> None:
    """Note that a run begins to build, and from what: until it has published, nothing that is published can be relied on."""
    ensure_table(connection, "ledger", "published_from", _TABLE)
    begun = [run_id, as_of, _named(_built_from(connection, tenure, as_of))]
    connection.execute("begin transaction")
    connection.execute("delete from ledger.published_from")
    connection.execute("insert into ledger.published_from (run_id, as_of_at, built_from) values (?, ?, ?)", begun)
    connection.execute("commit")


def forget(connection: Connection) -> None:
    """Note that the working warehouse holds something else than what is published, such as a replayed day."""
    ensure_table(connection, "ledger", "published_from", _TABLE)
    connection.execute("delete from ledger.published_from")


def note_published(
    connection: Connection, tenure: Tenure, run_id: str, publication_id: str, published_at: datetime
) -> None:
    """Note what was published, if `run_id` is the run that built it, with every stream, and nothing that it is made of has changed since it
    began; a training of the run itself is no such change."""
    ensure_table(connection, "ledger", "published_from", _TABLE)
    stopped = scalar(connection, "select 1 from ledger.loads where run_id = ? and status = 'stopped' limit 1", [run_id])
    found = rows(connection, "select as_of_at, built_from from ledger.published_from where run_id = ?", [run_id])
    if (
        found
        and not stopped
        and found[0]["built_from"] == _named(_built_from(connection, tenure, found[0]["as_of_at"]))
    ):
        connection.execute(
            "update ledger.published_from set fingerprint = ?, publication_id = ?, published_at = ? where run_id = ?",
            [fingerprint(connection, tenure, found[0]["as_of_at"]), publication_id, published_at, run_id],
        )


def since(connection: Connection, tenure: Tenure, as_of: datetime, run_id: str) -> datetime | None:
    """When what `run_id` would publish was published; None if the run has to build.

    It has to if anything differs that the tables are made of, if the published file is another, if a stream was stopped, or if a
    destination has not received everything.
    """
    ensure_table(connection, "ledger", "published_from", _TABLE)
    found = rows(connection, "from ledger.published_from where fingerprint is not null")
    if not found or scalar(
        connection, "select 1 from ledger.loads where run_id = ? and status = 'stopped' limit 1", [run_id]
    ):
        return None
    (before,) = found
    if before["fingerprint"] != fingerprint(connection, tenure, as_of):
        return None
    if before["publication_id"] != _published_id(tenure.serving_path) or not _all_is_synced(tenure):
        return None
    published_at: datetime = before["published_at"]
    return published_at


def fingerprint(connection: Connection, tenure: Tenure, as_of: datetime) -> str:
    """A name for everything that the published tables are made of."""
    return _named([*_built_from(connection, tenure, as_of), *_registry(tenure)])


def _named(made_of: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()


def _built_from(connection: Connection, tenure: Tenure, as_of: datetime) -> list[str]:
    """What a run has in hand when it begins to build."""
    return [
        str(as_of.date()),
        json.dumps(tenure.config.model_dump(mode="json"), sort_keys=True),
        _code(),
        *_loaded(connection),
        json.dumps(sorted(suppression.load(tenure.home).hashes)),
    ]


def _loaded(connection: Connection) -> Iterator[str]:
    """How many rows each table of what is loaded has, and when a load last changed any."""
    tables = rows(
        connection,
        "select table_schema as s, table_name as t from information_schema.tables where table_type = 'BASE TABLE'"
        " and (starts_with(table_schema, 'raw_') or table_schema = 'quarantine') order by all",
    )
    for table in tables:
        count = scalar(connection, f"select count(*) from {identifier(table['s'])}.{identifier(table['t'])}")
        yield f"{table['s']}.{table['t']} {count}"
    changed = " + ".join(f"coalesce({name}, 0)" for name in _COUNTS)
    loads = rows(
        connection,
        "select source, stream, max(started_at) as at from ledger.loads"
        f" where {changed} > 0 or status = 'stopped' or drift is not null group by all order by all",
    )
    yield from (f"{load['source']}/{load['stream']} {load['at']}" for load in loads)


def _registry(tenure: Tenure) -> Iterator[str]:
    """The file of trainings and of the champion: who promotes a model changes it."""
    path = tenure.home / "mlflow" / "mlflow.db"
    if tenure.config.model.enabled and path.exists():
        found = path.stat()
        yield f"models {found.st_size} {found.st_mtime_ns}"


def _code() -> str:
    """The program as it stands in its files, and the libraries that make the tables."""
    digest = hashlib.sha256()
    for folder in _CODE:
        for path in sorted((PROJECT_ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".sql", ".yml", ".md"):
                digest.update(str(path.relative_to(PROJECT_ROOT)).encode())
                digest.update(path.read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library} {metadata.version(library)}".encode())
    return digest.hexdigest()


def _published_id(path: Path) -> str | None:
    if not path.exists():
        return None
    with warehouse(path, read_only=True) as published:
        found: str | None = scalar(published, "select max(publication_id) from publication")
    return found


def _all_is_synced(tenure: Tenure) -> bool:
    """Whether the last sync of each destination was done, and no row of it waits or failed."""
    ledger = Ledger(tenure.ledger_url, create=False)
    try:
        totals = ledger.totals()
        for name in tenure.config.sync.enabled:
            last = ledger.runs(name, limit=1)
            owed = totals.get(name, {})
            if not last or last[0]["status"] != "done" or any(owed.get(n) for n in ("failing", "parked", "in_doubt")):
                return False
    finally:
        ledger.close()
    return True
