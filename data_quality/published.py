"""The gates of marts and scores: what was built, before it is published.

Lives here: what is measured of them, and what is said about it. Must not live here: what a table promises (`marts.py`,
`scores.py`), publishing.

Marts of entities that no source fills are empty and their measures are NULL: that passes as not measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from core.contract import ENTITIES
from core.settings import Config, WatchConfig
from core.warehouse import Connection, identifier, rows, scalar, table_exists
from core.words import percent
from data_quality import gaps, named_ids, profile
from data_quality.checks import STEADY, WATCHED, CheckSpec, mart_checks, raw_tables
from data_quality.columns import ProfileWords, add_missing, columns_frame, number, schema_records
from data_quality.frames import Expect, Frame
from data_quality.gaps import GapWords
from data_quality.gate import Gate, Run, Words
from data_quality.marts import MARTS, PAST, Mart, Sum
from data_quality.named_ids import NamedIdWords
from data_quality.profile import Record
from data_quality.results import Measure
from data_quality.rules import TableRule
from data_quality.scores import SCORED

ADDRESS = "%_@_%._%"
"""What an e-mail address looks like to LIKE, which is fast on large tables."""

SCORE = "(score)"
"""The name under which ml.drift holds the score itself."""
COLUMN_CHECKS = ("required", "keys_unique", "ranges", "accepted_values", "references", "personal")


def mart_gate(connection: Connection, config: Config, mart: Mart, before: dict[str, float], run: Run) -> Gate:
    """Measure one mart. `before` gives the measures of the last run that passed, by name."""
    gate = Gate(mart_checks(mart))
    measure = _Measure(connection, config, mart, run, gate)
    measure.columns()
    measure.sums()
    measure.completeness()
    measure.named_ids()
    measure.gaps()
    measure.sizes(before)
    measure.exclusions()
    measure.freshness()
    measure.clock()
    measure.drift()
    measure.watch()
    return gate


def clock_of(connection: Connection) -> datetime | None:
    """The clock that the models read: cut to midnight, as they cut it; None before the first build."""
    if not table_exists(connection, "ledger", "clock"):
        return None
    at = scalar(connection, "select as_of_at from ledger.clock")
    return None if at is None else datetime(at.year, at.month, at.day)


def measures(connection: Connection, mart: Mart) -> list[Measure]:
    """The sizes of a mart, for comparison with the next run."""
    types = profile.shape(connection, mart.rule.schema, mart.name).types
    if not types:
        return []
    found = [Measure(mart.table, "rows", float(profile.count(connection, mart.table, "true")))]
    if mart.name == "accounts" and "mrr" in types:
        mrr = scalar(connection, f"select sum(mrr) from {mart.table}")
        found += [] if mrr is None else [Measure(mart.table, "mrr", float(mrr))]
    return found


def last_measures(connection: Connection, run: Run) -> dict[str, dict[str, float]]:
    """The measures of the marts in the last other run that passed and did not look at a later date, by table."""
    found = rows(
        connection,
        "select table_name, measure, value from quality.measures where boundary = 'marts' and run_id = (select run_id from"
        " quality.measures where boundary = 'marts' and run_id <> ? and as_of_at <= ? group by run_id having bool_and(passed)"
        " order by max(measured_at) desc, run_id limit 1)",
        [run.run_id, run.as_of],
    )
    before: dict[str, dict[str, float]] = {}
    for row in found:
        before.setdefault(row["table_name"], {})[row["measure"]] = row["value"]
    return before


class _Measure:
    """Measures one mart for one gate."""

    def __init__(self, connection: Connection, config: Config, mart: Mart, run: Run, gate: Gate) -> None:
        self.connection, self.config, self.mart, self.run, self.gate = connection, config, mart, run, gate
        self.specs: dict[str, CheckSpec] = {spec.name: spec for spec in gate.specs}
        self.rule = replace(_dated(mart.rule, run.as_of), key_where=mart.current)
        self.shape = profile.shape(connection, mart.rule.schema, mart.name)
        self.fits = self.shape.fits(self.rule)
        self.sizes_now = {measure.name: measure.value for measure in measures(connection, mart)}
        self.rows = profile.count(connection, mart.table, mart.current) if self.fits else 0

    # --- columns -----------------------------------------------------------------------------------------------

    def columns(self) -> None:
        records = schema_records(self.rule, self.shape)
        self.gate.note("schema", f"{len(records)} columns as promised", "the published columns and types")
        if not self.fits:
            for check in self.specs:
                self.gate.skip(check, "the table's columns are not those that are published")
        else:
            self._profile(records)
        frame = columns_frame(self.mart.boundary, self.rule, records, self.specs)
        self.gate.add(frame, ProfileWords(self.connection, self.rule, records, self.mart.current, "rows"))

    def _profile(self, records: Sequence[Record]) -> None:
        measured = {
            record["column"]: record for record in profile.profile(self.connection, self.rule, self.mart.current)
        }
        by_column = {record["column"]: record for record in records}
        for record in records:
            record.update(measured[record["column"]], table_rows=self.rows)
        add_missing(records, self.rule)
        repeated, sample = profile.repeated_keys(self.connection, self.rule, rows_of_table=self.rows)
        by_column[self.rule.key[-1]].update(repeated_keys=repeated, repeated_sample=sample)
        for column in self.rule.columns:
            if column.orphan is not None:
                orphans = profile.count(self.connection, self.rule.table, column.orphan)
                by_column[column.name].update(orphans=orphans, refers_to="marts.accounts")
        self._personal(by_column)
        for check in COLUMN_CHECKS:
            if self.rows:
                self.gate.note(check, f"{number(self.rows)} rows hold it", "")
            else:
                self.gate.skip(check, "the table is empty")

    def _personal(self, by_column: dict[str, Record]) -> None:
        excluded = set(self.config.publish.exclude_columns)
        published = [
            column
            for column in self.rule.columns
            if column.sql_type == "varchar" and f"{self.mart.name}.{column.name}" not in excluded
        ]
        addresses = _addresses(self.connection, self.rule, [c.name for c in published if c.name != "account_id"])
        for column in published:
            if column.personal:
                by_column[column.name]["published_personal"] = int(self.rows > 0)
            else:
                by_column[column.name]["addresses"] = addresses.get(column.name, 0)

    # --- sums --------------------------------------------------------------------------------------------------

    def sums(self) -> None:
        """One record per identity: how many comparisons, how many are off, and by how much at most."""
        if not self.mart.sums or not self.fits:
            return
        import pandas as pd

        records = [self._sum(identity) for identity in self.mart.sums]
        compared = [record for record in records if record["compared"]]
        if not compared:
            self.gate.skip("sums", "nothing to compare")
            return
        self.gate.note("sums", "; ".join(f"{r['says']} ({number(r['compared'])} compared)" for r in compared), "")
        says = "Every sum is the same both ways"
        expect = Expect("sums", self.specs["sums"].severity, "between", "off", says, minimum=0, maximum=0)
        data = pd.DataFrame([{k: v for k, v in record.items() if k != "sample"} for record in compared])
        self.gate.add(
            Frame(self.mart.boundary, self.mart.table, "sums", data, (expect,), ("sum",)),
            _SumWords(self.mart, compared),
        )

    def _sum(self, identity: Sum) -> Record:
        missing = [table for table in _tables(identity) if not table_exists(self.connection, *table.split("."))]
        if missing:
            return {"sum": identity.name, "says": identity.says, "compared": 0, "off": 0, "largest": 0.0, "sample": ()}
        off = f"abs(observed - expected) > {identity.tolerance}"
        found = rows(
            self.connection,
            f"select count(observed - expected) as compared, count(*) filter (where {off}) as off,"
            f" cast(max(abs(observed - expected)) as double) as largest,"
            f" array_agg(key order by key) filter (where {off}) as keys from ({identity.sql})",
        )[0]
        return {
            "sum": identity.name,
            "says": identity.says,
            "compared": found["compared"],
            "off": found["off"],
            "largest": found["largest"] or 0.0,
            "sample": tuple(str(key) for key in (found["keys"] or [])[: profile.SAMPLE]),
        }

    # --- from raw to mart --------------------------------------------------------------------------------------

    def completeness(self) -> None:
        """The mart holds every raw row of its entity before the clock whose account is known, once."""
        if "complete" not in self.specs or not self.fits:
            return
        tables = [table for table in raw_tables(self.config) if table.entity.name == self.mart.entity]
        if not tables:
            self.gate.skip("complete", f"no source fills {self.mart.entity}")
            return
        import pandas as pd

        raw = sum(self._raw_facts(table.name) for table in tables)
        counted = "sum(events)" if self.mart.entity == "usage_events" else "count(*)"
        built = scalar(self.connection, f"select coalesce({counted}, 0) from {self.mart.table}")
        # Sums of floating point numbers depend on their order in the last digits.
        record = {"raw_facts": raw, "mart_facts": raw if math.isclose(raw, built, rel_tol=1e-9) else built}
        self.gate.note("complete", f"{number(raw)} facts are {number(built)} in the mart", "as many")
        says = "As many facts as the raw tables hold before the clock"
        expect = Expect("complete", self.specs["complete"].severity, "equal", "mart_facts", says, other="raw_facts")
        self.gate.add(
            Frame(self.mart.boundary, self.mart.table, "facts", pd.DataFrame([record]), (expect,), ()),
            _FactWords(self.mart, record),
        )

    def _raw_facts(self, table: str) -> float:
        """The rows of a raw table before the clock; of usage, the uses that they stand for (dbt_project/macros/usage.sql)."""
        schema, name = table.split(".")
        if not table_exists(self.connection, schema, name):
            return 0
        known = "true"
        if table_exists(self.connection, "intermediate", "int_accounts_matched"):
            known = (
                "(_account_source, account_id) in"
                " (select (source, source_account_id) from intermediate.int_accounts_matched)"
            )
        happened_at = identifier(ENTITIES[name].happened_at)
        limit = f"timestamp '{self.run.as_of}'"
        before = f"{happened_at} < {limit}" if name != "contacts" else f"coalesce({happened_at} < {limit}, true)"
        if name == "usage_events":
            uses = "coalesce(sum(greatest(coalesce(event_count, quantity, 1), 0)), 0)"
            return float(scalar(self.connection, f"select {uses} from {table} where {before} and {known}"))
        return profile.count(self.connection, table, f"{before} and {known}")

    def named_ids(self) -> None:
        """Every id by which a record names an account is the id of one."""
        if "named_ids" not in self.specs or not self.fits:
            return
        found = named_ids.measure(self.connection)
        if not found:
            self.gate.skip("named_ids", "no record names the id of another source's account")
            return
        import pandas as pd

        says = "Every crm_account_id is the id of an account"
        self.gate.note("named_ids", "; ".join(f"{r['source']} {number(r['named'])} records" for r in found), says)
        expect = Expect("named_ids", self.specs["named_ids"].severity, "between", "unknown", says, minimum=0, maximum=0)
        data = pd.DataFrame([{"source": r["source"], "unknown": r["unknown"]} for r in found])
        self.gate.add(
            Frame(self.mart.boundary, self.mart.table, "named_ids", data, (expect,), ("source",)),
            NamedIdWords(self.mart.table, found),
        )

    def gaps(self) -> None:
        """Periods that are carried on leave no gap of up to a day."""
        if "gaps" not in self.specs or not self.fits:
            return
        found = gaps.measure(self.connection, self.config)
        if not found:
            self.gate.skip("gaps", "no period is carried on within a day")
            return
        import pandas as pd

        says = "Periods that are carried on leave no gap"
        said = (f"{r['source']}/{r['stream']} {number(r['gaps'])} of {number(r['carried_on'])}" for r in found)
        self.gate.note("gaps", "; ".join(said), says)
        expect = Expect("gaps", self.specs["gaps"].severity, "between", "share", says, minimum=0, maximum=gaps.MOST)
        data = pd.DataFrame([{key: record[key] for key in ("source", "stream", "share")} for record in found])
        self.gate.add(
            Frame(self.mart.boundary, self.mart.table, "gaps", data, (expect,), ("source", "stream")),
            GapWords(self.mart.table, found),
        )

    # --- sizes -------------------------------------------------------------------------------------------------

    def sizes(self, before: dict[str, float]) -> None:
        """Rows (and the MRR) now and in the last run that passed."""
        if not self.shape.types or ("not_collapsed" not in self.specs and "not_empty" not in self.specs):
            return
        import pandas as pd

        now = self.sizes_now
        kept = self.config.quality.min_kept_share
        records: list[Record] = [
            {"measure": name, "now": value, "before": before.get(name), "lowest": kept * before[name]}
            for name, value in now.items()
            if name in before
        ]
        expects = []
        if records:
            said = "; ".join(f"{r['measure']} {number(r['now'])}, before {number(r['before'])}" for r in records)
            self.gate.note("not_collapsed", said, f"at least {percent(kept)} of the last run that passed")
            severity = self.specs["not_collapsed"].severity
            says = f"No size fell below {percent(kept)} of what it was"
            expects.append(Expect("not_collapsed", severity, "at_least", "now", says, other="lowest"))
        else:
            self.gate.skip("not_collapsed", "there is no earlier run to compare with")
        if "not_empty" in self.specs:
            records.append({"measure": "any", "now": now["rows"], "filled": now["rows"]})
            self.gate.note("not_empty", f"{number(now['rows'])} rows", "at least one")
            severity = self.specs["not_empty"].severity
            expects.append(Expect("not_empty", severity, "between", "filled", "There are rows", minimum=1))
        frame = Frame(self.mart.boundary, self.mart.table, "sizes", pd.DataFrame(records), tuple(expects), ("measure",))
        self.gate.add(frame, _SizeWords(self.mart, records, kept))

    # --- what is published -------------------------------------------------------------------------------------

    def exclusions(self) -> None:
        """Every entry of publish.exclude_columns names a column: a misspelt one would publish what it should hide."""
        entries = [entry for entry in self.config.publish.exclude_columns if self._concerns(entry)]
        if not entries:
            self.gate.skip("exclusions", "publish.exclude_columns names no column of this table")
            return
        import pandas as pd

        contract = ENTITIES.get(self.mart.name)
        known = {*self.shape.types, *(contract.column_names if contract else ())}
        records = [{"entry": entry, "known": int(self._names_a_column(entry, known))} for entry in entries]
        self.gate.note("exclusions", f"{', '.join(entries)} left out", "columns that exist")
        says = "Every entry of publish.exclude_columns names a column"
        expect = Expect("exclusions", self.specs["exclusions"].severity, "between", "known", says, minimum=1, maximum=1)
        self.gate.add(
            Frame(self.mart.boundary, self.mart.table, "exclusions", pd.DataFrame(records), (expect,), ("entry",)),
            _EntryWords(records),
        )

    def _names_a_column(self, entry: str, columns: set[str]) -> bool:
        table, _, column = entry.partition(".")
        return table == self.mart.name and column in columns

    def _concerns(self, entry: str) -> bool:
        table = entry.partition(".")[0]
        if table == self.mart.name:
            return True
        # An entry of no table at all is shown with the accounts.
        return self.mart.name == "accounts" and table not in {mart.name for mart in (*MARTS, *SCORED)}

    # --- clocks ------------------------------------------------------------------------------------------------

    def freshness(self) -> None:
        """One record per source and flow: the age of its newest fact as the models see it."""
        if "freshness" not in self.specs or not self.fits:
            return
        import pandas as pd

        limits = {name: source.stale_after_days for name, source in self.config.sources.items()}
        flows = ", ".join(f"'{flow}'" for flow in STEADY)
        found = rows(
            self.connection,
            "select source, entity, max(newest_fact_at) as newest_fact_at, min(newest_fact_days) as age_days"
            f" from {self.mart.table} where entity in ({flows}) group by all order by all",
        )
        records = [
            {**row, "newest_fact_at": str(row["newest_fact_at"]), "stale_after_days": limits[row["source"]]}
            for row in found
            if limits.get(row["source"]) is not None
        ]
        if not records:
            self.gate.skip("freshness", "no source sets stale_after_days", "stale_after_days")
            return
        said = "; ".join(f"{r['source']} {r['entity']} {number(r['age_days'])} days" for r in records)
        self.gate.note("freshness", said, "no older than stale_after_days")
        says = "The newest fact is no older than stale_after_days"
        expect = Expect(
            "freshness", self.specs["freshness"].severity, "at_least", "stale_after_days", says, other="age_days"
        )
        self.gate.add(
            Frame(self.mart.boundary, self.mart.table, "ages", pd.DataFrame(records), (expect,), ("source", "entity")),
            _AgeWords(self.mart, records),
        )

    def clock(self) -> None:
        """The accounts were built for the clock of this run, not for that of an earlier one."""
        if "built" not in self.specs or not self.fits:
            return
        import pandas as pd

        dates = rows(self.connection, f"select distinct as_of_date from {self.mart.table} order by all")
        if not dates:
            self.gate.skip("built", "the table is empty")
            return
        records = [{"as_of_date": str(row["as_of_date"]), "clock": str(self.run.as_of.date())} for row in dates]
        self.gate.note("built", f"built as of {records[0]['as_of_date']}", "the run's clock")
        says = "The table was built for the run's clock"
        expect = Expect("built", self.specs["built"].severity, "equal", "as_of_date", says, other="clock")
        self.gate.add(
            Frame(self.mart.boundary, self.mart.table, "clock", pd.DataFrame(records), (expect,), ()),
            _ClockWords(self.mart, records),
        )

    def drift(self) -> None:
        """How far the features of the newest scores lie from what their model was trained on, by feature."""
        if "drift" not in self.specs or not self.fits:
            return
        found = []
        if table_exists(self.connection, "ml", "drift"):
            found = rows(
                self.connection,
                "select feature, psi, state, sentence from ml.drift where (as_of_date, model_version) = (select (as_of_date, model_version)"
                " from ml.scorings order by scored_at desc limit 1) and psi is not null order by feature",
            )
        if not found:
            for check in ("drift", "drifting"):
                self.gate.skip(check, "no model's scores are there")
            return
        import pandas as pd

        watch = self.config.model.watch
        features = [row for row in found if row["feature"] != SCORE]
        share = sum(row["state"] == "block" for row in features) / max(len(features), 1)
        moved_score = any(row["state"] == "block" for row in found if row["feature"] == SCORE)
        worst = sorted(found, key=lambda row: -row["psi"])
        self.gate.note("drift", f"{percent(share)} of the measurements", f"at most {percent(watch.max_drifted_share)}")
        says = "The model still sees what it was trained on"
        record: Record = {"share": 1.0 if moved_score else share, "worst": worst}
        severity = self.specs["drift"].severity
        expect = Expect("drift", severity, "between", "share", says, minimum=0, maximum=watch.max_drifted_share)
        boundary, table = self.mart.boundary, self.mart.table
        self.gate.add(
            Frame(boundary, table, "drift", pd.DataFrame([{"share": record["share"]}]), (expect,), ()),
            _DriftWords(record, watch),
        )
        moved = [row for row in worst if row["state"] != "ok"]
        says = "No measurement has moved far"
        self.gate.note("drifting", f"{worst[0]['feature']} at most: PSI {worst[0]['psi']:.2f}", says)
        severity = self.specs["drifting"].severity
        expect = Expect("drifting", severity, "between", "moved", says, minimum=0, maximum=0)
        self.gate.add(
            Frame(boundary, table, "drifting", pd.DataFrame([{"moved": len(moved)}]), (expect,), ()),
            _DriftingWords(moved, len(features), watch),
        )

    def watch(self) -> None:
        """What the model found about the newest scores: one record per watch."""
        if "stale" not in self.specs or not self.fits:
            return
        found = {}
        if table_exists(self.connection, "ml", "watch"):
            known = rows(
                self.connection,
                "select watch, state, sentence from ml.watch where (as_of_date, model_version) = (select (as_of_date, model_version)"
                " from ml.scorings order by scored_at desc limit 1)",
            )
            found = {row["watch"]: row for row in known}
        import pandas as pd

        for name, severity, says in WATCHED:
            if name not in found:
                self.gate.skip(name, "no model's scores are there")
                continue
            self.gate.note(name, "as promised", says)
            off = int(found[name]["state"] != "ok")
            expect = Expect(name, severity, "between", "off", says, minimum=0, maximum=0)
            frame = Frame(self.mart.boundary, self.mart.table, name, pd.DataFrame([{"off": off}]), (expect,), ())
            self.gate.add(frame, _WatchWords(name, str(found[name]["sentence"]), says))


def _dated(rule: TableRule, as_of: datetime) -> TableRule:
    """The rule with the run's clock in place of the word for it."""
    last = f"timestamp '{as_of}'"
    columns = [replace(c, latest=last) if c.latest == PAST else c for c in rule.columns]
    return replace(rule, columns=tuple(columns))


def _addresses(connection: Connection, rule: TableRule, columns: Sequence[str]) -> dict[str, int]:
    if not columns:
        return {}
    counted = ", ".join(f"count(*) filter (where {identifier(c)} like '{ADDRESS}') as {identifier(c)}" for c in columns)
    return rows(connection, f"select {counted} from {rule.table}")[0]


def _tables(identity: Sum) -> list[str]:
    known = (
        *(mart.table for mart in (*MARTS, *SCORED)),
        "ml.churn_reasons",
        "ml.scorings",
        "features.ftr_churn_scoring",
    )
    return sorted({table for table in known if re.search(rf"\b{re.escape(table)}\b", identity.sql)})


class _SumWords:
    def __init__(self, mart: Mart, records: Sequence[Record]) -> None:
        self.mart, self.records = mart, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(self.records[position]) for position in positions]

    def _one(self, found: Record) -> Words:
        observed = f"{number(found['off'])} of {number(found['compared'])} are off, by up to {found['largest']:,.2f}"
        return Words(
            observed=observed,
            expected=found["says"],
            unexpected_count=found["off"],
            sample=found["sample"],
            message=f"{self.mart.table}: {found['says']}, but {observed} (such as {', '.join(found['sample'])})."
            " Numbers that contradict each other are not published; look at these rows and the models they come from.",
        )


class _FactWords:
    def __init__(self, mart: Mart, record: Record) -> None:
        self.mart, self.record = mart, record

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        raw, built = self.record["raw_facts"], self.record["mart_facts"]
        what = "missing from" if built < raw else "too many in"
        return [
            Words(
                observed=f"{number(built)} in the mart",
                expected=f"{number(raw)} facts before the clock",
                unexpected_count=math.ceil(abs(raw - built)),
                message=f"{self.mart.table}: {number(abs(raw - built))} facts are {what} the mart: it holds {number(built)},"
                f" the raw tables hold {number(raw)} before the clock. Build anew with `tenure run --full`;"
                " if it stays, a join of the models loses or doubles rows.",
            )
        ]


class _SizeWords:
    def __init__(self, mart: Mart, records: Sequence[Record], kept: float) -> None:
        self.mart, self.records, self.kept = mart, records, kept

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(expect, self.records[position]) for position in positions]

    def _one(self, expect: Expect, found: Record) -> Words:
        if expect.check == "not_empty":
            return Words(
                observed="no rows",
                expected="at least one",
                message=f"{self.mart.table} is empty. Check that the source of accounts delivers, or set identity.derive_accounts.",
            )
        observed = f"{number(found['now'])}, before {number(found['before'])}"
        return Words(
            observed=observed,
            expected=f"at least {number(found['lowest'])}",
            column=None if found["measure"] == "rows" else found["measure"],
            unexpected_count=round(found["before"] - found["now"]),
            message=f"{self.mart.table}: {found['measure']} fell to {number(found['now'])} from {number(found['before'])} in the last"
            f" run that passed; at least {percent(self.kept)} must remain. Check whether a source stopped delivering;"
            " if the fall is real, lower quality.min_kept_share for one run.",
        )


class _EntryWords:
    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(self.records[position]["entry"]) for position in positions]

    def _one(self, entry: str) -> Words:
        return Words(
            observed=entry,
            expected="table.column of a mart",
            column=entry.partition(".")[2] or entry,
            message=f"publish.exclude_columns names {entry}, which is no column of a mart: what it should hide would be published."
            " Correct its spelling in tenure.yml, or remove it.",
        )


class _AgeWords:
    def __init__(self, mart: Mart, records: Sequence[Record]) -> None:
        self.mart, self.records = mart, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(self.records[position]) for position in positions]

    def _one(self, found: Record) -> Words:
        limit = f"{number(found['stale_after_days'])} days"
        observed = f"newest fact {found['newest_fact_at']}, {number(found['age_days'])} days old"
        return Words(
            observed=observed,
            expected=f"no older than {limit}",
            source=found["source"],
            message=f"{self.mart.table}: {found['entity']} of {found['source']} are stale: {observed}, expected within {limit}."
            " Scores and measures of the accounts it covers look older than they seem.",
        )


class _DriftWords:
    def __init__(self, record: Record, watch: WatchConfig) -> None:
        self.record, self.watch = record, watch

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        worst = " ".join(str(row["sentence"]) for row in self.record["worst"][:5])
        observed = f"{percent(self.record['share'])} of the measurements, or the score itself, have a PSI above {self.watch.block_psi:g}"
        return [
            Words(
                observed=observed,
                expected=f"at most {percent(self.watch.max_drifted_share)}",
                message=f"The model no longer sees what it was trained on: {observed}. {worst} Its scores are not published."
                " Check whether a source changed what it delivers; if the change is real, train again: `tenure run --retrain`.",
            )
        ]


class _DriftingWords:
    def __init__(self, moved: Sequence[Record], measured: int, watch: WatchConfig) -> None:
        self.moved, self.measured, self.watch = moved, measured, watch

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        named = " ".join(str(row["sentence"]) for row in self.moved[:3])
        more = f" And {len(self.moved) - 3} more." if len(self.moved) > 3 else ""
        return [
            Words(
                observed=f"{len(self.moved)} of {self.measured} have moved",
                expected=f"PSI up to {self.watch.warn_psi:g}, or what luck alone makes",
                unexpected_count=len(self.moved),
                message=f"{len(self.moved)} of {self.measured} measurements lie far from those of the training (PSI above"
                f" {self.watch.warn_psi:g}): {named}{more} quality.model_drift has all.",
            )
        ]


ADVICE = {
    "stale": "Scores of old facts are not published. Check whether the source still delivers; model.watch.max_stale_days is the limit.",
    "labels": "The next run trains again when something new has matured; until then take the probabilities with care.",
    "outcomes": "quality.model_backtest has every date. The next run trains again when something new has matured.",
}
"""What to do about a finding of the model's watch, by its name."""


class _WatchWords:
    def __init__(self, name: str, sentence: str, says: str) -> None:
        self.name, self.sentence, self.says = name, sentence, says

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        message = f"{self.sentence} {ADVICE[self.name]}"
        return [Words(observed=self.sentence, expected=self.says, message=message)]


class _ClockWords:
    def __init__(self, mart: Mart, records: Sequence[Record]) -> None:
        self.mart, self.records = mart, records

    def __call__(self, expect: Expect, positions: Sequence[int]) -> list[Words]:
        return [self._one(self.records[position]) for position in positions]

    def _one(self, found: Record) -> Words:
        return Words(
            observed=found["as_of_date"],
            expected=found["clock"],
            column="as_of_date",
            message=f"{self.mart.table} was built as of {found['as_of_date']}, but the run's clock says {found['clock']}."
            " Build the models again.",
        )
