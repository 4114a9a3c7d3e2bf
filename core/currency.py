"""The reporting currency, the rates into it, and how money is written.

Lives here: what a code is, which rate a fact has (SQL), amounts as people read them. Must not live here: which columns are money
(`contract.py`), when a rate is applied (`sources/waiting.py` notes it, the models multiply by it).

A fact keeps its own currency and the rate that it had when it was first loaded: a rate that moves later changes nothing that was said
before. Codes are those of ISO 4217, as Babel has them from Unicode's CLDR.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from core.warehouse import literal

DEFAULT = "USD"
Code = Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern="^[A-Za-z]{3}$")]
Month = Annotated[str, StringConstraints(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]
Rate = Annotated[Decimal, Field(gt=0, lt=1_000_000, decimal_places=8)]
Rates = Mapping[Code, Rate | Mapping[Month, Rate]]
"""For a currency, what one unit of it is in the reporting currency: always, or by month."""
RATE_TYPE = "decimal(18,8)"
BY_CURRENCY = {"_exchange_rate": RATE_TYPE, "_reporting_currency": "varchar"}
"""Columns of raw tables with money: the rate of the row's currency when it was loaded, and the currency that it leads to."""


@cache
def _codes() -> frozenset[str]:
    from babel.numbers import list_currencies

    return frozenset(list_currencies())


def is_code(code: str) -> bool:
    """Whether `code` is a currency, in capitals."""
    return code in _codes()


def code_sql(currency: str) -> str:
    """SQL of a currency's code as it is compared."""
    return f"upper(trim({currency}))"


def rate_sql(happened_at: str, currency: str, reporting: str, rates: Rates) -> str:
    """SQL of the rate of a fact: 1 where its currency is the reporting one or not given, NULL where there is no rate for its month."""
    code = code_sql(currency)
    known = {
        key: rate
        for name, given in rates.items()
        for key, rate in (
            {f"{name} {month}": one for month, one in given.items()} if isinstance(given, Mapping) else {name: given}
        ).items()
    }
    own = f"case when {currency} is null or {code} = {literal(reporting)} then cast(1 as {RATE_TYPE})"
    if not known:
        return f"{own} end"
    pairs = ", ".join(f"{literal(key)}: {rate}" for key, rate in known.items())
    listed = f"cast(map {{{pairs}}} as map(varchar, {RATE_TYPE}))"
    of_month = f"{listed}[{code} || strftime({happened_at}, ' %Y-%m')]"
    return f"{own} else coalesce({of_month}, {listed}[{code}]) end"


def written(amount: Any, currency: str, *, cents: bool = True) -> str:
    """An amount as people read it: `$1,250.00`, `€1,250.00`, `¥1,250`; without cents `$1,250`."""
    from babel.numbers import format_currency

    if cents:
        return format_currency(amount, currency, locale="en_US")
    return format_currency(amount, currency, format="¤#,##0", locale="en_US", currency_digits=False)
