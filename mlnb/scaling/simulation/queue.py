"""One queue and the replicas that take batches from it, batch by batch."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from heapq import heapify, heappush, heapreplace
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mlnb.scaling.service_time import ServiceTime
    from mlnb.scaling.simulation.load import Floats

__all__ = ["Queue", "Served"]


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
    """

    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    free: list[float] = field(default_factory=list)


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
        served = Served(free=self.free.copy())
        if stop == self.next or not served.free:
            return served
        at, factors = self._arrivals[self.next : stop].tolist(), self._factors[self.next : stop].tolist()
        fixed, per_row, most = self._service.fixed, self._service.per_row, self._service.most_rows
        free, begun, ended, stops = served.free, served.begins.append, served.ends.append, served.stops.append
        first, offset, count, last = 0, self.next, len(at), self._last
        linger, several = self._linger, self._rows
        calm, alone = max(several, default=-inf) + linger, fixed + per_row
        while first < count:  # a quarter of a microsecond a batch: most of what a simulation costs
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
                break
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
        return served

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

    def remove(self, free: float) -> None:
        """Take away the replica that is free at that moment."""
        self.free.remove(free)
        heapify(self.free)
