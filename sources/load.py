"""Loading: one stream, and every row accounted for.

Lives here: the order of what is done with the rows of a stream, which of them are good, the upsert on the contract's key, and the
counts. Must not live here: reading files or databases (the connectors), what is noted of broken rows (`quarantine.py`), what rows wait
for (`waiting.py`), which version of a row stands (`versions.py`), who users are (`users.py`), SQL of the models.

A row that was read is inserted, updated, unchanged, superseded (an older version of a row with the same key),
quarantined or suppressed (of an erased account or person), or says that a row is gone, which is then deleted; the seven add up to the
rows read. The stream's files or cursor
are remembered in the same transaction, so that a kill at any point leaves either all of it or nothing. A stream that comes in
stretches has a transaction for each.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime

from core import suppression
from core.currency import BY_CURRENCY
from core.errors import Fatal, Retriable, in_short, says_full
from core.http import tell
from core.settings import Tenure
from core.warehouse import Connection, Error, Interrupted, identifier, literal, rows, scalar, transaction
from sources import ledger, numbers, origins, periods, quarantine, users, versions, waiting
from sources.base import Chunk, Drift, Stream, StreamId
from sources.faults import disordered
from sources.ledger import LoadReport
from sources.mapping import Mapped, compile_mapping, effective_columns, only, texts_of_numbers
from sources.numbers import Evidence
from sources.quarantine import Quarantine
from sources.suppressed import Suppressed
from sources.users import USER_COLUMNS, Users
from sources.versions import RENEWED, Versions
from sources.waiting import Waiting

_LOG = logging.getLogger(__name__)
_TEMPORARY = ("batch", "broken", "doubtful", "gone")
_OF_ANY_ORIGIN = ("files", "database")
"""Connectors whose texts may be written in any way. Vendors' numbers have a decimal point."""
_BAD = "_fault is not null or _waits is not null"


@dataclass(frozen=True)
class _Counts:
    files: int = 0
    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    quarantined: int = 0
    suppressed: int = 0
    deleted: int = 0
    ended: int = 0
    released: int = 0
    reassigned: int = 0
    withdrawn: int = 0


def prepare(connection: Connection) -> None:
    """Set what every load needs. It holds for all connections to the database, so it comes before streams are loaded side by
    side, and stays."""
    # Else DuckDB would share the failing part of `try(x)` and `try(x is null)` outside of both.
    wanted = "common_subexpressions"
    if scalar(connection, "select current_setting('disabled_optimizers')") != wanted:
        connection.execute(f"set disabled_optimizers = {literal(wanted)}")


def load_stream(
    connection: Connection,
    stream: Stream,
    tenure: Tenure,
    *,
    now: datetime,
    run_id: str,
    full: bool = False,
    last_attempt: bool = True,
    sample_rows: int | None = None,
) -> LoadReport:
    """Load what is new in `stream` (with `full`, everything anew) and record the outcome.

    A broken input (`Fatal`), or one that nobody thought of (any other exception), is recorded as status `stopped`, with its message,
    and leaves the tables as they were before its last stretch.
    With `sample_rows`, only about so many rows are read: for a look at a source, in a scratch database.
    Raises `Retriable` when the input may be there a moment later, unless this is the `last_attempt`, or the other side has said
    when to come back: both stop the stream.
    """
    loader = _Loader(connection, stream, tenure, now=now, run_id=run_id)
    prepare(connection)
    begun = False
    try:
        while True:
            with transaction(connection):
                if not begun:
                    loader.begin(full=full)
                loader.load(full=full and not begun, sample_rows=sample_rows)
                report = loader.report(finished_at=now)
                ledger.record(connection, report)
            if not stream.progress().has_more:
                return report
            loader.committed, begun = loader.counts, True
    except (Fatal, Retriable) as error:
        if isinstance(error, Retriable) and error.retry_after is None and not last_attempt:
            raise
        return loader.stop(str(error))
    except Interrupted:
        raise
    except Exception as error:
        # One input that nobody thought of must not keep all others from being loaded. A disk that is full keeps them all.
        if says_full(str(error)):
            raise
        _LOG.debug("%s stopped", stream.id.label, exc_info=True)
        said = tell(in_short(error), *tenure.config.sources[stream.id.source].secrets)
        return loader.stop(f"{stream.id.label}: {loader.reading} cannot be read: {said}")
    finally:
        made = (periods.TEMPORARY, quarantine.TEMPORARY, users.TEMPORARY, versions.TEMPORARY, waiting.TEMPORARY)
        for name in (*_TEMPORARY, *(name for names in made for name in names)):
            connection.execute(f"drop table if exists temp.{name}")


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
        self.counts = self.committed = _Counts()
        self.drift: list[Drift] = []
        self.table = self.id.table
        self.key = identifier(self.entity.key)
        says = self.entity.user is not None and "memberships" in tenure.config.sources[self.id.source].entities
        self.users = Users(connection, self.id, now=now, run_id=run_id) if says else None
        noted = ("_unread", *(USER_COLUMNS if says else ()), *(BY_CURRENCY if self.entity.has_currency else ()))
        content = [identifier(name) for name in (*self.entity.column_names, *noted)]
        self.names = ", ".join(content)
        self.quarantine = Quarantine(connection, stream, self.users, now=now, run_id=run_id)
        self.waiting = Waiting(connection, self.id, tenure.config, self.users)
        self.suppressed = Suppressed(suppression.load(tenure.home), self.id, tenure.config.precedence)
        self.versions = Versions(connection, stream, content, self.users, now=now)
        self.has_key = self.entity.key in effective_columns(self.entity, stream.config)
        self.is_first = self.is_full = False
        self.moves_made = 0
        self.inserted_at_once = 0
        self.may_repeat = False
        self.has_items = False
        self.itemless = 0
        self.outdated: list[str] = []
        self.files: list[str] = []

    def begin(self, *, full: bool) -> None:
        """What is done once, before the first stretch: accounts and users are loaded by then, and stay as they are."""
        self.is_full = full
        before = origins.moved_from(self.connection, self.tenure.config, self.id)
        if before is not None and not full:
            raise origins.refusal(self.tenure.config, self.id, before)
        if not full:
            self.waiting.check_currency()
        ledger.note_origin(self.connection, self.id, self.tenure.config.sources[self.id.source].origin, self.now)
        self.waiting.note_known()
        if self.users is not None:
            self.users.note_known()
        if full:
            keeps_ended = self.stream.config.periods and before is None
            self._forget_rows(f"not {periods.are_over(self.now)}" if keeps_ended else "true")
            self.connection.execute(f"delete from {self.id.quarantine} where {self.id.mine()}")
            ledger.forget_files(self.connection, self.id, sorted(ledger.known_files(self.connection, self.id)))
            ledger.forget_marks(self.connection, self.id)
        reading = self.stream.config.reading
        self.outdated = ledger.changed_mapping(
            self.connection, self.id, reading, self.now, is_anew=full or self._has_nothing()
        )
        ledger.note_columns(self.connection, self.id, self.stream.config.filled_columns)
        self._reassign()

    def _has_nothing(self) -> bool:
        """Whether no row of the stream was ever read, good or bad."""
        return not any(
            scalar(self.connection, f"select 1 from {table} where {self.id.mine()} limit 1")
            for table in (self.table, self.id.quarantine)
        )

    def load(self, *, full: bool, sample_rows: int | None) -> None:
        """Load a stretch."""
        self.inserted_at_once, self.may_repeat = 0, False
        self.has_items, self.itemless = not self.stream.config.unnest, 0
        self.moves_made = 0
        self.is_first = self._has_nothing()
        read = 0
        with closing(self.stream.chunks(self.connection, full=full, sample_rows=sample_rows)) as chunks:
            for chunk in chunks:
                self._move_files()
                self._load_chunk(chunk)
                read += len(chunk.files)
        if self.itemless and not self.has_items:
            raise Fatal(
                f"{self.id.label}: `unnest` finds no item in any of {self.itemless} records: {self.stream.config.unnest}",
                hint="Look at a record: is the list there, under this name, and is it a list?",
            )
        self._add(files=read, **self.quarantine.forget_doubted())
        if self.may_repeat:
            removed = self.versions.keep_latest(self.table)
            self._add(inserted=-removed, superseded=removed)
            self._add(inserted=-self._quarantine_disordered(self.table))
        if self.is_first and self.has_key:
            self._add(**self.quarantine.forget_older())
        self._release()
        progress = self.stream.progress()
        if progress.fields is not None:
            self.drift += ledger.note_fields(self.connection, self.id, progress, self.now, self.run_id)
        self._move_files()
        ledger.remember_files(self.connection, self.id, progress.files, self.now, self.run_id)
        ledger.save_cursor(self.connection, self.id, progress.cursor, self.now, self.run_id)

    def report(self, *, finished_at: datetime, stopped: str | None = None) -> LoadReport:
        c = self.counts
        read = c.files or c.inserted or c.updated or c.quarantined or c.suppressed or c.deleted
        moved = read or c.released or c.reassigned or c.withdrawn
        progress = self.stream.progress()
        return LoadReport(
            run_id=self.run_id,
            source=self.id.source,
            stream=self.id.stream,
            connector=self.id.connector,
            entity=self.id.entity_name,
            status="stopped" if stopped else "loaded" if moved else "unchanged",
            message=stopped or " ".join(filter(None, (self._outdated, *progress.warnings))) or None,
            files=c.files,
            rows_read=c.read,
            rows_inserted=c.inserted,
            rows_updated=c.updated,
            rows_unchanged=c.unchanged,
            rows_superseded=c.superseded,
            rows_quarantined=c.quarantined,
            rows_suppressed=c.suppressed,
            rows_deleted=c.deleted,
            rows_ended=c.ended,
            rows_released=c.released,
            rows_reassigned=c.reassigned,
            rows_withdrawn=c.withdrawn,
            values_unread=self._values_unread(),
            cursor=None if stopped else progress.cursor,
            requests=progress.requests,
            quota=progress.quota,
            drift="; ".join(found.sentence for found in self.drift) or None,
            started_at=self.now,
            finished_at=finished_at,
        )

    def _values_unread(self) -> int:
        """How many values of the rows that this load has written could not be read."""
        asked = f"select sum(json_array_length(_unread)) from {self.table} where {self.id.mine()}"
        return int(scalar(self.connection, f"{asked} and _unread is not null and _loaded_at = ?", [self.now]) or 0)

    def stop(self, message: str) -> LoadReport:
        """Record that the stream stopped, with the counts of what was committed."""
        self.counts = self.committed
        report = self.report(finished_at=self.now, stopped=message)
        ledger.record(self.connection, report)
        return report

    @property
    def _outdated(self) -> str | None:
        """What was loaded otherwise than the mapping says now, in words."""
        if not self.outdated:
            return None
        shown = ", ".join(self.outdated[:5]) + (" and others" if len(self.outdated) > 5 else "")
        again = f"`tenure run --full {self.id.label}` reads the stream again: the mapping of {shown} has changed since rows were loaded"
        if {self.entity.key, "primary_key"} & set(self.outdated):
            return (
                f"{again}. With another key, what was loaded before stays beside what is read now, twice, until then."
            )
        return f"{again}, which stay as they were."

    @property
    def _origin(self) -> str:
        return self.stream.config.table or self.id.stream

    @property
    def reading(self) -> str:
        """What is being read, for messages."""
        if not self.files:
            return self._origin
        others = f" or one of {len(self.files) - 1} others" if len(self.files) > 1 else ""
        return self.files[0] + others

    def _add(self, **counted: int) -> None:
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + n for name, n in counted.items()})

    def _judged(self, mapped: Mapped, relation: str, *, numbered: bool) -> str:
        """SQL of the mapped rows with `_waits`, without what was erased."""
        return self.suppressed.applied(self.waiting.checked(f"({mapped.rows(relation, numbered=numbered)})"))

    # --- one chunk ---------------------------------------------------------------------------------------------

    def _load_chunk(self, chunk: Chunk) -> None:
        if self.stream.config.where:
            chunk = only(self.connection, self.id, chunk, self.stream.config.where)
        mapped = compile_mapping(
            self.connection,
            self.id,
            self.stream.config,
            chunk,
            now=self.now,
            earliest=self.tenure.config.quality.earliest,
            evidence=self._evidence(chunk),
            derived_accounts=self.tenure.config.identity.derive_accounts,
            by_user=self.users is not None,
        )
        if self.stream.config.join:
            self._check_join(chunk, mapped.joined)
        if self.is_first and not self.has_items:
            self._look_for_items(chunk, mapped)
        if not self.is_first:
            self._merge(chunk, mapped)
        elif chunk.is_text and chunk.counted is not None:
            self._insert_small(chunk, mapped, chunk.counted)
        else:
            self._insert_at_once(chunk, mapped)
        if chunk.rejects is not None:
            rejected = self.quarantine.add_rejects(chunk.rejects)
            self._add(read=rejected, quarantined=rejected)
        self._add(read=chunk.superseded, superseded=chunk.superseded)
        if chunk.gone is not None:
            self._forget_gone(chunk.gone, mapped)

    def _evidence(self, chunk: Chunk) -> dict[str, Evidence]:
        """How the numbers in the chunk's texts are written, by what it and earlier deliveries show, where the stream does not say."""
        if numbers.is_set(self.stream.config) or self.id.connector not in _OF_ANY_ORIGIN:
            return {}
        texts = texts_of_numbers(self.connection, self.entity, self.stream.config, chunk)
        try:
            seen = numbers.look(self.connection, chunk.relation, texts)
        except Error as error:
            raise self._cannot_be_read(chunk, error) from error
        known = ledger.known_marks(self.connection, self.id)
        found = {name: one.joined(known.get(name, Evidence())) for name, one in seen.items()}
        news = {
            name: one
            for name, one in found.items()
            if (one.point is None, one.comma is None)
            != ((before := known.get(name, Evidence())).point is None, before.comma is None)
        }
        ledger.note_marks(self.connection, self.id, news)
        return found

    def _insert_small(self, chunk: Chunk, mapped: Mapped, counted: str) -> None:
        """Into a table that has nothing of this stream, by way of temp.batch, so that the text is parsed only once."""
        taken, broken = self._take_apart(chunk, mapped, counted)
        self._add(read=taken + broken, quarantined=broken)
        if self.has_key:
            self._add(superseded=self.versions.keep_latest("temp.batch"))
            self._quarantine_disordered("temp.batch")
        self._add(inserted=self._insert_batch())
        self._note_insertion(is_settled=True)

    def _insert_at_once(self, chunk: Chunk, mapped: Mapped) -> None:
        """Into a table that has nothing of this stream: no intermediate table.

        For 10 million events this takes half the time: DuckDB scans a table of the running transaction with one thread,
        and keeps one that was dropped until the transaction ends.
        Where reading twice is cheap, rows with repeated keys are set aside and settled first: deleting them from rows that
        are not committed yet makes DuckDB write all of them once more (for 2 million events 1.3 s instead of 0.02 s). The
        same reading takes the broken rows.
        """
        judged = self._judged(mapped, chunk.relation, numbered=False)
        # What text files hold is only known once it is read: DuckDB does not see broken encoding in what it need not read.
        known = (
            None if chunk.is_text else scalar(self.connection, f"select count(*) from {mapped.source(chunk.relation)}")
        )
        aside, broken, once, repeated = 0, 0, "", "false"
        if self.has_key and not chunk.is_text and self._may_repeat_within(mapped, chunk):
            repeated = f"hash({self.key}) in (select h from temp.doubtful)"
            once = f" and not ({repeated})"
        if chunk.counted is not None:
            aside, broken = self._take_apart(chunk, mapped, chunk.counted, where=f"{_BAD} or {repeated}")
        elif once:
            aside = self._read(
                chunk,
                f"create or replace temp table batch as select {self.names}, _file from {judged}"
                f" where not ({_BAD}) and {repeated}",
            )
        inserted = self._read(
            chunk,
            f"insert into {self.table} by name select {self.names}, {self.id.stamps}, _file,"
            " cast(? as timestamp) as _loaded_at, cast(? as varchar) as _run_id"
            f" from {judged} where not ({_BAD}){once}",
            [self.now, self.run_id],
        )
        self._note_insertion(is_settled=not chunk.is_text)
        if chunk.counted is None and known != inserted + aside:
            broken = self._look_for_broken(chunk, mapped, self._origins_of_broken(chunk, judged))
            self._quarantine_broken()
        if known is not None and known != inserted + aside + broken:
            raise self._changed(known - inserted - aside, broken)
        self._add(read=inserted + aside + broken, inserted=inserted, quarantined=broken)
        if aside:
            self._add(superseded=self.versions.keep_latest("temp.batch"))
            self._quarantine_disordered("temp.batch")
            self._add(inserted=self._insert_batch())

    def _may_repeat_within(self, mapped: Mapped, chunk: Chunk) -> bool:
        """Put the hashes that keys of the chunk share into temp.doubtful; whether there are any."""
        # Two keys that happen to share a hash are set aside for nothing. In return keys, larger than hashes, are read once.
        self.connection.execute(
            f"create or replace temp table doubtful as select hash({mapped.typed(self.entity.key)}) as h"
            f" from {mapped.source(chunk.relation)} group by h having count(*) > 1"
        )
        return bool(scalar(self.connection, "select 1 from temp.doubtful limit 1"))

    def _note_insertion(self, *, is_settled: bool) -> None:
        """Rows of one key may stand in the table twice, unless all came in one chunk that was settled before."""
        self.inserted_at_once += 1
        self.may_repeat = self.has_key and (not is_settled or self.inserted_at_once > 1)

    def _merge(self, chunk: Chunk, mapped: Mapped) -> None:
        if chunk.counted is not None:
            taken, broken = self._take_apart(chunk, mapped, chunk.counted)
            self._add(read=taken + broken, quarantined=broken)
        else:
            broken = self._read_twice(chunk, mapped)
        if self.has_key:
            again = self.quarantine.forget_read_again(any_broken=broken > 0, is_whole=not chunk.files)
            self._add(**again)
        if self.has_key:
            self._add(**self.quarantine.forget_withdrawn())
        self._upsert()

    def _take_apart(self, chunk: Chunk, mapped: Mapped, counted: str, where: str = "true") -> tuple[int, int]:
        """Put the good rows of `counted` that are `where` into temp.batch, and quarantine the broken ones; how many of each."""
        judged = self._judged(mapped, counted, numbered=True)
        given = ", ".join(
            [
                *mapped.told,
                *(
                    f"case when {_BAD} then cast(_given_{name} as varchar) end as _given_{name}"
                    for name in self.entity.column_names
                ),
            ]
        )
        taken = self._read(
            chunk,
            f"create or replace temp table batch as select {self.names}, _file, _row, _fault, _waits, {given}"
            f" from {judged} where {where}",
        )
        if not scalar(self.connection, f"select 1 from temp.batch where {_BAD} limit 1"):
            return taken, 0
        broken = self._note_broken(chunk, mapped, chunk.recounted(f"(select * from temp.batch where {_BAD})"))
        self._quarantine_broken()
        self.connection.execute(f"delete from temp.batch where {_BAD}")
        return taken - broken, broken

    def _read_twice(self, chunk: Chunk, mapped: Mapped) -> int:
        """Put the good rows into temp.batch, reading parts that hold broken rows once more to know which records they are; how many
        are broken."""
        judged = self._judged(mapped, chunk.relation, numbered=False)
        read = self._read(
            chunk,
            f"create or replace temp table batch as select {self.names}, _file, _fault, _waits from {judged}",
        )
        bad = scalar(self.connection, f"select count(*) from temp.batch where {_BAD}")
        self._add(read=read, quarantined=bad)
        if bad:
            origins = rows(self.connection, f"select distinct _file from temp.batch where {_BAD}")
            found = self._look_for_broken(chunk, mapped, [row["_file"] for row in origins])
            if found != bad:
                raise self._changed(bad, found)
            self._quarantine_broken()
            self.connection.execute(f"delete from temp.batch where {_BAD}")
        return int(bad)

    def _read(self, chunk: Chunk, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run `sql`, which reads the source; how many rows it wrote."""
        try:
            written = self.connection.execute(sql, list(parameters)).fetchone()
            return int(written[0]) if written else 0
        except Error as error:
            raise self._cannot_be_read(chunk, error) from error

    def _cannot_be_read(self, chunk: Chunk, error: Error) -> Fatal:
        text = chunk.told(" ".join(str(error).split()))
        paths = [file.path for file in chunk.files]
        named = [path for path in paths if path in text] or paths
        origin = named[0] if len(named) == 1 else f"one of {len(named)} files" if named else self._origin
        hint = "Do its lines end in more than one way?" if "state machine" in text else None
        return Fatal(f"{self.id.label}: {origin} cannot be read: {text[:300]}", hint=hint)

    def _check_join(self, chunk: Chunk, join: str) -> None:
        """A join that drops rows or doubles them would do so without a word."""
        described = self.connection.execute(f"select * from {chunk.relation} limit 0").description or []
        names = ", ".join(identifier(name) for name, *_ in described)
        plain = f"(select * from {chunk.relation} where hash({names}) is not null)"
        before = scalar(self.connection, f"select count(*) from {plain}")
        after = scalar(self.connection, f"select count(*) from {plain} {join}")
        if before != after:
            raise Fatal(
                f"{self.id.label}: `join` turns {before} rows into {after}.",
                hint="Use a left join, to at most one row for each row of the source.",
            )

    def _look_for_items(self, chunk: Chunk, mapped: Mapped) -> None:
        """A list that is not where it is looked for would leave a stream empty without a word: count the records without any."""
        taken_apart = "where not _malformed" if chunk.has_malformed else ""
        found = scalar(self.connection, f"select 1 from {mapped.source(chunk.relation)} {taken_apart} limit 1")
        self.has_items = found is not None
        if not self.has_items:
            self.itemless += int(scalar(self.connection, f"select count(*) from {chunk.relation} {taken_apart}"))

    def _origins_of_broken(self, chunk: Chunk, judged: str) -> list[str]:
        """What to look through for broken rows: all files, since knowing which of them would mean to read them too."""
        if chunk.files:
            return [file.path for file in chunk.files]
        return [row["_file"] for row in rows(self.connection, f"select distinct _file from {judged} where {_BAD}")]

    def _look_for_broken(self, chunk: Chunk, mapped: Mapped, origins: list[str]) -> int:
        """Put the broken rows into temp.broken by reading what they came from once more; how many."""
        given = ", ".join(
            [*mapped.told, *(f"cast(_given_{name} as varchar) as _given_{name}" for name in self.entity.column_names)]
        )
        numbered = self._judged(mapped, chunk.numbered(origins), numbered=True)
        return self._note_broken(
            chunk,
            mapped,
            f"(select {self.names}, _file, _row, _fault, _waits, {given} from {numbered} where {_BAD})",
        )

    def _note_broken(self, chunk: Chunk, mapped: Mapped, relation: str) -> int:
        """Put the rows of `relation`, all broken, into temp.broken with what is wrong with them; how many."""
        records = self.quarantine.records(relation, mapped.faults)
        return self._read(chunk, f"create or replace temp table broken as {records}")

    def _quarantine_broken(self) -> None:
        """Put the rows of temp.broken into quarantine, except for those of whom nothing may be kept."""
        suppressed = self.quarantine.add_broken()
        self._add(quarantined=-suppressed, suppressed=suppressed)

    def _changed(self, expected: int, found: int) -> Retriable:
        return Retriable(
            f"{self.id.label}: {expected} broken rows became {found}: the input changed while it was read."
        )

    # --- the upsert --------------------------------------------------------------------------------------------

    def _upsert(self, *, released: bool = False) -> None:
        if self.has_key:
            self._add(superseded=self.versions.keep_latest("temp.batch"))
            if self.stream.config.periods:
                self._add(unchanged=periods.leave_former(self.connection, self.id))
                ended = periods.assign(self.connection, self.id, now=self.now, run_id=self.run_id, full=self.is_full)
                self._add(ended=ended)
            self.versions.complete_batch()
            if not released:
                self._quarantine_disordered("temp.batch")
            settled = self.versions.settle(released=released)
            # Rows that are renewed are inserted anew, and counted as updated.
            self._add(**settled, inserted=-settled.get("updated", 0))
            if "updated" in settled:
                self._forget_rows(RENEWED)
        self._add(inserted=self._insert_batch())

    def _quarantine_disordered(self, relation: str) -> int:
        """Rows of `relation` that took something from other versions, or are periods, were valid before that: those that end before
        they begin by now go to quarantine; how many."""
        config = self.stream.config
        derived = config.periods or config.partial or any(column.keep for column in config.columns.values())
        faults = disordered(self.entity)
        if not (derived and faults):
            return 0
        broken = " or ".join(f"coalesce({fault.predicate}, false)" for fault in faults)
        where = f"({broken}){f' and {self.id.mine()}' if relation == self.table else ''}"
        if not scalar(self.connection, f"select 1 from {relation} where {where} limit 1"):
            return 0
        which = " ".join(f"when {fault.predicate} then {n}" for n, fault in enumerate(faults, start=1))
        given = ", ".join(f"cast(null as varchar) as _given_{name}" for name in self.entity.column_names)
        noted = (
            f"{self.names}, _file, cast(null as bigint) as _row, case {which} end as _fault, null as _waits, {given}"
        )
        records = self.quarantine.records(f"(select {noted} from {relation} where {where})", faults)
        self.connection.execute(f"create or replace temp table broken as {records}")
        self.quarantine.add_broken()
        removed = int(scalar(self.connection, "select count(*) from temp.broken"))
        self.connection.execute(f"delete from {relation} where {where}")
        self._add(quarantined=removed)
        return removed

    def _insert_batch(self) -> int:
        """Move temp.batch into the table; how many rows."""
        inserted = self.connection.execute(
            f"insert into {self.table} by name select {self.names}, {self.id.stamps}, _file,"
            " cast(? as timestamp) as _loaded_at, cast(? as varchar) as _run_id from temp.batch",
            [self.now, self.run_id],
        ).fetchone()
        return int(inserted[0]) if inserted else 0

    # --- rows that go away -------------------------------------------------------------------------------------

    def _forget_rows(self, condition: str) -> None:
        """Delete rows of this stream; days of usage that lose rows are noted, so that the models restate them."""
        self._note_restated_days(condition)
        self.connection.execute(f"delete from {self.table} where {self.id.mine()} and {condition}")

    def _note_restated_days(self, condition: str) -> None:
        if self.entity.name == "usage_events":
            ledger.note_restated_days(self.connection, self.table, f"{self.id.mine()} and {condition}", self.now)

    def _forget_gone(self, relation: str, mapped: Mapped) -> None:
        """Rows that the source says are gone: where the entity has an end they end, else they are deleted.

        An account that facts refer to stays: they happened.
        """
        key = mapped.typed(self.entity.key)
        # DuckDB 1.5 cannot bind `group by all` when the key is a `try(…)`.
        self.connection.execute(
            f"create or replace temp table gone as select {key} as key, max(_gone_at) as at from {mapped.source(relation)}"
            " group by 1"
        )
        told = int(scalar(self.connection, f"select count(*) from {relation}"))
        mine = f"{self.id.mine()} and {self._named} in (select key from temp.gone)"
        if self.entity.ended_at is not None:
            done = self._end_rows(self.entity.ended_at)
            self.quarantine.end_waiting(self.entity.ended_at)
        else:
            if self.entity.name == "accounts":
                mine += f" and not ({self._has_facts()})"
            done = int(scalar(self.connection, f"select count(*) from {self.table} where {mine}"))
            if done:
                self._forget_rows(f"{self.key} in (select {self.key} from {self.table} where {mine})")
            self._add(**self.quarantine.forget(f"{self.key} in (select key from temp.gone)"))
        self._add(read=told, deleted=done, unchanged=told - done)

    @property
    def _named(self) -> str:
        """SQL: what the source calls a row of the table."""
        return periods.base_of(self.key) if self.stream.config.periods else self.key

    def _end_rows(self, ended_at: str) -> int:
        ended = self.connection.execute(
            f"update {self.table} set {ended_at} = greatest(coalesce(g.at, cast($now as timestamp)), {self.entity.happened_at}),"
            # Where rows tell no version, one that is there again must not be older than this.
            " updated_at = case when updated_at is not null then greatest(updated_at, coalesce(g.at, cast($now as timestamp))) end,"
            " _loaded_at = cast($now as timestamp), _run_id = $run_id"
            f" from temp.gone as g where g.key = {self._named} and {self.id.mine()} and {ended_at} is null",
            {"now": self.now, "run_id": self.run_id},
        ).fetchone()
        return int(ended[0]) if ended else 0

    def _has_facts(self) -> str:
        """SQL: whether any row of another entity names the account."""
        tables = rows(
            self.connection,
            "select table_schema || '.' || table_name as name from information_schema.columns"
            " where column_name = 'account_id' and table_name <> 'accounts' and starts_with(table_schema, 'raw_')",
        )
        found = [
            f"{self.key} in (select account_id from {row['name']} where _account_source = {literal(self.id.source)})"
            for row in tables
        ]
        return " or ".join(found) or "false"

    def _move_files(self) -> None:
        """Bring loaded rows to the files whose they are by now, as far as that was not done yet."""
        moves = self.stream.progress().moves
        for old, new in moves[self.moves_made :]:
            if new is None:
                self._forget_file(old)
            else:
                ledger.forget_files(self.connection, self.id, [old])
                for table in (self.id.quarantine, *([] if self.has_key else [self.table])):
                    self.connection.execute(
                        f"update {table} set _file = ? where {self.id.mine()} and _file = ?", [new, old]
                    )
        self.moves_made = len(moves)

    def _forget_file(self, path: str) -> None:
        """A file that changed: what is wrong with its rows is looked at again, and rows without keys are replaced, loaded or not."""
        its = f"_file = {literal(path)}"
        self.quarantine.doubt(f"{its} and _loaded_at is null")
        if not self.has_key:
            self._add(**self.quarantine.forget(f"{its} and _loaded_at is not null"))
            self._forget_rows(its)

    def _release(self) -> None:
        """Load rows that waited in quarantine for what is known by now."""
        waited = self.waiting.release(self.quarantine)
        if not waited:
            return
        before = self.counts
        self._upsert(released=True)
        self.counts = replace(before, released=waited)

    def _reassign(self) -> None:
        """Rows that were loaded before and belong to another user or account, by what was said since: they move there, or back to
        quarantine where it is nobody's."""
        if self.users is None or not self.users.anything_said(since=ledger.last_loaded_at(self.connection, self.id)):
            return
        if self.users.note_misplaced():
            self._note_restated_days("rowid in (select id from temp.misplaced)")
            self._add(withdrawn=self.users.withdraw(), reassigned=self.users.move())
