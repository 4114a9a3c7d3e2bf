"""`tenure model`: which versions of the churn model there are, and which one is used.

Lives here: the sub-commands, their options and what they show. Must not live here: MLflow and what promoting means
(`ml/registry.py`), training (`ml/train.py`). Imports stay inside the commands: `tenure --help` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.settings import Tenure
    from ml.registry import Registry, Version

app = typer.Typer(
    help="The versions of the churn model: list, promote, roll back, read the card.",
    epilog="Examples: tenure model list · tenure model card · tenure model promote 3",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]
SHOWN_METRICS = ("log_loss", "pr_auc", "precision_at_capacity", "roc_auc", "ece")
"""Columns of the list, when versions have them; the card has all."""


@app.command("list", epilog="Examples: tenure model list · tenure model list --limit 0 --json")
def list_versions(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="Show at most this many, the newest first; 0 shows all.", min=0)] = 20,
    as_json: AsJson = False,
) -> None:
    """Every trained version: its state, its test numbers, and why it is or is not used."""
    from orchestration import console

    found = _registry(context).versions()
    shown = found if limit == 0 else found[:limit]
    if as_json:
        console.print_json({"model": "tenure-churn", "versions": [version.document() for version in shown]})
        return
    if not found:
        console.OUT.print(
            "The daily job has trained no model yet. (Those of `tenure train --table` are not listed here.)"
        )
        console.show_next("tenure run", config=context.obj)
        return
    console.show_table("", _rows(shown))
    if len(shown) < len(found):
        console.ERR.print(f"[dim]{len(found) - len(shown):,} older versions: --limit 0 shows all[/]")
    newest = shown[0]
    _tell_reasons(newest)
    console.show_next(f"tenure model card {newest.number}", config=context.obj)


@app.command("promote", epilog="Examples: tenure model promote 3 · tenure model promote challenger --json")
def promote(
    context: typer.Context,
    version: Annotated[str, typer.Argument(help="A number, or challenger, or latest.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the version.")] = "by hand",
    force: Annotated[bool, typer.Option("--force", help="Use a version that the gate refused.")] = False,
    as_json: AsJson = False,
) -> None:
    """Use this version's scores from the next run on."""
    from core.settings import utc_now
    from orchestration import console

    registry = _registry(context)
    before = registry.champion()
    wanted = registry.version(version)
    now = registry.promote(wanted.number, reason=reason, now=utc_now(), force=force)
    changed = before is None or before.number != now.number
    if as_json:
        console.print_json(_change("promoted", before, now, changed=changed))
        return
    if changed:
        was = f"; before it was version {before.number}" if before else ""
        console.OUT.print(f"Version {now.number} is the champion{was}.")
        console.show_next("tenure run   (scores with it)", "tenure model rollback   (undoes it)", config=context.obj)
    else:
        console.OUT.print(f"Version {now.number} is the champion already.")


@app.command("rollback", epilog="Examples: tenure model rollback · tenure model rollback --reason 'calls went wrong'")
def rollback(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why; kept with the version that goes.")] = "by hand",
    as_json: AsJson = False,
) -> None:
    """Back to the version that was champion before."""
    from core.settings import utc_now
    from orchestration import console

    gone, back = _registry(context).rollback(reason=reason, now=utc_now())
    if as_json:
        console.print_json(_change("rolled_back", gone, back, changed=True))
        return
    console.OUT.print(f"Version {back.number} is the champion again; version {gone.number} is retired.")
    console.show_next(
        "tenure run   (scores with it)", f"tenure model promote {gone.number}   (undoes it)", config=context.obj
    )


@app.command("card", epilog="Examples: tenure model card · tenure model card 3 · tenure model card challenger --json")
def card(
    context: typer.Context,
    version: Annotated[
        str | None, typer.Argument(help="A number, or champion, challenger, latest; default: champion, else latest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a version is for, what it was tested on, and what it cannot do. Piped, it is plain Markdown."""
    from orchestration import console

    registry = _registry(context)
    chosen = registry.version(version) if version else registry.champion() or registry.version("latest")
    text = registry.card(chosen)
    if as_json:
        console.print_json({**chosen.document(), "card": text})
    elif console.OUT.is_terminal:
        from rich.markdown import Markdown

        console.OUT.print(Markdown(printable(text)))
    else:
        typer.echo(text, nl=False)


def _registry(context: typer.Context) -> Registry:
    from core import settings
    from ml import registry

    tenure: Tenure = settings.load(context.obj)
    return registry.connect(tenure.home, tenure.config.model.tracking_uri)


def _rows(versions: Sequence[Version]) -> list[Mapping[str, Any]]:
    metrics = [name for name in SHOWN_METRICS if any(name in version.headline for version in versions)]
    return [
        {
            "version": str(version.number),
            "state": version.state,
            "trained (UTC)": version.trained_at,
            # As text: the table's own numbers have two decimals, and log losses differ in the third.
            **{name.replace("_", " "): _number(version.headline.get(name)) for name in metrics},
            "why": version.reasons[0] if version.reasons else "",
        }
        for version in versions
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _tell_reasons(version: Version) -> None:
    from rich.markup import escape

    from orchestration import console

    console.OUT.print(f"\nVersion {version.number} is {_state(version)}:")
    for reason in version.reasons:
        console.OUT.print(f"  · {escape(reason)}", soft_wrap=True)


def _state(version: Version) -> str:
    words = {"champion": "the champion", "challenger": "a challenger"}
    return words.get(version.state, version.state)


def _change(status: str, before: Version | None, now: Version, *, changed: bool) -> dict[str, Any]:
    return {
        "status": status if changed else "unchanged",
        "changed": int(changed),
        "champion": now.number,
        "before": before.number if before else None,
        "version": now.document(),
    }
