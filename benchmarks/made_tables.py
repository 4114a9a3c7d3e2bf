"""How near does the recipe for flat files come to the truth, on made tables whose probabilities are known?

`python -m benchmarks.made_tables [--tables boxes,weak] [--rows 1000,3300,10000,50000] [--seeds 1]` prints a line of JSON for each.
Lives here: the tables and the distance from the truth. Must not live here: any setting of the recipe; it is one for all.

`above_truth` is the expected log loss on 20,000 further rows less that of the true probabilities, so neither the luck of labels nor a
choice among test rows is in it. `slope` is that of a logistic regression of the truth on the log-odds: above 1, probabilities are too
timid.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ml import recipe
from ml.dataset import Dataset, assemble
from ml.mixing import affine
from ml.model import sigmoid

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Made = tuple[pd.DataFrame, Floats]

TEST_ROWS = 20_000


def boxes(rows: int, random: np.random.Generator) -> Made:
    """Boxes of customers of whom nearly all leave, as in mobile telephony; 14 % of all, and some noise."""
    day, eve = random.normal(180, 54, rows).clip(0), random.normal(200, 50, rows).clip(0)
    calls, abroad = random.poisson(1.56, rows), random.random(rows) < 0.1
    mailbox, minutes = random.random(rows) < 0.28, random.normal(10.2, 2.8, rows).clip(0)
    often = random.poisson(4.5, rows)
    p = np.full(rows, 0.04)
    p = np.where((calls >= 4) & (day < 165), 0.9, p)
    p = np.where((calls >= 4) & (day >= 165) & (eve < 150), 0.55, p)
    p = np.where((day > 245) & (eve > 190) & ~mailbox, 0.93, p)
    p = np.where(abroad & ((often <= 2) | (minutes > 13.1)), 0.97, p)
    features: dict[str, Any] = {f"noise_{n}": random.normal(size=rows) for n in range(6)}
    features |= {"day": day, "eve": eve, "calls": calls, "abroad": abroad, "mailbox": mailbox, "minutes": minutes}
    features |= {"often": often, "state": random.choice([f"s{n}" for n in range(40)], rows)}
    return pd.DataFrame(features), p


def weak(rows: int, random: np.random.Generator) -> Made:
    """Many weak effects, curved and in pairs, and categories of up to 30 texts; a ROC AUC of 0.7 at best."""
    x = random.normal(size=(rows, 40))
    features: dict[str, Any] = {f"x{n}": np.exp(x[:, n]) if n % 3 == 0 else x[:, n] for n in range(40)}
    z = -1.05 + 0.13 * np.tanh(x[:, :12]).sum(axis=1) + 0.22 * np.sin(1.5 * x[:, 12])
    z += 0.2 * (x[:, 13] * x[:, 14]).clip(-3, 3) + 0.25 * (np.abs(x[:, 15]) > 1.2) + 0.2 * x[:, 16] * (x[:, 17] > 0)
    z += 0.18 * x[:, 18] * x[:, 19] * (x[:, 20] > 0.3)
    for number, levels in enumerate((5, 12, 30)):
        code = random.integers(0, levels, rows)
        z += np.random.default_rng(number).normal(0, 0.25, levels)[code]
        features[f"category_{number}"] = np.array([f"v{level}" for level in range(levels)])[code]
    return pd.DataFrame(features), sigmoid(z)


def additive(rows: int, random: np.random.Generator) -> Made:
    """A logistic regression is right."""
    x, code = random.normal(size=(rows, 20)), random.integers(0, 4, rows)
    weights = np.random.default_rng(9).normal(0, 0.4, 20)
    weights[10:] = 0
    z = -1.7 + x @ weights + np.array([-0.6, 0, 0.3, 0.8])[code]
    return pd.DataFrame(x).add_prefix("x").assign(plan=np.array(list("abcd"))[code]), sigmoid(z)


def products(rows: int, random: np.random.Generator) -> Made:
    """Strong products of two and three features."""
    x = random.normal(size=(rows, 16))
    z = -1.5 + 1.6 * x[:, 0] * x[:, 1] + 1.3 * np.sign(x[:, 2]) * x[:, 3] + 0.6 * x[:, 7] + np.maximum(x[:, 8], x[:, 9])
    z += 2.4 * (x[:, 4] > 0) * (x[:, 5] > 0) * (1 - 2 * (x[:, 6] > 0))
    return pd.DataFrame(x).add_prefix("x"), sigmoid(z)


def smooth(rows: int, random: np.random.Generator) -> Made:
    """Waves, squares and a product."""
    x = random.uniform(-1, 1, size=(rows, 10))
    z = -1 + 2 * np.sin(3 * x[:, 0]) + 2 * x[:, 1] ** 2 + 3 * x[:, 2] * x[:, 3] - 1.2 * np.abs(x[:, 4] + x[:, 5])
    return pd.DataFrame(x).add_prefix("x"), sigmoid(z)


TABLES: dict[str, Callable[[int, np.random.Generator], Made]] = {
    "boxes": boxes,
    "weak": weak,
    "additive": additive,
    "products": products,
    "smooth": smooth,
}


def made(name: str, rows: int, seed: int) -> tuple[Dataset, Floats]:
    """A table of `rows` customers, and the probability of each."""
    random = np.random.default_rng(1000 * seed + rows)
    frame, p = TABLES[name](rows, random)
    frame = frame.assign(customer=[f"c{n}" for n in range(rows)], left=(random.random(rows) < p).astype(float))
    return assemble(frame, entity="customer", label="left"), p


def measure(name: str, rows: int, seed: int, threads: int = 2) -> dict[str, Any]:
    """The recipe on one table."""
    test, truth = made(name, TEST_ROWS, 99)
    data, _ = made(name, rows, seed)
    wall, processor = time.monotonic(), time.process_time()
    fitted = recipe.fit(data, embargo_days=1, seed=7, threads=threads)
    seconds, processor = time.monotonic() - wall, time.process_time() - processor
    margin = fitted.model.log_odds(test.features)
    return {
        "table": name,
        "rows": rows,
        "seed": seed,
        "log_loss_of_truth": round(_expected(truth, np.log(truth / (1 - truth))), 4),
        "above_truth": round(_expected(truth, margin) - _expected(truth, np.log(truth / (1 - truth))), 4),
        "slope": round(affine(margin, truth)[1], 2),
        "form": fitted.selection["winner"],
        "rounds": fitted.selection["rounds"],
        "weight_of_trees": fitted.selection["weight_of_trees"],
        "processor_seconds": round(processor, 1),
        "seconds": round(seconds, 1),
    }


def _expected(truth: Floats, margin: Floats) -> float:
    return float((np.logaddexp(0, margin) - truth * margin).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--rows", default="1000,3300,10000,50000")
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    for name in given.tables.split(","):
        for rows in map(int, given.rows.split(",")):
            for seed in range(given.seeds):
                sys.stdout.write(json.dumps(measure(name, rows, seed)) + "\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
