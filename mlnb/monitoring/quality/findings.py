"""What measures of classes and of numbers have in common: their words, and how many labels they need."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Any

from mlnb.monitoring.quality.report import Measure

if TYPE_CHECKING:
    import numpy as np

    from mlnb.monitoring.quality.report import CalibrationBin

    Array = np.ndarray[Any, Any]

__all__ = ["LEAST", "LEAST_OF_A_CLASS", "Findings", "counted", "measured", "too_few", "unsaid"]

LEAST = 30  # rows, before which nothing is said
LEAST_OF_A_CLASS = 5  # rows, before which nothing is said of a class
_DIGITS = 6  # after the point
_SURE = 5  # units of the last digit that an interval has at least
_LONG = 1e7  # from here on a number is written with an exponent


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the labels of one window say.

    Attributes
    ----------
    measures : tuple of Measure
    calibration : tuple of CalibrationBin
    classes : tuple of str
    confusion : tuple of tuple of int
    notes : tuple of str
        Sentences on what the figures are of and what was left out.
    """

    measures: tuple[Measure, ...]
    calibration: tuple[CalibrationBin, ...] = ()
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()


def measured(name: str, value: float, interval: tuple[float, float]) -> Measure:
    """Return a measure with its interval in words, with as many digits as the interval is sure of.

    Examples
    --------
    >>> measured("accuracy", 0.9412, (0.9066, 0.9643)).words
    '0.94 (0.91 to 0.96)'
    """
    low, high = interval
    if not all(map(isfinite, (value, low, high))):
        return unsaid(name, "no finite number")
    width = high - low
    if not width > 0 or max(abs(low), abs(high)) >= _LONG:
        shown = [f"{one:.4g}" for one in (value, low, high)]
    else:
        decimals = min(max(-floor(log10(width / _SURE)), 0), _DIGITS)
        shown = [f"{one:,.{decimals}f}" for one in (value, low, high)]
    return Measure(name=name, value=value, low=low, high=high, words=f"{shown[0]} ({shown[1]} to {shown[2]})")


def unsaid(name: str, words: str) -> Measure:
    """Return a measure without a value, and why it has none."""
    return Measure(name=name, words=words)


def too_few(name: str, count: int, *, of: int = LEAST, what: str = "") -> Measure:
    """Return a measure that needs more labels.

    Examples
    --------
    >>> too_few("recall", 3, of=5, what=" of 'yes'").words
    "not enough labels yet: 3 of 5 of 'yes'"
    """
    return unsaid(name, f"not enough labels yet: {count} of {of}{what}")


def counted(count: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{count:,} {what}{'s' * (count != 1)}"
