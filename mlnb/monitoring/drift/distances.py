"""How far two samples lie apart, for the eye: none of these decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Bins", "category_bins", "jensen_shannon", "number_bins", "psi", "psi_of_numbers", "wasserstein"]

Values = np.ndarray[Any, Any]

_BINS = 20
_FEW = 20  # different numbers that each get a bin of their own
_CATEGORIES = 12
_DECILES = np.arange(1, 10) / 10
_TAIL = 0.01  # of the example that the first and the last bin take in


@dataclass(frozen=True, slots=True)
class Bins:
    """Shares of values before and now, bin by bin.

    Attributes
    ----------
    edges : tuple
        Of the bins, one more than there are; or the names of the categories.
    before, now : ndarray of shape (bins,)
        Counts.
    """

    edges: tuple[Any, ...]
    before: Values
    now: Values


def number_bins(before: Values, now: Values) -> Bins:
    """Return bins for a histogram of both samples.

    They are of one width over 98 % of the example; the first and the last take in all beyond. Where the example has at
    most 20 different values, each has a bin of its own, between one for those below and one for those above.

    Parameters
    ----------
    before : ndarray of shape (k,), sorted
    now : ndarray of shape (n,)
    """
    inner = _inner_edges(before)
    width = inner[1] - inner[0]
    low, high = min(before[0], now.min(), inner[0] - width), max(before[-1], now.max(), inner[-1] + width)
    edges = np.concatenate([[low], inner, [high]])
    return Bins(tuple(edges.tolist()), _counts(before, inner), _counts(now, inner))


def _inner_edges(before: Values) -> Values:
    different = np.unique(before)
    if len(different) > _FEW:
        low, high = np.quantile(before, [_TAIL, 1 - _TAIL])
        if high > low:
            return np.linspace(low, high, _BINS - 1)
    gaps = np.diff(different[:_FEW])
    half = (gaps.min() if len(gaps) else max(1.0, abs(different[0]))) / 2
    return np.concatenate([[different[0] - half], different[: len(gaps)] + gaps / 2, [different[len(gaps)] + half]])


def _counts(values: Values, inner: Values) -> Values:
    return np.bincount(np.searchsorted(inner, values, side="left"), minlength=len(inner) + 1)


def category_bins(before: Mapping[Any, int], now: Mapping[Any, int], *, rest: int = 0) -> Bins:
    """Return the counts of the 12 most frequent categories of both samples, and of all others together.

    Parameters
    ----------
    before, now : mapping of value to int
    rest : int
        Values of the example that are none of ``before``.
    """
    known, given = max(1, sum(before.values()) + rest), max(1, sum(now.values()))
    weights = {value: before.get(value, 0) / known + now.get(value, 0) / given for value in {**before, **now}}
    names = sorted(weights, key=lambda value: -weights[value])[:_CATEGORIES]
    counts = [[side.get(name, 0) for name in names] for side in (before, now)]
    others = [sum(before.values()) + rest - sum(counts[0]), sum(now.values()) - sum(counts[1])]
    if any(others):
        names, counts = [*names, "others"], [[*side, other] for side, other in zip(counts, others, strict=True)]
    return Bins(tuple(names), np.array(counts[0]), np.array(counts[1]))


def psi(before: Values, now: Values) -> float:
    """Return the population stability index of counts by bin: the sum of (now - before) * ln(now / before) over shares.

    An empty bin counts as half a value, so that the index stays finite; with no empty bin it is the plain one.
    Customary readings: below 0.1 little, from 0.25 much; but it grows with the bins and with small samples even where
    nothing drifts, by (bins - 1) * (1 / n + 1 / m), and so decides nothing here.

    Examples
    --------
    >>> round(psi(np.array([50, 50]), np.array([40, 60])), 4)
    0.0405
    """
    old, new = (np.maximum(side, 0.5) / max(1, side.sum()) for side in (before, now))
    used = (before > 0) | (now > 0)
    return float(np.sum((new - old)[used] * np.log(new[used] / old[used])))


def psi_of_numbers(before: Values, now: Values) -> float:
    """Return the index over the tenths of the example, which are fewer where a value takes several of them."""
    inner = np.unique(np.quantile(before, _DECILES))
    return psi(_counts(before, inner), _counts(now, inner))


def wasserstein(before: Values, now: Values, *, deviation: float | None) -> float | None:
    """Return ``scipy.stats.wasserstein_distance`` in standard deviations of the example; None where it has none."""
    from scipy.stats import wasserstein_distance

    if not deviation:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        distance = float(wasserstein_distance(before, now) / deviation)
    return distance if np.isfinite(distance) else None


def jensen_shannon(before: Values, now: Values) -> float:
    """Return ``scipy.spatial.distance.jensenshannon`` of counts by bin, to base 2: 0 to 1."""
    from scipy.spatial.distance import jensenshannon

    return float(jensenshannon(before, now, base=2))
