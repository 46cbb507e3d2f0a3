"""What is measured of a queue at the end of each interval, as it is of real replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.scaling.simulation.load import Floats
    from mlnb.scaling.simulation.queue import Served

__all__ = ["Gauge", "Readings"]

Whole = NDArray[np.int64]

_LATEST = 5.0  # seconds of answers that p95 is of, as live
_BINS, _SHORTEST, _GROWTH = 280, 1e-4, 1.05  # of latencies: up to 86 s, 5 % wide
_PER_BIN = 1 / np.log(_GROWTH)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readings:
    """One value for each interval; see :class:`~mlnb.scaling.policies.decision.ScalingSample` for their meaning.

    NaN stands for what could not be measured.
    """

    at: Floats
    interval: Floats
    ready: Whole
    starting: Whole
    leaving: Whole
    requests: Whole
    answered: Whole
    in_flight: Floats
    waiting: Whole
    utilisation: Floats
    p95: Floats


class Gauge:
    """Measures interval by interval; what is in progress at the end of one is carried to the next.

    Parameters
    ----------
    arrivals : ndarray of float
    overhead : float
        Seconds that a request takes beside waiting and service.
    interval : float

    Attributes
    ----------
    latencies : ndarray of float
        What each request took, in seconds; infinity before it is answered.
    """

    def __init__(self, arrivals: Floats, *, overhead: float, interval: float) -> None:
        self._arrivals = arrivals
        self._overhead = overhead
        self.latencies = np.full(len(arrivals), np.inf, np.float32)
        self._ends = np.empty(0)  # of requests that are being answered
        self._took = np.empty(0)
        self._kept = max(1, round(_LATEST / interval)) - 1
        self._counts = np.zeros((self._kept, _BINS), np.int32)  # of latencies, in each of the latest intervals
        self._next: tuple[Any, ...] = ()

    def read(
        self, edges: Floats, served: Served, *, first: int, free: Sequence[float], starting: Sequence[float],
        leaving: Sequence[float],
    ) -> Readings:  # fmt: skip
        """Measure the intervals between edges.

        Parameters
        ----------
        edges : ndarray of float
            Seconds.
        served : Served
            The batches that began between them.
        first : int
            The first request that was in no batch before.
        free : sequence of float
            When each replica could take its next batch at the beginning.
        starting, leaving : sequence of float
            When those that start are ready, and when those that leave are gone.
        """
        begins, batch_ends, stops = _array(served.begins, float), _array(served.ends, float), _array(served.stops, int)
        new_ends, new_took = self._note(batch_ends, stops, first)
        ends, took = np.concatenate([self._ends, new_ends]), np.concatenate([self._took, new_took])
        place = np.searchsorted(edges, ends)
        answered, ended = _sums(ends, place, edges)
        here = np.searchsorted(self._arrivals, edges, side="right")
        came = _sorted_sums(self._arrivals[here[0] : here[-1]], here - here[0], edges)
        requests = np.diff(here)
        began = np.searchsorted(begins, edges)
        taken = np.concatenate([[first], stops])[began]
        busy, ready_seconds = self._work(edges, begins, began, batch_ends, free, starting)
        lengths = np.diff(edges)
        before = here[0] - first + len(self._ends) + np.concatenate([[0], np.cumsum(requests - answered)[:-1]])
        in_flight = before * lengths + came - ended
        counts = _histogram(took, place, len(edges) - 1)
        self._next = ends, took, edges, counts, np.concatenate([[len(self._ends)], taken[1:] - first + len(self._ends)])
        after = edges[1:]
        return Readings(
            at=after, interval=lengths,
            ready=len(free) - _left(starting, after), starting=_left(starting, after), leaving=_left(leaving, after),
            requests=requests, answered=answered, in_flight=in_flight / lengths, waiting=here[1:] - taken[1:],
            utilisation=np.divide(busy, ready_seconds, out=np.full(len(after), np.nan), where=ready_seconds > 0),
            p95=self._quantile(counts),
        )  # fmt: skip

    def note(self, served: Served, first: int) -> None:
        """Note what each request of some batches took."""
        self._note(_array(served.ends, float), _array(served.stops, int), first)

    def _note(self, batch_ends: Floats, stops: Whole, first: int) -> tuple[Floats, Floats]:
        """Note when each request is answered, and what it took; return both."""
        past = int(stops[-1]) if len(stops) else first
        ends = np.repeat(batch_ends, np.diff(stops, prepend=first))
        took = ends - self._arrivals[first:past] + self._overhead
        self.latencies[first:past] = took
        return ends, took

    def keep(self, count: int) -> None:
        """Go on from the end of as many of the intervals that were read last; the others are read again."""
        ends, took, edges, counts, known = self._next
        there = ends[: known[count]] > edges[count]
        self._ends, self._took = ends[: known[count]][there], took[: known[count]][there]
        if self._kept:
            self._counts = np.concatenate([self._counts, counts[:count]])[-self._kept :]

    @staticmethod
    def _work(
        edges: Floats, begins: Floats, began: Whole, ends: Floats, free: Sequence[float], starting: Sequence[float]
    ) -> tuple[Floats, Floats]:
        """Return for how many seconds replicas worked, and for how many they were ready, in each interval."""
        lengths = np.diff(edges)
        coming = np.array(starting)
        busy = np.array([end for end in free if end > edges[0]])
        busy = busy[~np.isin(busy, coming)] if len(coming) else busy
        ends = np.concatenate([busy, ends])
        ended, rest = _sums(ends, np.searchsorted(edges, ends), edges)
        working = len(busy) + np.concatenate([[0], np.cumsum(np.diff(began) - ended)[:-1]])
        ready = len(free) * lengths
        if len(coming):
            ready = ready - np.clip(coming[:, None] - edges[:-1], 0.0, lengths).sum(0)
        return working * lengths + _sorted_sums(begins, began, edges) - rest, ready

    def _quantile(self, counts: NDArray[np.int32]) -> Floats:
        """Return the 95 % quantile of the latest answers after each interval, interpolated within its bin."""
        together = np.cumsum(np.concatenate([self._counts, counts]), axis=0, dtype=np.int32)
        together[self._kept + 1 :] -= together[: -self._kept - 1]
        until = np.cumsum(together[self._kept :], axis=1, dtype=np.int32)
        total = until[:, -1]
        wanted = np.ceil(0.95 * total).astype(np.int32)
        place = np.minimum((until < wanted[:, None]).sum(1), _BINS - 1)
        lines = np.arange(len(until))
        lower = np.where(place > 0, until[lines, place - 1], 0)
        part = (wanted - lower) / np.maximum(until[lines, place] - lower, 1)
        return np.where(total > 0, _SHORTEST * np.exp((place + part) / _PER_BIN), np.nan)


def _array(values: list[Any], kind: type) -> NDArray[Any]:
    return np.fromiter(values, kind, len(values))


def _sums(moments: Floats, place: Whole, edges: Floats) -> tuple[Whole, Floats]:
    """Return how many moments there are in each interval, and how long before its end they are together."""
    count = len(edges)
    numbers = np.bincount(place, minlength=count + 1)[1:count]
    offsets = np.bincount(place, weights=moments - edges[0], minlength=count + 1)[1:count]
    return numbers, numbers * (edges[1:] - edges[0]) - offsets


def _sorted_sums(moments: Floats, until: Whole, edges: Floats) -> Floats:
    """Return the second of :func:`_sums` for moments in order, of which ``until`` are before each edge."""
    total: Floats = np.concatenate([[0.0], np.cumsum(moments - edges[0])])[until]
    sums: Floats = np.diff(until) * (edges[1:] - edges[0]) - np.diff(total)
    return sums


def _left(moments: Sequence[float], edges: Floats) -> Whole:
    """Return how many of the moments are still to come at each edge."""
    return (np.array(moments)[:, None] > edges).sum(0) if moments else np.zeros(len(edges), np.int64)


def _histogram(took: Floats, place: Whole, intervals: int) -> NDArray[np.int32]:
    """Return how many answers fall into each bin of latency in each interval."""
    there = place <= intervals
    bins = np.clip(np.log(took[there] / _SHORTEST) * _PER_BIN, 0, _BINS - 1).astype(np.int64)
    counts = np.bincount((place[there] - 1) * _BINS + bins, minlength=intervals * _BINS)
    return counts.reshape(intervals, _BINS).astype(np.int32)
