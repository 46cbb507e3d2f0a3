"""How often drift is raised where there is none, and found where there is: what the test and the benchmark measure.

Five data sets of scikit-learn, four ways to draw windows. A window of 1,000 rows of a set that has fewer repeats rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from typing import Any

import numpy as np
from sklearn import datasets

from mlnb.monitoring.drift import DriftReport, assess
from mlnb.registry.rows.baseline import Baseline, column_values, make_baseline
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature

SETS = ("iris", "wine", "breast_cancer", "digits", "diabetes")
WAYS = ("bootstrap", "halves", "halves, resampled", "a quarter held out, resampled")
ROWS = 1_000
_SIZES = (50, 100, 200, 500, 1_000)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Draw:
    """A baseline, and the rows that windows without drift are drawn from."""

    signature: Signature
    baseline: Baseline
    rest: Array

    def window(self, size: int | None, rng: np.random.Generator) -> Array:
        """Return rows with repeats, or for None all there are."""
        return self.rest.copy() if size is None else self.rest[rng.integers(len(self.rest), size=size)]

    def report(self, rows: Array) -> DriftReport:
        values = self.signature.check(rows)
        return assess(self.baseline, column_values(self.signature, values))


@cache
def data(name: str) -> Array:
    return np.asarray(getattr(datasets, f"load_{name}")().data)


def draws(name: str, way: str, *, count: int, rng: np.random.Generator) -> Iterator[Draw]:
    rows = data(name)
    for _ in range(count):
        before, rest = _split(rows[rng.permutation(len(rows))], way)
        signature = infer_signature(None, before)
        baseline = make_baseline(signature, signature.check(before))
        assert baseline is not None
        yield Draw(signature, baseline, rest)


def _split(rows: Array, way: str) -> tuple[Array, Array]:
    if way == "bootstrap":
        return rows, rows
    held = len(rows) // 4 if way.startswith("a quarter") else len(rows) // 2
    return rows[held:], rows[:held]


def raised(name: str, way: str, *, count: int, seed: int = 0) -> int:
    """Return how many windows of 50 to 1,000 rows raise anything; those of halves have the rows that there are."""
    rng = np.random.default_rng(seed)
    sizes = cycle([None] if way == "halves" else _SIZES)
    pairs = zip(draws(name, way, count=count, rng=rng), sizes)  # noqa: B905 - the sizes never end
    return sum(bool(draw.report(draw.window(size, rng)).drifted) for draw, size in pairs)


def found(way: str, *, count: int, seed: int = 1) -> int:
    """Return in how many windows the column that moved by half a deviation is named, and first; each in turn."""
    rng, deviations = np.random.default_rng(seed), data("breast_cancer").std(axis=0)
    hits = 0
    for at, draw in enumerate(draws("breast_cancer", way, count=count, rng=rng)):
        column = at % len(deviations)
        moved = draw.window(None if way == "halves" else ROWS, rng)
        moved[:, column] += deviations[column] / 2
        hits += draw.report(moved).drifted[:1] == (f"x{column}",)
    return hits
