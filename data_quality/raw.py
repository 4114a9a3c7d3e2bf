"""The gate of a raw table: what this run loaded into it, before anything is built on it.

Lives here: what is measured of raw tables, the ledger and the quarantine, and what is said about it. Must not live here:
the rules of the entities (`core.contract`), loading.

What is judged are the rows that no gate has passed yet: those of this run, and those of earlier runs that were stopped
before or by their gate. So a second run cannot carry past the gate what the first one was refused for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from core.contract import Column
from core.settings import Config
from core.warehouse import Connection, identifier, literal, rows, table_exists
from core.words import percent
from data_quality import chronology, profile, terms, volume, words
from data_quality.checks import STEADY, CheckSpec, RawTable, raw_checks
from data_quality.chronology import ChronologyWords
from data_quality.columns import (
    ProfileWords,
    add_missing,
    columns_frame,
    explain_rows,
    number,
    row_expectations,
    schema_records,
)
from data_quality.frames import Expect, Frame
from data_quality.gate import Gate, Run, Words
from data_quality.profile import Record
from data_quality.rules import ColumnRule, TableRule
from data_quality.terms import TermWords
from data_quality.words import UnknownWords

ROWS_AT_ONCE = 10_000
"""Up to this many new rows are judged themselves; of more, a profile is judged that covers all of them."""

FEW_ROWS = 50
"""A stream that delivered fewer rows than this is judged on all it ever delivered: one bad row of two is no alarm."""

JUDGED_DAYS = 7
"""How far back a day's volume is judged, when rows for it arrive."""

LATEST_AHEAD = timedelta(days=2)
LATEST_PLANNED = timedelta(days=365 * 50)

META = (
    ColumnRule("_source", "varchar", required=True),
    ColumnRule("_stream", "varchar", required=True),
    ColumnRule("_account_source", "varchar", required=True),
    ColumnRule("_file", "varchar"),
    ColumnRule("_loaded_at", "timestamp", required=True),
    ColumnRule("_run_id", "varchar", required=True),
)


@dataclass(frozen=True)
class Newest:
    """How many rows a stream has, and when its newest fact happened, at most the run's clock; None where none is dated."""

    source: str
    stream: str
    rows: int
    at: datetime | None


def newest_facts(connection: Connection, tables: Sequence[RawTable], run: Run) -> list[Newest]:
    """The newest fact (or change) of every configured stream."""
    found = []
    for table in tables:
        columns = [table.entity.happened_at, *(["updated_at"] if "updated_at" in table.entity.column_names else [])]
        at: dict[tuple[str, str], Record] = {}
        there = profile.shape(connection, table.schema, table.entity.name).types
        if {*columns, "_source", "_stream"} <= set(there):
            newest = ", ".join(f"max({name}) filter (where {name} <= $as_of)" for name in columns)
            at = {
                (row["_source"], row["_stream"]): row
                for row in _rows(
                    connection,
                    f"select _source, _stream, count(*) as n, greatest({newest}) as at from {table.name} group by all",
                    as_of=run.as_of,
                )
            }
        for stream in table.streams:
            row = at.get(stream, {"n": 0, "at": None})
            found.append(Newest(*stream, rows=row["n"], at=row["at"]))
    return found


def raw_gate(
    connection: Connection,
    config: Config,
    table: RawTable,
    newest: Sequence[Newest],
    run: Run,
    *,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Gate:
    """Measure one raw table."""
    gate = Gate(raw_checks(table, config))
    measure = _Measure(connection, config, table, run, gate, rows_at_once)
    measure.loads()
    measure.streams(newest)
    measure.columns()
    measure.words()
    measure.chronology()
    measure.terms()
    measure.volume()
    return gate


def raw_rule(connection: Connection, config: Config, table: RawTable, now: datetime) -> TableRule:
    """The contract's rules as rules of the raw table."""
    entity = table.entity
    accounts = _account_lists(connection, config)
    before = {later: earlier for earlier, later in entity.ordered}
    # The models date derived accounts by their first fact.
    undated = config.identity.derive_accounts and entity.name == "accounts"

    def rule(column: Column) -> ColumnRule:
        is_time = column.type == "timestamp"
        latest = now + (LATEST_PLANNED if column.future else LATEST_AHEAD)
        return ColumnRule(
            name=column.name,
            sql_type=column.sql_type,
            required=column.required and not (undated and column.name == entity.happened_at),
            minimum=column.minimum,
            maximum=column.maximum,
            not_before=(before[column.name],) if column.name in before else (),
            earliest=f"timestamp '{config.quality.earliest}'" if is_time else None,
            latest=f"timestamp '{latest:%Y-%m-%d %H:%M:%S}'" if is_time else None,
            orphan=_orphan(table, accounts) if column.name == "account_id" and entity.name != "accounts" else None,
            personal=column.personal,
        )

    return TableRule(
        schema=table.schema,
        name=entity.name,
        columns=(*(rule(column) for column in entity.columns), *META),
        key=("_source", "_stream", entity.key),
        key_where=f"{identifier(entity.key)} is not null" if entity.key_is_optional else "true",
    )


def unguarded(table: str, run: Run, column: str = "_run_id") -> str:
    """SQL of the rows that no gate has passed yet."""
    passed = f"select run_id from quality.guarded where table_name = {literal(table)} and guarded_by <> {literal(run.run_id)}"
    return f"({column} is null or {column} not in ({passed}))"


def _account_lists(connection: Connection, config: Config) -> dict[str, str]:
    """For each source that lists accounts, the raw table with its list."""
    found = {}
    for source, settings in config.sources.items():
        if "accounts" in settings.entities and table_exists(connection, f"raw_{settings.connector}", "accounts"):
            found[source] = f"raw_{settings.connector}.accounts"
    return found


def _orphan(table: RawTable, accounts: Mapping[str, str]) -> str | None:
    """SQL of rows whose account is not listed; rows that name none, or of a source without a list, are not judged."""
    if not accounts:
        return None
    tables = sorted(set(accounts.values()))
    sources = ", ".join(literal(source) for source in sorted(accounts))
    listed = " union all ".join(f"select _source, account_id from {name}" for name in tables)
    named = f"account_id is not null and _account_source in ({sources})"
    return f"({named} and (_account_source, account_id) not in (select (_source, account_id) from ({listed})))"


def _rows(connection: Connection, sql: str, **parameters: Any) -> list[Record]:
    cursor = connection.execute(sql, parameters)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class _Measure:
    """Measures one table for one gate."""

    def __init__(
        self, connection: Connection, config: Config, table: RawTable, run: Run, gate: Gate, rows_at_once: int
    ) -> None:
        self.connection, self.config, self.table, self.run, self.gate = connection, config, table, run, gate
        self.rows_at_once = rows_at_once
        self.entity = table.entity
        self.specs: dict[str, CheckSpec] = {spec.name: spec for spec in gate.specs}
        self.fits = False
        self.new_rows = 0
        self.new = unguarded(table.name, run)

    # --- the rows and their columns ----------------------------------------------------------------------------

    def columns(self) -> None:
        rule = raw_rule(self.connection, self.config, self.table, self.run.now)
        found = profile.shape(self.connection, self.table.schema, self.entity.name)
        records = schema_records(rule, found)
        self.fits = found.fits(rule)
        if not self.fits:
            self._add_profile(rule, records)
            for check in ("required", "ranges", "keys_unique", "references"):
                self.gate.skip(check, "the table's columns are not those of the contract")
            return
        self.new_rows = profile.count(self.connection, self.table.name, self.new)
        self.gate.note("schema", f"{len(records)} columns as promised", "the contract's columns and types")
        self._keys_and_references(rule, records)
        if self.new_rows == 0:
            for check in ("required", "ranges"):
                self.gate.skip(check, "no new rows")
            self._add_profile(rule, records)
            return
        basis = "row by row" if self.new_rows <= self.rows_at_once else "by a profile of all of them"
        for check in ("required", "ranges"):
            self.gate.note(check, f"all {number(self.new_rows)} new rows hold it, judged {basis}", "")
        if self.new_rows <= self.rows_at_once:
            self._add_profile(rule, records)
            self._add_rows(rule)
            return
        measured = {record["column"]: record for record in profile.profile(self.connection, rule, self.new)}
        for record in records:
            record.update(measured[record["column"]])
        add_missing(records, rule)
        self._add_profile(rule, records)

    def _add_profile(self, rule: TableRule, records: Sequence[Record]) -> None:
        frame = columns_frame("raw", rule, records, self.specs)
        self.gate.add(frame, ProfileWords(self.connection, rule, records, self.new, "new rows"))

    def _keys_and_references(self, rule: TableRule, records: Sequence[Record]) -> None:
        total = profile.count(self.connection, self.table.name, "true")
        by_column = {record["column"]: record for record in records}
        candidates = None if self.new_rows == total else self.new
        repeated, sample = (
            profile.repeated_keys(self.connection, rule, candidates, rows_of_table=total) if self.new_rows else (0, ())
        )
        by_column[self.entity.key].update(repeated_keys=repeated, repeated_sample=sample, table_rows=total)
        if self.new_rows:
            self.gate.note("keys_unique", f"no key of {number(self.new_rows)} new rows stands twice", "")
        else:
            self.gate.skip("keys_unique", "no new rows")
        if "references" not in self.specs:
            return
        orphan = rule.column("account_id").orphan
        if orphan is None:
            self.gate.skip("references", "no source lists accounts")
            return
        orphans = profile.count(self.connection, self.table.name, orphan)
        by_column["account_id"].update(orphans=orphans, table_rows=total, refers_to="raw accounts of the same source")
        self.gate.note("references", f"all {number(total)} rows do", "every account is listed by its source")

    def _add_rows(self, rule: TableRule) -> None:
        visible = [column for column in rule.columns if not column.personal]
        selected = ", ".join(
            f"cast({identifier(c.name)} as double) as {identifier(c.name)}" if c.has_limits else identifier(c.name)
            for c in visible
        )
        data = self.connection.execute(
            f"select {selected}, {profile.key_sql(rule)} as _key from {self.table.name} where {self.new}"
        ).df()
        keys: list[str] = list(data.pop("_key"))
        limits = {
            column.name: (
                str(self.config.quality.earliest),
                str(self.run.now + (LATEST_PLANNED if column.future else LATEST_AHEAD)),
            )
            for column in self.entity.columns
            if column.type == "timestamp"
        }
        frame = Frame("raw", self.table.name, "rows", data, tuple(row_expectations(rule, self.specs, limits)), rule.key)
        self.gate.add(frame, explain_rows(rule, keys, len(keys), "new rows"))

    def words(self) -> None:
        """Words of all rows, new and old, that the models do not know."""
        if "accepted_values" not in self.specs:
            return
        accepted = words.known(self.table, self.config)
        if not self.fits:
            self.gate.skip("accepted_values", "the table's columns are not those of the contract")
            return
        rule = raw_rule(self.connection, self.config, self.table, self.run.now)
        found = words.measure(self.connection, self.table, rule, accepted)
        if not found:
            self.gate.skip("accepted_values", f"no row has {' or '.join(accepted)}")
            return
        import pandas as pd

        says = "Only words that the models know"
        self.gate.note("accepted_values", "; ".join(f"{r['source']} {r['column']}" for r in found), says)
        expect = Expect(
            "accepted_values", self.specs["accepted_values"].severity, "between", "unknown", says, maximum=0
        )
        data = pd.DataFrame([{key: record[key] for key in ("source", "column", "unknown")} for record in found])
        self.gate.add(
            Frame("raw", self.table.name, "words", data, (expect,), ("source", "column")),
            UnknownWords(self.table, accepted, found),
        )

    # --- what the ledger says ----------------------------------------------------------------------------------

    def loads(self) -> None:
        """Every load of this table that no gate has passed: does it add up, in itself and with the tables?"""
        import pandas as pd

        loads = _rows(
            self.connection,
            "select run_id, source, stream, status, message, rows_read, rows_inserted, rows_updated, rows_unchanged,"
            " rows_superseded, rows_quarantined, coalesce(rows_deleted, 0) as rows_deleted,"
            " coalesce(rows_ended, 0) as rows_ended, rows_released, coalesce(rows_reassigned, 0) as rows_reassigned,"
            " coalesce(rows_withdrawn, 0) as rows_withdrawn, coalesce(rows_suppressed, 0) as rows_suppressed from ledger.loads"
            f" where connector = $connector and entity = $entity and {unguarded(self.table.name, self.run, 'run_id')}"
            " order by started_at, source, stream",
            connector=self.table.connector,
            entity=self.entity.name,
        )
        stopped = [load for load in loads if load["run_id"] == self.run.run_id and load["status"] == "stopped"]
        # A stream that stopped keeps the stretches that it had loaded before.
        counted = [load for load in loads if load["status"] != "stopped" or load["rows_read"]]
        in_table = self._rows_of_run(self.table.name)
        # A row that was delivered twice is one record, which counts how often this run has seen it.
        in_quarantine = self._rows_of_run(f"quarantine.{self.entity.name}", counted="sum(coalesce(_times_in_run, 1))")
        once = [load for load in counted if load["run_id"] == self.run.run_id]
        for load in counted:
            done = sum(
                load[f"rows_{part}"]
                for part in ("inserted", "updated", "unchanged", "superseded", "quarantined", "suppressed", "deleted")
            )
            load.update(
                rows_accounted=done, rows_in_table=None, rows_at_least=None, rows_at_most=None, quarantine_rows=None
            )
            # A row that had been loaded and went back to quarantine was read by an earlier run.
            load["rows_to_quarantine"] = load["rows_quarantined"] + load["rows_withdrawn"]
            stream = (load["source"], load["stream"])
            # A second load of the stream under the same run id overwrites rows of the first: then only the sum is judged.
            if [(other["source"], other["stream"]) for other in once].count(stream) == 1 and load in once:
                load["rows_in_table"] = in_table.get(stream, 0)
                # A row that is gone may have come in this very load; one that ended or moved is there, stamped anew.
                load["rows_at_least"] = max(load["rows_inserted"] - load["rows_deleted"], 0)
                load["rows_at_most"] = sum(
                    load[f"rows_{part}"]
                    for part in ("inserted", "updated", "released", "deleted", "ended", "reassigned")
                )
                load["quarantine_rows"] = in_quarantine.get(stream, 0)
        if stopped or counted:
            self._note_loads(stopped, counted)
        else:
            self.gate.skip("accounting", "nothing was loaded")
            self.gate.skip("streams", "no stream of this table was read in this run")
        records = [
            *({**load, "stopped": 1} for load in stopped),
            *({**load, "stopped": 0 if load["run_id"] == self.run.run_id else None} for load in counted),
        ]
        if records:
            hidden = ("message",)
            data = pd.DataFrame([{k: v for k, v in record.items() if k not in hidden} for record in records])
            self.gate.add(
                Frame(
                    "raw",
                    self.table.name,
                    "loads",
                    data,
                    self._load_expectations(bool(counted)),
                    ("run_id", "source", "stream"),
                ),
                _LoadWords(self.table, records),
            )

    def _note_loads(self, stopped: Sequence[Record], counted: Sequence[Record]) -> None:
        read = sum(load["rows_read"] for load in counted)
        quarantined = sum(load["rows_quarantined"] for load in counted)
        suppressed = sum(load["rows_suppressed"] for load in counted)
        if counted:
            kept_out = f"{number(quarantined)} quarantined" + (
                f" + {number(suppressed)} suppressed" if suppressed else ""
            )
            text = f"{number(read)} rows read = {number(read - quarantined - suppressed)} loaded or known + {kept_out}"
            self.gate.note(
                "accounting",
                text,
                "read = inserted + updated + unchanged + superseded + quarantined + suppressed + deleted",
            )
        else:
            self.gate.skip("accounting", "the stream had to stop")
        self.gate.note("streams", f"{len(counted)} loads, none stopped", "no stream stopped")

    def _load_expectations(self, any_counted: bool) -> tuple[Expect, ...]:
        accounting, streams = self.specs["accounting"].severity, self.specs["streams"].severity
        expects = [Expect("streams", streams, "between", "stopped", "No stream had to stop", minimum=0, maximum=0)]
        if any_counted:
            expects += [
                Expect(
                    "accounting",
                    accounting,
                    "equal",
                    "rows_read",
                    "Every row read is accounted for",
                    other="rows_accounted",
                ),
                Expect(
                    "accounting",
                    accounting,
                    "at_least",
                    "rows_in_table",
                    "Rows inserted are in the table",
                    other="rows_at_least",
                ),
                Expect(
                    "accounting",
                    accounting,
                    "at_least",
                    "rows_at_most",
                    "No row is there that was not loaded",
                    other="rows_in_table",
                ),
                Expect(
                    "accounting",
                    accounting,
                    "equal",
                    "rows_to_quarantine",
                    "Rows quarantined are kept",
                    other="quarantine_rows",
                ),
            ]
        return tuple(expects)

    def _rows_of_run(self, table: str, counted: str = "count(*)") -> dict[tuple[str, str], int]:
        schema, name = table.split(".")
        if "_run_id" not in profile.shape(self.connection, schema, name).types:
            return {}
        found = _rows(
            self.connection,
            f"select _source, _stream, cast({counted} as bigint) as n from {table} where _run_id = $run_id group by all",
            run_id=self.run.run_id,
        )
        return {(row["_source"], row["_stream"]): row["n"] for row in found}

    # --- quarantine and freshness ------------------------------------------------------------------------------

    def streams(self, newest: Sequence[Newest]) -> None:
        """One record per stream: how much of it is in quarantine, and how old its newest fact is."""
        import pandas as pd

        by_stream = {(fact.source, fact.stream): fact for fact in newest}
        by_source: dict[str, datetime] = {}
        for fact in newest:
            if fact.at is not None:
                by_source[fact.source] = max(fact.at, by_source.get(fact.source, fact.at))
        records = []
        for source, stream in self.table.streams:
            mine = by_stream[source, stream]
            at = mine.at if self.entity.name in STEADY else by_source.get(source)
            limit = self.config.sources[source].stale_after_days
            age = None if at is None else max((self.run.as_of - at).total_seconds() / 86_400, 0.0)
            records.append(
                {
                    "source": source,
                    "stream": stream,
                    **self._quarantined(source, stream),
                    "max_share": self.config.quality.max_quarantined_share,
                    "newest_fact_at": None if at is None else str(at),
                    "age_days": None if age is None else round(age, 2),
                    "stale_after_days": limit,
                    "silent": int(mine.rows == 0) if limit is not None else None,
                }
            )
        self._note_streams(records)
        self.gate.add(
            Frame(
                "raw",
                self.table.name,
                "streams",
                pd.DataFrame(records),
                self._stream_expectations(records),
                ("source", "stream"),
            ),
            _StreamWords(self.table, records),
        )

    def _quarantined(self, source: str, stream: str) -> Record:
        where = f"_source = {literal(source)} and _stream = {literal(stream)}"
        quarantine = f"quarantine.{self.entity.name}"
        new = unguarded(self.table.name, self.run)
        read = _rows(
            self.connection,
            "select coalesce(sum(rows_read), 0) as n from ledger.loads where source = $source and stream = $stream"
            f" and {unguarded(self.table.name, self.run, 'run_id')}",
            source=source,
            stream=stream,
        )[0]["n"]
        if read == 0:
            return {"judged_rows": 0, "quarantined_rows": 0, "quarantined_share": None, "reasons": ""}
        # What went back to quarantine was not read by these loads.
        basis, new, counted = "new", f"{new} and _loaded_at is null", "sum(coalesce(_times_in_run, 1))"
        if read < FEW_ROWS:
            basis, new, counted = "all", "true", "count(*)"
            kept = profile.count(self.connection, quarantine, where)
            if table_exists(self.connection, self.table.schema, self.entity.name):
                kept += profile.count(self.connection, self.table.name, where)
            read = max(read, kept)
        reasons = rows(
            self.connection,
            f"select _reason as reason, cast({counted} as bigint) as n from {quarantine} where {where} and {new}"
            " group by all order by n desc, reason",
        )
        bad = sum(row["n"] for row in reasons)
        return {
            "judged_rows": int(read),
            "quarantined_rows": bad,
            "quarantined_share": bad / int(read) if read else None,
            "reasons": ", ".join(f"{number(row['n'])} {row['reason']}" for row in reasons),
            "basis": basis,
        }

    def _note_streams(self, records: Sequence[Record]) -> None:
        shares = [record for record in records if record["quarantined_share"] is not None]
        if shares:
            bad, read = sum(r["quarantined_rows"] for r in shares), sum(r["judged_rows"] for r in shares)
            reasons = "; ".join(r["reasons"] for r in shares if r["reasons"])
            text = f"{number(bad)} of {number(read)} rows are in quarantine" + (f" ({reasons})" if reasons else "")
            self.gate.note(
                "quarantine_share", text, f"at most {percent(self.config.quality.max_quarantined_share)} of a stream"
            )
        else:
            self.gate.skip("quarantine_share", "nothing was read")
        ages = "; ".join(
            f"{r['source']} {'has no fact' if r['age_days'] is None else 'is {} days old'.format(number(r['age_days']))}"
            for r in records
        )
        if any(record["stale_after_days"] is not None for record in records):
            self.gate.note("freshness", ages, "no older than stale_after_days")
        else:
            self.gate.skip("freshness", f"no source sets stale_after_days ({ages})", "stale_after_days")

    def _stream_expectations(self, records: Sequence[Record]) -> tuple[Expect, ...]:
        expects = []
        if any(record["quarantined_share"] is not None for record in records):
            severity = self.specs["quarantine_share"].severity
            says = "The share of quarantined rows is not above the limit"
            expects.append(
                Expect("quarantine_share", severity, "at_least", "max_share", says, other="quarantined_share")
            )
        if any(record["stale_after_days"] is not None for record in records):
            severity = self.specs["freshness"].severity
            says = "The newest fact is no older than stale_after_days"
            expects.append(
                Expect("freshness", severity, "between", "silent", "The stream has facts", minimum=0, maximum=0)
            )
            if any(record["age_days"] is not None for record in records):
                expects.append(Expect("freshness", severity, "at_least", "stale_after_days", says, other="age_days"))
        return tuple(expects)

    def _can_judge(self, check: str) -> bool:
        """Whether the table has the check, and the columns for it; where it has not, the gate is told."""
        if check in self.specs and not self.fits:
            self.gate.skip(check, "the table's columns are not those of the contract")
        return check in self.specs and self.fits

    # --- chronology --------------------------------------------------------------------------------------------

    def chronology(self) -> None:
        """One record per source: how many of its rows happened before their account was created."""
        if not self._can_judge("chronology"):
            return
        import pandas as pd

        rule = raw_rule(self.connection, self.config, self.table, self.run.now)
        records = chronology.measure(self.connection, self.table, rule, _account_lists(self.connection, self.config))
        if not records:
            self.gate.skip("chronology", "no row has an account with a date of creation")
            return
        text = "; ".join(f"none of {number(record['rows'])} rows of {record['source']} does" for record in records)
        self.gate.note("chronology", text, "no row lies on a day before its account was created")
        data = pd.DataFrame([{k: v for k, v in record.items() if k != "sample"} for record in records])
        says = "No row lies on a day before its account was created"
        severity = self.specs["chronology"].severity
        expects = (Expect("chronology", severity, "between", "early_rows", says, minimum=0, maximum=0),)
        self.gate.add(
            Frame("raw", self.table.name, "chronology", data, expects, ("source",)),
            ChronologyWords(self.table, records),
        )

    # --- terms -------------------------------------------------------------------------------------------------

    def terms(self) -> None:
        """One record per source and column: whether it forgets what was agreed of subscriptions that ended."""
        if not self._can_judge("terms"):
            return
        import pandas as pd

        records = terms.measure(self.connection, self.table, self.run.as_of)
        if not records:
            self.gate.skip("terms", "no source tells terms of enough periods that run and that ended")
            return
        self.gate.note(
            "terms", "; ".join(f"{record['source']} keeps {record['agreed']}" for record in records), "of both alike"
        )
        says = "Terms are known of periods that ended"
        expects = (Expect("terms", self.specs["terms"].severity, "between", "kept", says, minimum=terms.LEAST),)
        self.gate.add(
            Frame("raw", self.table.name, "terms", pd.DataFrame(records), expects, ("source", "agreed")),
            TermWords(self.table, records),
        )

    # --- volume ------------------------------------------------------------------------------------------------

    def volume(self) -> None:
        """One record per source and judged day: rows, and the band they should lie in."""
        if not self._can_judge("volume"):
            return
        if self.new_rows == 0:
            self.gate.skip("volume", "no new rows")
            return
        import pandas as pd

        records, unjudged = [], []
        for source in dict.fromkeys(source for source, _ in self.table.streams):
            found = self._judged_days(source)
            records += found
            if not found:
                unjudged.append(source)
        if not records:
            self.gate.skip("volume", "less than four comparable weeks, too few rows, or no weekly rhythm")
            return
        text = "; ".join(_day(record) for record in records[-3:])
        self.gate.note("volume", text, "within the band of the weekday")
        severity = self.specs["volume"].severity
        expects = (
            Expect(
                "volume",
                severity,
                "at_least",
                "rows",
                "A day has no fewer rows than its weekday's band",
                other="lowest",
            ),
            Expect(
                "volume",
                severity,
                "at_least",
                "highest",
                "A day has no more rows than its weekday's band",
                other="rows",
            ),
        )
        self.gate.add(
            Frame("raw", self.table.name, "days", pd.DataFrame(records), expects, ("source", "day")),
            _DayWords(self.table, records),
        )

    def _judged_days(self, source: str) -> list[Record]:
        happened_at = identifier(self.entity.happened_at)
        last = (self.run.as_of - timedelta(microseconds=1)).date()
        if self.run.as_of.time() != datetime.min.time():
            last -= timedelta(days=1)  # today is not over yet
        mine = f"_source = {literal(source)}"
        start = last - timedelta(days=JUDGED_DAYS + volume.DAYS_NEEDED)
        counted = _rows(
            self.connection,
            f"select cast({happened_at} as date) as day, count(*) as n, count(*) filter (where {self.new}) as new"
            f" from {self.table.name} where {mine} and {happened_at} >= $start and {happened_at} < $stop group by all",
            start=datetime(start.year, start.month, start.day),
            stop=datetime(last.year, last.month, last.day) + timedelta(days=1),
        )
        if profile.count(self.connection, self.table.name, f"{mine} and {self.new}") == 0:
            return []
        first = _rows(self.connection, f"select min({happened_at}) as at from {self.table.name} where {mine}")[0]["at"]
        counts: dict[date, int] = {row["day"]: row["n"] for row in counted}
        days = {row["day"] for row in counted if row["new"] and row["day"] > last - timedelta(days=JUDGED_DAYS)} | {
            last
        }
        records = []
        for day in sorted(days):
            band = volume.band(
                counts,
                day,
                first.date(),
                min_share=self.config.quality.min_volume_share,
                max_share=self.config.quality.max_volume_share,
            )
            if band is not None:
                records.append(
                    {
                        "source": source,
                        "day": str(day),
                        "weekday": f"{day:%A}",
                        "basis": band.basis,
                        "rows": band.rows,
                        "usual": band.usual,
                        "lowest": band.lowest,
                        "highest": band.highest,
                    }
                )
        return records


def _day(record: Record) -> str:
    span = "" if record["basis"] == "day" else " in seven days"
    return f"{record['source']} {record['day']}: {number(record['rows'])} rows{span}, usually {number(record['usual'])}"


class _LoadWords:
    def __init__(self, table: RawTable, records: Sequence[Record]) -> None:
        self.table, self.records = table, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(expect, self.records[position]) for position in positions]

    def _one(self, expect: Expect, load: Record) -> Words:
        where = f"{load['source']}/{load['stream']}"
        if expect.check == "streams":
            return Words(
                observed=str(load["message"]),
                expected="no stream stops",
                source=load["source"],
                message=f"{where} stopped and keeps what it had loaded before: {load['message']}",
            )
        if expect.column == "rows_read":
            off = abs(load["rows_read"] - load["rows_accounted"])
            observed = f"{number(load['rows_read'])} rows read, {number(load['rows_accounted'])} accounted for"
        elif expect.column == "rows_to_quarantine":
            off = abs(load["rows_to_quarantine"] - load["quarantine_rows"])
            observed = (
                f"{number(load['rows_to_quarantine'])} rows counted as quarantined,"
                f" {number(load['quarantine_rows'])} in quarantine.{self.table.entity.name}"
            )
        else:
            off = max(load["rows_at_least"] - load["rows_in_table"], load["rows_in_table"] - load["rows_at_most"])
            limits = " to ".join(dict.fromkeys((number(load["rows_at_least"]), number(load["rows_at_most"]))))
            observed = f"{limits} rows counted as loaded, {number(load['rows_in_table'])} in {self.table.name}"
        return Words(
            observed=observed,
            expected=expect.says,
            unexpected_count=int(off),
            source=load["source"],
            message=f"{self.table.name}: {where} in run {load['run_id']} does not add up: {observed}."
            f" Load the stream anew with --full; if it happens again, this is a defect of the loader.",
        )


class _StreamWords:
    def __init__(self, table: RawTable, records: Sequence[Record]) -> None:
        self.table, self.records = table, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(expect, self.records[position]) for position in positions]

    def _one(self, expect: Expect, record: Record) -> Words:
        source, where = record["source"], f"{record['source']}/{record['stream']}"
        if expect.check == "quarantine_share":
            what = "new rows" if record["basis"] == "new" else "rows ever delivered"
            share = percent(record["quarantined_share"], 1)
            observed = f"{share} ({number(record['quarantined_rows'])} of {number(record['judged_rows'])} {what})"
            return Words(
                observed=observed,
                expected=f"at most {percent(record['max_share'])}",
                unexpected_count=record["quarantined_rows"],
                source=source,
                message=f"{where}: {observed} are in quarantine, at most {percent(record['max_share'])} may be: {record['reasons']}."
                f" Look at quarantine.{self.table.entity.name}; correct the source or its mapping,"
                " or raise quality.max_quarantined_share in tenure.yml.",
            )
        limit = f"{number(record['stale_after_days'])} days"
        if expect.column == "silent":
            return Words(
                observed="no fact at all",
                expected=f"a fact in the last {limit}",
                source=source,
                message=f"{self.table.name}: {where} has delivered nothing yet. Check its path or table in tenure.yml.",
            )
        observed = f"newest fact {record['newest_fact_at']}, {number(record['age_days'])} days old"
        return Words(
            observed=observed,
            expected=f"no older than {limit}",
            source=source,
            message=f"{self.table.name}: {where} is stale: {observed}, expected within {limit}. Check that the source still delivers.",
        )


class _DayWords:
    def __init__(self, table: RawTable, records: Sequence[Record]) -> None:
        self.table, self.records = table, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(self.records[position]) for position in positions]

    def _one(self, day: Record) -> Words:
        when = f"{day['weekday']} {day['day']}" if day["basis"] == "day" else f"the seven days to {day['day']}"
        few = day["rows"] < day["lowest"]
        advice = (
            "Check whether a file is missing or late."
            if few
            else "Check whether rows were delivered twice under new keys."
        )
        return Words(
            observed=f"{number(day['rows'])} rows on {when}"
            if day["basis"] == "day"
            else f"{number(day['rows'])} rows in {when}",
            expected=f"{number(day['lowest'])} to {number(day['highest'])} (usually {number(day['usual'])})",
            unexpected_count=abs(day["rows"] - round(day["usual"])),
            source=day["source"],
            column=self.table.entity.happened_at,
            message=f"{self.table.name}: {day['source']} has {number(day['rows'])} rows for {when}, expected"
            f" {number(day['lowest'])} to {number(day['highest'])} (usually {number(day['usual'])}). {advice}",
        )
