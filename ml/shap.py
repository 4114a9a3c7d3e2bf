"""Exact SHAP values of boosted trees for many accounts: the numbers of XGBoost's `pred_contribs`, a few dozen times faster.

Lives here: path-dependent TreeSHAP from tables. Must not live here: calibration and blending (`ml/model.py`), probability
points and words (`ml/reasons.py`).

The values are those of Lundberg et al. 2020 (Nature Machine Intelligence 2, "TreeSHAP"). What a leaf gives to the features
on its path depends on an account only through which of these features agree with the path. As in WOODELF (Nadel and
Wettenstein 2024) and Fast TreeSHAP v2 (Yang 2021) the values are therefore computed once per pattern of agreement, not once
per account. What is added here: neighbouring leaves are put together as long as their splits are at most `BITS`, so that an
account's answers to ten splits are the address of what all these leaves give to all their features at once. An account then
costs one comparison per split and one look-up per group and feature: for 200 trees of depth 6 up to 16,000, where one per
leaf and feature would be 77,000.

A row's values do not depend on the rows beside it, bit for bit: every row sees the same additions in the same order.

Why not the library `woodelf-explainer` 0.4.8: it reads no categorical splits, its values of a row change in the last bits
with the batch, and it took seven times the processor time at depth 6 (141 against 20 microseconds a row; XGBoost 1,300).
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from math import factorial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import xgboost
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

log = logging.getLogger(__name__)

BITS = 10
"""Splits per group of leaves. A table has 2^BITS numbers per feature, which at 10 stay in the nearest cache."""
MOST_BITS = 16
"""The longest path that has a table; deeper trees are left to XGBoost."""
MOST_FEATURES = 12
"""The most different features on one path that has a table: the table takes 2^k * k^2 steps."""
MOST_NUMBERS = 80_000_000
"""Numbers in all tables of a model (640 MB). 200 trees of depth 6 have 10 million; where it is passed, groups get smaller."""
CHUNK = 16_384
"""Rows at a time: the columns that are being added to stay in the cache, and NumPy's own calls cost little."""
TOLERANCE = 1e-4
"""The largest difference from XGBoost's own values that is rounding, in log-odds."""
PROBES = 12
"""Rows that are compared with XGBoost's own values before the tables are trusted."""


class Explainer:
    """Explains the mean margin of one or more boosters (binary objectives, one output, the same columns).

    Built once per model (depth 6, 200 trees: half a second), then used for any number of rows. A booster whose trees have no
    tables (too deep, dart, linear) or whose tables do not agree with XGBoost is explained by XGBoost itself: the same
    numbers, slower; `slow_because` says why.
    """

    def __init__(
        self, boosters: xgboost.Booster | Sequence[xgboost.Booster], *, most_numbers: int = MOST_NUMBERS
    ) -> None:
        self._boosters = list(boosters) if isinstance(boosters, (list, tuple)) else [boosters]
        self.slow_because: str | None = None
        self._programs: list[_Program] = []
        self._width = int(self._boosters[0].num_features())
        self.base = float(np.mean([_native(one, self._nothing(), 1)[0, -1] for one in self._boosters]))
        """The log-odds before any feature is known: the mean over the training rows of the margin."""
        try:
            trees = [tree for one in self._boosters for tree in _trees(one)]
            self._programs = _programs(trees, 1.0 / len(self._boosters), most_numbers)
            self._categories = _largest_categories(trees)
            self._probe(trees)
        except _NoTables as reason:
            self.slow_because = str(reason)
            self._programs = []
            log.warning("Explanations come from XGBoost itself, which takes longer: %s.", reason)

    def contributions(self, matrix: NDArray[np.float32], *, threads: int = 1) -> Floats:
        """(n, f) log-odds that each feature adds to `base`; base + row sum = margin of the row (to 1e-5).

        `matrix` (n, f) has the columns of the boosters' training in order, numbers as they are, categories as their codes,
        NaN where missing; column-major is fastest. Needs 8 bytes a number of the answer and 10 MB a thread.
        """
        if matrix.ndim != 2 or matrix.shape[1] != self._width:
            raise ValueError(f"the boosters have {self._width} columns, the matrix has the shape {matrix.shape}")
        if self.slow_because is not None:
            parts = [_native(one, matrix, threads)[:, :-1] for one in self._boosters]
            return np.asarray(sum(parts) / len(parts), dtype=np.float64)
        return self._from_tables(matrix, threads)

    def _from_tables(self, matrix: NDArray[np.float32], threads: int) -> Floats:
        rows = len(matrix)
        out = np.zeros((rows, self._width))
        # Equal pieces, so that no thread waits for another one's last chunk.
        pieces = max(1, -(-rows // CHUNK), min(threads, rows // 1024))
        edges = [rows * piece // pieces for piece in range(pieces + 1)]
        spans = list(pairwise(edges))

        def work(first: int) -> None:
            scratch = _Scratch(max(stop - start for start, stop in spans), self._width)
            for start, stop in spans[first::threads]:
                out[start:stop] = self._explain(matrix[start:stop], scratch).T

        if threads == 1 or len(spans) == 1:
            threads = 1
            work(0)
        else:
            # NumPy lets go of the interpreter's lock in every call that matters.
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, range(threads)))
        return out

    def _explain(self, matrix: NDArray[np.float32], scratch: _Scratch) -> Floats:
        """(f, n) contributions of a chunk, in `scratch`."""
        rows = len(matrix)
        columns: dict[int, NDArray[Any]] = {}
        for feature in range(self._width):
            column = np.ascontiguousarray(matrix[:, feature], dtype=np.float32)
            largest = self._categories.get(feature)
            columns[feature] = column if largest is None else _places(column, largest)
        totals = scratch.totals[:, :rows]
        totals[:] = 0.0
        patterns = [pattern[:rows] for pattern in scratch.patterns]
        bit, place, value = scratch.bit[:rows], scratch.place[:rows], scratch.value[:rows]
        for program in self._programs:
            for group in program:
                for depth, test in group.tests:
                    if test.goes_left is not None:
                        np.take(test.goes_left, columns[test.feature], out=bit, mode="clip")
                    elif test.missing_left:
                        np.greater_equal(columns[test.feature], test.threshold, out=bit)
                    else:
                        np.less(columns[test.feature], test.threshold, out=bit)
                    pattern = patterns[depth + 1]
                    np.add(patterns[depth], patterns[depth], out=pattern)
                    np.bitwise_or(pattern, bit, out=pattern)
                np.copyto(place, patterns[group.depth])
                for feature, table in group.tables:
                    np.take(table, place, out=value, mode="clip")
                    total = totals[feature]
                    np.add(total, value, out=total)
        return totals

    def _probe(self, trees: Sequence[_Tree]) -> None:
        """Compare with XGBoost on a few rows around the splits: a later version's files may mean something else."""
        random = np.random.default_rng(0)
        probe = np.repeat(self._nothing(), PROBES, axis=0)
        for feature in range(self._width):
            near = [
                float(node.threshold) if node.goes_left is None else float(random.integers(0, len(node.goes_left) - 1))
                for tree in trees[:: max(1, len(trees) // 50)]
                for node in tree.tests.values()
                if node.feature == feature
            ]
            if near:
                probe[1:, feature] = random.choice([*near, np.nan], PROBES - 1)
        theirs = np.mean([_native(one, probe, 1) for one in self._boosters], axis=0)
        difference = np.abs(self._from_tables(probe, 1) - theirs[:, :-1]).max(initial=0.0)
        if not difference <= TOLERANCE * max(1.0, float(np.abs(theirs).max())):
            raise _NoTables(f"the tables differ from XGBoost's own values by {difference:.2g}")

    def _nothing(self) -> NDArray[np.float32]:
        return np.full((1, self._width), np.nan, dtype=np.float32)


def contributions(
    boosters: xgboost.Booster | Sequence[xgboost.Booster], matrix: NDArray[np.float32], *, threads: int = 1
) -> Floats:
    """(n, f + 1) as `pred_contribs` gives them, the base in the last column; see `Explainer`, which can be kept."""
    explainer = Explainer(boosters)
    return np.column_stack([explainer.contributions(matrix, threads=threads), np.full(len(matrix), explainer.base)])


# --- reading trees -----------------------------------------------------------------------------------------------


class _NoTables(Exception):
    """Why a booster is left to XGBoost."""


class _Test(NamedTuple):
    """A split. Its bit is one comparison, false for NaN: `x < threshold` where missing goes right, else `x >= threshold`.

    `goes_left` is of category splits: by place (0 missing, code + 1, last: any later code) whether the row goes left. A place
    beyond its end means the last one, so boosters that know different numbers of categories can share one column of places.
    """

    feature: int
    threshold: np.float32
    missing_left: bool
    goes_left: NDArray[np.bool_] | None

    @property
    def bit_of_left(self) -> int:
        return 0 if self.goes_left is None and self.missing_left else 1


class _Step(NamedTuple):
    """A split on the way to a leaf: its node, the bit that agrees with the way, the share of the training rows that do."""

    node: int
    bit: int
    share: float


class _Leaf(NamedTuple):
    value: float
    path: tuple[_Step, ...]


@dataclass(frozen=True)
class _Tree:
    tests: dict[int, _Test]
    leaves: list[_Leaf]
    """From left to right, so that neighbours share most of their path."""


def _trees(booster: xgboost.Booster) -> Iterator[_Tree]:
    """The trees of a booster, from XGBoost's JSON (its documented schema, the same since 1.0)."""
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    gradient_booster = learner["gradient_booster"]
    if gradient_booster["name"] != "gbtree":
        raise _NoTables(f"the booster is {gradient_booster['name']}, not gbtree")
    outputs = learner["learner_model_param"]
    if int(outputs["num_class"]) > 1 or int(outputs.get("num_target", 1)) > 1:
        raise _NoTables("the booster has more than one output")
    documents = gradient_booster["model"]["trees"]
    largest: dict[int, int] = {}
    for document in documents:
        for feature, kind, codes in _splits(document):
            if kind:
                largest[feature] = max(largest.get(feature, -1), *codes, -1)
    for document in documents:
        yield _tree(document, largest)


def _splits(document: dict[str, Any]) -> Iterator[tuple[int, bool, list[int]]]:
    """Per node: its feature, whether it splits categories, and the codes that go right."""
    starts = dict(zip(document["categories_nodes"], document["categories_segments"], strict=True))
    sizes = dict(zip(document["categories_nodes"], document["categories_sizes"], strict=True))
    for node, feature in enumerate(document["split_indices"]):
        start = starts.get(node, 0)
        codes = document["categories"][start : start + sizes.get(node, 0)]
        yield feature, bool(document["split_type"][node]) and document["left_children"][node] != -1, codes


def _tree(document: dict[str, Any], largest: dict[int, int]) -> _Tree:
    left, right, cover = document["left_children"], document["right_children"], document["sum_hessian"]
    tests = {}
    for node, (feature, is_category, codes) in enumerate(_splits(document)):
        if left[node] == -1:
            continue
        missing_left = bool(document["default_left"][node])
        goes_left = None
        if is_category:
            goes_left = np.ones(largest[feature] + 3, dtype=np.bool_)
            goes_left[np.asarray(codes, dtype=np.intp) + 1] = False
            goes_left[0] = missing_left
        tests[node] = _Test(feature, np.float32(document["split_conditions"][node]), missing_left, goes_left)
    leaves = []
    waiting: list[tuple[int, tuple[_Step, ...]]] = [(0, ())]
    while waiting:
        node, path = waiting.pop()
        if left[node] == -1:
            leaves.append(_Leaf(float(document["split_conditions"][node]), path))
            continue
        bit = tests[node].bit_of_left
        share = cover[left[node]] / cover[node] if cover[node] else 0.0
        other = cover[right[node]] / cover[node] if cover[node] else 0.0
        waiting.append((right[node], (*path, _Step(node, 1 - bit, other))))
        waiting.append((left[node], (*path, _Step(node, bit, share))))
    return _Tree(tests, leaves)


def _largest_categories(trees: Sequence[_Tree]) -> dict[int, int]:
    """Of each feature that has category splits, the largest code that one of them names."""
    found: dict[int, int] = {}
    for tree in trees:
        for test in tree.tests.values():
            if test.goes_left is not None:
                found[test.feature] = max(found.get(test.feature, -1), len(test.goes_left) - 3)
    return found


def _places(column: NDArray[np.float32], largest: int) -> NDArray[np.intp]:
    """(n,) where each code stands in `_Test.goes_left`. XGBoost sends what is no code the way of a code it has not seen."""
    missing = np.isnan(column)
    codes = np.where(missing | (column < 0) | (column > largest), largest + 1, column).astype(np.intp) + 1
    codes[missing] = 0
    return codes


# --- building tables ---------------------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Some leaves of a tree. `tests`: the splits to ask, each with the length of the pattern that it lengthens (what is before
    stands since the group before); `depth`: the length of the whole pattern; `tables`: per feature its values by pattern."""

    tests: list[tuple[int, _Test]]
    depth: int
    tables: list[tuple[int, Floats]]


_Program = list[_Group]


class _Scratch:
    """The buffers of one thread."""

    def __init__(self, rows: int, width: int) -> None:
        self.totals = np.empty((width, rows))
        self.patterns = np.zeros((MOST_BITS + 1, rows), dtype=np.uint16)
        self.bit = np.empty(rows, dtype=np.bool_)
        self.place = np.empty(rows, dtype=np.intp)
        self.value = np.empty(rows)


def _programs(trees: Sequence[_Tree], scale: float, most_numbers: int) -> list[_Program]:
    for tree in trees:
        for leaf in tree.leaves:
            different = len({tree.tests[step.node].feature for step in leaf.path})
            if len(leaf.path) > MOST_BITS or different > MOST_FEATURES:
                raise _NoTables(f"a path has {len(leaf.path)} splits of {different} features")
    for bits in range(BITS, 0, -1):
        grouped = [_grouped(tree, bits) for tree in trees]
        if sum(_numbers(tree, groups) for tree, groups in zip(trees, grouped, strict=True)) <= most_numbers:
            return [_program(tree, groups, scale) for tree, groups in zip(trees, grouped, strict=True)]
    raise _NoTables("the tables would be too large")


def _grouped(tree: _Tree, bits: int) -> list[list[int]]:
    """Leaves (their places) put together from left to right as long as they have at most `bits` splits between them."""
    groups: list[list[int]] = []
    nodes: set[int] = set()
    for place, leaf in enumerate(tree.leaves):
        if not leaf.path:
            continue
        mine = {step.node for step in leaf.path}
        if groups and len(nodes | mine) <= bits:
            groups[-1].append(place)
            nodes |= mine
        else:
            groups.append([place])
            nodes = mine
    return groups


def _numbers(tree: _Tree, groups: list[list[int]]) -> int:
    total = 0
    for group in groups:
        nodes = {step.node for place in group for step in tree.leaves[place].path}
        total += len({tree.tests[node].feature for node in nodes}) << len(nodes)
    return total


def _program(tree: _Tree, groups: list[list[int]], scale: float) -> _Program:
    values = _leaf_values(tree)
    program: _Program = []
    before: list[int] = []
    for group in groups:
        # In the order of the paths: what two groups share comes first and is asked once.
        nodes = list(dict.fromkeys(step.node for place in group for step in tree.leaves[place].path))
        features = sorted({tree.tests[node].feature for node in nodes})
        pattern = np.arange(1 << len(nodes))
        table = np.zeros((len(features), len(pattern)))
        for place in group:
            leaf = tree.leaves[place]
            order = _features_of(tree, leaf)
            agreement = np.zeros(len(pattern), dtype=np.intp)
            asked, wanted = dict.fromkeys(order, 0), dict.fromkeys(order, 0)
            for step in leaf.path:
                bit = 1 << (len(nodes) - 1 - nodes.index(step.node))
                asked[tree.tests[step.node].feature] |= bit
                wanted[tree.tests[step.node].feature] |= bit * step.bit
            for index, feature in enumerate(order):
                agreement |= ((pattern & asked[feature]) == wanted[feature]).astype(np.intp) << index
            rows = [features.index(feature) for feature in order]
            table[rows] += np.take(values[place], agreement, axis=1)
        table *= scale
        shared = next((i for i, (a, b) in enumerate(zip(before, nodes, strict=False)) if a != b), None)
        shared = min(len(before), len(nodes)) if shared is None else shared
        tests = [(depth, tree.tests[node]) for depth, node in enumerate(nodes) if depth >= shared]
        program.append(_Group(tests, len(nodes), list(zip(features, table, strict=True))))
        before = nodes
    return program


def _features_of(tree: _Tree, leaf: _Leaf) -> list[int]:
    return list(dict.fromkeys(tree.tests[step.node].feature for step in leaf.path))


def _leaf_values(tree: _Tree) -> dict[int, Floats]:
    """For each leaf (k, 2^k): what it gives to its k features, by which of them agree with its path."""
    alike: dict[int, list[int]] = {}
    shares: dict[int, list[float]] = {}
    for place, leaf in enumerate(tree.leaves):
        order = _features_of(tree, leaf)
        share = dict.fromkeys(order, 1.0)
        for step in leaf.path:
            share[tree.tests[step.node].feature] *= step.share
        shares[place] = list(share.values())
        alike.setdefault(len(order), []).append(place)
    found: dict[int, Floats] = {}
    for count, places in alike.items():
        if count:
            values = np.array([tree.leaves[place].value for place in places])
            found |= dict(zip(places, _shapley(np.array([shares[place] for place in places]), values), strict=True))
    return found


def _shapley(shares: Floats, values: Floats) -> Floats:
    """(m, k, 2^k) Shapley values of the games of m leaves with k features each.

    A leaf's game: a coalition S of features earns value * product over S of (1 if the feature agrees with the path, else 0)
    * product over the others of their `shares` (m, k). By the Shapley formula feature i earns value * (agrees_i - share_i) *
    sum over S of the agreeing others of |S|! (k - |S| - 1)! / k! * product of the shares outside S and i. The sum over all
    subsets S of every set at once is a zeta transform. `values` is (m,).
    """
    leaves, count = shares.shape
    weight = np.array([factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)])
    sizes = np.array([bin(subset).count("1") for subset in range(1 << (count - 1))])
    found = np.empty((leaves, count, 1 << count))
    for feature in range(count):
        earned = np.ones((leaves, 1))
        for other in range(count):
            if other != feature:
                earned = np.concatenate([earned * shares[:, other, None], earned], axis=1)
        earned *= weight[sizes]
        for bit in range(count - 1):
            halves = earned.reshape(leaves, -1, 2, 1 << bit)
            halves[:, :, 1] += halves[:, :, 0]
        earned *= values[:, None]
        by_agreement = found[:, feature].reshape(leaves, -1, 2, 1 << feature)
        parts = earned.reshape(leaves, -1, 1 << feature)
        share = shares[:, feature, None, None]
        by_agreement[:, :, 0] = -share * parts
        by_agreement[:, :, 1] = (1.0 - share) * parts
    return found


def _native(booster: xgboost.Booster, matrix: NDArray[np.float32], threads: int) -> Floats:
    """(n, f + 1) XGBoost's own values."""
    import xgboost

    data = xgboost.DMatrix(
        matrix, feature_names=booster.feature_names, feature_types=booster.feature_types, nthread=threads
    )
    return np.asarray(booster.predict(data, pred_contribs=True), dtype=np.float64)
