"""A deployment under a load, simulated: the same samples and the same decisions as live, and no real time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, fields, replace
from math import ceil, inf, isnan
from typing import TYPE_CHECKING

import numpy as np

from mlnb.durations import span_text
from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.bounded import BoundedController
from mlnb.scaling.policies.decision import ScalingSample
from mlnb.scaling.simulation.load import rng_of
from mlnb.scaling.simulation.queue import Queue
from mlnb.scaling.simulation.readings import Gauge, Readings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlnb.scaling.autoscale import Autoscale
    from mlnb.scaling.policies.decision import ScalingDecision
    from mlnb.scaling.service_time import ServiceTime
    from mlnb.scaling.simulation.load import Floats, Load

__all__ = ["Timeline", "Trace", "run"]

_MONDAY = 1_767_571_200.0  # 2026-01-05, 00:00 UTC
_SHORTEST, _LONGEST = 8, 128  # intervals that are simulated at a time, in the hope that nothing changes
_COSTLY, _LINGER = 0.001, 0.2  # as PredictTimes.linger has them
_MOST_INTERVALS = 2_500_000  # two weeks of half seconds: under a minute
_MOST_INITIAL = 10_000
_LONGEST_TIME = 1_000_000_000  # seconds
_MOST_SPREAD, _MOST_CORES = 100, 100_000
_LEAST_FACTOR = np.float32(1e-6)  # of a service time
_SAMPLED = (
    "at", "interval", "ready", "starting", "leaving", "requests", "answered", "in_flight", "waiting", "utilisation",
    "p95",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline(Readings):
    """What was measured in each interval, and what was decided at its end.

    Attributes
    ----------
    desired : ndarray of int
        Replicas.
    """

    desired: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """All that happened in a simulation.

    Attributes
    ----------
    load : Load
    autoscale : Autoscale
    service : ServiceTime
    initial : int
        Replicas at the beginning.
    arrivals : ndarray of float
        Seconds from the beginning.
    latencies : ndarray of float
        Seconds, of each arrival; infinity for those that were never answered.
    timeline : Timeline
    decisions : tuple of ScalingDecision
        Those that changed the number of replicas.
    replica_seconds : float
        From the start of each replica, before it is ready, until it is gone; until the load ends.
    woken : int
        Requests that arrived when no replica was ready.
    """

    load: Load
    autoscale: Autoscale
    service: ServiceTime
    initial: int
    arrivals: Floats
    latencies: NDArray[np.float32]
    timeline: Timeline
    decisions: tuple[ScalingDecision, ...]
    replica_seconds: float
    woken: int


def run(
    load: Load,
    autoscale: Autoscale,
    *,
    service: ServiceTime,
    startup: float = 1.0,
    overhead: float = 0.0,
    initial: int | None = None,
    limit: int | None = None,
    limited_by: str = "",
    start: float | None = None,
    seed: int = 0,
) -> Trace:
    """Simulate a deployment under a load.

    Requests have one row each and wait in one queue; see :class:`~mlnb.scaling.simulation.queue.Queue`. Nobody is
    turned away: a real deployment refuses what would wait too long. Every ``autoscale.interval`` seconds a sample is
    made as it is live, and what is decided on it is applied at once. When the load ends, what waits is still answered.
    The same seed gives the same arrivals and the same service times, whatever the policy.

    Parameters
    ----------
    load : Load
    autoscale : Autoscale
    service : ServiceTime
    startup : float
        Seconds from the decision until a new replica is ready.
    overhead : float
        Seconds of each request beside waiting and service: HTTP, the way to the replica and back.
    initial : int, optional
        Replicas at the beginning, ready: up to 10,000. Default: the least there may be, 1 where that is 0.
    limit : int, optional
        Replicas that the machine can hold.
    limited_by : str
        Why, in words.
    start : float, optional
        When the load begins, in seconds since the epoch: schedules depend on it. Default: when it was recorded, else on
        a Monday at midnight, UTC.
    seed : int
        From 0.

    Raises
    ------
    InvalidInputError
        If a time is negative or no number, the service takes no time at all, the load has too many requests, or is so
        long that there would be too many decisions.
    """
    _check(service, startup=startup, overhead=overhead, initial=initial or 0)
    _check_length(load.seconds, autoscale.interval)
    simulation = _Simulation(
        load, autoscale, service, startup=startup, overhead=overhead, initial=initial, limit=limit,
        limited_by=limited_by, start=start, seed=seed,
    )  # fmt: skip
    return simulation.run()


class _Simulation:
    """A simulation in progress; see :func:`run`.

    Intervals are simulated many at a time, as if nothing were to change, and then decided on one after the other; from
    the first change on they are simulated anew. So nearly all is done by numpy, and a policy still sees each interval.
    """

    def __init__(
        self, load: Load, autoscale: Autoscale, service: ServiceTime, *, startup: float, overhead: float,
        initial: int | None, limit: int | None, limited_by: str, start: float | None, seed: int,
    ) -> None:  # fmt: skip
        self._load, self._autoscale, self._service, self._startup = load, autoscale, service, startup
        self._limit, self._limited_by = limit, limited_by
        self._start = next(one for one in (start, load.start, _MONDAY) if one is not None)
        rng = rng_of(seed)
        self._arrivals = load.arrivals(rng)
        factors = _factors(service.spread, len(self._arrivals), rng)
        self._queue = Queue(self._arrivals, factors, service, linger=_linger(service))
        self._gauge = Gauge(self._arrivals, overhead=overhead, interval=autoscale.interval)
        self._controller = BoundedController(autoscale)
        self._initial = max(1, autoscale.least) if initial is None else initial
        self._queue.add([0.0] * self._initial)
        self._starting: list[float] = []
        self._leaving: list[float] = []
        self._now, self._tick, self._ticks = 0.0, 0, ceil(load.seconds / autoscale.interval - 1e-9)
        self._readings: list[tuple[Readings, int]] = []
        self._desired: list[NDArray[np.int64]] = []
        self._decisions: list[ScalingDecision] = []
        self._replica_seconds, self._woken = 0.0, 0

    def run(self) -> Trace:
        """Return what happened."""
        span = _SHORTEST
        while self._tick < self._ticks:
            changed = self._advance(min(span, self._ticks - self._tick))
            span = _SHORTEST if changed else min(2 * span, _LONGEST)
        self._answer_the_rest()
        return Trace(
            load=self._load, autoscale=self._autoscale, service=self._service, initial=self._initial,
            arrivals=self._arrivals, latencies=self._gauge.latencies, timeline=self._timeline(),
            decisions=tuple(self._decisions), replica_seconds=self._replica_seconds, woken=self._woken,
        )  # fmt: skip

    def _advance(self, span: int) -> bool:
        """Simulate ``span`` intervals, or until the number of replicas changes; say whether it did."""
        queue = self._queue
        edges, on_time = self._edges(span)
        served = queue.serve(float(edges[-1]))
        readings = self._gauge.read(
            edges, served, first=queue.next, free=queue.free, starting=self._starting, leaving=self._leaving
        )
        kept, decision = self._decide(readings)
        moment = float(edges[kept])
        self._woken += self._without_a_replica(moment)
        self._replica_seconds += len(queue.free) * (moment - self._now)
        queue.settle(served, moment)
        self._gauge.keep(kept)
        self._desired.append(np.full(kept, len(queue.free)))
        self._readings.append((readings, kept))
        self._tick += min(kept, on_time)
        self._now = moment
        self._starting = [ready for ready in self._starting if ready > moment]
        self._leaving = [gone for gone in self._leaving if gone > moment]
        if decision is not None:
            self._apply(decision)
        return decision is not None

    def _edges(self, span: int) -> tuple[Floats, int]:
        """Return the ends of the next intervals, and how many are on time: the request that wakes it ends one early."""
        edges = np.arange(self._tick, self._tick + span + 1, dtype=float) * self._autoscale.interval
        edges[0] = self._now
        first = self._queue.next
        if not self._queue.free and first < len(self._arrivals) and self._now < self._arrivals[first] < edges[-1]:
            woken = self._arrivals[first]
            before = edges[edges < woken]
            return np.append(before, woken), len(before) - 1 + int(woken in edges)
        return edges, span

    def _decide(self, readings: Readings) -> tuple[int, ScalingDecision | None]:
        """Return how many intervals there were until a decision changed the number of replicas, and that one."""
        step, count, service, start = self._controller.step, len(self._queue.free), self._service, self._start
        limit, limited_by, cores = self._limit, self._limited_by, 100 * service.cores
        capacity = service.capacity
        columns = (getattr(readings, name).tolist() for name in _SAMPLED)
        for number, values in enumerate(zip(*columns, strict=True), 1):
            at, interval, ready, starting, leaving, requests, answered, in_flight, waiting, utilisation, p95 = values
            known = not isnan(utilisation)
            decision = step(
                ScalingSample(
                    at=at, wall=start + at, interval=interval, desired=count, ready=ready, starting=starting,
                    leaving=leaving, requests=requests, answered=answered, in_flight=in_flight, waiting=waiting,
                    queue_wait=waiting / (max(1, ready) * capacity),
                    utilisation=utilisation if known else None, cpu=cores * utilisation if known else None,
                    p95=None if isnan(p95) else p95,
                    service=service, limit=limit, limited_by=limited_by,
                )
            )  # fmt: skip
            if decision.desired != count:
                return number, decision
        return number, None

    def _apply(self, decision: ScalingDecision) -> None:
        """Start or dismiss replicas: of those, one that is not ready first, then one that is idle."""
        free, now = self._queue.free, self._now
        more = decision.desired - len(free)
        coming = [now + self._startup] * more
        self._queue.add(coming)
        self._starting += [moment for moment in coming if moment > now]
        self._dismiss(-more)
        self._desired[-1][-1] = decision.desired
        self._decisions.append(replace(decision, applied=decision.desired))

    def _dismiss(self, count: int) -> None:
        if count <= 0:
            return
        now, end = self._now, self._ticks * self._autoscale.interval
        kept = max(0, len(self._starting) - count)
        coming = sorted(self._starting)
        self._starting = coming[:kept]
        self._queue.remove(coming[kept:])
        free = sorted(self._queue.free)
        idle = bisect_right(free, now)
        gone = (free[:idle] + free[idle:][::-1])[: count - len(coming[kept:])]
        self._queue.remove(gone)
        leaving = [moment for moment in gone if moment > now]
        self._leaving += leaving
        self._replica_seconds += sum(max(0.0, min(moment, end) - now) for moment in leaving)

    def _without_a_replica(self, until: float) -> int:
        """Return how many requests have arrived since the last change while no replica was ready."""
        free = self._queue.free
        if len(free) > len(self._starting):
            return 0
        span = np.searchsorted(self._arrivals, [self._now, min(min(free, default=until), until)], side="right")
        return max(0, int(span[1] - span[0]))

    def _answer_the_rest(self) -> None:
        first = self._queue.next
        self._gauge.latencies[first:] = inf
        self._gauge.note(self._queue.serve(inf), first)

    def _timeline(self) -> Timeline:
        columns = {
            one.name: np.concatenate([getattr(readings, one.name)[:kept] for readings, kept in self._readings])
            for one in fields(Readings)
        }
        return Timeline(**columns, desired=np.concatenate(self._desired))


def _linger(service: ServiceTime) -> float:
    return service.fixed * _LINGER if service.fixed >= _COSTLY and service.most_rows > 1 else 0.0


def _factors(spread: float, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return factors of mean 1 and the given coefficient of variation, of a gamma distribution."""
    if not spread:
        return np.ones(count, np.float32)
    variance = spread**2
    drawn = rng.standard_gamma(1 / variance, count, dtype=np.float32)
    drawn *= np.float32(variance)
    return np.maximum(drawn, _LEAST_FACTOR, out=drawn)


def _check(service: ServiceTime, *, startup: float, overhead: float, initial: int) -> None:
    given = {
        "startup": (startup, _LONGEST_TIME), "overhead": (overhead, _LONGEST_TIME), "initial": (initial, _MOST_INITIAL),
        "service.fixed": (service.fixed, _LONGEST_TIME), "service.per_row": (service.per_row, _LONGEST_TIME),
        "service.spread": (service.spread, _MOST_SPREAD), "service.cores": (service.cores, _MOST_CORES),
    }  # fmt: skip
    for name, (value, most) in given.items():
        if not 0 <= value <= most:
            raise InvalidInputError(f"{name}={value!r:.40}: a number from 0 to {most:,} is needed.")
    if service.most_rows < 1:
        raise InvalidInputError(f"service.most_rows={service.most_rows!r:.40}: a batch has one row at least.")
    if service.of(1) <= 0:
        raise InvalidInputError("A service time of 0 would need no replicas; give what one request takes.")


def _check_length(seconds: float, interval: float) -> None:
    if seconds > _MOST_INTERVALS * interval:
        raise InvalidInputError(
            f"{span_text(seconds)} with a decision every {interval:g} s: {seconds / interval:,.0f} decisions, and a "
            f"simulation makes {_MOST_INTERVALS:,}. Let it decide less often, interval="
            f"{ceil(seconds / _MOST_INTERVALS)}, or take a shorter load."
        )
