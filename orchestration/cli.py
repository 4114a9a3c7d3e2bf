"""The `tenure` command.

Lives here: commands, their options and exit codes. Must not live here: what they do (`runs.py`, `report.py`, the steps) or
how it looks (`console.py`). Imports stay inside the commands: `tenure --help` answers at once.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 refused by a check or guard.
"""

from __future__ import annotations

import atexit
import gc
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from core import telemetry, threads
from core.errors import TenureError, UserError, says_full
from orchestration import erase_cli, models, sources_cli, sync_cli, table_cli

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from core.settings import Tenure
    from sandbox.company import Company, Delivered

app = typer.Typer(
    name="tenure",
    help="From source systems to a customer 360: extract, model, check and publish a company's customers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: tenure run · tenure status · tenure --config my.yml doctor.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong use, 3 refused by a check. TENURE_HOME is the folder of all state.",
)
sandbox_app = typer.Typer(
    help="The built-in company with known truth, and its days.",
    epilog="Examples: tenure sandbox status · tenure sandbox advance --days 7 && tenure run",
    no_args_is_help=True,
)
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(models.app, name="model")
app.add_typer(sync_cli.app, name="sync")
app.add_typer(sources_cli.app, name="sources")
table_cli.add_to(app)
erase_cli.add_to(app)

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]


def main() -> None:
    """Run the command; a mistake of the user ends in a sentence, not in a traceback."""
    telemetry.switch_off()
    threads.wait_quietly()
    # Most of a small company's run is libraries that are imported: looking for garbage among their million objects took 0.8 s of it, and
    # taking them apart at the end 1.5 s.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
    try:
        # Typer's own words about wrong use are drawn in a box, which no program reads.
        sys.exit(app(standalone_mode=not _wants_json()))
    except TyperException as error:
        _tell(UserError(error.format_message(), hint="The command's --help lists what it takes."))
        sys.exit(error.exit_code)
    except TenureError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: nothing half-written is visible; run again to go on\n")
        sys.exit(1)
    except BrokenPipeError:
        # The reader of a pipe (such as `head`) has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("TENURE_DEBUG"):
            raise
        _tell(_in_words(error))
        sys.exit(1)


def _in_words(error: Exception) -> TenureError:
    words = f"{type(error).__name__}: {error}"
    if says_full(words):
        return TenureError(
            f"The disk is full, or a file may not grow further ({words.splitlines()[0]}).",
            hint="Free some space and run again. What was published stays as it was.",
        )
    return TenureError(
        f"This should not have happened: {words}", hint="TENURE_DEBUG=1 shows where. Nothing half-written is visible."
    )


def _wants_json() -> bool:
    return "--json" in sys.argv


def _tell(error: TenureError) -> None:
    from orchestration import console

    if _wants_json():
        console.print_json({"status": "error", "error": error.message, "hint": error.hint})
    else:
        console.print_error(error)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"tenure {metadata.version('tenure')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", help="The company's settings.", show_default="config/tenure.yml")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    context.obj = config


def _tenure(context: typer.Context) -> Tenure:
    from core import settings

    return settings.load(context.obj)


@app.command(
    epilog="Examples: tenure run · tenure run --full crm/accounts · tenure run --rebuild · tenure run --as-of 2024-03-01"
    " · tenure --config my.yml run --json"
)
def run(
    context: typer.Context,
    streams: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE/STREAM]...", help="With --full: read again only these; SOURCE is all of its own."
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="DATE",
            help="Rebuild the customer 360 as it was at the start of DATE, into a file of its own.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Read all again, instead of what is new.")] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the churn model now, due or not; the gate decides about it.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build, check and publish although nothing is new.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Extract what is new, build the customer 360, check it, score who may leave, publish it."""
    from orchestration import console, runs

    tenure = _tenure(context)
    again = _streams(tenure, streams or (), full=full)
    if as_of is not None and (full or retrain or rebuild):
        raise UserError(
            "--as-of rebuilds from what is loaded; it cannot be combined with --full, --retrain or --rebuild."
        )
    day = _past_day(as_of) if as_of is not None else None
    if day is not None and not tenure.warehouse_path.exists():
        raise UserError("Nothing has been loaded yet that could be replayed.", hint="Run `tenure run` first.")
    job = "customer_360" if day is None else "replay"
    with console.progress_display() as listener:
        outcome = runs.execute(
            tenure, job, full=again, retrain=retrain, rebuild=rebuild, partition=day, on_progress=listener
        )
    path = tenure.home / "replays" / f"{day}.duckdb" if day else tenure.serving_path
    _end(context, tenure, outcome, path, as_json=as_json)


def _streams(tenure: Tenure, named: Sequence[str], *, full: bool) -> tuple[str, ...]:
    """The labels of the streams of which everything is to be read again."""
    from sources.base import stream_ids

    if named and not full:
        raise UserError(
            "A run reads what is new of all streams.",
            hint=f"To read streams again: tenure run --full {' '.join(named)}",
        )
    known = stream_ids(tenure.config)
    unknown = [name for name in named if name not in {label for one in known for label in (one.label, one.source)}]
    if unknown:
        raise UserError(
            f"There is no stream {', '.join(unknown)}.", hint=f"There are {', '.join(one.label for one in known)}."
        )
    return tuple(one.label for one in known if full and (not named or one.label in named or one.source in named))


def _day(text: str) -> date:
    from datetime import date

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UserError(f"{text!r} is not a date.", hint="Write it as 2024-03-01.") from None


def _past_day(text: str) -> str:
    from datetime import date

    from core.settings import utc_now

    day = _day(text)
    if not date(2000, 1, 1) <= day <= utc_now().date():
        raise UserError(f"--as-of {text} lies outside 2000-01-01 to today.")
    return day.isoformat()


def _end(context: typer.Context, tenure: Tenure, outcome: Any, path: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from orchestration import console, report

    succeeded = outcome.status in ("done", "stopped")
    published = report.published(path) if succeeded else None
    if as_json:
        document = {**asdict(outcome), "warnings": outcome.warnings, "exit_code": outcome.exit_code}
        console.print_json({**document, "published": published.document() if published else None})
    else:
        console.show_outcome(outcome, tenure.config.company)
        if published:
            console.show_published(published)
            console.show_worth_a_call(published.worth_a_call, published.currency)
            query = 'tenure query "select * from marts.accounts limit 5"'
            console.show_next(query, "tenure status", "tenure ui", config=context.obj)
        else:
            again = "tenure run   (goes on where this one ended)"
            console.show_next("tenure doctor", "tenure status", again, config=context.obj)
    raise typer.Exit(outcome.exit_code)


@app.command(epilog="Examples: tenure publish · tenure publish --json")
def publish(context: typer.Context, as_json: AsJson = False) -> None:
    """Publish the working warehouse again, for example after a change of what is left out."""
    from orchestration import console, runs

    tenure = _tenure(context)
    if not tenure.warehouse_path.exists():
        raise UserError("There is nothing to publish yet.", hint="Run `tenure run` first.")
    with console.progress_display() as listener:
        outcome = runs.execute(tenure, "publish", on_progress=listener)
    _end(context, tenure, outcome, tenure.serving_path, as_json=as_json)


@app.command(epilog="Examples: tenure doctor · tenure doctor --source billing · tenure --config my.yml doctor --json")
def doctor(
    context: typer.Context,
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="Only this source.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check the configuration and the sources before anything is loaded: what is filled, what would be quarantined."""
    from dataclasses import asdict

    from core.settings import utc_now
    from orchestration import console, metric_hits, stand_ins
    from sources.doctor import examine

    tenure = _tenure(context)
    if tenure.config.sandbox is not None:
        import sandbox

        wanted = tenure.config.sandbox
        sandbox.generate(tenure.home, accounts=wanted.accounts, months=wanted.months, seed=wanted.seed)
    names = list(tenure.config.sources) if source is None else [source]
    with (
        console.ERR.status("reading a sample of every stream"),
        stand_ins.sources_reachable(tenure, names) as reached,
    ):
        found = examine(reached, now=utc_now(), source=source)
    hits = metric_hits.measure(tenure) if source is None else ()
    is_healthy = found.is_healthy and not any(hit.reason for hit in hits)
    if as_json:
        metrics = [asdict(hit) for hit in hits]
        console.print_json({"healthy": is_healthy, "next": found.next_step, **asdict(found), "metrics": metrics})
    else:
        console.show_metric_hits(hits)
        console.show_examination(tenure.config.company, found, config=context.obj)
    raise typer.Exit(0 if is_healthy else 1)


@app.command(epilog="Examples: tenure status · tenure status --json")
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """The last run, how fresh each source is, and the checks that did not pass."""
    from orchestration import console, report, runs

    tenure = _tenure(context)
    last = runs.last_runs(tenure, limit=5)
    published = report.published(tenure.serving_path) if tenure.serving_path.exists() else None
    if as_json:
        console.print_json({"runs": last, "published": published.document() if published else None})
    else:
        console.show_status(tenure.config.company, last, published, config=context.obj)


@app.command(
    epilog='Examples: tenure query "select * from marts.months" · tenure query "from marts.accounts limit 3" --json'
    ' · tenure query --warehouse "from quarantine.tickets"'
)
def query(
    context: typer.Context,
    sql: Annotated[
        str,
        typer.Argument(
            help="SQL over the published copy: schemas marts, features, reverse_etl, quality, sync; table publication."
        ),
    ],
    working: Annotated[
        bool,
        typer.Option(
            "--warehouse", help="Ask the working warehouse instead: raw tables and quarantine, while no run is on."
        ),
    ] = False,
    limit: Annotated[int, typer.Option(help="Show at most this many rows; 0 shows all.", min=0)] = 100,
    as_json: AsJson = False,
) -> None:
    """Ask the published copy, or with --warehouse what it was made from."""
    from core import warehouse
    from orchestration import console

    if not re.sub(r"--.*", "", sql).strip(" ;\n\t"):
        raise UserError("There is no SQL to ask.", hint='`tenure query "show all tables"` lists what there is.')
    tenure = _tenure(context)
    path = tenure.warehouse_path if working else tenure.serving_path
    if not path.exists():
        instead = " What was loaded can be seen with --warehouse." if tenure.warehouse_path.exists() else ""
        raise UserError(
            f"Nothing has been {'loaded' if working else 'published'} yet.{instead}", hint="Run `tenure run` first."
        )
    with warehouse.warehouse(path, read_only=True) as connection:
        warehouse.confine(connection)
        try:
            if len(connection.extract_statements(sql)) > 1:
                raise UserError("More than one statement: only the last would be shown.", hint="Ask them one by one.")
            found = warehouse.rows(connection, sql)
        except warehouse.Error as error:
            raise UserError(str(error), hint='`tenure query "show all tables"` lists what there is.') from None
    shown = found if limit == 0 else found[:limit]
    if as_json:
        console.print_json(shown)
    else:
        console.show_rows(shown)
        if len(shown) < len(found):
            console.ERR.print(f"[dim]{len(found) - len(shown):,} more rows: --limit 0 shows all[/]")


@app.command(epilog="Examples: tenure ui · tenure ui --port 4000 · tenure ui --host 0.0.0.0   (needs ui.token)")
def ui(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port of the UI.", min=1, max=65535)] = 3000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that other machines can reach needs ui.token.")
    ] = "127.0.0.1",
) -> None:
    """Open Dagster: lineage, runs, checks, the daily schedule and the sensors."""
    from orchestration import dbt
    from orchestration import ui as page
    from orchestration.instance import prepare

    tenure = _tenure(context)
    page.check_host(host, tenure.config.ui)
    prepare(tenure.home)
    dbt.manifest(tenure)
    page.environment(tenure.config_path, tenure.home)
    page.end_on_signals()
    page.serve(host, port, tenure.config.ui)


@sandbox_app.command(
    "generate", epilog="Examples: tenure sandbox generate · tenure sandbox generate --accounts 20000 --force"
)
def sandbox_generate(
    context: typer.Context,
    accounts: Annotated[int | None, typer.Option(help="Accounts, up to a million.", min=1)] = None,
    months: Annotated[int | None, typer.Option(help="Months of history.", min=2)] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same company.")] = None,
    start: Annotated[
        str | None, typer.Option(metavar="DATE", help="First day of the history, the first of a month.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the company that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the company and its history, as each vendor would hold them."""
    import sandbox
    from core.settings import SandboxConfig
    from orchestration import console

    tenure = _tenure(context)
    wanted = tenure.config.sandbox or SandboxConfig()
    with console.step_display("sandbox") as progress:
        delivered = sandbox.generate(
            tenure.home,
            accounts=accounts or wanted.accounts,
            months=months or wanted.months,
            seed=wanted.seed if seed is None else seed,
            start=_day(start) if start else None,
            force=force,
            progress=progress,
        )
    _show_company(context, tenure, delivered.company, delivered, as_json=as_json)


@sandbox_app.command("advance", epilog="Examples: tenure sandbox advance --days 7 && tenure run")
def sandbox_advance(
    context: typer.Context,
    days: Annotated[int, typer.Option(help="How many days the company lives on.", min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """Let the company live on: new files appear as the vendors would deliver them."""
    import sandbox
    from orchestration import console

    tenure = _tenure(context)
    with console.step_display("sandbox") as progress:
        delivered = sandbox.advance(tenure.home, days=days, progress=progress)
    _show_company(context, tenure, delivered.company, delivered, as_json=as_json)


@sandbox_app.command("status", epilog="Examples: tenure sandbox status --json")
def sandbox_status(context: typer.Context, as_json: AsJson = False) -> None:
    """Which company there is, and its last day."""
    import sandbox

    tenure = _tenure(context)
    state = sandbox.state(tenure.home)
    if state is None:
        raise UserError(f"There is no sandbox company in {tenure.home}.", hint="tenure sandbox generate")
    _show_company(context, tenure, state, None, as_json=as_json)


def _show_company(
    context: typer.Context, tenure: Tenure, company: Company, delivered: Delivered | None, *, as_json: bool
) -> None:
    from dataclasses import asdict

    from orchestration import console

    facts: dict[str, Any] = {**asdict(company), "data": str(tenure.home / "sandbox" / "data")}
    if delivered is not None:
        facts |= {"files_written": delivered.files, "rows_written": delivered.rows}
    if as_json:
        console.print_json(facts)
        return
    console.show_facts(facts)
    console.show_next("tenure run", config=context.obj)
