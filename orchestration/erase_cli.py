"""`tenure erase`: take an account or a person out of everything that this home keeps.

Lives here: the command, its options, the question before it and what it shows. Must not live here: what it does (`erasure/`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UserError
from core.words import counted

if TYPE_CHECKING:
    from core.settings import Tenure
    from orchestration.erasure.receipt import Receipt
    from orchestration.erasure.run import Preview
    from orchestration.erasure.subject import Asked


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(
        "erase",
        epilog="Examples: tenure erase --account 10996051552 --dry-run · tenure erase --email ada@example.com ·"
        " tenure erase --contact crm:1010922725408423652 --yes --json · tenure erase --resume",
    )(erase)


def erase(
    context: typer.Context,
    account: Annotated[
        str | None,
        typer.Option(metavar="ID", help="An account with its people: its id as published, or SOURCE:ID."),
    ] = None,
    email: Annotated[str | None, typer.Option(metavar="ADDRESS", help="The person with this e-mail address.")] = None,
    contact: Annotated[
        str | None, typer.Option(metavar="ID", help="A contact, or a user of the product: ID or SOURCE:ID.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only go on with erasures that were interrupted or could not be completed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what every store holds.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
    ] = False,
) -> None:
    """Erase an account or a person: from tables, files, destinations and logs; extraction keeps them out from then on."""
    from orchestration import console
    from orchestration.erasure import run

    tenure = _tenure(context)
    asked_for, value = _asked(account=account, email=email, contact=contact, is_resumed=resume)
    with console.ERR.status("looking through the stores") as status:
        unfinished = [] if dry_run else run.resume(tenure, progress=status.update)
        found = run.preview(tenure, asked_for, value) if asked_for else None
    if found is None:
        _end(unfinished, as_json=as_json)
        return
    if dry_run:
        _show_preview(found, as_json=as_json)
        return
    if not yes:
        _ask(found, as_json=as_json)
    with console.ERR.status("erasing") as status:
        done = run.erase(tenure, found, progress=status.update)
    _end([*unfinished, done], as_json=as_json)


def _tenure(context: typer.Context) -> Tenure:
    from core import settings

    return settings.load(context.obj)


def _asked(
    *, account: str | None, email: str | None, contact: str | None, is_resumed: bool
) -> tuple[Asked | None, str]:
    given: list[tuple[Asked, str | None]] = [("account", account), ("email", email), ("contact", contact)]
    named = [(kind, value) for kind, value in given if value is not None]
    if is_resumed and not named:
        return None, ""
    if is_resumed or len(named) != 1:
        raise UserError("Say whom to erase: one of --account ID, --email ADDRESS, --contact ID (or --resume alone).")
    return named[0]


def _about(found: Preview) -> dict[str, Any]:
    """The subject for people, before it is gone: nothing of it is kept."""
    one = found.subject
    return {
        "asked_for": one.asked_for,
        "accounts": list(one.accounts),
        "names": list(one.names),
        "records": [":".join(record) for record in one.records],
        "people": [":".join(record) for record in one.people],
        "addresses": list(one.addresses),
    }


def _show_preview(found: Preview, *, as_json: bool) -> None:
    from orchestration import console

    if as_json:
        console.print_json({"status": "planned", **_about(found), "found": dict(found.found)})
        return
    _describe(found)
    console.OUT.print("[dim]Nothing was changed.[/]")


def _describe(found: Preview) -> None:
    from orchestration import console

    shown = {name: ", ".join(value[:10]) + (" …" if len(value) > 10 else "") for name, value in _lists(_about(found))}
    console.show_facts(shown)
    console.show_table(
        "What the stores hold", [{"store": place, "rows or files": count} for place, count in found.found.items()]
    )


def _lists(about: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    return [(name, value) for name, value in about.items() if isinstance(value, list) and value]


def _ask(found: Preview, *, as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        raise UserError("An erasure cannot be undone: say --yes, or look first with --dry-run.")
    _describe(found)
    typer.confirm("Erase this for good?", abort=True)


def _end(receipts: list[Receipt], *, as_json: bool) -> None:
    from orchestration import console

    complete = all(one.is_complete for one in receipts)
    if as_json:
        status = "erased" if complete else "incomplete"
        console.print_json({"status": status, "receipts": [one.document() for one in receipts]})
    else:
        for one in receipts:
            _show(one)
        if not receipts:
            console.OUT.print("No erasure is waiting to be completed.")
    raise typer.Exit(0 if complete else 1)


def _show(done: Receipt) -> None:
    from orchestration import console

    console.show_table(
        f"Receipt {done.erasure_id[:8]} of {done.finished_at:%Y-%m-%d %H:%M} UTC",
        [
            {
                "store": line.store,
                "found": line.found,
                "removed": line.removed,
                "verified": "yes" if line.is_verified else f"{line.remaining} left",
            }
            for line in done.stores
        ],
    )
    total = sum(line.removed for line in done.stores)
    if done.is_complete:
        console.OUT.print(f"Erased: {counted(total, 'row or file')} in {counted(len(done.stores), 'place')}.")
    else:
        console.OUT.print(
            "[bold]Not complete:[/] what is left is tried again by `tenure erase --resume` and by the next run."
        )
    for note in done.notes:
        console.OUT.print(f"→ {note}", markup=False, soft_wrap=True)
