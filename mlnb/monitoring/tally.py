"""How many numbers there were, their mean and their spread, kept without keeping the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

__all__ = ["Tally"]


@dataclass(frozen=True, slots=True)
class Tally:
    """A streaming mean and variance (Welford 1962; merged as in Chan, Golub and LeVeque 1983).

    The fields may be arrays as well, for many tallies at once.

    Attributes
    ----------
    count : int
    mean : float
    m2 : float
        Sum of the squared distances from the mean.

    Examples
    --------
    >>> tally = Tally().add(1.0).add(2.0).add(4.5)
    >>> tally.count, tally.mean, tally.variance
    (3, 2.5, 3.25)
    >>> tally.merge(Tally().add(2.5)).mean
    2.5
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def add(self, value: float) -> Tally:
        """Return the tally with one number more."""
        count, distance = self.count + 1, value - self.mean
        mean = self.mean + distance / count
        return Tally(count, mean, self.m2 + distance * (value - mean))

    def merge(self, other: Tally) -> Tally:
        """Return the tally of both together."""
        count, distance = self.count + other.count, other.mean - self.mean
        share = other.count / (count + (count == 0))
        return Tally(count, self.mean + distance * share, self.m2 + other.m2 + distance**2 * self.count * share)

    @property
    def variance(self) -> float:
        """Unbiased; nan for fewer than two numbers."""
        return self.m2 / (self.count - 1) if self.count > 1 else nan
