"""Where Dagster's instance keeps the events of runs: its own SQLite storage, with connections that stay open.

Lives here: how the databases are connected to. Must not live here: what is stored (Dagster), the instance's settings (`instance.py`).

Dagster opens and closes a database three to four times an event, and has each commit wait for the disk. A run of 20 accounts has 970
events: 4.5 of its 28 seconds went there.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from dagster._core.storage.event_log import SqliteEventLogStorage
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import StaticPool

_BUSY_SECONDS = 60
_KEPT = 4
"""So many databases stay open: the index, and those of the runs that were last written or read."""


class KeptSqliteEventLogStorage(SqliteEventLogStorage):
    """Dagster's storage with one connection a database, used by one thread at a time.

    A commit is in the file at once, for all processes, and safe from a kill; a machine that goes down may lose the last ones
    (`synchronous = normal`: https://sqlite.org/pragma.html#pragma_synchronous). They are accounts of runs, not their results.
    """

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> KeptSqliteEventLogStorage:
        return cls(inst_data=inst_data, **config_value)

    @contextlib.contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.get(shard)
        if engine is None:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=StaticPool,
                connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
            )
            event.listen(engine, "connect", _commit_without_waiting)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            self._engines[shard] = engine
            while len(self._engines) > _KEPT:
                self._engines.popitem(last=False)[1].dispose()
        self._engines.move_to_end(shard)
        return engine

    def dispose(self) -> None:
        super().dispose()
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


def _commit_without_waiting(connection: Any, record: Any) -> None:
    connection.execute("pragma synchronous = normal")
