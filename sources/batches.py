"""Rows that are in memory, as DuckDB reads them: a batch of Arrow that exchanges what it holds.

Lives here: the registered batch, and values that travel as text. Must not live here: where rows come from
(`database.py`, `api.py`), what they mean (`mapping.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from core.warehouse import Connection, identifier, literal

BATCH = "tenure_batch"


class Batch:
    """The batch that DuckDB sees as `tenure_batch`.

    A registered table is kept alive until the transaction ends, even when it is registered no more: 75 bytes for each
    row of the whole table. So this is registered in its place, and what it holds is exchanged.
    """

    table: pa.Table | None = None

    def show(self, connection: Connection, table: pa.Table) -> None:
        """Make `table` the batch."""
        known, self.table = self.table, table
        if known is None or known.schema != table.schema:
            connection.register(BATCH, self)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        assert self.table is not None
        return self.table.__arrow_c_stream__(requested_schema)


def as_text(value: Any) -> str | None:
    """A value as text; lists and objects as JSON."""
    if value is None or type(value) is str:
        return value
    return json.dumps(value, default=str) if isinstance(value, (dict, list, tuple)) else str(value)


def origin(name: str | None, keys: Sequence[str], columns: Sequence[str] | None = None) -> str:
    """SQL that names where a broken row came from: `name` with its key, which tells more than a position without an order.
    `columns` are what the keys are called in SQL, where that is not their name."""
    parts = " || ', ' || ".join(
        f"{literal(key + '=')} || coalesce(cast({identifier(column)} as varchar), '')"
        for key, column in zip(keys, columns or keys, strict=True)
    )
    return f"{literal(name)} || ' (' || {parts} || ')'" if keys else literal(name)
