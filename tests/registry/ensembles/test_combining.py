from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from mlnb.registry.ensembles.combining import columns, is_distribution, mixture_weights, regression_weights, vote


@given(seed=st.integers(0, 10_000), members=st.integers(2, 5))
def test_regression_weights_are_the_best_of_the_simplex(seed: int, members: int) -> None:
    rng = np.random.default_rng(seed)
    values, target = rng.normal(size=(members, 30)), rng.normal(size=30)
    found = regression_weights(values, target)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1)

    def error(weights: Any) -> float:
        return float(((weights @ values - target) ** 2).sum())

    best = minimize(
        error, np.full(members, 1 / members), bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
    )  # fmt: skip
    assert error(found) <= best.fun * (1 + 1e-6)


@given(seed=st.integers(0, 10_000), members=st.integers(2, 5))
def test_mixture_weights_have_the_highest_likelihood(seed: int, members: int) -> None:
    """At the maximum no member alone would raise it: the mean ratio of its chances to the mixture's is at most 1."""
    chances = np.random.default_rng(seed).uniform(0.01, 1, size=(members, 40))
    found = mixture_weights(chances)
    assert found.sum() == pytest.approx(1)
    ratios = (chances / (found @ chances)).mean(axis=1)
    assert ratios.max() <= 1 + 1e-3


def test_weights_of_members_that_know_nothing_or_all() -> None:
    target = np.array([1.0, 2.0, 4.0])
    assert regression_weights(np.array([target, target + 1]), target).tolist() == [1, 0]
    assert regression_weights(np.array([target, target]), target).sum() == 1
    assert mixture_weights(np.zeros((2, 3))).tolist() == [0.5, 0.5]
    assert mixture_weights(np.array([[0.0, 0.5], [0.0, 0.5]])).tolist() == [0.5, 0.5]


def test_a_tie_goes_to_the_first_class() -> None:
    places = [np.array([2, 0]), np.array([1, 0]), np.array([0, 1])]
    assert vote(places, 3).tolist() == [0, 0]
    assert vote(places, 3, weights=[1, 0.5, 0.5]).tolist() == [2, 0]
    assert vote(places, 3, weights=[0.1, 0.2, 0.3]).tolist() == [0, 0]


def test_columns_for_a_final_estimator() -> None:
    two, three = np.array([[0.25, 0.75]]), np.array([[0.5, 0.25, 0.25]])
    assert columns([(two, True), (three, True), (np.array([7]), False), (two, False)]).tolist() == [
        [0.75, 0.5, 0.25, 0.25, 7, 0.25, 0.75]
    ]


@pytest.mark.parametrize(
    ("table", "is_one"), [([[0.5, 0.5]], True), ([[0.5, 0.6]], False), ([[1.5, -0.5]], False), ([[np.nan, 1]], False)]
)
def test_rows_of_probabilities(table: list[list[float]], is_one: bool) -> None:
    assert is_distribution(np.array(table)) is is_one
