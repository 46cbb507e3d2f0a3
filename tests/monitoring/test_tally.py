from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.monitoring.tally import Tally

NUMBERS = st.lists(st.floats(-1e6, 1e6), max_size=50)


def tally_of(values: list[float]) -> Tally:
    tally = Tally()
    for value in values:
        tally = tally.add(value)
    return tally


@given(NUMBERS.filter(len))
def test_it_has_the_mean_and_the_variance_of_its_numbers(values: list[float]) -> None:
    tally = tally_of(values)
    assert tally.count == len(values)
    assert tally.mean == pytest.approx(np.mean(values), abs=1e-6)
    assert tally.m2 == pytest.approx(np.var(values) * len(values), rel=1e-6, abs=1e-2)


@given(NUMBERS, NUMBERS)
def test_two_merged_are_one_of_all(some: list[float], others: list[float]) -> None:
    merged, whole = tally_of(some).merge(tally_of(others)), tally_of(some + others)
    assert merged.count == whole.count
    assert merged.mean == pytest.approx(whole.mean, abs=1e-6)
    assert merged.m2 == pytest.approx(whole.m2, rel=1e-6, abs=1e-2)


def test_the_variance_needs_two_numbers() -> None:
    assert np.isnan(Tally().variance)
    assert np.isnan(Tally().add(3.0).variance)
    assert tally_of([1.0, 3.0]).variance == 2.0
