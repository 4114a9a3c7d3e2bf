"""`tenure sync`: bring destinations up to date, see what they have, and what went wrong.

Lives here: the sub-commands, their options and what they show. Must not live here: what they do (`sync.py`, `activation/`).
Imports stay inside the commands: `tenure --help` answers at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from core.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from activation.engine import SyncReport
    from activation.readback import Drift
    from core.settings import Tenure
    from core.sync_settings import SyncConfig

SHOWN = 50
"""How many changes or rows a table shows before the rest is counted."""
KEYS_ON_A_LINE = 20
"""More keys than that are written to a file, instead of to a command line that no shell would take."""


class _Sync(TyperGroup):
    """`tenure sync hubspot` is `tenure sync run hubspot`: a first word that is no command is a destination."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        asks_help = bool(args) and args[0] in ctx.help_option_names
        if not asks_help and (not args or args[0] not in self.commands):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Sync,
    help="Bring destinations (CRM, webhook, database, files) to what the published copy says. Without a command: run.",
    rich_markup_mode="rich",
    epilog="Examples: tenure sync · tenure sync hubspot --dry-run · tenure sync status · tenure sync failures hubspot",
)

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]
Destination = Annotated[str | None, typer.Argument(help="A name of sync.destinations; default: all of them.")]
One = Annotated[str, typer.Argument(help="A name of sync.destinations.")]


@app.command(
    "run",
    epilog="Examples: tenure sync · tenure sync hubspot --dry-run · tenure sync hubspot --keys 17,42 --full ·"
    " tenure sync hubspot --override --json",
)
def run(
    context: typer.Context,
    destination: Destination = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send and write nothing, anywhere; show every change, old → new.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Send unchanged rows as well.")] = False,
    keys: Annotated[
        list[str] | None,
        typer.Option("--keys", metavar="A,B|@FILE", help="Only these rows; may be given more than once."),
    ] = None,
    override: Annotated[
        bool, typer.Option("--override", help="Send though a guard refuses; the ledger keeps that you did.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send what changed since the destination last acknowledged it."""
    import uuid

    from orchestration import console, sync

    tenure = _tenure(context)
    reports = []
    names = _names(tenure, destination)
    sync.require_published(tenure)
    for name in names:
        before = None if dry_run else sync.latest(tenure, name)
        with _progress(name, quiet=as_json) as progress:
            # One that was asked for by name says what is wrong; of several, the others go on.
            work = sync.run if destination else sync.attempt
            report = work(
                tenure,
                name,
                run_id=str(uuid.uuid4()),
                full=full,
                keys=_split(keys),
                override=override,
                dry_run=dry_run,
                progress=progress,
            )
        if not dry_run:
            report.warnings += sync.tell(tenure, report, before, failures_too=True)
        reports.append(report)
    code = max((report.exit_code for report in reports), default=0)
    if as_json:
        console.print_json({"status": _status(reports), "exit_code": code, "syncs": [r.document() for r in reports]})
    else:
        _show_reports(context, tenure, reports)
    raise typer.Exit(code)


@app.command("status", epilog="Examples: tenure sync status · tenure sync status hubspot --json")
def status(
    context: typer.Context,
    destination: Destination = None,
    limit: Annotated[int, typer.Option(help="Show at most so many runs.", min=1)] = 10,
    as_json: AsJson = False,
) -> None:
    """The last syncs, and how many rows each destination has, fails or holds back."""
    from activation.engine import counts_of, sentence
    from orchestration import console, sync

    tenure = _tenure(context)
    names = _names(tenure, destination, enabled_only=False)
    with sync.ledger_of(tenure, create=False) as ledger:
        runs, totals = ledger.runs(destination, limit=limit), ledger.totals()
    known = [
        {"destination": name, **totals.get(name, dict.fromkeys(("rows", "failing", "parked", "in_doubt"), 0))}
        for name in names
    ]
    if as_json:
        console.print_json({"destinations": known, "runs": runs})
        return
    console.show_table("Destinations", [{name.replace("_", " "): row[name] for name in row} for row in known])
    console.OUT.print()
    shown = [
        {
            "started (UTC)": run["started_at"],
            "destination": run["destination"],
            "status": run["status"],
            "rows": sentence(counts_of(run)),
            "error": run["error"],
        }
        for run in runs
    ]
    console.show_table("Last syncs", shown)
    if any(row["failing"] for row in known):
        console.show_next("tenure sync failures", config=context.obj)


@app.command("failures", epilog="Examples: tenure sync failures · tenure sync failures hubspot --limit 500 --json")
def failures(
    context: typer.Context,
    destination: Destination = None,
    limit: Annotated[int, typer.Option(help="Show at most so many rows.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """Rows that a destination did not take, and rows that are not fit to be sent, each with its reason; parked ones first."""
    from orchestration import console, sync

    tenure = _tenure(context)
    _names(tenure, destination, enabled_only=False)
    with sync.ledger_of(tenure, create=False) as ledger:
        found = ledger.failures(destination, limit=limit)
        invalid = ledger.invalid(destination, limit=limit)
    if as_json:
        console.print_json([*found, *(_as_failure(row) for row in invalid)])
        return
    if invalid:
        shown = [
            {
                **({} if destination else {"destination": row["destination"]}),
                "key": row["key"],
                "why": row["error"],
            }
            for row in invalid
        ]
        console.show_table("Not fit to be sent", shown)
        console.OUT.print()
    if not found:
        console.OUT.print("Every row that was sent was taken.")
        return
    shown = [
        {
            **({} if destination else {"destination": row["destination"]}),
            "key": row["key"],
            "why": ": ".join(filter(None, (row["last_error_code"], row["last_error"]))) or row["last_status"],
            "tries": row["attempts"],
            "last (UTC)": row["last_attempt_at"],
            "parked": row["parked_at"] is not None,
        }
        for row in found
    ]
    console.show_table("Not taken" if invalid else "", shown)
    if any(row["parked_at"] for row in found):
        console.show_next(f"tenure sync release {found[0]['destination']}", config=context.obj)


@app.command("release", epilog="Examples: tenure sync release hubspot · tenure sync release hubspot --keys 17,42")
def release(
    context: typer.Context,
    destination: One,
    keys: Annotated[list[str] | None, typer.Option("--keys", metavar="A,B|@FILE", help="Only these rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let parked rows ride in the next sync again."""
    from orchestration import console, sync

    tenure = _tenure(context)
    sync.config_of(tenure, destination)
    with sync.ledger_of(tenure, create=False) as ledger:
        is_empty = ledger.is_empty
    with sync.ledger_of(tenure, create=not is_empty) as ledger:
        released = 0 if is_empty else ledger.release(destination, _split(keys) or None)
    if as_json:
        console.print_json({"status": "done", "destination": destination, "released": released})
        return
    if not released:
        console.OUT.print(f"No {'such ' if keys else ''}row of {destination} is parked.")
        return
    console.OUT.print(f"{counted(released, 'row')} of {destination} will be sent in the next sync.")
    console.show_next(f"tenure sync {destination}", config=context.obj)


@app.command(
    "diff", epilog="Examples: tenure sync diff hubspot · tenure sync diff hubspot --run 3f2a --limit 500 --json"
)
def diff(
    context: typer.Context,
    destination: One,
    run_id: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="ID", help="A run, by the beginning of its id; default: the last that changed something."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Show at most so many changes.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """What a past sync changed, row by row, old → new. What the next one would: tenure sync NAME --dry-run."""
    from core.errors import UserError
    from orchestration import console, sync

    tenure = _tenure(context)
    sync.config_of(tenure, destination)
    with sync.ledger_of(tenure, create=False) as ledger:
        runs = [run for run in ledger.runs(destination, limit=1000) if run["run_id"].startswith(run_id or "")]
        if not runs:
            said = f"There is no such sync of {destination}." if run_id else f"{destination} was never synced."
            raise UserError(said, hint=f"tenure sync status {destination}")
        busy = [run for run in runs if any(run[count] for count in ("ok", "rejected", "retriable"))]
        chosen = (runs if run_id else busy or runs)[0]
        changes = ledger.changes(chosen["run_id"], limit=limit)
    if as_json:
        console.print_json({"run": chosen, "changes": [_parsed(change) for change in changes]})
        return
    shown = [
        {
            "key": change["key"],
            "operation": change["operation"],
            "status": change["status"],
            "what": change["error"] or _in_words(_fields(change)),
        }
        for change in changes
    ]
    console.show_table(f"Sync {chosen['run_id'][:8]} of {chosen['started_at']:%Y-%m-%d %H:%M} UTC", shown)
    sent = sum(chosen[count] for count in ("ok", "rejected", "retriable"))
    if sent > len(changes):
        console.OUT.print(f"[dim]and {sent - len(changes):,} more: --limit {sent} shows all[/]")


@app.command("verify", epilog="Examples: tenure sync verify hubspot · tenure sync verify hubspot --keys 17 --json")
def verify(
    context: typer.Context,
    destination: One,
    keys: Annotated[list[str] | None, typer.Option("--keys", metavar="A,B|@FILE", help="Only these rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read the destination's values back and report where somebody else changed our fields. Exit code 1 where they differ."""
    from orchestration import console, sync

    tenure = _tenure(context)
    with _progress(destination, quiet=as_json) as progress:
        found = sync.verify(tenure, destination, keys=_split(keys), progress=progress)
    if as_json:
        console.print_json({"status": "drifted" if found.drifted else "same", **found.document()})
    else:
        _show_drift(context, tenure, destination, found)
    raise typer.Exit(1 if found.drifted else 0)


@app.command("setup", epilog="Examples: tenure sync setup hubspot · tenure sync setup hubspot --json")
def setup(context: typer.Context, destination: One, as_json: AsJson = False) -> None:
    """Create our fields at the destination: names, types, labels and descriptions."""
    from orchestration import console, sync

    tenure = _tenure(context)
    with _progress(destination, quiet=as_json):
        made = sync.setup(tenure, destination)
    if as_json:
        console.print_json({"status": "done", "destination": destination, "made": made})
        return
    for sentence in made or ["Everything is there already."]:
        console.OUT.print(sentence, markup=False, soft_wrap=True)
    console.show_next(f"tenure sync {destination} --dry-run", config=context.obj)


@app.command(
    "rebind", epilog="Examples: tenure sync rebind hubspot --forget · tenure sync rebind hubspot --keep --json"
)
def rebind(
    context: typer.Context,
    destination: One,
    forget: Annotated[
        bool, typer.Option("--forget", help="It is another target: the next sync sends every row to it.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="It is the same target under another address: it has what was sent.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what the ledger of a destination is about, after a sync was refused because the configuration leads elsewhere."""
    from core.errors import UserError
    from orchestration import console, sync

    tenure = _tenure(context)
    sync.config_of(tenure, destination)
    if forget == keep:
        raise UserError("Choose one of --forget and --keep.", hint="tenure sync rebind --help says what each does.")
    rows = sync.rebind(tenure, destination, keep=keep)
    if as_json:
        console.print_json(
            {"status": "done", "destination": destination, "way": "keep" if keep else "forget", "rows": rows}
        )
        return
    done = "kept" if keep else "forgotten; the next sync sends everything"
    console.OUT.print(f"{counted(rows, 'row')} of {destination} {done}.", soft_wrap=True)
    console.show_next(f"tenure sync {destination} --dry-run", config=context.obj)


# --- parts -------------------------------------------------------------------------------------------------------


def _tenure(context: typer.Context) -> Tenure:
    from core import settings

    return settings.load(context.obj)


def _names(tenure: Tenure, destination: str | None, *, enabled_only: bool = True) -> list[str]:
    from core.errors import UserError
    from orchestration import sync

    if destination is not None:
        sync.config_of(tenure, destination)
        return [destination]
    known: dict[str, SyncConfig] = dict(tenure.config.sync.destinations)
    found = [name for name, config in known.items() if config.enabled or not enabled_only]
    if not found and enabled_only:
        raise UserError(
            "No destination is configured.", hint="Add one to sync.destinations in tenure.yml; see docs/sync.md."
        )
    return found


def _as_failure(invalid: dict[str, Any]) -> dict[str, Any]:
    """An invalid row in the shape of one that a destination did not take."""
    return {
        "destination": invalid["destination"],
        "key": invalid["key"],
        "attempts": 0,
        "last_status": "invalid",
        "last_error_code": invalid["error_code"],
        "last_error": invalid["error"],
        "last_attempt_at": invalid["changed_at"],
        "parked_at": None,
    }


def _split(keys: Sequence[str] | None) -> tuple[str, ...]:
    """Keys as they are given: separated by commas, or one a line in a file, as `@FILE`."""
    from core.errors import UserError

    found: list[str] = []
    for some in keys or ():
        if not some.startswith("@"):
            found += some.split(",")
            continue
        path = Path(some[1:]).expanduser()
        try:
            found += path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--keys: {path} cannot be read: {error}", hint="One key a line, in UTF-8.") from None
    return tuple(key.strip() for key in found if key.strip())


def _status(reports: Sequence[SyncReport]) -> str:
    """The worst of the reports' statuses."""
    order = ("done", "planned", "partial", "deferred", "guarded", "stopped", "failed")
    return max((report.status for report in reports), key=order.index, default="done")


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Callable[[str, int, int], object]]:
    from orchestration import console

    if quiet:
        yield lambda what, done, total: None
        return
    with console.step_display(name) as listener:
        yield listener


def _show_reports(context: typer.Context, tenure: Tenure, reports: Sequence[SyncReport]) -> None:
    from rich.markup import escape

    from orchestration import console

    colours = {"done": "green", "planned": "green", "guarded": "yellow", "partial": "yellow", "deferred": "yellow"}
    for report in reports:
        said = report.status if report.status != "planned" else "dry run, nothing was sent or written"
        console.OUT.print(
            f"\n[bold]{escape(report.destination)}[/]: [bold {colours.get(report.status, 'red')}]{said}[/]"
            f"  [dim]{report.seconds:.1f} s[/]",
            soft_wrap=True,
        )
        if report.counts.source or not report.error:
            console.OUT.print(f"  {escape(_counts(report))}", soft_wrap=True)
        for violation in report.violations:
            word = "overridden" if violation.guard in report.overrides else "guard"
            console.OUT.print(f"  [yellow]![/] {word} {violation.guard}: {escape(violation.sentence)}", soft_wrap=True)
        _show_problems(report)
        if report.error and report.status != "guarded" and not report.problems:
            console.OUT.print(f"  [red]✗[/] {escape(report.error)}", soft_wrap=True)
        if report.hint and not report.problems:
            console.OUT.print(f"  [dim]→[/] {escape(report.hint)}", soft_wrap=True)
        for warning in report.warnings:
            console.OUT.print(f"  [yellow]![/] {escape(warning)}", soft_wrap=True)
        _show_details(report)
    last = reports[-1]
    next_commands = [f"tenure sync {last.destination}"] if last.status == "planned" else ["tenure sync status"]
    if any(report.failures for report in reports):
        next_commands.insert(0, "tenure sync failures")
    console.show_next(*next_commands, config=context.obj)


def _show_problems(report: SyncReport) -> None:
    """What is missing at the destination, all at once, and once each way to mend it."""
    from rich.markup import escape

    from orchestration import console

    if report.problems and report.status == "planned":
        console.OUT.print("  [red]✗[/] A sync would stop before the first row:")
    for problem in report.problems[:SHOWN]:
        console.OUT.print(f"  [red]✗[/] {escape(problem.what)}", soft_wrap=True)
    for hint in dict.fromkeys(problem.hint for problem in report.problems):
        console.OUT.print(f"  [dim]→[/] {escape(hint)}", soft_wrap=True)


def _counts(report: SyncReport) -> str:
    if report.status != "planned":
        return report.sentence
    named = (
        ("create", "to send for the first time"),
        ("update", "to update"),
        ("retire", "to clear"),
        ("unchanged", "unchanged"),
        ("parked", "parked"),
        ("invalid", "invalid"),
    )
    return ", ".join(f"{report.planned[key]:,} {words}" for key, words in named if report.planned[key]) or "no rows"


def _show_details(report: SyncReport) -> None:
    from orchestration import console

    reasons = [{"reason": reason, "rows": count} for reason, count in report.invalid_reasons.items()]
    if reasons:
        console.show_table("Never sent", reasons)
    if report.failures:
        columns = ("key", "status", "http_status", "error_code", "error")
        console.show_table("Failed", [{name: row.get(name) for name in columns} for row in report.failures])
    if report.changes:
        shown = [
            {"key": p.change.key, "operation": p.change.operation, "old → new": _in_words(p.differing)}
            for p in report.changes[:SHOWN]
        ]
        console.show_table("", shown)
        if len(report.changes) > SHOWN:
            console.OUT.print(f"[dim]and {len(report.changes) - SHOWN:,} more: --json shows all[/]")


def _in_words(fields: dict[str, tuple[str | None, str | None]]) -> str:
    return "\n".join(f"{name}: {_or_dash(old)} → {_or_dash(new)}" for name, (old, new) in fields.items())


def _or_dash(text: str | None) -> str:
    return "–" if text is None else text


def _fields(change: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    import json

    old, new = json.loads(change["old_values"] or "{}"), json.loads(change["new_values"] or "{}")
    return {name: (old.get(name), text) for name, text in new.items()}


def _parsed(change: dict[str, Any]) -> dict[str, Any]:
    fields = {name: {"old": old, "new": new} for name, (old, new) in _fields(change).items()}
    return {**{k: v for k, v in change.items() if k not in ("old_values", "new_values")}, "fields": fields}


def _show_drift(context: typer.Context, tenure: Tenure, destination: str, found: Drift) -> None:
    from orchestration import console

    console.OUT.print(
        f"{counted(found.read, 'row')} of {destination} read back: "
        + (
            f"{counted(len(found.drifted) - found.missing, 'value')} not ours, {counted(found.missing, 'row')} not there."
            if found.drifted
            else "all as they were sent."
        )
    )
    if found.drifted:
        shown = [
            row.document() if row.field else {**row.document(), "field": "(the record)", "ours": None, "theirs": "gone"}
            for row in found.drifted[:SHOWN]
        ]
        console.show_table("", shown)
        if len(found.drifted) > SHOWN:
            console.OUT.print(f"[dim]and {len(found.drifted) - SHOWN:,} more: --json shows all[/]")
    keys = list(dict.fromkeys(row.key for row in found.drifted if row.field is not None))
    if keys:
        console.OUT.print("\nTo send ours again, which overwrites theirs:")
        some = _named(keys, tenure.home / "sync" / f"{destination}.drifted.txt")
        console.show_next(f"tenure sync {destination} --full --keys {some}", config=context.obj)


def _named(keys: Sequence[str], path: Path) -> str:
    """Keys as --keys takes them: a few by themselves, many in a file, which is written."""
    if len(keys) <= KEYS_ON_A_LINE and not any(set(key) & set(",@ ") for key in keys):
        return shlex.quote(",".join(keys))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
    return shlex.quote(f"@{path}")
