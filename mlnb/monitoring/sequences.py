"""Intervals and tests that stay valid however often one looks, and whenever one stops.

A fixed interval holds at one moment that was chosen beforehand. A confidence sequence holds at all moments together:
the chance that it is wrong even once is at most ``alpha``. All functions take numbers or arrays of one shape.
"""

from __future__ import annotations

from math import lgamma
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.monitoring.tally import Tally

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

__all__ = [
    "LEAST",
    "LEAST_EVENTS",
    "decidable",
    "difference_interval",
    "evidence",
    "exceeds",
    "growth_needed",
    "mean_interval",
    "sample_band",
]

LEAST = 30  # numbers of each arm, before which nothing is said
LEAST_EVENTS = 5  # successes, and failures, that the smaller arm should have had at the rate of both together
_TIGHTEST = 100  # information at which a difference is known best: 400 numbers, shared evenly by two arms
_SKEWED = 15  # numbers: a sample of so few is taken to have half the true spread, as it often misses the tail
_PRIOR = Tally(1, 0.5, 0.25)  # half a success and half a failure: no spread of 0 while nothing has failed yet
_ODDS = (1.5, 2.0, 3.0, 4.5, 7.0, 12.0, 25.0, 100.0)  # by which a rate is above its limit: where evidence is sought
_HALVINGS = 45  # until two rates are one
_GROWTH = np.geomspace(1.0, 1e4, 4000)  # how many times as many outcomes are looked ahead


def difference_interval(base: Tally, other: Tally, *, alpha: float, proportion: bool) -> tuple[Array, Array]:
    """Return the confidence sequence of ``other``'s mean minus ``base``'s.

    Robbins's normal mixture on information time (Howard et al. 2021, "Time-uniform, nonparametric, nonasymptotic
    confidence sequences"), with an estimated variance (Waudby-Smith et al. 2024, "Time-uniform central limit theory
    and asymptotic confidence sequences"). The variance is the larger one of the pooled estimate, which holds if the
    arms are alike, and Welch's, which holds if they are not: one of them is too small by chance when data are skewed
    or rare, and seldom both. Narrowest, for its number of outcomes, at 400 outcomes shared evenly.

    Parameters
    ----------
    base, other : Tally
    alpha : float
        The chance that the interval is ever wrong.
    proportion : bool
        Whether the numbers lie between 0 and 1, and most of them at the ends.

    Returns
    -------
    low, high : ndarray or float
        Infinite where :func:`decidable` does not hold.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = np.sqrt(_variance(base, other, proportion=proportion))
        radius = radius * _boundary(_information(base, other), alpha=alpha, tightest=_TIGHTEST)
    radius = np.where(decidable(base, other, proportion=proportion), radius, np.inf)
    difference = np.asarray(other.mean) - base.mean
    low, high = difference - radius, difference + radius
    return (np.maximum(low, -1.0), np.minimum(high, 1.0)) if proportion else (low, high)


def mean_interval(tally: Tally, *, alpha: float, proportion: bool) -> tuple[Array, Array]:
    """Return the confidence sequence of one arm's mean.

    Of shares it is exact: the rates that a uniform mixture of rates does not refute (Robbins 1970, "Statistical methods
    related to the law of the iterated logarithm"). Of other numbers it is as in :func:`difference_interval`, narrowest
    at 200 outcomes, and infinite before there are 30. The parameters are as there, too.
    """
    if proportion:
        return _rates(np.asarray(tally.count), np.asarray(tally.mean), alpha=alpha)
    count = np.asarray(tally.count)
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = np.sqrt(_spread(tally, proportion=False) / count)
        radius = radius * _boundary(count, alpha=alpha, tightest=2 * _TIGHTEST)
    radius = np.where(count >= LEAST, radius, np.inf)
    return tally.mean - radius, tally.mean + radius


def decidable(base: Tally, other: Tally, *, proportion: bool) -> Array:
    """Say whether there is enough for a normal distribution to describe the difference."""
    fewest = np.minimum(base.count, other.count)
    if not proportion:
        return np.asarray(fewest >= LEAST)
    return np.asarray((fewest >= LEAST) & (_events(base, other) >= LEAST_EVENTS))


def growth_needed(base: Tally, other: Tally, *, alpha: float, proportion: bool) -> float | None:
    """Return how many times as many outcomes would be decisive, if the difference and the spread stay as they are.

    Returns
    -------
    float or None
        1 or more; None if 10,000 times as many would not do, or either arm has fewer than two.
    """
    if min(base.count, other.count) < 2:  # noqa: PLR2004 - no spread yet
        return None
    variance = _variance(base, other, proportion=proportion) / _GROWTH
    reached = _boundary(_information(base, other) * _GROWTH, alpha=alpha, tightest=_TIGHTEST) ** 2 * variance
    enough = (other.mean - base.mean) ** 2 > reached
    enough &= min(base.count, other.count) * _GROWTH >= LEAST
    if proportion:
        enough &= _events(base, other) * _GROWTH >= LEAST_EVENTS
    return float(_GROWTH[np.argmax(enough)]) if enough.any() else None


def evidence(count: Any, total: Any, *, limit: float) -> Array:
    """Return the logarithm of the e-value against "each of ``total`` had a chance of at most ``limit``".

    A mixture of likelihood ratios over rates above the limit, from 1.5 to 100 times its odds; it is a supermartingale
    if the rate is at or under the limit, so it ever reaches 1 / alpha with a chance of at most alpha (Ville 1939).
    """
    count, total = np.asarray(count)[..., None], np.asarray(total)[..., None]
    odds = limit / (1 - limit) * np.asarray(_ODDS)
    rates = odds / (1 + odds)
    logs = count * np.log(rates / limit) + (total - count) * np.log((1 - rates) / (1 - limit))
    return np.asarray(np.logaddexp.reduce(logs, axis=-1) - np.log(len(_ODDS)))


def exceeds(count: Any, total: Any, *, limit: float, alpha: float) -> Any:
    """Say whether it is evident that the rate is above ``limit``, at any look, with a chance of alpha to be wrong once.

    Parameters
    ----------
    count, total : int
        How many of how many.
    limit : float
        A share. 0 allows none, so one is evident; 1 allows all.
    alpha : float

    Examples
    --------
    >>> bool(exceeds(3, 3, limit=0.05, alpha=0.01)), bool(exceeds(9, 40, limit=0.05, alpha=0.01))
    (True, True)
    >>> bool(exceeds(6, 100, limit=0.05, alpha=0.01))
    False
    """
    if not 0 < limit < 1:
        return np.asarray(count) > limit * np.asarray(total)
    return evidence(count, total, limit=limit) >= -np.log(alpha)


def sample_band(count: Any, *, alpha: float) -> Array:
    """Return how far a sample's distribution function may be from the true one, at any look.

    Howard and Ramdas 2022, "Sequential estimation of quantiles with applications to A/B testing and best-arm
    identification", corollary 2 with m = 1.
    """
    count = np.asarray(count, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.log(1 + np.log(count)) + 0.8 * np.log(1612 / alpha)
        return np.asarray(np.where(count > 0, np.minimum(1.0, 0.85 * np.sqrt(inside / count)), 1.0))


def _rates(count: Array, mean: Array, *, alpha: float) -> tuple[Array, Array]:
    """Return the lowest and the highest rate that is not refuted, by bisection."""
    mean = np.clip(mean, 0.0, 1.0)
    right, wrong = count * mean, count * (1 - mean)
    least = _log_gamma(right + 1) + _log_gamma(wrong + 1) - _log_gamma(count + 2) + np.log(alpha)
    refuted = np.stack([np.zeros_like(mean), np.ones_like(mean)])
    kept = np.stack([mean, mean])
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_HALVINGS):
            rate = (refuted + kept) / 2
            holds = right * np.log(rate) + wrong * np.log1p(-rate) > least
            refuted, kept = np.where(holds, refuted, rate), np.where(holds, rate, kept)
    return refuted[0], refuted[1]


def _log_gamma(values: Array) -> Array:
    return np.asarray(np.frompyfunc(lgamma, 1, 1)(values), float)


def _boundary(information: Any, *, alpha: float, tightest: float) -> Array:
    """Return how many standard errors the normal mixture allows; ``tightest`` is where it allows fewest, about."""
    decisive = -2 * np.log(alpha)
    time = np.asarray(information) / tightest * (decisive + np.log1p(decisive))
    return np.asarray(np.sqrt((1 + 1 / time) * (np.log1p(time) + decisive)))


def _information(base: Tally, other: Tally) -> Array:
    return np.asarray(base.count) / (base.count + other.count) * other.count


def _variance(base: Tally, other: Tally, *, proportion: bool) -> Array:
    """Return the variance of the difference of the means."""
    pooled = _spread(base.merge(other), proportion=proportion) / _information(base, other)
    welch = sum(_spread(one, proportion=proportion) / one.count for one in (base, other))
    return np.asarray(np.maximum(pooled, welch))


def _spread(tally: Tally, *, proportion: bool) -> Any:
    if not proportion:
        count = np.asarray(tally.count)
        return tally.m2 / (count - 1) * (1 + _SKEWED / count)
    smoothed = tally.merge(_PRIOR)
    return smoothed.m2 / np.asarray(smoothed.count)


def _events(base: Tally, other: Tally) -> Array:
    """Return how many successes or failures, whichever are rarer, the smaller arm had at the rate of both."""
    rate = base.merge(other).mean
    return np.asarray(np.minimum(base.count, other.count) * np.minimum(rate, 1 - np.asarray(rate)))
