"""Confidence intervals at 95 %: how far a figure may be off, because only so many labels came.

All of them take it that one row says nothing of another. They hold for one look at one window; whoever acts on what he
sees at any time wants an experiment's confidence sequences.
"""

from __future__ import annotations

from math import exp, isfinite, log, log1p, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

__all__ = ["f1_interval", "mean_interval", "on_log_scale", "on_logit_scale", "wilson"]

_Z = 1.959963984540054  # 97.5 % of the normal distribution
_LEAST = 1e-300  # what has a logarithm


def wilson(successes: Any, count: Any) -> tuple[Any, Any]:
    """Return the interval of a share (Wilson 1927, "Probable inference, the law of succession").

    Parameters
    ----------
    successes, count : float or ndarray
        ``count`` is above 0.

    Examples
    --------
    >>> low, high = wilson(90, 100)
    >>> round(float(low), 3), round(float(high), 3)
    (0.826, 0.945)
    """
    share, weight = successes / count, _Z**2 / count
    middle = (share + weight / 2) / (1 + weight)
    radius = np.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return np.maximum(middle - radius, 0.0), np.minimum(middle + radius, 1.0)


def f1_interval(hits: int, misses: int) -> tuple[float, float]:
    """Return the interval of an F1 score.

    Wilson's interval of the share hits / (hits + misses), which is F1 / (2 - F1), turned back: the "Wilson indirect"
    method of Lam, Gopal and Qian 2023, "Confidence intervals for the F1 score" (arXiv:2309.14621).

    Parameters
    ----------
    hits : int
        True positives.
    misses : int
        False positives and false negatives.
    """
    low, high = wilson(hits, hits + misses)
    return float(2 * low / (1 + low)), float(2 * high / (1 + high))


def mean_interval(values: Array) -> tuple[float, float]:
    """Return the interval of the mean of numbers that are not below 0, by Student's t on the scale of logarithms.

    The numbers are losses, skewed to the right; the logarithm of their mean is nearer to normal (delta method).

    Parameters
    ----------
    values : ndarray of shape (n,)
    """
    count = len(values)
    return on_log_scale(float(values.mean()), float(values.std(ddof=1)) / sqrt(count), count)


def on_log_scale(value: float, error: float, count: int) -> tuple[float, float]:
    """Return the interval of a number above 0 by its standard error (delta method, Student's t).

    Parameters
    ----------
    value, error : float
    count : int
        Rows.
    """
    if value <= 0:
        return 0.0, 0.0
    radius = min(_student(count) * error / value, -log(_LEAST))
    return value * exp(-radius), value * exp(radius)


def on_logit_scale(value: float, error: float, count: float) -> tuple[float, float]:
    """Return the interval of a number between 0 and 1 by its standard error (delta method on the log-odds).

    At 0 and 1, where the rows show no spread, it is Wilson's interval of as many rows.

    Parameters
    ----------
    value, error : float
    count : float
        Rows.
    """
    spread = value * (1 - value)
    if not (spread > 0 and error > 0 and isfinite(error)):
        low, high = wilson(value * count, count)
        return float(low), float(high)
    odds, radius = log(value) - log1p(-value), _student(count) * error / spread
    return 1 / (1 + exp(min(radius - odds, 700.0))), 1 / (1 + exp(min(-radius - odds, 700.0)))


def _student(count: float) -> float:
    """Return 97.5 % of Student's t with ``count - 1`` degrees of freedom.

    Fisher's expansion (Abramowitz and Stegun 26.7.5): 0.0003 off at 9 degrees, less above, and needs no scipy, whose
    import would hold up a server.
    """
    degrees, z = max(count - 1, 1.0), _Z
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3
