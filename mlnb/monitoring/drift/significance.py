"""Two samples compared: scipy's tests, how much repeated rows are worth, and what is left over many columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Evidence", "adjusted", "chi_square", "effective_rows", "kolmogorov_smirnov"]

Values = np.ndarray[Any, Any]

_RARE = 0.01  # chance that two rows are the same below which repeats are requests sent again
_MOST_EXACT = 10_000  # values up to which ks_2samp goes through all orders by default
_NEARLY_ONE = 0.999  # p-values beyond which it warns that rounding went wrong
_FEWEST_EXPECTED = 5  # values in a cell of a table, as chi-square needs


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a test says.

    Attributes
    ----------
    statistic, p_value : float
        As scipy has them, of all values.
    counted : float
        The p-value with as many values as there are different rows.
    effect : float
        0 to 1.
    """

    statistic: float
    p_value: float
    counted: float
    effect: float


def effective_rows(rows: int, repeats: float, *, before: float) -> float:
    """Return how many independent rows are worth as much as these, of which some are sent again and again.

    A mean over n rows drawn of K varies as one over n / (1 + n / K) rows does (Kish's design effect). Where the
    example's own rows repeat often, as those of a few categories do, nothing can be told from repeats, and each counts.

    Parameters
    ----------
    rows : int
    repeats, before : float
        How likely two rows are the same one, 1 / K, now and in the example; see
        :func:`~mlnb.registry.rows.baseline.repeats`.

    Examples
    --------
    >>> round(effective_rows(1000, 0.01, before=0.0)), effective_rows(1000, 0.5, before=0.5)
    (91, 1000.0)
    """
    if before >= _RARE:
        return float(rows)
    return rows / (1 + (rows - 1) * max(0.0, repeats - before))


def kolmogorov_smirnov(before: Values, now: Values, *, known: int, weight: float) -> Evidence:
    """Compare two samples of numbers by ``scipy.stats.ks_2samp``.

    Parameters
    ----------
    before : ndarray of shape (k,)
        All values of the example, or some at evenly spaced ranks.
    now : ndarray of shape (n,)
    known : int
        Values of the example; if more than ``before`` has, the asymptotic p-value is that of as many.
    weight : float
        Independent rows over rows, at most 1.
    """
    from scipy.stats import ks_2samp, kstwo

    found = ks_2samp(before, now, method="asymp")
    if found.pvalue < _NEARLY_ONE and max(len(before), len(now)) <= _MOST_EXACT:
        found = ks_2samp(before, now, method="exact")
    distance, p_value = float(found.statistic), float(found.pvalue)

    def asymptotic(count: float) -> float:  # as ks_2samp itself has it
        return float(kstwo.sf(distance, max(1, round(known * count / (known + count)))))

    if known > len(before):
        p_value = asymptotic(len(now))
    counted = p_value if weight >= 1 else asymptotic(max(1.0, weight * len(now)))
    return Evidence(distance, p_value, max(p_value, counted), distance)


def chi_square(before: Sequence[int], now: Sequence[int], *, weight: float, rest: bool = False) -> Evidence:
    """Compare counts of the same categories by ``scipy.stats.chi2_contingency``.

    Categories of which fewer than five values are expected on either side are counted together. The effect is
    Cramér's V of the shares, as if both samples were of one size: V of the counts is the smaller the more one sample
    outnumbers the other.

    Parameters
    ----------
    before, now : sequence of int
    weight : float
        Independent rows over rows, at most 1.
    rest : bool
        Whether the last counts are of all categories that were too rare in the example to be listed. Those are joined
        with the rare ones that were listed, which came out on top by chance.
    """
    from scipy.stats import chi2_contingency

    table = _pooled(np.array([before, now], dtype=np.float64), rest=rest)
    if table.shape[1] < 2:  # noqa: PLR2004 - all are of one category
        return Evidence(0.0, 1.0, 1.0, 0.0)
    found = chi2_contingency(table)
    shares = chi2_contingency(table / table.sum(axis=1, keepdims=True), correction=False)
    p_value = float(found.pvalue)
    counted = p_value if weight >= 1 else float(chi2_contingency(table * [[1.0], [weight]]).pvalue)
    effect = float(np.sqrt(shares.statistic / 2))  # of two shares of one each
    return Evidence(float(found.statistic), p_value, max(p_value, counted), min(1.0, effect))


def _pooled(table: Values, *, rest: bool) -> Values:
    """Return a table of two rows whose columns all have enough values, the others in one column."""
    totals = table.sum(axis=0)
    least = _FEWEST_EXPECTED * table.sum() / table.sum(axis=1).min()
    few = totals < least
    few[-1] |= rest
    kept, pooled = table[:, ~few], table[:, few].sum(axis=1, keepdims=True)
    if kept.shape[1] and pooled.sum() < least:
        kept[:, [np.argmin(totals[~few])]] += pooled
        return kept
    return np.hstack([kept, pooled])


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p-values after Benjamini and Hochberg, by ``scipy.stats.false_discovery_control``."""
    from scipy.stats import false_discovery_control

    return [float(value) for value in false_discovery_control(list(p_values))] if p_values else []
