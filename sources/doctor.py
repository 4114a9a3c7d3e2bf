"""A look at the configured sources before anything is loaded.

Lives here: loading a sample of every stream into a scratch database, by the loader's own code, and saying what came of
it. Must not live here: a second way to check rows; how the findings are shown.

Of a stream, about `SAMPLE_ROWS` rows are read: from up to 20 of its files, spread evenly, or the first rows of a table.
Accounts are read whole up to `WHOLE_BYTES` of files or `WHOLE_ROWS` rows, so that rows of unknown accounts can be told. Of a
vendor, one page of each stream is asked for: whether the credentials are known, and may read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from core import warehouse
from core.errors import TenureError, UserError
from core.settings import Tenure
from core.source_settings import ApiSource, StreamConfig
from core.warehouse import Connection, identifier, literal, rows
from core.words import counted
from sources import ledger, origins
from sources.api import ApiStream
from sources.base import StreamId, open_stream, stream_ids
from sources.faults import UNREAD
from sources.files import FilesStream
from sources.ledger import LoadReport
from sources.load import load_stream
from sources.mapping import effective_columns
from sources.places import Found

SAMPLE_ROWS = 50_000
WHOLE_BYTES = 256 * 1024 * 1024
WHOLE_ROWS = 2_000_000
EXAMPLES_PER_REASON = 3
_UNKNOWN = ("unknown_account", "unknown_user")


@dataclass(frozen=True)
class ColumnFinding:
    """One column of the contract: its mapping (None: none), and the share of rows that fill it, 0 to 1 (None: no rows)."""

    name: str
    required: bool
    mapping: str | None
    filled: float | None


@dataclass(frozen=True)
class BrokenRow:
    """One row that would be quarantined. `row` is its number in the file, where it has one."""

    file: str
    row: int | None
    reason: str
    detail: str


@dataclass(frozen=True)
class UnreadValues:
    """Values of an optional column that would be left empty, since they cannot be read."""

    column: str
    reason: str
    values: int
    example: str


@dataclass(frozen=True)
class StreamFinding:
    """What a stream would bring.

    status: ok; warning (rows would be quarantined, values left empty, there are no rows, or `warning` says why); broken (it would
    stop: `message`; or no row would be loaded, or more would be quarantined than a run lets pass). `questions` are to be answered
    before the first run.
    `files` and `bytes` are those of the whole input (None for a table); the counts are those of what was read, which is
    a part of it when `is_sample`. `judges_accounts` says whether rows of unknown accounts could be told. A vendor's streams
    have `needs`, what the credentials must be allowed, and the vendor's own words about its `quota`.
    """

    source: str
    stream: str
    connector: str
    entity: str
    status: Literal["ok", "warning", "broken"]
    message: str | None
    warning: str | None
    files: int | None
    bytes: int | None
    is_sample: bool
    judges_accounts: bool
    rows_read: int
    rows_loaded: int
    rows_quarantined: int
    quarantined_by_reason: Mapping[str, int]
    examples: tuple[BrokenRow, ...]
    columns: tuple[ColumnFinding, ...]
    unread: tuple[UnreadValues, ...] = ()
    questions: tuple[str, ...] = ()
    requests: int = 0
    quota: str | None = None
    needs: str | None = None

    @property
    def required_missing(self) -> tuple[str, ...]:
        """Required columns that are not mapped, or that no row fills. Users whose memberships were not all read may yet tell the
        account."""
        untold = () if self.judges_accounts else ("account_id",)
        return tuple(
            c.name
            for c in self.columns
            if c.required and (c.mapping is None or (c.filled == 0 and c.name not in untold))
        )


@dataclass(frozen=True)
class Examination:
    """All streams, accounts first, and how many account ids each source knows, of what was read of it."""

    streams: tuple[StreamFinding, ...]
    accounts_by_source: Mapping[str, int]

    @property
    def is_healthy(self) -> bool:
        """Whether every stream would load, and nothing is asked."""
        return all(stream.status != "broken" and not stream.questions for stream in self.streams)

    @property
    def next_step(self) -> str:
        """What to do now, in a sentence and a command."""
        broken = [f"{stream.source}/{stream.stream}" for stream in self.streams if stream.status == "broken"]
        asked = [f"{stream.source}/{stream.stream}" for stream in self.streams if stream.questions]
        if broken:
            return f"A run would fail on {', '.join(broken)}: correct what is said above, then ask again: tenure doctor"
        if asked:
            return f"Answer what is asked of {', '.join(asked)} in the configuration, then ask again: tenure doctor"
        rows = sum(stream.rows_quarantined for stream in self.streams)
        values = sum(unread.values for stream in self.streams for unread in stream.unread)
        if rows or values:
            left_out = [f"without {counted(rows, 'row')} that would be quarantined"] if rows else []
            left_out += [f"with {counted(values, 'value')} left empty"] if values else []
            return f"Correct what is said above, or load the rest ({' and '.join(left_out)}): tenure run"
        return "tenure run"


def examine(tenure: Tenure, *, now: datetime, sample_rows: int = SAMPLE_ROWS, source: str | None = None) -> Examination:
    """Try every stream, or those of one source, in a database that is gone afterwards. A broken stream is a finding, no error."""
    if source is not None and source not in tenure.config.sources:
        raise UserError(f"There is no source {source!r}.", hint=f"There are {', '.join(tenure.config.sources)}.")
    with (
        TemporaryDirectory(prefix="tenure-doctor-") as folder,
        warehouse.scratch(tenure.memory_limit, tenure.threads, Path(folder)) as connection,
    ):
        streams = stream_ids(tenure.config)
        ledger.ensure_tables(connection, streams)
        # What names accounts of another source can only be judged beside those. A page of a vendor's would not be all of them.
        others = {stream.account_source for stream in streams if stream.source == source}
        local = {name for name in others if not isinstance(tenure.config.sources[name], ApiSource)}
        asked_beside = [stream for stream in streams if stream.entity_name == "accounts" and stream.source in local]
        findings: list[StreamFinding] = []
        moved = origins.moved_streams(tenure)
        for stream in streams:
            if source is not None and stream.source != source and stream not in asked_beside:
                continue
            unread = stream.account_source not in {source, *local} if source is not None else False
            whole_accounts = not unread and not any(
                (finding.entity, finding.source)
                in (("accounts", stream.account_source), ("memberships", stream.source))
                and (finding.is_sample or finding.status == "broken")
                for finding in findings
            )
            finding = _examine_stream(connection, tenure, stream, now, sample_rows)
            if finding.message is None and stream.label in moved:
                finding = replace(finding, status="broken", message=str(moved[stream.label]))
            findings.append(finding if whole_accounts else _without_unknown_accounts(finding, tenure))
        told = [finding for finding in findings if source in (None, finding.source)]
        return Examination(tuple(told), _accounts_by_source(connection, streams))


def _examine_stream(
    connection: Connection, tenure: Tenure, stream: StreamId, now: datetime, sample_rows: int
) -> StreamFinding:
    source = tenure.config.sources[stream.source]
    try:
        opened = open_stream(stream, source, now=now, temp_directory=tenure.temp_directory)
        files = opened.find() if isinstance(opened, FilesStream) else None
        limit = sample_rows if isinstance(source, ApiSource) else _limit(stream, files, sample_rows)
        report = load_stream(connection, opened, tenure, now=now, run_id=stream.label, sample_rows=limit)
    except TenureError as error:
        return _finding(connection, tenure, stream, None, None, f"{error.message} {error.hint or ''}".strip())
    partial = opened.progress().is_partial
    message = report.message if report.status == "stopped" else None
    found = _finding(connection, tenure, stream, report, files, message, is_sample=partial)
    needs = opened.scope if isinstance(opened, ApiStream) else None
    return replace(found, requests=report.requests, quota=report.quota, needs=needs)


def _limit(stream: StreamId, files: list[Found] | None, sample_rows: int) -> int | None:
    if stream.entity_name != "accounts":
        return sample_rows
    if files is None:
        return max(WHOLE_ROWS, sample_rows)
    return None if sum(file.size for file in files) <= WHOLE_BYTES else sample_rows


def _finding(
    connection: Connection,
    tenure: Tenure,
    stream: StreamId,
    report: LoadReport | None,
    files: list[Found] | None,
    message: str | None,
    *,
    is_sample: bool = False,
) -> StreamFinding:
    source = tenure.config.sources[stream.source]
    config = source.streams[stream.stream]
    broken = f"from {stream.quarantine} where {stream.mine()}"
    reasons = rows(
        connection,
        f"select _reason, cast(sum(_times_in_run) as bigint) as n {broken} group by _reason order by n desc, _reason",
    )
    examples = rows(
        connection,
        f"select _file, _row, _reason, _detail {broken} qualify row_number() over (partition by _reason"
        f" order by _file, _row nulls last) <= {EXAMPLES_PER_REASON} order by _reason, _file, _row",
    )
    columns = _columns(
        connection,
        stream,
        config,
        derived_accounts=tenure.config.identity.derive_accounts,
        by_user="memberships" in source.entities,
    )
    quarantined = report.rows_quarantined if report else 0
    found = StreamFinding(
        source=stream.source,
        stream=stream.stream,
        connector=stream.connector,
        entity=stream.entity_name,
        status="ok",
        message=message,
        warning=report.message if report and message is None else None,
        files=None if files is None else len(files),
        bytes=None if files is None else sum(file.size for file in files),
        is_sample=is_sample,
        judges_accounts=True,
        rows_read=report.rows_read if report else 0,
        rows_loaded=report.rows_read - quarantined if report else 0,
        rows_quarantined=quarantined,
        quarantined_by_reason={row["_reason"]: row["n"] for row in reasons},
        examples=tuple(BrokenRow(row["_file"], row["_row"], row["_reason"], row["_detail"]) for row in examples),
        columns=columns,
        unread=_unread(connection, stream),
        questions=_questions(connection, stream),
    )
    return replace(found, status=_status(found, tenure))


def _status(finding: StreamFinding, tenure: Tenure) -> Literal["ok", "warning", "broken"]:
    if finding.message is not None or finding.required_missing:
        return "broken"
    if finding.rows_quarantined > tenure.config.quality.max_quarantined_share * finding.rows_read:
        return "broken"
    return "warning" if finding.warning or finding.rows_quarantined or finding.unread or not finding.rows_read else "ok"


def _noted(stream: StreamId, table: str) -> str:
    """SQL of the values of rows in `table` that could not be read."""
    return f"(select unnest(from_json(_unread, {literal(UNREAD)})) as u from {table} where {stream.mine()} and _unread is not null)"


def _unread(connection: Connection, stream: StreamId) -> tuple[UnreadValues, ...]:
    found = rows(
        connection,
        'select u."column" as "column", u.reason as reason, count(*) as "values", min(u.detail) as example'
        f" from {_noted(stream, stream.table)} group by all order by 1, 2",
    )
    return tuple(UnreadValues(**row) for row in found)


def _questions(connection: Connection, stream: StreamId) -> tuple[str, ...]:
    """What only people know: of each column whose numbers may be read in two ways, one of them."""
    both = " union all ".join(f"from {_noted(stream, table)}" for table in (stream.table, stream.quarantine))
    found = rows(
        connection,
        f"select min(u.detail) as detail from ({both}) where u.reason = 'ambiguous_number' group by u.\"column\" order by 1",
    )
    return tuple(row["detail"] for row in found)


def _columns(
    connection: Connection, stream: StreamId, config: StreamConfig, *, derived_accounts: bool, by_user: bool
) -> tuple[ColumnFinding, ...]:
    """The share of rows, good and bad, that fill each column of the contract. With `by_user`, users may tell the account."""
    names = stream.entity.column_names
    # What is empty in a text is nothing that fills it.
    texts = ", ".join(f"nullif(trim(cast({identifier(name)} as varchar)), '') as {identifier(name)}" for name in names)
    shares = ", ".join(
        f"coalesce(sum(_rows) filter ({identifier(name)} is not null), 0) / nullif(sum(_rows), 0) as {identifier(name)}"
        for name in names
    )
    filled = rows(
        connection,
        f"select {shares} from (select {texts}, 1 as _rows from {stream.table} where {stream.mine()}"
        f" union all select {texts}, _times_in_run from {stream.quarantine} where {stream.mine()})",
    )[0]
    mapped = {name: mapping.sql for name, mapping in effective_columns(stream.entity, config).items()}
    if by_user and stream.entity.user is not None:
        mapped.setdefault("account_id", f"that of {stream.entity.user}")
    required = {column.name for column in stream.entity.columns if column.required}
    if derived_accounts:
        required.discard("created_at")
    return tuple(
        ColumnFinding(
            name=column.name,
            required=column.name in required,
            mapping=mapped.get(column.name),
            filled=filled[column.name],
        )
        for column in stream.entity.columns
    )


def _without_unknown_accounts(finding: StreamFinding, tenure: Tenure) -> StreamFinding:
    """When not all accounts and memberships could be read, that an account or user is unknown says nothing."""
    if finding.entity == "accounts":
        return finding
    reasons = finding.quarantined_by_reason
    unknown = sum(reasons.get(reason, 0) for reason in _UNKNOWN)
    judged = replace(
        finding,
        judges_accounts=False,
        rows_loaded=finding.rows_loaded + unknown,
        rows_quarantined=finding.rows_quarantined - unknown,
        quarantined_by_reason={reason: n for reason, n in reasons.items() if reason not in _UNKNOWN},
        examples=tuple(example for example in finding.examples if example.reason not in _UNKNOWN),
    )
    return replace(judged, status=_status(judged, tenure))


def _accounts_by_source(connection: Connection, streams: list[StreamId]) -> dict[str, int]:
    schemas = sorted({stream.raw_schema for stream in streams if stream.entity_name == "accounts"})
    counted = [
        row
        for schema in schemas
        for row in rows(
            connection, f"select _source, count(distinct account_id) as n from {schema}.accounts group by _source"
        )
    ]
    return {row["_source"]: row["n"] for row in counted}
