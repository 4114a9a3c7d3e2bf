"""What a measured process does: `python -m benchmarks.tasks NAME ARGUMENTS`, one JSON document on standard output.

Lives here: the work itself, one function a task. Must not live here: stopwatches around a whole process (`measure.py`) or
judgements. Seconds that a task reports are those of the work alone, without starting Python.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from core import settings, telemetry
from core.warehouse import literal, warehouse

FLOOR = Path(__file__).with_name("floor.sql")


def main() -> None:
    telemetry.switch_off()
    name, *arguments = sys.argv[1:]
    sys.stdout.write(json.dumps(TASKS[name](*arguments), default=str) + "\n")


def generate(home: str, accounts: str, months: str) -> dict[str, Any]:
    """Found a sandbox company."""
    import sandbox

    begun = time.perf_counter()
    delivered = sandbox.generate(Path(home), accounts=int(accounts), months=int(months))
    return {"seconds": time.perf_counter() - begun, "rows": delivered.rows}


def advance(home: str, days: str) -> dict[str, Any]:
    """Let a sandbox company live on."""
    import sandbox

    return {"rows": sandbox.advance(Path(home), days=int(days)).rows}


def floor(data: str, out: str, memory_limit: str, threads: str) -> dict[str, Any]:
    """The hand-written script, from the vendors' files to the marts in the file `out`."""
    begun = time.perf_counter()
    path = Path(out)
    with warehouse(
        path, memory_limit=memory_limit, threads=int(threads), temp_directory=path.parent / "tmp"
    ) as connection:
        connection.execute(f"set variable data = {literal(data)}")
        connection.execute(FLOOR.read_text(encoding="utf-8"))
    return {"seconds": time.perf_counter() - begun}


def load(config: str, *streams: str) -> dict[str, Any]:
    """Load streams (`source/stream`) as the job does, into the home's warehouse."""
    from sources import base, ledger
    from sources.load import load_stream

    tenure = settings.load(Path(config))
    reports = {}
    begun = time.perf_counter()
    with warehouse(
        tenure.warehouse_path,
        memory_limit=tenure.memory_limit,
        threads=tenure.threads,
        temp_directory=tenure.temp_directory,
    ) as connection:
        found = {stream.label: stream for stream in base.stream_ids(tenure.config)}
        ledger.ensure_tables(connection, list(found.values()))
        for label in streams:
            stream_begun = time.perf_counter()
            now = ledger.next_moment(connection, settings.utc_now())
            stream = base.open_stream(
                found[label],
                tenure.config.sources[found[label].source],
                now=now,
                temp_directory=tenure.temp_directory,
            )
            report = load_stream(connection, stream, tenure, now=now, run_id="benchmark")
            reports[label] = {
                "seconds": time.perf_counter() - stream_begun,
                "status": report.status,
                "message": report.message,
                "rows_read": report.rows_read,
                "rows_inserted": report.rows_inserted,
                "rows_superseded": report.rows_superseded,
                "rows_quarantined": report.rows_quarantined,
            }
    return {"seconds": time.perf_counter() - begun, "streams": reports}


def load_plainly(pattern: str, out: str, memory_limit: str, threads: str) -> dict[str, Any]:
    """The least that loading events can be: one typed table and a look for keys that come twice."""
    begun = time.perf_counter()
    path = Path(out)
    with warehouse(
        path, memory_limit=memory_limit, threads=int(threads), temp_directory=path.parent / "tmp"
    ) as connection:
        connection.execute(
            "create table events as select cast(event_id as varchar) as event_id, cast(workspace_id as varchar) as account_id,"
            " cast(user_id as varchar) as user_id, cast(event as varchar) as event_name,"
            " cast(timestamp as timestamp) as occurred_at, cast(quantity as double) as quantity,"
            f" cast(product as varchar) as product, filename as _file from read_parquet({literal(pattern)}, filename = true)"
        )
        counted = connection.execute(
            "select count(*) from (select event_id from events group by event_id having count(*) > 1)"
        ).fetchone()
    return {"seconds": time.perf_counter() - begun, "repeated_keys": counted[0] if counted else 0}


def copy_plainly(url: str, table: str, out: str) -> dict[str, Any]:
    """The least that reading a table over the network can be: COPY in CSV to a file."""
    import psycopg

    begun = time.perf_counter()
    with (
        psycopg.connect(url) as connection,
        connection.cursor() as cursor,
        cursor.copy(f"copy (select * from {table}) to stdout (format csv)") as copy,
        Path(out).open("wb") as file,
    ):
        for block in copy:
            file.write(block)
    return {"seconds": time.perf_counter() - begun}


TASKS = {task.__name__: task for task in (generate, advance, floor, load, load_plainly, copy_plainly)}

if __name__ == "__main__":
    main()
