"""Makes samples for scaling policies out of what pools counted and what their processes used."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mlnb.scaling.limits import MachineLimit, machine_limit
from mlnb.scaling.machine import CpuGauge
from mlnb.scaling.policies.decision import ScalingSample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.scaling.machine import CpuTime, MachineReading
    from mlnb.scaling.pool import PoolReading

__all__ = ["Meter", "Metered"]

_GAP = 10.0  # intervals after which what was counted tells nothing of now: the machine slept, or this process was held
_SHORT = 0.5  # of an interval: what was counted in less is too little to make rates of
_MINUTE = 60.0  # seconds for which an end is remembered
_WORKED, _KEPT = 0.2, 0.95  # busy seconds from which the cores of a replica are known, and what is kept at each sample
_STEADY = 0.1  # part by which they must seem to differ to be believed, so that the limit of a machine stays what it is


class Metered(Protocol):
    """What counts."""

    def reading(self) -> PoolReading:
        """Return what it did so far."""
        ...


class _Moment(NamedTuple):
    """All that was read at one time."""

    at: float
    pools: Mapping[Metered, PoolReading]
    cpu: Mapping[int, CpuTime]


@dataclass(frozen=True, slots=True)
class _Usage:
    """What one pool did between two moments."""

    now: PoolReading
    before: PoolReading
    seconds: float

    @property
    def in_flight(self) -> float:
        return max(0.0, self.now.present - self.before.present) / self.seconds

    @property
    def busy(self) -> float:
        return max(0.0, self.now.busy - self.before.busy)

    @property
    def utilisation(self) -> float | None:
        replicas = (self.now.ready + self.now.leaving + self.before.ready + self.before.leaving) / 2
        return min(1.0, self.busy / self.seconds / replicas) if replicas else None


class Meter:
    """Samples the pools of one deployment.

    Where several versions answer, the sample is that of the one with the most requests in flight: all have as many
    replicas, and that one needs them most. What must be known of all of them is of all: whether any starts or leaves,
    and how many ended.

    Parameters
    ----------
    interval : float
        Seconds that two samples are usually apart.
    cpu : CpuGauge, optional
    """

    def __init__(self, *, interval: float, cpu: CpuGauge | None = None) -> None:
        self.machine: MachineReading | None = None  #: as it was measured last
        self._interval = interval
        self._cpu = cpu or CpuGauge()
        self._last: _Moment | None = None
        self._before: _Moment | None = None
        self._crashes: deque[tuple[float, int]] = deque()
        self._size: int | None = None
        self._worked = self._computed = 0.0  # seconds that replicas were busy, and of CPU; the latest count most
        self._cores: float | None = None

    def sample(
        self, pools: Sequence[Metered], *, desired: int | None, at: float, wall: float, p95: float | None
    ) -> ScalingSample:
        """Return what the pools did since the last sample; what was not measured is None.

        Parameters
        ----------
        pools : sequence of Metered
            At least one.
        desired : int or None
            Replicas that were wanted last; None: as the pool has it.
        at, wall : float
            Now; see :class:`ScalingSample`.
        p95 : float or None
            Seconds.
        """
        readings = {pool: pool.reading() for pool in pools}
        moment = _Moment(at, readings, self._cpu.read(_pids(readings)))
        before = self._base(at)
        if self._last is None or at > self._last.at:
            self._before, self._last = self._last, moment
        usages = {} if before is None else _usages(moment, before)
        if before is not None:
            self._learn(moment, before, usages)
        busiest = max(usages, key=lambda pool: usages[pool].in_flight, default=pools[0])
        usage, now = usages.get(busiest), readings[busiest]
        limit = self._limit(list(readings.values()))
        return ScalingSample(
            at=at, wall=wall, interval=at - before.at if before else self._interval,
            desired=now.desired if desired is None else desired, ready=now.ready,
            starting=max(one.starting for one in readings.values()),
            leaving=max(one.leaving for one in readings.values()),
            requests=None if usage is None else usage.now.requests - usage.before.requests,
            answered=None if usage is None else usage.now.answered - usage.before.answered,
            in_flight=None if usage is None else usage.in_flight,
            waiting=now.waiting, queue_wait=now.queue_wait,
            utilisation=None if usage is None else usage.utilisation,
            cpu=None if usage is None or before is None else _percent(usage, moment.cpu, before.cpu),
            p95=p95, service=now.times.service(cores=1.0 if (cores := self.cores) is None else cores),
            crashes=self._ended(at, before, readings), limit=limit.replicas, limited_by=limit.reason,
        )  # fmt: skip

    @property
    def cores(self) -> float | None:
        """Cores that a replica keeps busy while it works; None if none has worked long enough."""
        return self._cores

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that were ready at the last sample, of all pools."""
        return [] if self._last is None else sorted(_pids(self._last.pools))

    @property
    def sized(self) -> bool:
        """Whether it is known how much memory a replica takes."""
        return self._size is not None

    def measured(self, machine: MachineReading) -> None:
        """Learn how the machine is."""
        self.machine = machine
        if machine.sizes:
            self._size = max(machine.sizes.values())

    def _base(self, at: float) -> _Moment | None:
        """Return the moment from which to count: the last one, unless that is too near or too far away."""
        base = self._last
        if base is not None and self._before is not None and at - base.at < _SHORT * self._interval:
            base = self._before
        return base if base is not None and 0 < at - base.at <= _GAP * self._interval else None

    def _learn(self, now: _Moment, before: _Moment, usages: Mapping[Metered, _Usage]) -> None:
        """Learn how many cores a replica keeps busy, as if it had not had to wait for one.

        It may have waited before or after what it was asked to do, too, so this makes it one core at most.
        """
        used = waited = 0.0
        for pid in now.cpu.keys() & before.cpu.keys():
            used += now.cpu[pid].used - before.cpu[pid].used
            waited += now.cpu[pid].waited - before.cpu[pid].waited
        busy = sum(usage.busy for usage in usages.values())
        worked = max(busy - waited, min(busy, used))
        if busy > 0:
            kept = _KEPT ** min(1.0, busy / (now.at - before.at))
            self._worked = self._worked * kept + worked
            self._computed = self._computed * kept + used
        if self._worked >= _WORKED:
            cores, known = self._computed / self._worked, self._cores
            if known is None or abs(cores - known) > _STEADY * known:
                self._cores = cores

    def _ended(self, at: float, before: _Moment | None, readings: Mapping[Metered, PoolReading]) -> int:
        """Return how many replicas ended by themselves within the last minute."""
        known = {} if before is None else before.pools
        new = sum(one.crashes - known[pool].crashes for pool, one in readings.items() if pool in known)
        if new > 0:
            self._crashes.append((at, new))
        while self._crashes and at - self._crashes[0][0] > _MINUTE:
            self._crashes.popleft()
        return sum(count for _, count in self._crashes)

    def _limit(self, readings: Sequence[PoolReading]) -> MachineLimit:
        machine = self.machine
        if machine is None:
            return MachineLimit()
        return machine_limit(
            cores=machine.cores, cores_each=self.cores, memory=machine.free, memory_each=self._size,
            total=machine.total, ready=sum(one.ready for one in readings), measured=len(machine.sizes),
            versions=len(readings),
        )  # fmt: skip


def _pids(readings: Mapping[Metered, PoolReading]) -> list[int]:
    return [pid for one in readings.values() for pid in one.pids]


def _usages(now: _Moment, before: _Moment) -> dict[Metered, _Usage]:
    seconds = now.at - before.at
    return {
        pool: _Usage(reading, before.pools[pool], seconds)
        for pool, reading in now.pools.items()
        if pool in before.pools
    }


def _percent(usage: _Usage, now: Mapping[int, CpuTime], before: Mapping[int, CpuTime]) -> float | None:
    """Return the percent of a core that the ready replicas of a pool used on average."""
    pids = [pid for pid in usage.now.pids if pid in now and pid in before]
    if not pids:
        return None
    return 100 * sum(now[pid].used - before[pid].used for pid in pids) / len(pids) / usage.seconds
