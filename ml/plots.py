"""Six pictures of a model: whom it finds, how far its risks can be believed, and what it looks at.

Lives here: drawing with matplotlib's Agg canvas (no pyplot, no global state), PNG bytes, and the same inline for HTML. Must
not live here: metrics for decisions (`ml/evaluate.py`), files, MLflow.

Every title is the finding in words; the axis says the rest. Colours are Okabe and Ito's, which colour-blind people tell
apart, and no statement rests on colour alone. 800 x 500 pixels each.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from core.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

BLUE, ORANGE, INK, GREY, PALE, BAND = "#0072B2", "#D55E00", "#1f2933", "#7b8794", "#e4e7eb", "#cfe3f1"
OTHERS = (("#009E73", (0, (5, 2))), ("#CC79A7", (0, (1, 1.2))), ("#E69F00", (0, (5, 1.5, 1, 1.5))))
"""Colour and dashes of each baseline, in order."""
SHOWN = 12
"""Features in the two pictures of features."""
DOTS = 400
"""Accounts drawn per feature: more only make the dots overlap."""
CURVE_POINTS = 600
TITLE_WIDTH = 70
"""Characters that fit one line of a title."""

Corner = Literal["upper left", "upper right", "lower right"]
NAMES = ("precision_recall", "roc", "calibration", "lift", "shap_summary", "feature_importance")


@dataclass(frozen=True)
class Pictured:
    """What the pictures are drawn from: n rows of the test window, f features."""

    label: NDArray[np.float64]
    """(n,): 1.0 left, 0.0 stayed; both must occur."""
    probability: NDArray[np.float64]
    """(n,)."""
    features: pd.DataFrame
    """(m, f): the rows that `contributions` explains, m <= n or a sample."""
    contributions: NDArray[np.float64]
    """(m, f): log-odds per feature."""
    feature_labels: Mapping[str, str] = field(default_factory=dict)
    """Column name to plain words; a column without an entry shows its name."""
    baselines: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Name to (n,) scores of what the model has to beat; only their order counts. At most three are drawn."""
    capacity: int | None = None
    """Accounts the team can call per as-of date."""
    as_of: NDArray[np.datetime64] | None = None
    """(n,): the capacity is for each of these dates; None: for all rows together."""
    ece: float | None = None
    ece_noise: float | None = None
    """Expected calibration error, and that of a perfectly calibrated model of this size; told in the title."""

    @property
    def dates(self) -> int:
        """How many as-of dates there are."""
        return 1 if self.as_of is None else len(np.unique(self.as_of))

    @cached_property
    def called(self) -> NDArray[np.bool_] | None:
        """(n,): the rows that the team reaches: the riskiest `capacity` of every date; None without a capacity."""
        if self.capacity is None:
            return None
        date = np.zeros(len(self.label)) if self.as_of is None else self.as_of
        order = np.lexsort([-self.probability, date])
        rank = pd.Series(np.arange(len(order))).groupby(date[order]).cumcount().to_numpy()
        chosen = np.zeros(len(order), dtype=bool)
        chosen[order[rank < self.capacity]] = True
        return chosen


def draw(pictured: Pictured) -> dict[str, bytes]:
    """Name to PNG, in the order of `NAMES`. Raises `ValueError` when only one class occurs."""
    if not 0 < pictured.label.sum() < len(pictured.label):
        raise ValueError("pictures need rows that left and rows that stayed")
    figures = {
        "precision_recall": precision_recall(pictured),
        "roc": roc(pictured),
        "calibration": calibration(pictured),
        "lift": lift(pictured),
        "shap_summary": shap_summary(pictured),
        "feature_importance": feature_importance(pictured),
    }
    return {name: png(figure) for name, figure in figures.items()}


def png(figure: Figure) -> bytes:
    """The figure as PNG, without the library's version in it: the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def inline(picture: bytes, alt: str) -> str:
    """A PNG as an HTML element that needs no second file."""
    data = base64.b64encode(picture).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}" width="800">'


def roc(pictured: Pictured) -> Figure:
    """How often who left is ranked above who stayed (Hanley and McNeil 1982)."""
    area, x, y = _roc(pictured.label, pictured.probability)
    figure, axes = _figure(f"Who left is ranked above who stayed {100 * area:.0f} times in 100")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="Guessing: 0.50")
    for (name, scores), (colour, dashes) in zip(pictured.baselines.items(), OTHERS, strict=False):
        other, ox, oy = _roc(pictured.label, scores)
        axes.plot(ox, oy, color=colour, linewidth=1.6, linestyle=dashes, label=f"{name}: {other:.3f}")
    axes.plot(x, y, color=BLUE, linewidth=2.4, label=f"Model: {area:.3f}")
    _shares(axes, "Share of those who stayed, flagged in vain", "Share of those who left, found")
    _legend(axes, "lower right", title="ROC AUC")
    return figure


def precision_recall(pictured: Pictured) -> Figure:
    """Of those flagged, how many left; against how many of all who left are flagged."""
    prevalence = float(pictured.label.mean())
    called = pictured.called
    if called is not None:
        hit = float(pictured.label[called].mean())
        title = f"Of the {_riskiest(pictured)}, {_percent(hit)} left; of all, {_percent(prevalence)} did"
    else:
        title = f"{_percent(prevalence)} of all accounts left; the model finds them at higher rates"
    figure, axes = _figure(title)
    axes.axhline(prevalence, color=GREY, linewidth=1, linestyle=":", label=f"Guessing: {prevalence:.3f}")
    for (name, scores), (colour, dashes) in zip(pictured.baselines.items(), OTHERS, strict=False):
        area, x, y = _precision_recall(pictured.label, scores)
        axes.plot(x, y, color=colour, linewidth=1.6, linestyle=dashes, label=f"{name}: {area:.3f}")
    area, x, y = _precision_recall(pictured.label, pictured.probability)
    axes.plot(x, y, color=BLUE, linewidth=2.4, label=f"Model: {area:.3f}")
    if called is not None:
        found = float(pictured.label[called].sum() / pictured.label.sum())
        _mark(axes, found, hit, "the team's capacity", above=True)
    _shares(axes, "Share of those who left, found", "Share of those flagged who left")
    _legend(axes, "upper right", title="Average precision")
    return figure


def calibration(pictured: Pictured, bins: int = 10) -> Figure:
    """Said risk against what came, in bins of equally many rows, with the band of a perfectly calibrated model.

    The band holds 95 % of the outcomes when every risk is true (Bröcker and Smith 2007), by the normal approximation of
    the sum of independent events.
    """
    p = np.clip(pictured.probability, 0, 1)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    said = np.array([p[part].mean() for part in parts])
    came = np.array([pictured.label[part].mean() for part in parts])
    spread = 1.96 * np.array([np.sqrt((p[part] * (1 - p[part])).sum()) / len(part) for part in parts])
    inside = int((np.abs(came - said) <= spread).sum())
    title = f"{inside} of {len(parts)} groups came out as the model said, give or take luck"
    figure, axes, below = _two_panels(title)
    limit = float(min(1.0, 1.08 * max((said + spread).max(), came.max(), np.quantile(p, 0.99))))
    axes.plot([0, limit], [0, limit], color=GREY, linewidth=1, linestyle=":", label="Said = came")
    low, high = np.clip(said - spread, 0, 1), np.clip(said + spread, 0, 1)
    axes.fill_between(said, low, high, color=BAND, linewidth=0, label="Luck alone (95 %)")
    axes.plot(said, came, color=BLUE, linewidth=1.4, marker="o", markersize=6, label="Model")
    axes.set_xlim(0, limit)
    axes.set_ylim(0, limit)
    axes.set_ylabel("Share that left")
    axes.tick_params(labelbottom=False)
    if pictured.ece is not None:
        noise = "" if pictured.ece_noise is None else f"\nluck alone: {100 * pictured.ece_noise:.1f} points"
        text = f"Average gap (ECE): {100 * pictured.ece:.1f} points{noise}"
        axes.text(0.985, 0.05, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=10, color=INK)
    _legend(axes, "upper left")
    counts, edges = np.histogram(p, bins=40, range=(0, limit))
    below.stairs(counts, edges, fill=True, color=GREY)
    below.set_xlim(0, limit)
    below.set_yticks([])
    below.set_ylabel("Rows", labelpad=24)
    below.set_xlabel("Risk as the model said it")
    _percents(axes, "both")
    _percents(below, "x")
    return figure


def lift(pictured: Pictured) -> Figure:
    """How many of those who left are reached by calling the riskiest first; the team's capacity is marked."""
    order = np.argsort(-pictured.probability, kind="stable")
    reached = np.concatenate([[0.0], np.cumsum(pictured.label[order]) / pictured.label.sum()])
    position = np.arange(len(reached)) / len(pictured.label)
    called = pictured.called
    if called is None:
        called = np.zeros(len(order), dtype=bool)
        called[order[: max(1, round(0.1 * len(order)))]] = True
        whom = "riskiest 10 % of accounts"
    else:
        whom = _riskiest(pictured)
    share, found = float(called.mean()), float(pictured.label[called].sum() / pictured.label.sum())
    figure, axes = _figure(
        f"Calling the {whom} reaches {_percent(found)} of all who left, {found / share:.1f} times as many as chance"
    )
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="In any order")
    prevalence = float(pictured.label.mean())
    axes.plot([0, prevalence, 1], [0, 1, 1], color=GREY, linewidth=1, linestyle=(0, (5, 2)), label="Perfect foresight")
    for (name, scores), (colour, dashes) in zip(pictured.baselines.items(), OTHERS, strict=False):
        other = np.concatenate([[0.0], np.cumsum(pictured.label[np.argsort(-scores, kind="stable")])])
        axes.plot(
            *_thin(position, other / pictured.label.sum()), color=colour, linewidth=1.6, linestyle=dashes, label=name
        )
    axes.plot(*_thin(position, reached), color=BLUE, linewidth=2.4, label="Model")
    axes.axvline(share, color=ORANGE, linewidth=1, linestyle=(0, (4, 3)))
    _mark(axes, share, found, "the team's capacity" if pictured.capacity else "10 % of accounts", above=False)
    _shares(axes, "Share of accounts called, riskiest first", "Share of those who left, reached")
    _legend(axes, "lower right")
    return figure


def feature_importance(pictured: Pictured) -> Figure:
    """Mean absolute contribution per feature, as a share of all."""
    weights, positions = _ranked(pictured)
    labels = _feature_labels(pictured)
    top = positions[0]
    figure, axes = _figure(
        f"{_sentence(labels[top])} weighs most: {_percent(weights[top])} of all that moves the risk", names=True
    )
    shown = positions[:SHOWN][::-1]
    rest = float(weights.sum() - weights[shown].sum())
    bars = axes.barh(range(len(shown)), 100 * weights[shown], color=BLUE, height=0.68)
    bars[-1].set_color(ORANGE)
    for place, position in enumerate(shown):
        axes.text(100 * weights[position], place, f" {100 * weights[position]:.1f}", va="center", fontsize=9, color=INK)
    _feature_axis(axes, [labels[position] for position in shown])
    others = len(positions) - len(shown)
    axes.set_xlabel(
        "Share of all contributions, %" + (f"   ({others} more features: {percent(rest)})" if others else "")
    )
    axes.set_xlim(0, 112 * float(weights[top]))
    axes.grid(axis="x", color=PALE)
    return figure


def shap_summary(pictured: Pictured) -> Figure:
    """One dot per account and feature: where it stands is the contribution, its colour is the value (Lundberg 2018)."""
    _, positions = _ranked(pictured)
    labels = _feature_labels(pictured)
    shown = positions[:SHOWN][::-1]
    figure, axes = _figure("What raises the risk (right) and what lowers it (left)", names=True)
    ramp = _ramp()
    rows = np.linspace(0, len(pictured.features) - 1, min(DOTS, len(pictured.features))).astype(int)
    for place, position in enumerate(shown):
        pushes = pictured.contributions[rows, position]
        column = pictured.features.iloc[:, position]
        shade = _shades(column)[rows]
        known = np.isfinite(shade)
        offsets = place + _swarm(pushes)
        axes.scatter(pushes[~known], offsets[~known], s=7, color="#c3c9d1", linewidth=0, rasterized=True)
        axes.scatter(
            pushes[known], offsets[known], s=8, c=shade[known], cmap=ramp, vmin=0, vmax=1, linewidth=0, rasterized=True
        )
    axes.axvline(0, color=GREY, linewidth=1)
    _feature_axis(axes, [labels[position] for position in shown])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    drawn = pictured.contributions[np.ix_(rows, shown)]
    reach = float(np.quantile(np.abs(drawn), 0.999)) if drawn.size else 1.0
    axes.set_xlim(-1.08 * max(reach, 1e-6), 1.08 * max(reach, 1e-6))
    axes.set_xlabel("Contribution to the log-odds (grey: unknown, or a category)")
    _value_key(axes)
    return figure


def _canvas(title: str, *, names: bool = False) -> Figure:
    """A figure with its title; `names` leaves room for the names of features at the left.

    Margins are fixed: matplotlib's layout engines take as long as all the drawing.
    """
    import textwrap

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    lines = textwrap.wrap(title, TITLE_WIDTH)
    figure.text(0.02, 0.975, "\n".join(lines), ha="left", va="top", fontsize=13, fontweight="bold", color=INK)
    top = 0.915 - 0.05 * (len(lines) - 1)
    figure.subplots_adjust(left=0.40 if names else 0.10, right=0.965, bottom=0.115, top=top, hspace=0.1)
    return figure


def _figure(title: str, *, names: bool = False) -> tuple[Figure, Axes]:
    figure = _canvas(title, names=names)
    axes = figure.add_subplot()
    _clean(axes)
    return figure, axes


def _two_panels(title: str) -> tuple[Figure, Axes, Axes]:
    """A large panel above a small one, over the same x."""
    figure = _canvas(title)
    grid = figure.add_gridspec(2, 1, height_ratios=[4, 1])
    above, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    _clean(above)
    _clean(below)
    return figure, above, below


def _clean(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=10, length=0, pad=5)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_fontsize(11)
    axes.yaxis.label.set_fontsize(11)


def _shares(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _percents(axes, "both")


def _percents(axes: Axes, which: str) -> None:
    from matplotlib.ticker import PercentFormatter

    if which in ("x", "both"):
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    if which in ("y", "both"):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def _legend(axes: Axes, where: Corner, *, title: str | None = None) -> None:
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(handles[::-1], labels[::-1], loc=where, frameon=True, fontsize=10, title=title, framealpha=0.9)
    legend.get_frame().set_linewidth(0)
    legend.get_title().set_fontsize(10)


def _mark(axes: Axes, x: float, y: float, text: str, *, above: bool) -> None:
    """A point that is named, on the side where the curve leaves room; the name stays inside the picture."""
    axes.plot([x], [y], marker="o", markersize=9, color=ORANGE, markeredgecolor="white", linestyle="none", zorder=5)
    right = x < 0.7
    axes.annotate(
        text,
        (x, y),
        xytext=(9 if right else -9, 9 if above and y < 0.9 else -16),
        textcoords="offset points",
        ha="left" if right else "right",
        color="#a84a00",
        fontsize=10,
        zorder=6,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )


def _roc(label: NDArray[np.float64], score: NDArray[np.float64]) -> tuple[float, NDArray[Any], NDArray[Any]]:
    """Area (ties count half), and the curve thinned to what can be seen."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    found = np.append(0.0, np.cumsum(label[order])[last] / label.sum())
    wrong = np.append(0.0, np.cumsum(1 - label[order])[last] / (1 - label).sum())
    return float(np.trapezoid(found, wrong)), *_thin(wrong, found)


def _precision_recall(
    label: NDArray[np.float64], score: NDArray[np.float64]
) -> tuple[float, NDArray[Any], NDArray[Any]]:
    """Average precision, and the curve (recall, precision); the first few rows, which jump, are kept."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    hits = np.cumsum(label[order])[last]
    precision, recall = hits / (last + 1), hits / label.sum()
    area = float(np.sum(np.diff(np.append(0.0, recall)) * precision))
    return area, *_thin(recall, precision)


def _thin(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if len(x) <= CURVE_POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).astype(int))
    return x[kept], y[kept]


def _ranked(pictured: Pictured) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """(f,) share of all absolute contributions, and the positions of those that count, the largest first."""
    weights = np.abs(pictured.contributions).mean(axis=0)
    total = float(weights.sum())
    shares = np.asarray(weights / total if total > 0 else weights, dtype=np.float64)
    order = np.argsort(-shares, kind="stable")
    used = order[shares[order] > 0]
    return shares, used if len(used) else order[:1]


def _feature_labels(pictured: Pictured) -> list[str]:
    return [pictured.feature_labels.get(str(name), str(name).replace("_", " ")) for name in pictured.features.columns]


def _feature_axis(axes: Axes, labels: list[str]) -> None:
    short = [text if len(text) <= 42 else text[:41].rstrip() + "…" for text in labels]
    axes.set_yticks(range(len(labels)), short)
    axes.grid(axis="y", color=PALE)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", labelsize=10)


def _shades(column: pd.Series[Any]) -> NDArray[np.float64]:
    """(m,) 0 to 1: the rank of a number among the known ones; NaN for unknown values and for categories."""
    if isinstance(column.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(column):
        return np.full(len(column), np.nan)
    ranks = column.rank(method="average", pct=True).to_numpy(dtype=np.float64)
    known = np.isfinite(ranks)
    if known.any() and ranks[known].min() < ranks[known].max():
        ranks = (ranks - ranks[known].min()) / (ranks[known].max() - ranks[known].min())
    return np.asarray(ranks, dtype=np.float64)


def _swarm(pushes: NDArray[np.float64], width: float = 0.38) -> NDArray[np.float64]:
    """(k,) offsets that spread dots of nearly equal push evenly about the line; no randomness."""
    if not len(pushes):
        return np.zeros(0)
    span = float(np.ptp(pushes)) or 1.0
    slots = np.round((pushes - pushes.min()) / span * 90).astype(int)
    place = pd.Series(slots).groupby(slots).cumcount().to_numpy()
    sizes = np.bincount(slots)
    signed = np.where(place % 2 == 0, place // 2, -(place + 1) // 2)
    offsets: NDArray[np.float64] = signed * (width / max(float(sizes.max()) / 2, 6.0))
    return offsets


def _value_key(axes: Axes) -> None:
    """What the colours mean, as a small bar inside the picture."""
    key = axes.inset_axes((0.80, 0.07, 0.18, 0.022))
    key.imshow(np.linspace(0, 1, 64)[None, :], cmap=_ramp(), aspect="auto")
    key.set_xticks([0, 63], ["low value", "high"])
    key.set_yticks([])
    key.tick_params(labelsize=8, length=0, colors=INK, pad=2)
    for spine in key.spines.values():
        spine.set_visible(False)


def _ramp() -> Any:
    """Plasma without its brightest end, which fades on white."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["plasma"](np.linspace(0.0, 0.82, 128)))


def _percent(share: float) -> str:
    return percent(share, 0 if share >= 0.095 or share == 0 else 1)


def _riskiest(pictured: Pictured) -> str:
    return f"{pictured.capacity:,} riskiest accounts" + (" of each date" if pictured.dates > 1 else "")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
