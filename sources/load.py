"""Loading: one stream, one transaction, and every row accounted for.

Lives here: checking rows against the contract, quarantine, the upsert on the contract's key, the release of rows whose
account has turned up. Must not live here: reading files or databases (the connectors), SQL of the models.

A row that was read is inserted, updated, unchanged, superseded (an older version of a row with the same key) or
quarantined; the five add up to the rows read. The stream's files or cursor are remembered in the same transaction, so
that a kill at any point leaves either all of it or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.errors import Fatal, Retriable, TenureError
from core.settings import Tenure
from core.warehouse import Connection, identifier, literal, scalar, transaction
from sources import ledger
from sources.base import Chunk, FileVersion, Stream, StreamId
from sources.ledger import LoadReport
from sources.mapping import Mapped, compile_mapping


@dataclass
class _Counts:
    files: int = 0
    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    quarantined: int = 0
    released: int = 0


def load_stream(
    connection: Connection,
    stream: Stream,
    tenure: Tenure,
    *,
    now: datetime,
    run_id: str,
    full: bool = False,
    last_attempt: bool = True,
) -> LoadReport:
    """Load what is new in `stream` and record the outcome.

    A broken input (`Fatal`) is recorded as status `stopped`, with its message, and leaves the tables as they were.
    Raises `Retriable` when the input may be there a moment later, unless this is the `last_attempt`, which stops the stream.
    """
    loader = _Loader(connection, stream, tenure, now=now, run_id=run_id)
    try:
        with transaction(connection):
            loader.load(full=full)
            report = loader.report(finished_at=now)
            ledger.record(connection, report)
        return report
    except (Fatal, Retriable) as error:
        if isinstance(error, Retriable) and not last_attempt:
            raise
        message = error.message if error.hint is None else f"{error.message} {error.hint}"
        loader.counts = _Counts()
        report = loader.report(finished_at=now, stopped=message)
        ledger.record(connection, report)
        return report
    finally:
        connection.execute("drop table if exists temp.batch; drop table if exists temp.accounts_known")


class _Loader:
    """The state of one stream's load: its counts, and the moment that is stamped on its rows."""

    def __init__(self, connection: Connection, stream: Stream, tenure: Tenure, *, now: datetime, run_id: str) -> None:
        self.connection = connection
        self.stream = stream
        self.id: StreamId = stream.id
        self.entity = stream.id.entity
        self.tenure = tenure
        self.now = now
        self.run_id = run_id
        self.counts = _Counts()
        self.table = f"{self.id.raw_schema}.{self.id.entity_name}"
        self.mine = f"_source = {literal(self.id.source)} and _stream = {literal(self.id.stream)}"

    def load(self, *, full: bool) -> None:
        self._note_known_accounts()
        if full:
            self._forget_rows("true")
            self.connection.execute(f"delete from quarantine.{self.entity.name} where {self.mine}")
        files: list[FileVersion] = []
        known = ledger.known_files(self.connection, self.id)
        for chunk in self.stream.chunks(self.connection, full=full):
            again = [file.path for file in chunk.files if file.path in known]
            self._replace_files(again)
            self._load_chunk(chunk)
            files.extend(chunk.files)
        self._release()
        self.counts.files = len(files)
        ledger.remember_files(self.connection, self.id, files, self.now, self.run_id)
        ledger.save_cursor(self.connection, self.id, self.stream.cursor(), self.now, self.run_id)

    def report(self, *, finished_at: datetime, stopped: str | None = None) -> LoadReport:
        c = self.counts
        moved = c.read or c.released or c.files
        return LoadReport(
            run_id=self.run_id,
            source=self.id.source,
            stream=self.id.stream,
            connector=self.id.connector,
            entity=self.id.entity_name,
            status="stopped" if stopped else "loaded" if moved else "unchanged",
            message=stopped,
            files=c.files,
            rows_read=c.read,
            rows_inserted=c.inserted,
            rows_updated=c.updated,
            rows_unchanged=c.unchanged,
            rows_superseded=c.superseded,
            rows_quarantined=c.quarantined,
            rows_released=c.released,
            cursor=self.stream.cursor() if not stopped else None,
            started_at=self.now,
            finished_at=finished_at,
        )

    # --- what a row is checked against -------------------------------------------------------------------------

    @property
    def _checks_accounts(self) -> bool:
        return self.entity.name != "accounts" and any(
            stream.entity == "accounts"
            for stream in self.tenure.config.sources[self.id.account_source].streams.values()
        )

    @property
    def _known_account(self) -> tuple[str, str]:
        """SQL over rows `r`: whether the account is known, and the join that it needs."""
        if not self._checks_accounts:
            return "true", ""
        return "k.account_id is not null", "left join temp.accounts_known as k on k.account_id = r.account_id"

    def _note_known_accounts(self) -> None:
        if not self._checks_accounts:
            return
        connector = self.tenure.config.sources[self.id.account_source].connector
        self.connection.execute(
            f"create or replace temp table accounts_known as select distinct account_id from raw_{connector}.accounts"
            f" where _source = {literal(self.id.account_source)}"
        )

    # --- one chunk ---------------------------------------------------------------------------------------------

    def _load_chunk(self, chunk: Chunk) -> None:
        mapped = compile_mapping(
            self.connection,
            self.id,
            self.stream.config,
            chunk,
            now=self.now,
            derived_accounts=self.tenure.config.identity.derive_accounts,
        )
        self._read(chunk, mapped)
        bad = self._count("batch", "_fault is not null or not _account_known")
        if bad:
            self._quarantine(chunk, mapped, bad)
            self.connection.execute("delete from temp.batch where _fault is not null or not _account_known")
        if chunk.rejects is not None:
            self._quarantine_rejects(chunk.rejects)
        self._upsert()

    def _read(self, chunk: Chunk, mapped: Mapped) -> None:
        # Without this, DuckDB would share the failing part of `try(x)` and `try(x is null)` outside of both.
        self.connection.execute("set disabled_optimizers = 'common_subexpressions'")
        known, join = self._known_account
        selected = ", ".join(f"r.{identifier(name)}" for name in self.entity.column_names)
        try:
            self.connection.execute(
                f"create or replace temp table batch as select {selected}, _file, _fault, {known} as _account_known"
                f" from ({mapped.rows(chunk.relation, numbered=False)}) as r {join}"
            )
        except TenureError:
            raise
        except Exception as error:
            raise self._explain(chunk, error) from error
        finally:
            self.connection.execute("reset disabled_optimizers")
        self.counts.read += self._count("batch", "true")

    def _explain(self, chunk: Chunk, error: Exception) -> Exception:
        first = " ".join(str(error).split("\n")[0].split())
        origin = chunk.files[0].path if len(chunk.files) == 1 else f"one of {len(chunk.files)} files"
        for file in chunk.files:
            if file.path in str(error):
                origin = file.path
        return Fatal(f"{self.id.label}: {origin} cannot be read: {first}")

    def _quarantine(self, chunk: Chunk, mapped: Mapped, expected: int) -> None:
        """Write the bad rows with their line numbers: a second read, paid only when there are bad rows."""
        known, join = self._known_account
        given = ", ".join(
            f"coalesce(cast({identifier(name)} as varchar), _given_{name})" for name in self.entity.column_names
        )
        codes = " ".join(f"when {n} then {literal(f.code)}" for n, f in enumerate(mapped.faults, start=1))
        details = " ".join(f"when {n} then {f.detail}" for n, f in enumerate(mapped.faults, start=1))
        unknown = (
            literal(f"account_id is not among the accounts of {self.id.account_source}: ")
            + " || coalesce(account_id, '')"
        )
        self.connection.execute("set disabled_optimizers = 'common_subexpressions'")
        try:
            inserted = self.connection.execute(
                f"insert into quarantine.{self.entity.name}"
                f" select {given}, {literal(self.id.source)}, {literal(self.id.stream)}, {literal(self.id.account_source)}, _file, _row,"
                f" case _fault {codes} else 'unknown_account' end, case _fault {details} else {unknown} end, ?, ?"
                f" from (select r.*, {known} as _account_known from ({mapped.rows(chunk.ordered_relation, numbered=True)}) as r {join})"
                " where _fault is not null or not _account_known",
                [self.now, self.run_id],
            ).fetchone()
        finally:
            self.connection.execute("reset disabled_optimizers")
        written = int(inserted[0]) if inserted else 0
        if written != expected:
            raise Fatal(
                f"{self.id.label}: {expected} broken rows were counted but {written} were written; a file changed while it was read.",
                hint="Run again.",
            )
        self.counts.quarantined += written

    def _quarantine_rejects(self, rejects: str) -> None:
        empty = ", ".join("null" for _ in self.entity.column_names)
        inserted = self.connection.execute(
            f"insert into quarantine.{self.entity.name}"
            f" select {empty}, {literal(self.id.source)}, {literal(self.id.stream)}, {literal(self.id.account_source)},"
            f" _file, _row, 'malformed_row', detail, ?, ? from {rejects}",
            [self.now, self.run_id],
        ).fetchone()
        written = int(inserted[0]) if inserted else 0
        self.counts.read += written
        self.counts.quarantined += written

    # --- the upsert --------------------------------------------------------------------------------------------

    def _upsert(self) -> None:
        if self.entity.key_is_optional and self.entity.key not in self.stream.config.columns:
            self._insert("temp.batch")
            return
        self._keep_latest_of_batch()
        if scalar(self.connection, f"select 1 from {self.table} where {self.mine} limit 1"):
            self._settle_with_existing()
        self._insert("temp.batch")

    def _newest_first(self, alias: str = "") -> str:
        version = [f"{alias}updated_at desc nulls last"] if "updated_at" in self.entity.column_names else []
        content = [f"{alias}{identifier(name)} desc nulls last" for name in self.entity.column_names]
        return ", ".join([*version, f"{alias}_file desc", *content])

    def _keep_latest_of_batch(self) -> None:
        """Of rows with one key keep the latest by `updated_at`, then by file name. Keys are grouped by hash first: few repeat."""
        key = identifier(self.entity.key)
        self.connection.execute(
            f"create or replace temp table repeated as select {key} as key from temp.batch where hash({key}) in"
            f" (select h from (select hash({key}) as h from temp.batch) group by h having count(*) > 1)"
            f" group by {key} having count(*) > 1"
        )
        if not scalar(self.connection, "select 1 from temp.repeated limit 1"):
            return
        removed = self.connection.execute(
            "delete from temp.batch where rowid in (select id from (select rowid as id, row_number() over ("
            f" partition by {key} order by {self._newest_first()}) as n from temp.batch"
            f" where {key} in (select key from temp.repeated)) where n > 1)"
        ).fetchone()
        self.counts.superseded += int(removed[0]) if removed else 0

    def _settle_with_existing(self) -> None:
        """Take out of the batch what is unchanged or older than the loaded row; take out of the table what the batch renews."""
        key = identifier(self.entity.key)
        same = " and ".join(
            f"b.{identifier(n)} is not distinct from e.{identifier(n)}" for n in self.entity.column_names
        )
        older = "b.updated_at < e.updated_at" if "updated_at" in self.entity.column_names else "false"
        self.connection.execute(
            f"create or replace temp table settled as select b.rowid as batch_row, e.rowid as table_row,"
            f" case when {same} then 'unchanged' when {older} then 'superseded' else 'updated' end as outcome"
            f" from temp.batch as b join {self.table} as e on e.{key} = b.{key} and e.{self.mine.replace(' and ', ' and e.')}"
        )
        self.counts.unchanged += self._count("settled", "outcome = 'unchanged'")
        self.counts.superseded += self._count("settled", "outcome = 'superseded'")
        updated = self._count("settled", "outcome = 'updated'")
        self.counts.updated += updated
        self.counts.inserted -= updated  # they are inserted anew below, but count as updated
        if updated:
            self._forget_rows("rowid in (select table_row from temp.settled where outcome = 'updated')")
        self.connection.execute(
            "delete from temp.batch where rowid in (select batch_row from temp.settled where outcome <> 'updated')"
        )

    def _insert(self, relation: str) -> None:
        columns = ", ".join(identifier(name) for name in self.entity.column_names)
        inserted = self.connection.execute(
            f"insert into {self.table} by name select {columns}, {literal(self.id.source)} as _source,"
            f" {literal(self.id.stream)} as _stream, {literal(self.id.account_source)} as _account_source, _file,"
            f" cast(? as timestamp) as _loaded_at, cast(? as varchar) as _run_id from {relation}",
            [self.now, self.run_id],
        ).fetchone()
        self.counts.inserted += int(inserted[0]) if inserted else 0

    # --- rows that go away -------------------------------------------------------------------------------------

    def _forget_rows(self, condition: str) -> None:
        """Delete rows of this stream; days of usage that lose rows are noted, so that the models restate them."""
        where = f"{self.mine} and {condition}"
        if self.entity.name == "usage_events":
            self.connection.execute(
                f"insert into ledger.restated_days select distinct _source, _account_source, account_id,"
                f" cast(occurred_at as date), cast(? as timestamp) from {self.table} where {where}",
                [self.now],
            )
        self.connection.execute(f"delete from {self.table} where {where}")

    def _replace_files(self, paths: list[str]) -> None:
        """A file that changed: its quarantined rows are judged anew, and rows without keys are replaced."""
        if not paths:
            return
        listed = f"_file in ({', '.join(literal(path) for path in paths)})"
        self.connection.execute(f"delete from quarantine.{self.entity.name} where {self.mine} and {listed}")
        if self.entity.key_is_optional and self.entity.key not in self.stream.config.columns:
            self._forget_rows(listed)

    def _release(self) -> None:
        """Load rows that waited in quarantine for an account that is known by now."""
        if not self._checks_accounts:
            return
        waiting = (
            f"from quarantine.{self.entity.name} where {self.mine} and _reason = 'unknown_account'"
            " and account_id in (select account_id from temp.accounts_known)"
        )
        if not scalar(self.connection, f"select 1 {waiting} limit 1"):
            return
        columns = ", ".join(
            f"try_cast({identifier(column.name)} as {column.sql_type}) as {identifier(column.name)}"
            for column in self.entity.columns
        )
        before = self.counts.inserted + self.counts.updated + self.counts.unchanged + self.counts.superseded
        self.connection.execute(f"create or replace temp table batch as select {columns}, _file {waiting}")
        self.connection.execute(f"delete {waiting}")
        kept = _Counts(**vars(self.counts))
        self._upsert()
        after = self.counts.inserted + self.counts.updated + self.counts.unchanged + self.counts.superseded
        kept.released = after - before
        self.counts = kept

    def _count(self, table: str, condition: str) -> int:
        return int(scalar(self.connection, f"select count(*) from temp.{table} where {condition}"))
