"""What several answers make together, and which weights suit them: arithmetic alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["columns", "is_distribution", "mean", "median", "mixture_weights", "regression_weights", "vote"]

Array = np.ndarray[Any, Any]

_TABLE, _BINARY = 2, 2  # axes, classes
_SLACK = 1e-3  # of probabilities in float16 and float32
_STEPS, _SETTLED = 10_000, 1e-10


def vote(places: Sequence[Array], classes: int, *, weights: Sequence[float] | None = None) -> Array:
    """Return the class that most members, or those of most weight, are for; the first one of a tie.

    Parameters
    ----------
    places : sequence of ndarray of shape (n,)
        The class of each row, as a number from 0, by member.
    classes : int
    weights : sequence of float, optional

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> vote([np.array([0, 2]), np.array([1, 2]), np.array([1, 0])], 3).tolist()
    [1, 2]
    """
    votes = np.zeros((len(places[0]), classes))
    rows = np.arange(len(votes))
    for member, chosen in enumerate(places):
        votes[rows, chosen] += 1.0 if weights is None else weights[member]
    return np.asarray(votes.argmax(axis=1))


def mean(answers: Sequence[Array], *, weights: Sequence[float] | None = None) -> Array:
    """Return the mean of the members' answers, in the very order of operations that scikit-learn has.

    Parameters
    ----------
    answers : sequence of ndarray of shape (n,) or (n, k)
    weights : sequence of float, optional
        They need not add up to 1.
    """
    stacked = np.asarray(answers)
    if stacked.ndim == _TABLE:  # the layout of VotingRegressor, on which the last digit depends
        return np.asarray(np.average(stacked.T, axis=1, weights=weights))
    return np.asarray(np.average(stacked, axis=0, weights=weights))


def median(answers: Sequence[Array]) -> Array:
    """Return the median of the members' answers, value by value."""
    return np.asarray(np.median(np.asarray(answers), axis=0))


def columns(answers: Sequence[tuple[Array, bool]]) -> Array:
    """Return the members' answers as the features of a final estimator, laid out as scikit-learn's stacking does.

    Parameters
    ----------
    answers : sequence of (ndarray of shape (n,) or (n, k), bool)
        The answers of each member, and whether they are probabilities. Those of two classes are one column: the
        second.
    """
    return np.hstack([_columns(answer, probabilities=probabilities) for answer, probabilities in answers])


def _columns(answer: Array, *, probabilities: bool) -> Array:
    if answer.ndim == 1:
        return answer.reshape(-1, 1)
    return answer[:, 1:] if probabilities and answer.shape[1] == _BINARY else answer


def is_distribution(table: Array) -> bool:
    """Say whether each row of ``table``, ``(n, classes)``, is non-negative and adds up to 1."""
    return bool((table >= 0).all() and (np.abs(table.sum(axis=1) - 1) <= _SLACK).all())


def mixture_weights(chances: Array) -> Array:
    """Return the weights of a mixture under which the true labels are most likely, by expectation maximisation.

    Parameters
    ----------
    chances : ndarray of shape (members, n)
        The probability that each member gave to the true label of each row. Rows that no member thought possible say
        nothing, and are left out.

    Returns
    -------
    ndarray of shape (members,)
        Not negative, with sum 1. The likelihood has one maximum only, so the start does not matter (Dempster, Laird
        and Rubin 1977, section 4.3).

    Examples
    --------
    >>> mixture_weights(np.array([[0.9, 0.8], [0.1, 0.3]])).round(3).tolist()
    [1.0, 0.0]
    """
    known = chances[:, chances.any(axis=0)].astype(np.float64)
    weights = np.full(len(chances), 1 / len(chances))
    for _ in range(_STEPS if known.size else 0):
        shares = weights[:, None] * known
        new = (shares / shares.sum(axis=0)).mean(axis=1)
        settled = np.abs(new - weights).max() < _SETTLED
        weights = new
        if settled:
            break
    return np.asarray(weights / weights.sum())


def regression_weights(values: Array, target: Array) -> Array:
    """Return the weights under which the weighted mean has the least squared error.

    Parameters
    ----------
    values : ndarray of shape (members, n)
    target : ndarray of shape (n,)

    Returns
    -------
    ndarray of shape (members,)
        Not negative, with sum 1: the point of the members' errors' hull that is nearest to 0. Found by non-negative
        least squares with a row of ones, whose solution is that point but for its length (Lawson and Hanson 1974,
        chapter 23).

    Examples
    --------
    >>> regression_weights(np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]), np.array([1.5, 2.5, 3.5])).round(6).tolist()
    [0.75, 0.25]
    """
    errors = (values - target).T.astype(np.float64)
    scale = np.sqrt(np.mean(errors**2)) * np.sqrt(len(errors))
    system = np.vstack([errors / (scale or 1.0), np.ones(len(values))])
    wanted = np.append(np.zeros(len(errors)), 1.0)
    found = _non_negative(system, wanted)
    return np.asarray(found / found.sum())


def _non_negative(system: Array, wanted: Array) -> Array:
    """Return the least-squares solution without negative parts (Lawson and Hanson, algorithm NNLS)."""
    count = system.shape[1]
    solution, free = np.zeros(count), np.zeros(count, dtype=bool)
    for _ in range(10 * count):
        gradient = np.where(free, -np.inf, system.T @ (wanted - system @ solution))
        if gradient.max() <= _SETTLED:
            break
        free[gradient.argmax()] = True
        solution = _feasible(system, wanted, solution, free)
    return solution


def _feasible(system: Array, wanted: Array, solution: Array, free: Array) -> Array:
    """Go from ``solution`` towards the best one of the free parts; parts that would be negative on the way are fixed.

    ``free`` is changed.
    """
    while True:
        best = np.zeros_like(solution)
        best[free] = np.linalg.lstsq(system[:, free], wanted, rcond=None)[0]
        if (best[free] > 0).all():
            return best
        stops = free & (best <= 0)
        step = (solution[stops] / (solution[stops] - best[stops])).min()
        solution = solution + step * (best - solution)
        free &= solution > _SETTLED
        solution[~free] = 0
