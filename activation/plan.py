"""What has to be sent: the difference between the rows of a model and the rows that a destination has acknowledged.

Lives here: the comparison, as set operations on temporary tables. Must not live here: where acknowledged rows are kept
(`ledger.py`), whether the plan may be carried out (`guards.py`), or sending.

Rows are compared by a hash of the values of their mapped fields. A row whose hash differs is looked at field by field:
only one that says something else is sent, so that a change of the mapping alone sends nothing that the destination has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from activation.base import Change, Mode, Operation, Value
from activation.mapping import MappedField, Mapping
from core.errors import UserError
from core.warehouse import Connection, identifier, literal, rows, scalar

if TYPE_CHECKING:
    import pyarrow as pa

HASH_VERSION = "1"
"""Tag of every hash: another way of making them gets another one."""
_FETCHED = 2_000

Acknowledged = Callable[[], "pa.Table"]
"""A table of key, hash, state, in_doubt, is_parked and is_failing of every row that the destination was ever sent."""
Payloads = Callable[[Sequence[str] | None], "pa.Table"]
"""Keys (None: all) -> a table of key, payload (JSON, canonical texts by field) and remote_id of acknowledged rows."""


@dataclass(frozen=True)
class PlannedChange:
    """A change and what it does to what the destination has."""

    change: Change
    hash: str | None
    old: dict[str, str | None]
    """Canonical texts that the destination has acknowledged, of all its fields."""
    new: dict[str, str | None]
    """Canonical texts of what is sent."""

    @property
    def differing(self) -> dict[str, tuple[str | None, str | None]]:
        """Old and new text of the fields that differ."""
        return {
            name: (self.old.get(name), text) for name, text in sorted(self.new.items()) if self.old.get(name) != text
        }


@dataclass(frozen=True)
class Counts:
    """What a plan comes to. `model` + `gone` = `source` = all others but `acknowledged`, of which `parked` are not sent."""

    model: int = 0
    gone: int = 0
    create: int = 0
    update: int = 0
    retire: int = 0
    unchanged: int = 0
    invalid: int = 0
    parked: int = 0

    @property
    def source(self) -> int:
        return self.model + self.gone

    @property
    def to_send(self) -> int:
        return self.create + self.update + self.retire


@dataclass(frozen=True)
class Plan:
    """A plan that stands in the connection's temporary tables, and its numbers."""

    mapping: Mapping
    counts: Counts
    acknowledged: int
    """Rows that the destination has, before this plan."""
    changed: int
    """Rows that the destination has and that would be sent because they differ."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Invalid rows by reason."""
    newly_null: dict[str, float] = field(default_factory=dict)
    """Share of the rows with a value in a field that would lose it, by field."""


def make(connection: Connection, mapping: Mapping, acknowledged: Acknowledged, payloads: Payloads) -> Plan:
    """Compare the rows of `mapping.relation` with those that the destination was ever sent.

    Leaves the temporary tables `sync_plan` and `sync_old` in `connection`.
    """
    # The ledger is read while the rows are hashed: each takes about a second for a million.
    with ThreadPoolExecutor(1) as beside:
        known = beside.submit(acknowledged)
        _desire(connection, mapping)
        connection.register("sync_acknowledged", known.result())
    _compare(connection)
    _look_at_fields(connection, mapping, payloads)
    has = f"select count(*) from sync_acknowledged where {_HAS}"
    return Plan(
        mapping=mapping,
        counts=_counts(connection),
        acknowledged=int(scalar(connection, has)),
        changed=int(scalar(connection, "select count(*) from sync_plan where operation = 'update' and differs")),
        reasons=_reasons(connection),
        newly_null=_newly_null(connection, mapping),
    )


def resend(connection: Connection, plan: Plan, payloads: Payloads) -> Plan:
    """The same plan, with rows that are unchanged sent as well."""
    connection.execute("update sync_plan set operation = 'update' where operation = 'unchanged'")
    _fetch_old(connection, payloads)
    return _counted(connection, plan)


def only(connection: Connection, plan: Plan, keys: Sequence[str]) -> Plan:
    """The same plan for some rows. Raises `UserError` when a key is in no row."""
    import pyarrow as pa

    connection.register("sync_chosen", pa.table({"key": pa.array(list(dict.fromkeys(keys)), pa.string())}))
    unknown = rows(connection, "select key from sync_chosen anti join sync_plan using (key) order by key")
    if unknown:
        named = ", ".join(row["key"] for row in unknown[:10])
        raise UserError(f"No row has the key {named}.", hint=f"Keys are values of {plan.mapping.key}.")
    connection.execute("delete from sync_plan where key is null or key not in (select key from sync_chosen)")
    return _counted(connection, plan)


def changes(connection: Connection, plan: Plan, *, mode: Mode) -> Iterator[PlannedChange]:
    """What is to be sent, by key. Nothing else may be asked of `connection` until the last one is read.

    Without creating (mode `update`), rows that were never acknowledged are updates.
    """
    fields = plan.mapping.fields
    values = ", ".join(f"{f.value_sql} as {identifier(f'v{n}')}" for n, f in enumerate(fields))
    texts = ", ".join(f"{literal(f.name)}, {f.text_sql}" for f in fields)
    sent = f"select p.key from sync_plan as p where {_SENT} and p.operation <> 'retire'"
    # The rows are picked before anything is made of their columns: 0.1 s instead of 22 s for one in a hundred of a million.
    connection.execute(
        f"create or replace temp table sync_sent as select {_key(plan.mapping)} as key,"
        f" json_object({texts}) as payload, {values} from {plan.mapping.relation} as s where {_key(plan.mapping)} in ({sent})"
    )
    columns = ", ".join(f"s.{identifier(f'v{n}')}" for n in range(len(fields)))
    cursor = connection.execute(
        f"select p.key, p.operation, p.hash, o.remote_id, o.payload, s.payload, {columns}"
        " from sync_plan as p left join sync_sent as s on s.key = p.key left join sync_old as o on o.key = p.key"
        f" where {_SENT} order by p.key"
    )
    while fetched := cursor.fetchmany(_FETCHED):
        for row in fetched:
            yield _planned(row, fields, mode)


def invalid_rows(connection: Connection, *, limit: int) -> list[tuple[str | None, str]]:
    """Key and reason of rows that are never sent."""
    sql = "select key, reason from sync_plan where operation = 'invalid' order by reason, key limit ?"
    return connection.execute(sql, [limit]).fetchall()


def settled(connection: Connection) -> tuple[list[str], list[str]]:
    """Keys of rows that failed before and need nothing any more: those that are back at what the destination has, and those
    that left the model before they were ever acknowledged."""
    back = "select p.key from sync_plan as p join sync_acknowledged as a using (key) where a.is_failing and p.operation = 'unchanged'"
    gone = (
        "select a.key from sync_acknowledged as a anti join sync_plan as p using (key)"
        " where a.state = 'failed' and not a.in_doubt"
    )
    return (
        [key for (key,) in connection.execute(back).fetchall()],
        [key for (key,) in connection.execute(gone).fetchall()],
    )


def rehashed(connection: Connection) -> list[tuple[str, str]]:
    """Key and new hash of rows that say the same under another hash, as after a change of the mapping."""
    return connection.execute(
        "select p.key, p.hash from sync_plan as p join sync_acknowledged as a using (key)"
        " where p.operation = 'unchanged' and p.hash <> a.hash"
    ).fetchall()


# --- the comparison ----------------------------------------------------------------------------------------------

_HAS = "state = 'acknowledged'"
_SENT = "p.operation in ('create', 'update', 'retire') and not p.is_parked"


def _key(mapping: Mapping) -> str:
    return f"cast(s.{identifier(mapping.key)} as varchar)"


def _desire(connection: Connection, mapping: Mapping) -> None:
    """Each row of the model: its key, its hash, and why it cannot be sent."""
    key = _key(mapping)
    wrong = [f"when {f.wrong_sql} then {literal('wrong_type:' + f.name)}" for f in mapping.fields if f.wrong_sql]
    # Which keys come twice is asked of the keys alone, which is a third of the time of a window over whole rows.
    connection.execute(
        "create or replace temp table sync_repeated as"
        f" select {key} as key from {mapping.relation} as s group by all having count(*) > 1"
    )
    connection.execute(
        "create or replace temp table sync_desired as"
        f" select {key} as key, {_digest(connection, mapping.compared)} as hash,"
        f" case when {key} is null then 'null_key' when regexp_matches({key}, '^\\s*$|[\\x00-\\x1f]')"
        f" then case when trim({key}) = '' then 'null_key' else 'control_character_in_key' end"
        f" when {key} in (select key from sync_repeated where key is not null) then 'duplicate_key'"
        f" {' '.join(wrong)} end as reason"
        f" from {mapping.relation} as s"
    )


def _digest(connection: Connection, fields: Sequence[MappedField]) -> str:
    """SQL of a row's hash: twice 64 bits over the values, in both orders. MD5 of canonical texts takes eight times as long.

    The engine's own hash may change with its version. The version is hashed along, so that it changes all hashes at once; fields
    then decide, and the hashes are brought up to date.
    """
    names = " ".join(f"{field.name}/{field.on_null}" for field in fields)
    salt = literal(f"{scalar(connection, 'select version()')} {names}")
    values = [field.value_sql for field in fields]
    there, back = ", ".join([salt, *values]), ", ".join([salt, *reversed(values)])
    return f"{literal(HASH_VERSION + ':')} || hash({there}) || '.' || hash({back})"


def _compare(connection: Connection) -> None:
    connection.execute(
        "create or replace temp table sync_plan as select * from ("
        " select coalesce(d.key, a.key) as key, d.hash, d.reason,"
        " case when d.reason is not null then 'invalid'"
        f" when d.hash is null then case when a.in_doubt or a.{_HAS} then 'retire' end"
        f" when a.key is null or not a.{_HAS} then 'create'"
        " when a.in_doubt or a.hash is distinct from d.hash then 'update'"
        " else 'unchanged' end as operation,"
        " coalesce(a.is_parked, false) as is_parked, coalesce(a.in_doubt, false) as in_doubt, false as differs"
        " from sync_desired as d full outer join sync_acknowledged as a on d.key = a.key) where operation is not null"
    )


def _look_at_fields(connection: Connection, mapping: Mapping, payloads: Payloads) -> None:
    """Rows whose hash differs, though all that would be sent is what the destination has, are unchanged."""
    _fetch_old(connection, payloads)
    compared = mapping.compared
    differs = " or ".join(
        f"(n.t{n} is distinct from n.f{n}" + (f" and n.t{n} is not null)" if f.on_null == "skip" else ")")
        for n, f in enumerate(compared)
    )
    texts = "".join(f", {f.text_sql} as t{n}" for n, f in enumerate(compared))
    olds = "".join(
        f", json_extract_string(payload, {literal('$.' + _quoted(f.name))}) as f{n}" for n, f in enumerate(compared)
    )
    connection.execute(
        "create or replace temp table sync_looked as"
        f" with new as (select {_key(mapping)} as key{texts} from {mapping.relation} as s"
        f" where {_key(mapping)} in (select key from sync_plan where operation = 'update')),"
        f" old as (select key{olds} from sync_old)"
        " select * from new as n join old as o using (key)"
    )
    connection.execute(
        f"create or replace temp table sync_differing as select n.key from sync_looked as n where {differs or 'false'}"
    )
    connection.execute(
        "update sync_plan set differs = true where operation = 'update' and key in (from sync_differing)"
    )
    connection.execute(
        "update sync_plan set operation = 'unchanged' where operation = 'update' and not differs and not in_doubt"
    )
    if all(f.on_null == "skip" for f in mapping.fields):
        nothing = " and ".join(f"{f.text_sql} is null" for f in mapping.fields) or "true"
        connection.execute(
            "update sync_plan set operation = 'unchanged' where operation in ('create', 'update') and key in"
            f" (select {_key(mapping)} from {mapping.relation} as s where {nothing})"
        )


def _fetch_old(connection: Connection, payloads: Payloads) -> None:
    """What the destination has of the rows that may be sent, as the table `sync_old`."""
    wanted = "operation in ('create', 'update', 'retire')"
    known = int(scalar(connection, "select count(*) from sync_acknowledged"))
    some = "select p.key from sync_plan as p join sync_acknowledged as a using (key) where p." + wanted
    keys = [key for (key,) in connection.execute(some).fetchall()] if known else []
    # Asking for a fifth of all rows one by one takes longer than reading them all.
    connection.register("sync_payloads", payloads(keys if len(keys) * 5 < known else None))
    connection.execute(
        "create or replace temp table sync_old as select key, payload, remote_id from sync_payloads"
        f" semi join (select key from sync_plan where {wanted}) using (key)"
    )
    connection.unregister("sync_payloads")


def _quoted(name: str) -> str:
    return '"' + name + '"'


def _counted(connection: Connection, plan: Plan) -> Plan:
    return Plan(
        plan.mapping, _counts(connection), plan.acknowledged, plan.changed, _reasons(connection), plan.newly_null
    )


def _counts(connection: Connection) -> Counts:
    found = connection.execute(
        "select operation, is_parked and operation in ('create', 'update', 'retire') as waits, count(*)"
        " from sync_plan group by all"
    ).fetchall()
    total: dict[str, int] = {}
    parked = gone = 0
    for operation, waits, count in found:
        gone += count if operation == "retire" else 0
        if waits:
            parked += count
        else:
            total[operation] = count
    model = sum(count for _, _, count in found) - gone
    return Counts(model=model, gone=gone, parked=parked, **total)


def _reasons(connection: Connection) -> dict[str, int]:
    sql = "select reason, count(*) from sync_plan where operation = 'invalid' group by all order by all"
    return dict(connection.execute(sql).fetchall())


def _newly_null(connection: Connection, mapping: Mapping) -> dict[str, float]:
    """The fields that rows lose their value in: the share of the rows that had one (rows that are unchanged have what they had)."""
    places = {field.name: n for n, field in enumerate(mapping.compared)}
    lost = _counted_by_field(
        connection,
        [field for field in mapping.compared if field.on_null == "clear"],
        lambda f: f"f{places[f.name]} is not null and t{places[f.name]} is null",
        "sync_looked",
    )
    losing = [f for f in mapping.compared if lost.get(f.name)]
    there = "(select key from sync_plan where operation in ('update', 'unchanged'))"
    kept = _counted_by_field(
        connection,
        losing,
        lambda f: f"{f.text_sql} is not null",
        f"{mapping.relation} as s where {_key(mapping)} in {there}",
    )
    shares = {f.name: lost[f.name] / (lost[f.name] + kept[f.name]) for f in losing}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _counted_by_field(
    connection: Connection, fields: Sequence[MappedField], condition: Callable[[MappedField], str], source: str
) -> dict[str, int]:
    if not fields:
        return {}
    counts = ", ".join(f"count(*) filter ({condition(field)})" for field in fields)
    found = connection.execute(f"select {counts} from {source}").fetchone() or ()
    return {field.name: int(count) for field, count in zip(fields, found, strict=True)}


def _planned(row: tuple[Any, ...], fields: Sequence[MappedField], mode: Mode) -> PlannedChange:
    key, planned, digest, remote_id, had, has = row[:6]
    old: dict[str, str | None] = json.loads(had) if had else {}
    operation: Operation = "update" if planned == "create" and mode == "update" else planned
    if operation == "retire":
        nothing: dict[str, Value] = dict.fromkeys((f.name for f in fields), None)
        return PlannedChange(Change(key, operation, nothing, remote_id), None, old, dict.fromkeys(nothing, None))
    texts = json.loads(has)
    sent = [
        (f.name, value) for f, value in zip(fields, row[6:], strict=True) if value is not None or f.on_null == "clear"
    ]
    new = {name: texts[name] for name, _ in sent}
    return PlannedChange(Change(key, operation, dict(sent), remote_id), digest, old, new)
