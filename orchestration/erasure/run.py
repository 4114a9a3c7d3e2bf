"""An erasure from beginning to end.

Lives here: the order of the steps, what is done again after a kill, and the receipt. Must not live here: what a step does.

1. What is about to be erased is written down (`privacy/pending`), with how much of it each store holds.
2. The suppression list has it: from here on extraction keeps it out.
3. The tables are emptied, and our fields at destinations cleared. Each file is replaced in one move, each call can be repeated.
4. The models are built again without it, and published. Then logs and other files are rewritten.
5. All stores are searched again: that is the receipt. When nothing is left, what was written down is deleted.

A kill anywhere leaves the note of step 1, with which the next call, or the next `tenure run`, goes on.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from core import clock, suppression
from core.errors import TenureError, UserError
from core.locks import RunLock
from core.settings import Tenure, utc_now
from core.warehouse import Connection, rows, scalar, table_exists, warehouse
from orchestration import dbt
from orchestration.erasure import destinations, receipt, stores, subject
from orchestration.erasure.receipt import Pending, Receipt, StoreReceipt
from orchestration.erasure.stores import Store, Work
from orchestration.erasure.subject import Asked, Subject
from orchestration.erasure.texts import Words, tokens_of

Progress = Callable[[str], None]
_WAIT_SECONDS = 600.0


def _quiet(what: str) -> None:
    pass


@dataclass(frozen=True)
class Preview:
    """What an erasure would be about, and how much each store holds."""

    subject: Subject
    found: Mapping[str, int]


def preview(tenure: Tenure, asked_for: Asked, value: str) -> Preview:
    """Look, and change nothing. Raises `UserError` for what no store of this home knows."""
    found = _resolve(tenure, asked_for, value)
    return Preview(found, _holdings(work_on(tenure, found)))


def erase(tenure: Tenure, found: Preview, *, progress: Progress = _quiet) -> Receipt:
    """Erase whom the preview found from every store. What is left because a store could not be reached is in the receipt, and
    stays pending."""
    with _alone(tenure, progress):
        begun = Pending(str(uuid.uuid4()), utc_now(), found.subject, found.found, is_rebuilt=not found.found)
        begun.save(tenure.home)
        return _carry_out(tenure, begun, progress, rebuilds=True)


def resume(tenure: Tenure, *, rebuilds: bool = True, progress: Progress = _quiet) -> list[Receipt]:
    """Go on with every erasure that was begun and is not complete. Without `rebuilds`, the models are left to a run that follows."""
    if not receipt.pending(tenure.home):
        return []
    with _alone(tenure, progress):
        unfinished = receipt.pending(tenure.home)
        return [_carry_out(tenure, one, progress, rebuilds=rebuilds) for one in unfinished]


def _carry_out(tenure: Tenure, begun: Pending, progress: Progress, *, rebuilds: bool) -> Receipt:
    progress("suppression list")
    _suppress(tenure.home, begun)
    work = work_on(tenure, begun.subject)
    # First the tables, so that a sync finds the subject gone from the model; its own copy of the ledger is cleaned with the tables.
    notes = _empty(stores.tables(work), progress)
    notes += _empty(destinations.stores(tenure, begun.subject), progress)
    if rebuilds and not begun.is_rebuilt:
        progress("building the models again")
        notes += _rebuild(tenure)
        begun = replace(begun, is_rebuilt=True)
        begun.save(tenure.home)
    notes += _empty([*stores.tables(work), *stores.files(work)], progress)
    progress("searching all stores again")
    return _conclude(tenure, begun, notes)


def _empty(chosen: Sequence[Store], progress: Progress) -> list[str]:
    """Take the subject out of `chosen`; a sentence for each that did not let it go."""
    problems = []
    for store in chosen:
        try:
            held = list(store.holds())
            if held:
                progress(", ".join(held[:2]) + (f" and {len(held) - 2} more" if len(held) > 2 else ""))
                store.remove()
        except TenureError as error:
            problems.append(str(error))
    return problems


def _conclude(tenure: Tenure, begun: Pending, problems: Sequence[str]) -> Receipt:
    work = work_on(tenure, begun.subject)
    left = _holdings(work)
    places = [*begun.found, *(place for place in left if place not in begun.found)]
    lines = []
    for place in places:
        remaining = left.get(place, 0)
        found = max(begun.found.get(place, 0), remaining)
        lines.append(StoreReceipt(place, found, found - remaining, remaining))
    notes = [*problems, *_advice(tenure)]
    done = Receipt(
        begun.erasure_id,
        begun.subject.asked_for,
        begun.requested_at,
        utc_now(),
        tuple(lines),
        tuple(dict.fromkeys(notes)),
        is_complete=not problems and all(line.is_verified for line in lines),
    )
    receipt.write(tenure.home, done)
    if done.is_complete:
        begun.discard(tenure.home)
    return done


def _advice(tenure: Tenure) -> list[str]:
    names = ", ".join(tenure.config.sources)
    return [
        f"The sources ({names}) still have what they delivered: erase it there as well. What they deliver of it again is suppressed.",
    ]


# --- whom it is about --------------------------------------------------------------------------------------------


def _resolve(tenure: Tenure, asked_for: Asked, value: str) -> Subject:
    if not value.strip():
        raise UserError(f"--{asked_for} needs a value.")
    found = None
    if tenure.warehouse_path.exists():
        with _reading(tenure) as connection:
            found = subject.resolve(
                connection,
                asked_for,
                value,
                primary_source=tenure.config.precedence[0],
                borrowed=_borrowed(tenure),
            )
            if found is not None:
                return replace(found, keys=destinations.keys_of(tenure, connection, found))
    again = _erased_before(tenure, asked_for, value)
    if again is None:
        raise UserError(f"This home knows no {_NAMED[asked_for]} {value!r}.", hint=_WHERE_IDS_ARE[asked_for])
    return again


def _borrowed(tenure: Tenure) -> dict[str, str]:
    """Sources without contacts of their own, and the source whose ids they name people by."""
    sources = tenure.config.sources
    return {
        name: source.account_source
        for name, source in sources.items()
        if source.account_source and not {"contacts", "memberships"} & set(source.entities)
    }


def _erased_before(tenure: Tenure, asked_for: Asked, value: str) -> Subject | None:
    """Who was erased already, as far as what was asked for says: an erasure may be asked for again."""
    listed = suppression.load(tenure.home)
    source, _, own = value.partition(":")
    records = [*((name, value) for name in tenure.config.sources), *([(source, own)] if own else [])]
    if asked_for == "email":
        known = listed.matches("address", "", value)
        return Subject("email", addresses=(value.strip().lower(),)) if known else None
    kind: suppression.Kind = "account" if asked_for == "account" else "person"
    matching = tuple(record for record in records if listed.matches(kind, *record))
    if not matching:
        return None
    if asked_for == "account":
        return Subject("account", accounts=(value,), records=matching)
    return Subject("contact", people=matching)


_NAMED = {"account": "account", "contact": "contact or user", "email": "e-mail address"}
_WHERE_IDS_ARE = {
    "account": "Ids are those of marts.accounts, or SOURCE:ID as a source has it.",
    "contact": "Ids are those of marts.contacts or of users of the product, with or without SOURCE: before them.",
    "email": "An address is found as it stands in contacts, as an owner's, or in any text that was loaded.",
}


# --- parts -------------------------------------------------------------------------------------------------------


def work_on(tenure: Tenure, about: Subject) -> Work:
    """What every store is asked about."""
    path = dbt.target_of(tenure) / "manifest.json"
    vocabulary = tokens_of(path.read_text(encoding="utf-8")) if path.exists() else set[str]()
    return Work(tenure, about, Words(about, vocabulary | set(tenure.config.sources)))


def _holdings(work: Work) -> dict[str, int]:
    found: dict[str, int] = {}
    for store in (*stores.tables(work), *destinations.stores(work.tenure, work.subject), *stores.files(work)):
        try:
            held = store.holds()
        except TenureError:
            continue  # a place that cannot be reached says so when it is to be emptied
        for place, count in held.items():
            found[place] = found.get(place, 0) + count
    return found


def _suppress(home: Path, begun: Pending) -> None:
    listed = suppression.load(home)
    salt = listed.salt or secrets.token_hex(32)
    salted = suppression.Suppression(salt)
    hashes = suppression.hashed(salted, begun.subject.identifiers())
    if not set(hashes) <= listed.hashes:
        erasure = suppression.Erasure(begun.erasure_id, begun.subject.asked_for, begun.requested_at, hashes)
        suppression.add(home, erasure, new_salt=salt)


def _rebuild(tenure: Tenure) -> list[str]:
    """Build the models without the subject, and publish them as of the same instant; a sentence where that has to wait for a run."""
    if not tenure.serving_path.exists():
        return []
    with warehouse(tenure.serving_path, read_only=True) as connection:
        published = rows(connection, "select run_id, published_at, as_of_at from publication")[0]
        has_scores = table_exists(connection, "reverse_etl", "customer_scores")
    with _writing(tenure) as connection:
        loaded_at = scalar(connection, "select max(finished_at) from ledger.loads")
        if loaded_at is not None and loaded_at > published["published_at"]:
            return [
                "More was loaded than is published, so totals of the published copy count what was erased until the next `tenure run`."
            ]
        clock.write(connection, published["as_of_at"], is_replay=False)
    return _built_and_published(tenure, str(published["run_id"]), has_scores=has_scores)


def _built_and_published(tenure: Tenure, run_id: str, *, has_scores: bool) -> list[str]:
    from orchestration import runs, serve, transform

    try:
        manifest = dbt.manifest(tenure)
        with runs.output_to(tenure.home / "logs" / "erase.log"):
            transform.build_without_assets(tenure)
            if has_scores:
                transform.build_without_assets(tenure, after_scores=True)
        tables = dbt.published_tables(json.loads(manifest.read_text(encoding="utf-8")))
        with _writing(tenure) as connection:
            made = serve.publication_of(connection, tenure, run_id)
            serve.write_copy(connection, tenure, tenure.serving_path, made, tables)
    except TenureError as error:
        said = " ".join(error.message.split())
        return [
            f"The models could not be built again ({said}): totals count what was erased until the next `tenure run`."
        ]
    return []


@contextmanager
def _alone(tenure: Tenure, progress: Progress) -> Iterator[None]:
    """Keep runs out."""
    lock = RunLock(tenure.home / "run.lock")
    lock.acquire(
        f"erasure-{uuid.uuid4()}",
        wait_seconds=_WAIT_SECONDS,
        on_wait=lambda holder: progress(f"waiting for run {holder}"),
    )
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _reading(tenure: Tenure) -> Iterator[Connection]:
    with warehouse(tenure.warehouse_path, read_only=True, memory_limit=tenure.memory_limit) as connection:
        yield connection


@contextmanager
def _writing(tenure: Tenure) -> Iterator[Connection]:
    with warehouse(
        tenure.warehouse_path,
        memory_limit=tenure.memory_limit,
        threads=tenure.threads,
        temp_directory=tenure.temp_directory,
    ) as connection:
        yield connection
