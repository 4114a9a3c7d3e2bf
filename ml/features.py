"""The catalogue of features: what each column of `features.ftr_account_snapshots` means, in plain words.

Lives here: reading the catalogue, and the wording of a feature. Must not live here: the list itself
(`models/metrics/_metrics__models.yml`), the SQL behind it, or which features a model uses.

`python -m ml.features` writes the page `docs/features.md` to standard output.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from core.settings import PROJECT_ROOT
from ml.reasons import Wording

CATALOGUE = PROJECT_ROOT / "models" / "metrics" / "_metrics__models.yml"
TABLE = "ftr_account_snapshots"
MONEY = "currency"
"""The unit of amounts in the reporting currency."""
RECENCY = "days_since_last_seen"
"""The rule without learning that a model has to beat: who has not been seen for longest leaves first."""
FAMILIES = ("usage", "billing", "support", "surveys", "relationship", "account")

Kind = Literal["numeric", "categorical", "boolean"]
KINDS: dict[str, Kind] = {"string": "categorical", "boolean": "boolean"}


@dataclass(frozen=True)
class Feature:
    """One feature.

    `direction` is 1 where more of it can only raise the risk, -1 where it can only lower it, and 0 where that is open.
    `needs` are the entities of the contract, or their columns, without each of which it is NULL. `texts` has a sentence for
    `positive` values (also for
    true and for any text), and as far as they can occur for `one`, `negative`, `zero` (also false) and `missing` ones.
    """

    name: str
    label: str
    description: str
    unit: str
    family: str
    needs: tuple[str, ...]
    direction: int
    kind: Kind
    texts: Mapping[str, str]
    theme: str | None = None
    """Features of one theme are one reason together."""
    grows: bool = False
    """Whether it grows with the company's history: that it does is no drift."""

    @property
    def is_category(self) -> bool:
        return self.kind == "categorical"

    @property
    def wording(self) -> Wording:
        """How reasons speak of it. A category's own text is a source's: it is not repeated."""
        say = self.texts.get
        texts = say("positive"), say("one"), say("negative"), say("zero"), say("missing")
        return Wording(self.name, self.label, self.unit, *texts, is_flag=self.kind == "boolean", theme=self.theme)


def catalogue(path: Path = CATALOGUE, *, currency: str = MONEY) -> tuple[Feature, ...]:
    """All features, in the order of their table; reasons speak of money in `currency`."""
    models: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    table = next(model for model in models if model["name"] == TABLE)
    return tuple(_feature(column, currency) for column in table["columns"] if "meta" in column.get("config", {}))


def page(features: tuple[Feature, ...]) -> str:
    """The catalogue as a page of the documentation."""
    lines = [
        "# Features",
        "",
        "What the churn model may know of an account, one row per account and as-of date in `features.ftr_account_snapshots`. Every value",
        "is made only of what had happened before the as-of date. NULL means that nobody measured it, 0 that it was measured and is none.",
        "↑ marks a feature of which more can only raise the risk, ↓ one of which more can only lower it.",
        "Features of one theme tell of one thing: they are one reason of a score together, and the one with most part in it speaks.",
        "",
        "This page is made from the catalogue by `python -m ml.features > docs/features.md`.",
    ]
    for family in FAMILIES:
        lines += [
            "",
            f"## {family.capitalize()}",
            "",
            "| feature | name | unit | theme | needs | what it is |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| `{f.name}` {_ARROWS[f.direction]}".rstrip()
            + f" | {f.label} | {f.unit} | {f.theme or ''} | {', '.join(f.needs)} | {f.description} |"
            for f in features
            if f.family == family
        ]
    return "\n".join(lines) + "\n"


_ARROWS = {1: "↑", 0: "", -1: "↓"}


def _feature(column: Mapping[str, Any], currency: str) -> Feature:
    meta = column["config"]["meta"]
    return Feature(
        name=column["name"],
        label=meta["label"],
        description=column["description"],
        unit=currency if meta["unit"] == MONEY else meta["unit"],
        family=meta["family"],
        needs=tuple(meta["needs"]),
        direction=meta["direction"],
        kind=KINDS.get(column["data_type"], "numeric"),
        texts={when: text.replace("{currency}", currency) for when, text in meta["texts"].items()},
        theme=meta.get("theme"),
        grows=meta.get("grows", False),
    )


if __name__ == "__main__":
    sys.stdout.write(page(catalogue()))
