"""`tenure sources`: what is loaded of sources, taking out what tenure.yml no longer has, and sources that moved.

Lives here: the sub-commands, their options and what they show. Must not live here: what is left over and how it goes
(`sources/leftovers.py`). Imports stay inside the commands: `tenure --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UserError
from core.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.settings import Tenure
    from sources.leftovers import Leftover

app = typer.Typer(
    help="Sources that tenure.yml no longer has, whose rows are still there, and sources that lead elsewhere now.",
    epilog="Examples: tenure sources list · tenure sources remove old_crm --dry-run · tenure sources rebind crm",
    no_args_is_help=True,
)
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]


@app.command("list", epilog="Examples: tenure sources list · tenure sources list --json")
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Streams that are not in tenure.yml, and what is still loaded of them."""
    from dataclasses import asdict

    from core import warehouse
    from orchestration import console
    from sources import leftovers

    tenure = _loaded(context)
    with warehouse.warehouse(tenure.warehouse_path, read_only=True) as connection:
        found = leftovers.find(connection, tenure.config)
    if as_json:
        console.print_json({"leftovers": [asdict(one) for one in found]})
    elif found:
        _show(found)
        console.show_next(f"tenure sources remove {found[0].source} --dry-run", config=context.obj)
    else:
        console.OUT.print("All that is loaded is of sources that tenure.yml has.")


@app.command(
    "remove", epilog="Examples: tenure sources remove old_crm --dry-run · tenure sources remove crm/leads --yes"
)
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SOURCE[/STREAM]", help="A source, or one stream of it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take out the rows of a source that tenure.yml no longer has: loaded, in quarantine and remembered."""
    from dataclasses import asdict

    from rich.markup import escape

    from core import settings, warehouse
    from orchestration import console
    from sources import leftovers

    tenure = _loaded(context)
    with (
        _writing(tenure, "sources remove"),
        warehouse.warehouse(
            tenure.warehouse_path,
            memory_limit=tenure.memory_limit,
            threads=tenure.threads,
            temp_directory=tenure.temp_directory,
        ) as connection,
    ):
        found = leftovers.find(connection, tenure.config)
        wanted = [one for one in found if name in (one.source, one.label)]
        if not wanted:
            _check_name(tenure, name, found, was_loaded=leftovers.was_loaded(connection, name.partition("/")[0]))
        if wanted and not dry_run:
            if not yes:
                _ask(wanted, as_json=as_json)
            leftovers.remove(connection, tenure.config, wanted, now=settings.utc_now())
    if as_json:
        status = "nothing to do" if not wanted else "would be removed" if dry_run else "removed"
        console.print_json({"status": status, "streams": [asdict(one) for one in wanted]})
        return
    if not wanted:
        console.OUT.print(f"Nothing of {escape(name)} is loaded.")
        return
    _show(wanted)
    if dry_run:
        console.OUT.print("Nothing was changed: --dry-run.")
    else:
        console.OUT.print("They were removed. What is published has them until the next run.")
        console.show_next("tenure run", config=context.obj)


@app.command("rebind", epilog="Examples: tenure sources rebind crm --dry-run · tenure sources rebind crm")
def rebind(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SOURCE", help="A source of tenure.yml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would be noted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say that a source leads to the same data as before, such as a database that moved to another host: the next run goes on there."""
    from rich.markup import escape

    from core import settings, warehouse
    from orchestration import console
    from sources import origins

    tenure = _loaded(context)
    if name not in tenure.config.sources:
        raise UserError(f"There is no source {name!r}.", hint=f"There are {', '.join(tenure.config.sources)}.")
    if dry_run:
        moved = sorted(label for label in origins.moved_streams(tenure) if label.startswith(f"{name}/"))
    else:
        with (
            _writing(tenure, "sources rebind"),
            warehouse.warehouse(tenure.warehouse_path, temp_directory=tenure.temp_directory) as connection,
        ):
            moved = [label for label, _ in origins.rebind(connection, tenure.config, name, settings.utc_now())]
    if as_json:
        console.print_json({"status": "would be rebound" if dry_run else "rebound", "streams": moved})
    elif not moved:
        console.OUT.print(f"What is loaded of {escape(name)} is from where it leads: there is nothing to rebind.")
    elif dry_run:
        console.OUT.print(
            f"{escape(', '.join(moved))} would go on where the last run ended. Nothing was changed: --dry-run."
        )
    else:
        console.OUT.print(f"{escape(', '.join(moved))} will go on where the last run ended.")
        console.show_next("tenure run", config=context.obj)


@contextmanager
def _writing(tenure: Tenure, what: str) -> Iterator[None]:
    """The lock of a run, so that nothing else writes meanwhile."""
    from core.locks import RunLock
    from orchestration import console

    lock = RunLock(tenure.home / "run.lock")
    lock.acquire(
        f"{what} {os.getpid()}",
        wait_seconds=3600.0,
        on_wait=lambda holder: console.ERR.print(f"waiting for run {holder} to end"),
    )
    try:
        yield
    finally:
        lock.release()


def _check_name(tenure: Tenure, name: str, found: Sequence[Leftover], *, was_loaded: bool) -> None:
    """Refuse a name of which nothing is left over, unless it was removed before."""
    from sources.base import stream_ids

    configured = {label for one in stream_ids(tenure.config) for label in (one.source, one.label)}
    if name in configured:
        raise UserError(
            f"{name} is in tenure.yml, so that the next run would load it again.",
            hint=f"Take it out of tenure.yml first. To read it again: tenure run --full {name}",
        )
    if not was_loaded:
        left = ", ".join(one.label for one in found) or "nothing"
        raise UserError(f"Nothing was ever loaded of {name}.", hint=f"Left over is {left}.")


def _ask(wanted: Sequence[Leftover], *, as_json: bool) -> None:
    rows = counted(sum(one.rows for one in wanted), "row")
    if as_json or not sys.stdin.isatty():
        raise UserError(
            f"{rows} would be removed, and nobody is there to ask.", hint="Add --yes, or look with --dry-run."
        )
    typer.confirm(f"Remove {rows} of {', '.join(one.label for one in wanted)}?", abort=True, err=True)


def _show(found: Sequence[Leftover]) -> None:

    from orchestration import console

    records: list[dict[str, Any]] = [
        {"stream": one.label, "rows": one.rows, "in quarantine": one.quarantined, "tables": ", ".join(one.tables)}
        for one in found
    ]
    console.show_table("Not in tenure.yml", records, ["stream", "rows", "in quarantine", "tables"])


def _loaded(context: typer.Context) -> Tenure:
    from core import settings

    tenure = settings.load(context.obj)
    if not tenure.warehouse_path.exists():
        raise UserError("Nothing has been loaded yet.", hint="Run `tenure run` first.")
    return tenure
