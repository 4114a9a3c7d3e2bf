"""A training on a flat file, for people: an HTML page that needs nothing beside it, and the model card in Markdown.

Lives here: which numbers are told, in which words and order. Must not live here: how they come about (`ml/evaluate.py`), the
drawing (`ml/plots.py`). Every name and value of the table is escaped: it comes from somebody's file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from core.words import percent
from ml.dataset import sample_accounts

if TYPE_CHECKING:
    from ml.evaluate import Evaluation, Interval
    from ml.table_model import TableTraining

METRICS: Sequence[tuple[str, str, str, str]] = (
    ("roc_auc", "ROC AUC", "3", "how often who left is ranked above who stayed; 0.5 is guessing"),
    (
        "pr_auc",
        "PR AUC",
        "3",
        "mean share of leavers among those ranked at least as high; guessing gives the share that left",
    ),
    ("log_loss", "Log loss", "4", "how surprised the risks are by what came; lower is better"),
    ("brier", "Brier score", "4", "mean squared distance of risk and outcome; lower is better"),
    (
        "ece",
        "ECE",
        "3",
        "mean distance of the said risk from the share that left; lower is better, luck alone gives the floor",
    ),
    ("lift_top_decile", "Lift, top 10 %", "2", "how many times more leavers than average are in the riskiest tenth"),
    ("precision_at_capacity", "Left in the top 10 %", "%", "share of the riskiest tenth who left"),
    ("recall_at_capacity", "Reached in the top 10 %", "%", "share of all who left that are in the riskiest tenth"),
)
PICTURES = {
    "lift": "Working down the list from the top: how many of those who left are reached.",
    "calibration": "Whether a risk of 30 % means that 30 of 100 leave. The band is what luck alone does.",
    "precision_recall": "How pure the list is against how complete it is.",
    "roc": "Leavers found against stayers flagged, at every cut.",
    "feature_importance": "What the model looks at.",
    "shap_summary": "Which way each value pushes: every dot is a customer.",
}
_PICTURE_ROWS = 2_000

_STYLE = """
:root { --ink: #1f2933; --soft: #52606d; --line: #e4e7eb; --blue: #0072b2; --warn: #b35900; --pale: #f5f7fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2.5rem 1.25rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .6rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.soft { color: var(--soft); font-size: .92rem; }
.verdict { font-size: 1.15rem; border-left: 4px solid var(--blue); padding: .4rem 0 .4rem 1rem; margin: 1.4rem 0; }
.verdict.refused, .warn { border-left: 4px solid var(--warn); }
.warn { background: #fff8f0; padding: .6rem 1rem; margin: .8rem 0; max-width: 46rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem; margin: 1.2rem 0; }
.card { background: var(--pale); border-radius: 6px; padding: .7rem .9rem; }
.card b { display: block; font-size: 1.45rem; line-height: 1.3; }
.card span { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td small { color: var(--soft); display: block; font-size: .82rem; }
tr.out td { color: var(--soft); }
td.name { overflow-wrap: anywhere; min-width: 9rem; }
.bar { display: inline-block; height: .6rem; background: var(--blue); border-radius: 2px; vertical-align: baseline; }
figure { margin: 1.4rem 0; }
figure img { width: 100%; max-width: 800px; height: auto; border: 1px solid var(--line); border-radius: 6px; }
figcaption { color: var(--soft); font-size: .9rem; }
code, pre { font: .88rem ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--pale); }
code { padding: .1rem .3rem; border-radius: 3px; }
pre { padding: .8rem 1rem; border-radius: 6px; overflow-x: auto; }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""


def pictures(training: TableTraining) -> dict[str, bytes]:
    """Name to PNG: the test in curves, and what the kept model looks at."""
    from ml import plots

    data = training.prepared.data
    few = sample_accounts(data, _PICTURE_ROWS, seed=1)
    contributions, _ = training.model.contributions(few.features)
    names = list(training.model.feature_names)
    return plots.draw(
        plots.Pictured(
            label=training.tested.data.labels,
            probability=training.tested.probability,
            features=few.features[names],
            contributions=contributions,
            feature_labels={name: name for name in names},
            baselines={"Logistic regression": training.tested.regression},
            as_of=training.tested.data.as_of,
            ece=training.evaluation.metrics["ece"].value,
            ece_noise=training.evaluation.ece_floor.value,
        )
    )


def render(training: TableTraining, plots: Mapping[str, bytes], *, source: str, version: str, now: datetime) -> str:
    """The page."""
    from ml.plots import inline

    prepared, found = training.prepared, training.evaluation
    data = prepared.data
    refused = training.decision.state == "refused"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Who leaves: {escape(source)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>Who leaves: {escape(source)}</h1>",
        f'<p class="soft">{escape(version)}, trained {now:%Y-%m-%d %H:%M} UTC on {len(data):,} rows, of which'
        f" {data.events:,} left ({percent(data.events / len(data), 1)}). Tested {escape(training.protocol)}.</p>",
        f'<p class="verdict{" refused" if refused else ""}">{escape(training.verdict)}</p>',
        _cards(found),
        *(_warning(sentence) for sentence in _warnings(training)),
        "<h2>How good it is</h2>",
        "<p>Every number is from rows that the tested model had not seen. Below it is the range that holds the true value"
        " 95 times in 100.</p>",
        _metrics(training),
        f'<p class="soft">The kept model: {escape(training.form)}.</p>',
        _folds(training),
        "<h2>What moves the risk</h2>",
        _effects(training),
        "<h2>In pictures</h2>",
        *(
            f"<figure>{inline(plots[name], text)}<figcaption>{escape(text)}</figcaption></figure>"
            for name, text in PICTURES.items()
            if name in plots
        ),
        "<h2>What became of each column</h2>",
        _columns(training),
        "<h2>Using it</h2>",
        _use(training),
        "</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def card(training: TableTraining, *, source: str, version: str, now: datetime) -> str:
    """The model card."""
    prepared = training.prepared
    data = prepared.data
    lines = [
        f"# {version}",
        "",
        f"Who leaves, learned from `{_plain(source)}` on {now:%Y-%m-%d}: {len(data):,} rows, {data.events:,} left.",
        "",
        training.verdict,
        "",
        f"Tested {training.protocol}. The kept model: {training.form}.",
        "",
        "| | Model | 95 % | Logistic regression | Same risk for all |",
        "|---|---|---|---|---|",
    ]
    others = training.baselines
    for name, title, style, _ in METRICS:
        own = training.evaluation.metrics[name]
        cells = [others[one].metrics[name].value for one in ("logistic_regression", "prior")]
        shown = " | ".join(_number(cell, style) for cell in cells)
        lines.append(f"| {title} | {_number(own.value, style)} | {_range(own, style)} | {shown} |")
    floor = training.evaluation.ece_floor.value
    lines += ["", f"A perfectly calibrated model of this size has an ECE of {_number(floor, '3')}."]
    if training.random_split_auc is not None:
        lines += [
            f"On a random split ROC AUC is {training.random_split_auc:.3f}; it knows the future, do not believe it."
        ]
    lines += ["", "## The gate", "", f"{training.decision.state}:", ""]
    lines += [f"- {_plain(reason)}" for reason in training.decision.reasons]
    if prepared.suspects:
        lines += ["", "## Leak suspects", ""]
        lines += [f"- {_plain(one.sentence)}: {one.verdict}" for one in prepared.suspects]
    lines += ["", "## What moves the risk", "", "| Column | Share | Direction |", "|---|---|---|"]
    lines += [
        f"| {_plain(one.feature)} | {percent(one.share, 1)} | {_plain(one.direction)} |"
        for one in training.effects[:15]
    ]
    lines += ["", "## Columns", "", "| Column | Role | Became | Note |", "|---|---|---|---|"]
    lines += [f"| {_plain(f.column)} | {f.role} | {_plain(f.became)} | {_plain(f.note)} |" for f in prepared.fates]
    return "\n".join(lines) + "\n"


def _warnings(training: TableTraining) -> list[str]:
    prepared = training.prepared
    said = [f"Left out as a leak: {one.sentence}." for one in prepared.suspects if one.verdict == "left out"]
    said += [
        f"Leak suspect, kept: {one.sentence}. If it is known only after a customer left, train again with --drop {one.name}."
        for one in prepared.suspects
        if one.verdict == "kept"
    ]
    if training.decision.state == "refused":
        said += [f"Not good enough to act on: {reason}" for reason in training.decision.reasons]
    return said + list(prepared.notes)


def _warning(sentence: str) -> str:
    return f'<p class="warn">{escape(sentence)}</p>'


def _cards(found: Evaluation) -> str:
    shown = (
        ("roc_auc", "3", "ROC AUC"),
        ("lift_top_decile", "2", "times as many leavers in the riskiest tenth"),
        ("recall_at_capacity", "%", "of all leavers are in the riskiest tenth"),
        ("ece", "3", "mean distance of said from true risk"),
    )
    cells = []
    for name, style, text in shown:
        one = found.metrics[name]
        cells.append(
            f'<div class="card"><b>{_number(one.value, style)}</b><span>{text}<br>{_range(one, style)}</span></div>'
        )
    return f'<div class="cards">{"".join(cells)}</div>'


def _metrics(training: TableTraining) -> str:
    others = training.baselines
    rows = []
    for name, title, style, text in METRICS:
        own = training.evaluation.metrics[name]
        cells = "".join(
            f'<td class="n">{_number(others[one].metrics[name].value, style)}</td>'
            for one in ("logistic_regression", "prior")
        )
        floor = f" ({_number(training.evaluation.ece_floor.value, '3')} here)" if name == "ece" else ""
        rows.append(
            f'<tr><td>{title}<small>{text}{floor}</small></td><td class="n"><b>{_number(own.value, style)}</b>'
            f"<small>{_range(own, style)}</small></td>{cells}</tr>"
        )
    gap = training.against_regression["log_loss"]
    beaten = ""
    if gap.difference is not None and gap.share_better is not None:
        beaten = (
            f"<p>Against the regression, on the same rows: log loss {gap.difference:+.4f}"
            f" ({_number(gap.low, '4')} to {_number(gap.high, '4')}); the model is the better one in"
            f" {percent(gap.share_better)} of resamples.</p>"
        )
    if training.random_split_auc is not None:
        beaten += (
            f"<p>On a random split of the rows ROC AUC is {training.random_split_auc:.3f}: that split tests on days"
            " that training has seen, and is printed as a warning, not as a result.</p>"
        )
    return (
        '<div class="wide"><table><tr><th></th><th class="n">Model</th><th class="n">Logistic regression</th>'
        f'<th class="n">Same risk for all</th></tr>{"".join(rows)}</table></div>{beaten}'
    )


def _folds(training: TableTraining) -> str:
    if len(training.folds) < 2:
        return ""
    rows = "".join(
        f'<tr><td>{escape(str(one["test"]))}</td><td class="n">{one["trained_on"]:,}</td><td class="n">{one["rows"]:,}</td>'
        f'<td class="n">{one["left"]:,}</td><td class="n">{_number(one["roc_auc"], "3")}</td>'
        f'<td class="n">{_number(one["log_loss"], "4")}</td><td class="n">{_number(one["lift_top_decile"], "2")}</td></tr>'
        for one in training.folds
    )
    return (
        '<details><summary>Each part of the test</summary><div class="wide"><table><tr><th>Test</th>'
        '<th class="n">Trained on</th><th class="n">Rows</th><th class="n">Left</th><th class="n">ROC AUC</th>'
        f'<th class="n">Log loss</th><th class="n">Lift</th></tr>{rows}</table></div></details>'
    )


def _effects(training: TableTraining) -> str:
    shown = [one for one in training.effects if one.share >= 0.001][:20]
    largest = max((one.share for one in shown), default=1.0)
    rows = "".join(
        f'<tr><td class="name">{escape(one.feature)}</td><td class="n">{percent(one.share, 1)}</td>'
        f'<td><span class="bar" style="width:{max(5.0 * one.share / largest, 0.05):.2f}rem"></span></td>'
        f"<td>{escape(one.direction)}</td></tr>"
        for one in shown
    )
    rest = len(training.effects) - len(shown)
    more = f'<p class="soft">{rest} more columns say next to nothing.</p>' if rest else ""
    return (
        "<p>The share of each column in all that moves the risks, and which way it goes with everything else as it is."
        " This is what goes together with leaving, not what causes it.</p>"
        f'<div class="wide"><table><tr><th>Column</th><th class="n">Share</th><th></th><th>Direction</th></tr>{rows}</table></div>{more}'
    )


def _columns(training: TableTraining) -> str:
    rows = "".join(
        ('<tr class="out">' if fate.role == "left out" else "<tr>") + f'<td class="name">{escape(fate.column)}</td>'
        f"<td>{fate.role}</td><td>{escape(fate.became)}</td><td>{escape(fate.note)}</td></tr>"
        for fate in training.prepared.fates
    )
    return (
        '<div class="wide"><table><tr><th>Column</th><th>Role</th><th>Became</th><th>Note</th></tr>'
        + rows
        + "</table></div>"
    )


def _use(training: TableTraining) -> str:
    high, medium = training.thresholds
    plan = training.prepared.plan
    return (
        f"<pre>tenure score --table new.parquet --id {escape(plan.id)} --out scores.parquet</pre>"
        f"<p>Tier <code>high</code> begins at a probability of {high:.3f}, <code>medium</code> at {medium:.3f}."
        " Percentiles compare with the customers of this training. Each score comes with the five reasons that raise it"
        " most and the five that lower it most, in probability points.</p>"
    )


def _number(value: float | None, style: str) -> str:
    if value is None:
        return "–"
    return percent(value, 1) if style == "%" else f"{value:.{style}f}"


def _range(interval: Interval, style: str) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f"{_number(interval.low, style)} to {_number(interval.high, style)}"


def _plain(text: str) -> str:
    """A text that cannot break a Markdown table."""
    return (
        "".join(sign if sign.isprintable() else " " for sign in text)
        .replace("|", "/")
        .replace("<", "‹")
        .replace("`", "'")
    )
