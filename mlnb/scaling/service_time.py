"""How long a replica takes for a batch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServiceTime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTime:
    """How long one replica takes for a batch: a fixed part and a part for each row, times a random factor of mean 1.

    Attributes
    ----------
    fixed, per_row : float
        Seconds.
    spread : float
        Coefficient of variation of the factor.
    most_rows : int
        Rows that a batch may have.
    cores : float
        That a replica keeps busy while it works; below 1 where it waits for something else.

    Examples
    --------
    >>> ServiceTime(fixed=0.01, per_row=0.002, most_rows=20).of(5)
    0.02
    """

    fixed: float
    per_row: float = 0.0
    spread: float = 0.0
    most_rows: int = 1
    cores: float = 1.0

    def of(self, rows: float) -> float:
        """Return the mean seconds for a batch."""
        return self.fixed + self.per_row * rows

    @property
    def capacity(self) -> float:
        """Rows per second of one replica that is always busy."""
        return self.most_rows / self.of(self.most_rows)
