"""Versions of a row: which of several with one key stands, and what it takes over from the others.

Lives here: the SQL that keeps the latest version, carries over what it leaves out, and compares the rows of a load with those loaded
before. Must not live here: how rows get into temp.batch and from there into the table, and what is counted (`load.py`).

The version with the latest `updated_at` stands. Where that says nothing, the later delivery does, and within one run the file whose
name sorts last. No version is later than its load: one that is stamped in the future gives way to what is read after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.currency import code_sql
from core.warehouse import Connection, identifier, rows, scalar
from sources.base import Stream
from sources.users import Users

TEMPORARY = ("repeated", "matched", "settled")
"""The temporary tables that are made here."""
RENEWED = "rowid in (select table_row from temp.settled where outcome = 'updated')"
"""SQL: which rows of the table were found to be older than those of temp.batch."""


class Versions:
    """Which versions of the rows of one stream stand. `content` are the columns in which versions differ, as SQL names."""

    def __init__(
        self, connection: Connection, stream: Stream, content: Sequence[str], users: Users | None, *, now: datetime
    ) -> None:
        self.connection = connection
        self.stream = stream.id
        self.config = stream.config
        self.content = content
        self.users = users
        self.now = now
        self.table = stream.id.table
        self.key = identifier(stream.id.entity.key)
        self.has_version = "updated_at" in stream.id.entity.column_names

    def keep_latest(self, relation: str) -> int:
        """Of the stream's rows with one key in `relation`, the table or temp.batch, keep the latest; how many were taken out."""
        if not self._note_repeated(relation):
            return 0
        self._carry_over(relation, relation, keys="select key from temp.repeated")
        content = [f"{name} desc nulls last" for name in self.content]
        order = ", ".join([*(["updated_at desc nulls last"] if self.has_version else []), "_file desc", *content])
        removed = self.connection.execute(
            f"delete from {relation} where rowid in (select id from (select rowid as id, row_number() over ("
            f" partition by {self.key} order by {order}) as n from {relation}"
            f" where {self._mine(relation)} and {self.key} in (select key from temp.repeated)) where n > 1)"
        ).fetchone()
        return int(removed[0]) if removed else 0

    def complete_batch(self) -> None:
        """Find the rows of the table that those of temp.batch are versions of, and let them take from each other what they lack."""
        # Keys alone first: a day of new events meets none of the millions that are there, and no other column is read.
        self.connection.execute(
            "create or replace temp table matched as select b.rowid as batch_row, e.rowid as table_row"
            f" from {self.table} as e join temp.batch as b on e.{self.key} = b.{self.key} where {self.stream.mine('e.')}"
        )
        if not scalar(self.connection, "select 1 from temp.matched limit 1"):
            return
        of_batch = f"select {self.key} from temp.batch"
        self._carry_over("temp.batch", self.table, keys=of_batch)
        self._carry_over(self.table, "temp.batch", keys=of_batch)
        if self.stream.entity.has_currency:
            self._keep_rates()

    def _keep_rates(self) -> None:
        """A fact keeps the rate that it was first loaded with, whatever its month's rate is said to be later."""
        self.connection.execute(
            f"update temp.batch as b set _exchange_rate = e._exchange_rate from temp.matched as m, {self.table} as e"
            f" where m.batch_row = b.rowid and e.rowid = m.table_row and e._exchange_rate is not null"
            f" and {code_sql('b.currency')} is not distinct from {code_sql('e.currency')}"
        )

    def settle(self, *, released: bool) -> dict[str, int]:
        """Leave in temp.batch what is new and what renews a loaded row (`RENEWED`); how many were updated, unchanged or superseded."""
        if not scalar(self.connection, "select 1 from temp.matched limit 1"):
            return {}
        same = " and ".join(f"b.{name} is not distinct from e.{name}" for name in self.content)
        self.connection.execute(
            "create or replace temp table settled as select batch_row, table_row, case"
            f" when {same} then 'unchanged' when {self._is_older(released)} then 'superseded' else 'updated' end as outcome"
            " from temp.matched as m"
            f" join temp.batch as b on b.rowid = m.batch_row join {self.table} as e on e.rowid = m.table_row"
        )
        self.connection.execute(
            "delete from temp.batch where rowid in (select batch_row from temp.settled where outcome <> 'updated')"
        )
        counted = rows(self.connection, "select outcome, count(*) as n from temp.settled group by outcome")
        return {row["outcome"]: row["n"] for row in counted}

    def _mine(self, relation: str) -> str:
        """SQL: which rows of `relation` are the stream's; in temp.batch all are."""
        return self.stream.mine() if relation == self.table else "true"

    def _note_repeated(self, relation: str) -> bool:
        """Put the keys that stand more than once in `relation` into temp.repeated; whether there are any."""
        where = self._mine(relation)
        # Keys are counted by hash first: few repeat, and hashes are smaller than keys.
        self.connection.execute(
            f"create or replace temp table repeated as select {self.key} as key from {relation} where {where}"
            f" and hash({self.key}) in (select h from (select hash({self.key}) as h from {relation} where {where})"
            f" group by h having count(*) > 1) and {self.key} is not null group by {self.key} having count(*) > 1"
        )
        return bool(scalar(self.connection, "select 1 from temp.repeated limit 1"))

    def _carry_over(self, relation: str, others: str, *, keys: str) -> None:
        """What versions of a row in `relation` take from `others` with the same key, one of `keys`: the earliest of columns that keep
        it, and, where rows tell only what changed, the last that was told of what they leave out."""
        # It stays a row of the run that loaded it: this one counts what it read as older or unchanged.
        stamp = ", _loaded_at = $now" if relation == self.table else ""
        given = {"now": self.now} if stamp else {}
        last = "updated_at" if self.has_version else "_file"
        for name, mapping in self.config.columns.items():
            column = identifier(name)
            if mapping.keep == "earliest":
                taken, lacks = f"arg_min({{0}}, {column})", f"o.value < t.{column}"
            elif self.config.partial and name != self.stream.entity.key:
                taken, lacks = f"arg_max({{0}}, {last}) filter ({column} is not null)", f"t.{column} is null"
            else:
                continue
            values, carried = f"{taken.format(column)} as value", f"{column} = o.value"
            if self.users is not None and name == self.stream.entity.user:
                values += f", {taken.format(self.users.given())} as given"
                carried += ", _user_as_given = nullif(o.given, o.value)"
            told = (
                f"select {self.key} as key, {values} from {others}"
                f" where {self._mine(others)} and {self.key} in ({keys}) group by {self.key}"
            )
            self.connection.execute(
                f"update {relation} as t set {carried}{stamp} from ({told}) as o"
                f" where o.key = t.{self.key} and o.value is not null and {lacks} and {self._mine(relation)}",
                given,
            )

    def _is_older(self, released: bool) -> str:
        """SQL: whether row `b` of the batch is an older version than row `e` of the table."""
        by_name = "b._file < e._file"
        unsaid = "true" if released else f"e._loaded_at = timestamp '{self.now}' and {by_name}"
        if not self.has_version:
            return unsaid
        loaded, read = "least(e.updated_at, e._loaded_at)", f"least(b.updated_at, timestamp '{self.now}')"
        # One whose date could not be read came later, which is all that is known of it.
        undated = """not coalesce(contains(b._unread, '"column":"updated_at"'), false)"""
        return (
            f"case when e.updated_at is null and b.updated_at is null then {unsaid} when e.updated_at is null then false"
            f" when b.updated_at is null then {undated} when {read} <> {loaded} then {read} < {loaded}"
            " when b.updated_at <> e.updated_at then b.updated_at < e.updated_at"
            f" else {'true' if released else by_name} end"
        )
