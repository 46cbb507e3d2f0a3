from __future__ import annotations

import pickle
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
    assert len(sketch.buckets) < 5600
    assert sketch.quantile(1.0) == sketch.largest


def test_it_counts_what_is_at_most_a_limit() -> None:
    values = RNG.uniform(0.0, 10.0, 10_000)
    found = Sketch(values).below([0.5, 1.0, 5.0, 20.0])
    assert found == pytest.approx([(values <= limit).sum() for limit in (0.5, 1.0, 5.0, 20.0)], rel=0.03)


def test_it_goes_to_another_process() -> None:
    sketch = Sketch([1.0, -2.0, nan])
    assert pickle.loads(pickle.dumps(sketch)) == sketch
