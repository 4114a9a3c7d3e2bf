"""The machinery for vendors' APIs: pages, stretches, cursors, retries, limits, and fields that change their shape.

Lives here: everything that reading one vendor has in common with reading another. Must not live here: a vendor's paths,
fields or words (`zendesk.py`, …), what a row means (`<vendor>.yml`, `mapping.py`), where it goes (`load.py`).

A vendor is a `Vendor`: how its account is reached, and its resources as data. A resource says which fields its records have
and how one page is read: `read(ask)` gets a position (`{}` at the beginning, else what an earlier page gave, any JSON) and
gives a `Page` with the next one. Where a page may be stopped at (`is_whole`), its position is also what a later run goes on
from: a cursor is nothing but the position of the last page, saved in the transaction of its rows.

A stretch is some pages, about `batch_rows` records or half a minute, loaded in one transaction. A run that is killed loses the
stretch it was in.

Records reach DuckDB as Arrow, with the declared fields as columns, also where all are NULL; lists and objects are JSON text.
Other fields are not kept, but noted: what appears, vanishes or changes its type is drift, told and stored, and breaks nothing.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, TypeVar

import pyarrow as pa

from core.blocks import RetryConfig
from core.errors import Fatal, Forbidden, Retriable, TenureError, Unauthorized
from core.http import Answer, Client, Limiter, document_of, raise_for, tell
from core.source_settings import ApiSource, StreamConfig
from core.warehouse import Connection, identifier, literal
from sources import ledger
from sources.base import Chunk, Progress, StreamId
from sources.batches import BATCH, Batch, as_text, origin
from sources.future import CLOCKS_DIFFER, Future

Record = Mapping[str, Any]
Document = dict[str, Any]
Position = dict[str, Any]
"""Where reading goes on: any JSON. `{}` is the beginning."""
Told = TypeVar("Told")
Kind = Literal["text", "integer", "number", "boolean", "json"]
_ARROW: dict[Kind, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "json": pa.string(),
}
_JSON = {str: "text", int: "number", float: "number", bool: "boolean", dict: "object", list: "list"}
STATES = ("accounts", "contacts", "subscriptions")
"""What is, rather than happens: read whole, however old it is, or facts would be of unknown accounts and MRR would be missing."""
_STRETCH_SECONDS = 30.0
"""A stretch of a slow vendor ends after so long, so that a kill loses no more."""


@dataclass(frozen=True)
class Page:
    """What one request gave.

    `records` are in the order in which they hold: of two with one key the later one stands, or the earlier one where pages
    come `newest_first`. `gone` are records that are no more, with when they went, where the vendor says so. `incomplete` says of
    which records, by key, the vendor gave only a part, and what is missing: they go to quarantine. `position` is
    that of the next page; with `is_end` there is none for now, and the next run begins there. A page that is not
    `is_whole` must not be the last of a transaction: its position is good for this run only.
    """

    records: Sequence[Record]
    position: Position
    is_end: bool
    gone: Sequence[tuple[Record, datetime | None]] = ()
    incomplete: Mapping[Any, str] = field(default_factory=dict)
    is_whole: bool = True
    newest_first: bool = False


@dataclass(frozen=True)
class Ask:
    """What a page is asked with. `since` is how far back a first load reads what happens, None for all; `now` is the run's moment;
    `memo` is kept from page to page of one load, for what need not be asked twice.
    """

    api: Api
    position: Position
    source: ApiSource
    since: datetime | None
    now: datetime
    memo: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Resource:
    """One list of a vendor's account.

    `fields` are the ones that mappings may name; `key` is the one that tells records apart. `scope` is what the key or token
    must be allowed, in the vendor's words: a 403 names it. `stamped` is the field by which changes are found: a position is never
    taken from a record whose stamp lies beyond the run's moment, which would hide what changes until then.
    """

    fields: Mapping[str, Kind]
    read: Callable[[Ask], Page]
    scope: str
    key: str = "id"
    stamped: str = ""


@dataclass(frozen=True)
class Access:
    """A way into one account. `renew` gets a new token after a 401; None where the token is all there is."""

    client: Client
    renew: Callable[[], None] | None = None


@dataclass(frozen=True)
class Vendor:
    """A vendor as data. `credential` names the settings to check after a 401; `told` finds the vendor's own sentence in an
    answer that is no success, `quota` what an answer tells of the account's limits.
    """

    name: str
    resources: Mapping[str, Resource]
    connect: Callable[[Any], Access]
    credential: str
    told: Callable[[Answer], str | None]
    quota: Callable[[Answer], str | None] = field(default=lambda answer: None)


@cache
def limiter(account: str, requests: int, seconds: float) -> Limiter:
    """The one limiter of an account's door in this process, whoever asks: vendors count by account, not by stream."""
    return Limiter(requests, seconds)


def access(source: ApiSource, address: str, header: Mapping[str, str], *, requests: int, seconds: float) -> Access:
    """A way into the account at `address` with a `header` that stays as it is; `requests` are allowed in any `seconds`."""
    pace = limiter(address, requests, seconds)
    timeout, http = source.timeout_seconds, source.http
    return Access(Client(address, headers=lambda: header, limiter=pace, timeout=timeout, http=http))


class Api:
    """Asks one vendor, patiently: with retries, and with words for what it refuses."""

    def __init__(
        self,
        access: Access,
        vendor: Vendor,
        *,
        label: str,
        scope: str,
        retry: RetryConfig,
        secrets: Sequence[str] = (),
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._access, self._vendor, self._label, self._scope = access, vendor, label, scope
        self._retry, self._secrets = retry, tuple(secrets)
        self._sleep, self._rng = sleep, rng or random.Random()
        self.requests = 0
        self.quota: str | None = None

    def get(
        self,
        path: str,
        *,
        holds: str | None,
        missing: Document | None = None,
        limiter: Limiter | None = None,
        **params: Any,
    ) -> Document:
        """The document at `path`, or `missing` where there is none (404); parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return self.send("GET", path, holds=holds, missing=missing, limiter=limiter, params=given)

    def send(
        self,
        method: str,
        path: str,
        *,
        holds: str | None,
        of: type = dict,
        missing: Document | None = None,
        limiter: Limiter | None = None,
        **request: Any,
    ) -> Document:
        """The document of an answer, which has a list of objects (or `of` lists) called `holds`; a success without it is tried
        again, since it would look like the end of all pages. `limiter` is waited for besides the one of the account.

        Raises as `answer` does.
        """

        def read(answer: Answer) -> Document:
            return missing if missing is not None and answer.status_code == 404 else _document(answer, holds, of)

        return self._patiently(method, path, limiter, request, read, accepts=() if missing is None else (404,))

    def answer(self, method: str, path: str, *, limiter: Limiter | None = None, **request: Any) -> Answer:
        """An answer that is a success, whatever it holds: for what is not JSON, or is told by a header.

        Raises `Retriable` when all tries failed, or with `retry_after` when the vendor asks for more patience than
        `retry.max_retry_after_seconds`; `Fatal` with what is missing when it refuses.
        """
        return self._patiently(method, path, limiter, request, lambda answer: answer)

    def _patiently(
        self,
        method: str,
        path: str,
        limiter: Limiter | None,
        request: dict[str, Any],
        read: Callable[[Answer], Told],
        accepts: tuple[int, ...] = (),
    ) -> Told:
        attempt, renewed, is_stale = 0, False, False
        while True:
            attempt += 1
            try:
                if is_stale and self._access.renew is not None:
                    self._access.renew()
                    is_stale = False
                return self._once(method, path, limiter, request, read, accepts)
            except Retriable as error:
                wait = error.retry_after
                if wait is not None and wait > self._retry.max_retry_after_seconds:
                    raise Retriable(
                        f"{self._label}: {error.message} It asks to come back in {wait:,.0f} s.",
                        hint="The next run goes on where this one ends.",
                        retry_after=wait,
                    ) from None
                if attempt >= self._retry.tries:
                    said = f"{self._label}: {error.message} It was tried {attempt} times."
                    raise Retriable(said, hint=error.hint) from None
                self._sleep(self._delay(attempt, wait))
            except Unauthorized as error:
                if self._access.renew is None or renewed:
                    raise self._refused(error) from None
                renewed = is_stale = True
            except TenureError as error:
                raise self._refused(error) from None

    def close(self) -> None:
        """Give the connection back."""
        self._access.client.close()

    def _once(
        self,
        method: str,
        path: str,
        limiter: Limiter | None,
        request: dict[str, Any],
        read: Callable[[Answer], Told],
        accepts: tuple[int, ...],
    ) -> Told:
        if limiter is not None:
            limiter.take()
        self.requests += 1
        answer = self._access.client.send(method, path, **request)
        self.quota = self._vendor.quota(answer) or self.quota
        if answer.status_code not in accepts:
            raise_for(answer, told=None if answer.is_success else tell(self._vendor.told(answer), *self._secrets))
        return read(answer)

    def _refused(self, error: TenureError) -> Fatal:
        hint = error.hint
        if isinstance(error, Unauthorized):
            hint = f"Check {self._vendor.credential}: is it set, of this account, and not expired?"
        if isinstance(error, Forbidden):
            hint = f"It needs {self._scope}."
        return Fatal(f"{self._label}: {error.message}", hint=hint)

    def _delay(self, attempt: int, asked: float | None) -> float:
        """Seconds until the next try: what the vendor asked for, else twice as long each time; with jitter."""
        if asked is not None:
            return asked + self._rng.uniform(0, min(1.0, self._retry.first_seconds))
        longest = min(self._retry.longest_seconds, self._retry.first_seconds * 2 ** (attempt - 1))
        return self._rng.uniform(longest / 2, longest)


def _document(answer: Answer, holds: str | None, of: type) -> Document:
    """The answer's JSON object, which has a list called `holds`, `of` objects or lists."""
    document = document_of(answer)
    said = f"{answer.request.url.host} answered {answer.status_code}"
    if not isinstance(document, dict):
        raise Retriable(f"{said} with what is no JSON object.")
    listed = document.get(holds) if holds is not None else []
    if not isinstance(listed, list) or not all(isinstance(one, of) for one in listed):
        raise Retriable(f"{said} without a list of {holds}.")
    return document


class ApiStream:
    """A stream of a vendor's records: what changed since the saved position, stretch by stretch."""

    def __init__(self, stream: StreamId, source: ApiSource, vendor: Vendor, *, now: datetime) -> None:
        self.id = stream
        self.config: StreamConfig = source.streams[stream.stream]
        self._source, self._now = source, now
        self._vendor = vendor
        self._resource = vendor.resources[self.config.resource or stream.stream]
        self._api: Api | None = None
        self._visited: set[str] = set()
        self._fields: dict[str, frozenset[str]] = {}
        self._memo: dict[str, Any] = {}
        self._future = Future(self._resource.stamped)
        self._progress = Progress()

    @property
    def scope(self) -> str:
        """What the credentials must be allowed."""
        return self._resource.scope

    def progress(self) -> Progress:
        """Where the next stretch or run goes on."""
        return self._progress

    def chunks(
        self, connection: Connection, *, full: bool, sample_rows: int | None = None
    ) -> Generator[Chunk, None, None]:
        """The next stretch. With `sample_rows`, one page. Raises `Fatal` where pages lead in a circle."""
        position = {} if full else _position(ledger.saved_cursor(connection, self.id), self.id.label)
        held, stretch = Batch(), _Stretch(self._resource.key)
        ends_at = time.monotonic() + _STRETCH_SECONDS
        try:
            while True:
                page = self._read(position)
                position = page.position
                stretch.add(page)
                late = stretch.size >= self._source.batch_rows or time.monotonic() > ends_at
                over = page.is_end or sample_rows is not None or (page.is_whole and late)
                if over or late:
                    self._remember(position, page, is_sample=sample_rows is not None)
                    if stretch.size:
                        yield self._chunk(connection, held, stretch)
                    stretch = _Stretch(self._resource.key)
                if over:
                    break
            if not self._progress.has_more:
                self._close()
        except BaseException:
            self._close()
            raise
        finally:
            if held.table is not None:
                connection.unregister(BATCH)

    def _read(self, position: Position) -> Page:
        api = self._api = self._api or self._open()
        mark = json.dumps(position, sort_keys=True)
        self._visited.add(mark)
        day = self._source.since
        since = None if day is None or self.id.entity_name in STATES else datetime.combine(day, datetime.min.time())
        page = self._resource.read(Ask(api, position, self._source, since, self._now, self._memo))
        self._note_future(page)
        ahead = json.dumps(page.position, sort_keys=True)
        if not page.is_end and ahead in self._visited:
            raise Fatal(
                f"{self.id.label}: {self._vendor.name}'s pages lead in a circle: what follows {mark[:200]} was read before.",
                hint="Run again; if it happens again, tell the vendor.",
            )
        return page

    def _note_future(self, page: Page) -> None:
        resource = self._resource
        for record in page.records:
            stamp = record.get(resource.stamped)
            if stamp is not None and is_ahead(stamp, self._now + CLOCKS_DIFFER):
                self._future.note(f"{resource.key}={record.get(resource.key)}", stamp)

    def _open(self) -> Api:
        return Api(
            self._vendor.connect(self._source),
            self._vendor,
            label=self.id.label,
            scope=self._resource.scope,
            retry=self._source.retry,
            secrets=self._source.secrets,
        )

    def _close(self) -> None:
        if self._api is not None:
            self._api.close()
            self._api = None

    def _remember(self, position: Position, page: Page, *, is_sample: bool) -> None:
        assert self._api is not None
        self._progress = Progress(
            cursor=json.dumps(position, sort_keys=True),
            is_partial=is_sample and not page.is_end,
            has_more=not page.is_end and not is_sample,
            fields=dict(self._fields) or None,
            hinted=frozenset(self._resource.fields),
            requests=self._api.requests,
            quota=self._api.quota,
            warnings=self._future.warnings,
        )

    def _chunk(self, connection: Connection, held: Batch, stretch: _Stretch) -> Chunk:
        for name, kinds in stretch.kinds().items():
            self._fields[name] = self._fields.get(name, frozenset()) | kinds
        self._progress = replace(self._progress, fields=dict(self._fields))
        held.show(connection, stretch.table(self._resource.fields))
        name = f"{self._vendor.name} {self.config.resource or self.id.stream}"
        rows = f"from {BATCH} where not _gone"
        columns = ", ".join([*(identifier(column) for column in self._resource.fields), "_incomplete"])
        return Chunk(
            f"(select {columns}, {literal(name)} as _file {rows})",
            lambda _: (
                f"(select {columns}, {origin(name, (self._resource.key,))} as _file, cast(null as bigint) as _row {rows})"
            ),
            is_text=False,
            has_incomplete=True,
            gone=f"(select {columns}, {literal(name)} as _file, _gone_at from {BATCH} where _gone)"
            if stretch.any_gone
            else None,
            superseded=stretch.superseded,
        )


class _Stretch:
    """The records of some pages, each key once, as the vendor last told it."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._records: dict[Any, tuple[Record, bool, datetime | None]] = {}
        self._incomplete: dict[Any, str] = {}
        self._unkeyed = 0
        self.superseded = 0

    @property
    def size(self) -> int:
        return len(self._records) + self.superseded

    @property
    def any_gone(self) -> bool:
        return any(is_gone for _, is_gone, _ in self._records.values())

    def add(self, page: Page) -> None:
        told: Iterable[tuple[Record, bool, datetime | None]] = [
            *((record, False, None) for record in page.records),
            *((record, True, at) for record, at in page.gone),
        ]
        for record, is_gone, at in told:
            key = record.get(self._key)
            if key is None:
                # It goes to quarantine, for which it needs no key here.
                self._unkeyed += 1
                key = ("no key", self._unkeyed)
            if key in self._records:
                self.superseded += 1
                if page.newest_first:
                    continue
            self._records[key] = (record, is_gone, at)
            self._incomplete.pop(key, None)
            if key in page.incomplete:
                self._incomplete[key] = page.incomplete[key]

    def kinds(self) -> dict[str, frozenset[str]]:
        """The JSON types of every field, of records that are there; none for a field that is always NULL."""
        records = [record for record, is_gone, _ in self._records.values() if not is_gone]
        names = set().union(*records)
        return {
            name: frozenset(
                _JSON.get(kind, kind.__name__)
                for kind in {type(r.get(name)) for r in records}
                if kind is not type(None)
            )
            for name in names
        }

    def table(self, fields: Mapping[str, Kind]) -> pa.Table:
        """The declared fields as columns."""
        told = list(self._records.values())
        columns = {name: _array([record.get(name) for record, _, _ in told], kind) for name, kind in fields.items()}
        columns["_incomplete"] = pa.array([self._incomplete.get(key) for key in self._records], pa.string())
        columns["_gone"] = pa.array([is_gone for _, is_gone, _ in told], pa.bool_())
        columns["_gone_at"] = pa.array([at for _, _, at in told], pa.timestamp("us"))
        return pa.table(columns)


def _array(values: list[Any], kind: Kind) -> pa.Array:
    """Values as the type that is declared, or all as text where one does not fit: the mapping then tells which rows are wrong."""
    if kind == "json":
        return pa.array([None if value is None else json.dumps(value, default=str) for value in values], pa.string())
    if kind != "text":
        try:
            return pa.array(values, _ARROW[kind])
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
    return pa.array([as_text(value) for value in values], pa.string())


def _position(cursor: str | None, label: str) -> Position:
    if cursor is None:
        return {}
    try:
        found = json.loads(cursor)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Fatal(f"{label}: the saved cursor {cursor[:80]!r} is none.", hint="Read anew with `tenure run --full`.")
    return found


def without(position: Position, *names: str) -> Position:
    """`position` less some of its parts."""
    return {key: value for key, value in position.items() if key not in names}


def moment(text: Any) -> datetime | None:
    """A moment as vendors write it (ISO 8601), in UTC without a zone; None where it is none."""
    try:
        return naive(datetime.fromisoformat(str(text)))
    except ValueError:
        return None


def is_ahead(stamp: Any, now: datetime) -> bool:
    """Whether a vendor's stamp (a moment, or seconds since 1970) lies beyond `now`."""
    if isinstance(stamp, (int, float)):
        return stamp > unix_seconds(now)
    at = moment(stamp)
    return at is not None and at > now


def naive(at: datetime) -> datetime:
    """A moment in UTC without a zone; one without a zone is in UTC."""
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo is not None else at


def unix_seconds(at: datetime) -> int:
    """Seconds since 1970 of a moment in UTC without a zone."""
    return int(at.replace(tzinfo=UTC).timestamp())
