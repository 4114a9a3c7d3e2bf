"""A company's own metrics: what `metrics.yml`, beside `tenure.yml`, says.

Lives here: the schema of a definition, the sentences for its mistakes, and the form in which dbt gets it. Must not live here: the SQL
of a metric (`dbt_project/macros/custom_metrics.sql`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from core import yaml_file
from core.blocks import NAME, Strict
from core.errors import UserError

FILE = "metrics.yml"

FILTERS = {
    "usage_events": ("event_name", "product"),
    "tickets": ("priority", "open"),
    "invoices": (),
    "interactions": ("channel", "direction"),
    "survey_responses": ("kind",),
}
"""What the facts of each entity can be filtered by."""
SUMMED = {"usage_events": "quantity", "invoices": "amount", "survey_responses": "score"}
"""Which number of a fact is summed."""
OF_USERS = ("unique_users", "share_of_active_users", "share_of_seats")
_AS_WRITTEN = ("event_name", "product")
_COMPARABLE = ("count", "sum", "unique_users", "active_days", "share_of_active_users")
_WINDOWS = {None: 1, "previous_window": 2, "own_level": 4}
_LONGEST = 365

Kind = Literal[
    "count", "sum", "unique_users", "active_days", "days_since_last", "share_of_active_users", "share_of_seats"
]
Entity = Literal["usage_events", "tickets", "invoices", "interactions", "survey_responses"]


class MetricConfig(Strict):
    """One metric: what is counted (`kind`), over which facts (`from`, `where`), in how many days before the date (`window`)."""

    name: str
    label: str = Field(min_length=1)
    description: str = Field(min_length=1)
    unit: str = ""
    kind: Kind
    from_: Entity = Field(alias="from")
    where: Mapping[str, tuple[str, ...] | bool] = {}
    window: int | None = None
    compare: Literal["previous_window", "own_level"] | None = None

    @field_validator("name")
    @classmethod
    def _identifier(cls, name: str) -> str:
        if not NAME.fullmatch(name) or len(name) > 60:
            raise ValueError(
                f"{name!r} is no name for a column: lower case letters, digits and underscores, at most 60"
            )
        return name

    @field_validator("window")
    @classmethod
    def _past(cls, window: int | None) -> int | None:
        if window is not None and window < 0:
            raise ValueError(
                f"{window} looks into the future; a metric may use only what happened before its date: write {-window} for the"
                f" {-window} days before it"
            )
        if window is not None and not 1 <= window <= _LONGEST:
            raise ValueError(f"{window} is no number of days from 1 to {_LONGEST}")
        return window

    @field_validator("where", mode="before")
    @classmethod
    def _lists(cls, where: Any) -> Any:
        if not isinstance(where, dict):
            return where
        return {key: (value,) if isinstance(value, str) else value for key, value in where.items()}

    @field_validator("where")
    @classmethod
    def _values(cls, where: Mapping[str, tuple[str, ...] | bool]) -> Mapping[str, tuple[str, ...] | bool]:
        for key, values in where.items():
            if key == "open":
                if values is not True:
                    raise ValueError("`open` can only be true")
            elif isinstance(values, bool) or not values:
                raise ValueError(f"`{key}` needs one value or a list of them")
            elif any("\\" in value or not value.strip() or not value.isprintable() for value in values):
                raise ValueError(f"`{key}` has a value that is empty, or has a backslash or a line break in it")
        return {
            key: values
            if isinstance(values, bool) or key in _AS_WRITTEN
            else tuple(value.strip().lower() for value in values)
            for key, values in where.items()
        }

    @model_validator(mode="after")
    def _coherent(self) -> MetricConfig:
        entity, known = self.from_, FILTERS[self.from_]
        unknown = sorted(set(self.where) - set(known))
        if unknown:
            choice = f"{entity} can be filtered by {' and '.join(known)}" if known else f"{entity} cannot be filtered"
            raise ValueError(f"`where` names {', '.join(unknown)}; {choice}")
        if self.kind == "sum" and entity not in SUMMED:
            raise ValueError(f"{entity} have no number to sum; {', '.join(SUMMED)} have one")
        if self.kind in (*OF_USERS, "active_days") and entity != "usage_events":
            raise ValueError(f"`{self.kind}` is for usage_events, not for {entity}")
        if self.kind == "share_of_active_users" and not self.where:
            raise ValueError("without `where`, all active users are among themselves: say which of them are meant")
        if self.compare is not None and self.kind not in _COMPARABLE:
            raise ValueError(f"`compare` is for {', '.join(_COMPARABLE)}, not for {self.kind}")
        if self.compare is not None and "open" in self.where:
            raise ValueError("what is open on a date cannot be compared with an earlier window")
        if self.window is None and self.kind != "days_since_last" and "open" not in self.where:
            raise ValueError("`window` is missing: over how many days before the date?")
        if self.window is not None and self.window * _WINDOWS[self.compare] > 4 * _LONGEST // 2:
            raise ValueError(f"`window` and what it is compared with reach back more than {2 * _LONGEST} days")
        return self

    @property
    def variable(self) -> dict[str, Any]:
        """What the SQL needs to know; words for people are not among it, so that a new label builds nothing again."""
        return {
            "name": self.name,
            "kind": self.kind,
            "entity": self.from_,
            "where": {key: value if isinstance(value, bool) else list(value) for key, value in self.where.items()},
            "window": self.window,
            "compare": self.compare,
            "windows": _WINDOWS[self.compare],
            "number": SUMMED.get(self.from_),
        }


class MetricsFile(Strict):
    """The whole of `metrics.yml`."""

    metrics: tuple[MetricConfig, ...] = Field(min_length=1)

    @field_validator("metrics")
    @classmethod
    def _once(cls, metrics: tuple[MetricConfig, ...]) -> tuple[MetricConfig, ...]:
        names = [metric.name for metric in metrics]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two metrics are called {twice[0]}")
        return metrics


def read(config_path: Path, models: Path, variables: Mapping[str, str]) -> tuple[MetricConfig, ...]:
    """The metrics of the file beside `config_path`, none where there is no such file.

    Raises `UserError` naming the file, the metric and what is wrong with it. Names that `models` use are taken.
    """
    path = config_path.with_name(FILE)
    if not path.is_file():
        return ()
    document = yaml_file.read(path, variables)
    if not isinstance(document.content, dict):
        raise UserError(f"{path} holds no metrics.", hint="Delete it, or list them under `metrics:`.")
    try:
        metrics = MetricsFile.model_validate(document.content).metrics
    except ValidationError as error:
        raise UserError(
            f"{path} has mistakes:\n{document.without_values(_sentences(error, document.content))}"
        ) from None
    taken = _taken(models)
    for metric in metrics:
        if metric.name in taken:
            raise UserError(
                f"{path}: {metric.name} is the name of a column that Tenure has.", hint="Choose another name."
            )
    return metrics


def _taken(models: Path) -> frozenset[str]:
    """The names of all models and columns of the metrics and the marts."""
    files = [models / step / f"_{step}__models.yml" for step in ("metrics", "marts")]
    return frozenset(
        name for file in files for name in re.findall(r"\bname: ([a-z0-9_]+)", file.read_text(encoding="utf-8"))
    )


def _sentences(error: ValidationError, content: Mapping[str, Any]) -> str:
    lines = []
    for problem in error.errors():
        where = list(problem["loc"])
        if where[:1] == ["metrics"] and len(where) > 1:
            metric = content["metrics"][where[1]]
            name = metric.get("name") if isinstance(metric, dict) else None
            where[:2] = [name if isinstance(name, str) else f"metric {int(where[1]) + 1}"]
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = "is not a known setting"
        lines.append(f"  {'.'.join(str(part) for part in where)}: {text}" if where else f"  {text}")
    return "\n".join(lines)
