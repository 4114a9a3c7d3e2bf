"""`tenure sources`: what is loaded of sources, and taking out what tenure.yml no longer has.

Lives here: the sub-commands, their options and what they show. Must not live here: what is left over and how it goes
(`sources/leftovers.py`). Imports stay inside the commands: `tenure --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UserError
from core.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.settings import Tenure
    from sources.leftovers import Leftover

app = typer.Typer(
    help="Sources that tenure.yml no longer has, whose rows are still there.",
    epilog="Examples: tenure sources list · tenure sources remove old_crm --dry-run · tenure sources remove old_crm --yes",
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
    from core.locks import RunLock
    from orchestration import console
    from sources import leftovers

    tenure = _loaded(context)
    lock = RunLock(tenure.home / "run.lock")
    lock.acquire(
        f"sources remove {os.getpid()}",
        wait_seconds=3600.0,
        on_wait=lambda holder: console.ERR.print(f"waiting for run {holder} to end"),
    )
    try:
        with warehouse.warehouse(
            tenure.warehouse_path,
            memory_limit=tenure.memory_limit,
            threads=tenure.threads,
            temp_directory=tenure.temp_directory,
        ) as connection:
            found = leftovers.find(connection, tenure.config)
            wanted = [one for one in found if name in (one.source, one.label)]
            if not wanted:
                _check_name(tenure, name, found, was_loaded=leftovers.was_loaded(connection, name.partition("/")[0]))
            if wanted and not dry_run:
                if not yes:
                    _ask(wanted, as_json=as_json)
                leftovers.remove(connection, tenure.config, wanted, now=settings.utc_now())
    finally:
        lock.release()
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
