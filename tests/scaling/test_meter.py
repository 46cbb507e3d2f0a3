from __future__ import annotations

from math import isfinite
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.scaling.batching import PredictTimes
from mlnb.scaling.machine import CpuGauge, CpuTime, MachineReading
from mlnb.scaling.meter import Meter
from mlnb.scaling.policies.decision import ScalingSample
from mlnb.scaling.pool import PoolReading

START = PoolReading(
    requests=0, answered=0, busy=0.0, present=0.0, crashes=0, waiting=0, queue_wait=0.0, desired=2, ready=2, starting=0,
    leaving=0, pids=(11, 12), times=PredictTimes(),
)  # fmt: skip


class Pool:
    """Says what the test has it say."""

    def __init__(self, now: PoolReading = START) -> None:
        self.now = now

    def reading(self) -> PoolReading:
        return self.now

    def pass_by(self, **more: Any) -> None:
        """Count on."""
        self.now = self.now._replace(**{name: getattr(self.now, name) + count for name, count in more.items()})


class Cpu(CpuGauge):
    """The same."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[int, CpuTime] = {}

    def read(self, pids: Any) -> dict[int, CpuTime]:
        return {pid: self.times[pid] for pid in pids if pid in self.times}


class Scene:
    """A meter whose clock is the test's."""

    def __init__(self, *pools: Pool) -> None:
        self.pools = pools or (Pool(),)
        self.cpu = Cpu()
        self.meter = Meter(interval=0.5, cpu=self.cpu)
        self.at = 100.0

    def sample(self, *, after: float = 0.5, desired: int | None = None) -> ScalingSample:
        self.at += after
        return self.meter.sample(self.pools, desired=desired, at=self.at, wall=1e9 + self.at, p95=0.02)

    def compute(self, used: float, waited: float = 0.0) -> None:
        for pid in (11, 12):
            before = self.cpu.times.get(pid, CpuTime(0.0, 0.0))
            self.cpu.times[pid] = CpuTime(before.used + used, before.waited + waited)


def test_the_first_sample_knows_what_is_there_but_not_what_happened() -> None:
    sample = Scene().sample()
    assert (sample.at, sample.wall, sample.interval) == (100.5, 1e9 + 100.5, 0.5)
    assert (sample.desired, sample.ready, sample.waiting, sample.queue_wait) == (2, 2, 0, 0.0)
    assert (sample.requests, sample.answered, sample.in_flight, sample.utilisation, sample.cpu) == (None,) * 5
    assert (sample.service, sample.limit, sample.p95) == (None, None, 0.02)


def test_what_happened_in_an_interval() -> None:
    scene = Scene()
    scene.compute(1.0)
    scene.sample()
    scene.pools[0].pass_by(requests=30, answered=28, busy=0.6, present=1.5, waiting=2, starting=1, leaving=1)
    scene.compute(0.25)
    sample = scene.sample()
    assert (sample.requests, sample.answered, sample.in_flight) == (30, 28, 3.0)
    assert (sample.waiting, sample.starting, sample.leaving) == (2, 1, 1)
    assert sample.utilisation == pytest.approx(0.6 / 0.5 / 2.5)  # one that left was there for a part of it
    assert sample.cpu == pytest.approx(50.0)
    assert scene.sample(desired=4).desired == 4
    assert scene.sample().requests == 0


def test_the_service_time_with_the_cores_that_a_replica_keeps_busy() -> None:
    scene = Scene()
    times = scene.pools[0].now.times
    scene.compute(0.0)
    scene.sample()
    for rows in (1, 10, 20, 50, 100):
        times.observe(rows, 0.004 + 0.0001 * rows)
    service = scene.sample().service
    assert service is not None
    assert [service.fixed, service.per_row] == pytest.approx([0.004, 0.0001])
    assert service.cores == 1.0  # not known yet
    for _ in range(20):
        scene.pools[0].pass_by(busy=0.5)
        scene.compute(0.1, waited=0.05)  # each was busy for 0.25 s: it computed, waited for a core and for other things
        service = scene.sample().service
    assert service is not None
    assert service.cores == pytest.approx(0.5)


def test_the_machine_limits() -> None:
    scene = Scene()
    scene.compute(0.0)
    scene.sample()
    assert not scene.meter.sized
    scene.meter.measured(MachineReading(cores=3, free=10**9, total=10**10, sizes={11: 10**8, 12: 2 * 10**8}))
    assert scene.meter.sized
    sample = scene.sample()
    assert (sample.limit, sample.limited_by) == (4, "1.0 GB of memory is free, a replica takes 0.2 GB")
    scene.pools[0].pass_by(busy=1.0)
    scene.compute(0.5)
    sample = scene.sample()
    assert (sample.limit, sample.limited_by) == (3, "3 cores: each replica keeps 1.0 busy")
    scene.meter.measured(MachineReading(cores=3, free=10**8, total=10**10, sizes={}))  # a replica's is remembered
    assert scene.sample().limit == 2


def test_what_was_free_is_not_promised_again_to_each_replica_that_came() -> None:
    scene = Scene(Pool(START._replace(ready=1, desired=1, pids=(11,))))
    scene.meter.measured(MachineReading(cores=64, free=3 * 10**9, total=4 * 10**9, sizes={11: 10**9}))
    for _ in range(4):
        limit = scene.sample().limit
        assert limit == 3
        scene.pools[0].now = START._replace(ready=limit, desired=limit, pids=tuple(range(11, 11 + limit)))
    assert scene.meter.pids == [11, 12, 13]
    scene.meter.measured(
        MachineReading(cores=64, free=2 * 10**9, total=4 * 10**9, sizes=dict.fromkeys((11, 12, 13), 10**9))
    )
    assert scene.sample().limit == 4


def test_of_several_versions_the_one_with_the_most_requests_in_flight() -> None:
    scene = Scene(Pool(), Pool(START._replace(starting=1)), Pool(START._replace(leaving=2)))
    scene.sample()
    scene.meter.measured(MachineReading(cores=4, free=3 * 10**9, total=10**10, sizes={11: 10**9}))
    scene.pools[0].pass_by(requests=10, present=0.5)
    scene.pools[1].pass_by(requests=5, present=1.0, crashes=1)
    scene.pools[2].pass_by(requests=90, present=0.9, crashes=2)
    sample = scene.sample()
    assert (sample.requests, sample.in_flight) == (5, 2.0)
    assert (sample.starting, sample.leaving, sample.crashes) == (1, 2, 3)
    assert sample.limit == (6 + 2) // 3


def test_a_version_that_is_new_is_not_counted_from_nothing() -> None:
    scene = Scene()
    scene.sample()
    scene.pools = (Pool(START._replace(requests=1000, present=5.0, crashes=9)),)
    sample = scene.sample()
    assert (sample.requests, sample.in_flight, sample.crashes) == (None, None, 0)
    scene.pools[0].pass_by(requests=3)
    assert scene.sample().requests == 3


def test_crashes_are_forgotten_after_a_minute() -> None:
    scene = Scene()
    scene.sample()
    scene.pools[0].pass_by(crashes=3)
    assert scene.sample().crashes == 3
    for _ in range(120):
        assert scene.sample().crashes == 3
    assert scene.sample().crashes == 0


def test_an_interval_that_is_very_short_is_taken_together_with_the_one_before() -> None:
    scene = Scene()
    scene.sample()
    scene.sample()
    scene.pools[0].pass_by(requests=1, waiting=1)
    woken = scene.sample(after=0.001)
    assert (woken.requests, woken.waiting) == (1, 1)
    assert woken.interval == pytest.approx(0.501)
    scene.pools[0].pass_by(requests=1)
    assert scene.sample().requests == 1


@pytest.mark.parametrize("after", [3600.0, -5.0, 0.0])
def test_a_machine_that_slept_measured_nothing(after: float) -> None:
    scene = Scene()
    scene.sample()
    scene.pools[0].pass_by(requests=3, busy=0.5)
    sample = scene.sample(after=after)
    assert (sample.requests, sample.utilisation, sample.in_flight) == (None,) * 3
    scene.at = max(scene.at, 101.0)
    scene.pools[0].pass_by(requests=3)
    assert scene.sample().requests in {3, 6}  # since the last time that can be counted from


def test_processes_that_end_and_come_are_no_trouble() -> None:
    scene = Scene()
    scene.compute(5.0)
    scene.sample()
    scene.pools[0].now = scene.pools[0].now._replace(pids=(11, 13), busy=0.5)
    scene.cpu.times = {11: CpuTime(5.5, 0.0), 13: CpuTime(1.0, 0.0)}
    assert scene.sample().cpu == pytest.approx(100.0)
    scene.pools[0].now = scene.pools[0].now._replace(pids=(), ready=0)
    sample = scene.sample()
    assert sample.cpu is None
    assert sample.utilisation == 0.0
    assert scene.sample().utilisation is None  # of no replica


@given(
    st.lists(
        st.tuples(
            st.floats(-2, 60), st.integers(0, 9), st.floats(0, 5), st.floats(0, 9), st.floats(0, 9), st.floats(0, 3)
        ),
        max_size=30,
    )
)
def test_whatever_is_counted_a_sample_makes_sense(steps: list[tuple[float, int, float, float, float, float]]) -> None:
    scene = Scene()
    scene.meter.measured(MachineReading(cores=2, free=10**9, total=10**10, sizes={11: 10**8}))
    for after, requests, busy, present, used, waited in steps:
        scene.pools[0].pass_by(requests=requests, busy=busy, present=present)
        scene.compute(used, waited)
        sample = scene.sample(after=after)
        assert sample.interval > 0
        assert sample.limit is not None
        assert sample.limit >= 1
        for value in (sample.requests, sample.in_flight, sample.utilisation, sample.cpu):
            assert value is None or (isfinite(value) and value >= 0)
        assert sample.utilisation is None or sample.utilisation <= 1


def test_the_cores_of_a_replica_do_not_tremble() -> None:
    """So that what a machine can hold does not go to and fro between two numbers."""
    scene = Scene()
    scene.compute(0.0)
    scene.sample()
    scene.meter.measured(MachineReading(cores=16, free=10**12, total=10**12, sizes={11: 10**8}))
    limits = set()
    for step in range(60):
        scene.pools[0].pass_by(busy=1.0)
        scene.compute(0.335 if step % 2 else 0.32)
        limits.add(scene.sample().limit)
    assert limits == {25}
    for _ in range(60):
        scene.pools[0].pass_by(busy=1.0)
        scene.compute(0.5)
        limit = scene.sample().limit
    assert limit == 16
