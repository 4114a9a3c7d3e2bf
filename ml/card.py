"""The model card: what a model is for, what it was tested on, what it can and cannot do; Markdown for people.

Lives here: the words and tables, from plain data (the dicts of `dataclasses.asdict` over `ml/evaluate.py`). Must not live
here: measuring, storing (`ml/registry.py`), pictures. The order of the sections follows Mitchell et al., Model Cards for
Model Reporting (2019). A number that was not measured is a dash, and a section without any number says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.words import counted, percent

METRICS: Mapping[str, tuple[str, str, bool]] = {
    "log_loss": ("Log loss", "lower is better; punishes confident mistakes", False),
    "pr_auc": ("PR AUC", "average precision over those who left", False),
    "precision_at_capacity": ("Precision at capacity", "of the accounts the team can call, the share that left", True),
    "recall_at_capacity": ("Reached at capacity", "of those who left, the share on that list", True),
    "lift_top_decile": ("Lift, top 10 %", "times as many as in any order", False),
    "roc_auc": ("ROC AUC", "chance that a leaver ranks above a stayer", False),
    "brier": ("Brier score", "lower is better", False),
    "ece": ("ECE", "average gap between said and realised risk", False),
    "amount_captured": ("MRR captured", "of the MRR that left, the share on the team's list", True),
}
"""Name to (words, meaning, is a share), in the order of the table: what decides comes first."""
BASELINES = {
    "logistic_regression": "Logistic regression",
    "recency": "Recency rule",
    "prior": "Same risk for all",
}
FEATURES_SHOWN = 15


@dataclass(frozen=True)
class FeatureWeight:
    """A feature, and its share of all absolute contributions (0 to 1)."""

    label: str
    share: float
    family: str = ""


@dataclass(frozen=True)
class Facts:
    """All that a card tells. Dates are ISO texts."""

    company: str
    churn: str
    """The definition of churn, as a sentence."""
    rows: int
    accounts: int
    events: int
    first_date: str | None
    last_date: str | None
    evaluation: Mapping[str, Any]
    """`asdict(Evaluation)` of the model on the test window."""
    decision: Mapping[str, Any]
    """`Decision.document()`."""
    trained_at: datetime
    seed: int
    data_hash: str
    recipe_hash: str
    software: str
    """Name and version of what trained it, such as `tenure 0.1.0, xgboost 3.2.0`."""
    source: str = "features.ftr_churn_training"
    embargo_days: int | None = None
    split: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Part (train, validation, test) to its as-of dates."""
    baselines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name to `asdict(Evaluation)` on the same rows."""
    rolling: Mapping[str, Any] | None = None
    """What `evaluate.rolling` returned."""
    random_split_auc: float | None = None
    selection: Mapping[str, Any] = field(default_factory=dict)
    features: Sequence[FeatureWeight] = ()
    limits: Sequence[str] = ()
    """Sentences about this data, beside the standing ones."""
    git_commit: str | None = None
    manifest_hash: str | None = None


def render(number: int, facts: Facts) -> str:
    """The card of version `number` in Markdown (GitHub's tables), ending in a newline."""
    sections = (
        _head(number, facts),
        _use(facts),
        _data(facts),
        _test(facts),
        _calibration(facts),
        _over_time(facts),
        _groups(facts),
        _features(facts),
        _form(facts),
        _limits(facts),
        _reproduce(number, facts),
    )
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def _head(number: int, facts: Facts) -> str:
    words = {
        "champion": "**It passed the gate, and its scores are used.**",
        "challenger": "**It waits as challenger: the model in use stays.**",
        "refused": "**The gate refused it.** Unless an older version is in use, scores are the overall share, and say so.",
    }
    reasons = "\n".join(f"- {_text(reason)}" for reason in facts.decision["reasons"])
    title = f"# tenure-churn, version {number}"
    trained = f"{_text(facts.company)}, trained {facts.trained_at:%Y-%m-%d %H:%M} UTC."
    return f"{title}\n\n{trained}\n{words[facts.decision['state']]}\n\n{reasons}"


def _use(facts: Facts) -> str:
    return f"""## What it is for

It gives each account the probability of leaving: {_text(facts.churn.rstrip("."))}.
Use it to choose whom to call first, and to add up the revenue at risk. It says who is likely to leave and what moved the
risk; it does not say what would make the account stay, and it must not decide anything about a person on its own."""


def _data(facts: Facts) -> str:
    window = f", as of {facts.first_date} to {facts.last_date}" if facts.first_date else ""
    lines = [
        "## Data",
        "",
        f"{counted(facts.rows, 'row')} of {counted(facts.accounts, 'account')} from `{facts.source}`{window}; "
        f"{counted(facts.events, 'departure')} ({_percent(facts.events / facts.rows if facts.rows else None)}).",
    ]
    if facts.split:
        rows = [
            [name.capitalize(), str(len(dates)), str(min(dates)), str(max(dates))]
            for name, dates in facts.split.items()
            if len(dates)
        ]
        lines += ["", *_table(["Part", "As-of dates", "First", "Last"], rows)]
    if facts.embargo_days is not None and facts.first_date:
        lines += [
            "",
            f"Between the parts lie at least {facts.embargo_days} days (lead + horizon + grace), so that no departure is "
            "seen from both sides. The test window was looked at once.",
        ]
    return "\n".join(lines)


def _test(facts: Facts) -> str:
    found = facts.evaluation
    others = [name for name in BASELINES if name in facts.baselines]
    header = ["Metric", "Model", "95 % interval", *(BASELINES[name] for name in others)]
    rows = []
    for name, (words, _, is_share) in METRICS.items():
        metric = found["metrics"].get(name)
        if metric is None or metric["value"] is None:
            continue
        row = [words, f"**{_number(metric['value'], is_share)}**", _interval(metric, is_share)]
        for other in others:
            value = facts.baselines[other]["metrics"].get(name)
            row.append(_number(value["value"] if value else None, is_share))
        rows.append(row)
    tested = (
        f"{counted(found['rows'], 'row')} of {counted(found['accounts'], 'account')}, "
        f"{counted(found['events'], 'departure')} ({_percent(found['base_rate'])}); the team can call {found['capacity']:,} "
        "accounts per date. Intervals are from resampling whole accounts."
    )
    if not rows:
        return f"## Test\n\n{tested}\n\nNothing could be measured: one of the two outcomes does not occur."
    shown = [name for name in METRICS if found["metrics"].get(name, {}).get("value") is not None]
    meaning = "; ".join(f"{METRICS[name][0]}: {METRICS[name][1]}" for name in shown)
    few = ""
    if found["events"] < 100:
        few = f"\n\n> With {counted(found['events'], 'departure')} the intervals are wide: read them before the values."
    return "\n".join(["## Test", "", tested + few, "", *_table(header, rows, numbers_from=1), "", f"{meaning}."])


def _calibration(facts: Facts) -> str:
    metric, floor = facts.evaluation["metrics"].get("ece"), facts.evaluation["ece_floor"]
    if not metric or metric["value"] is None or floor["value"] is None:
        return ""
    ece, luck, high = metric["value"], floor["value"], floor["high"]
    verdict = (
        "No more than luck: a risk of 20 % means that about 20 in 100 leave."
        if high is not None and ece <= high
        else "More than luck explains: take a risk as a rank rather than as a share."
    )
    return f"""## Can the risks be taken at their word?

Said and realised risk differ by {100 * ece:.1f} percentage points on average (ECE {ece:.4f}, {facts.evaluation["binning"]}).
A perfectly calibrated model of this size shows {luck:.4f} by luck alone (up to {_number(high)}). {verdict}"""


def _over_time(facts: Facts) -> str:
    lines = ["## Over time"]
    rolling = facts.rolling or {}
    names = [name for name in METRICS if (rolling.get("mean") or {}).get(name) is not None]
    if rolling.get("dates") and names:
        dates = rolling["dates"]
        rows = [
            [
                METRICS[name][0],
                *(_number(rolling[key].get(name), METRICS[name][2]) for key in ("mean", "worst", "spread")),
            ]
            for name in names
        ]
        lines += [
            "",
            f"Trained anew and tested forward on {counted(len(dates), 'date')}: "
            + ", ".join(f"{date['date']} (ROC AUC {_number(date['roc_auc'])})" for date in dates)
            + ".",
            "",
            *_table(["Metric", "Mean", "Worst date", "Spread"], rows, numbers_from=1),
        ]
    else:
        lines += ["", "The data hold too few matured dates to test on several of them."]
    forward = facts.evaluation["metrics"].get("roc_auc", {}).get("value")
    if facts.random_split_auc is not None:
        lines += [
            "",
            f"On a random split of the rows ROC AUC is **{facts.random_split_auc:.3f}**, forward in time it is "
            f"**{_number(forward)}**. The random split knows the future: rows of the same account, and of the same weeks, lie on "
            "both sides. Only the forward number can be expected of next month's scores.",
        ]
    return "\n".join(lines)


def _groups(facts: Facts) -> str:
    segments: Mapping[str, Mapping[str, Any]] = facts.evaluation.get("by_segment") or {}
    unseen: Mapping[str, Any] = facts.evaluation.get("never_seen") or {}
    if not segments and not unseen:
        return ""
    names = ("roc_auc", "log_loss", "ece", "precision_at_capacity")

    def cell(found: Mapping[str, Any], name: str) -> str:
        metric, is_share = found["metrics"][name], METRICS[name][2]
        interval = "" if metric["low"] is None else f" ({_interval(metric, is_share)})"
        return _number(metric["value"], is_share) + interval

    def row(label: str, found: Mapping[str, Any]) -> list[str]:
        return [label, f"{found['rows']:,}", f"{found['events']:,}", *(cell(found, name) for name in names)]

    rows = [row(_text(name), found) for name, found in segments.items()]
    if unseen:
        rows.append(row("*accounts never seen in training*", unseen))
    header = ["Group", "Rows", "Departures", *(METRICS[name][0] for name in names)]
    lines = ["## By group", "", *_table(header, rows, numbers_from=1)]
    if facts.evaluation["segments"] > len(segments):
        lines += ["", f"{facts.evaluation['segments'] - len(segments)} smaller groups are left out."]
    return "\n".join(lines)


def _features(facts: Facts) -> str:
    if not facts.features:
        return ""
    top = sorted(facts.features, key=lambda feature: (-feature.share, feature.label))
    shown = [feature for feature in top if feature.share > 0][:FEATURES_SHOWN]
    rows = [[_text(feature.label), _text(feature.family) or "–", _percent(feature.share)] for feature in shown]
    lines = [
        "## What it looks at",
        "",
        *_table(["Feature", "Family", "Share of all contributions"], rows, numbers_from=2),
    ]
    rest = len(facts.features) - len(shown)
    if rest:
        lines += ["", f"{counted(rest, 'more feature')} carry {_percent(sum(f.share for f in top[len(shown) :]))}."]
    return "\n".join(lines)


def _form(facts: Facts) -> str:
    """How the form of the model was found: the plain facts of the selection, then what was tried."""
    if not facts.selection:
        return ""
    lines = ["## How its form was found", ""]
    for name, value in facts.selection.items():
        words = _text(name.replace("_", " ").capitalize())
        if isinstance(value, (str, bool, int, float)):
            lines.append(f"- {words}: {_plain(value)}")
        elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            lines.append(f"- {words}: " + ", ".join(map(_text, value)))
        elif isinstance(value, Mapping) and value and not any(isinstance(one, list) for one in value.values()):
            lines.append(f"- {words}: " + ", ".join(f"{_text(key)} {_plain(one)}" for key, one in value.items()))
    tried = [one for one in facts.selection.get("tried", ()) if isinstance(one, Mapping)]
    if tried:
        columns = [
            name
            for name in dict.fromkeys(key for one in tried for key in one)
            if all(isinstance(one.get(name), (str, bool, int, float, type(None))) for one in tried)
        ]
        header = [_text(name.replace("_", " ").capitalize()) for name in columns]
        rows = [[_plain(one.get(name)) for name in columns] for one in tried]
        lines += [
            "",
            "Tried on validation data, never on the test window (differences in log loss: below 0 is better):",
            "",
        ]
        lines += _table(header, rows)
    return "\n".join(lines)


def _limits(facts: Facts) -> str:
    standing = [
        "It learned from what is in the warehouse; what nobody records (a merger, a quarrel) it cannot see.",
        "A reason says what moved the score, not what causes an account to leave.",
        "It was tested on the past of this company. After a change of prices, product or customers, trust the newest backtest.",
        "If calls prevent departures, later trainings see fewer of them among the accounts that were called.",
    ]
    return "\n".join(["## Limits", "", *(f"- {_text(one)}" for one in (*facts.limits, *standing))])


def _reproduce(number: int, facts: Facts) -> str:
    rows = [
        ["Software", facts.software],
        ["Seed", str(facts.seed)],
        ["Data (SHA-256 of content)", f"`{facts.data_hash}`"],
        ["Recipe", f"`{facts.recipe_hash}`"],
        ["Git commit", f"`{facts.git_commit}`" if facts.git_commit else "–"],
        ["dbt manifest", f"`{facts.manifest_hash}`" if facts.manifest_hash else "–"],
    ]
    return "\n".join(
        [
            "## Reproduce",
            "",
            *_table(["What", "Value"], rows),
            "",
            f"The same data, recipe and seed give the same scores. `tenure model card {number}` prints this card.",
        ]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int | None = None) -> list[str]:
    """A table whose columns are padded, so that it reads well as plain text; `numbers_from` on, columns align right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(3, *(len(row[index]) for row in cells)) for index in range(len(header))]
    right = [numbers_from is not None and index >= numbers_from for index in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "| " + " | ".join("-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)) + " |"
    return [line(cells[0]), rule, *(line(row) for row in cells[1:])]


def _number(value: float | None, is_share: bool = False) -> str:
    if value is None:
        return "–"
    if is_share:
        return _percent(value)
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _interval(metric: Mapping[str, float | None], is_share: bool) -> str:
    if metric.get("low") is None or metric.get("high") is None:
        return "–"
    return f"{_number(metric['low'], is_share)} to {_number(metric['high'], is_share)}"


def _percent(share: float | None) -> str:
    return "–" if share is None else percent(share, 1)


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return _text(str(value))


def _text(text: str) -> str:
    """Text that cannot break a table or start markup."""
    for sign in ("\\", "|", "<", "`", "*", "["):
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
