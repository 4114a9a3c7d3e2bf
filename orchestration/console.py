"""What people see on a terminal: progress, summaries, tables, errors; and plain lines where there is no terminal.

Lives here: every line that a command shows, and JSON output. Must not live here: what the commands do.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from core.currency import written
from core.printable import json_safe, printable
from core.words import counted, percent

if TYPE_CHECKING:
    from core.errors import TenureError
    from orchestration import runs
    from orchestration.metric_hits import MetricHits
    from orchestration.report import Published
    from sources.doctor import Examination, StreamFinding


class SafeConsole(Console):
    """A console through which every text is made safe on its way. Markup is ours: what comes from outside is escaped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """All texts of all renderables pass here."""
        return super().render_str(printable(text), **options)


# Bound to the streams as they are now: a run sends what its tools print elsewhere.
OUT = SafeConsole(file=sys.stdout)
ERR = SafeConsole(file=sys.stderr)
SHOWN = 10
"""How many sentences of a kind are shown before the rest is counted."""


def print_json(document: Any) -> None:
    """One JSON document on standard output; dates as ISO 8601."""
    text = json.dumps(_finite(document), indent=2, default=_plain, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(json_safe(text) + "\n")


def _finite(document: Any) -> Any:
    """The document with null for numbers that JSON does not know: infinity, and what is no number."""
    if isinstance(document, float):
        return document if math.isfinite(document) else None
    if isinstance(document, Mapping):
        return {key: _finite(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [_finite(value) for value in document]
    return document


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def print_error(error: TenureError) -> None:
    """What happened, and what to do, on standard error."""
    ERR.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True)
    if error.hint:
        ERR.print(f"[dim]→[/] {escape(error.hint)}", soft_wrap=True)


class _Description(ProgressColumn):
    """What is under way, as it is called: no markup."""

    def render(self, task: Task) -> Text:
        """The text beside the bar."""
        return Text(printable(task.description))


class _Lines:
    """Progress where nobody watches: a line for each step that ends."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.details: list[str] = []

    def __call__(self, progress: runs.Progress) -> None:
        stamp = f"[{time.monotonic() - self.begun:6.1f} s]"
        if progress.kind == "asset" and progress.detail:
            self._line(f"{stamp} {progress.name}: {progress.detail}")
        elif progress.kind == "step" and progress.ok:
            self._line(f"{stamp} {progress.name} done in {progress.seconds:.1f} s")
        elif not progress.ok:
            self._line(f"{stamp} {progress.name}: {progress.detail or 'failed'}")

    def _line(self, text: str) -> None:
        ERR.print(escape(text), soft_wrap=True)


class _Bar:
    """Progress on a terminal: one bar, what is under way beside it, and the lines that matter above it."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("starting", total=None)

    def __call__(self, progress: runs.Progress) -> None:
        if progress.kind == "begin":
            self.bar.update(self.task, total=progress.total, description=progress.name)
        elif progress.kind in ("asset", "check"):
            self.bar.update(self.task, advance=1, description=progress.name)
        elif progress.kind == "log":
            self.bar.update(self.task, description=f"{progress.name} {progress.detail}".strip()[:100])
        if progress.kind == "asset" and progress.detail:
            self.bar.console.print(f"[green]✓[/] {escape(progress.name)}  [dim]{escape(progress.detail)}[/]")
        elif progress.kind == "step" and progress.ok and progress.seconds >= 1:
            self.bar.console.print(f"[green]✓[/] {escape(progress.name)}  [dim]{progress.seconds:.1f} s[/]")
        elif not progress.ok:
            mark = "[red]✗[/]" if progress.kind in ("step", "asset") else "[yellow]![/]"
            self.bar.console.print(f"{mark} {escape(progress.name)}  {escape(progress.detail)}", soft_wrap=True)


@contextmanager
def progress_display() -> Iterator[Any]:
    """A listener for a run's progress: a bar on a terminal, plain lines without one; always on standard error."""
    if not ERR.is_terminal:
        yield _Lines()
        return
    columns = (SpinnerColumn(), BarColumn(bar_width=30), _Description(), TimeElapsedColumn())
    with Progress(*columns, console=ERR, transient=True) as bar:
        yield _Bar(bar)


@contextmanager
def step_display(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """A listener for work that tells what it does, how many steps are done, and how many there are."""
    if not ERR.is_terminal:
        yield lambda what, done, total: None
        return
    columns = (SpinnerColumn(), BarColumn(bar_width=30), _Description(), TimeElapsedColumn())
    with Progress(*columns, console=ERR, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def show_facts(facts: Mapping[str, Any]) -> None:
    """Names and values, one a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        shown = (
            ", ".join(f"{_cell(n)} {key}" for key, n in value.items()) if isinstance(value, Mapping) else _cell(value)
        )
        table.add_row(name.replace("_", " "), shown)
    OUT.print(table)


def show_outcome(outcome: runs.RunOutcome, company: str) -> None:
    """How a run ended, with the sentences that people need."""
    words = {
        "done": "[bold green]done[/]",
        "stopped": "[bold yellow]published, but something was stopped[/]",
        "failed": "[bold red]failed; the published data stays as it was[/]",
        "refused": "[bold red]refused by a check; the published data stays as it was[/]",
    }[outcome.status]
    OUT.print(
        f"\n[bold]{escape(company)}[/]: {words}  [dim]run {outcome.run_id[:8]}, {outcome.seconds:.1f} s[/]",
        soft_wrap=True,
    )
    if outcome.nothing_new is not None:
        OUT.print(f"  {escape(outcome.nothing_new)} [dim](tenure run --rebuild)[/]", soft_wrap=True)
    _sentences(outcome.problems, "[red]✗[/]")
    _sentences([_of_one_kind(kind, alike) for kind, alike in outcome.warnings_by_kind.items()], "[yellow]![/]")


def _of_one_kind(kind: str, sentences: Sequence[str]) -> str:
    """Warnings of one kind as one line: the only one, or how many there are and the first of them."""
    if len(sentences) == 1:
        return sentences[0]
    return f"{kind.replace('_', ' ')}: {len(sentences)} warnings, such as {sentences[0]} (all: tenure status)"


def _sentences(sentences: Sequence[str], mark: str) -> None:
    for sentence in sentences[:SHOWN]:
        OUT.print(f"  {mark} {escape(sentence)}", soft_wrap=True)
    if len(sentences) > SHOWN:
        OUT.print(f"  {mark} and {len(sentences) - SHOWN} more: tenure status")


def show_published(published: Published) -> None:
    """The published state as a short block of facts."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("Accounts", _accounts(published))
    if published.mrr is not None:
        mrr = written(published.mrr, published.currency)
        table.add_row("MRR", f"{mrr} (ARR {written(published.mrr * 12, published.currency, cents=False)})")
    if published.mrr is None and published.invoiced_amount is not None:
        table.add_row("Invoiced", f"{written(published.invoiced_amount, published.currency)} in all")
    table.add_row("As of", f"{published.as_of:%Y-%m-%d}")
    table.add_row("Quarantined", _quarantined(published.quarantined))
    if published.quarantined_mrr is not None:
        table.add_row("", f"[yellow]{escape(_mrr_in_quarantine(published.quarantined_mrr, published.currency))}[/]")
    for line in _unread_values(published.unread_values):
        table.add_row("Not read", escape(line))
    checks = published.checks
    told = [f"{checks['passed']:,} passed"]
    told += [counted(checks["warnings"], "warning")] if checks["warnings"] else []
    told += [f"{checks['critical']:,} critical"] if checks["critical"] else []
    if any(checks.values()):  # a replay has none
        table.add_row("Checks", ", ".join(told))
    if published.model is not None:
        _add_model(table, published.model, published.currency)
    table.add_row("Published", f"{escape(_short(published.path))}  [dim]{published.published_at:%Y-%m-%d %H:%M} UTC[/]")
    for sync in published.syncs:
        table.add_row("Synced", f"{escape(sync['destination'])}: {_synced(sync)}")
    OUT.print(table)


def _accounts(published: Published) -> str:
    customers = f"{published.customers:,} {'is a customer' if published.customers == 1 else 'are customers'}"
    return f"{published.accounts:,}, of which {customers}"


def _synced(sync: Mapping[str, Any]) -> str:
    from activation.engine import counts_of, sentence

    told = sentence(counts_of(sync))
    if any(sync[count] for count in ("rejected", "retriable", "deferred", "invalid")):
        told += " [dim](tenure sync failures)[/]"
    return told if sync["status"] == "done" else f"[yellow]{escape(sync['status'])}[/]; {told}"


def _add_model(table: Table, model: Mapping[str, Any], currency: str) -> None:
    scores, test = model["published"], model["test"]
    state = "not used" if model["state"] == "refused" else escape(str(model["state"]))
    if test:
        metrics = test["metrics"]
        auc, lift = _interval(metrics["roc_auc"], ".3f"), _interval(metrics["lift_top_decile"], ".1f")
        ece, noise = metrics["ece"]["value"], test["ece_floor"]["value"]
        off = "–" if ece is None or noise is None else f"{ece:.3f} [dim](luck alone: {noise:.3f})[/]"
        table.add_row(
            "Churn model",
            f"version {model['model_version']}, {state}; tested on {counted(test['rows'], 'row')} as of"
            f" {escape(test['window'])} that it had not seen",
        )
        table.add_row("", f"ROC AUC {auc}, lift in the top 10 % {lift}, calibration error {off}")
    if model["state"] == "refused":
        version = "no model" if scores["model_version"] is None else f"version {scores['model_version']}"
        used = "the base rate" if scores["is_fallback"] else version
        why = "The training ran to its end and was not good enough" if test else "There was too little to learn from"
        has_nobody = scores["is_fallback"] and not scores["scored"]
        told = "nobody has a score" if has_nobody else f"{used} is used"
        table.add_row("" if test else "Churn model", f"{why}: {told}.")
    if scores["is_fallback"] or not test or model["state"] == "refused":
        table.add_row("", f"[yellow]{escape(str(model['decision']))}[/]")
    if scores["scored"]:
        at_risk = scores["mrr_at_risk"]
        risk = "" if at_risk is None else f", {written(at_risk, currency, cents=False)} of MRR at risk"
        table.add_row("Scored", f"{counted(scores['scored'], 'account')}, {scores['high']:,} in tier high{risk}")


def _interval(metric: Mapping[str, Any], shape: str) -> str:
    """A measured value with its 95 % interval."""
    if metric["value"] is None:
        return "–"
    if metric.get("low") is None:
        return format(metric["value"], shape)
    return f"{metric['value']:{shape}} [dim]({metric['low']:{shape}}–{metric['high']:{shape}})[/]"


def show_worth_a_call(accounts: Sequence[Mapping[str, Any]], currency: str) -> None:
    """The accounts with the most to lose, with their reasons."""
    if not accounts:
        return
    table = Table(title="Most worth a call", title_justify="left", header_style="bold", show_edge=False, pad_edge=False)
    table.add_column("Account")
    for name in ("Risk", "MRR", "At risk"):
        table.add_column(name, justify="right")
    table.add_column("Why", ratio=1)
    for account in accounts:
        reasons = [account[f"reason_{n}_text"] for n in (1, 2, 3) if account[f"reason_{n}_text"]]
        table.add_row(
            escape(str(account["account_name"] or account["account_id"])),
            percent(account["churn_probability"]),
            *(
                "" if amount is None else written(amount, currency, cents=False)
                for amount in (account["mrr"], account["mrr_at_risk"])
            ),
            escape("; ".join(reasons)),
        )
    OUT.print()
    OUT.print(table)


def _short(path: str) -> str:
    """`path` as one would type it here."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _quarantined(counts: Mapping[str, int]) -> str:
    if not counts:
        return "nothing"
    reasons = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in counts.items())
    return f"{counted(sum(counts.values()), 'row')}: {reasons}"


def _mrr_in_quarantine(quarantined: Mapping[str, Any], currency: str) -> str:
    subscriptions = counted(quarantined["subscriptions"], "subscription")
    mrr = written(quarantined["mrr"], currency)
    if quarantined["is_at_least"]:
        unknown = f"the MRR of {quarantined['unread']:,} of which is not known"
        return f"at least {mrr} of MRR stands in quarantine: {subscriptions}, {unknown}"
    return f"{mrr} of MRR stands in quarantine: {subscriptions}"


def _unread_values(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each reason why values could not be read and are empty."""
    lines = []
    for reason in dict.fromkeys(value["reason"] for value in values):
        alike = [value for value in values if value["reason"] == reason]
        columns = ", ".join(dict.fromkeys(f"{v['source']}/{v['stream']}.{v['column_name']}" for v in alike))
        number = counted(sum(value["values_unread"] for value in alike), "value")
        lines.append(
            f"{number} left empty, {reason.replace('_', ' ')}: {columns}, such as {_shortened(alike[0]['example'])}"
        )
    return lines


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + "…"


def show_next(*commands: str, config: Path | None) -> None:
    """What to type next, for the company that `config` names."""
    named = "tenure" if config is None else f"tenure --config {shlex.quote(str(config))}"
    lines = [escape(named + command.removeprefix("tenure")) for command in commands]
    OUT.print("\n[dim]Next:[/] " + f"\n{'':6}".join(lines), soft_wrap=True)


_WIDEST = 10_000
_LONGEST = 120
"""An example is cut here in a line of a summary; `tenure status` shows all of it."""
_LARGE = 100
"""From here on, two decimals say enough of a number; a smaller one is written with four digits."""


def show_table(title: str, records: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Records as a table; NULL is shown as an empty cell."""
    if not records:
        OUT.print(f"[dim]{escape(title)}: none[/]" if title else "[dim]no rows[/]")
        return
    OUT.print(_table(title, records, list(columns or records[0])))


def show_rows(records: Sequence[Mapping[str, Any]]) -> None:
    """What a query found, as a table; on a terminal that is narrower than that, record by record."""
    if not records:
        OUT.print("[dim]no rows[/]")
        return
    names = list(records[0])
    table = _table("", records, names)
    needed = Measurement.get(OUT, OUT.options.update(max_width=_WIDEST), table).maximum
    if OUT.is_terminal and needed > OUT.width:
        _show_records(records, names)
    else:
        SafeConsole(file=OUT.file, width=max(needed, OUT.width)).print(table)


def _table(title: str, records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    table = Table(
        title=escape(title) or None, title_justify="left", header_style="bold", show_edge=False, pad_edge=False
    )
    numeric = {name for name in names if all(isinstance(r[name], (int, float, Decimal, type(None))) for r in records)}
    for name in names:
        table.add_column(escape(name), justify="right" if name in numeric else "left", overflow="fold")
    for record in records:
        table.add_row(*(_cell(record[name], name) for name in names))
    return table


def _show_records(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Records one below the other, a column a line: for tables that are wider than the terminal."""
    widest = max(len(name) for name in names)
    for number, record in enumerate(records, start=1):
        OUT.print(f"[dim]── {number} of {len(records):,} ──[/]")
        for name in names:
            OUT.print(f"[bold]{escape(name):{widest}}[/]  {_cell(record[name], name)}", soft_wrap=True)


def _cell(value: Any, name: str = "") -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, Decimal):
        return f"{value:,f}"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= _LARGE else f"{value:.4g}"
    if isinstance(value, int):
        return str(value) if "year" in name else f"{value:,}"
    return escape(str(value))


def show_status(
    company: str, runs: Sequence[Mapping[str, Any]], published: Published | None, *, config: Path | None
) -> None:
    """Runs, the published state, sources, and the checks that did not pass."""
    OUT.print(f"[bold]{escape(company)}[/]\n")
    shown = [{**run, "run_id": run["run_id"][:8]} for run in runs]
    show_table("Last runs", shown, [name for name in (shown[0] if shown else ()) if name != "refused_by"])
    if runs and runs[0]["refused_by"]:
        OUT.print("\nThe last run was refused by a check, as it is meant to be: what was published before stays.")
        _sentences(runs[0]["refused_by"], "[yellow]![/]")
    if published is None:
        OUT.print("\nNothing has been published yet.")
        show_next("tenure doctor", "tenure run", config=config)
        return
    OUT.print()
    show_published(published)
    OUT.print()
    show_table("Sources", published.sources, ["source", "entity", "facts", "newest_fact_at", "newest_load_at"])
    if published.unread_values:
        OUT.print()
        show_table("Values that could not be read and are empty", published.unread_values)
    stopped = [load for load in published.loads if load["status"] == "stopped"]
    if stopped:
        OUT.print()
        show_table("Stopped streams", stopped, ["source", "stream", "message"])
    noted = [load for load in published.loads if load["status"] != "stopped" and load["message"]]
    if noted:
        OUT.print()
        show_table("What streams say", noted, ["source", "stream", "message"])
    if published.failed_checks:
        OUT.print()
        show_table(
            "Checks that did not pass", published.failed_checks, ["severity", "table_name", "check_name", "message"]
        )


def show_examination(company: str, found: Examination, *, config: Path | None) -> None:
    """What each stream would bring, and what is wrong with it."""
    OUT.print(f"[bold]{escape(company)}[/]: {counted(len(found.streams), 'stream')}, nothing was loaded\n")
    for stream in found.streams:
        _show_stream(stream)
    _show_access(found)
    known = ", ".join(f"{n:,} of {escape(source)}" for source, n in found.accounts_by_source.items())
    OUT.print(f"Account ids known: {known or 'none'}")
    sentence, _, command = found.next_step.rpartition(": ")
    if sentence:
        mark = "[yellow]![/]" if found.is_healthy else "[red]✗[/]"
        OUT.print(f"{mark} {escape(sentence)}.", soft_wrap=True)
    show_next(command, config=config)


def show_metric_hits(hits: Sequence[MetricHits]) -> None:
    """What each of the company's own metrics finds in what is loaded."""
    if not hits:
        return
    show_table(
        "Metrics of metrics.yml, in what is loaded",
        [{"metric": hit.name, "from": hit.entity, "rows": hit.rows, "accounts": hit.accounts} for hit in hits],
    )
    for hit in hits:
        if hit.reason:
            OUT.print(f"[red]✗[/] {escape(f'{hit.name}: {hit.reason}')}.", soft_wrap=True)
    OUT.print()


def _show_access(found: Examination) -> None:
    """Of vendors' streams: whether they may be read, with what, and how much may be asked."""
    asked = [stream for stream in found.streams if stream.needs is not None]
    if not asked:
        return
    OUT.print()
    show_table(
        "What may be read",
        [
            {
                "stream": f"{stream.source}/{stream.stream}",
                "may": stream.message is None,
                "rows of one page": stream.rows_read,
                "needs": stream.needs,
                "quota": stream.quota,
            }
            for stream in asked
        ],
    )
    OUT.print()


def _show_stream(stream: StreamFinding) -> None:
    mark = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "broken": "[red]✗[/]"}[stream.status]
    where = (
        f"{counted(stream.files, 'file')}, {_size(stream.bytes or 0)}" if stream.files is not None else _place(stream)
    )
    read = f"{'a sample of ' if stream.is_sample else ''}{counted(stream.rows_read, 'row')} read"
    OUT.print(f"{mark} [bold]{stream.source}/{stream.stream}[/] → {stream.entity}  [dim]{where}; {read}[/]")
    if stream.message:
        OUT.print(f"    [red]{escape(stream.message)}[/]", soft_wrap=True)
    if stream.warning:
        OUT.print(f"    [yellow]{escape(stream.warning)}[/]", soft_wrap=True)
    filled = [
        c.name if c.filled == 1 else f"{c.name} {percent(min(c.filled, 0.999), 1)}" for c in stream.columns if c.filled
    ]
    empty = [c.name for c in stream.columns if c.mapping is not None and c.filled == 0]
    unmapped = [c.name for c in stream.columns if c.mapping is None and not c.required]
    for title, names in (("filled", filled), ("mapped, but empty", empty), ("not mapped", unmapped)):
        if names:
            OUT.print(f"    [dim]{title}:[/] {', '.join(names)}", soft_wrap=True)
    if stream.required_missing:
        OUT.print(f"    [red]required, but missing:[/] {', '.join(stream.required_missing)}", soft_wrap=True)
    if stream.rows_quarantined:
        reasons = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in stream.quarantined_by_reason.items())
        OUT.print(f"    [yellow]would be quarantined:[/] {reasons}", soft_wrap=True)
        for row in stream.examples[:SHOWN]:
            number = f" row {row.row}" if row.row is not None else ""
            OUT.print(
                f"      [dim]{escape(row.file.rsplit('/', 1)[-1])}{number}:[/] {escape(row.detail)}", soft_wrap=True
            )
    for unread in stream.unread:
        OUT.print(
            f"    [yellow]would be left empty:[/] {counted(unread.values, 'value')} of {unread.column}"
            f" ({unread.reason.replace('_', ' ')}): {escape(unread.example)}",
            soft_wrap=True,
        )
    for question in stream.questions:
        OUT.print(f"    [red]to answer:[/] {escape(question)}", soft_wrap=True)
    if not stream.judges_accounts:
        OUT.print("    [dim]Not all accounts were read: whether rows name unknown accounts is not known.[/]")


def _place(stream: StreamFinding) -> str:
    if stream.files is not None:
        return "files"
    if stream.connector == "files":
        return "files"
    return "a table" if stream.needs is None else f"{stream.connector}'s API"


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count = count // 1000
    return f"{count:,.0f} GB"
