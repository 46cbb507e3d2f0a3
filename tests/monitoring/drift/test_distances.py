from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from mlnb.monitoring.drift.distances import (
    category_bins,
    jensen_shannon,
    number_bins,
    psi,
    psi_of_numbers,
    wasserstein,
)  # fmt: skip

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60).map(np.array)


@given(numbers, numbers)
def test_every_number_is_in_one_bin(before: np.ndarray, now: np.ndarray) -> None:
    bins = number_bins(np.sort(before), now)
    assert len(bins.edges) == len(bins.before) + 1 == len(bins.now) + 1
    assert bins.before.sum() == len(before)
    assert bins.now.sum() == len(now)
    assert list(bins.edges) == sorted(bins.edges)


def test_few_different_numbers_have_bins_of_their_own() -> None:
    bins = number_bins(np.array([0.0, 0.0, 1.0, 3.0]), np.array([-5.0, 1.0, 1.0, 9.0]))
    assert bins.before.tolist() == [0, 2, 1, 1, 0]
    assert bins.now.tolist() == [1, 0, 2, 0, 1]
    assert bins.edges == (-5.0, -0.5, 0.5, 2.0, 3.5, 9.0)


def test_a_constant_has_a_bin_between_two_empty_ones() -> None:
    assert number_bins(np.full(5, 7.0), np.full(3, 7.0)).before.tolist() == [0, 5, 0]


def test_an_outlier_does_not_flatten_the_others() -> None:
    before = np.sort(np.append(np.random.default_rng(0).normal(size=1000), 1e9))
    assert number_bins(before, before).before.max() < 200


def test_psi_is_the_plain_one_where_no_bin_is_empty() -> None:
    old, new = np.array([10, 20, 70]), np.array([30, 30, 140])
    share, other = old / 100, new / 200
    assert psi(old, new) == pytest.approx(np.sum((other - share) * np.log(other / share)))


def test_psi_stays_finite_and_grows_where_a_bin_is_empty() -> None:
    assert 0 < psi(np.array([50, 50, 0]), np.array([50, 45, 5])) < psi(np.array([100, 0]), np.array([0, 100])) < 20


def test_psi_of_numbers_goes_by_the_tenths_of_the_example() -> None:
    before, now = np.arange(1000.0), np.arange(500.0, 1500.0)
    inner = np.quantile(before, np.arange(1, 10) / 10)
    counts = [np.histogram(values, [-np.inf, *inner, np.inf])[0] for values in (before, now)]
    assert psi_of_numbers(before, now) == pytest.approx(psi(*counts))
    assert psi_of_numbers(np.zeros(10), np.zeros(5)) == 0.0


def test_wasserstein_is_scipys_own_in_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(3, 2, 500), rng.normal(4, 2, 300)
    own = stats.wasserstein_distance(old, new) / old.std()
    assert wasserstein(old, new, deviation=float(old.std())) == pytest.approx(own)
    assert wasserstein(old, new, deviation=0.0) is None
    assert wasserstein(np.array([-1e308]), np.array([1e308]), deviation=1e-300) is None


def test_jensen_shannon_is_scipys_own() -> None:
    old, new = np.array([3, 5, 2]), np.array([30, 10, 60])
    assert jensen_shannon(old, new) == jensenshannon(old / 10, new / 100, base=2)
    assert jensen_shannon(np.array([1, 0]), np.array([0, 1])) == pytest.approx(1.0)


def test_categories_beyond_the_twelve_most_frequent_are_others() -> None:
    bins = category_bins({f"c{at}": 100 - at for at in range(14)}, {"c0": 50, "new": 50}, rest=7)
    assert bins.edges[:2] == ("c0", "new")
    assert bins.edges[-1] == "others"
    assert bins.before.sum() == sum(range(87, 101)) + 7
    assert bins.now.tolist()[:2] == [50, 50]
