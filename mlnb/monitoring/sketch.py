"""A distribution in fixed memory: quantiles within 1 %, the same however it was put together."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from functools import lru_cache
from itertools import accumulate
from math import ceil, floor, inf, isfinite, log
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["RELATIVE_ACCURACY", "Sketch"]

RELATIVE_ACCURACY = 0.01
_GAMMA = (1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY)
_PER_E = 1 / log(_GAMMA)  # buckets per factor of e
_SMALLEST, _LARGEST = 1e-18, 1e18  # absolute values beyond are taken as 0 and as this: 4,146 buckets for each sign
_BIAS = 1 - ceil(log(_SMALLEST) * _PER_E)  # the bucket of the smallest positive value is 1, that of 0 is 0
_FIRST, _LAST = 2, ceil(log(_LARGEST) * _PER_E) + _BIAS  # buckets of values that are surely within
_MANY = 256  # values, or buckets, from which numpy is quicker
_FIELDS = ("buckets", "count", "largest", "missing", "smallest", "total")


Values = np.ndarray[Any, Any]


class Sketch:
    """Counts of values by buckets that are 2 % wide (DDSketch: Masson, Rim and Lee, VLDB 2019).

    The buckets are theirs; the counts are a plain ``Counter``, because adding and merging many small sketches a second
    is what a monitor does all day. Values closer to 0 than 1e-18 are taken as 0, and those beyond 1e18 as 1e18 of their
    sign; quantiles among them are only known to lie between the smallest and the largest value.

    Attributes
    ----------
    buckets : Counter of int to int
        In the order of the values; see :meth:`upper`.
    count : int
        Finite values.
    total : float
        Their sum.
    smallest, largest : float
        Exactly; infinite without values.
    missing : int
        Values that were NaN or infinite.

    Examples
    --------
    >>> sketch = Sketch([1.0, 2.0, 3.0, 4.0])
    >>> round(sketch.quantile(0.5), 1), sketch.quantile(1.0), Sketch().quantile(0.5)
    (2.5, 4.0, None)
    """

    __slots__ = ("_packed", *_FIELDS)

    def __init__(self, values: Sequence[float] | Values = ()) -> None:
        self.buckets: Counter[int] = Counter()
        self.count = self.missing = 0
        self.total = 0.0
        self.smallest, self.largest = inf, -inf
        self._packed: tuple[Values, Values] | None = None  # the buckets and their counts, until they change
        self.add(values)

    @classmethod
    def sum(cls, sketches: Iterable[Sketch]) -> Sketch:
        """Return a new one that has counted what all of them have."""
        parts = [one for one in sketches if one.count or one.missing]
        whole = cls()
        if sum([len(one.buckets) for one in parts]) < _MANY:
            for one in parts:
                whole.merge(one)
            return whole
        packed = [one.packed() for one in parts]
        whole.buckets = _summed(*(np.concatenate(arrays) for arrays in zip(*packed, strict=True)))
        whole.count, whole.missing = sum([one.count for one in parts]), sum([one.missing for one in parts])
        whole.total = sum([one.total for one in parts])
        whole.smallest, whole.largest = min([one.smallest for one in parts]), max([one.largest for one in parts])
        return whole

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sketch):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __getstate__(self) -> tuple[Any, ...]:
        at, counts = self.packed()
        return at.tobytes(), counts.tobytes(), *(getattr(self, name) for name in _FIELDS[1:])

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        at, counts, *rest = state
        self._packed = np.frombuffer(at, np.int16), np.frombuffer(counts, np.int64)
        self.buckets = _counter(*self._packed)
        for name, value in zip(_FIELDS[1:], rest, strict=True):
            setattr(self, name, value)

    def packed(self) -> tuple[Values, Values]:
        """Return the buckets and their counts as arrays, which are kept until it counts more."""
        if self._packed is None:
            size = len(self.buckets)
            at = np.fromiter(self.buckets.keys(), np.int16, size)
            self._packed = at, np.fromiter(self.buckets.values(), np.int64, size)
        return self._packed

    def add(self, values: Sequence[float] | Values) -> None:
        """Count values of any sign; what is not finite is counted as missing."""
        if len(values) >= _MANY:
            self._add_array(np.asarray(values, dtype=float))
        else:
            self._add_list(values.tolist() if isinstance(values, np.ndarray) else values)

    def _add_list(self, values: Sequence[float]) -> None:
        per_e, bias = _PER_E, _BIAS
        try:  # what is 0 or not finite has no logarithm, or no whole one
            buckets = [ceil(log(abs(value)) * per_e) + bias for value in values]
        except (ValueError, OverflowError):
            buckets = []
        if not buckets or not _FIRST <= min(buckets) <= max(buckets) <= _LAST:
            known = [value for value in values if isfinite(value)]
            self.missing += len(values) - len(known)
            self._note(known, [bucket(value) for value in known])
            return
        if min(values) < 0:
            buckets = [at if value > 0 else -at for at, value in zip(buckets, values, strict=True)]
        self._note(values, buckets)

    def add_positive(self, values: list[float]) -> None:
        """Count values of which each is finite and above 0: times, of which there are tens of thousands a second."""
        per_e, bias = _PER_E, _BIAS
        self._note(values, [ceil(log(value) * per_e) + bias for value in values])

    def add_repeated(self, value: float, count: int) -> None:
        """Count a finite value several times."""
        self.buckets[bucket(value)] += count
        self._packed = None
        self.count += count
        self.total += value * count
        self.smallest, self.largest = min(self.smallest, value), max(self.largest, value)

    def merge(self, other: Sketch) -> None:
        """Count what another one has counted."""
        buckets = self.buckets
        for at, count in other.buckets.items():
            buckets[at] += count
        self._packed = None
        self.count += other.count
        self.total += other.total
        self.missing += other.missing
        self.smallest, self.largest = min(self.smallest, other.smallest), max(self.largest, other.largest)

    def quantile(self, quantile: float) -> float | None:
        """Return a quantile within 1 % of ``numpy.quantile``'s, which interpolates; None without values."""
        return self.quantiles(quantile)[0]

    def quantiles(self, *wanted: float) -> tuple[float | None, ...]:
        """Return several quantiles."""
        if not self.count:
            return (None,) * len(wanted)
        order = sorted(self.buckets)
        ends = list(accumulate(self.buckets[at] for at in order))
        return tuple(self._at(order, ends, quantile * (self.count - 1)) for quantile in wanted)

    @property
    def mean(self) -> float | None:
        """Exactly; None without values."""
        return self.total / self.count if self.count else None

    def below(self, limits: Sequence[float]) -> list[int]:
        """Return how many values are at most each limit, in ascending order, as buckets can tell."""
        order = sorted(self.buckets)
        counts, at, seen = [], 0, 0
        for limit in limits:
            while at < len(order) and value_of(order[at]) <= limit:
                seen += self.buckets[order[at]]
                at += 1
            counts.append(seen)
        return counts

    def _at(self, order: list[int], ends: list[int], position: float) -> float:
        low = floor(position)
        first, second = self._ranked(order, ends, low), self._ranked(order, ends, min(low + 1, self.count - 1))
        return first + (second - first) * (position - low)

    def _ranked(self, order: list[int], ends: list[int], rank: int) -> float:
        if rank in (0, self.count - 1):
            return self.smallest if rank == 0 else self.largest
        at = bisect_right(ends, rank)
        return min(max(value_of(order[at]), self.smallest), self.largest)

    def _note(self, values: Sequence[float], buckets: list[int]) -> None:
        if not values:
            return
        self.buckets.update(buckets)
        self._packed = None
        self.count += len(values)
        self.total += sum(values)
        smallest, largest = min(values), max(values)
        self.smallest, self.largest = min(self.smallest, smallest), max(self.largest, largest)

    def _add_array(self, values: Values) -> None:
        known = values[np.isfinite(values)]
        self.missing += len(values) - len(known)
        if not len(known):
            return
        sizes = np.clip(np.abs(known), _SMALLEST, _LARGEST)
        buckets = np.ceil(np.log(sizes) * _PER_E).astype(int) + _BIAS
        buckets = np.where(np.abs(known) < _SMALLEST, 0, np.where(known < 0, -buckets, buckets))
        self.buckets.update(_counted(buckets))
        self._packed = None
        self.count += len(known)
        self.total += float(known.sum())
        self.smallest = min(self.smallest, float(known.min()))
        self.largest = max(self.largest, float(known.max()))


@lru_cache(4096)
def bucket(value: float) -> int:
    """Return the bucket of a finite value."""
    size = min(abs(value), _LARGEST)
    if size < _SMALLEST:
        return 0
    at = ceil(log(size) * _PER_E) + _BIAS
    return at if value > 0 else -at


def value_of(at: int) -> float:
    """Return the value that stands for a bucket: none in it is farther than 1 % away."""
    if at == 0:
        return 0.0
    size = 2 * _GAMMA ** (abs(at) - _BIAS) / (1 + _GAMMA)
    return float(size if at > 0 else -size)


def _counted(buckets: Values) -> Mapping[int, int]:
    found, counts = np.unique(buckets, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _summed(at: Values, counts: Values) -> Counter[int]:
    """Return the counts of buckets that may be there several times."""
    lowest = int(at.min(initial=0))
    sums = np.bincount(at - lowest, weights=counts)
    found = np.flatnonzero(sums)
    return _counter(found + lowest, sums[found].astype(np.int64))


def _counter(at: Values, counts: Values) -> Counter[int]:
    return Counter(dict(zip(at.tolist(), counts.tolist(), strict=True)))
