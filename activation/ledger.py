"""What destinations have, and what became of every row: the ledger, in a transactional store of its own.

Lives here: its tables, in SQLite or PostgreSQL, and every read and write of them. Must not live here: what is sent, or when.

Before a batch is sent, its rows are marked as in doubt; the commit of the answers takes the mark away. A run that is killed in
between leaves them in doubt, and the next run sends them again, whatever their values are by then.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from activation.target import Target
from core.errors import Fatal, Retriable, TenureError, UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from activation.base import RowResult
    from activation.plan import PlannedChange

metadata = sa.MetaData()
_moment = sa.DateTime(timezone=False)

RUNS = sa.Table(
    "sync_runs",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("destination", sa.Text, nullable=False, index=True),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("started_at", _moment, nullable=False),
    sa.Column("finished_at", _moment),
    sa.Column("source_published_at", _moment),
    sa.Column("source_as_of_at", _moment),
    *(
        sa.Column(name, sa.BigInteger, nullable=False, default=0)
        for name in ("source", "unchanged", "invalid", "ok", "rejected", "retriable", "deferred")
    ),
    *(
        sa.Column(name, sa.BigInteger, nullable=False, default=0)
        for name in ("model_rows", "gone_rows", "created", "updated", "retired", "parked", "calls")
    ),
    sa.Column("overrides", sa.Text),
    sa.Column("options", sa.Text),
    sa.Column("error", sa.Text),
)
"""One row per run. `source` = `unchanged` + `invalid` + `ok` + `rejected` + `retriable` + `deferred`, at any moment."""

ROWS = sa.Table(
    "sync_rows",
    metadata,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("hash", sa.Text),
    sa.Column("payload", sa.Text),
    sa.Column("remote_id", sa.Text),
    sa.Column("acknowledged_at", _moment),
    sa.Column("acknowledged_run_id", sa.Text),
    sa.Column("in_doubt_run_id", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("last_attempt_at", _moment),
    sa.Column("last_status", sa.Text),
    sa.Column("last_error_code", sa.Text),
    sa.Column("last_error", sa.Text),
    sa.Column("parked_at", _moment),
)
"""One row per destination and key: `acknowledged` (the destination has `payload`), `failed` (it never took the row) or `retired`
(our fields were cleared there)."""
sa.Index(
    "sync_rows_compared",
    ROWS.c.destination,
    ROWS.c.key,
    ROWS.c.state,
    ROWS.c.hash,
    ROWS.c.in_doubt_run_id,
    ROWS.c.parked_at,
    ROWS.c.last_status,
)
# All that a plan compares, so that a million rows are compared without reading their payloads.

CHANGES = sa.Table(
    "sync_changes",
    metadata,
    sa.Column("run_id", sa.Text, nullable=False, index=True),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("key", sa.Text, index=True),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("http_status", sa.Integer),
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("old_values", sa.Text),
    sa.Column("new_values", sa.Text),
    sa.Column("changed_at", _moment, nullable=False, index=True),
)
"""One row per run and row that was sent or could not be: JSON of the fields that differ, before and after."""

TARGETS = sa.Table(
    "sync_targets",
    metadata,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("bound_at", _moment, nullable=False),
)
"""What the rows of a destination are about (`target.py`). It is not published: it holds addresses and fingerprints of credentials."""

TABLES = (RUNS, ROWS, CHANGES)
"""The tables that are published."""
_FAILING = ROWS.c.last_status.in_(("rejected", "retriable"))
UNREACHABLE = "unreachable"
"""Error code of rows whose batch nobody answered: not the row's fault, and no attempt that counts."""
_ORDINARY = (
    ROWS.c.state == "acknowledged",
    ROWS.c.hash.is_not(None),
    ROWS.c.in_doubt_run_id.is_(None),
    ROWS.c.parked_at.is_(None),
    ROWS.c.last_status == "ok",
)
_READ_AT_ONCE = 200_000
_ASKED_AT_ONCE = 5_000


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run when it begins."""

    run_id: str
    destination: str
    connector: str
    model: str
    mode: str
    started_at: datetime
    source_published_at: datetime | None
    source_as_of_at: datetime | None
    overrides: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LastGood:
    """The last run that ended well, as far as guards ask."""

    finished_at: datetime
    source_published_at: datetime | None
    source_as_of_at: datetime | None


class Ledger:
    """The ledger at a URL. Without `create`, one that is not there yet is empty, and nothing is written to it."""

    def __init__(self, url: str, *, create: bool = True) -> None:
        self._engine: sa.Engine | None = None
        path = _sqlite_path(url)
        if path is not None and not create and not path.exists():
            return
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        engine = _engine(url) if create or path is None else _read_only(path)
        with self._errors():
            if create:
                metadata.create_all(engine)
                _bring_up_to_date(engine)
            elif not sa.inspect(engine).has_table(RUNS.name):
                engine.dispose()
                return
            else:
                _read_as_if_up_to_date(engine)
        self._engine = engine

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever kept."""
        return self._engine is None

    def close(self) -> None:
        """Give its connections back."""
        if self._engine is not None:
            self._engine.dispose()

    # --- what a plan asks

    def acknowledged(self, destination: str) -> pa.Table:
        """Key, hash, state, in_doubt, is_parked and is_failing of every row of `destination`."""
        import pyarrow as pa

        names = {"key": pa.string(), "hash": pa.string(), "state": pa.string()}
        flags = {name: pa.bool_() for name in ("in_doubt", "is_parked", "is_failing")}
        shape = pa.schema([*names.items(), *flags.items()])
        if self._engine is None:
            return shape.empty_table()
        with self._errors(), self._engine.connect() as connection:
            return pa.concat_tables([shape.empty_table(), *_compared(connection, destination, shape)])

    def payloads(self, destination: str, keys: Sequence[str] | None) -> pa.Table:
        """Key, payload and remote_id of rows of `destination`: those of `keys`, or all."""
        import pyarrow as pa

        shape = pa.schema([("key", pa.string()), ("payload", pa.string()), ("remote_id", pa.string())])
        if self._engine is None:
            return shape.empty_table()
        asked = sa.select(ROWS.c.key, ROWS.c.payload, ROWS.c.remote_id).where(ROWS.c.destination == destination)
        found = [shape.empty_table()]
        with self._errors(), self._engine.connect() as connection:
            for part in _parts(keys):
                some = asked if part is None else asked.where(ROWS.c.key.in_(part))
                result = connection.execution_options(yield_per=20_000).execute(some)
                for chunk in result.partitions():
                    columns = zip(*chunk, strict=True)
                    found.append(pa.table([pa.array(c, pa.string()) for c in columns], schema=shape))
        return pa.concat_tables(found)

    def last_good(self, destination: str) -> LastGood | None:
        """The last run of `destination` that was done."""
        asked = (
            sa.select(RUNS.c.finished_at, RUNS.c.source_published_at, RUNS.c.source_as_of_at)
            .where(RUNS.c.destination == destination, RUNS.c.status.in_(("done", "partial")))
            .order_by(RUNS.c.started_at.desc())
            .limit(1)
        )
        found = self._rows(asked)
        return LastGood(**found[0]) if found else None

    def target(self, destination: str) -> Target | None:
        """What the rows of `destination` are about; None where nothing is bound yet."""
        if self._engine is None or not self._has(TARGETS):
            return None
        found = self._rows(sa.select(TARGETS.c.target).where(TARGETS.c.destination == destination))
        return Target.parse(found[0]["target"]) if found else None

    def _has(self, table: sa.Table) -> bool:
        assert self._engine is not None
        with self._errors():
            return sa.inspect(self._engine).has_table(table.name)

    def bind(self, destination: str, target: Target, *, now: datetime) -> None:
        """Let the rows of `destination` be about `target` from now on."""
        with self._writing() as connection:
            connection.execute(sa.delete(TARGETS).where(TARGETS.c.destination == destination))
            connection.execute(
                sa.insert(TARGETS).values(destination=destination, target=target.text, bound_at=now),
            )

    def unbind(self, destination: str) -> int:
        """Forget the rows of `destination` and what they are about; returns how many rows. What past runs did stays."""
        with self._writing() as connection:
            connection.execute(sa.delete(TARGETS).where(TARGETS.c.destination == destination))
            return connection.execute(sa.delete(ROWS).where(ROWS.c.destination == destination)).rowcount

    # --- a run

    @contextmanager
    def hold(self, destination: str) -> Iterator[None]:
        """Keep other runs of `destination` out, wherever they run: PostgreSQL's advisory lock. SQLite has the home's lock.

        Raises `TenureError` when another run has it.
        """
        if self._engine is None or self._engine.dialect.name != "postgresql":
            yield
            return
        number = zlib.crc32(f"tenure sync {destination}".encode())
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(number))).scalar():
                raise busy(destination)
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(number)))

    def begin(self, run: RunRecord, counts: Mapping[str, int]) -> None:
        """Open a run; one of the same destination that never ended is marked as killed."""
        with self._writing() as connection:
            connection.execute(
                sa.update(RUNS)
                .where(RUNS.c.destination == run.destination, RUNS.c.status == "running")
                .values(
                    status="killed",
                    finished_at=run.started_at,
                    error="The process of this run ended before the run did.",
                )
            )
            connection.execute(
                sa.insert(RUNS).values(
                    run_id=run.run_id,
                    destination=run.destination,
                    connector=run.connector,
                    model=run.model,
                    mode=run.mode,
                    status="running",
                    started_at=run.started_at,
                    source_published_at=run.source_published_at,
                    source_as_of_at=run.source_as_of_at,
                    overrides=json.dumps(list(run.overrides)) if run.overrides else None,
                    options=json.dumps(dict(run.options)) if run.options else None,
                    **counts,
                )
            )

    def note_invalid(self, run: RunRecord, invalid: Sequence[tuple[str | None, str]], *, now: datetime) -> None:
        """Keep why rows were not sent."""
        records = [
            {
                **_nothing(run, now),
                "key": key,
                "operation": "invalid",
                "status": "invalid",
                "error_code": reason.partition(":")[0],
                "error": reason,
            }
            for key, reason in invalid
        ]
        if records:
            with self._writing() as connection:
                connection.execute(sa.insert(CHANGES), records)

    def settle(self, destination: str, *, back: Sequence[str], gone: Sequence[str]) -> None:
        """Forget the failures of rows that need nothing any more: `back` at what the destination has, or `gone`."""
        if not back and not gone:
            return
        with self._writing() as connection:
            for part in _parts(back):
                connection.execute(sa.update(ROWS).where(_are(destination, part or [])).values(**_CLEAN))
            for part in _parts(gone):
                connection.execute(sa.delete(ROWS).where(_are(destination, part or [])))

    def rehash(self, destination: str, hashes: Sequence[tuple[str, str]]) -> None:
        """Keep new hashes of rows that need not be sent."""
        if not hashes:
            return
        one = sa.and_(ROWS.c.destination == destination, ROWS.c.key == sa.bindparam("of_key"))
        with self._writing() as connection:
            connection.execute(
                sa.update(ROWS).where(one).values(hash=sa.bindparam("new_hash")),
                [{"of_key": key, "new_hash": new} for key, new in hashes],
            )

    def intend(self, run: RunRecord, batch: Sequence[PlannedChange]) -> None:
        """Mark the rows of `batch` as in doubt; called before they are sent."""
        records = [
            {
                "destination": run.destination,
                "key": planned.change.key,
                "state": "failed",
                "attempts": 0,
                "in_doubt_run_id": run.run_id,
            }
            for planned in batch
        ]
        with self._writing() as connection:
            # An older doubt stays: it is about another value.
            self._merge(connection, records, in_doubt_run_id=sa.func.coalesce(ROWS.c.in_doubt_run_id, run.run_id))

    def record(
        self,
        run: RunRecord,
        answered: Sequence[tuple[PlannedChange, RowResult]],
        counts: Mapping[str, int],
        *,
        now: datetime,
        max_attempts: int,
        keep_doubt: bool = False,
        unsent: Sequence[str] = (),
        uncertain: Collection[str] = (),
    ) -> None:
        """Keep the answers of a batch and the run's new counts, in one transaction.

        With `keep_doubt` acknowledged rows stay in doubt until `conclude`. `unsent` are keys that were intended, but never
        left: their doubt is taken back. `uncertain` are keys of which an earlier try may have been applied: a rejection does not
        take their doubt away.
        """
        with self._writing() as connection:
            before = self._attempts(
                connection, run.destination, [p.change.key for p, r in answered if r.status != "ok"]
            )
            for names, records in _by_columns(
                _row_record(run, planned, result, now, before.get(planned.change.key, 0), max_attempts, keep_doubt)
                for planned, result in answered
            ):
                self._merge(connection, records, *(n for n in names if n not in ("destination", "key")))
            self._believe(connection, run, [p.change.key for p, r in answered if r.status == "rejected"], uncertain)
            if answered:
                connection.execute(sa.insert(CHANGES), [_change_record(run, p, r, now) for p, r in answered])
            for part in _parts(unsent):
                never = sa.and_(_are(run.destination, part or []), ROWS.c.in_doubt_run_id == run.run_id)
                connection.execute(
                    sa.delete(ROWS).where(never, ROWS.c.state == "failed", ROWS.c.last_attempt_at.is_(None))
                )
                connection.execute(sa.update(ROWS).where(never).values(in_doubt_run_id=None))
            connection.execute(sa.update(RUNS).where(RUNS.c.run_id == run.run_id).values(**counts))

    def conclude(self, run: RunRecord) -> None:
        """What the run delivered became visible as a whole: its acknowledged rows are in doubt no more."""
        with self._writing() as connection:
            connection.execute(
                sa.update(ROWS)
                .where(
                    ROWS.c.destination == run.destination,
                    ROWS.c.in_doubt_run_id == run.run_id,
                    ROWS.c.acknowledged_run_id == run.run_id,
                )
                .values(in_doubt_run_id=None)
            )

    def revoke(self, run: RunRecord) -> None:
        """What the run delivered never became visible: its rows stay in doubt, and are not told as taken."""
        with self._writing() as connection:
            taken = sa.and_(CHANGES.c.run_id == run.run_id, CHANGES.c.status == "ok")
            connection.execute(sa.update(CHANGES).where(taken).values(status="deferred"))

    def end(
        self,
        run: RunRecord,
        status: str,
        counts: Mapping[str, int],
        *,
        error: str | None,
        now: datetime,
        retention_days: int,
    ) -> None:
        """Close a run, and drop changes that are older than `retention_days`."""
        with self._writing() as connection:
            connection.execute(
                sa.update(RUNS)
                .where(RUNS.c.run_id == run.run_id)
                .values(status=status, finished_at=now, error=error, **counts)
            )
            connection.execute(sa.delete(CHANGES).where(CHANGES.c.changed_at < now - timedelta(days=retention_days)))

    # --- what people ask

    def runs(self, destination: str | None = None, *, limit: int = 20) -> list[dict[str, Any]]:
        """The newest runs first."""
        asked = sa.select(RUNS).order_by(RUNS.c.started_at.desc()).limit(limit)
        return self._rows(asked if destination is None else asked.where(RUNS.c.destination == destination))

    def failures(self, destination: str | None = None, *, limit: int = 100) -> list[dict[str, Any]]:
        """Rows that failed when they were last sent, parked ones first."""
        asked = (
            sa.select(
                *(ROWS.c.destination, ROWS.c.key, ROWS.c.attempts, ROWS.c.last_status, ROWS.c.last_error_code),
                *(ROWS.c.last_error, ROWS.c.last_attempt_at, ROWS.c.parked_at),
            )
            .where(_FAILING)
            .order_by(ROWS.c.parked_at.is_(None), ROWS.c.destination, ROWS.c.key)
            .limit(limit)
        )
        return self._rows(asked if destination is None else asked.where(ROWS.c.destination == destination))

    def invalid(self, destination: str | None = None, *, limit: int = 100) -> list[dict[str, Any]]:
        """Rows that the newest run of each destination did not send, since they are not what a destination takes, and why."""
        newest = (
            sa.select(RUNS.c.destination, sa.func.max(RUNS.c.started_at).label("started_at"))
            .where(RUNS.c.status != "guarded")
            .group_by(RUNS.c.destination)
            .subquery()
        )
        asked = (
            sa.select(CHANGES.c.destination, CHANGES.c.key, CHANGES.c.error_code, CHANGES.c.error, CHANGES.c.changed_at)
            .join(RUNS, RUNS.c.run_id == CHANGES.c.run_id)
            .join(newest, sa.and_(newest.c.destination == RUNS.c.destination, newest.c.started_at == RUNS.c.started_at))
            .where(CHANGES.c.status == "invalid")
            .order_by(CHANGES.c.destination, CHANGES.c.key)
            .limit(limit)
        )
        return self._rows(asked if destination is None else asked.where(CHANGES.c.destination == destination))

    def totals(self) -> dict[str, dict[str, int]]:
        """How many rows each destination has, how many fail, are parked, or are in doubt."""
        counted = sa.select(
            ROWS.c.destination,
            sa.func.count().filter(ROWS.c.state == "acknowledged").label("rows"),
            sa.func.count().filter(_FAILING).label("failing"),
            sa.func.count().filter(ROWS.c.parked_at.is_not(None)).label("parked"),
            sa.func.count().filter(ROWS.c.in_doubt_run_id.is_not(None)).label("in_doubt"),
        ).group_by(ROWS.c.destination)
        return {row.pop("destination"): row for row in self._rows(counted)}

    def changes(self, run_id: str, *, limit: int = 100) -> list[dict[str, Any]]:
        """What a run did, failures first."""
        asked = (
            sa.select(CHANGES)
            .where(CHANGES.c.run_id == run_id)
            .order_by(CHANGES.c.status == "ok", CHANGES.c.key)
            .limit(limit)
        )
        return self._rows(asked)

    def release(self, destination: str, keys: Sequence[str] | None = None) -> int:
        """Let parked rows ride again; returns how many."""
        parked = sa.and_(ROWS.c.destination == destination, ROWS.c.parked_at.is_not(None))
        released = 0
        with self._writing() as connection:
            for part in _parts(keys):
                some = parked if part is None else sa.and_(parked, ROWS.c.key.in_(part))
                done = connection.execute(sa.update(ROWS).where(some).values(parked_at=None, attempts=0))
                released += done.rowcount
        return released

    def states(self, destination: str, keys: Sequence[str]) -> dict[str, tuple[str, bool, str | None]]:
        """Of those of `keys` that the ledger knows: the state, whether it is in doubt, and the last error's code."""
        found: dict[str, tuple[str, bool, str | None]] = {}
        for part in _parts(keys):
            asked = sa.select(ROWS.c.key, ROWS.c.state, ROWS.c.in_doubt_run_id, ROWS.c.last_error_code)
            for row in self._rows(asked.where(_are(destination, part or []))):
                found[row["key"]] = row["state"], row["in_doubt_run_id"] is not None, row["last_error_code"]
        return found

    def destinations(self) -> list[str]:
        """All destinations that the ledger has rows of."""
        return [row["destination"] for row in self._rows(sa.select(ROWS.c.destination).distinct())]

    def mentions(self, destination: str, keys: Sequence[str]) -> int:
        """How many rows, changes and options of runs name one of `keys`."""
        if self._engine is None or not keys:
            return 0
        with self._errors(), self._engine.connect() as connection:
            found = 0
            for part in _parts(keys):
                for table in (ROWS, CHANGES):
                    theirs = sa.and_(table.c.destination == destination, table.c.key.in_(part or []))
                    found += int(connection.execute(sa.select(sa.func.count()).where(theirs)).scalar() or 0)
            return found + len(self._runs_of(connection, destination, keys))

    def erase(self, destination: str, keys: Sequence[str]) -> None:
        """Forget rows altogether, and that they were ever sent: they were erased. Bytes that SQLite frees are overwritten."""
        if self._engine is None or not keys:
            return
        with self._writing() as connection:
            if connection.dialect.name == "sqlite":
                connection.execute(sa.text("pragma secure_delete = on"))
            for part in _parts(keys):
                for table in (ROWS, CHANGES):
                    theirs = sa.and_(table.c.destination == destination, table.c.key.in_(part or []))
                    connection.execute(sa.delete(table).where(theirs))
            for run_id, options in self._runs_of(connection, destination, keys):
                connection.execute(sa.update(RUNS).where(RUNS.c.run_id == run_id).values(options=options))

    def _runs_of(
        self, connection: sa.Connection, destination: str, keys: Sequence[str]
    ) -> list[tuple[str, str | None]]:
        """Runs that were asked for one of `keys`, and their options without them."""
        asked = sa.select(RUNS.c.run_id, RUNS.c.options).where(
            RUNS.c.destination == destination, RUNS.c.options.is_not(None)
        )
        found = []
        for row in connection.execute(asked):
            options = json.loads(row.options)
            kept = [key for key in options.get("keys", ()) if key not in keys]
            if len(kept) < len(options.get("keys", ())):
                options["keys"] = kept
                found.append((row.run_id, json.dumps(options) if any(options.values()) else None))
        return found

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Every table in parts, for the published copy."""
        for table in TABLES:
            shape = _arrow_schema(table)
            yield table.name, shape.empty_table()
            if self._engine is None:
                continue
            import pyarrow as pa

            with self._errors(), self._engine.connect() as connection:
                for chunk in connection.execution_options(yield_per=20_000).execute(sa.select(table)).partitions():
                    yield table.name, pa.Table.from_pylist([dict(row._mapping) for row in chunk], schema=shape)

    # --- parts

    def _rows(self, asked: sa.Select[Any]) -> list[dict[str, Any]]:
        if self._engine is None:
            return []
        with self._errors(), self._engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(asked)]

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        if self._engine is None:
            raise Fatal("This ledger was opened for reading.")
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.OperationalError as error:
            # The driver's words, without the statement and its parameters.
            said = " ".join(str(error.orig).split())
            raise Retriable(f"The sync ledger cannot be used: {said}", hint="Check sync.ledger_url.") from None
        except sa.exc.SQLAlchemyError as error:
            said = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())
            raise Fatal(f"The sync ledger refused: {said}") from None

    def _merge(
        self, connection: sa.Connection, records: Sequence[dict[str, Any]], *changed: str, **computed: Any
    ) -> None:
        insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        statement = insert(ROWS)
        values = {**{name: statement.excluded[name] for name in changed}, **computed}
        connection.execute(
            statement.on_conflict_do_update(index_elements=["destination", "key"], set_=values), list(records)
        )

    def _believe(
        self, connection: sa.Connection, run: RunRecord, rejected: Sequence[str], uncertain: Collection[str]
    ) -> None:
        """Rows that the destination refused outright are not in doubt by this run."""
        certain = [key for key in rejected if key not in uncertain]
        for part in _parts(certain):
            ours = sa.and_(_are(run.destination, part or []), ROWS.c.in_doubt_run_id == run.run_id)
            connection.execute(sa.update(ROWS).where(ours).values(in_doubt_run_id=None))

    def _attempts(self, connection: sa.Connection, destination: str, keys: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in _parts(keys):
            asked = sa.select(ROWS.c.key, ROWS.c.attempts).where(_are(destination, part or []))
            found |= {row.key: row.attempts for row in connection.execute(asked)}
        return found


def busy(destination: str, run_id: str | None = None) -> TenureError:
    """Another run works on the same destination."""
    named = f" (run {run_id[:8]})" if run_id else ""
    return TenureError(
        f"Another sync of {destination} is under way{named}; this one leaves it alone.", hint="Wait for it to end."
    )


_CLEAN: dict[str, Any] = {
    "attempts": 0,
    "last_status": "ok",
    "last_error_code": None,
    "last_error": None,
    "parked_at": None,
}


def _sqlite_path(url: str) -> Path | None:
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _engine(url: str) -> sa.Engine:
    if url.startswith("sqlite"):
        engine = sa.create_engine(url, connect_args={"timeout": 60})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        return engine
    scheme, _, rest = url.partition("://")
    if scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise UserError("sync.ledger_url must begin with sqlite:/// or postgresql://.")
    return sa.create_engine(f"postgresql+psycopg://{rest}", connect_args={"connect_timeout": 15})


def _read_only(path: Path) -> sa.Engine:
    """A file that cannot be written to through this engine."""
    return sa.create_engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true", connect_args={"timeout": 60})


def _prepare_sqlite(connection: Any, record: Any) -> None:
    # Readers go on while a batch is committed, and a commit is on the disk when it returns.
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")


def _lacking(engine: sa.Engine) -> dict[sa.Table, list[sa.Column[Any]]]:
    """Columns that a ledger of an older version does not have, by table."""
    inspector = sa.inspect(engine)
    found = {}
    for table in TABLES:
        known = {column["name"] for column in inspector.get_columns(table.name)}
        if lacking := [column for column in table.columns if column.name not in known]:
            found[table] = lacking
    return found


def _bring_up_to_date(engine: sa.Engine) -> None:
    """Add what a ledger of an older version lacks. Columns only ever come; a count that was not kept is 0."""
    lacking = _lacking(engine)
    if not lacking:
        return
    quoted = engine.dialect.identifier_preparer.quote
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Two programs may come at once; the second one waits here, and finds all there.
            connection.execute(sa.text("select pg_advisory_xact_lock(hashtext('tenure ledger'))"))
        if_missing = "if not exists " if engine.dialect.name == "postgresql" else ""
        for table, columns in lacking.items():
            for column in columns:
                kind = column.type.compile(engine.dialect)
                rule = "" if column.nullable else f" not null default {_empty(column)}"
                statement = (
                    f"alter table {quoted(table.name)} add column {if_missing}{quoted(column.name)} {kind}{rule}"
                )
                connection.execute(sa.text(statement))
        for table in lacking:
            for index in table.indexes:
                index.create(connection, checkfirst=True)


def _read_as_if_up_to_date(engine: sa.Engine) -> None:
    """Let a reader see the columns that an older ledger lacks, in views of its own connections; the ledger stays as it is."""
    quoted = engine.dialect.identifier_preparer.quote
    place = quoted(sa.inspect(engine).default_schema_name or "main")
    views = []
    for table, lacking in _lacking(engine).items():
        listed = ", ".join(
            f"cast({'null' if c.nullable else _empty(c)} as {c.type.compile(engine.dialect)}) as {quoted(c.name)}"
            if c in lacking
            else quoted(c.name)
            for c in table.columns
        )
        name = quoted(table.name)
        views.append(f"create temporary view {name} as select {listed} from {place}.{name}")
    if not views:
        return
    engine.dispose()

    @sa.event.listens_for(engine, "connect")
    def add_views(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        for view in views:
            cursor.execute(view)
        cursor.close()
        connection.commit()


def _empty(column: sa.Column[Any]) -> str:
    """What a column that must have a value says of rows from before it was there."""
    return "0" if isinstance(column.type, sa.Integer) else "''"


def _compared(connection: sa.Connection, destination: str, shape: pa.Schema) -> Iterator[pa.Table]:
    """All rows of a destination. Those that need nothing but a comparison, nearly all, come as lines of text, made by the
    database and read by Arrow: a million in 1.4 s instead of 3.2 s. Keys have no control characters: the plan refuses them.
    """
    import pyarrow as pa

    joined: Any = sa.func.string_agg if connection.dialect.name == "postgresql" else sa.func.group_concat
    line = joined(ROWS.c.key + sa.literal("\x1f") + ROWS.c.hash, "\n")
    for first, last in _ranges(connection, destination):
        within = [ROWS.c.destination == destination, ROWS.c.key > first, *([ROWS.c.key <= last] if last else [])]
        text = connection.execute(sa.select(line).where(*within, *_ORDINARY)).scalar()
        if text:
            yield _lines(text, shape)
        others = sa.select(
            ROWS.c.key,
            ROWS.c.hash,
            ROWS.c.state,
            ROWS.c.in_doubt_run_id.is_not(None),
            ROWS.c.parked_at.is_not(None),
            sa.func.coalesce(_FAILING, False),
        ).where(*within, sa.not_(sa.and_(*(sa.func.coalesce(part, False) for part in _ORDINARY))))
        if found := connection.execute(others).all():
            columns = zip(*found, strict=True)
            yield pa.table([pa.array(c, f.type) for c, f in zip(columns, shape, strict=True)], schema=shape)


def _ranges(connection: sa.Connection, destination: str) -> Iterator[tuple[str, str | None]]:
    """Key ranges (first excluded, last included) of so many rows each that a range fits a text."""
    first = ""
    while True:
        last = connection.execute(
            sa.select(ROWS.c.key)
            .where(ROWS.c.destination == destination, ROWS.c.key > first)
            .order_by(ROWS.c.key)
            .limit(1)
            .offset(_READ_AT_ONCE - 1)
        ).scalar()
        yield first, last
        if last is None:
            return
        first = last


def _lines(text: str, shape: pa.Schema) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    table = csv.read_csv(
        io.BytesIO(text.encode()),
        csv.ReadOptions(column_names=["key", "hash"]),
        csv.ParseOptions(delimiter="\x1f", quote_char=False, double_quote=False, ignore_empty_lines=False),
        csv.ConvertOptions(column_types={"key": pa.string(), "hash": pa.string()}, strings_can_be_null=False),
    )
    same: dict[str, Any] = {"state": "acknowledged", "in_doubt": False, "is_parked": False, "is_failing": False}
    for name, value in same.items():
        table = table.append_column(shape.field(name), pa.repeat(pa.scalar(value, shape.field(name).type), len(table)))
    return table.cast(shape)


def _parts(keys: Sequence[str] | None) -> Iterator[Sequence[str] | None]:
    if keys is None:
        yield None
        return
    for begin in range(0, len(keys), _ASKED_AT_ONCE):
        yield keys[begin : begin + _ASKED_AT_ONCE]


def _are(destination: str, keys: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.and_(ROWS.c.destination == destination, ROWS.c.key.in_(keys))


def _row_record(
    run: RunRecord,
    planned: PlannedChange,
    result: RowResult,
    now: datetime,
    attempts: int,
    max_attempts: int,
    keep_doubt: bool,
) -> dict[str, Any]:
    """What the ledger knows of a row after an answer. A row of unknown effect stays in doubt."""
    place = {"destination": run.destination, "key": planned.change.key, "last_attempt_at": now}
    if result.status == "ok":
        is_retired = planned.change.operation == "retire"
        return {
            **place,
            **_CLEAN,
            "state": "retired" if is_retired else "acknowledged",
            "hash": planned.hash,
            "payload": None if is_retired else json.dumps({**planned.old, **planned.new}, ensure_ascii=False),
            "remote_id": result.remote_id or planned.change.remote_id,
            "acknowledged_at": now,
            "acknowledged_run_id": run.run_id,
            "in_doubt_run_id": run.run_id if keep_doubt else None,
            "last_status": "ok",
        }
    counts = attempts + (result.error_code != UNREACHABLE)
    return {
        **place,
        "state": "failed",
        "attempts": counts,
        "last_status": result.status,
        "last_error_code": result.error_code,
        "last_error": result.error,
        "parked_at": now if counts >= max_attempts else None,
    }


def _by_columns(records: Iterator[dict[str, Any]]) -> Iterator[tuple[Sequence[str], list[dict[str, Any]]]]:
    """Records with the same columns together; those of failures leave what was acknowledged as it is."""
    ok: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for record in records:
        (ok if "payload" in record else failed).append(record)
    if ok:
        yield list(ok[0]), ok
    if failed:
        # The state of a row that is there stays: `failed` is for rows that the destination never took.
        yield [name for name in failed[0] if name != "state"], failed


def _nothing(run: RunRecord, now: datetime) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "destination": run.destination,
        **dict.fromkeys(("http_status", "error_code", "error", "request_id", "old_values", "new_values")),
        "changed_at": now,
    }


def _change_record(run: RunRecord, planned: PlannedChange, result: RowResult, now: datetime) -> dict[str, Any]:
    differing = planned.differing
    return {
        **_nothing(run, now),
        "key": planned.change.key,
        "operation": planned.change.operation,
        "status": result.status,
        "http_status": result.http_status,
        "error_code": result.error_code,
        "error": result.error,
        "request_id": result.request_id,
        "old_values": json.dumps({name: old for name, (old, _) in differing.items()}, ensure_ascii=False),
        "new_values": json.dumps({name: new for name, (_, new) in differing.items()}, ensure_ascii=False),
    }


def _arrow_schema(table: sa.Table) -> pa.Schema:
    import pyarrow as pa

    kinds = {sa.Text: pa.string(), sa.BigInteger: pa.int64(), sa.Integer: pa.int64(), sa.DateTime: pa.timestamp("us")}
    return pa.schema([(column.name, kinds[type(column.type)]) for column in table.columns])
