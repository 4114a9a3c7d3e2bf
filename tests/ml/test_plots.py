"""The six pictures: their size, their words, and that drawing them twice gives the same bytes."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import plots


def pictured(rows: int = 1500, features: int = 30, **changes: object) -> plots.Pictured:
    random = np.random.default_rng(1)
    values = random.normal(size=(rows, features)).astype(np.float32)
    values[random.random(values.shape) < 0.1] = np.nan
    pushes = np.nan_to_num(values) * np.exp(-np.arange(features) / 3)
    log_odds = -2 + pushes.sum(axis=1)
    probability = 1 / (1 + np.exp(-log_odds))
    frame = pd.DataFrame(values, columns=[f"feature_{i}" for i in range(features)])
    frame["feature_1"] = pd.Categorical(np.where(np.nan_to_num(values[:, 1]) > 0, "starter", "pro"))
    made = plots.Pictured(
        label=(random.random(rows) < probability).astype(np.float64),
        probability=probability,
        features=frame,
        contributions=pushes,
        feature_labels={"feature_0": "days since anybody was last seen"},
        baselines={"Recency rule": np.nan_to_num(values[:, 0]).astype(np.float64)},
        capacity=50,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def texts(figure: object) -> str:
    from matplotlib.text import Text

    return " ".join(text.get_text() for text in figure.findobj(Text))  # type: ignore[attr-defined]


def test_the_six_pictures_are_pngs_of_800_by_500_and_quick() -> None:
    plots.roc(pictured())  # the first picture pays for matplotlib's import and its fonts
    begun = time.process_time()
    drawn = plots.draw(pictured())
    assert tuple(drawn) == plots.NAMES
    for picture in drawn.values():
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", picture[16:24]) == (800, 500)
    assert time.process_time() - begun < 2.5


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert plots.png(plots.calibration(pictured())) == plots.png(plots.calibration(pictured()))


def test_pictures_leave_matplotlib_s_global_state_alone() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_plots as t; from ml import plots\n"
        "plots.draw(t.pictured()); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_title_says_what_the_team_reaches() -> None:
    data = pictured()
    order = np.argsort(-data.probability)[:50]
    reached = data.label[order].sum() / data.label.sum()
    figure = texts(plots.lift(data))
    assert "Calling the 50 riskiest accounts reaches" in figure.replace("\n", " ")
    assert f"{100 * reached:.0f} %" in figure


def test_the_capacity_holds_for_every_date() -> None:
    dates = np.repeat(np.array(["2024-01-01", "2024-02-01", "2024-03-01"], dtype="datetime64[D]"), 500)
    data = pictured(as_of=dates)
    called = data.called
    assert called is not None
    assert [int(called[dates == day].sum()) for day in np.unique(dates)] == [50, 50, 50]
    assert "of each date" in texts(plots.precision_recall(data)).replace("\n", " ")


def test_features_are_named_in_plain_words_and_the_heaviest_first() -> None:
    figure = texts(plots.feature_importance(pictured()))
    assert "Days since anybody was last seen weighs most" in figure.replace("\n", " ")
    assert "18 more features" in figure


def test_every_group_of_a_perfectly_calibrated_model_lies_near_the_line() -> None:
    title = texts(plots.calibration(pictured(rows=20_000)))
    assert any(f"{count} of 10 groups" in title for count in (8, 9, 10))


@pytest.mark.parametrize("rows", [3, 20])
def test_few_rows_can_be_drawn(rows: int) -> None:
    label = np.zeros(rows)
    label[0] = 1
    assert set(plots.draw(pictured(rows=rows, label=label))) == set(plots.NAMES)


def test_one_class_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="stayed"):
        plots.draw(pictured(label=np.zeros(1500)))


def test_a_picture_can_stand_inside_a_page() -> None:
    element = plots.inline(plots.png(plots.roc(pictured())), 'curve of "who left"')
    assert element.startswith('<img src="data:image/png;base64,iVBOR')
    assert "&quot;who left&quot;" in element
