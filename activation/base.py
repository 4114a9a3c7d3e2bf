"""What the engine and a destination say to each other.

Lives here: changes, results, limits, and the one method that a destination must have. Must not live here: any vendor, any I/O.

A destination raises `core.errors` where a batch fails as a whole: `Retriable` (try the same batch later; `retry_after` in
seconds when the other side named one), `BatchRefused` (the batch is wrong as a whole, perhaps because of one row: the engine
halves it), `Unauthorized` (refresh once, then stop the run), `Forbidden` (stop the run, name the scope). For all else it
returns one `RowResult` per change, in any order. The engine holds it to that: a change that is not answered, answered twice
or answered with a key that was not sent is a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol, runtime_checkable

Value = str | int | float | bool | Decimal | date | datetime | None
"""A value as the model of the destination gives it; None in a change means: clear the field."""

Operation = Literal["create", "update", "retire"]
Status = Literal["ok", "rejected", "retriable"]
Mode = Literal["update", "upsert"]


@dataclass(frozen=True)
class Change:
    """One row to bring to a destination: only the fields that it maps."""

    key: str
    """The row's external id at the destination, as text."""
    operation: Operation
    values: Mapping[str, Value]
    """Field of the destination -> value. A retired row has None in all of them: only our own fields are cleared."""
    remote_id: str | None = None
    """The destination's own id of the record, where an earlier answer told it."""


class RowResult(NamedTuple):
    """What became of one change. A tuple, since there are as many as rows, and it is made three times as fast as a class."""

    key: str
    status: Status
    remote_id: str | None = None
    http_status: int | None = None
    error_code: str | None = None
    """A short word, the vendor's own where it has one, such as `not_found` or `UNABLE_TO_LOCK_ROW`."""
    error: str | None = None
    """The vendor's sentence; no secret, no value of another row."""
    request_id: str | None = None


@dataclass(frozen=True)
class Limits:
    """What a destination allows. The engine cuts batches, and its HTTP client keeps to `requests` in any `per_seconds`."""

    batch_rows: int = 100
    requests: int | None = None
    per_seconds: float = 10.0
    concurrency: int = 1


@dataclass(frozen=True)
class Field:
    """A field that we own at a destination: enough to check that it exists, and to create it."""

    name: str
    kind: Literal["text", "number", "boolean", "date", "datetime"]
    label: str
    description: str
    """From the column of the `sync_*` model."""


@dataclass(frozen=True)
class Problem:
    """Something that would make the sync fail, found before the first row is sent."""

    what: str
    hint: str


class Destination(Protocol):
    """Where rows go. `upsert` is all that a new one must have; see the optional abilities below."""

    def limits(self, rows: int) -> Limits:
        """Limits for a run that has `rows` to send: a bulk interface may take larger batches."""
        ...

    def upsert(self, batch: Sequence[Change]) -> Sequence[RowResult]:
        """Write `batch` and say what became of each row; raises as the module's charter says. Safe to repeat."""
        ...


@runtime_checkable
class Checks(Protocol):
    """A destination that can be looked at before sending."""

    def preflight(self, fields: Sequence[Field]) -> Sequence[Problem]:
        """What is missing there: scopes, objects, fields. Reads only."""
        ...


@runtime_checkable
class Identifies(Protocol):
    """A destination whose account has an id of its own, whatever the token or the address that leads to it."""

    def account(self) -> str | None:
        """The id of the account that is written to; None where the other side does not say."""
        ...


@runtime_checkable
class Reads(Protocol):
    """A destination whose values can be read back."""

    def read(self, changes: Sequence[Change]) -> Iterable[tuple[str, Mapping[str, Value] | None]]:
        """For each of `changes` its key and the values its fields have now, None where the record is not there."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A destination whose fields can be created by us."""

    def setup(self, fields: Sequence[Field]) -> Sequence[str]:
        """Create what is missing; returns a sentence for each thing that was made."""
        ...


@runtime_checkable
class Refreshes(Protocol):
    """A destination whose credentials can be renewed in the middle of a run."""

    def refresh(self) -> None:
        """Get a new token; raises `Unauthorized` when there is none to be had."""
        ...


@runtime_checkable
class Finishes(Protocol):
    """A destination that has to end a run, such as a file that becomes visible as a whole."""

    def finish(self) -> None:
        """Called once after the last batch of a run that was not stopped."""
        ...


@runtime_checkable
class Erases(Protocol):
    """A destination that can take whole rows away which only we wrote."""

    def erase(self, keys: Sequence[str]) -> None:
        """Delete the rows of `keys` in which nothing is left but the key. Safe to repeat."""
        ...
