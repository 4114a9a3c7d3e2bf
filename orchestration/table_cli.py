"""`tenure train` and `tenure score`: a churn model for one flat file of one's own.

Lives here: the two commands, their options and what they show. Must not live here: what they do (`ml/table_*.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.words import percent

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.settings import Tenure
    from ml.table_model import TableTraining
    from ml.table_score import Scored
    from ml.table_store import Kept

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]
TOP_EFFECTS = 8
LEFT_OUT_SHOWN = 12


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(
        epilog="Examples: tenure train --table customers.parquet --label churned --id customer_id ·"
        " tenure train --table snapshots.csv.gz --label left_in_90_days --id account --time snapshot_date"
        " --horizon-days 90 --drop notes,owner"
    )(train)
    app.command(epilog="Example: tenure score --table new.parquet --id customer_id --out scores.parquet")(score)


def train(
    context: typer.Context,
    table: Annotated[
        Path, typer.Option("--table", help="CSV, TSV, JSON lines (also .gz, .zst) or Parquet; one row per customer.")
    ],
    label: Annotated[str, typer.Option("--label", help="Column that says who left: yes/no, 1/0, churned/stayed, ….")],
    id: Annotated[str, typer.Option("--id", help="Column that names the customer.")],
    time: Annotated[
        str | None,
        typer.Option("--time", help="Column with the day as of which a row is known; tests go forward in time."),
    ] = None,
    horizon_days: Annotated[
        int,
        typer.Option(
            "--horizon-days", help="With --time: days that the label looks ahead, left free before a test.", min=0
        ),
    ] = 0,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="A,B", help="Columns to leave out, such as what is known only later."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="A,B", help="Columns to use though they look like leaks or ids."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a churn model on one flat file: find the types, test honestly, explain, register, report."""
    import time as clock

    from core import settings
    from core.errors import UserError
    from ml import table_model, table_store
    from orchestration import console
    from orchestration.publish import git_commit

    if horizon_days and time is None:
        raise UserError("--horizon-days needs --time, the column with the day of each row.")
    tenure = settings.load(context.obj)
    began = clock.monotonic()
    with _progress("training", quiet=as_json) as progress:
        training = table_model.train(
            table,
            label=label,
            id=id,
            time=time,
            drop=_names(drop),
            keep=_names(keep),
            horizon_days=horizon_days,
            tenure=tenure,
            progress=progress,
        )
        kept = table_store.keep(
            training,
            source=table,
            tenure=tenure,
            now=settings.utc_now(),
            git_commit=git_commit(),
            progress=progress,
        )
    seconds = clock.monotonic() - began
    if as_json:
        console.print_json(
            {
                "status": "done",
                "model_version": kept.version,
                "model": kept.folder,
                "report": kept.report,
                "seconds": round(seconds, 1),
                **training.document(),
            }
        )
        return
    _show_training(tenure, training, kept, table, seconds, config=context.obj)


def score(
    context: typer.Context,
    table: Annotated[Path, typer.Option("--table", help="A file with the columns of the training.")],
    id: Annotated[str, typer.Option("--id", help="Column that names the customer.")],
    out: Annotated[Path, typer.Option("--out", help="Where the scores go: .parquet or .csv.")],
    as_json: AsJson = False,
) -> None:
    """Score a file with the model last trained by `tenure train`: probability, tier, percentile, reasons."""
    from core import settings
    from ml import table_score
    from orchestration import console

    tenure = settings.load(context.obj)
    with _progress("scoring", quiet=as_json) as progress:
        scored = table_score.score(table, id=id, out=out, tenure=tenure, now=settings.utc_now(), progress=progress)
    if as_json:
        console.print_json({"status": "done", **scored.document()})
        return
    _show_scored(scored)


def _names(given: Sequence[str] | None) -> list[str]:
    return [name.strip() for one in given or () for name in one.split(",") if name.strip()]


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Callable[[str, int, int], object]]:
    """A bar on a terminal; without one a line for each step, none with --json."""
    from orchestration import console

    if console.ERR.is_terminal or quiet:
        with console.step_display(name) as listener:
            yield listener
        return

    said: list[str] = []

    def line(what: str, done: int, total: int) -> None:
        if not said or said[-1] != what:
            said.append(what)
            console.ERR.print(f"[{done}/{total}] {what}" if total > 1 else what, markup=False, soft_wrap=True)

    yield line


def _show_training(
    tenure: Tenure, training: TableTraining, kept: Kept, table: Path, seconds: float, *, config: Path | None
) -> None:
    from rich.markup import escape

    from orchestration import console

    prepared, found = training.prepared, training.evaluation
    data = prepared.data
    used = [fate for fate in prepared.fates if fate.role == "used"]
    gone = [fate for fate in prepared.fates if fate.role == "left out"]
    out = console.OUT
    refused = training.decision.state == "refused"
    colour = "yellow" if refused else "green"
    out.print(
        f"\n[bold]{escape(table.name)}[/]: [bold {colour}]{escape(training.verdict)}[/]",
        soft_wrap=True,
    )
    facts: dict[str, str] = {
        "Rows": f"{len(data):,}, of which {data.events:,} left ({percent(data.events / len(data), 1)});"
        f" {prepared.plan.label} = {prepared.plan.left} means left",
        "Columns": f"{len(used)} used, {len(gone)} left out",
        "Tested": training.protocol,
        "Model": training.form,
        "Time": f"{seconds:.0f} s to read, test, train, explain and register",
    }
    for key, value in facts.items():
        out.print(f"[dim]{key:<8}[/] {escape(value)}", soft_wrap=True)
    out.print()
    others = training.baselines
    names = {
        "roc_auc": "ROC AUC",
        "pr_auc": "PR AUC",
        "log_loss": "Log loss",
        "ece": "ECE",
        "lift_top_decile": "Lift, top 10 %",
    }
    console.show_table(
        "",
        [
            {
                "": title,
                "model": _number(found.metrics[name].value),
                "95 %": f"{_number(found.metrics[name].low)} to {_number(found.metrics[name].high)}",
                "logistic regression": _number(others["logistic_regression"].metrics[name].value),
                "same for all": _number(others["prior"].metrics[name].value),
            }
            for name, title in names.items()
        ],
    )
    if found.ece_floor.value is not None:
        out.print(f"[dim]Luck alone makes an ECE of {found.ece_floor.value:.3f} at this size.[/]")
    if training.random_split_auc is not None:
        out.print(f"[dim]On a random split, which knows the future, ROC AUC is {training.random_split_auc:.3f}.[/]")
    out.print()
    console.show_table(
        "What moves the risk",
        [
            {"column": one.feature, "share": percent(one.share), "direction": one.direction}
            for one in training.effects[:TOP_EFFECTS]
        ],
    )
    _show_warnings(training, gone)
    out.print(f"\n[dim]Report[/]   {escape(str(kept.report))}", soft_wrap=True)
    out.print(f"[dim]Model[/]    {escape(kept.version)} in MLflow; copy in {escape(str(kept.folder))}", soft_wrap=True)
    console.show_next(f"tenure score --table NEW_FILE --id {prepared.plan.id} --out scores.parquet", config=config)


def _show_warnings(training: TableTraining, gone: Sequence[Any]) -> None:
    from rich.markup import escape

    from orchestration import console

    prepared = training.prepared
    leaks = {one.name for one in prepared.suspects if one.verdict == "left out"}
    said = [f"Left out as a leak: {one.sentence}" for one in prepared.suspects if one.verdict == "left out"]
    said += [f"Leak suspect, kept: {one.sentence}" for one in prepared.suspects if one.verdict == "kept"]
    said += [
        f"Not good enough to act on: {reason}"
        for reason in training.decision.reasons
        if training.decision.state == "refused"
    ]
    said += list(prepared.notes)
    said += [
        f"{fate.column}: {fate.note}"
        for fate in prepared.fates
        if fate.role == "used" and fate.note and fate.column not in {s.name for s in prepared.suspects}
    ]
    if said:
        console.OUT.print()
    for sentence in said:
        console.OUT.print(f"  [yellow]![/] {escape(sentence)}", soft_wrap=True)
    rest = [fate for fate in gone if fate.column not in leaks]
    if rest:
        console.OUT.print()
        console.show_table("Left out", [{"column": fate.column, "why": fate.note} for fate in rest[:LEFT_OUT_SHOWN]])
        if len(rest) > LEFT_OUT_SHOWN:
            console.OUT.print(f"[dim]and {len(rest) - LEFT_OUT_SHOWN} more: see the report[/]")


def _show_scored(scored: Scored) -> None:
    from rich.markup import escape

    from orchestration import console

    out = console.OUT
    tiers = ", ".join(f"{count:,} {name}" for name, count in scored.tiers.items())
    out.print(
        f"\n[bold green]{scored.rows:,} customers scored[/] with {escape(scored.version)}: {tiers}", soft_wrap=True
    )
    if scored.riskiest:
        console.show_table(
            "Most at risk",
            [
                {
                    "id": one["id"],
                    "risk": percent(one["churn_probability"], 1),
                    "because": "; ".join(one["reasons"]),
                }
                for one in scored.riskiest
            ],
        )
    for sentence in scored.warnings:
        out.print(f"  [yellow]![/] {escape(sentence)}", soft_wrap=True)
    out.print(f"\n[dim]Scores[/]   {escape(str(scored.out))}", soft_wrap=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
