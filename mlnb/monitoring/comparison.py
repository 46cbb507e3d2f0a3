"""Two versions' answers to the same rows: how far apart they are, and where."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import MissingLibraryError
from mlnb.monitoring.recent import values_in
from mlnb.monitoring.tally import Tally
from mlnb.registry.rows.frames import is_frame, open_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    Array = np.ndarray[Any, Any]

__all__ = ["Comparison", "ComparisonSummary", "Disagreement", "differing", "distances", "row_of"]

_KEPT = 1000  # disagreements
_LARGEST_ROW = 10_000  # values of a row that is kept
_TOLERANCE = 1e-9  # of the larger number


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A row that two versions answered differently.

    Attributes
    ----------
    at : float
        When it was answered live, seconds since the epoch.
    request_id : str
    row : object
        A dict by field name where the names are known, else a list or a value; None if it has over 10,000 values.
    live, shadow : object
        The answers: a number, a text, or a list of them.
    distance : float
    """

    at: float
    request_id: str
    row: Any
    live: Any
    shadow: Any
    distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSummary:
    """What a comparison found so far, in rows.

    Attributes
    ----------
    compared : int
    differing : int
        Of those compared: rows whose answers are not the same.
    dropped : int
        Not given to the other version, which was too slow.
    failed : int
        The other version failed on them.
    failure : str or None
        Why it failed last.
    mean_distance : float or None
        Over the rows whose distance is finite; None if there are none.
    """

    compared: int
    differing: int
    dropped: int
    failed: int
    failure: str | None
    mean_distance: float | None

    @property
    def share(self) -> float | None:
        """Of the rows compared, how many differ; None if none was compared."""
        return self.differing / self.compared if self.compared else None


class Comparison:
    """Compares answers as they come, in bounded memory; used on one thread only.

    Parameters
    ----------
    names : sequence of str, optional
        Names of the fields, for rows that come as lists.

    Examples
    --------
    >>> comparison = Comparison(names=["length", "width"])
    >>> comparison.record("a", 0.0, [[1, 2], [3, 4]], live=np.array(["x", "y"]), other=np.array(["x", "z"]))
    >>> comparison.summary().share, comparison.disagreements[0].row
    (0.5, {'length': 3, 'width': 4})
    """

    def __init__(self, *, names: Sequence[str] | None = None) -> None:
        self._names = None if names is None else list(names)
        self._compared = self._differing = self._dropped = self._failed = 0
        self._failure: str | None = None
        self._distance = Tally()
        self._kept: deque[Disagreement] = deque(maxlen=_KEPT)

    @property
    def disagreements(self) -> list[Disagreement]:
        """The last 1,000, oldest first."""
        return list(self._kept)

    def record(self, request_id: str, at: float, rows: Any, live: Array, other: Array) -> None:
        """Compare two answers.

        Parameters
        ----------
        request_id : str
        at : float
            When it was answered live, seconds since the epoch.
        rows : list of rows, ndarray or table
        live, other : ndarray of shape (n, ...)
        """
        apart = distances(live, other)
        differ = differing(live, other)
        self._compared += len(apart)
        self._differing += int(differ.sum())
        finite = apart[np.isfinite(apart)]
        if len(finite):
            self._distance = self._distance.merge(Tally(len(finite), float(finite.mean())))
        for number in np.flatnonzero(differ).tolist()[-_KEPT:]:
            row = row_of(rows, number, count=len(apart), names=self._names)
            answers = _at(live, number), _at(other, number)
            self._kept.append(Disagreement(at, request_id, row, *answers, float(apart[number])))

    def dropped(self, rows: int) -> None:
        """Count rows that the other version was not given."""
        self._dropped += rows

    def failed(self, rows: int, reason: str) -> None:
        """Count rows that the other version failed on."""
        self._failed += rows
        self._failure = reason

    def summary(self) -> ComparisonSummary:
        """Return the counts."""
        return ComparisonSummary(
            compared=self._compared, differing=self._differing, dropped=self._dropped, failed=self._failed,
            failure=self._failure, mean_distance=self._distance.mean if self._distance.count else None,
        )  # fmt: skip

    def frame(self) -> pd.DataFrame:
        """Return the last disagreements as a table, the largest distance first.

        Returns
        -------
        pandas.DataFrame
            With the columns at (UTC), request_id, row, live, shadow, distance.

        Raises
        ------
        MissingLibraryError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingLibraryError("The table needs pandas. Run: pip install pandas") from None
        columns = list(Disagreement.__slots__)
        ranked = sorted(self._kept, key=lambda one: -one.distance)
        table = pd.DataFrame({name: pd.Series([getattr(one, name) for one in ranked]) for name in columns})
        table["at"] = pd.to_datetime(table["at"].astype(float), unit="s", utc=True)
        return table


def distances(live: Array, other: Array) -> Array:
    """Return how far apart two answers are, row by row.

    Parameters
    ----------
    live, other : ndarray of shape (n, ...)

    Returns
    -------
    ndarray of shape (n,)
        Numbers with a fraction: the absolute difference, the largest of a row. Labels, whole numbers among them, and
        texts: 0 or 1. Infinite where one answer is NaN, and everywhere if the shapes differ.

    Examples
    --------
    >>> distances(np.array([1.0, np.nan, np.nan]), np.array([1.5, np.nan, 0.0])).tolist()
    [0.5, 0.0, inf]
    >>> distances(np.array(["a", "b"]), np.array(["a", "c"])).tolist()
    [0.0, 1.0]
    """
    live, other = np.asarray(live), np.asarray(other)
    if live.shape != other.shape:
        return np.full(len(live), np.inf)
    if not _numeric(live, other):
        return _widest(_unequal(live, other).astype(float))
    one, two = live.astype(float), other.astype(float)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(one - two)
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    return _widest(np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart)))


def differing(live: Array, other: Array) -> Array:
    """Say in which rows two answers differ: numbers by more than a billionth of the larger one.

    Returns
    -------
    ndarray of bool of shape (n,)
    """
    live, other = np.asarray(live), np.asarray(other)
    if live.shape != other.shape:
        return np.ones(len(live), bool)
    unequal = _unequal(live, other)
    if _numeric(live, other):
        unequal &= ~np.isclose(live.astype(float), other.astype(float), rtol=_TOLERANCE, atol=0.0, equal_nan=True)
    return _widest(unequal)


def _numeric(live: Array, other: Array) -> bool:
    kinds = live.dtype.kind + other.dtype.kind
    return "f" in kinds and set(kinds) <= set("fiub")


def _unequal(live: Array, other: Array) -> Array:
    """Return where they are unequal, NaN being equal to itself."""
    if live.dtype.kind != other.dtype.kind and not set(live.dtype.kind + other.dtype.kind) <= set("fiub"):
        live, other = live.astype(object), other.astype(object)  # a text and a number are compared by Python
    missing = (live != live) & (other != other)  # noqa: PLR0124 - only NaN is not itself
    return np.asarray((live != other) & ~missing, dtype=bool)


def _widest(values: Array) -> Array:
    """Return the largest of each row."""
    if not values.size:
        return np.zeros(len(values), values.dtype)
    return np.asarray(values.reshape(len(values), -1).max(axis=1))


def _at(answers: Array, number: int) -> Any:
    return np.asarray(answers)[number].tolist() if number < len(answers) and np.ndim(answers) else None


def row_of(rows: Any, number: int, *, count: int, names: Sequence[str] | None) -> Any:
    """Return one of ``count`` rows as plain values: by name where the names are known; None if it is very large."""
    if is_frame(rows):
        table = open_frame(rows)
        values: Any = {name: _plain(table.column(at)[number]) for at, name in enumerate(table.names)}
    else:
        values = _plain(rows[number] if len(rows) == count else rows)
    if values_in([values]) > _LARGEST_ROW:
        return None
    named = names is not None and isinstance(values, (list, tuple)) and len(values) == len(names)
    return dict(zip(names or (), values, strict=True)) if named else values


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
