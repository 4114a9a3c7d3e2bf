"""Step 3 as asset checks: the gates between extraction and the models, between the marts and what
uses them, and between the scores and publishing.

Lives here: which assets the checks belong to and what blocks. Must not live here: what is checked (`data_quality/`).
"""

# Dagster reads the annotations of an asset's arguments: they must not be postponed.
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from core import settings
from core.settings import Tenure
from data_quality.checks import Boundary, CheckOutcome, CheckSpec, catalogue, outcomes
from orchestration.instance import WRITERS
from orchestration.resources import Warehouse


def checks(tenure: Tenure) -> list[dg.AssetChecksDefinition]:
    """The gates: what extraction loaded, what the models made of it, the scores, and what destinations receive."""
    specs = catalogue(tenure.config)
    return [
        _raw_gate(tenure, _of(specs, "raw")),
        _mart_gate(tenure, _of(specs, "marts")),
        _score_gate(tenure, _of(specs, "scores"), "scores"),
        _score_gate(tenure, _of(specs, "activation"), "activation"),
    ]


def _of(specs: Sequence[CheckSpec], boundary: str) -> list[CheckSpec]:
    return [spec for spec in specs if spec.boundary == boundary]


def _declared(specs: Sequence[CheckSpec]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(spec.name, asset=_key(spec), description=spec.description, blocking=spec.blocking)
        for spec in specs
    ]


def _key(spec: CheckSpec) -> dg.AssetKey:
    return dg.AssetKey(spec.table.split("."))


def _raw_gate(tenure: Tenure, specs: list[CheckSpec]) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=_declared(specs), name="check_raw", can_subset=True, pool=WRITERS)
    def check_raw(context: dg.AssetCheckExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> Iterator[Any]:
        from data_quality.run import check_raw as judge

        with warehouse.open() as connection:
            found = judge(connection, tenure, run_id=context.op_execution_context.run_id, now=settings.utc_now())
        yield from _results(context, outcomes(specs, found))

    return check_raw


def _mart_gate(tenure: Tenure, specs: list[CheckSpec]) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=_declared(specs), name="check_marts", can_subset=True, pool=WRITERS)
    def check_marts(context: dg.AssetCheckExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> Iterator[Any]:
        from data_quality.run import build_docs
        from data_quality.run import check_marts as judge

        with warehouse.open() as connection:
            found = judge(connection, tenure, run_id=context.op_execution_context.run_id, now=settings.utc_now())
        build_docs(tenure)
        yield from _results(context, outcomes(specs, found))

    return check_marts


def _score_gate(tenure: Tenure, specs: list[CheckSpec], boundary: Boundary) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=_declared(specs), name=f"check_{boundary}", pool=WRITERS)
    def check(context: dg.AssetCheckExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> Iterator[Any]:
        from data_quality.run import check_scores as judge

        run_id = context.op_execution_context.run_id
        with warehouse.open() as connection:
            found = judge(connection, tenure, run_id=run_id, now=settings.utc_now(), boundary=boundary)
        yield from _results(context, outcomes(specs, found))

    return check


def _results(context: dg.AssetCheckExecutionContext, found: list[CheckOutcome]) -> Iterator[dg.AssetCheckResult]:
    """What the run asked for: a gate judges all tables, even when somebody materializes a single one."""
    wanted = context.selected_asset_check_keys
    return (_result(outcome) for outcome in found if dg.AssetCheckKey(_key(outcome.spec), outcome.spec.name) in wanted)


def _result(outcome: CheckOutcome) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=outcome.passed,
        asset_key=_key(outcome.spec),
        check_name=outcome.spec.name,
        severity=dg.AssetCheckSeverity.ERROR if outcome.spec.blocking else dg.AssetCheckSeverity.WARN,
        description=outcome.message,
        metadata={"measured": outcome.measured, "unexpected": outcome.unexpected_count},
    )
