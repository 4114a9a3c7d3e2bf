"""From the warehouse's feature tables to the data that a model learns from or scores.

Lives here: the queries on schema `features` and the choice of rows. Must not live here: what a feature means
(`features.py`), learning, writing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from core.warehouse import Connection, identifier, rows, scalar, table_exists
from ml.dataset import Dataset, assemble
from ml.features import Feature

if TYPE_CHECKING:
    import pandas as pd

TRAINING = "features.ftr_churn_training"
SCORING = "features.ftr_churn_scoring"
SNAPSHOTS = "features.ftr_account_snapshots"
AMOUNT = "_mrr"
"""MRR to the cent, beside the feature of 32 bits."""
IDS = ("account_id", "as_of_date", AMOUNT)


@dataclass(frozen=True)
class Matured:
    """What there is to learn from: label windows that have closed."""

    rows: int
    accounts: int
    churn_events: int
    churned_accounts: int
    base_rate: float | None
    first_as_of_date: date | None
    last_as_of_date: date | None


def matured(connection: Connection) -> Matured:
    """Counts of the training table, without reading features."""
    found = rows(
        connection,
        "select count(*) as rows, count(distinct account_id) as accounts, count(*) filter (has_churned) as churn_events,"
        " count(distinct account_id) filter (has_churned) as churned_accounts, avg(cast(has_churned as int)) as base_rate,"
        f" min(as_of_date) as first_as_of_date, max(as_of_date) as last_as_of_date from {TRAINING}",
    )[0]
    return Matured(**found)


def training_data(connection: Connection, features: tuple[Feature, ...], *, max_rows: int) -> Dataset:
    """The labelled rows: at most about `max_rows`, of dates that are spread evenly back from the newest.

    A feature that is NULL in all of them was unknown when the model learned, and is left out.
    """
    dates = [
        row["as_of_date"]
        for row in rows(connection, f"select distinct as_of_date from {TRAINING} order by as_of_date desc")
    ]
    count = int(scalar(connection, f"select count(*) from {TRAINING}"))
    kept = thinned(dates, rows=count, max_rows=max_rows)
    frame = _read(
        connection,
        TRAINING,
        features,
        where=f"as_of_date in ({', '.join(f'date {str(day)!r}' for day in kept)})"
        if len(kept) < len(dates)
        else "true",
        extra=("has_churned",),
    )
    known = [feature.name for feature in features if frame[feature.name].notna().any()]
    segment = next((name for name in ("plan", "segment", "country") if name in known), None)
    if segment is not None:
        frame["_segment"] = f"{segment} " + frame[segment].astype(object)
    return assemble(
        frame,
        entity="account_id",
        features=known,
        label="has_churned",
        as_of="as_of_date",
        amount=AMOUNT,
        segment="_segment" if segment is not None else None,
    )


def thinned(dates: Sequence[date], *, rows: int, max_rows: int) -> list[date]:
    """As many of `dates`, evenly spread from the first on, as make up about `max_rows` of their `rows` rows; all where they fit."""
    if rows <= max_rows:
        return list(dates)
    # Whole numbers: a share of floating point can point one place behind the last date.
    return [dates[place * rows // max_rows] for place in range(-(-len(dates) * max_rows // rows))]


def scoring_frame(connection: Connection, features: tuple[Feature, ...]) -> pd.DataFrame:
    """The accounts to score as of the run's date, ordered by id: ids and features."""
    return _read(connection, SCORING, features, where="true")


def features_of(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The features `names` of a frame that was read here, with the types that models and reasons expect."""
    return assemble(frame, entity="account_id", features=names).features


def scoring_hash(connection: Connection, features: tuple[Feature, ...]) -> str:
    """A fingerprint of what `scoring_frame` returns, whatever the order of its rows."""
    columns = ", ".join(_columns(features, ()))
    found = scalar(
        connection, f"select count(*) || '-' || coalesce(sum(hash(t)), 0) from (select {columns} from {SCORING}) as t"
    )
    return str(found)


def snapshot_frame(
    connection: Connection, features: tuple[Feature, ...], as_of: date, accounts_of: str
) -> pd.DataFrame:
    """The snapshots of a past date for the accounts that the relation `accounts_of` lists, ordered by id."""
    return _read(
        connection,
        SNAPSHOTS,
        features,
        where=f"as_of_date = date '{as_of}' and account_id in (select account_id from {accounts_of})",
    )


def exists(connection: Connection) -> bool:
    """Whether the feature tables have been built."""
    return table_exists(connection, *SCORING.split("."))


def _read(
    connection: Connection, table: str, features: tuple[Feature, ...], *, where: str, extra: tuple[str, ...] = ()
) -> pd.DataFrame:
    columns = ", ".join(_columns(features, extra))
    return connection.execute(f"select {columns} from {table} where {where} order by as_of_date, account_id").df()


def _columns(features: tuple[Feature, ...], extra: tuple[str, ...]) -> list[str]:
    """Ids and features as the model sees them: numbers of 32 bits, categories as text."""
    types = {feature.name: "varchar" if feature.is_category else "float" for feature in features}
    typed = [f"cast({identifier(name)} as {kind}) as {identifier(name)}" for name, kind in types.items()]
    return [
        "account_id",
        "as_of_date",
        f"cast(mrr as double) as {AMOUNT}",
        *map(identifier, extra),
        *typed,
    ]
