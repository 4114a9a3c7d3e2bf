"""The judge: Great Expectations evaluates frames.

Lives here: everything that touches Great Expectations while checking - the context, suites made from our expectations,
validation, reading its results. Must not live here: what is expected of which table, or words for people.

Great Expectations takes five seconds to import, so it is imported inside the functions that need it.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from data_quality.frames import Expect, Frame, Verdict


def preload() -> None:
    """Import Great Expectations now, for instance in a thread while dbt works."""
    _library()


def context(store: Path | None = None) -> Any:
    """An ephemeral context; with `store`, validation results are kept there as files, for Data Docs."""
    gx = _library()
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    defaults = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    if store is not None:
        store.mkdir(parents=True, exist_ok=True)
        defaults.stores[defaults.validation_results_store_name] = {
            "class_name": "ValidationResultsStore",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(store)},
        }
    config = DataContextConfig(
        store_backend_defaults=defaults,
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def evaluate(frames: Sequence[Frame], *, run_id: str, run_at: datetime, store: Path | None = None) -> list[Verdict]:
    """Validate every frame against its expectations.

    An expectation that cannot be evaluated (a column is missing, say) fails with its `error`.
    """
    judged = [frame for frame in frames if frame.expectations]
    if not judged:
        return []
    gx = _library()
    if store is not None:
        for frame in judged:
            shutil.rmtree(store / frame.name / run_id, ignore_errors=True)
    run = gx.RunIdentifier(run_name=run_id, run_time=run_at)
    found = context(store)
    source = found.data_sources.add_pandas("frames")
    verdicts = []
    for frame in judged:
        batch = source.add_dataframe_asset(frame.name).add_batch_definition_whole_dataframe("all")
        suite = gx.ExpectationSuite(name=frame.name)
        for number, expect in enumerate(frame.expectations):
            suite.add_expectation(_expectation(expect, number))
        definition = gx.ValidationDefinition(name=frame.name, data=batch, suite=found.suites.add(suite))
        definition = found.validation_definitions.add(definition)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = definition.run(
                batch_parameters={"dataframe": frame.data.reset_index(drop=True)}, result_format="COMPLETE", run_id=run
            )
        verdicts += [_verdict(frame, result) for result in done.results]
    return verdicts


def _library() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx

    return gx


def _expectation(expect: Expect, number: int) -> Any:
    gxe = _library().expectations
    common: dict[str, Any] = {
        "meta": {"check": expect.check, "number": number},
        "severity": expect.severity,
        "description": expect.says,
    }
    pair = {"column_A": expect.column, "column_B": expect.other, "ignore_row_if": "either_value_is_missing"}
    match expect.kind:
        case "filled":
            return gxe.ExpectColumnValuesToNotBeNull(column=expect.column, **common)
        case "between":
            return gxe.ExpectColumnValuesToBeBetween(
                column=expect.column, min_value=expect.minimum, max_value=expect.maximum, **common
            )
        case "in_set":
            return gxe.ExpectColumnValuesToBeInSet(column=expect.column, value_set=list(expect.values), **common)
        case "at_least":
            return gxe.ExpectColumnPairValuesAToBeGreaterThanB(**pair, or_equal=True, **common)
        case "equal":
            return gxe.ExpectColumnPairValuesToBeEqual(**pair, **common)


def _verdict(frame: Frame, result: Any) -> Verdict:
    expect = frame.expectations[result.expectation_config.meta["number"]]
    positions = tuple(int(position) for position in result.result.get("unexpected_index_list") or ())
    error = None
    if not result.success and not positions:
        raised = result.exception_info or {}
        details = raised if "exception_message" in raised else next(iter(raised.values()), {})
        error = str(details.get("exception_message") or "it cannot be evaluated")
    return Verdict(frame, expect, bool(result.success), positions, error)
