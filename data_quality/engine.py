"""The judge: Great Expectations evaluates frames.

Lives here: everything that touches Great Expectations while checking - the context, suites made from our expectations,
validation, reading its results. Must not live here: what is expected of which table, or words for people.

Great Expectations takes five seconds to import, so it is imported inside the functions that need it.
"""

from __future__ import annotations

import glob
import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_quality.frames import Expect, Frame, Verdict

if TYPE_CHECKING:
    import pandas as pd

POSITION = "position"
"""The column that numbers the rows of a batch."""


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
    batches = _batches([frame for frame in frames if frame.expectations])
    if not batches:
        return []
    gx = _library()
    if store is not None:
        _forget(store, frames[0].boundary, run_id)
    run = gx.RunIdentifier(run_name=run_id, run_time=run_at)
    found = context(store)
    source = found.data_sources.add_pandas("frames")
    verdicts = []
    for batch in batches:
        asset = source.add_dataframe_asset(batch.name).add_batch_definition_whole_dataframe("all")
        suite = gx.ExpectationSuite(name=batch.name)
        for number, expect in enumerate(batch.expectations):
            suite.add_expectation(_expectation(gx.expectations, expect, number))
        definition = gx.ValidationDefinition(name=batch.name, data=asset, suite=found.suites.add(suite))
        definition = found.validation_definitions.add(definition)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = definition.run(
                batch_parameters={"dataframe": batch.data},
                result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [*batch.labels, POSITION]},
                run_id=run,
            )
        for result in done.results:
            verdicts += _verdicts(batch, result)
    return verdicts


def _forget(store: Path, boundary: str, run_id: str) -> None:
    """Take back what an earlier check of the same run kept; names of batches begin with their boundary."""
    for folder in store.glob(f"{boundary}*/{glob.escape(run_id)}"):
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Batch:
    """What is validated at once; `origin` gives the frame, and the row in it, of each row of `data`."""

    name: str
    data: pd.DataFrame
    expectations: tuple[Expect, ...]
    labels: tuple[str, ...]
    frames: tuple[Frame, ...]
    origin: tuple[tuple[Frame, int], ...]


def _batches(frames: Sequence[Frame]) -> list[_Batch]:
    """Measurements of one kind from all tables together: a validation takes 70 ms, whatever its size."""
    import pandas as pd

    grouped: dict[str, list[Frame]] = {}
    for frame in frames:
        grouped.setdefault(f"{frame.boundary}-{frame.part}" if frame.is_measured else frame.name, []).append(frame)
    batches = []
    for name, members in grouped.items():
        origin = tuple((frame, row) for frame in members for row in range(len(frame.data)))
        labels = members[0].labels
        if members[0].is_measured:
            labels = ("table", *labels)
            records = [{"table": f.table, **record} for f in members for record in f.data.to_dict("records")]
            data = pd.DataFrame(records)
        else:
            data = members[0].data.reset_index(drop=True)
        batches.append(
            _Batch(
                name=name,
                data=data.assign(**{POSITION: range(len(data))}),
                expectations=_expectations(members),
                labels=labels,
                frames=tuple(members),
                origin=origin,
            )
        )
    return batches


def _expectations(frames: Sequence[Frame]) -> tuple[Expect, ...]:
    """The expectations of all frames, each once, with the gravest severity it has in any."""
    by_meaning: dict[Expect, Expect] = {}
    for frame in frames:
        for expect in frame.expectations:
            meaning = replace(expect, severity="warning")
            if meaning not in by_meaning or expect.severity == "critical":
                by_meaning[meaning] = expect
    return tuple(by_meaning.values())


def _library() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx

    return gx


def _expectation(gxe: Any, expect: Expect, number: int) -> Any:
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


def _verdicts(batch: _Batch, result: Any) -> list[Verdict]:
    """The verdict for each frame of the batch that has the expectation."""
    judged = batch.expectations[result.expectation_config.meta["number"]]
    refused: dict[str, list[int]] = {}
    for index in result.result.get("unexpected_index_list") or ():
        frame, row = batch.origin[int(index[POSITION])]
        refused.setdefault(frame.name, []).append(row)
    error = None
    if not result.success and not refused:
        raised = result.exception_info or {}
        details = raised if "exception_message" in raised else next(iter(raised.values()), {})
        error = str(details.get("exception_message") or "it cannot be evaluated")
    verdicts = []
    for frame in batch.frames:
        own = [expect for expect in frame.expectations if replace(expect, severity=judged.severity) == judged]
        rows = tuple(refused.get(frame.name, ()))
        verdicts += [Verdict(frame, expect, not rows and error is None, rows, error) for expect in own]
    return verdicts
