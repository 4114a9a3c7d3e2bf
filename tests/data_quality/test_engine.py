"""The judge itself: our expectations mean what they say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from typing import Any

import pandas as pd
import pytest

from data_quality.engine import evaluate
from data_quality.frames import Expect, Frame, Verdict

AT = datetime(2024, 7, 1)
DATA = pd.DataFrame(
    {
        "name": ["a", "b", None],
        "low": [1.0, 5.0, None],
        "high": [2.0, 4.0, 9.0],
        "at": [datetime(2024, 1, 1), datetime(2030, 1, 1), None],
    }
)


def judge(expect: Expect, data: pd.DataFrame = DATA) -> Verdict:
    return evaluate([Frame("raw", "raw_files.accounts", "rows", data, (expect,), ("name",))], run_id="r", run_at=AT)[0]


def expect(kind: Any, column: str, **limits: Any) -> Expect:
    return Expect("ranges", "critical", kind, column, "It holds", **limits)


@pytest.mark.parametrize(
    ("expectation", "refused"),
    [
        (expect("filled", "name"), (2,)),
        (expect("between", "low", minimum=1, maximum=5), ()),
        (expect("between", "low", minimum=2), (0,)),
        (expect("between", "low", maximum=4), (1,)),
        (expect("between", "at", minimum="1970-01-01 00:00:00", maximum="2025-01-01 00:00:00"), (1,)),
        (expect("in_set", "name", values=("a",)), (1,)),
        (expect("at_least", "high", other="low"), (1,)),
        (expect("equal", "high", other="low"), (0, 1)),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_an_expectation_refuses_the_rows_that_break_it_and_lets_null_pass(
    expectation: Expect, refused: tuple[int, ...]
) -> None:
    verdict = judge(expectation)
    assert verdict.error is None
    assert (verdict.passed, verdict.positions) == (not refused, refused)


def test_a_missing_column_cannot_pass() -> None:
    verdict = judge(expect("between", "elsewhere", minimum=0))
    assert not verdict.passed
    assert "elsewhere" in str(verdict.error)


def test_no_rows_break_nothing() -> None:
    assert judge(expect("filled", "name"), DATA.iloc[:0]).passed


def test_measurements_of_several_tables_are_judged_together_and_told_apart() -> None:
    found = expect("at_least", "high", other="low")
    warning = replace(found, severity="warning")
    tables = {
        "raw_files.good": (pd.DataFrame({"column": ["x"], "low": [1.0], "high": [1.0]}), found),
        "raw_files.bad": (pd.DataFrame({"column": ["x", "y"], "low": [1.0, 3.0], "high": [1.0, 2.0]}), warning),
        "raw_files.other": (pd.DataFrame({"column": ["x"], "low": [3.0], "high": [2.0]}), expect("filled", "low")),
    }
    frames = [Frame("raw", table, "columns", data, (own,), ("column",)) for table, (data, own) in tables.items()]
    verdicts = {verdict.frame.table: verdict for verdict in evaluate(frames, run_id="r", run_at=AT)}
    assert (verdicts["raw_files.good"].passed, verdicts["raw_files.good"].positions) == (True, ())
    assert (verdicts["raw_files.bad"].passed, verdicts["raw_files.bad"].positions) == (False, (1,))
    assert verdicts["raw_files.bad"].expect.severity == "warning"
    assert verdicts["raw_files.other"].passed


def test_the_catalogue_needs_neither_great_expectations_nor_pandas() -> None:
    program = (
        "import sys; from data_quality.checks import catalogue; import data_quality.run, data_quality.docs;"
        "assert not {'great_expectations', 'pandas'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
