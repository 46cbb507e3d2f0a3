from __future__ import annotations

import pickle
from collections.abc import Callable
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.monitoring.sketch import RELATIVE_ACCURACY, Sketch

QUANTILES = [0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0]
RNG = np.random.default_rng(7)
DISTRIBUTIONS = {
    "uniform": RNG.uniform(0.5, 100.0, 20_000),
    "log-normal": RNG.lognormal(0.0, 1.5, 20_000),
    "bimodal": np.concatenate([RNG.normal(2.0, 0.1, 10_000), RNG.normal(900.0, 20.0, 10_000)]),
    "constant": np.full(20_000, 3.3),
    "negative": -RNG.lognormal(2.0, 1.0, 20_000),
}


@pytest.mark.parametrize("values", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_quantiles_are_within_one_per_cent_of_numpys(values: np.ndarray[Any, Any]) -> None:
    found = Sketch(values.tolist()).quantiles(*QUANTILES)
    assert found == pytest.approx(np.quantile(values, QUANTILES).tolist(), rel=RELATIVE_ACCURACY)


@pytest.mark.parametrize("values", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_merged_equals_unmerged(values: np.ndarray[Any, Any]) -> None:
    merged = Sketch()
    for part in np.array_split(values, 17):
        merged.merge(Sketch(part.tolist()))
    whole = Sketch(values.tolist())
    assert merged.quantiles(*QUANTILES) == whole.quantiles(*QUANTILES)
    assert merged.buckets == whole.buckets
    assert merged.total == pytest.approx(whole.total)


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=60), st.sampled_from(QUANTILES))
def test_any_quantile_of_any_values_lies_between_its_neighbours(values: list[float], quantile: float) -> None:
    found = Sketch(values).quantile(quantile)
    below = np.quantile(values, quantile, method="lower")
    above = np.quantile(values, quantile, method="higher")
    assert found is not None
    slack = RELATIVE_ACCURACY * max(abs(below), abs(above)) + 1e-9
    assert below - slack <= found <= above + slack


@given(st.lists(st.floats(1e-9, 1e9), max_size=40))
def test_the_quick_ways_count_as_the_slow_one(values: list[float]) -> None:
    slow, quick, many = Sketch(values), Sketch(), Sketch()
    quick.add_positive(values)
    many.add(np.array(values * 20))
    assert quick == slow
    assert many.count == 20 * slow.count
    assert set(many.buckets) == set(slow.buckets)


def test_what_is_not_finite_is_counted_as_missing() -> None:
    for repeated in (1, 100):  # one by one, and as an array
        sketch = Sketch([1.0, nan, inf, -inf, 2.0] * repeated)
        assert (sketch.count, sketch.missing) == (2 * repeated, 3 * repeated)
        assert sketch.quantile(1.0) == 2.0


def test_its_memory_is_bounded_whatever_the_values() -> None:
    sketch = Sketch(np.concatenate([10.0 ** RNG.uniform(-300, 300, 50_000), -(10.0 ** RNG.uniform(-300, 300, 50_000))]))
    assert len(sketch.buckets) < 8300
    assert sketch.quantile(1.0) == sketch.largest


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_very_small_and_very_large_values_have_quantiles_too(scale: float) -> None:
    values = RNG.lognormal(0.0, 2.0, 1000) * scale
    assert Sketch(values).quantiles(0.5, 0.95) == pytest.approx(np.quantile(values, [0.5, 0.95]), rel=0.01, abs=0)


def test_values_beyond_its_range_lie_between_the_smallest_and_the_largest() -> None:
    sketch = Sketch([1e-20, 1e-19, 1.0, 1e19, 1e20])
    assert (sketch.quantile(0.0), sketch.quantile(1.0)) == (1e-20, 1e20)
    assert sketch.quantiles(0.25, 0.5, 0.75) == pytest.approx((0.0, 1.0, 1e18), rel=0.01, abs=1e-18)


@pytest.mark.parametrize("size", [3, 3000])  # few buckets, and so many that numpy sums them
def test_a_sum_has_counted_what_all_have(size: int) -> None:
    parts = [Sketch(RNG.lognormal(0, 3, size) * (-1) ** number) for number in range(20)] + [Sketch([nan]), Sketch()]
    merged = Sketch()
    for part in parts:
        merged.merge(part)
    whole = Sketch.sum(parts)
    assert whole == merged
    assert whole.quantiles(*QUANTILES) == merged.quantiles(*QUANTILES)
    whole.add([5.0])
    assert sum(part.count for part in parts) == merged.count == whole.count - 1


@pytest.mark.parametrize(
    "change",
    [
        lambda sketch: sketch.add([1e6]),
        lambda sketch: sketch.add(np.full(500, 1e10)),
        lambda sketch: sketch.add_positive([1e7]),
        lambda sketch: sketch.add_repeated(1e8, 2),
        lambda sketch: sketch.merge(Sketch([1e9])),
    ],
)
def test_a_sum_and_a_pickle_hold_what_was_counted_last(change: Callable[[Sketch], None]) -> None:
    sketch = Sketch(RNG.lognormal(0, 3, 3000))
    sketch.packed()
    change(sketch)
    assert Sketch.sum([sketch]) == pickle.loads(pickle.dumps(sketch)) == sketch
    assert sketch.quantile(1.0) == sketch.largest > 1e5


def test_it_counts_what_is_at_most_a_limit() -> None:
    values = RNG.uniform(0.0, 10.0, 10_000)
    found = Sketch(values).below([0.5, 1.0, 5.0, 20.0])
    assert found == pytest.approx([(values <= limit).sum() for limit in (0.5, 1.0, 5.0, 20.0)], rel=0.03)


def test_it_goes_to_another_process() -> None:
    sketch = Sketch([1.0, -2.0, nan])
    assert pickle.loads(pickle.dumps(sketch)) == sketch
