"""The queue against what is known of queues, and against one that is simulated event by event."""

from __future__ import annotations

import time
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scaling.simulation.holding import held

from mlnb.scaling.service_time import ServiceTime
from mlnb.scaling.simulation.load import Load
from mlnb.scaling.simulation.queue import Queue

HOUR = Load.steady(100, seconds=3600)


def erlang_c(replicas: int, load: float) -> float:
    top = load**replicas / factorial(replicas) * replicas / (replicas - load)
    return top / (sum(load**count / factorial(count) for count in range(replicas)) + top)


@pytest.mark.parametrize("busy", [0.3, 0.7])
def test_one_replica_with_exponential_times_is_m_m_1(busy: float) -> None:
    mean = busy / 100
    latencies = held(HOUR, 1, ServiceTime(fixed=mean, spread=1.0)).latencies
    assert latencies.mean() == pytest.approx(mean / (1 - busy), rel=0.03)
    expected = [-np.log(1 - share) * mean / (1 - busy) for share in (0.5, 0.95, 0.99)]
    assert np.quantile(latencies, [0.5, 0.95, 0.99]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("replicas", [2, 4, 8])
def test_several_replicas_wait_as_erlang_says(replicas: int) -> None:
    mean = 0.7 * replicas / 100
    latencies = held(HOUR, replicas, ServiceTime(fixed=mean, spread=1.0)).latencies
    wait = erlang_c(replicas, 0.7 * replicas) * mean / (replicas - 0.7 * replicas)
    assert latencies.mean() - mean == pytest.approx(wait, rel=0.06)


def test_a_service_that_never_varies_is_m_d_1() -> None:
    latencies = held(HOUR, 1, ServiceTime(fixed=0.007)).latencies
    assert latencies.min() == pytest.approx(0.007)
    assert latencies.mean() == pytest.approx(0.007 + 0.7 * 0.007 / 2 / 0.3, rel=0.03)
    none_waits = float((latencies < 0.00701).mean())
    assert none_waits == pytest.approx(0.3, rel=0.03)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=60), st.floats(0.01, 0.5))
def test_one_replica_follows_lindley(times: list[float], fixed: float) -> None:
    load = Load.recorded(times)
    trace = held(load, 1, ServiceTime(fixed=fixed))
    waits, wait = [0.0], 0.0
    for gap in np.diff(trace.arrivals):
        wait = max(0.0, wait + fixed - gap)
        waits.append(wait)
    assert trace.latencies == pytest.approx(np.array(waits) + fixed, abs=1e-5)


@settings(deadline=None)
@given(
    gaps=st.lists(st.floats(0.001, 0.2), min_size=1, max_size=80), replicas=st.integers(1, 4), most=st.integers(1, 6),
    fixed=st.floats(0.005, 0.3), per_row=st.floats(0.001, 0.1), cuts=st.lists(st.floats(0.1, 15), max_size=6),
    piece=st.sampled_from([1, 3, 4096]),
)  # fmt: skip
def test_batches_are_those_of_a_queue_that_is_simulated_event_by_event(
    gaps: list[float], replicas: int, most: int, fixed: float, per_row: float, cuts: list[float], piece: int
) -> None:
    arrivals = np.cumsum(gaps)
    service = ServiceTime(fixed=fixed, per_row=per_row, most_rows=most)
    queue = Queue(arrivals, np.ones(len(arrivals)), service)
    queue.add([0.0] * replicas)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlnb.scaling.simulation.queue._PIECE", piece)
        batches = part_by_part(queue, cuts)
    assert batches == event_by_event(arrivals.tolist(), replicas, service)


def part_by_part(queue: Queue, cuts: list[float]) -> list[tuple[float, int]]:
    """Return when batches begin and where they stop."""
    batches: list[tuple[float, int]] = []
    for until in [*sorted(cuts), 1e9]:  # part by part, each of which was begun in vain too far before
        served = queue.serve(until + 3.0)
        kept = queue.settle(served, until)
        batches += zip(served.begins[:kept], served.stops[:kept], strict=True)
    return batches


def test_a_queue_that_grows_takes_no_longer_to_serve() -> None:
    arrivals = np.linspace(0, 10, 2_000_000)
    queue = Queue(arrivals, np.ones(len(arrivals)), ServiceTime(fixed=0.01))
    queue.add([0.0])
    began = time.process_time()
    for second in range(100):
        queue.settle(queue.serve(second + 1.0), second + 1.0)
    assert queue.next == pytest.approx(10_000, abs=5)
    assert time.process_time() - began < 1  # 0.02, and 10 where all that waits is looked at each time


def test_replicas_are_taken_away_however_many_are_free_at_once() -> None:
    queue = Queue(np.array([]), np.array([]), ServiceTime(fixed=0.01))
    queue.add([0.0, 0.0, 2.0, 1.0, 0.0, 2.0])
    queue.remove([0.0, 2.0, 0.0])
    assert queue.free == [0.0, 1.0, 2.0]


def event_by_event(arrivals: list[float], replicas: int, service: ServiceTime) -> list[tuple[float, int]]:
    free, waiting, first, batches = [0.0] * replicas, list(arrivals), 0, []
    while waiting:
        begin = max(min(free), waiting[0])
        batch = [one for one in waiting if one <= begin][: service.most_rows]
        waiting = waiting[len(batch) :]
        first += len(batch)
        free[free.index(min(free))] = begin + service.of(len(batch))
        batches.append((begin, first))
    return batches


def test_those_who_were_answered_are_awaited_a_moment() -> None:
    service = ServiceTime(fixed=0.1, most_rows=8)
    arrivals = np.array([0.0, 0.01, 0.02, 0.2, 0.205, 0.23, 0.4])
    times = {}
    for linger in (0.0, 0.02):
        queue = Queue(arrivals, np.ones(7), service, linger=linger)
        queue.add([0.0])
        served = queue.serve(9.0)
        times[linger] = served.begins
    assert times[0.0] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert times[0.02] == pytest.approx([0.0, 0.1, 0.205, 0.325, 0.425])


def test_batches_grow_with_the_load_and_keep_up() -> None:
    service = ServiceTime(fixed=0.02, per_row=0.001, most_rows=30)
    fast = held(Load.steady(400, seconds=60), 1, service)
    alone = held(Load.steady(400, seconds=60), 1, ServiceTime(fixed=0.02, per_row=0.001))
    assert np.median(fast.latencies) < 0.06
    assert np.median(alone.latencies) > 10
