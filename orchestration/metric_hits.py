"""What a company's own metrics find in the rows that are loaded.

Lives here: counting the rows and accounts of each definition, for `tenure doctor`. Must not live here: the value of a metric
(`dbt_project/macros/custom_metrics.sql`), the schema of a definition (`core/metric_settings.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.metric_settings import MetricConfig
from core.warehouse import Connection, rows, warehouse
from sources.base import entities_by_connector

if TYPE_CHECKING:
    from core.settings import Tenure

_WORDS = ("priority", "channel", "direction", "kind")
"""Compared without case, as the models do."""
_MOST_SHOWN = 8


@dataclass(frozen=True)
class MetricHits:
    """How many loaded rows a definition finds, of how many accounts; None where nothing of its entity is loaded yet."""

    name: str
    entity: str
    rows: int | None
    accounts: int | None
    reason: str | None = None
    """Why it finds none."""


def measure(tenure: Tenure) -> tuple[MetricHits, ...]:
    """Each metric's hits in the working warehouse, in the order of the file."""
    metrics = tenure.config.custom_metrics
    if not metrics:
        return ()
    if not tenure.warehouse_path.exists():
        return tuple(MetricHits(metric.name, metric.from_, None, None) for metric in metrics)
    connectors = entities_by_connector(tenure.config)
    with warehouse(tenure.warehouse_path, read_only=True) as connection:
        loaded = {
            f"{row['table_schema']}.{row['table_name']}"
            for row in rows(connection, "select table_schema, table_name from information_schema.tables")
        }
        return tuple(
            _hits(
                connection,
                metric,
                [
                    table
                    for connector in connectors.get(metric.from_, ())
                    if (table := f"raw_{connector}.{metric.from_}") in loaded
                ],
            )
            for metric in metrics
        )


def _hits(connection: Connection, metric: MetricConfig, tables: list[str]) -> MetricHits:
    filters = {column: values for column, values in metric.where.items() if not isinstance(values, bool)}
    if not tables:
        reason = f"no source delivers {metric.from_}"
        return MetricHits(metric.name, metric.from_, None, None, reason)
    columns = ", ".join(("account_id", "_account_source", *filters))
    union = " union all ".join(f"select {columns} from {table}" for table in tables)
    condition = " and ".join(f"list_contains(?, {_compared(column)})" for column in filters) or "true"
    (found,) = rows(
        connection,
        "select count(*) as loaded, count(*) filter (where is_meant) as hits,"
        " count(distinct (_account_source, account_id)) filter (where is_meant) as accounts"
        f" from (select *, coalesce({condition}, false) as is_meant from ({union}))",
        [list(values) for values in filters.values()],
    )
    if not found["loaded"]:
        return MetricHits(metric.name, metric.from_, None, None)
    why = None if found["hits"] else _reason(connection, metric, union, filters)
    return MetricHits(metric.name, metric.from_, found["hits"], found["accounts"], why)


def _compared(column: str) -> str:
    return f"lower(trim({column}))" if column in _WORDS else column


def _reason(connection: Connection, metric: MetricConfig, union: str, filters: dict[str, tuple[str, ...]]) -> str:
    """Which of the filters finds nothing, and what there is instead; all of them, where each alone finds something."""
    for column, values in filters.items():
        known = rows(
            connection,
            f"select {_compared(column)} as value from ({union}) where {column} is not null group by all"
            " order by count(*) desc, value",
        )
        there = [str(row["value"]) for row in known]
        if not set(values) & set(there):
            if not there:
                return f"no row of {metric.from_} has a {column}"
            more = ", …" if len(there) > _MOST_SHOWN else ""
            return (
                f"no row of {metric.from_} has the {column} {' or '.join(values)}; there are"
                f" {', '.join(there[:_MOST_SHOWN])}{more}"
            )
    return f"no row of {metric.from_} has {' and '.join(filters)} as given at once"
