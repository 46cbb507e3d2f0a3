"""One queue and the replicas that take batches from it, batch by batch."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from heapq import heappush, heapreplace
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mlnb.scaling.service_time import ServiceTime
    from mlnb.scaling.simulation.load import Floats

__all__ = ["Queue", "Served"]

_PIECE = 4096  # requests that are looked at together


@dataclass(slots=True)
class Served:
    """Batches in the order in which they began.

    Attributes
    ----------
    begins, ends : list of float
        Seconds.
    stops : list of int
        The request after the last one of each batch.
    free : list of float
        When each replica can take its next batch after all of these: a heap.
    past : int
        The request up to which these were looked for.
    calm : float
        Seconds, after which nobody is waited for.
    """

    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    free: list[float] = field(default_factory=list)
    past: int = 0
    calm: float = -inf


class Queue:
    """Requests of one row that wait in one queue, and replicas that take batches from it.

    As the real :class:`~mlnb.scaling.pool.ReplicaPool` does it: an idle replica begins at once with what waits, and
    while all are busy those who arrive join the next batch. Where a batch has a large fixed cost, a replica that has
    just answered several waits a moment for them to ask again.

    Parameters
    ----------
    arrivals : ndarray of float
        Seconds, in order.
    factors : ndarray of float
        By which the time of a batch is multiplied: the one of its first request.
    service : ServiceTime
    linger : float
        Seconds that a replica may wait for those who were just answered; see
        :attr:`~mlnb.scaling.batching.PredictTimes.linger`.

    Attributes
    ----------
    free : list of float
        When each replica can take its next batch: a heap.
    next : int
        The first request that is in no batch yet.
    """

    def __init__(self, arrivals: Floats, factors: NDArray[Any], service: ServiceTime, *, linger: float = 0.0) -> None:
        self.free: list[float] = []
        self.next = 0
        self._arrivals = arrivals
        self._factors = factors
        self._service = service
        self._linger = linger
        self._last = -inf  # when a batch began last
        self._rows: dict[float, int] = {}  # of batches with several, by when they ended

    def serve(self, until: float) -> Served:
        """Return the batches that begin before ``until``, if nobody adds or takes a replica; see :meth:`settle`."""
        stop = self.next + int(np.searchsorted(self._arrivals[self.next :], until))
        served = Served(free=self.free.copy(), past=self.next, calm=max(self._rows, default=-inf) + self._linger)
        while served.free and served.past < stop and self._serve_more(served, stop, until):
            pass  # piece by piece: of a long queue no more is looked at than can be served
        return served

    def _serve_more(self, served: Served, stop: int, until: float) -> bool:
        """Add the batches of some of the requests before ``stop``; say whether all of them begin before ``until``."""
        fixed, per_row, most = self._service.fixed, self._service.per_row, self._service.most_rows
        free, begun, ended, stops = served.free, served.begins.append, served.ends.append, served.stops.append
        offset, first, last = served.past, 0, served.begins[-1] if served.begins else self._last
        linger, several, calm, alone = self._linger, self._rows, served.calm, fixed + per_row
        known = min(stop, offset + _PIECE + most)
        at, factors = self._arrivals[offset:known].tolist(), self._factors[offset:known].tolist()
        count = len(at)
        piece = count if known == stop else _PIECE
        while first < piece:  # a quarter of a microsecond a batch: most of what a simulation costs
            begin, past = at[first], first + 1
            if free[0] > begin or begin < calm:
                if free[0] > begin:  # all are busy
                    answered = begin = free[0]
                    if past < count and at[past] <= begin:
                        past = bisect_right(at, begin, past, min(count, first + most))
                else:
                    answered = max((end for end in free if last < end <= begin), default=-inf)
                if answered in several and past - first < several[answered]:
                    again = first + several[answered] - 1  # with this request as many wait as were answered
                    begin = max(begin, min(answered + linger, at[again] if again < count else inf))
                    past = bisect_right(at, begin, past, max(past, min(count, first + most)))
            if begin >= until:
                return False
            if past - first == 1:
                end = begin + alone * factors[first]
            else:
                end = begin + (fixed + per_row * (past - first)) * factors[first]
                if linger:
                    several[end] = past - first
                    calm = max(calm, end + linger)
            heapreplace(free, end)
            begun(begin)
            ended(end)
            stops(past + offset)
            first, last = past, begin
        served.past, served.calm = offset + first, calm
        return True

    def settle(self, served: Served, moment: float) -> int:
        """Let the batches that began before a moment be, and forget the others; say how many were kept."""
        kept = bisect_left(served.begins, moment)
        if kept == len(served.begins):
            self.free = served.free
        else:  # each batch took the replica that was free first, so those left are the largest of all
            self.free = sorted([*self.free, *served.ends[:kept]])[kept:]
        if kept:
            self.next, self._last = served.stops[kept - 1], served.begins[kept - 1]
        if self._rows:
            self._rows = {end: self._rows[end] for end in self.free if end in self._rows}
        return kept

    def add(self, moments: Iterable[float]) -> None:
        """Add replicas that are ready at the given moments."""
        for moment in moments:
            heappush(self.free, moment)

    def remove(self, moments: Iterable[float]) -> None:
        """Take away the replicas that are free at the given moments."""
        left = Counter(self.free)
        left.subtract(moments)
        self.free = sorted(left.elements())
