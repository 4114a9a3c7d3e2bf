"""What a whole row may have to wait for: its account, the account of its user, and the rate of its currency.

Lives here: the SQL that says of each row whether it waits and for what (`_waits`, a reason of quarantine, or NULL), and that releases rows
when what they waited for is there. Must not live here: what is wrong with a row (`faults.py`), the records of quarantine
(`quarantine.py`), who users are (`users.py`).
"""

from __future__ import annotations

from core.currency import DEFAULT, rate_sql
from core.errors import Fatal
from core.identity import canonical_id_sql
from core.settings import Config
from core.warehouse import Connection, identifier, literal, scalar
from sources.base import StreamId
from sources.quarantine import Quarantine
from sources.users import Users

TEMPORARY = ("accounts_known", "accounts_by_id")
"""The temporary tables that are made here."""


class Waiting:
    """What the rows of one stream may have to wait for."""

    def __init__(self, connection: Connection, stream: StreamId, config: Config, users: Users | None) -> None:
        self.connection = connection
        self.stream = stream
        self.entity = stream.entity
        self.config = config
        self.users = users
        accounts = config.sources[stream.account_source]
        self.accounts_of = accounts.connector if "accounts" in accounts.entities else None
        self.checks_accounts = self.entity.name != "accounts" and self.accounts_of is not None

    def note_known(self) -> None:
        """Note which accounts there are, for the load that begins."""
        if not self.checks_accounts:
            return
        self.connection.execute(
            f"create or replace temp table accounts_known as select distinct account_id from raw_{self.accounts_of}.accounts"
            f" where _source = {literal(self.stream.account_source)}"
        )
        # Where a source lists two forms of an id as two accounts, each is known as it is written only.
        self.connection.execute(
            f"create or replace temp table accounts_by_id as select {canonical_id_sql('account_id')} as canonical_id,"
            " any_value(account_id) as account_id from temp.accounts_known group by 1 having count(*) = 1"
        )

    def check_currency(self) -> None:
        """Raises `Fatal` where amounts were converted into another currency than is reported now: they would be added to those of this
        run."""
        if not self.entity.has_currency:
            return
        now = self.config.currency
        before = f"coalesce(_reporting_currency, {literal(DEFAULT)})"
        asked = (
            f"select min({before}) from {self.stream.table} where {self.stream.mine()} and {before} <> {literal(now)}"
        )
        found = scalar(self.connection, asked)
        if found is not None:
            raise Fatal(
                f"{self.stream.label}: its amounts were loaded in {found}, and tenure.yml says `currency: {now}`.",
                hint=f"Read them again, with the rates of `exchange_rates`: tenure run --full {self.stream.label}",
            )

    def checked(self, relation: str) -> str:
        """SQL of mapped rows with `_waits`, the ids of their accounts as these write them, and rates where there is money."""
        waits = []
        if self.users is not None:
            relation = self.users.told(relation)
        if self.checks_accounts:
            relation = _as_its_account_writes(relation)
            # Who a visitor turned out to be says nothing of an account.
            unsaid = " and account_id is not null" if self.entity.name == "memberships" else ""
            reason = "case when account_id is null then 'unknown_user' else 'unknown_account' end"
            waits.append(f"when not _is_known{unsaid} then {reason}")
        elif self.users is not None:
            waits.append("when account_id is null then 'unknown_user'")
        if self.entity.has_currency:
            relation = self._rated(relation)
            waits.append("when _exchange_rate is null then 'missing_rate'")
        reasons = f"case {' '.join(waits)} end" if waits else "cast(null as varchar)"
        return (
            f"(select *{' exclude (_is_known)' if self.checks_accounts else ''}, {reasons} as _waits from {relation})"
        )

    def release(self, quarantine: Quarantine) -> int:
        """Move the rows of quarantine that wait for nothing any more to temp.batch; how many."""
        if not self.checks_accounts and self.users is None and not self.entity.has_currency:
            return 0
        is_known = is_rated = "true"
        if self.checks_accounts:
            same = f"({canonical_id_sql('account_id')}) in (select canonical_id from temp.accounts_by_id)"
            is_known = f"(account_id in (select account_id from temp.accounts_known) or {same})"
        if self.entity.has_currency:
            is_rated = f"({self._rate(f'try_cast({self.entity.happened_at} as timestamp)')}) is not null"
        waited = quarantine.take_waiting(is_known, is_rated)
        if waited:
            released = "temp.batch"
            if self.checks_accounts:
                released = f"(select * exclude (_is_known) from {_as_its_account_writes(released)})"
            if self.entity.has_currency:
                released = self._rated(released)
            self.connection.execute(f"create or replace temp table batch as select * from {released}")
        return waited

    def _rate(self, happened_at: str) -> str:
        return rate_sql(happened_at, "currency", self.config.currency, self.config.exchange_rates)

    def _rated(self, relation: str) -> str:
        rate = self._rate(identifier(self.entity.happened_at))
        return f"(select *, {rate} as _exchange_rate, {literal(self.config.currency)} as _reporting_currency from {relation})"


def _as_its_account_writes(relation: str) -> str:
    """SQL: the rows of `relation` with the ids of their accounts as these write them, and `_is_known`: whether there is such an account.

    Ids are compared as they are written, and else in one form: a report of Salesforce's shows 15 of the API's 18 characters.
    """
    other = f"case when k.account_id is null then {canonical_id_sql('r.account_id')} end"
    return (
        "(select r.* replace (coalesce(k.account_id, o.account_id, r.account_id) as account_id),"
        f" coalesce(k.account_id, o.account_id) is not null as _is_known from {relation} as r"
        " left join temp.accounts_known as k on k.account_id = r.account_id"
        f" left join temp.accounts_by_id as o on o.canonical_id = {other})"
    )
