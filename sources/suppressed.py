"""Erased people and accounts at the door: what of the rows that are read must not come in again.

Lives here: the SQL that applies the suppression list to rows before anything of them is kept. Must not live here: the list
(`core/suppression.py`), what happens to the rows that stay out (`load.py`, `quarantine.py`).

A row of an erased account stays out, and so does the row that *is* an erased person. Another row that names an erased person is
somebody else's fact: it comes in without them, that is with NULL in place of their id and of what they wrote. A broken row that
touches an erased person stays out too, since quarantine would keep it as it was given.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.contract import ACCOUNT_REFERENCES, PERSON_REFERENCES, Column, Entity
from core.suppression import Suppression
from core.warehouse import identifier
from sources.base import StreamId

ERASED = 0
"""The number of the fault (`mapping.py` counts from 1) of rows that stay out for this reason."""
ADDRESS = r"[a-z0-9!#$%&''*+/=?^_`{|}~.-]+@[a-z0-9.-]*[a-z0-9]"
"""An e-mail address within a text, as an SQL literal has it."""


class Suppressed:
    """What the list means for the rows of one stream. `precedence` are all sources: `crm_account_id` names an account of an earlier one."""

    def __init__(self, suppression: Suppression, stream: StreamId, precedence: Sequence[str]) -> None:
        self.suppression = suppression
        self.stream = stream
        self.entity = stream.entity
        self.earlier = precedence[: precedence.index(stream.source)]

    def applied(self, relation: str) -> str:
        """SQL of `relation`, rows with `_fault` and `_waits`, in which those that stay out have the fault `ERASED`."""
        if not self.suppression.erasures:
            return relation
        touched = " or ".join(f"({sql})" for sql in (*self._named().values(), *self._texts().values())) or "false"
        broken = "_fault is not null or _waits is not null"
        stays_out = f"{self._whole()} or (({broken}) and ({touched}))"
        emptied = "".join(
            f", case when {condition} then null else {identifier(name)} end as {identifier(name)}"
            for name, condition in self._emptied().items()
        )
        fault = f"cast(case when {stays_out} then {ERASED} else _fault end as utinyint) as _fault"
        return f"(select * replace ({fault}{emptied}) from {relation})"

    def _whole(self) -> str:
        """SQL: whether the row as a whole is an erased account's, or an erased person."""
        account = self.suppression.matches_sql("account", self.stream.account_source, "account_id")
        reasons = [account]
        if self.entity.name == "accounts":
            reasons.append(
                self.suppression.matches_sql("account", self.stream.account_source, "merged_into_account_id")
            )
            reasons += [self.suppression.matches_sql("account", source, "crm_account_id") for source in self.earlier]
        if is_about_a_person(self.entity):
            reasons += self._named().values()
        return " or ".join(f"({reason})" for reason in reasons)

    def _named(self) -> dict[str, str]:
        """Columns that name a person: SQL, whether it is an erased one."""
        found = {}
        for column in self.entity.columns:
            if column.name in PERSON_REFERENCES:
                by_id = self.suppression.matches_sql("person", self.stream.source, identifier(column.name))
                by_address = self.suppression.matches_sql("address", "", identifier(column.name))
                found[column.name] = f"{by_id} or {by_address}"
            elif holds_address(column):
                found[column.name] = self.suppression.matches_sql("address", "", identifier(column.name))
        return found

    def _texts(self) -> dict[str, str]:
        """Free text: SQL, whether an erased person's address is in it."""
        return {
            column.name: f"contains({identifier(column.name)}, '@') and coalesce(list_bool_or(list_transform("
            f"regexp_extract_all(lower({identifier(column.name)}), '{ADDRESS}'),"
            f" lambda address: {self.suppression.matches_sql('address', '', 'address')})), false)"
            for column in self.entity.columns
            if is_free_text(column)
        }

    def _emptied(self) -> dict[str, str]:
        """Columns that lose their value: SQL, when."""
        named = self._named()
        wrote = " or ".join(f"({sql})" for name, sql in named.items() if name in PERSON_REFERENCES) or "false"
        references = {
            column.name: self.suppression.matches_sql("account", self.stream.account_source, identifier(column.name))
            for column in self.entity.columns
            if column.name in ACCOUNT_REFERENCES and column.name == "parent_account_id"
        }
        texts = {name: f"({wrote}) or ({sql})" for name, sql in self._texts().items()}
        found = {**named, **texts, **references}
        # What could not be read is noted as it was given.
        return {**found, "_unread": " or ".join(f"({sql})" for sql in found.values())} if found else {}


def is_about_a_person(entity: Entity) -> bool:
    """Whether a row of the entity is a person, or says who one is: without them nothing is left of it."""
    return entity.name in ("contacts", "memberships")


def holds_address(column: Column) -> bool:
    """Whether the column's values are e-mail addresses."""
    return column.personal and column.name.endswith("email")


def is_free_text(column: Column) -> bool:
    """Whether people write what they like into the column."""
    return column.personal and column.name in ("name", "subject", "body", "comment")
